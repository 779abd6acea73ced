//! Changes of schemas, as the next version of a type makes them.

use fastrand::Rng;
use serde_json::{Map, Value, json};

use crate::random::part;

/// A schema that takes everything that this one takes, and more.
pub(crate) fn widened(schema: &Value, rng: &mut Rng) -> Option<Value> {
    for _ in 0..20 {
        let mut wider = schema.clone();
        let places = places(schema);
        let (place, free) = rng.choice(&places)?;
        let at = wider.pointer_mut(place)?;
        if widen(at, *free, rng) {
            return Some(wider);
        }
    }
    None
}

/// A schema that differs in one place or a few, in whichever direction.
pub(crate) fn changed(schema: &Value, rng: &mut Rng) -> Value {
    let mut changed = schema.clone();
    for _ in 0..rng.u8(1..3) {
        let places = places(&changed);
        let Some((place, _)) = rng.choice(&places) else { return changed };
        let Some(at) = changed.pointer_mut(place) else { return changed };
        match rng.u8(0..4) {
            0 => {
                widen(at, true, rng);
            }
            1 if !place.is_empty() => *at = part(rng, 2),
            _ => narrow(at, rng),
        }
    }
    // What a new part may refer to.
    if changed.is_object() {
        for name in ["A", "B"] {
            let place = changed["$defs"].as_object().is_some_and(|it| it.contains_key(name));
            if !place {
                changed["$defs"][name] = json!({"type": "string"});
            }
        }
    }
    changed
}

/// The places at which a schema may be changed; and whether it may take more there without being
/// taken for another branch of a `oneOf`.
fn places(schema: &Value) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    collect(schema, String::new(), true, &mut found);
    found
}

fn collect(schema: &Value, place: String, free: bool, found: &mut Vec<(String, bool)>) {
    let Value::Object(keywords) = schema else { return };
    // The tags of variants are to stay different from one another.
    if keywords.contains_key("const") {
        return;
    }
    for (keyword, argument) in keywords {
        let name = keyword.replace('~', "~0").replace('/', "~1");
        match (keyword.as_str(), argument) {
            ("properties" | "patternProperties" | "$defs", Value::Object(parts)) => {
                for (key, part) in parts {
                    let key = key.replace('~', "~0").replace('/', "~1");
                    // A definition may be one of the branches.
                    let free = keyword != "$defs";
                    collect(part, format!("{place}/{name}/{key}"), free, found);
                }
            }
            // A field that one part declares is one of a map that another part is.
            ("anyOf" | "allOf" | "oneOf", _) if is_map(schema) => {}
            ("prefixItems" | "anyOf" | "allOf" | "oneOf", Value::Array(parts)) => {
                let free = match keyword.as_str() {
                    "prefixItems" => true,
                    "oneOf" => false,
                    _ => free,
                };
                for (at, part) in parts.iter().enumerate() {
                    collect(part, format!("{place}/{name}/{at}"), free, found);
                }
            }
            ("items" | "additionalProperties", part) => {
                collect(part, format!("{place}/{name}"), true, found);
            }
            _ => {}
        }
    }
    found.push((place, free));
}

/// Whether a part of it that applies to the same value speaks of all other fields.
fn is_map(schema: &Value) -> bool {
    let parts = ["anyOf", "allOf", "oneOf"].iter().filter_map(|it| schema.get(it)?.as_array());
    schema.get("additionalProperties").is_some_and(Value::is_object) || parts.flatten().any(is_map)
}

/// Has a schema take more; `false` if it does not in the way that was chosen.
fn widen(schema: &mut Value, free: bool, rng: &mut Rng) -> bool {
    let Value::Object(keywords) = schema else { return false };
    let choices = keywords.contains_key("enum");
    match rng.u8(0..9) {
        0 if free => remove_one(keywords, "required", rng),
        1 if free && !choices => {
            let Some(types) = keywords.get_mut("type") else { return false };
            let mut more = types.as_array().cloned().unwrap_or_else(|| vec![types.clone()]);
            if more.contains(&json!("null")) {
                return false;
            }
            more.push(json!("null"));
            *types = more.into();
            true
        }
        2 if free => {
            let all = [
                "minimum",
                "maximum",
                "exclusiveMinimum",
                "exclusiveMaximum",
                "multipleOf",
                "minLength",
                "maxLength",
                "pattern",
                "format",
                "minItems",
                "uniqueItems",
                "not",
            ];
            let there: Vec<_> = all.iter().filter(|it| keywords.contains_key(**it)).collect();
            rng.choice(there).is_some_and(|it| keywords.remove(*it).is_some())
        }
        3 if free => match keywords.get_mut("enum").and_then(Value::as_array_mut) {
            Some(values) => {
                values.push(json!("new"));
                true
            }
            None => false,
        },
        4 => {
            let Some(variants) = keywords.get_mut("oneOf").and_then(Value::as_array_mut) else {
                return false;
            };
            // Not one that some other is as well.
            let outer = |it: &Value| it["additionalProperties"] == json!(false);
            if !variants.iter().all(outer) {
                return false;
            }
            variants.push(json!({"type": "object", "properties": {"New": {"type": "null"}},
                "required": ["New"], "additionalProperties": false}));
            true
        }
        5 if free && keywords.get("type") == Some(&json!("integer")) => {
            keywords.insert("type".to_owned(), json!("number"));
            keywords.remove("format");
            true
        }
        6 if free && keywords.get("additionalProperties") == Some(&json!(false)) => {
            keywords.remove("additionalProperties").is_some()
        }
        7 => {
            // Nor may any part that applies to the same fields speak of all others.
            let text = Value::from(keywords.clone()).to_string();
            let others = ["additionalProperties\":{", "unevaluatedProperties", "patternProperties"];
            let closed = keywords.contains_key("additionalProperties")
                || others.iter().any(|it| text.contains(it));
            match keywords.get_mut("properties").and_then(Value::as_object_mut) {
                Some(fields) if !closed => {
                    fields.insert("new".to_owned(), json!({"type": "string"}));
                    true
                }
                _ => false,
            }
        }
        8 if free && !keywords.contains_key("$defs") => {
            *schema = json!({"anyOf": [schema.clone(), {"type": "null"}]});
            true
        }
        _ => false,
    }
}

/// Has a schema take less, or something else.
fn narrow(schema: &mut Value, rng: &mut Rng) {
    let Value::Object(keywords) = schema else { return };
    match rng.u8(0..9) {
        0 => {
            let names = keywords.get("properties").and_then(Value::as_object);
            let names: Vec<String> = names.into_iter().flatten().map(|it| it.0.clone()).collect();
            if let Some(name) = rng.choice(names) {
                let required = keywords.entry("required").or_insert_with(|| json!([]));
                let required = required.as_array_mut().unwrap();
                if !required.contains(&json!(name)) {
                    required.push(json!(name));
                }
            }
        }
        1 => {
            if let Some(fields) = keywords.get_mut("properties").and_then(Value::as_object_mut) {
                let names: Vec<String> = fields.keys().cloned().collect();
                rng.choice(names).and_then(|it| fields.remove(&it));
            }
        }
        2 => {
            remove_one(keywords, "enum", rng);
        }
        3 => {
            remove_one(keywords, "oneOf", rng);
        }
        4 => {
            remove_one(keywords, "anyOf", rng);
        }
        5 if keywords.contains_key("properties") => {
            keywords.insert("additionalProperties".to_owned(), json!(false));
        }
        6 => match keywords.get("type").and_then(Value::as_str) {
            Some("integer" | "number") => {
                let bound = rng.choice(["minimum", "maximum"]).unwrap();
                keywords.insert(bound.to_owned(), json!(rng.i8(-2..3)));
            }
            Some("string") => {
                let bound = rng.choice([
                    ("minLength", json!(2)),
                    ("maxLength", json!(3)),
                    ("format", json!("uuid")),
                ]);
                keywords.extend(bound.map(|(key, value)| (key.to_owned(), value)));
            }
            Some("array") => {
                keywords.insert("minItems".to_owned(), json!(1));
            }
            _ => {}
        },
        7 => {
            if let Some(types) = keywords.get_mut("type") {
                *types = json!(rng.choice(["string", "integer", "boolean", "object", "array"]));
            }
        }
        _ => {
            if keywords.remove("$ref").is_some() {
                keywords.insert("type".to_owned(), json!("object"));
            }
        }
    }
}

fn remove_one(keywords: &mut Map<String, Value>, keyword: &str, rng: &mut Rng) -> bool {
    let Some(all) = keywords.get_mut(keyword).and_then(Value::as_array_mut) else { return false };
    if all.is_empty() || (keyword != "required" && all.len() == 1) {
        return false;
    }
    all.remove(rng.usize(..all.len()));
    true
}
