//! The comparison: a proof that goes through both schemas at once, and, where it does not succeed,
//! a value that shows why.
//!
//! What contains itself is compared by assuming that two schemas fit while they are compared: every
//! step goes into the value, and values are finite. What was assumed on the way to a failure is
//! forgotten with it.

mod kinds;
mod union;

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
};

use serde_json::Value;

use crate::{
    BreakKind, describe,
    disjoint::is_disjoint_from,
    document::{Conj, Document, Fuel, Role, weight},
    same::{are_same, say_the_same},
    sample::{sample_shape, samples},
    shape::{Excluded, Kind, Opaque, Same, Shape, all_valid},
    shapes::Shapes,
    tri::Tri,
};

/// How deep in the value the two are followed.
const DEPTH: u32 = 40;
/// The most places that are told of.
const FINDINGS: usize = 16;

const TOO_LARGE: &str = "the schemas are too large to be compared";
const UNSAID: &str = "the sender's schema does not say what is sent here";

/// A place at which the proof did not succeed.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    pub(crate) path: String,
    pub(crate) kind: BreakKind,
    pub(crate) detail: String,
    /// A value, as a whole, that is sent and not taken. Without one nothing is broken for certain.
    pub(crate) example: Option<Value>,
    /// It is the sender's schema that says too little: an example would be the host's invention.
    open: bool,
}

impl Finding {
    pub(super) fn new(kind: BreakKind, detail: String, example: Option<Value>) -> Self {
        Finding { path: String::new(), kind, detail, example, open: false }
    }

    pub(super) fn undecided(detail: impl Into<String>) -> Self {
        Finding::new(BreakKind::ValuesNarrowed, detail.into(), None)
    }

    /// Undecided, since the sender's schema says nothing.
    pub(super) fn open(detail: &str) -> Self {
        Finding { open: true, ..Finding::undecided(detail) }
    }
}

type Pair<'a> = (Conj<'a>, Conj<'a>);

pub(crate) struct Comparison<'a> {
    pub(crate) sent: Shapes<'a>,
    pub(crate) taken: Shapes<'a>,
    /// What is taken once more, for what is excluded of it.
    excluded: Shapes<'a>,
    fuel: &'a Fuel,
    /// Pairs that fit, or are being compared, and the order in which that was assumed.
    assumed: HashSet<Pair<'a>>,
    order: Vec<Pair<'a>>,
    failed: HashMap<Pair<'a>, Rc<[Finding]>>,
}

impl<'a> Comparison<'a> {
    pub(crate) fn new(sent: &'a Value, taken: &'a Value, fuel: &'a Fuel) -> Self {
        Comparison {
            sent: Shapes::new(Document::new(sent, Role::Sent, fuel)),
            taken: Shapes::new(Document::new(taken, Role::Taken, fuel)),
            excluded: Shapes::new(Document::new(taken, Role::Excluded, fuel)),
            fuel,
            assumed: HashSet::new(),
            order: Vec::new(),
            failed: HashMap::new(),
        }
    }

    /// Whether the two documents are the same to the word.
    pub(crate) fn are_same(&self) -> bool {
        let (sent, taken) = (&self.sent.document, &self.taken.document);
        are_same(sent.root, sent, taken.root, taken)
    }

    /// The places at which they do not fit; none if they do.
    pub(crate) fn run(&mut self) -> Vec<Finding> {
        let sent = Conj::of(self.sent.document.root);
        let taken = Conj::of(self.taken.document.root);
        let mut findings = self.conjs(&sent, &taken, 0);
        if findings.is_empty() && self.fuel.is_empty() {
            return vec![Finding::undecided(TOO_LARGE)];
        }
        // It is shown as it is sent, or not at all.
        for finding in &mut findings {
            finding.example.take_if(|example| {
                all_valid(&self.sent.document, &sent, example) != Tri::Yes
                    || all_valid(&self.taken.document, &taken, example) != Tri::No
            });
        }
        findings.sort_by_key(|it| it.path.matches('/').count());
        // What contains itself has the same break again further inside.
        let mut told: Vec<Finding> = Vec::new();
        for it in findings {
            let again = |told: &Finding| {
                told.kind == it.kind && told.detail == it.detail && it.path.ends_with(&told.path)
            };
            if !told.iter().any(|told| told.example.is_some() && again(told)) {
                told.push(it);
            }
        }
        told
    }

    /// Whether every value of some schemas that is sent is valid under some that are taken.
    fn conjs(&mut self, sent: &Conj<'a>, taken: &Conj<'a>, depth: u32) -> Vec<Finding> {
        if taken.is_any() || sent.is_never() {
            return Vec::new();
        }
        if depth > DEPTH {
            return vec![Finding::undecided("the schemas go deeper than is looked at")];
        }
        if !self.fuel.burn(1) {
            return vec![Finding::undecided(TOO_LARGE)];
        }
        let pair = (self.sent.document.followed(sent), self.taken.document.followed(taken));
        let (sent, taken) = (&pair.0.clone(), &pair.1.clone());
        if let Some(known) = self.failed.get(&pair).cloned() {
            self.pay_for(&known);
            return known.to_vec();
        }
        if !self.assumed.insert(pair.clone()) {
            return Vec::new();
        }
        let before = self.order.len();
        self.order.push(pair.clone());
        let mut findings = Vec::new();
        for shape in self.sent.of(sent).iter() {
            if self.fuel.is_empty() {
                merge(&mut findings, vec![Finding::undecided(TOO_LARGE)]);
                break;
            }
            merge(&mut findings, self.shape(shape, taken, depth));
        }
        if findings.iter().any(|it| it.example.is_none()) && self.are_the_same(sent, taken) {
            findings.clear();
        }
        if !findings.is_empty() {
            for later in self.order.drain(before..) {
                self.assumed.remove(&later);
            }
            self.pay_for(&findings);
            self.failed.insert(pair, findings.clone().into());
        }
        findings
    }

    /// For a copy of them.
    fn pay_for(&self, findings: &[Finding]) {
        let examples = findings.iter().filter_map(|it| it.example.as_ref());
        let weight: usize = examples.map(|it| weight(it, self.fuel.left())).sum();
        self.fuel.burn(weight);
    }

    fn are_the_same(&self, sent: &Conj<'a>, taken: &Conj<'a>) -> bool {
        let ([a], [b]) = (sent.terms.as_slice(), taken.terms.as_slice()) else { return false };
        taken.only.is_none() && are_same(a.0, &self.sent.document, b.0, &self.taken.document)
    }

    /// The same for one alternative of what is sent.
    fn shape(&mut self, sent: &Shape<'a>, taken: &Conj<'a>, depth: u32) -> Vec<Finding> {
        if self.has_no_value(sent) {
            return Vec::new();
        }
        if let Kind::Literal(value) = &sent.kind {
            return self.literal(sent, value, taken);
        }
        let mut findings = self.union(sent, taken, depth);
        if findings.is_empty() {
            return findings;
        }
        if sent.unsaid {
            return vec![Finding::open(UNSAID)];
        }
        self.confirm(sent, taken, &mut findings);
        findings
    }

    fn literal(&self, sent: &Shape<'a>, value: &Value, taken: &Conj<'a>) -> Vec<Finding> {
        let valid = all_valid(&self.taken.document, taken, value);
        if valid == Tri::Yes {
            return Vec::new();
        }
        let alternatives = self.taken.of(taken);
        self.fuel.burn(alternatives.len() / 16);
        let same_type: Vec<_> =
            alternatives.iter().filter(|it| it.is_of() == sent.is_of()).collect();
        let all: Vec<_> = alternatives.iter().collect();
        let kind = kind_of_break(&same_type);
        let shown = if same_type.is_empty() { all } else { same_type };
        let detail = describe::difference(sent, &shown);
        let fails = valid == Tri::No && !sent.unsaid;
        if !fails && sent.unsaid {
            return vec![Finding::open(UNSAID)];
        }
        vec![Finding::new(kind, detail, fails.then(|| value.clone()))]
    }

    /// Leaves those examples that really fail, and looks for another one if there is none.
    fn confirm(&self, sent: &Shape<'a>, taken: &Conj<'a>, findings: &mut Vec<Finding>) {
        let document = &self.taken.document;
        for finding in findings.iter_mut() {
            finding.example.take_if(|it| all_valid(document, taken, it) != Tri::No);
        }
        if findings.iter().any(|it| it.example.is_some()) {
            findings.retain(|it| it.example.is_some());
            return;
        }
        if findings.iter().any(|it| it.open) {
            return;
        }
        let mut values = samples(&self.sent, sent).into_iter();
        let Some(example) = values.find(|it| all_valid(document, taken, it) == Tri::No) else {
            return;
        };
        // The place that was found first is the one that is told of.
        findings.truncate(1);
        findings.iter_mut().for_each(|it| it.example = Some(example.clone()));
    }

    /// Whether a field that every value has can have none.
    fn has_no_value(&self, sent: &Shape<'a>) -> bool {
        let Kind::Record(records) = &sent.kind else { return false };
        self.fuel.burn(records.required.len() / 8);
        records.required.iter().any(|name| {
            records.fields.get(name).is_some_and(|it| it.is_never() || self.sent.of(it).is_empty())
        })
    }

    /// What one alternative of the taken ones demands beside its kind.
    fn beside(&mut self, sent: &Shape<'a>, taken: &Shape<'a>) -> Vec<Finding> {
        for excluded in &taken.excluded {
            let fits = match *excluded {
                Excluded::Schema(schema) => self.excludes(sent, schema),
                Excluded::Others(branches, but) => branches
                    .iter()
                    .enumerate()
                    .all(|(at, branch)| at == but || self.excludes(sent, branch)),
            };
            if !fits {
                let text = "the receiver's schema excludes some values, perhaps of these";
                return vec![Finding::undecided(text)];
            }
        }
        for opaque in &taken.opaque {
            if !sent.opaque.iter().any(|it| self.says_the_same(it, opaque)) {
                let text = format!("`{}` in the receiver's schema is not compared", opaque.keyword);
                return vec![Finding::undecided(text)];
            }
        }
        Vec::new()
    }

    fn says_the_same(&self, sent: &Opaque<'a>, taken: &Opaque<'a>) -> bool {
        let (of, in_) = (&self.sent.document, &self.taken.document);
        (sent.keyword, sent.same) == (taken.keyword, taken.same)
            && match taken.same {
                Same::Keywords(keywords) => {
                    say_the_same(keywords, sent.schema, of, taken.schema, in_)
                }
                Same::Schema => are_same(sent.schema, of, taken.schema, in_),
                Same::Never => false,
            }
    }

    fn excludes(&self, sent: &Shape<'a>, schema: &'a Value) -> bool {
        is_disjoint_from(sent, &self.sent, schema, &self.excluded)
            || sent.excluded.iter().any(|it| match it {
                Excluded::Schema(own) => {
                    are_same(own, &self.sent.document, schema, &self.taken.document)
                }
                Excluded::Others(..) => false,
            })
    }

    /// A value of another type than any that is taken.
    fn other_type(&self, sent: &Shape<'a>, taken: &[Shape<'a>]) -> Finding {
        let taken: Vec<&Shape<'a>> = taken.iter().collect();
        let detail = describe::difference(sent, &taken);
        Finding::new(BreakKind::TypeChanged, detail, sample_shape(&self.sent, sent))
    }
}

fn kind_of_break(same_type: &[&Shape<'_>]) -> BreakKind {
    if same_type.is_empty() { BreakKind::TypeChanged } else { BreakKind::ValuesNarrowed }
}

/// Adds what was not found at the same place in the same way. What is certain has a place in any
/// case, instead of something that is not.
fn merge(findings: &mut Vec<Finding>, more: Vec<Finding>) {
    for it in more {
        let same = |known: &Finding| known.path == it.path && known.kind == it.kind;
        match findings.iter().position(same) {
            Some(at) if findings[at].example.is_none() => findings[at] = it,
            Some(_) => {}
            None if findings.len() < FINDINGS => findings.push(it),
            None if it.example.is_some() => {
                let uncertain = findings.iter().rposition(|it| it.example.is_none());
                uncertain.into_iter().for_each(|at| findings[at] = it.clone());
            }
            None => {}
        }
    }
}
