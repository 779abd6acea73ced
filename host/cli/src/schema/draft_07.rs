//! JSON Schemas of the draft 2020-12 in the words of draft 7, which AsyncAPI's schemas extend.
//!
//! What has no counterpart there is left out, so that a schema may become wider and never narrower.

use serde_json::{Map, Value, json};

/// A schema as it is below `place`, a pointer from the document's root without its `#`: what its
/// references lead to is found from there.
pub(super) fn converted(root: &Value, place: &str) -> Value {
    Conversion { root, place }.schema(root)
}

struct Conversion<'a> {
    root: &'a Value,
    place: &'a str,
}

impl Conversion<'_> {
    fn schema(&self, schema: &Value) -> Value {
        let keywords = match schema {
            Value::Object(keywords) => keywords,
            // It means the same, and AsyncAPI's generators of code take it.
            Value::Bool(true) => return json!({}),
            other => return other.clone(),
        };
        let mut said = Map::new();
        let mut dependencies = Map::new();
        let mut definitions = Map::new();
        for (keyword, value) in keywords {
            match keyword.as_str() {
                "$ref" => continue,
                "$defs" | "definitions" => definitions.extend(self.each(value)),
                "dependentSchemas" => dependencies.extend(self.each(value)),
                "dependentRequired" => dependencies.extend(object(value)),
                "properties" | "patternProperties" => {
                    said.insert(keyword.clone(), Value::Object(self.each(value)));
                }
                "prefixItems" => {
                    said.insert("items".into(), self.all(value));
                }
                "items" if keywords.contains_key("prefixItems") => {
                    said.insert("additionalItems".into(), self.schema(value));
                }
                "contains" if keywords.get("minContains") == Some(&json!(0)) => {}
                "allOf" | "anyOf" | "oneOf" => {
                    said.insert(keyword.clone(), self.all(value));
                }
                "items"
                | "additionalItems"
                | "additionalProperties"
                | "propertyNames"
                | "contains"
                | "not"
                | "if"
                | "then"
                | "else" => {
                    said.insert(keyword.clone(), self.schema(value));
                }
                _ if is_of_later_drafts(keyword) => {}
                _ => {
                    said.insert(keyword.clone(), value.clone());
                }
            }
        }
        for (keyword, values) in [("dependencies", dependencies), ("definitions", definitions)] {
            if !values.is_empty() {
                said.insert(keyword.into(), Value::Object(values));
            }
        }
        if let Some(reference) = keywords.get("$ref").and_then(|it| self.reference(it)) {
            refer(&mut said, json!({"$ref": reference}));
        }
        Value::Object(said)
    }

    fn each(&self, schemas: &Value) -> Map<String, Value> {
        object(schemas).map(|(name, schema)| (name, self.schema(&schema))).collect()
    }

    fn all(&self, schemas: &Value) -> Value {
        let schemas = schemas.as_array().into_iter().flatten();
        schemas.map(|schema| self.schema(schema)).collect()
    }

    /// Where a reference to the schema itself, or to one of its definitions, leads now. Others are
    /// nobody's who derives schemas from types, and would have to be fetched.
    fn reference(&self, reference: &Value) -> Option<String> {
        let pointer = reference.as_str()?.strip_prefix('#')?;
        if pointer.is_empty() {
            return Some(format!("#{}", self.place));
        }
        let (kind, name) = pointer.strip_prefix('/')?.split_once('/')?;
        let is_there = matches!(kind, "$defs" | "definitions")
            && self.root.pointer(&percent_decoded(pointer)?).is_some();
        is_there.then(|| format!("#{}/definitions/{name}", self.place))
    }
}

/// In draft 7 whatever stands beside a reference is not read.
fn refer(said: &mut Map<String, Value>, reference: Value) {
    if said.is_empty() {
        said.extend(object(&reference));
        return;
    }
    match said.get_mut("allOf").and_then(Value::as_array_mut) {
        Some(all) => all.push(reference),
        None => {
            said.insert("allOf".into(), json!([reference]));
        }
    }
}

fn object(value: &Value) -> impl Iterator<Item = (String, Value)> + use<> {
    value.as_object().cloned().into_iter().flatten()
}

/// Also what names a schema by itself: its references would begin there.
fn is_of_later_drafts(keyword: &str) -> bool {
    const KEYWORDS: &[&str] = &[
        "$anchor",
        "$dynamicAnchor",
        "$dynamicRef",
        "$id",
        "$recursiveAnchor",
        "$recursiveRef",
        "$schema",
        "$vocabulary",
        "contentSchema",
        "maxContains",
        "minContains",
        "unevaluatedItems",
        "unevaluatedProperties",
    ];
    KEYWORDS.contains(&keyword)
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_later_draft_says_is_said_in_the_words_of_the_earlier_one() {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                "pair": {"prefixItems": [{"$ref": "#/$defs/A"}, true], "items": false},
                "self": {"description": "Again", "$ref": "#"},
                "$ref": {"type": "string"},
                "far": {"$ref": "https://example.com/x"},
                "gone": {"$ref": "#/$defs/B"},
                "list": {"items": {"$ref": "#/$defs/a%20b"}},
            },
            "dependentRequired": {"pair": ["self"]},
            "unevaluatedProperties": false,
            "$defs": {"A": {"const": {"$ref": "#"}}, "a b": {"type": "null"}},
        });
        assert_eq!(
            converted(&schema, "/s/X"),
            json!({
                "type": "object",
                "properties": {
                    "pair": {"items": [{"$ref": "#/s/X/definitions/A"}, {}], "additionalItems": false},
                    "self": {"description": "Again", "allOf": [{"$ref": "#/s/X"}]},
                    "$ref": {"type": "string"},
                    "far": {},
                    "gone": {},
                    "list": {"items": {"$ref": "#/s/X/definitions/a%20b"}},
                },
                "dependencies": {"pair": ["self"]},
                "definitions": {"A": {"const": {"$ref": "#"}}, "a b": {"type": "null"}},
            })
        );
    }
}
