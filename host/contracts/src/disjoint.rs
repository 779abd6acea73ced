//! Whether two schemas certainly have no value in common.

use serde_json::Value;

use crate::{
    document::{Conj, Role},
    shape::{Kind, Records, Shape},
    shapes::Shapes,
    tri::Tri,
};

/// How deep it is looked for a difference: tags lie in the outermost fields.
const DEPTH: u32 = 3;

/// Whether no value is of both shapes. They may be of two documents.
pub(crate) fn are_disjoint<'a>(
    a: &Shape<'a>,
    of: &Shapes<'a>,
    b: &Shape<'a>,
    in_: &Shapes<'a>,
) -> bool {
    disjoint(a, of, b, in_, DEPTH)
}

/// Whether no value of a shape is valid under a schema.
pub(crate) fn is_disjoint_from<'a>(
    shape: &Shape<'a>,
    of: &Shapes<'a>,
    schema: &'a Value,
    in_: &Shapes<'a>,
) -> bool {
    in_.of_schema(schema).iter().all(|it| disjoint(shape, of, it, in_, DEPTH))
}

fn disjoint<'a>(
    a: &Shape<'a>,
    of: &Shapes<'a>,
    b: &Shape<'a>,
    in_: &Shapes<'a>,
    depth: u32,
) -> bool {
    if !of.document.fuel.burn(1) {
        return false;
    }
    if a.is_of() != b.is_of() {
        return true;
    }
    match (&a.kind, &b.kind) {
        (Kind::Literal(value), _) => b.accepts(value, &in_.document) == Tri::No,
        (_, Kind::Literal(value)) => a.accepts(value, &of.document) == Tri::No,
        (Kind::Number(a), Kind::Number(b)) => {
            let below = |x: Option<_>, y: Option<_>| matches!((x, y), (Some(x), Some(y)) if x < y);
            below(a.upper(), b.lower()) || below(b.upper(), a.lower())
        }
        (Kind::Text(a), Kind::Text(b)) => {
            a.max.is_some_and(|max| max < b.min) || b.max.is_some_and(|max| max < a.min)
        }
        (Kind::List(a), Kind::List(b)) => {
            if a.max.is_some_and(|max| max < b.min) || b.max.is_some_and(|max| max < a.min) {
                return true;
            }
            let certain = a.min.max(b.min).min(8) as usize;
            depth > 0 && (0..certain).any(|at| conjs(a.at(at), of, b.at(at), in_, depth - 1))
        }
        (Kind::Record(a), Kind::Record(b)) => {
            if !of.document.fuel.burn((a.required.len() + b.required.len()) / 8) {
                return false;
            }
            let mut certain = a.required.iter().chain(&b.required);
            depth > 0
                && certain.any(|name| match (at(a, of, name), at(b, in_, name)) {
                    (Some(a), Some(b)) => conjs(&a, of, &b, in_, depth - 1),
                    (None, _) | (_, None) => true,
                })
        }
        _ => false,
    }
}

/// What a field may be; `None` if there is never one of this name.
fn at<'a>(records: &Records<'a>, shapes: &Shapes<'a>, name: &str) -> Option<Conj<'a>> {
    match records.at(name, &shapes.document) {
        Some(conj) if conj.is_never() => None,
        Some(conj) => Some(conj),
        None if shapes.document.role == Role::Sent && !records.required.contains(name) => None,
        None => Some(Conj::default()),
    }
}

fn conjs<'a>(a: &Conj<'a>, of: &Shapes<'a>, b: &Conj<'a>, in_: &Shapes<'a>, depth: u32) -> bool {
    if a.is_any() || b.is_any() {
        return a.is_never() || b.is_never();
    }
    let (a, b) = (of.of(a), in_.of(b));
    a.iter().all(|a| b.iter().all(|b| disjoint(a, of, b, in_, depth)))
}
