//! Values that a schema describes: as its sender would send them, with the fields that are
//! declared.

use fastrand::Rng;
use serde_json::{Map, Value, json};

/// A value of a schema, roughly: whoever needs one that is valid validates it.
pub(crate) fn value(root: &Value, rng: &mut Rng) -> Value {
    Making { root, rng }.of(&[root], 0)
}

struct Making<'a, 'r> {
    root: &'a Value,
    rng: &'r mut Rng,
}

const DEEP: usize = 7;

impl<'a> Making<'a, '_> {
    /// All that applies to a value, with one branch of each choice.
    fn parts(&mut self, schemas: &[&'a Value], depth: usize) -> Vec<&'a Map<String, Value>> {
        let mut parts = Vec::new();
        let mut open: Vec<&Value> = schemas.to_vec();
        while let Some(Value::Object(keywords)) = open.pop() {
            if parts.len() > 32 {
                break;
            }
            parts.push(keywords);
            if let Some(Value::String(target)) = keywords.get("$ref") {
                open.extend(self.root.pointer(&target[1..]));
            }
            open.extend(keywords.get("allOf").and_then(Value::as_array).into_iter().flatten());
            for choice in ["anyOf", "oneOf"] {
                let Some(Value::Array(branches)) = keywords.get(choice) else { continue };
                // Deep down, one that goes no further, if there is one.
                let flat = |it: &&Value| !it.to_string().contains("$ref");
                let flat = branches.iter().find(flat).filter(|_| depth > DEEP);
                open.extend(flat.or_else(|| self.rng.choice(branches)));
            }
        }
        parts
    }

    fn of(&mut self, schemas: &[&'a Value], depth: usize) -> Value {
        if schemas.iter().all(|it| it.as_bool() == Some(true)) {
            return self.anything();
        }
        if depth > DEEP * 4 {
            return Value::Null;
        }
        let parts = self.parts(schemas, depth);
        let get = |keyword: &str| {
            parts.iter().filter_map(move |it| it.get(keyword).cloned()).collect::<Vec<_>>()
        };
        if let Some(constant) = get("const").first() {
            return constant.clone();
        }
        if let Some(Value::Array(values)) = get("enum").first() {
            return self.rng.choice(values).cloned().unwrap_or_default();
        }
        let mut types: Vec<String> = Vec::new();
        for it in get("type") {
            let its: Vec<String> = match it {
                Value::String(name) => vec![name],
                Value::Array(names) => {
                    names.iter().map(|it| it.as_str().unwrap().to_owned()).collect()
                }
                _ => continue,
            };
            if types.is_empty() {
                types = its;
            } else {
                types.retain(|name| its.contains(name));
            }
        }
        let Some(name) = self.rng.choice(&types).cloned() else { return self.anything() };
        match name.as_str() {
            "boolean" => Value::Bool(self.rng.bool()),
            "integer" | "number" => self.number(&name, &parts),
            "string" => self.string(&parts),
            "array" => self.list(&parts, depth),
            "object" => self.object(&parts, depth),
            _ => Value::Null,
        }
    }

    fn anything(&mut self) -> Value {
        let some = [
            json!(null),
            json!(true),
            json!(1),
            json!(-7),
            json!(1.5),
            json!("a"),
            json!([]),
            json!({}),
            json!({"value": 1}),
            json!([1, "a"]),
        ];
        self.rng.choice(some).unwrap()
    }

    fn number(&mut self, name: &str, parts: &[&Map<String, Value>]) -> Value {
        let one = |keyword: &str| parts.iter().find_map(|it| it.get(keyword)).cloned();
        let (mut low, mut high) = match one("format").as_ref().and_then(Value::as_str) {
            Some("int8") => (i8::MIN.into(), i8::MAX.into()),
            Some("uint8") => (0, u8::MAX.into()),
            Some("int16") => (i16::MIN.into(), i16::MAX.into()),
            Some("uint16") => (0, u16::MAX.into()),
            Some("int32") => (i32::MIN.into(), i32::MAX.into()),
            Some("uint32") => (0, u32::MAX.into()),
            Some("uint64" | "uint") => (0, u64::MAX.into()),
            _ => (i128::from(i64::MIN), i128::from(i64::MAX)),
        };
        let of = |it: Value| it.as_number()?.as_i128().or_else(|| Some(it.as_f64()? as i128));
        low =
            one("minimum").or_else(|| one("exclusiveMinimum")).and_then(of).unwrap_or(low).max(low);
        high = one("maximum")
            .or_else(|| one("exclusiveMaximum"))
            .and_then(of)
            .unwrap_or(high)
            .min(high);
        if low > high {
            return Value::Null;
        }
        let near = [low, low + 1, high - 1, high, 0, 1, -1, 2, 3, 100, 255, 256];
        let near = near[self.rng.usize(..near.len())].clamp(low, high);
        let int = if self.rng.bool() { near } else { self.rng.i128(low..=high) };
        if name == "number" && self.rng.bool() {
            return json!(int as f64 / 3.0);
        }
        match i64::try_from(int) {
            Ok(small) => small.into(),
            Err(_) => (int as u64).into(),
        }
    }

    fn string(&mut self, parts: &[&Map<String, Value>]) -> Value {
        let one = |keyword: &str| parts.iter().find_map(|it| it.get(keyword));
        let of_format = match one("format").and_then(Value::as_str) {
            Some("uuid") => Some("67e55044-10b1-426f-9247-bb680e5fe0c8"),
            Some("date-time") => Some("2024-02-29T12:30:00.5+01:00"),
            Some("date") => Some("2024-02-29"),
            Some("ipv4" | "ip") => Some("10.0.0.255"),
            Some("ipv6") => Some("fe80::1"),
            _ => None,
        };
        if let Some(text) = of_format {
            return text.into();
        }
        let min = one("minLength").and_then(Value::as_u64).unwrap_or(0);
        let max = one("maxLength").and_then(Value::as_u64).unwrap_or(min + 6);
        let length =
            if self.rng.bool() { self.rng.u64(min..=max.max(min)) } else { min.max(1).min(max) };
        let letters =
            if one("pattern").is_some() { ["a", "b", "0", "1"] } else { ["a", "é", "0", " "] };
        let same = self.rng.bool().then(|| self.rng.usize(..4));
        (0..length)
            .map(|_| letters[same.unwrap_or_else(|| self.rng.usize(..4))])
            .collect::<String>()
            .into()
    }

    fn list(&mut self, parts: &[&'a Map<String, Value>], depth: usize) -> Value {
        let count = |keyword: &str| parts.iter().find_map(|it| it.get(keyword)?.as_u64());
        let min = count("minItems").unwrap_or(0);
        let more = if depth > DEEP { 0 } else { self.rng.u64(0..3) };
        let length = (min + more).min(count("maxItems").unwrap_or(u64::MAX)).max(min);
        let mut items = Vec::new();
        for at in 0..length.min(64) as usize {
            let schemas: Vec<&Value> = parts
                .iter()
                .filter_map(|it| {
                    let prefix = it.get("prefixItems").and_then(|it| it.get(at));
                    prefix.or_else(|| it.get("items"))
                })
                .collect();
            items.push(self.of(&schemas, depth + 1));
        }
        items.into()
    }

    fn object(&mut self, parts: &[&'a Map<String, Value>], depth: usize) -> Value {
        let mut fields = Map::new();
        let mut names: Vec<&str> = Vec::new();
        for part in parts {
            let declared = part.get("properties").and_then(Value::as_object);
            names.extend(declared.into_iter().flat_map(|it| it.keys().map(String::as_str)));
            let required = part.get("required").and_then(Value::as_array).into_iter().flatten();
            names.extend(required.filter_map(Value::as_str));
            if part.get("patternProperties").is_some() {
                names.extend(["7", "-3", "0", "a", "ab"].into_iter().filter(|_| self.rng.bool()));
            }
            let open = ["additionalProperties", "unevaluatedProperties"];
            if open.iter().any(|it| part.get(*it).is_some_and(|it| it != &json!(false))) {
                let some = ["a", "key", "value", "more", "kind", "7"];
                names.extend(some.into_iter().filter(|_| self.rng.u8(0..3) == 0));
            }
        }
        for name in names {
            let is_required = parts.iter().any(|it| {
                it.get("required")
                    .and_then(Value::as_array)
                    .is_some_and(|it| it.contains(&name.into()))
            });
            let left_out = depth > DEEP || self.rng.u8(0..3) == 0;
            if fields.contains_key(name) || (!is_required && left_out) {
                continue;
            }
            let mut schemas: Vec<&Value> = Vec::new();
            for part in parts {
                let declared = part.get("properties").and_then(|it| it.get(name));
                // A pattern that does not apply leaves a value that is valid or dropped.
                let pattern =
                    part.get("patternProperties").and_then(|it| it.as_object()?.values().next());
                schemas.extend(
                    declared
                        .or(pattern)
                        .or_else(|| part.get("additionalProperties").filter(|it| it.is_object())),
                );
            }
            fields.insert(name.to_owned(), self.of(&schemas, depth + 1));
        }
        fields.into()
    }
}
