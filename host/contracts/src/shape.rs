//! What a schema says of a value, as alternatives of one type each: the form in which two schemas
//! are compared.
//!
//! On the side of what is sent the alternatives may cover more than the schema, and on the other
//! side less, never the other way round: so what is found compatible is.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use serde_json::Value;
use smallvec::SmallVec;

use crate::{
    document::{Conj, Document, Role},
    number::{Num, equal},
    tri::Tri,
    valid::is_valid,
};

/// One alternative.
#[derive(Debug, Clone)]
pub(crate) struct Shape<'a> {
    pub(crate) kind: Kind<'a>,
    /// What its values must not match beside that.
    pub(crate) excluded: SmallVec<[Excluded<'a>; 1]>,
    /// Keywords that restrict it and are compared by equality only.
    pub(crate) opaque: SmallVec<[Opaque<'a>; 1]>,
    /// The schema does not speak of values of this type. Whoever sends one does not say what.
    pub(crate) unsaid: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Excluded<'a> {
    /// Of `not`.
    Schema(&'a Value),
    /// All branches of a `oneOf` but one.
    Others(&'a [Value], usize),
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Opaque<'a> {
    pub(crate) keyword: &'a str,
    pub(crate) argument: &'a Value,
}

/// What type its values have, and which of them they are.
#[derive(Debug, Clone)]
pub(crate) enum Kind<'a> {
    /// Exactly this one.
    Literal(&'a Value),
    Number(Numbers),
    Text(Texts<'a>),
    List(Lists<'a>),
    Record(Box<Records<'a>>),
}

/// Both bounds belong to it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Numbers {
    pub(crate) whole: bool,
    pub(crate) min: Option<Num>,
    pub(crate) max: Option<Num>,
    /// The same for bounds that do not belong to it, of numbers that need not be whole.
    pub(crate) above: Option<Num>,
    pub(crate) below: Option<Num>,
    pub(crate) multiples: SmallVec<[Num; 1]>,
}

/// Lengths are in characters.
#[derive(Debug, Clone, Default)]
pub(crate) struct Texts<'a> {
    pub(crate) min: u64,
    pub(crate) max: Option<u64>,
    pub(crate) patterns: SmallVec<[&'a str; 1]>,
    pub(crate) formats: SmallVec<[&'a str; 1]>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Lists<'a> {
    pub(crate) min: u64,
    pub(crate) max: Option<u64>,
    pub(crate) unique: bool,
    pub(crate) prefix: Vec<Conj<'a>>,
    pub(crate) items: Conj<'a>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Records<'a> {
    /// Those that are declared by name; each with all that applies to it.
    pub(crate) fields: BTreeMap<&'a str, Conj<'a>>,
    pub(crate) required: BTreeSet<&'a str>,
    pub(crate) patterns: Vec<(&'a str, Conj<'a>)>,
    /// All other fields; `None` if nothing is said of them.
    pub(crate) rest: Option<Conj<'a>>,
    /// Of `propertyNames`.
    pub(crate) names: Conj<'a>,
    pub(crate) min: u64,
    pub(crate) max: Option<u64>,
}

/// The types that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Null,
    Boolean,
    Number,
    String,
    Array,
    Object,
}

pub(crate) static NULL: Value = Value::Null;
pub(crate) static TRUE: Value = Value::Bool(true);
pub(crate) static FALSE: Value = Value::Bool(false);
pub(crate) static A_STRING: LazyLock<Value> =
    LazyLock::new(|| serde_json::json!({"type": "string"}));

impl<'a> From<Kind<'a>> for Shape<'a> {
    fn from(kind: Kind<'a>) -> Self {
        Shape { kind, excluded: SmallVec::new(), opaque: SmallVec::new(), unsaid: false }
    }
}

impl Shape<'_> {
    pub(crate) fn is_of(&self) -> Type {
        match &self.kind {
            Kind::Literal(value) => Type::of(value),
            Kind::Number(_) => Type::Number,
            Kind::Text(_) => Type::String,
            Kind::List(_) => Type::Array,
            Kind::Record(_) => Type::Object,
        }
    }
}

impl Shape<'_> {
    /// Whether a keyword is about values of its type alone.
    pub(crate) fn is_meant_by(&self, keyword: &str) -> bool {
        let meant = match keyword {
            "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf" => {
                Type::Number
            }
            "minLength" | "maxLength" | "pattern" | "format" => Type::String,
            "items" | "prefixItems" | "minItems" | "maxItems" | "uniqueItems" | "contains"
            | "unevaluatedItems" | "additionalItems" => Type::Array,
            "properties"
            | "patternProperties"
            | "additionalProperties"
            | "propertyNames"
            | "required"
            | "minProperties"
            | "maxProperties"
            | "dependentRequired"
            | "dependentSchemas"
            | "dependencies" => Type::Object,
            _ => return false,
        };
        meant == self.is_of()
    }
}

impl Type {
    pub(crate) fn of(value: &Value) -> Type {
        match value {
            Value::Null => Type::Null,
            Value::Bool(_) => Type::Boolean,
            Value::Number(_) => Type::Number,
            Value::String(_) => Type::String,
            Value::Array(_) => Type::Array,
            Value::Object(_) => Type::Object,
        }
    }
}

impl<'a> Shape<'a> {
    /// The values that are of both shapes, if there may be any.
    pub(crate) fn and(&self, other: &Shape<'a>, document: &Document<'a>) -> Option<Shape<'a>> {
        let kind = match (&self.kind, &other.kind) {
            (Kind::Literal(value), _) => other.kind.may_be(value, document).then(|| self)?,
            (_, Kind::Literal(value)) => self.kind.may_be(value, document).then(|| other)?,
            _ => self,
        };
        let kind = match (&kind.kind, &self.kind, &other.kind) {
            (literal @ Kind::Literal(_), ..) => literal.clone(),
            (_, Kind::Number(a), Kind::Number(b)) => Kind::Number(a.and(b)?),
            (_, Kind::Text(a), Kind::Text(b)) => Kind::Text(a.and(b)?),
            (_, Kind::List(a), Kind::List(b)) => Kind::List(a.and(b)?),
            (_, Kind::Record(a), Kind::Record(b)) => Kind::Record(Box::new(a.and(b, document))),
            _ => return None,
        };
        let mut both = Shape::from(kind);
        both.excluded.extend(self.excluded.iter().chain(&other.excluded).copied());
        both.opaque.extend(self.opaque.iter().chain(&other.opaque).copied());
        both.unsaid = self.unsaid && other.unsaid;
        Some(both)
    }

    /// Whether a value is of this shape, as far as its kind goes.
    pub(crate) fn accepts(&self, value: &Value, document: &Document<'a>) -> Tri {
        self.kind.accepts(value, document)
    }
}

impl<'a> Kind<'a> {
    fn may_be(&self, value: &Value, document: &Document<'a>) -> bool {
        self.accepts(value, document) != Tri::No
    }

    fn accepts(&self, value: &Value, document: &Document<'a>) -> Tri {
        match (self, value) {
            (Kind::Literal(literal), _) => Tri::from(equal(literal, value)),
            (Kind::Number(numbers), Value::Number(_)) => numbers.accepts(value),
            (Kind::Text(texts), Value::String(text)) => texts.accepts(text, document),
            (Kind::List(lists), Value::Array(items)) => lists.accepts(items, document),
            (Kind::Record(records), Value::Object(fields)) => {
                let declared = fields.iter().fold(Tri::Yes, |all, (name, value)| {
                    let Some(conj) = records.at(name, document) else { return all };
                    all.and(all_valid(document, &conj, value))
                });
                let count = fields.len() as u64;
                let required = records.required.iter().all(|name| fields.contains_key(*name));
                let enough = count >= records.min && records.max.is_none_or(|max| count <= max);
                let names = if records.names.is_any() { Tri::Yes } else { Tri::Unknown };
                declared.and(Tri::from(required && enough)).and(names)
            }
            _ => Tri::No,
        }
    }
}

/// Whether a value is valid under all of some schemas.
pub(crate) fn all_valid<'a>(document: &Document<'a>, conj: &Conj<'a>, value: &Value) -> Tri {
    let verdict =
        conj.terms.iter().fold(Tri::Yes, |all, term| all.and(is_valid(document, term.0, value)));
    if conj.only.is_some() { verdict.and(Tri::Unknown) } else { verdict }
}

impl Numbers {
    fn and(&self, other: &Numbers) -> Option<Numbers> {
        let larger = |a: Option<Num>, b: Option<Num>| a.max(b);
        let smaller = |a: Option<Num>, b: Option<Num>| match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (one, other) => one.or(other),
        };
        let mut multiples = self.multiples.clone();
        multiples.extend(other.multiples.iter().copied());
        Numbers {
            whole: self.whole || other.whole,
            min: larger(self.min, other.min),
            max: smaller(self.max, other.max),
            above: larger(self.above, other.above),
            below: smaller(self.below, other.below),
            multiples,
        }
        .tidied()
    }

    /// With bounds that are whole if the numbers are, and belong to it; `None` if nothing is left.
    pub(crate) fn tidied(mut self) -> Option<Numbers> {
        if self.whole {
            let above = self.above.take().map(|it| it.floor().plus(1));
            let below = self.below.take().map(|it| it.ceil().plus(-1));
            self.min = self.min.map(Num::ceil).max(above);
            self.max = match (self.max.map(Num::floor), below) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (one, other) => one.or(other),
            };
        }
        let (low, high) = (self.min.max(self.above), self.upper());
        let crossed = matches!((low, high), (Some(low), Some(high)) if low > high);
        (!crossed).then_some(self)
    }

    /// The smaller of the two bounds above.
    pub(crate) fn upper(&self) -> Option<Num> {
        match (self.max, self.below) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (one, other) => one.or(other),
        }
    }

    /// The larger of the two bounds below.
    pub(crate) fn lower(&self) -> Option<Num> {
        self.min.max(self.above)
    }

    fn accepts(&self, value: &Value) -> Tri {
        let Some(num) = Num::of(value) else { return Tri::Unknown };
        let within = (!self.whole || num.is_whole())
            && self.min.is_none_or(|min| num >= min)
            && self.max.is_none_or(|max| num <= max)
            && self.above.is_none_or(|above| num > above)
            && self.below.is_none_or(|below| num < below);
        self.multiples.iter().fold(Tri::from(within), |all, by| {
            all.and(match (num, by) {
                (Num::Int(int), Num::Int(by)) if *by > 0 => Tri::from(int % by == 0),
                _ => Tri::Unknown,
            })
        })
    }
}

impl<'a> Texts<'a> {
    fn and(&self, other: &Texts<'a>) -> Option<Texts<'a>> {
        let mut both = self.clone();
        both.min = self.min.max(other.min);
        both.max = least(self.max, other.max);
        for pattern in &other.patterns {
            if !both.patterns.contains(pattern) {
                both.patterns.push(pattern);
            }
        }
        for format in &other.formats {
            if !both.formats.contains(format) {
                both.formats.push(format);
            }
        }
        both.max.is_none_or(|max| both.min <= max).then_some(both)
    }

    fn accepts(&self, text: &str, document: &Document<'a>) -> Tri {
        let length = text.chars().count() as u64;
        let long = length >= self.min && self.max.is_none_or(|max| length <= max);
        let patterns = self.patterns.iter().fold(Tri::from(long), |all, pattern| {
            all.and(if long { document.matches(pattern, text) } else { Tri::No })
        });
        self.formats
            .iter()
            .fold(patterns, |all, format| all.and(crate::format::is_of(format, text)))
    }
}

impl<'a> Lists<'a> {
    /// What applies to the item at a place.
    pub(crate) fn at(&self, index: usize) -> &Conj<'a> {
        self.prefix.get(index).unwrap_or(&self.items)
    }

    fn and(&self, other: &Lists<'a>) -> Option<Lists<'a>> {
        let prefix = self.prefix.len().max(other.prefix.len());
        let both = Lists {
            min: self.min.max(other.min),
            max: least(self.max, other.max),
            unique: self.unique || other.unique,
            prefix: (0..prefix).map(|it| self.at(it).clone().and(other.at(it))).collect(),
            items: self.items.clone().and(&other.items),
        };
        both.max.is_none_or(|max| both.min <= max).then_some(both)
    }

    fn accepts(&self, items: &[Value], document: &Document<'a>) -> Tri {
        let count = items.len() as u64;
        let enough = count >= self.min && self.max.is_none_or(|max| count <= max);
        let unique = if self.unique && count > 1 { Tri::Unknown } else { Tri::Yes };
        items.iter().enumerate().fold(Tri::from(enough).and(unique), |all, (index, item)| {
            if all == Tri::No { all } else { all.and(all_valid(document, self.at(index), item)) }
        })
    }
}

impl<'a> Records<'a> {
    /// What applies to the field of a name; `None` if nothing is said.
    pub(crate) fn at(&self, name: &str, document: &Document<'a>) -> Option<Conj<'a>> {
        if let Some(field) = self.fields.get(name) {
            return Some(field.clone());
        }
        let mut found: Option<Conj<'a>> = None;
        for (pattern, conj) in &self.patterns {
            match document.matches(pattern, name) {
                Tri::Yes => found = Some(found.unwrap_or_default().and(conj)),
                Tri::No => {}
                // It may apply. What is taken is not made larger by that, nor what is sent smaller.
                Tri::Unknown if document.role == Role::Taken => {
                    let rest = self.rest.clone().unwrap_or_default();
                    found = Some(found.unwrap_or(rest).and(conj));
                }
                Tri::Unknown => return Some(Conj::default()),
            }
        }
        found.or_else(|| self.rest.clone())
    }

    fn and(&self, other: &Records<'a>, document: &Document<'a>) -> Records<'a> {
        // It is paid for here, and whoever comes next finds that too little is left.
        document.fuel.burn(self.fields.len() + other.fields.len());
        let mut both = Records {
            required: self.required.union(&other.required).copied().collect(),
            min: self.min.max(other.min),
            max: least(self.max, other.max),
            names: self.names.clone().and(&other.names),
            ..Records::default()
        };
        for name in self.fields.keys().chain(other.fields.keys()) {
            if !both.fields.contains_key(name) {
                let (a, b) = (self.at(name, document), other.at(name, document));
                both.fields.insert(name, a.unwrap_or_default().and(&b.unwrap_or_default()));
            }
        }
        for (one, another) in [(self, other), (other, self)] {
            for (pattern, conj) in &one.patterns {
                let rest = another.rest.as_ref().filter(|_| document.role == Role::Taken);
                let conj = rest.map_or(conj.clone(), |rest| conj.clone().and(rest));
                both.patterns.push((pattern, conj));
            }
        }
        both.rest = match (&self.rest, &other.rest) {
            (Some(a), Some(b)) => Some(a.clone().and(b)),
            (one, another) => one.as_ref().or(another.as_ref()).cloned(),
        };
        both
    }
}

fn least(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}
