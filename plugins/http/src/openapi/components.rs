//! What a document refers to: the schemas of plugins, and what is the same for all events.

use ksi_plugin_api::{Value, json};
use serde_json::Map;

/// Keywords whose values are schemas by names of the author's.
const BY_NAME: [&str; 5] =
    ["properties", "patternProperties", "dependentSchemas", "$defs", "definitions"];

/// Keywords whose values are data.
const DATA: [&str; 4] = ["const", "enum", "default", "examples"];

pub(super) struct Components {
    schemas: Map<String, Value>,
}

impl Components {
    pub(super) fn new() -> Self {
        let text = |words: &[&str]| json!({"type": "string", "enum": words});
        let outcome = json!({
            "type": "object",
            "required": ["plugin", "handler", "outcome"],
            "properties": {
                "plugin": {"type": "string"},
                "handler": {"type": "string"},
                "outcome": text(&[
                    "replied", "no_reply", "failed", "panicked", "crashed", "timed_out", "rejected",
                ]),
                "reply": true,
                "code": {"type": "string"},
                "message": {"type": "string"},
            },
        });
        let report = json!({
            "type": "object",
            "required": ["event", "status", "outcomes"],
            "properties": {
                "event": {"type": "string"},
                "status": text(&["ok", "failed", "unhandled", "refused"]),
                "outcomes": {"type": "array", "items": outcome},
            },
        });
        let error = json!({
            "type": "object",
            "required": ["error"],
            "properties": {"error": {
                "type": "object",
                "required": ["code", "message"],
                "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
            }},
        });
        let own = [("Report", report), ("Error", error)];
        let schemas = own.into_iter().map(|(key, schema)| (key.to_owned(), schema)).collect();
        Components { schemas }
    }

    /// Adds a schema; a reference to it.
    pub(super) fn add(&mut self, name: &[&str], schema: &Value) -> Value {
        let parts: Vec<String> = name.iter().map(|part| key(part)).collect();
        let (name, mut number) = (parts.join("."), 1);
        let mut key = name.clone();
        // Two names that are one here are of two schemas.
        while self.schemas.contains_key(&key) {
            number += 1;
            key = format!("{name}-{number}");
        }
        let place = format!("#/components/schemas/{key}");
        let mut schema = schema.clone();
        within(&mut schema, &place);
        self.schemas.insert(key, schema);
        json!({"$ref": place})
    }

    pub(super) fn into_value(self) -> Value {
        let reference = |name| json!({"$ref": format!("#/components/schemas/{name}")});
        let header = |name: &str, what: &str| json!({"name": name, "in": "header", "description": what, "schema": {"type": "string"}});
        let trace = "Of W3C Trace Context; given back on the answer.";
        json!({
            "schemas": self.schemas,
            "parameters": {
                "wait": {
                    "name": "wait", "in": "query", "description": "Whether handlers are waited for.",
                    "schema": {"type": "string", "enum": ["report", "none"], "default": "report"},
                },
                "traceparent": header("traceparent", trace),
                "tracestate": header("tracestate", trace),
            },
            "responses": {"Other": {
                "description": "A handler did not end well, nobody handles the event, or it was refused.",
                "content": {"application/json": {
                    "schema": {"anyOf": [reference("Report"), reference("Error")]},
                }},
            }},
        })
    }
}

/// A part of a component's name.
fn key(part: &str) -> String {
    let allowed = |it: char| it.is_ascii_alphanumeric() || matches!(it, '_' | '-');
    part.chars().map(|it| if allowed(it) { it } else { '.' }).collect()
}

/// Has references within a schema lead into it at its place in the document.
fn within(schema: &mut Value, place: &str) {
    match schema {
        Value::Array(schemas) => schemas.iter_mut().for_each(|schema| within(schema, place)),
        // One with a name of its own is what its references begin at.
        Value::Object(keywords) if !keywords.contains_key("$id") => {
            for (keyword, value) in keywords {
                match (keyword.as_str(), value) {
                    ("$ref", Value::String(to)) => {
                        if let Some(rest) =
                            to.strip_prefix('#').filter(|it| it.is_empty() || it.starts_with('/'))
                        {
                            *to = format!("{place}{rest}");
                        }
                    }
                    (keyword, _) if DATA.contains(&keyword) => {}
                    (keyword, Value::Object(named)) if BY_NAME.contains(&keyword) => {
                        named.values_mut().for_each(|schema| within(schema, place));
                    }
                    (_, value) => within(value, place),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_lead_to_where_a_schema_stands_and_data_stays_as_it_is() {
        let mut components = Components::new();
        let schema = json!({
            "$defs": {"Item": {"items": {"$ref": "#"}}},
            "properties": {
                "$ref": {"$ref": "#/$defs/Item"},
                "default": {"anyOf": [{"$ref": "#/$defs/Item"}, {"$ref": "other.json#/a"}]},
            },
            "default": {"$ref": "#/$defs/Item"},
        });
        let reference = components.add(&["order:placed", "shop", "buy", "payload"], &schema);
        let place = "#/components/schemas/order.placed.shop.buy.payload";
        assert_eq!(reference, json!({"$ref": place}));
        let second = components.add(&["order:placed", "shop", "buy", "payload"], &json!(true));
        assert_eq!(second["$ref"], format!("{place}-2"));
        let value = components.into_value();
        let found = &value["schemas"]["order.placed.shop.buy.payload"];
        let item = format!("{place}/$defs/Item");
        assert_eq!(found["$defs"]["Item"]["items"]["$ref"], place);
        assert_eq!(found["properties"]["$ref"]["$ref"], item);
        assert_eq!(found["properties"]["default"]["anyOf"][0]["$ref"], item);
        assert_eq!(found["properties"]["default"]["anyOf"][1]["$ref"], "other.json#/a");
        assert_eq!(found["default"]["$ref"], "#/$defs/Item");
    }
}
