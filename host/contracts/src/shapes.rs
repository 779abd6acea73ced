//! How a schema becomes alternatives.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use serde_json::{Map, Value};
use smallvec::SmallVec;

use crate::{
    document::{Conj, Document, Role, Term, asserts, count, is_any, schemas},
    format,
    number::Num,
    shape::{Excluded, FALSE, Kind, Lists, NULL, Numbers, Opaque, Records, Shape, TRUE, Texts},
    tri::Tri,
    valid::is_valid,
};

/// The most alternatives of one schema.
const ALTERNATIVES: usize = 2048;
/// How deep schemas that apply to the same value are followed.
const DEPTH: usize = 48;

type Alternatives<'a> = Rc<[Shape<'a>]>;

/// A document and what its schemas have become so far.
pub(crate) struct Shapes<'a> {
    pub(crate) document: Document<'a>,
    conjs: RefCell<HashMap<Conj<'a>, Alternatives<'a>>>,
    terms: RefCell<HashMap<Term<'a>, Alternatives<'a>>>,
}

/// `None` is any value.
type Met<'a> = Option<Vec<Shape<'a>>>;

impl<'a> Shapes<'a> {
    pub(crate) fn new(document: Document<'a>) -> Self {
        Shapes { document, conjs: RefCell::default(), terms: RefCell::default() }
    }

    /// The alternatives that some schemas have together; none if no value is valid under them.
    pub(crate) fn of(&self, conj: &Conj<'a>) -> Alternatives<'a> {
        if let ([term], None) = (conj.terms.as_slice(), conj.only) {
            return self.of_schema(term.0);
        }
        if let Some(known) = self.conjs.borrow().get(conj) {
            return known.clone();
        }
        let alternatives: Alternatives<'a> = match conj.only {
            Some(only) => {
                let all = self.of(&Conj { only: None, ..conj.clone() });
                all.get(only).cloned().into_iter().collect()
            }
            None => {
                let met = conj.terms.iter().fold(None, |met, term| {
                    let its = self.of_schema(term.0);
                    self.meet(met, Some(its.to_vec()), term.0)
                });
                met.unwrap_or_else(any).into()
            }
        };
        self.conjs.borrow_mut().insert(conj.clone(), alternatives.clone());
        alternatives
    }

    pub(crate) fn of_schema(&self, schema: &'a Value) -> Alternatives<'a> {
        if let Some(known) = self.terms.borrow().get(&Term(schema)) {
            return known.clone();
        }
        let met = self.schema(schema, &mut Vec::new());
        let alternatives: Alternatives<'a> = met.unwrap_or_else(any).into();
        self.terms.borrow_mut().insert(Term(schema), alternatives.clone());
        alternatives
    }

    fn schema(&self, schema: &'a Value, within: &mut Vec<Term<'a>>) -> Met<'a> {
        let keywords = match schema {
            Value::Bool(true) => return None,
            Value::Bool(false) => return Some(Vec::new()),
            Value::Object(keywords) => keywords,
            _ => return Some(opaque_any("no schema", schema)),
        };
        if is_any(schema) {
            return None;
        }
        // Within itself, without a step into the value: nothing that can be followed.
        if within.len() >= DEPTH || within.contains(&Term(schema)) {
            return Some(opaque_any("$ref", schema));
        }
        if !self.document.fuel.burn(1 + keywords.len()) {
            return Some(opaque_any("its size", schema));
        }
        if let Some(literals) = self.literals(schema, keywords) {
            return Some(literals);
        }
        within.push(Term(schema));
        let met = self.applied(schema, keywords, within);
        within.pop();
        met
    }

    /// The values of `const` or `enum` that all other keywords allow.
    fn literals(
        &self,
        schema: &'a Value,
        keywords: &'a Map<String, Value>,
    ) -> Option<Vec<Shape<'a>>> {
        let one = keywords.get("const").map(std::slice::from_ref);
        let values = one.or_else(|| Some(keywords.get("enum")?.as_array()?.as_slice()))?;
        if values.len() > ALTERNATIVES {
            return Some(opaque_any("the size of its enum", schema));
        }
        let shapes = values.iter().filter_map(|value| {
            let mut shape = Shape::from(Kind::Literal(value));
            match is_valid(&self.document, schema, value) {
                Tri::No => return None,
                Tri::Yes => {}
                Tri::Unknown => shape.opaque.push(Opaque { keyword: "enum", argument: schema }),
            }
            Some(shape)
        });
        Some(shapes.collect())
    }

    fn applied(
        &self,
        schema: &'a Value,
        keywords: &'a Map<String, Value>,
        within: &mut Vec<Term<'a>>,
    ) -> Met<'a> {
        let mut met = self.own(keywords);
        if let Some(reference) = keywords.get("$ref") {
            let target = reference.as_str().and_then(|it| self.document.resolve(it));
            let its = match target {
                Some(target) => self.schema(target, within),
                None => Some(opaque_any("$ref", reference)),
            };
            met = self.meet(met, its, schema);
        }
        for part in schemas(keywords, "allOf") {
            let its = self.schema(part, within);
            met = self.meet(met, its, schema);
        }
        if let Some(branches) = keywords.get("anyOf").and_then(Value::as_array) {
            let mut union = Some(Vec::new());
            for branch in branches {
                let mut its = self.schema(branch, within);
                // An object of one branch, or without its fields: an option that is flattened.
                if self.document.role == Role::Sent {
                    its = its.or_else(|| Some(any()));
                }
                union = union.zip(its).map(|(union, its)| [union, its].concat());
            }
            met = self.meet(met, union, schema);
        }
        if let Some(branches) = keywords.get("oneOf").and_then(Value::as_array) {
            let mut union = Vec::new();
            for (at, branch) in branches.iter().enumerate() {
                for mut shape in self.schema(branch, within).unwrap_or_else(any) {
                    if self.document.role == Role::Taken && branches.len() > 1 {
                        shape.excluded.push(Excluded::Others(branches, at));
                    }
                    union.push(shape);
                }
            }
            met = self.meet(met, Some(union), schema);
        }
        if let Some(not) = keywords.get("not") {
            let mut shapes = if is_any(not) { Vec::new() } else { met.unwrap_or_else(any) };
            shapes.iter_mut().for_each(|it| it.excluded.push(Excluded::Schema(not)));
            met = Some(shapes);
        }
        self.rest(keywords, met)
    }

    /// What remains when both apply.
    fn meet(&self, a: Met<'a>, b: Met<'a>, schema: &'a Value) -> Met<'a> {
        let (a, b) = match (a, b) {
            (Some(a), Some(b)) => (a, b),
            (one, other) => return one.or(other),
        };
        let pairs = a.len().saturating_mul(b.len());
        if pairs > ALTERNATIVES * 8 || !self.document.fuel.burn(pairs / 2) {
            let mut a = a;
            for shape in &mut a {
                shape.opaque.push(Opaque { keyword: "allOf", argument: schema });
            }
            return Some(a);
        }
        let mut both = Vec::new();
        for one in &a {
            both.extend(b.iter().filter_map(|other| one.and(other, &self.document)));
        }
        Some(both)
    }

    /// What the keywords say that are about one type each.
    fn own(&self, keywords: &'a Map<String, Value>) -> Met<'a> {
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
                "array" => shapes.extend(lists(keywords)),
                "object" => shapes.push(self.record(keywords)),
                _ => shapes.extend(opaque_any("type", &keywords["type"])),
            }
        }
        if !keywords.contains_key("type") {
            shapes
                .iter_mut()
                .for_each(|it| it.unsaid = !keywords.keys().any(|k| it.is_meant_by(k)));
        }
        for keyword in ["if", "then", "else", "$dynamicRef", "$recursiveRef"] {
            if let Some((keyword, argument)) = keywords.get_key_value(keyword) {
                shapes.iter_mut().for_each(|it| it.opaque.push(Opaque { keyword, argument }));
            }
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

    fn record(&self, keywords: &'a Map<String, Value>) -> Shape<'a> {
        let map = |keyword| keywords.get(keyword).and_then(Value::as_object).into_iter().flatten();
        let mut records = Records {
            min: count(keywords, "minProperties").unwrap_or(0),
            max: count(keywords, "maxProperties"),
            required: schemas(keywords, "required").iter().filter_map(Value::as_str).collect(),
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
        }
        let mut shape = Shape::from(Kind::Record(Box::new(records)));
        for keyword in ["dependencies", "dependentRequired", "dependentSchemas"] {
            push_opaque(&mut shape, keywords, keyword);
        }
        shape
    }

    /// Whether it is an object of which nothing is said, a dict of Python for one. A type without
    /// fields has the same schema, and a name beside it: a title, or a place in the definitions.
    fn is_bare(&self, keywords: &Map<String, Value>) -> bool {
        let about_objects = Shape::from(Kind::Record(Box::default()));
        let definitions = self.document.root.get("$defs").and_then(Value::as_object);
        let mut definitions = definitions.into_iter().flat_map(Map::values);
        let speaks = |keyword: &str| about_objects.is_meant_by(keyword) || applies_others(keyword);
        !keywords.keys().any(|keyword| speaks(keyword))
            && !keywords.contains_key("title")
            && !definitions.any(|it| it.as_object().is_some_and(|it| std::ptr::eq(it, keywords)))
    }

    /// With what `unevaluatedProperties` says of the fields that nothing else speaks of.
    fn rest(&self, keywords: &'a Map<String, Value>, met: Met<'a>) -> Met<'a> {
        let Some(unevaluated) = keywords.get("unevaluatedProperties") else { return met };
        let mut shapes = met.unwrap_or_else(any);
        for shape in &mut shapes {
            if let Kind::Record(records) = &mut shape.kind
                && records.rest.is_none()
            {
                records.rest = Some(Conj::of(unevaluated));
            }
        }
        Some(shapes)
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

fn lists(keywords: &Map<String, Value>) -> Option<Shape<'_>> {
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
        push_opaque(&mut shape, keywords, "items");
        push_opaque(&mut shape, keywords, "additionalItems");
    }
    for keyword in ["contains", "minContains", "maxContains", "unevaluatedItems"] {
        push_opaque(&mut shape, keywords, keyword);
    }
    Some(shape)
}

fn push_opaque<'a>(shape: &mut Shape<'a>, keywords: &'a Map<String, Value>, keyword: &str) {
    if let Some((keyword, argument)) = keywords.get_key_value(keyword) {
        shape.opaque.push(Opaque { keyword, argument });
    }
}

/// A value of any type.
fn any<'a>() -> Vec<Shape<'a>> {
    let literals = [&NULL, &FALSE, &TRUE].map(Kind::Literal);
    let unsaid = |kind| Shape { unsaid: true, ..Shape::from(kind) };
    let others = [
        Kind::Number(Numbers::default()),
        Kind::Text(Texts::default()),
        Kind::List(Lists::default()),
        Kind::Record(Box::default()),
    ];
    literals.into_iter().chain(others).map(unsaid).collect()
}

/// A value of any type that something more is said of.
fn opaque_any<'a>(keyword: &'a str, argument: &'a Value) -> Vec<Shape<'a>> {
    let mut all = any();
    all.iter_mut().for_each(|it| it.opaque.push(Opaque { keyword, argument }));
    all
}
