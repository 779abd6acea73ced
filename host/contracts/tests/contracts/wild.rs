//! Random schemas in all words of JSON Schema, and small values to hold verdicts about them to.

use fastrand::Rng;
use serde_json::{Map, Value, json};

const DEEP: u32 = 3;
const NAMES: [&str; 3] = ["a", "b", "c1"];

/// A schema with definitions, some of which contain themselves.
pub(crate) fn wild(rng: &mut Rng) -> Value {
    let mut root = match rng.u8(0..6) {
        0 => part(rng, 0, true),
        1 | 2 => composite(rng, 1, true),
        3 => array(rng, 0),
        _ => object(rng, 0, true),
    };
    if root.is_boolean() {
        root = json!({});
    }
    let definitions = json!({"A": part(rng, 1, false), "B": part(rng, 2, false)});
    if root.to_string().contains("$ref") {
        root["$defs"] = definitions;
    }
    root
}

/// One that differs from it in a place or two.
pub(crate) fn changed(schema: &Value, rng: &mut Rng) -> Value {
    let mut changed = schema.clone();
    for _ in 0..rng.u8(1..4) {
        let mut places = Vec::new();
        collect(&changed, String::new(), &mut places);
        let Some(place) = rng.choice(&places) else { continue };
        let in_definition = place.starts_with("/$defs/");
        let Some(at) = changed.pointer_mut(place) else { continue };
        change(at, place.is_empty(), !in_definition, rng);
    }
    if changed.get("$defs").is_none() && changed.to_string().contains("$ref") {
        changed["$defs"] = json!({"A": part(rng, 1, false), "B": {"type": "integer"}});
    }
    changed
}

fn change(at: &mut Value, is_root: bool, may_refer: bool, rng: &mut Rng) {
    let other = part(rng, 2, may_refer);
    let Value::Object(keywords) = at else {
        *at = other;
        return;
    };
    let words: Vec<String> = keywords.keys().filter(|it| *it != "$defs").cloned().collect();
    match rng.u8(0..8) {
        0 if !is_root => *at = other,
        1..=3 => {
            if let Some(word) = rng.choice(&words) {
                keywords.remove(word);
            }
        }
        4 if !is_root => *at = json!({"anyOf": [at.clone(), other]}),
        5 if !is_root => *at = json!({"allOf": [other, at.clone()]}),
        6 => {
            let Some(word) = rng.choice(&words) else { return };
            match &mut keywords[word.as_str()] {
                Value::Number(number) => {
                    let by = if rng.bool() { 1 } else { -1 };
                    let more = number.as_f64().map_or(0, |it| it as i64) + by;
                    keywords[word.as_str()] = json!(more.max(1));
                }
                Value::Array(items) if items.len() > 1 => {
                    items.remove(rng.usize(..items.len()));
                }
                Value::Bool(yes) => *yes = !*yes,
                _ => {}
            }
        }
        _ => {
            for (word, argument) in other.as_object().into_iter().flatten() {
                if rng.bool() {
                    keywords.insert(word.clone(), argument.clone());
                }
            }
        }
    }
}

/// The places of all schemas within one.
fn collect(schema: &Value, place: String, found: &mut Vec<String>) {
    let Value::Object(keywords) = schema else { return };
    for (keyword, argument) in keywords {
        match (keyword.as_str(), argument) {
            (
                "properties" | "patternProperties" | "dependentSchemas" | "$defs",
                Value::Object(parts),
            ) => {
                for (name, part) in parts {
                    collect(part, format!("{place}/{keyword}/{name}"), found);
                }
            }
            ("allOf" | "anyOf" | "oneOf" | "prefixItems", Value::Array(parts)) => {
                for (at, part) in parts.iter().enumerate() {
                    collect(part, format!("{place}/{keyword}/{at}"), found);
                }
            }
            (
                "not"
                | "if"
                | "then"
                | "else"
                | "items"
                | "contains"
                | "propertyNames"
                | "additionalProperties"
                | "unevaluatedItems"
                | "unevaluatedProperties",
                part,
            ) => collect(part, format!("{place}/{keyword}"), found),
            _ => {}
        }
    }
    found.push(place);
}

/// A schema. One that may refer is in no definition, or a step into the value lies between.
fn part(rng: &mut Rng, depth: u32, may_refer: bool) -> Value {
    let kinds = if depth >= DEEP { 8 } else { 19 };
    match rng.u8(0..kinds) {
        0 => number(rng),
        1 => string(rng),
        2 => json!({"const": literal(rng)}),
        3 => json!({"enum": (0..rng.usize(1..5)).map(|_| literal(rng)).collect::<Vec<_>>()}),
        4 => {
            let names = ["null", "boolean", "integer", "number", "string", "array", "object"];
            let mut types = rng.choose_multiple(names, 3);
            types.truncate(rng.usize(1..4));
            json!({"type": types})
        }
        5 => number(rng),
        6 if may_refer => json!({"$ref": rng.choice(["#/$defs/A", "#/$defs/B"])}),
        6 => string(rng),
        7 => rng.choice([json!(true), json!({}), json!(false), json!({"type": "null"})]).unwrap(),
        8..=10 => object(rng, depth, may_refer),
        11 | 12 => array(rng, depth),
        13 => {
            let word = *rng.choice(&["anyOf", "oneOf", "allOf"]).unwrap();
            let count = rng.usize(1..4);
            let parts = (0..count).map(|_| part(rng, depth + 1, may_refer)).collect::<Vec<_>>();
            json!({word: parts})
        }
        14 => json!({"not": part(rng, depth + 1, may_refer)}),
        15 => {
            let mut parts = Map::new();
            parts.insert("if".to_owned(), part(rng, depth + 1, may_refer));
            for word in ["then", "else"] {
                if rng.u8(0..3) > 0 {
                    parts.insert(word.to_owned(), part(rng, depth + 1, may_refer));
                }
            }
            parts.into()
        }
        18 => composite(rng, depth, may_refer),
        // Several of them at once.
        _ => {
            let (one, other) = (part(rng, depth + 1, may_refer), part(rng, depth + 1, may_refer));
            match (one, other) {
                (Value::Object(mut one), Value::Object(other)) => {
                    one.extend(other);
                    one.into()
                }
                (one, _) => one,
            }
        }
    }
}

/// Objects or lists of which several schemas speak at once.
fn composite(rng: &mut Rng, depth: u32, may_refer: bool) -> Value {
    let lists = rng.u8(0..3) == 0;
    let one = |rng: &mut Rng| match lists {
        true => array(rng, depth + 1),
        false => object(rng, depth + 1, may_refer),
    };
    let mut whole = one(rng);
    for _ in 0..rng.u8(1..3) {
        let (first, second) = (one(rng), one(rng));
        match rng.u8(0..6) {
            0 => whole["anyOf"] = json!([first, second]),
            1 => whole["oneOf"] = json!([first, second]),
            2 => whole["allOf"] = json!([first, second]),
            3 => whole["not"] = first,
            4 => {
                whole["if"] = part(rng, depth + 1, may_refer);
                whole["then"] = first;
                whole["else"] = second;
            }
            _ => whole["dependentSchemas"] = json!({"a": first}),
        }
    }
    let word = if lists { "unevaluatedItems" } else { "unevaluatedProperties" };
    match rng.u8(0..4) {
        0 => whole[word] = json!(false),
        1 => whole[word] = part(rng, depth + 1, true),
        _ => {}
    }
    whole
}

fn literal(rng: &mut Rng) -> Value {
    let all = atoms();
    let atom = rng.choice(&all).cloned().unwrap();
    match rng.u8(0..8) {
        0 => json!([atom]),
        1 => json!({"a": atom}),
        2 => json!({"a": atom, "b": 1}),
        _ => atom,
    }
}

fn number(rng: &mut Rng) -> Value {
    let mut keywords = json!({});
    match rng.u8(0..4) {
        0 => {}
        1 => keywords["type"] = json!("number"),
        _ => keywords["type"] = json!("integer"),
    }
    for word in ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"] {
        if rng.u8(0..5) == 0 {
            let at = i32::from(rng.i8(-2..4));
            keywords[word] = match rng.u8(0..4) {
                0 => json!(f64::from(at) + 0.5),
                1 => json!(f64::from(at)),
                _ => json!(at),
            };
        }
    }
    if rng.u8(0..5) == 0 {
        keywords["multipleOf"] =
            rng.choice([json!(1), json!(2), json!(3), json!(0.5), json!(2.0)]).unwrap();
    }
    if rng.u8(0..8) == 0 {
        keywords["format"] = json!(rng.choice(["int8", "uint8", "int64"]));
    }
    keywords
}

fn string(rng: &mut Rng) -> Value {
    let mut keywords = if rng.bool() { json!({"type": "string"}) } else { json!({}) };
    match rng.u8(0..6) {
        0 => keywords["format"] = json!(rng.choice(["uuid", "date", "ipv4", "ip"])),
        1 => {
            let patterns = ["^[a-z]+$", "^\\d+$", "a", "^(?=a)a", "^a", ""];
            keywords["pattern"] = json!(rng.choice(patterns));
        }
        2 | 3 => keywords["minLength"] = json!(rng.u8(0..3)),
        _ => keywords["maxLength"] = json!(rng.u8(0..4)),
    }
    keywords
}

fn array(rng: &mut Rng, depth: u32) -> Value {
    let mut keywords = if rng.u8(0..4) > 0 { json!({"type": "array"}) } else { json!({}) };
    if rng.bool() {
        keywords["items"] = part(rng, depth + 1, true);
    }
    if rng.u8(0..3) == 0 {
        let prefix = (0..rng.usize(1..3)).map(|_| part(rng, depth + 1, true));
        keywords["prefixItems"] = prefix.collect::<Vec<_>>().into();
    }
    if rng.u8(0..4) == 0 {
        keywords["contains"] = part(rng, depth + 1, true);
        for word in ["minContains", "maxContains"] {
            if rng.u8(0..3) == 0 {
                keywords[word] = json!(rng.u8(0..3));
            }
        }
    }
    if rng.u8(0..6) == 0 {
        keywords["unevaluatedItems"] =
            if rng.bool() { json!(false) } else { part(rng, depth + 1, true) };
    }
    match rng.u8(0..8) {
        0 => keywords["minItems"] = json!(rng.u8(0..3)),
        1 => keywords["maxItems"] = json!(f64::from(rng.u8(0..4))),
        2 => keywords["uniqueItems"] = json!(true),
        _ => {}
    }
    keywords
}

fn object(rng: &mut Rng, depth: u32, may_refer: bool) -> Value {
    let mut keywords = if rng.u8(0..4) > 0 { json!({"type": "object"}) } else { json!({}) };
    let some = |rng: &mut Rng| -> Vec<Value> {
        NAMES.iter().filter(|_| rng.u8(0..3) == 0).map(|it| json!(it)).collect()
    };
    let mut properties = Map::new();
    for name in some(rng) {
        properties.insert(name.as_str().unwrap().to_owned(), part(rng, depth + 1, true));
    }
    if !properties.is_empty() {
        keywords["properties"] = properties.into();
    }
    let seldom = |rng: &mut Rng| rng.u8(0..7) == 0;
    if rng.bool() {
        keywords["required"] = some(rng).into();
    }
    if seldom(rng) {
        let pattern = rng.choice(["^[a-b]$", "1$", "^a", "(?!b)^.", ""]).unwrap();
        keywords["patternProperties"] = json!({pattern: part(rng, depth + 1, true)});
    }
    for word in ["additionalProperties", "unevaluatedProperties"] {
        if rng.u8(0..5) == 0 {
            keywords[word] = if rng.bool() { json!(false) } else { part(rng, depth + 1, true) };
        }
    }
    if seldom(rng) {
        keywords["propertyNames"] = string(rng);
    }
    if seldom(rng) {
        keywords["dependentRequired"] = json!({"a": some(rng)});
    }
    if seldom(rng) {
        keywords["dependentSchemas"] = json!({"a": part(rng, depth + 1, may_refer)});
    }
    match rng.u8(0..8) {
        0 => keywords["minProperties"] = json!(rng.u8(0..3)),
        1 => keywords["maxProperties"] = json!(rng.u8(0..4)),
        _ => {}
    }
    keywords
}

fn atoms() -> Vec<Value> {
    vec![
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(1),
        json!(1.0),
        json!(2),
        json!(-1),
        json!(0.5),
        json!(3.5),
        json!(""),
        json!("a"),
        json!("ab"),
        json!("1"),
    ]
}

/// Small values of all kinds.
pub(crate) fn values() -> Vec<Value> {
    let mut all = atoms();
    let more = [
        json!(4),
        json!(6),
        json!(-2),
        json!(-0.5),
        json!(200),
        json!(-200),
        json!(1e10),
        json!("abcd"),
        json!("é"),
        json!("127.0.0.1"),
        json!("2000-01-01"),
        json!("00000000-0000-0000-0000-000000000000"),
    ];
    all.extend(more);
    let some =
        [json!(null), json!(1), json!(0.5), json!("a"), json!([]), json!({}), json!({"a": 1})];
    all.extend([json!([]), json!({}), json!([1, 1.0]), json!(["a", "a", 1]), json!([1, 2, 3, 4])]);
    for one in &some {
        all.push(json!([one]));
        all.push(json!([[one]]));
        for name in ["a", "b", "c1", "zz"] {
            all.push(json!({name: one}));
            all.push(json!({"a": {name: one}}));
            all.push(json!([{name: one}]));
        }
        for other in &some {
            all.push(json!([one, other]));
            all.push(json!({"a": one, "b": other}));
            all.push(json!({"b": one, "c1": other}));
            all.push(json!({"a": one, "zz": other}));
            all.push(json!({"a": one, "b": other, "c1": one}));
        }
    }
    all
}
