//! What the keywords of a schema say that are about values of one type each.

use serde_json::{Map, Value};
use smallvec::SmallVec;

use super::{Met, Shapes};
use crate::{
    document::{Conj, Role},
    format,
    keywords::{asserts, count, schemas},
    number::Num,
    shape::{FALSE, Kind, Lists, NULL, Numbers, Opaque, Records, Same, Shape, TRUE, Texts},
    tri::Tri,
};

impl<'a> Shapes<'a> {
    /// What the keywords say that are about one type each.
    pub(super) fn own(&self, schema: &'a Value, keywords: &'a Map<String, Value>) -> Met<'a> {
        if !keywords.keys().any(|keyword| asserts(keyword) && !applies_others(keyword)) {
            return None;
        }
        let types: SmallVec<[&str; 4]> = match keywords.get("type") {
            Some(Value::String(name)) => SmallVec::from_slice(&[name.as_str()]),
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            _ => SmallVec::from_slice(&["null", "boolean", "number", "string", "array", "object"]),
        };
        let mut shapes = Vec::with_capacity(types.len());
        for name in &types {
            match *name {
                "null" => shapes.push(Shape::from(Kind::Literal(&NULL))),
                "boolean" => {
                    shapes.push(Shape::from(Kind::Literal(&FALSE)));
                    shapes.push(Shape::from(Kind::Literal(&TRUE)));
                }
                "integer" if types.contains(&"number") => {}
                "integer" | "number" => {
                    let numbers = self.numbers(keywords, *name == "integer");
                    shapes.extend(numbers.map(|it| Shape::from(Kind::Number(it))));
                }
                "string" => shapes.extend(texts(keywords).map(|it| Shape::from(Kind::Text(it)))),
                "array" => shapes.extend(lists(schema, keywords)),
                "object" => shapes.push(self.record(schema, keywords)),
                _ => shapes.extend(self.opaque_any("type", schema, Same::Never)),
            }
        }
        if !keywords.contains_key("type") {
            for shape in &mut shapes {
                shape.unsaid = !keywords.keys().any(|keyword| shape.is_meant_by(keyword));
                if let (Kind::Record(records), true) = (&mut shape.kind, shape.unsaid) {
                    **records = self.of_any_fields();
                }
            }
        }
        for shape in &mut shapes {
            push_opaque(shape, schema, "if", Same::Keywords(&["if", "then", "else"]));
            push_opaque(shape, schema, "$dynamicRef", Same::Never);
            push_opaque(shape, schema, "$recursiveRef", Same::Never);
            shape.opened(self.document.role);
        }
        Some(shapes)
    }

    fn numbers(&self, keywords: &'a Map<String, Value>, whole: bool) -> Option<Numbers> {
        let bound = |keyword| keywords.get(keyword).and_then(Num::of);
        let mut numbers = Numbers {
            whole,
            min: bound("minimum"),
            max: bound("maximum"),
            above: bound("exclusiveMinimum"),
            below: bound("exclusiveMaximum"),
            multiples: bound("multipleOf").into_iter().collect(),
        };
        let format = keywords.get("format").and_then(Value::as_str);
        if let Some((min, max)) = format.and_then(format::integers) {
            numbers.whole = true;
            numbers.min = numbers.min.max(Some(Num::Int(min)));
            numbers.max = [numbers.max, max.map(Num::Int)].into_iter().flatten().min();
        } else if whole && self.document.role == Role::Sent {
            // An integer of no said size is one of 64 bits for whoever sends it: otherwise those
            // of a language that has only one kind of them would be refused everywhere.
            let (min, max) = (Num::Int(i64::MIN.into()), Num::Int(i64::MAX.into()));
            let (lower, upper) = (numbers.lower(), numbers.upper());
            if lower.is_none() && upper.is_none_or(|upper| upper > min) {
                numbers.min = Some(min);
            }
            if upper.is_none() && lower.is_none_or(|lower| lower < max) {
                numbers.max = Some(max);
            }
        }
        numbers.tidied()
    }

    fn record(&self, schema: &'a Value, keywords: &'a Map<String, Value>) -> Shape<'a> {
        let map = |keyword| keywords.get(keyword).and_then(Value::as_object).into_iter().flatten();
        let parts = |keyword| map(keyword).count() / 4;
        let required = schemas(keywords, "required");
        let weight = parts("properties") + parts("patternProperties") + required.len() / 4;
        if !self.document.fuel.burn(weight) {
            let mut shape = Shape::from(Kind::Record(Box::new(self.of_any_fields())));
            shape.opaque.push(Opaque { keyword: "its size", schema, same: Same::Never });
            return shape;
        }
        let mut records = Records {
            min: count(keywords, "minProperties").unwrap_or(0),
            max: count(keywords, "maxProperties"),
            required: required.iter().filter_map(Value::as_str).collect(),
            patterns: map("patternProperties")
                .map(|(pattern, schema)| (pattern.as_str(), Conj::of(schema)))
                .collect(),
            rest: keywords.get("additionalProperties").map(Conj::of),
            names: keywords.get("propertyNames").map(Conj::of).unwrap_or_default(),
            ..Records::default()
        };
        for (name, schema) in map("properties") {
            let mut conj = Conj::of(schema);
            for (pattern, more) in &records.patterns {
                let applies = self.document.matches(pattern, name);
                let taken = self.document.role == Role::Taken;
                if applies == Tri::Yes || (applies == Tri::Unknown && taken) {
                    conj = conj.and(more);
                }
            }
            records.fields.insert(name, conj);
        }
        // One that is required is sent, whether or not it is declared.
        if self.document.role == Role::Sent {
            for name in records.required.clone() {
                if !records.fields.contains_key(name) {
                    let conj = records.at(name, &self.document).unwrap_or_default();
                    records.fields.insert(name, conj);
                }
            }
        }
        if self.document.role == Role::Sent && records.rest.is_none() && self.is_bare(keywords) {
            records.rest = Some(Conj::of(&TRUE));
            records.bare = true;
        }
        let mut shape = Shape::from(Kind::Record(Box::new(records)));
        push_opaque(&mut shape, schema, "dependencies", Same::Never);
        let one = Same::Keywords(&["dependentRequired"]);
        push_opaque(&mut shape, schema, "dependentRequired", one);
        let one = Same::Keywords(&["dependentSchemas"]);
        push_opaque(&mut shape, schema, "dependentSchemas", one);
        shape
    }

    /// Whether it is an object of whose fields nothing is said, a dict of Python for one. A type
    /// without fields has the same schema, and a name beside it: a title, or a place in the
    /// definitions.
    fn is_bare(&self, keywords: &Map<String, Value>) -> bool {
        let definitions = self.document.root.get("$defs").and_then(Value::as_object);
        self.document.fuel.burn(definitions.map_or(0, Map::len) / 16);
        let mut definitions = definitions.into_iter().flat_map(Map::values);
        let speaks = ["properties", "patternProperties", "additionalProperties", "required"];
        !speaks.iter().any(|keyword| keywords.contains_key(*keyword))
            && !keywords.contains_key("title")
            && !definitions.any(|it| it.as_object().is_some_and(|it| std::ptr::eq(it, keywords)))
    }
}

/// Keywords that apply other schemas to the same value.
fn applies_others(keyword: &str) -> bool {
    matches!(keyword, "$ref" | "allOf" | "anyOf" | "oneOf" | "not" | "unevaluatedProperties")
}

fn texts(keywords: &Map<String, Value>) -> Option<Texts<'_>> {
    let name = |keyword| keywords.get(keyword).and_then(Value::as_str);
    let texts = Texts {
        min: count(keywords, "minLength").unwrap_or(0),
        max: count(keywords, "maxLength"),
        patterns: name("pattern").into_iter().collect(),
        formats: name("format").filter(|it| format::integers(it).is_none()).into_iter().collect(),
    };
    texts.max.is_none_or(|max| texts.min <= max).then_some(texts)
}

fn lists<'a>(schema: &'a Value, keywords: &'a Map<String, Value>) -> Option<Shape<'a>> {
    let prefix = schemas(keywords, "prefixItems");
    let items = keywords.get("items");
    let mut lists = Lists {
        min: count(keywords, "minItems").unwrap_or(0),
        max: count(keywords, "maxItems"),
        unique: keywords.get("uniqueItems") == Some(&Value::Bool(true)),
        prefix: prefix.iter().map(Conj::of).collect(),
        items: items.filter(|it| !it.is_array()).map(Conj::of).unwrap_or_default(),
    };
    if lists.items.is_never() {
        let most = prefix.len() as u64;
        lists.max = Some(lists.max.map_or(most, |max| max.min(most)));
    }
    if lists.max.is_some_and(|max| lists.min > max) {
        return None;
    }
    let mut shape = Shape::from(Kind::List(lists));
    if items.is_some_and(Value::is_array) {
        push_opaque(&mut shape, schema, "items", Same::Never);
    }
    let group = Same::Keywords(&["contains", "minContains", "maxContains"]);
    push_opaque(&mut shape, schema, "contains", group);
    // Which items it speaks of is told by all others.
    push_opaque(&mut shape, schema, "unevaluatedItems", Same::Schema);
    Some(shape)
}

fn push_opaque<'a>(shape: &mut Shape<'a>, schema: &'a Value, keyword: &'static str, same: Same) {
    if schema.get(keyword).is_some() {
        shape.opaque.push(Opaque { keyword, schema, same });
    }
}
