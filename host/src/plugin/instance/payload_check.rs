//! What of a payload a handler does not take, by the JSON Schema that its library gave for it.
//!
//! A payload is one value that may be sent, so this is the question of contracts, and answered by
//! the same rules: what is refused is not valid for certain. What cannot be decided, for the schema
//! or for the length of the payload, goes to the handler, which says itself what it cannot read.

use std::{fmt, sync::Arc};

use ksi_contracts::{Verdict, compare};
use ksi_kernel::call::check::PayloadCheck;
use serde_json::{Value, json};

use super::info::GenerationInfo;

/// Characters that are told of one place.
const TOLD: usize = 200;

/// The check of a declared handler, by its place among them.
pub(crate) fn payload_check(info: &Arc<GenerationInfo>, at: usize) -> PayloadCheck {
    let info = Arc::downgrade(info);
    PayloadCheck::new(move |payload| {
        let info = info.upgrade();
        let handler = info.as_ref().and_then(|info| info.description.handlers.get(at));
        handler.map(|handler| violations(&handler.payload, payload)).unwrap_or_default()
    })
}

/// A line for each place that is wrong, as many as a comparison tells of.
fn violations(schema: &Value, payload: &Value) -> Vec<String> {
    // As a whole first: that is decided by looking at the value alone, and most are well.
    let Verdict::Broken(whole) = compare(&json!({"const": payload}), schema) else {
        return Vec::new();
    };
    match compare(&spelled_out(payload), schema) {
        Verdict::Broken(breaks) => breaks.iter().map(|it| line(&it.path, &it.detail)).collect(),
        Verdict::Undecided(places) => places.iter().map(|it| line(&it.path, &it.reason)).collect(),
        Verdict::Compatible => whole.iter().map(|it| line(&it.path, &it.detail)).collect(),
    }
}

fn line(path: &str, what: impl fmt::Display) -> String {
    let place = if path.is_empty() { "the whole" } else { path };
    format!("{place}: {what}").chars().take(TOLD).collect()
}

/// The schema of one value, place by place.
fn spelled_out(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let each = fields.iter().map(|(name, value)| (name.clone(), spelled_out(value)));
            json!({
                "type": "object",
                "properties": Value::Object(each.collect()),
                "required": fields.keys().collect::<Vec<_>>(),
                "additionalProperties": false,
            })
        }
        Value::Array(items) => json!({
            "type": "array",
            "prefixItems": items.iter().map(spelled_out).collect::<Vec<_>>(),
            "items": false,
            "minItems": items.len(),
            "maxItems": items.len(),
        }),
        scalar => json!({"const": scalar}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_that_is_wrong_is_told_by_its_path() {
        let schema = json!({
            "type": "object",
            "properties": {
                "number": {"$ref": "#/$defs/N"},
                "names": {"type": "array", "items": {"type": "string"}},
                "kind": {"enum": ["a", "b"]},
            },
            "required": ["number", "total"],
            "$defs": {"N": {"type": "integer", "format": "uint32", "minimum": 0}},
        });
        let well = json!({"number": 1, "total": 2, "more": 3, "names": ["x"], "kind": "a"});
        assert!(violations(&schema, &well).is_empty());
        let wrong = json!({"number": -1, "names": ["x", "y", 5], "kind": "c"});
        let found = violations(&schema, &wrong);
        for place in ["/number: ", "/names/2: ", "/kind: ", "/total: "] {
            assert!(found.iter().any(|line| line.starts_with(place)), "{place}: {found:#?}");
        }
        assert_eq!(found.len(), 4, "{found:#?}");
        let too_large = json!({"number": 5_000_000_000_u64, "total": null});
        assert_eq!(violations(&schema, &too_large).len(), 1);
    }

    #[test]
    fn what_is_told_is_bounded() {
        let schema = json!({"type": "array", "items": {"type": "string"}});
        let found = violations(&schema, &json!(vec![1; 2_000]));
        assert!((1..=16).contains(&found.len()), "{found:#?}");
        let schema = json!({"type": "object", "additionalProperties": false});
        let long = json!({"x".repeat(100_000): "y".repeat(100_000)});
        let found = violations(&schema, &long);
        assert!(!found.is_empty());
        assert!(found.iter().all(|line| line.chars().count() <= TOLD), "{found:#?}");
    }

    #[test]
    fn the_variant_of_an_enum_is_found_by_its_tag() {
        let variant = |tag: &str, field: &str| {
            json!({"type": "object", "properties": {"kind": {"const": tag}, field: {"type": "string"}},
                   "required": ["kind", field]})
        };
        let schema = json!({"oneOf": [variant("a", "name"), variant("b", "title")]});
        assert!(violations(&schema, &json!({"kind": "b", "title": "t"})).is_empty());
        assert!(!violations(&schema, &json!({"kind": "b", "name": "t"})).is_empty());
    }

    #[test]
    fn what_cannot_be_decided_is_no_violation() {
        for schema in [json!(null), json!(true), json!({"if": {"type": "string"}, "then": false})] {
            assert!(violations(&schema, &json!("text")).is_empty(), "{schema}");
        }
        let schema = json!({"type": "array", "items": {"type": "string"}});
        assert!(violations(&schema, &json!(vec!["text"; 1_000_000])).is_empty());
    }
}
