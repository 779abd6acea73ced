//! Contracts between plugins: whether what one sends is what another one takes.
//!
//! Both are told by JSON Schemas, as `schemars` derives them from types of serde. The question is
//! whether every value of one is valid under the other, and [`compare`] answers it. This crate
//! knows neither plugins nor events: who sends what to whom is asked elsewhere.
//!
//! # What a schema is taken to say
//!
//! What is sent is what a type becomes, and what is taken is what a type is made of:
//!
//! - A sender sends the fields that its schema declares, and others only if it says of what schema
//!   they are, with `additionalProperties` for one. A receiver takes fields that it does not know
//!   unless it refuses them: serde leaves them out.
//! - Of an `anyOf`, a sender sends the fields of one branch.
//! - A sender whose schema says nothing of a value (`true`, `{}`, a `Value`) may send what is
//!   taken. That is undecided, and no break.
//! - Formats are assertions. Those of integers are ranges, an integer that a sender gives no size
//!   has 64 bits, and a format of strings that is not known fits itself alone.
//! - Words for people do not matter.
//!
//! `schemars` derives two schemas of a type, which differ where a field has a default or is left
//! out: what is sent is the one of `for_serialize`. By the other one, a field with a default may be
//! missing whenever it is sent.
//!
//! # What a verdict is worth
//!
//! *Compatible* is proved. *Broken* comes with a value that is valid under the sender's schema and
//! not under the receiver's, which was looked at as a whole. Everything else is *undecided*:
//! keywords that are compared by equality only, those that belong together as one (`if`,
//! `contains`, `dependentSchemas` and their like, patterns, `not` beyond what is plainly apart),
//! references that are not JSON pointers into the document, keywords with arguments of a wrong
//! type, and schemas that are deeper or larger than a comparison may be. The work has a bound,
//! whatever the schemas are; so has the depth of the stack.
//!
//! # Why this is code of its own
//!
//! `jsoncompat` 0.5.0 asks the same question, with a proof, a counterexample and an "unknown". Held
//! against the types of this crate's tests, with the ranges of integers written out for it, 47 of
//! 218 pairs that it calls compatible are not: it has a sender leave out all that is not declared,
//! which is what maps are made of. 147 of 1,522 types that had become wider were unknown to it. A
//! pair took it 1.3 ms in a release build, fifty times what 2,000 pairs in 50 ms have; it names
//! neither the place nor the kind of a break, and brings 160 crates, OpenAPI and a code generator
//! among them. `json-schema-diff` 0.1.8 lists what has changed and calls itself incomplete; it does
//! not say what would fail.

mod verdict;

mod number;
mod tri;

mod keywords;
mod pattern;

mod document;
mod format;
mod valid;

mod shape;
mod shapes;

mod disjoint;
mod same;
mod sample;

mod compare;
mod describe;

pub use verdict::{Break, BreakKind, Undecided, Verdict};

use serde_json::Value;

use compare::{Comparison, Finding};
use document::{Fuel, is_deeper_than};

/// How many steps a comparison may take: some tens of milliseconds. Usual ones take a few hundred.
const STEPS: u32 = 50_000;

/// How deep a schema may be nested. JSON that is read has 128 levels at most, and a schema that
/// spells such a value out has twice as many.
const LEVELS: usize = 260;

/// Whether every value of `sent` is valid under `taken`.
///
/// The two are JSON Schemas: of an event's payload as its emitter declares it, and as its handler
/// takes it; or of a reply as the handler gives it, and as the caller reads it.
///
/// ```
/// use ksi_contracts::{BreakKind, Verdict, compare};
/// use serde_json::json;
///
/// let order = |price: &str| {
///     json!({
///         "type": "object",
///         "properties": {"name": {"type": "string"}, "price": {"type": price}},
///         "required": ["name", "price"]
///     })
/// };
/// assert_eq!(compare(&order("integer"), &order("number")), Verdict::Compatible);
///
/// let Verdict::Broken(breaks) = compare(&order("number"), &order("integer")) else { panic!() };
/// assert_eq!((breaks[0].path.as_str(), breaks[0].kind), ("/price", BreakKind::TypeChanged));
/// assert_eq!(
///     breaks[0].to_string(),
///     "/price: type changed: a number is sent, an integer is taken; \
///      {\"name\":\"a\",\"price\":0.5} would fail"
/// );
/// ```
pub fn compare(sent: &Value, taken: &Value) -> Verdict {
    for (schema, whose) in [(sent, "sender"), (taken, "receiver")] {
        if !schema.is_object() && !schema.is_boolean() {
            let reason = format!("the {whose} has no schema");
            return Verdict::Undecided(vec![Undecided { path: String::new(), reason }]);
        }
        if is_deeper_than(LEVELS, schema) {
            let reason = format!("the {whose}'s schema is nested more than {LEVELS} levels deep");
            return Verdict::Undecided(vec![Undecided { path: String::new(), reason }]);
        }
    }
    // One and the same document, whatever its references lead to.
    if sent == taken {
        return Verdict::Compatible;
    }
    let fuel = Fuel::new(STEPS);
    let mut comparison = Comparison::new(sent, taken, &fuel);
    if comparison.are_same() {
        return Verdict::Compatible;
    }
    verdict(comparison.run())
}

fn verdict(findings: Vec<Finding>) -> Verdict {
    if findings.is_empty() {
        return Verdict::Compatible;
    }
    let mut breaks = Vec::new();
    let mut undecided = Vec::new();
    for Finding { path, kind, detail, example, .. } in findings {
        match example {
            Some(example) => breaks.push(Break { path, kind, detail, example }),
            None => undecided.push(Undecided { path, reason: detail }),
        }
    }
    if breaks.is_empty() { Verdict::Undecided(undecided) } else { Verdict::Broken(breaks) }
}
