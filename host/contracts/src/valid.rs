//! Whether one value is valid under a schema, as far as its keywords are known here.
//!
//! Formats are assertions, and the formats of integers are ranges.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::{
    document::Document,
    format,
    keywords::{count, is_any, is_well_formed, schemas},
    number::Num,
    tri::Tri,
};

/// How deep schemas and values are followed, together.
const DEPTH: u32 = 96;

/// The fields of an object that some keyword has looked at, for `unevaluatedProperties`.
#[derive(Default)]
struct Seen {
    names: BTreeSet<String>,
    all: bool,
    /// A branch of which it is not known whether it applies.
    uncertain: bool,
}

impl Seen {
    fn add(&mut self, other: Seen, applies: Tri) {
        match applies {
            Tri::Yes => {
                self.names.extend(other.names);
                self.all |= other.all;
                self.uncertain |= other.uncertain;
            }
            Tri::Unknown => self.uncertain = true,
            Tri::No => {}
        }
    }
}

/// Whether `value` is valid under `schema`, which is a part of `document`.
pub(crate) fn is_valid<'a>(document: &Document<'a>, schema: &'a Value, value: &Value) -> Tri {
    Validation { document }.schema(schema, value, 0, None)
}

struct Validation<'a, 'd> {
    document: &'d Document<'a>,
}

impl<'a> Validation<'a, '_> {
    fn schema(&self, schema: &'a Value, value: &Value, depth: u32, seen: Option<&mut Seen>) -> Tri {
        if depth > DEPTH || !self.document.fuel.burn(1) {
            return Tri::Unknown;
        }
        match schema {
            Value::Bool(all) => Tri::from(*all),
            Value::Object(keywords) => self.keywords(keywords, value, depth + 1, seen),
            _ => Tri::Unknown,
        }
    }

    fn keywords(
        &self,
        keywords: &'a Map<String, Value>,
        value: &Value,
        depth: u32,
        seen: Option<&mut Seen>,
    ) -> Tri {
        let unevaluated = keywords.get("unevaluatedProperties").filter(|_| value.is_object());
        let mut own = (seen.is_some() || unevaluated.is_some()).then(Seen::default);
        let mut verdict = Tri::Yes;
        if !self.document.fuel.burn(keywords.len() / 8) {
            return Tri::Unknown;
        }
        for (keyword, argument) in keywords {
            let tri = self.keyword(keywords, keyword, argument, value, depth, &mut own);
            verdict = verdict.and(tri);
            if verdict == Tri::No {
                return Tri::No;
            }
        }
        if let (Some(rest), Some(own), Some(fields)) = (unevaluated, &mut own, value.as_object()) {
            self.document.fuel.burn(fields.len() / 8);
            if !own.all && !is_any(rest) {
                for (_, field) in fields.iter().filter(|(name, _)| !own.names.contains(*name)) {
                    let tri = self.schema(rest, field, depth, None);
                    let open = own.uncertain && tri == Tri::No;
                    verdict = verdict.and(if open { Tri::Unknown } else { tri });
                }
            }
            own.all = true;
        }
        if let (Some(seen), Some(own)) = (seen, own) {
            seen.add(own, Tri::Yes);
        }
        verdict
    }

    fn keyword(
        &self,
        keywords: &'a Map<String, Value>,
        keyword: &str,
        argument: &'a Value,
        value: &Value,
        depth: u32,
        seen: &mut Option<Seen>,
    ) -> Tri {
        if !is_well_formed(keyword, argument) {
            mark_uncertain(seen);
            return Tri::Unknown;
        }
        match keyword {
            "type" => has_type(argument, value),
            "const" => self.document.are_equal(argument, value),
            "enum" => self.document.is_among(argument, value),
            "format" => {
                if !self.document.fuel.burn(value.as_str().map_or(0, str::len) / 1024) {
                    return Tri::Unknown;
                }
                has_format(argument, value)
            }
            "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf" => {
                within(keyword, argument, value)
            }
            "minLength" | "maxLength" => {
                if !self.document.fuel.burn(value.as_str().map_or(0, str::len) / 4096) {
                    return Tri::Unknown;
                }
                let length = value.as_str().map(|text| text.chars().count() as u64);
                counted(keywords, keyword, length)
            }
            "pattern" => match (argument.as_str(), value.as_str()) {
                (_, None) => Tri::Yes,
                (Some(pattern), Some(text)) => self.document.matches(pattern, text),
                _ => Tri::Unknown,
            },
            "minItems" | "maxItems" => {
                counted(keywords, keyword, value.as_array().map(|it| it.len() as u64))
            }
            "minProperties" | "maxProperties" => {
                counted(keywords, keyword, value.as_object().map(|it| it.len() as u64))
            }
            "uniqueItems" => self.unique(argument, value),
            "prefixItems" | "items" => self.items(keywords, keyword, argument, value, depth),
            "required" => {
                let Some(fields) = value.as_object() else { return Tri::Yes };
                let names = schemas(keywords, "required");
                if !self.document.fuel.burn(names.len() / 8) {
                    return Tri::Unknown;
                }
                let mut names = names.iter().filter_map(Value::as_str);
                Tri::from(names.all(|name| fields.contains_key(name)))
            }
            "properties" | "patternProperties" | "additionalProperties" | "propertyNames" => {
                self.fields(keywords, keyword, argument, value, depth, seen)
            }
            "$ref" => match argument.as_str().and_then(|it| self.document.resolve(it)) {
                Some(target) => self.in_place(target, value, depth, seen),
                None => Tri::Unknown,
            },
            "allOf" | "anyOf" | "oneOf" => self.branches(keyword, argument, value, depth, seen),
            "not" => self.schema(argument, value, depth, None).negated(),
            "if" | "$dynamicRef" | "$recursiveRef" => {
                mark_uncertain(seen);
                Tri::Unknown
            }
            "contains" | "unevaluatedItems" | "additionalItems" if value.is_array() => Tri::Unknown,
            "dependentRequired" if value.is_object() => Tri::Unknown,
            "dependencies" | "dependentSchemas" if value.is_object() => {
                mark_uncertain(seen);
                Tri::Unknown
            }
            _ => Tri::Yes,
        }
    }

    /// A schema that applies to the value itself, and what it has seen of its fields.
    fn in_place(
        &self,
        schema: &'a Value,
        value: &Value,
        depth: u32,
        seen: &mut Option<Seen>,
    ) -> Tri {
        let mut its = seen.is_some().then(Seen::default);
        let tri = self.schema(schema, value, depth, its.as_mut());
        if let (Some(seen), Some(its)) = (seen, its) {
            seen.add(its, tri);
        }
        tri
    }

    fn branches(
        &self,
        keyword: &str,
        argument: &'a Value,
        value: &Value,
        depth: u32,
        seen: &mut Option<Seen>,
    ) -> Tri {
        let Some(branches) = argument.as_array() else { return Tri::Unknown };
        let (mut yes, mut unknown) = (0, 0);
        for branch in branches {
            match self.in_place(branch, value, depth, seen) {
                Tri::Yes => yes += 1,
                Tri::Unknown => unknown += 1,
                Tri::No if keyword == "allOf" => return Tri::No,
                Tri::No => {}
            }
            let decided = (keyword == "anyOf" && yes > 0 && seen.is_none())
                || (keyword == "oneOf" && yes > 1);
            if decided {
                break;
            }
        }
        match keyword {
            "anyOf" if yes > 0 => Tri::Yes,
            "oneOf" if yes > 1 => Tri::No,
            _ if unknown > 0 => Tri::Unknown,
            "allOf" => Tri::Yes,
            _ => Tri::from(yes > 0),
        }
    }

    fn items(
        &self,
        keywords: &'a Map<String, Value>,
        keyword: &str,
        argument: &'a Value,
        value: &Value,
        depth: u32,
    ) -> Tri {
        let Some(items) = value.as_array() else { return Tri::Yes };
        let prefix = schemas(keywords, "prefixItems");
        let mut verdict = Tri::Yes;
        if keyword == "prefixItems" {
            for (schema, item) in prefix.iter().zip(items) {
                verdict = verdict.and(self.schema(schema, item, depth, None));
            }
        } else if argument.is_array() {
            return Tri::Unknown;
        } else {
            for item in items.iter().skip(prefix.len()) {
                verdict = verdict.and(self.schema(argument, item, depth, None));
            }
        }
        verdict
    }

    fn unique(&self, argument: &Value, value: &Value) -> Tri {
        let (Some(items), Some(true)) = (value.as_array(), argument.as_bool()) else {
            return Tri::Yes;
        };
        if !self.document.fuel.burn(items.len().saturating_mul(items.len()) / 8) {
            return Tri::Unknown;
        }
        let alone = |(at, item): (usize, &Value)| {
            Tri::all(items[..at].iter().map(|it| self.document.are_equal(it, item).negated()))
        };
        Tri::all(items.iter().enumerate().map(alone))
    }

    fn fields(
        &self,
        keywords: &'a Map<String, Value>,
        keyword: &str,
        argument: &'a Value,
        value: &Value,
        depth: u32,
        seen: &mut Option<Seen>,
    ) -> Tri {
        let Some(fields) = value.as_object() else { return Tri::Yes };
        if !self.document.fuel.burn(fields.len() / 8) {
            return Tri::Unknown;
        }
        let mut verdict = Tri::Yes;
        let mut see = |name: &str, certain: Tri| match seen {
            Some(seen) if certain == Tri::Yes => drop(seen.names.insert(name.to_owned())),
            Some(seen) => seen.uncertain = true,
            None => {}
        };
        match keyword {
            "properties" => {
                let Some(declared) = argument.as_object() else { return Tri::Unknown };
                for (name, field) in fields {
                    if let Some(schema) = declared.get(name) {
                        see(name, Tri::Yes);
                        verdict = verdict.and(self.schema(schema, field, depth, None));
                    }
                }
            }
            "patternProperties" => {
                for (pattern, schema) in argument.as_object().into_iter().flatten() {
                    for (name, field) in fields {
                        let applies = self.document.matches(pattern, name);
                        if applies != Tri::No {
                            see(name, applies);
                            let tri = self.schema(schema, field, depth, None);
                            verdict = verdict.and(applies.negated().or(tri));
                        }
                    }
                }
            }
            "additionalProperties" => {
                for (name, field) in fields {
                    let declared = self.is_declared(keywords, name);
                    if declared != Tri::Yes {
                        see(name, Tri::Yes);
                        let tri = self.schema(argument, field, depth, None);
                        verdict = verdict.and(declared.or(tri));
                    }
                }
            }
            _ => {
                for name in fields.keys() {
                    let name = Value::String(name.clone());
                    verdict = verdict.and(self.schema(argument, &name, depth, None));
                }
            }
        }
        verdict
    }

    fn is_declared(&self, keywords: &'a Map<String, Value>, name: &str) -> Tri {
        let properties = keywords.get("properties").and_then(Value::as_object);
        if properties.is_some_and(|it| it.contains_key(name)) {
            return Tri::Yes;
        }
        let patterns = keywords.get("patternProperties").and_then(Value::as_object);
        let patterns = patterns.into_iter().flat_map(Map::keys);
        patterns.fold(Tri::No, |found, it| found.or(self.document.matches(it, name)))
    }
}

fn mark_uncertain(seen: &mut Option<Seen>) {
    if let Some(seen) = seen {
        seen.uncertain = true;
    }
}

fn has_type(argument: &Value, value: &Value) -> Tri {
    match argument {
        Value::String(name) => is_type(name, value),
        Value::Array(names) => names.iter().fold(Tri::No, |found, name| {
            found.or(name.as_str().map_or(Tri::Unknown, |name| is_type(name, value)))
        }),
        _ => Tri::Unknown,
    }
}

fn is_type(name: &str, value: &Value) -> Tri {
    Tri::from(match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => Num::of(value).is_some_and(Num::is_whole),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => return Tri::Unknown,
    })
}

fn has_format(argument: &Value, value: &Value) -> Tri {
    let Some(name) = argument.as_str() else { return Tri::Unknown };
    match value {
        Value::String(text) if format::integers(name).is_none() => format::is_of(name, text),
        Value::Number(_) => {
            let (Some((min, max)), Some(num)) = (format::integers(name), Num::of(value)) else {
                return Tri::Yes;
            };
            let over = max.is_some_and(|max| num > Num::Int(max));
            Tri::from(num.is_whole() && num >= Num::Int(min) && !over)
        }
        _ => Tri::Yes,
    }
}

fn within(keyword: &str, argument: &Value, value: &Value) -> Tri {
    let Some(num) = Num::of(value) else { return Tri::Yes };
    let Some(bound) = Num::of(argument) else { return Tri::Unknown };
    match (keyword, num, bound) {
        ("minimum", ..) => Tri::from(num >= bound),
        ("maximum", ..) => Tri::from(num <= bound),
        ("exclusiveMinimum", ..) => Tri::from(num > bound),
        ("exclusiveMaximum", ..) => Tri::from(num < bound),
        (_, Num::Int(int), Num::Int(by)) if by > 0 => Tri::from(int % by == 0),
        (_, real, Num::Int(by)) if by > 0 && !real.is_whole() => Tri::No,
        _ => Tri::Unknown,
    }
}

fn counted(keywords: &Map<String, Value>, keyword: &str, found: Option<u64>) -> Tri {
    let Some(found) = found else { return Tri::Yes };
    let Some(bound) = count(keywords, keyword) else { return Tri::Unknown };
    Tri::from(if keyword.starts_with("min") { found >= bound } else { found <= bound })
}
