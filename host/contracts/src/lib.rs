//! Contracts between plugins: whether what one sends is what another one takes.
//!
//! Both are told by JSON Schemas, as `schemars` derives them from types of serde. The question is
//! whether every value of one is valid under the other, and [`compare`] answers it. This crate
//! knows neither plugins nor events: who sends what to whom is asked elsewhere.

mod verdict;

mod number;
mod tri;

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
use document::Fuel;

/// How many steps a comparison may take: some ten milliseconds.
const STEPS: u32 = 100_000;

/// Whether every value of `sent` is valid under `taken`.
///
/// The two are JSON Schemas: of an event's payload as its emitter declares it, and as its handler
/// takes it; or of a reply as the handler gives it, and as the caller reads it.
///
/// ```
/// use ksi_contracts::{Verdict, compare};
/// use serde_json::json;
///
/// let schema = json!({"type": "object", "properties": {"name": {"type": "string"}}});
/// assert_eq!(compare(&schema, &schema), Verdict::Compatible);
/// ```
pub fn compare(sent: &Value, taken: &Value) -> Verdict {
    for (schema, whose) in [(sent, "sender"), (taken, "receiver")] {
        if !schema.is_object() && !schema.is_boolean() {
            let reason = format!("the {whose} has no schema");
            return Verdict::Undecided(vec![Undecided { path: String::new(), reason }]);
        }
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
