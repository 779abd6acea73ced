//! Random schemas in the words that `schemars` uses.

use fastrand::Rng;
use serde_json::{Map, Value, json};

const DEEP: u32 = 3;

/// A schema with definitions, some of which may contain themselves.
pub(crate) fn schema(rng: &mut Rng) -> Value {
    let mut root = part(rng, 0);
    if root.is_boolean() {
        root = json!({});
    }
    root["$defs"] = json!({"A": object(rng, 1), "B": part(rng, 1)});
    root
}

/// A schema within one that has these definitions.
pub(crate) fn part(rng: &mut Rng, depth: u32) -> Value {
    let kinds = if depth >= DEEP { 8 } else { 19 };
    match rng.u8(0..kinds) {
        0 => json!({"type": "boolean"}),
        1 | 2 => string(rng),
        3 | 4 => number(rng),
        5 => json!({"type": "string", "enum": some(rng, &["a", "b", "c", "ab"])}),
        6 => json!({"const": rng.choice([json!("a"), json!(1), json!(null), json!(true)])}),
        7 => {
            let types = some(rng, &["null", "string", "integer", "boolean", "number"]);
            json!({"type": types})
        }
        8 => json!({"type": "array", "items": part(rng, depth + 1)}),
        9 => list(rng, depth),
        10..=12 => object(rng, depth),
        13 => map(rng, depth),
        14 => json!({"anyOf": [part(rng, depth + 1), {"type": "null"}]}),
        15 => match rng.u8(0..4) {
            0 => json!({"anyOf": [part(rng, depth + 1), part(rng, depth + 1)]}),
            1 => json!({"oneOf": [part(rng, depth + 1), part(rng, depth + 1)]}),
            2 => json!({"allOf": [object(rng, depth + 1), object(rng, depth + 1)]}),
            _ => json!({"type": ["integer", "string"], "not": {"const": rng.u8(0..2)}}),
        },
        16 => tagged(rng, depth),
        17 => {
            // Flattened.
            let mut outer = object(rng, depth + 1);
            let inner = tagged(rng, depth + 1);
            for (key, value) in inner.as_object().unwrap() {
                outer[key] = value.clone();
            }
            if outer["additionalProperties"] == json!(false) {
                outer.as_object_mut().unwrap().remove("additionalProperties");
                outer["unevaluatedProperties"] = json!(false);
            }
            outer
        }
        _ => json!({"$ref": rng.choice(["#/$defs/A", "#/$defs/B"])}),
    }
}

fn some(rng: &mut Rng, of: &[&str]) -> Vec<Value> {
    let mut some: Vec<Value> = of.iter().filter(|_| rng.bool()).map(|it| json!(it)).collect();
    if some.is_empty() {
        some.push(json!(of[0]));
    }
    some
}

fn string(rng: &mut Rng) -> Value {
    let mut keywords = json!({"type": "string"});
    match rng.u8(0..8) {
        0 => keywords["format"] = json!(rng.choice(["uuid", "date-time", "date", "colour"])),
        1 => keywords["pattern"] = json!(rng.choice(["^[a-z]+$", "^\\d+$", "a"])),
        2 => keywords["minLength"] = json!(rng.u8(0..3)),
        3 => keywords["maxLength"] = json!(rng.u8(2..5)),
        _ => {}
    }
    keywords
}

fn number(rng: &mut Rng) -> Value {
    let mut keywords = json!({"type": rng.choice(["integer", "integer", "number"])});
    if keywords["type"] == "integer" && rng.bool() {
        let formats = ["int8", "uint8", "int32", "uint32", "int64", "uint64"];
        keywords["format"] = json!(rng.choice(formats));
    }
    for (keyword, from) in
        [("minimum", -3), ("maximum", 3), ("exclusiveMinimum", -4), ("exclusiveMaximum", 5)]
    {
        if rng.u8(0..6) == 0 {
            keywords[keyword] = json!(from + rng.i8(0..4));
        }
    }
    if rng.u8(0..12) == 0 {
        keywords["multipleOf"] = json!(rng.u8(1..5));
    }
    keywords
}

fn list(rng: &mut Rng, depth: u32) -> Value {
    let mut keywords = json!({"type": "array", "items": part(rng, depth + 1)});
    if rng.bool() {
        let count = rng.usize(1..4);
        let prefix: Vec<Value> = (0..count).map(|_| part(rng, depth + 1)).collect();
        keywords =
            json!({"type": "array", "prefixItems": prefix, "minItems": count, "maxItems": count});
    }
    match rng.u8(0..6) {
        0 => keywords["minItems"] = json!(rng.u8(0..3)),
        1 => keywords["maxItems"] = json!(rng.u8(2..5)),
        2 => keywords["uniqueItems"] = json!(true),
        _ => {}
    }
    keywords
}

fn object(rng: &mut Rng, depth: u32) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for name in ["a", "b", "value"] {
        if rng.bool() {
            properties.insert(name.to_owned(), part(rng, depth + 1));
            required.extend(rng.bool().then(|| json!(name)));
        }
    }
    let mut keywords = json!({"type": "object", "properties": properties, "required": required});
    match rng.u8(0..8) {
        0 => keywords["additionalProperties"] = json!(false),
        1 => keywords["additionalProperties"] = part(rng, depth + 1),
        _ => {}
    }
    keywords
}

fn map(rng: &mut Rng, depth: u32) -> Value {
    let values = part(rng, depth + 1);
    match rng.u8(0..3) {
        0 => json!({"type": "object", "additionalProperties": false, "patternProperties": {
            rng.choice(["^\\d+$", "^-?\\d+$"]).unwrap(): values
        }}),
        _ => json!({"type": "object", "additionalProperties": values}),
    }
}

fn tagged(rng: &mut Rng, depth: u32) -> Value {
    let outside = rng.bool();
    let count = rng.usize(1..4);
    let variant = |(at, name): (usize, &&str)| {
        if outside {
            json!({"type": "object", "properties": {*name: part(rng, depth + 1 + at as u32)},
                "required": [name], "additionalProperties": false})
        } else {
            let mut fields = object(rng, depth + 1);
            fields["properties"]["kind"] = json!({"type": "string", "const": name});
            fields["required"].as_array_mut().unwrap().push(json!("kind"));
            fields
        }
    };
    let names = ["One", "Two", "Three"];
    let variants: Vec<Value> = names.iter().take(count).enumerate().map(variant).collect();
    json!({"oneOf": variants})
}
