//! All events as one document of AsyncAPI 3.
//!
//! It is that of the plugins: what one emits is sent, what one handles is received, and what one
//! requires is sent with a reply that is read. An event is a channel; its replies come on one that
//! has no address of its own. Each schema is a component, in draft 7.

use std::collections::BTreeMap;

use ksi_wire::module::EventSchemas;
use serde_json::{Map, Value, json};

use super::draft_07::converted;
use super::role::{Role, as_object, replies};

/// The document.
pub(super) fn document(events: &BTreeMap<String, EventSchemas>) -> Value {
    let mut document = Document::default();
    for (event, of) in events {
        document.event(event, of);
    }
    let Document { channels, operations, schemas } = document;
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Events of a ksi host",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What its live plugins emit, handle and require. The version is that of ksi.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"schemas": schemas},
    })
}

#[derive(Default)]
struct Document {
    channels: Map<String, Value>,
    operations: Map<String, Value>,
    schemas: Map<String, Value>,
}

impl Document {
    fn event(&mut self, event: &str, of: &EventSchemas) {
        let mut channel = Channel::new(event.to_owned());
        let mut answers = Channel::new(format!("{event}@replied"));
        for by in &of.emits {
            let message = channel.message(self, Role::Sent, &by.module, by.payload_schema.as_ref());
            self.operation(&by.module, "send", &channel, &[message], None);
        }
        let mut taken = Vec::new();
        for by in &of.handles {
            let who = format!("{}.{}", by.module, by.handler);
            let message = channel.message(self, Role::Taken, &who, by.payload_schema.as_ref());
            let reply = by.reply_schema.as_ref().filter(|schema| replies(schema));
            let reply = reply.map(|it| answers.message(self, Role::Replied, &who, Some(it)));
            let reply = reply.map(|message| answers.reply(&message));
            self.operation(&who, "receive", &channel, std::slice::from_ref(&message), reply);
            if !taken.contains(&message) {
                taken.push(message);
            }
        }
        for by in &of.requires {
            let reply = by.reply_schema.as_ref();
            let reply = reply.map(|it| answers.message(self, Role::Read, &by.module, Some(it)));
            let reply = reply.map(|message| answers.reply(&message));
            self.operation(&format!("{}.requires", by.module), "send", &channel, &taken, reply);
        }
        channel.end(self, event.into());
        if !answers.messages.is_empty() {
            answers.end(self, Value::Null);
        }
    }

    /// `messages` are references; of none, all of the channel are meant.
    fn operation(
        &mut self,
        who: &str,
        action: &str,
        channel: &Channel,
        messages: &[String],
        reply: Option<Value>,
    ) {
        let mut operation = json!({"action": action, "channel": {"$ref": channel.place()}});
        if !messages.is_empty() {
            operation["messages"] = messages.iter().map(|it| json!({"$ref": it})).collect();
        }
        if let Some(reply) = reply {
            operation["reply"] = reply;
        }
        self.operations.insert(format!("{who}@{}", channel.name), operation);
    }

    /// Adds a schema, whose name says whose it is; where it is.
    fn schema(&mut self, name: &str, schema: &Value) -> String {
        // A component's name has fewer characters than an event's.
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let plain: String = name.chars().map(|c| if allowed(c) { c } else { '_' }).collect();
        let further = (2..).map(|number| format!("{plain}_{number}"));
        let mut names = [plain.clone()].into_iter().chain(further);
        let name = names.find(|name| !self.schemas.contains_key(name)).unwrap_or_default();
        let place = format!("/components/schemas/{name}");
        // Nor may one be `true`.
        self.schemas.insert(name, Value::Object(as_object(&converted(schema, &place))));
        format!("#{place}")
    }
}

/// A channel in the making.
struct Channel {
    name: String,
    messages: Map<String, Value>,
}

impl Channel {
    fn new(name: String) -> Self {
        Channel { name, messages: Map::new() }
    }

    fn place(&self) -> String {
        format!("#/channels/{}", pointer(&self.name))
    }

    /// Adds a message; a reference to it.
    fn message(
        &mut self,
        document: &mut Document,
        role: Role,
        who: &str,
        schema: Option<&Value>,
    ) -> String {
        let key = format!("{who}.{}", role.word());
        let place = format!("{}/messages/{}", self.place(), pointer(&key));
        if !self.messages.contains_key(&key) {
            let mut message = json!({"name": self.name});
            if let Some(schema) = schema {
                let schema = document.schema(&format!("{}.{key}", self.name), schema);
                message["payload"] = json!({"$ref": schema});
            }
            self.messages.insert(key, message);
        }
        place
    }

    fn reply(&self, message: &str) -> Value {
        json!({"channel": {"$ref": self.place()}, "messages": [{"$ref": message}]})
    }

    fn end(self, document: &mut Document, address: Value) {
        let channel = json!({"address": address, "messages": self.messages});
        document.channels.insert(self.name, channel);
    }
}

/// A name as part of a reference: what means something in a pointer or in a URI is escaped.
fn pointer(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '~' => out.push_str("~0"),
            '/' => out.push_str("~1"),
            c if c.is_ascii_alphanumeric() || "-._:@*".contains(c) => out.push(c),
            c => {
                c.encode_utf8(&mut [0; 4]).bytes().for_each(|b| out.push_str(&format!("%{b:02X}")))
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_channel_and_who_replies_has_a_reply() {
        let events: BTreeMap<String, EventSchemas> = serde_json::from_value(json!({
            "a:get": {
                "handles": [{"module": "m", "handler": "get", "subscription": "a:get",
                             "payload_schema": true, "reply_schema": {"$ref": "#/$defs/R", "$defs": {"R": {}}}}],
                "requires": [{"module": "n", "reply_schema": {"type": "string"}}],
            },
            "b:*": {
                "handles": [{"module": "m", "handler": "all", "subscription": "b:*",
                             "payload_schema": false, "reply_schema": {"type": "null"}}],
            },
            "b.a:x": {"emits": [{"module": "m", "payload_schema": null}]},
        }))
        .expect("schemas as the host sends them");
        let document = document(&events);
        assert_eq!(
            document["operations"],
            json!({
                "m.get@a:get": {
                    "action": "receive",
                    "channel": {"$ref": "#/channels/a:get"},
                    "messages": [{"$ref": "#/channels/a:get/messages/m.get.taken"}],
                    "reply": {
                        "channel": {"$ref": "#/channels/a:get@replied"},
                        "messages": [{"$ref": "#/channels/a:get@replied/messages/m.get.replied"}],
                    },
                },
                "n.requires@a:get": {
                    "action": "send",
                    "channel": {"$ref": "#/channels/a:get"},
                    "messages": [{"$ref": "#/channels/a:get/messages/m.get.taken"}],
                    "reply": {
                        "channel": {"$ref": "#/channels/a:get@replied"},
                        "messages": [{"$ref": "#/channels/a:get@replied/messages/n.read"}],
                    },
                },
                "m@b.a:x": {
                    "action": "send",
                    "channel": {"$ref": "#/channels/b.a:x"},
                    "messages": [{"$ref": "#/channels/b.a:x/messages/m.sent"}],
                },
                "m.all@b:*": {
                    "action": "receive",
                    "channel": {"$ref": "#/channels/b:*"},
                    "messages": [{"$ref": "#/channels/b:*/messages/m.all.taken"}],
                },
            })
        );
        assert_eq!(document["channels"]["a:get@replied"]["address"], Value::Null);
        assert_eq!(
            document["components"]["schemas"],
            json!({
                "a_get.m.get.taken": {},
                "a_get_replied.m.get.replied": {
                    "allOf": [
                        {"$ref": "#/components/schemas/a_get_replied.m.get.replied/definitions/R"},
                    ],
                    "definitions": {"R": {}},
                },
                "a_get_replied.n.read": {"type": "string"},
                "b__.m.all.taken": {"not": {}},
            })
        );
    }

    #[test]
    fn names_that_look_alike_are_two_components() {
        let mut document = Document::default();
        let places = ["a:b", "a_b", "a.b"].map(|name| document.schema(name, &json!({})));
        let expected = ["a_b", "a_b_2", "a.b"].map(|name| format!("#/components/schemas/{name}"));
        assert_eq!(places, expected);
    }

    #[test]
    fn what_means_something_in_a_reference_is_escaped() {
        assert_eq!(pointer("order:placed@replied"), "order:placed@replied");
        assert_eq!(pointer("a/b~c d"), "a~1b~0c%20d");
    }
}
