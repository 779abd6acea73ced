//! How a schema becomes alternatives.

mod own;

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use serde_json::{Map, Value};

use crate::{
    document::{Conj, Document, Role, Term},
    keywords::{asserts, is_any, is_well_formed, schemas},
    shape::{
        Excluded, FALSE, Kind, Lists, NULL, Numbers, Opaque, Records, Same, Shape, TRUE, Texts,
    },
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
                let met = conj.terms.iter().fold(None, |met: Met<'a>, term| {
                    let its = self.of_schema(term.0);
                    Some(match met {
                        Some(met) => self.both(met, &its, term.0),
                        None => {
                            let weight: usize = its.iter().map(Shape::weight).sum();
                            self.document.fuel.burn(weight);
                            its.to_vec()
                        }
                    })
                });
                met.unwrap_or_else(|| self.any()).into()
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
        let alternatives: Alternatives<'a> = met.unwrap_or_else(|| self.any()).into();
        self.terms.borrow_mut().insert(Term(schema), alternatives.clone());
        alternatives
    }

    fn schema(&self, schema: &'a Value, within: &mut Vec<Term<'a>>) -> Met<'a> {
        let keywords = match schema {
            Value::Bool(true) => return None,
            Value::Bool(false) => return Some(Vec::new()),
            Value::Object(keywords) => keywords,
            _ => return Some(self.opaque_any("no schema", schema, Same::Never)),
        };
        if is_any(schema) {
            return None;
        }
        // Within itself, without a step into the value: nothing that can be followed.
        if within.len() >= DEPTH || within.contains(&Term(schema)) {
            return Some(self.opaque_any("$ref", schema, Same::Schema));
        }
        if !self.document.fuel.burn(1 + keywords.len()) {
            return Some(self.opaque_any("its size", schema, Same::Schema));
        }
        let mut said = keywords.iter().filter(|(keyword, _)| asserts(keyword));
        if let Some((wrong, _)) = said.find(|(keyword, it)| !is_well_formed(keyword, it)) {
            return Some(self.opaque_any(wrong, schema, Same::Never));
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
            return Some(self.opaque_any("the size of its enum", schema, Same::Schema));
        }
        let shapes = values.iter().filter_map(|value| {
            let mut shape = Shape::from(Kind::Literal(value));
            match is_valid(&self.document, schema, value) {
                Tri::No => return None,
                Tri::Yes => {}
                Tri::Unknown => {
                    shape.opaque.push(Opaque { keyword: "enum", schema, same: Same::Schema });
                }
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
        let mut met = self.own(schema, keywords);
        if let Some(reference) = keywords.get("$ref") {
            let target = reference.as_str().and_then(|it| self.document.resolve(it));
            let its = match target {
                Some(target) => self.schema(target, within),
                None => Some(self.opaque_any("$ref", schema, Same::Never)),
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
                    its = its.or_else(|| Some(self.any()));
                }
                match (&mut union, its) {
                    (Some(union), Some(its)) => union.extend(its),
                    _ => union = None,
                }
            }
            met = self.meet(met, union, schema);
        }
        if let Some(branches) = keywords.get("oneOf").and_then(Value::as_array) {
            let mut union = Vec::new();
            for (at, branch) in branches.iter().enumerate() {
                for mut shape in self.schema(branch, within).unwrap_or_else(|| self.any()) {
                    if self.document.role == Role::Taken && branches.len() > 1 {
                        shape.excluded.push(Excluded::Others(branches, at));
                    }
                    union.push(shape);
                }
            }
            met = self.meet(met, Some(union), schema);
        }
        if let Some(not) = keywords.get("not") {
            let mut shapes =
                if is_any(not) { Vec::new() } else { met.unwrap_or_else(|| self.any()) };
            shapes.iter_mut().for_each(|it| it.excluded.push(Excluded::Schema(not)));
            met = Some(shapes);
        }
        self.rest(keywords, met)
    }

    /// What remains when both apply.
    fn meet(&self, a: Met<'a>, b: Met<'a>, schema: &'a Value) -> Met<'a> {
        match (a, b) {
            (Some(a), Some(b)) => Some(self.both(a, &b, schema)),
            (one, other) => one.or(other),
        }
    }

    fn both(&self, a: Vec<Shape<'a>>, b: &[Shape<'a>], schema: &'a Value) -> Vec<Shape<'a>> {
        let pairs = a.len().saturating_mul(b.len());
        if pairs > ALTERNATIVES * 8 || !self.document.fuel.burn(pairs / 2) {
            let mut a = a;
            for shape in &mut a {
                shape.opaque.push(Opaque { keyword: "allOf", schema, same: Same::Schema });
                shape.opened(self.document.role);
            }
            return a;
        }
        let mut both = Vec::new();
        for one in &a {
            both.extend(b.iter().filter_map(|other| one.and(other, &self.document)));
        }
        both
    }

    /// With what `unevaluatedProperties` says of the fields that nothing else speaks of. Which
    /// those are is more than one alternative tells: they may be fewer, so nothing is excluded by
    /// that.
    fn rest(&self, keywords: &'a Map<String, Value>, met: Met<'a>) -> Met<'a> {
        let unevaluated = keywords.get("unevaluatedProperties");
        let unevaluated = unevaluated.filter(|_| self.document.role != Role::Excluded);
        let Some(unevaluated) = unevaluated else { return met };
        let mut shapes = met.unwrap_or_else(|| self.any());
        for shape in &mut shapes {
            let more = shape.may_declare_more();
            if let Kind::Record(records) = &mut shape.kind
                && (records.rest.is_none() || (records.bare && !more))
            {
                records.rest = Some(Conj::of(unevaluated));
                records.bare = false;
                shape.unsaid = false;
            }
        }
        Some(shapes)
    }

    /// A value of any type.
    fn any(&self) -> Vec<Shape<'a>> {
        let literals = [&NULL, &FALSE, &TRUE].map(Kind::Literal);
        let unsaid = |kind| Shape { unsaid: true, ..Shape::from(kind) };
        let others = [
            Kind::Number(Numbers::default()),
            Kind::Text(Texts::default()),
            Kind::List(Lists::default()),
            Kind::Record(Box::new(self.of_any_fields())),
        ];
        literals.into_iter().chain(others).map(unsaid).collect()
    }

    /// Objects of which nothing is said. A sender that says nothing of them may send any field.
    fn of_any_fields(&self) -> Records<'a> {
        let bare = self.document.role == Role::Sent;
        Records { rest: bare.then(|| Conj::of(&TRUE)), bare, ..Records::default() }
    }

    /// A value of any type that something more is said of.
    fn opaque_any(&self, keyword: &'a str, schema: &'a Value, same: Same) -> Vec<Shape<'a>> {
        let mut all = self.any();
        all.iter_mut().for_each(|it| it.opaque.push(Opaque { keyword, schema, same }));
        all
    }
}
