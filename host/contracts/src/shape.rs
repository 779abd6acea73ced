//! What a schema says of a value, as alternatives of one type each: the form in which two schemas
//! are compared.
//!
//! On the side of what is sent the alternatives may cover more than the schema, and on the other
//! side less, never the other way round: so what is found compatible is. Of a schema that excludes
//! values they may cover more again.

mod compounds;
mod scalars;

use std::sync::LazyLock;

use serde_json::Value;
use smallvec::SmallVec;

pub(crate) use compounds::{Lists, Records};
pub(crate) use scalars::{Numbers, Texts};

use crate::{
    document::{Conj, Document, Role},
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

/// What a schema says with one keyword or several that belong together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opaque<'a> {
    /// The one that is told of.
    pub(crate) keyword: &'a str,
    pub(crate) schema: &'a Value,
    pub(crate) same: Same,
}

/// What has to be equal in two schemas for what they say to be the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Same {
    Keywords(&'static [&'static str]),
    /// All of them.
    Schema,
    /// Equal or not, it may not be the same: a reference that is not followed.
    Never,
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
        if self.is_of() != other.is_of() {
            return None;
        }
        let mut certain = Tri::Yes;
        let kind = match (&self.kind, &other.kind) {
            (Kind::Literal(value), kind) | (kind, Kind::Literal(value)) => {
                certain = kind.accepts(value, document);
                (certain != Tri::No).then_some(Kind::Literal(value))?
            }
            // Whoever says nothing of objects adds no fields to those of who does.
            (Kind::Record(_), said @ Kind::Record(_)) if self.unsaid => said.clone(),
            (said @ Kind::Record(_), Kind::Record(_)) if other.unsaid => said.clone(),
            (Kind::Number(a), Kind::Number(b)) => Kind::Number(a.and(b)?),
            (Kind::Text(a), Kind::Text(b)) => Kind::Text(a.and(b)?),
            (Kind::List(a), Kind::List(b)) => Kind::List(a.and(b)?),
            (Kind::Record(a), Kind::Record(b)) => Kind::Record(Box::new(a.and(b, document))),
            _ => return None,
        };
        let mut both = Shape::from(kind);
        both.excluded.extend(self.excluded.iter().chain(&other.excluded).copied());
        both.opaque.extend(self.opaque.iter().chain(&other.opaque).copied());
        both.unsaid = self.unsaid && other.unsaid;
        if let (Tri::Unknown, Kind::Literal(value)) = (certain, &both.kind) {
            both.opaque.push(Opaque { keyword: "const", schema: value, same: Same::Never });
        }
        both.opened(document.role);
        Some(both)
    }

    /// With any other fields too, if something declares fields that are not known here and the
    /// schema is a sender's.
    pub(crate) fn opened(&mut self, role: Role) {
        let more = self.may_declare_more();
        if let Kind::Record(records) = &mut self.kind
            && role == Role::Sent
            && records.rest.is_none()
            && more
        {
            records.rest = Some(Conj::of(&TRUE));
        }
    }

    /// Whether something declares fields that are not known here.
    pub(crate) fn may_declare_more(&self) -> bool {
        self.opaque.iter().any(|it| declares(it.keyword))
    }

    /// What a copy of it costs.
    pub(crate) fn weight(&self) -> usize {
        match &self.kind {
            Kind::Record(records) => {
                1 + (records.fields.len() + records.required.len() + records.patterns.len()) / 4
            }
            Kind::List(lists) => 1 + lists.prefix.len() / 4,
            _ => 1,
        }
    }

    /// Whether a value is of this shape, as far as its kind goes.
    pub(crate) fn accepts(&self, value: &Value, document: &Document<'a>) -> Tri {
        self.kind.accepts(value, document)
    }
}

/// Whether a keyword that is not looked into may say which fields there are. All do that apply
/// other schemas to the same value.
fn declares(keyword: &str) -> bool {
    !matches!(
        keyword,
        "additionalItems" | "contains" | "dependentRequired" | "items" | "unevaluatedItems"
    )
}

impl<'a> Kind<'a> {
    fn accepts(&self, value: &Value, document: &Document<'a>) -> Tri {
        match (self, value) {
            (Kind::Literal(literal), _) => document.are_equal(literal, value),
            (Kind::Number(numbers), Value::Number(_)) => numbers.accepts(value),
            (Kind::Text(texts), Value::String(text)) => texts.accepts(text, document),
            (Kind::List(lists), Value::Array(items)) => lists.accepts(items, document),
            (Kind::Record(records), Value::Object(fields)) => records.accepts(fields, document),
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

fn least(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}
