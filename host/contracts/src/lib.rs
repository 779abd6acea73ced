//! Contracts between plugins: whether what one sends is what another one takes.
//!
//! Both are told by JSON Schemas, as `schemars` derives them from types of serde. The question is
//! whether every value of one is valid under the other, and [`compare`] answers it. This crate
//! knows neither plugins nor events: who sends what to whom is asked elsewhere.

mod verdict;

pub use verdict::{Break, BreakKind, Undecided, Verdict};

use serde_json::Value;

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
    if sent == taken {
        return Verdict::Compatible;
    }
    let reason = "the schemas differ".to_owned();
    Verdict::Undecided(vec![Undecided { path: String::new(), reason }])
}
