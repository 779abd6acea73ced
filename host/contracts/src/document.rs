//! One of the two schemas as a document: where references lead, which part of it says nothing, and
//! how much work it may still cause.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::{HashMap, HashSet},
    hash::{Hash, Hasher},
    ptr,
    rc::Rc,
};

use serde_json::Value;
use smallvec::{SmallVec, smallvec};

use crate::{
    keywords::{asserts, is_any},
    number::Num,
    pattern::{self, Pattern},
    tri::Tri,
};

/// Which of the two a document is. What is sent is read as what a type of the sender's can become:
/// an object has no other fields than those that are declared, unless it says that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Sent,
    Taken,
    /// What is taken once more, for those of its schemas that a value must not be valid under.
    Excluded,
}

/// How many steps are left to both documents of a comparison. Every part of it pays for what it
/// does, and ends when nothing is left; what was not found by then is undecided.
#[derive(Debug)]
pub(crate) struct Fuel(Cell<u32>);

impl Fuel {
    pub(crate) fn new(steps: u32) -> Fuel {
        Fuel(Cell::new(steps))
    }

    /// Whether there was enough for this.
    pub(crate) fn burn(&self, steps: usize) -> bool {
        let left = u32::try_from(steps).ok().and_then(|steps| self.0.get().checked_sub(steps));
        self.0.set(left.unwrap_or(0));
        left.is_some()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.get() == 0
    }

    pub(crate) fn left(&self) -> usize {
        self.0.get() as usize
    }
}

/// A schema.
pub(crate) struct Document<'a> {
    pub(crate) root: &'a Value,
    pub(crate) role: Role,
    pub(crate) fuel: &'a Fuel,
    patterns: RefCell<HashMap<&'a str, Option<Pattern>>>,
    /// The values of an `enum`, by its place.
    enums: RefCell<HashMap<Term<'a>, Rc<Members<'a>>>>,
    /// Whether a part of it has an identifier of its own, and references in it another meaning.
    embeds: OnceCell<bool>,
}

impl<'a> Document<'a> {
    pub(crate) fn new(root: &'a Value, role: Role, fuel: &'a Fuel) -> Self {
        Document {
            root,
            role,
            fuel,
            patterns: RefCell::default(),
            enums: RefCell::default(),
            embeds: OnceCell::new(),
        }
    }

    /// Where a reference within the document leads to.
    pub(crate) fn resolve(&self, reference: &str) -> Option<&'a Value> {
        if !self.fuel.burn(reference.len() / 256) {
            return None;
        }
        let pointer = reference.strip_prefix('#')?;
        if *self.embeds.get_or_init(|| embeds_another(self.root)) {
            return None;
        }
        if !pointer.contains('%') {
            return self.root.pointer(pointer);
        }
        self.root.pointer(&percent_decoded(pointer)?)
    }

    /// The same schemas, without the references that say nothing else.
    pub(crate) fn followed(&self, conj: &Conj<'a>) -> Conj<'a> {
        // No chain of references is that long.
        const CHAIN: usize = 8;
        let mut followed = conj.clone();
        for term in &mut followed.terms {
            for _ in 0..CHAIN {
                let Some(keywords) = term.0.as_object() else { break };
                let mut said = keywords.iter().filter(|(keyword, _)| asserts(keyword));
                let (Some((keyword, target)), None) = (said.next(), said.next()) else { break };
                let target = target.as_str().filter(|_| keyword == "$ref");
                let Some(target) = target.and_then(|it| self.resolve(it)) else { break };
                *term = Term(target);
            }
        }
        followed
    }

    /// Whether a value is one of those of an `enum`.
    pub(crate) fn is_among(&self, values: &'a Value, value: &Value) -> Tri {
        let Some(all) = values.as_array() else { return Tri::Unknown };
        if !self.fuel.burn(value.as_str().map_or(0, str::len) / 1024) {
            return Tri::Unknown;
        }
        let known = self.enums.borrow().get(&Term(values)).cloned();
        let members = match known {
            Some(members) => members,
            None if self.fuel.burn(all.len() / 8) => {
                let members = Rc::new(Members::of(all));
                self.enums.borrow_mut().insert(Term(values), members.clone());
                members
            }
            None => return Tri::Unknown,
        };
        match (value, Num::of(value)) {
            (Value::String(text), _) => members.texts.contains(text.as_str()).into(),
            (_, Some(Num::Int(int))) => members.integers.contains(&int).into(),
            _ if !self.fuel.burn(members.others.len() / 8) => Tri::Unknown,
            // Not the case if each of them is another one.
            _ => Tri::all(members.others.iter().map(|it| self.are_equal(it, value).negated()))
                .negated(),
        }
    }

    /// Whether two values are the same, 1 and 1.0 included, as far as there is fuel to find it out.
    pub(crate) fn are_equal(&self, a: &Value, b: &Value) -> Tri {
        let paid = |parts: usize| self.fuel.burn(parts / 8);
        match (a, b) {
            (Value::Number(_), Value::Number(_)) => Tri::from(Num::of(a) == Num::of(b)),
            (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
                let parts = a.iter().zip(b).map(|(a, b)| self.are_equal(a, b));
                if paid(a.len()) { Tri::all(parts) } else { Tri::Unknown }
            }
            (Value::Object(a), Value::Object(b)) if a.len() == b.len() => {
                let parts =
                    a.iter().map(|(name, a)| b.get(name).map_or(Tri::No, |b| self.are_equal(a, b)));
                if paid(a.len()) { Tri::all(parts) } else { Tri::Unknown }
            }
            (Value::Array(_) | Value::Object(_), _) => Tri::No,
            (Value::String(a), Value::String(b)) if a.len() == b.len() => {
                if paid(a.len() / 512) {
                    Tri::from(a == b)
                } else {
                    Tri::Unknown
                }
            }
            _ => Tri::from(a == b),
        }
    }

    /// Whether a pattern is found in a text.
    pub(crate) fn matches(&self, pattern: &'a str, text: &str) -> Tri {
        if !self.fuel.burn(1) || pattern.len() > pattern::LONGEST {
            return Tri::Unknown;
        }
        let mut patterns = self.patterns.borrow_mut();
        let compiled = patterns.entry(pattern).or_insert_with(|| {
            let mut sizes = pattern::SIZES.iter();
            sizes.find_map(|size| {
                self.fuel.burn(size / 256).then(|| Pattern::new(pattern, *size))?
            })
        });
        let Some(compiled) = compiled else { return Tri::Unknown };
        if !self.fuel.burn(compiled.cost(text)) {
            return Tri::Unknown;
        }
        compiled.is_found_in(text)
    }
}

/// The values of an `enum`, for those that there are many of in one.
struct Members<'a> {
    texts: HashSet<&'a str>,
    integers: HashSet<i128>,
    others: Vec<&'a Value>,
}

impl<'a> Members<'a> {
    fn of(all: &'a [Value]) -> Self {
        let integer = |value: &Value| match Num::of(value) {
            Some(Num::Int(int)) => Some(int),
            _ => None,
        };
        let is_other = |value: &&Value| !value.is_string() && integer(value).is_none();
        Members {
            texts: all.iter().filter_map(Value::as_str).collect(),
            integers: all.iter().filter_map(integer).collect(),
            others: all.iter().filter(is_other).collect(),
        }
    }
}

fn embeds_another(root: &Value) -> bool {
    let mut open = vec![root];
    while let Some(value) = open.pop() {
        match value {
            Value::Array(items) => open.extend(items.iter().filter(|it| has_parts(it))),
            Value::Object(fields) => {
                if fields.get("$id").is_some_and(Value::is_string) && !ptr::eq(value, root) {
                    return true;
                }
                open.extend(fields.values().filter(|it| has_parts(it)));
            }
            _ => {}
        }
    }
    false
}

/// What a copy of a value costs, counted no further than `most`.
pub(crate) fn weight(value: &Value, most: usize) -> usize {
    const BYTES: usize = 256;
    let parts = |parts: usize, of: &mut dyn Iterator<Item = &Value>| {
        let mut sum = parts / 16;
        for part in of {
            if sum > most {
                break;
            }
            sum += weight(part, most - sum.min(most));
        }
        sum
    };
    match value {
        Value::String(text) => text.len() / BYTES,
        Value::Array(items) => 1 + parts(items.len(), &mut items.iter()),
        Value::Object(fields) => {
            let names: usize = fields.keys().map(|it| it.len() / BYTES).sum();
            1 + names + parts(fields.len(), &mut fields.values())
        }
        _ => 0,
    }
}

/// Whether a value goes deeper than so many levels. Whoever follows it, copies it or writes it
/// needs as much of the stack.
pub(crate) fn is_deeper_than(levels: usize, value: &Value) -> bool {
    let mut open = vec![(value, 0)];
    while let Some((value, level)) = open.pop() {
        if level > levels {
            return true;
        }
        match value {
            Value::Array(items) => {
                open.extend(items.iter().filter(|it| has_parts(it)).map(|it| (it, level + 1)));
            }
            Value::Object(fields) => {
                open.extend(fields.values().filter(|it| has_parts(it)).map(|it| (it, level + 1)));
            }
            _ => {}
        }
    }
    false
}

fn has_parts(value: &Value) -> bool {
    value.is_array() || value.is_object()
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        decoded.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(decoded).ok()
}

/// A place in a document.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Term<'a>(pub(crate) &'a Value);

impl PartialEq for Term<'_> {
    fn eq(&self, other: &Self) -> bool {
        ptr::eq(self.0, other.0)
    }
}

impl Eq for Term<'_> {}

impl Hash for Term<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        ptr::hash(self.0, state);
    }
}

/// Schemas of one document that all apply to the same value; any value if there are none.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Conj<'a> {
    pub(crate) terms: SmallVec<[Term<'a>; 2]>,
    /// Only that one of the alternatives that they have together, by its place among them.
    pub(crate) only: Option<usize>,
}

impl<'a> Conj<'a> {
    pub(crate) fn of(schema: &'a Value) -> Self {
        Conj { terms: smallvec![Term(schema)], only: None }
    }

    pub(crate) fn add(&mut self, schema: &'a Value) {
        if !self.terms.contains(&Term(schema)) {
            self.terms.push(Term(schema));
        }
    }

    pub(crate) fn and(mut self, other: &Conj<'a>) -> Self {
        for term in &other.terms {
            self.add(term.0);
        }
        self
    }

    /// Whether it says nothing of a value.
    pub(crate) fn is_any(&self) -> bool {
        self.only.is_none() && self.terms.iter().all(|term| is_any(term.0))
    }

    /// Whether it plainly says that there is no value.
    pub(crate) fn is_never(&self) -> bool {
        self.terms.iter().any(|term| term.0 == &Value::Bool(false))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_reference_leads_to_its_definition_however_it_is_written() {
        let root = json!({"$defs": {"A": {"type": "null"}, "B<C>": true, "d/e": false}});
        let fuel = Fuel::new(10);
        let document = Document::new(&root, Role::Taken, &fuel);
        assert_eq!(document.resolve("#"), Some(&root));
        assert_eq!(document.resolve("#/$defs/A"), Some(&json!({"type": "null"})));
        assert_eq!(document.resolve("#/$defs/B%3CC%3E"), Some(&json!(true)));
        assert_eq!(document.resolve("#/$defs/d~1e"), Some(&json!(false)));
        for nowhere in ["#/$defs/F", "https://example.com/", "#anchor", "#/%", "#/%zz", "#/%ff"] {
            assert_eq!(document.resolve(nowhere), None, "{nowhere}");
        }
    }
}
