//! The roles in which plugins say something of what an event carries, and what all of one role say
//! together.

use ksi_wire::module::EventSchemas;
use serde_json::{Map, Value, json};

/// What a schema is of, and from which side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Payloads as they are emitted.
    Sent,
    /// Payloads as handlers take them.
    Taken,
    /// Replies of handlers.
    Replied,
    /// Replies as those who require the event read them.
    Read,
}

impl Role {
    pub(super) const ALL: [Role; 4] = [Role::Sent, Role::Taken, Role::Replied, Role::Read];

    pub(super) fn word(self) -> &'static str {
        match self {
            Role::Sent => "sent",
            Role::Taken => "taken",
            Role::Replied => "replied",
            Role::Read => "read",
        }
    }

    /// What is valid if there are several: what any of them sends, what all of them take.
    fn together(self) -> &'static str {
        match self {
            Role::Sent | Role::Replied => "anyOf",
            Role::Taken | Role::Read => "allOf",
        }
    }

    /// Who says something in this role, each once.
    pub(super) fn said(self, of: &EventSchemas) -> Vec<(String, &Value)> {
        let mut said: Vec<(String, &Value)> = match self {
            Role::Sent => {
                of.emits.iter().filter_map(|it| named(&[&it.module], &it.payload_schema)).collect()
            }
            Role::Taken => of
                .handles
                .iter()
                .filter_map(|it| named(&[&it.module, &it.handler], &it.payload_schema))
                .collect(),
            Role::Replied => of
                .handles
                .iter()
                .filter_map(|it| named(&[&it.module, &it.handler], &it.reply_schema))
                .filter(|(_, schema)| replies(schema))
                .collect(),
            Role::Read => {
                of.requires.iter().filter_map(|it| named(&[&it.module], &it.reply_schema)).collect()
            }
        };
        said.sort_by(|a, b| a.0.cmp(&b.0));
        said.dedup_by(|a, b| a.0 == b.0);
        said
    }

    /// The schema of all of them, by which a value can be judged; none if nobody says anything.
    /// Each of several keeps its own references: it is a document within the document.
    pub(super) fn document(self, event: &str, of: &EventSchemas) -> Option<Value> {
        let said = self.said(of);
        let id = format!("urn:ksi:{event}:{}", self.word()).replace('*', "%2A");
        let mut document = match &said[..] {
            [] => return None,
            [(_, schema)] => as_object(schema),
            several => {
                let own = |who: &str| format!("{id}:{who}").replace('*', "%2A");
                let refs = several.iter().map(|(who, _)| json!({"$ref": own(who)}));
                let parts = several.iter().map(|(who, schema)| {
                    let mut schema = as_object(schema);
                    schema.insert("$id".into(), own(who).into());
                    (who.clone(), Value::Object(schema))
                });
                let mut document = Map::new();
                document.insert(self.together().into(), refs.collect());
                document.insert("$defs".into(), Value::Object(parts.collect()));
                document
            }
        };
        document.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
        document.insert("$id".into(), id.into());
        Some(Value::Object(document))
    }
}

/// Whether a handler of this reply ever gives one.
pub(super) fn replies(schema: &Value) -> bool {
    schema.get("type").is_none_or(|kind| kind != "null")
}

fn named<'a>(who: &[&str], schema: &'a Option<Value>) -> Option<(String, &'a Value)> {
    schema.as_ref().map(|schema| (who.join("."), schema))
}

/// A schema that may have further keywords.
pub(super) fn as_object(schema: &Value) -> Map<String, Value> {
    match schema {
        Value::Object(keywords) => keywords.clone(),
        Value::Bool(false) => Map::from_iter([("not".to_owned(), json!({}))]),
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_by_all_is_taken_and_what_any_sends_is_sent() {
        let of: EventSchemas = serde_json::from_value(json!({
            "emits": [{"module": "a", "payload_schema": {"type": "string"}},
                      {"module": "b", "payload_schema": null}],
            "handles": [{"module": "n", "handler": "x", "payload_schema": {"$ref": "#/$defs/R", "$defs": {"R": true}},
                         "reply_schema": {"type": "null"}},
                        {"module": "m", "handler": "x", "payload_schema": true}],
        }))
        .expect("schemas as the host sends them");
        let document = |role: Role| role.document("o:p", &of);
        let draft = "https://json-schema.org/draft/2020-12/schema";
        let sent = json!({"$schema": draft, "$id": "urn:ksi:o:p:sent", "type": "string"});
        assert_eq!(document(Role::Sent), Some(sent));
        assert_eq!(
            document(Role::Taken),
            Some(json!({
                "$schema": draft,
                "$id": "urn:ksi:o:p:taken",
                "allOf": [{"$ref": "urn:ksi:o:p:taken:m.x"}, {"$ref": "urn:ksi:o:p:taken:n.x"}],
                "$defs": {
                    "m.x": {"$id": "urn:ksi:o:p:taken:m.x"},
                    "n.x": {"$id": "urn:ksi:o:p:taken:n.x", "$ref": "#/$defs/R", "$defs": {"R": true}},
                },
            }))
        );
        assert_eq!((document(Role::Replied), document(Role::Read)), (None, None));
    }
}
