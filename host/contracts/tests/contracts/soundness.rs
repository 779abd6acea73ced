//! Pairs that were once given a verdict that does not hold, or none where there is one.

use std::thread;

use ksi_contracts::{BreakKind, Verdict, compare};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::types::{sent, taken};

/// A comparison on a stack that is as large as that of a thread, or smaller.
fn on_a_small_stack(sent: Value, taken: Value) -> Verdict {
    let compared = thread::Builder::new().stack_size(512 * 1024);
    compared.spawn(move || compare(&sent, &taken)).unwrap().join().unwrap()
}

#[test]
fn lists_without_doubles_that_contain_themselves_end_on_a_small_stack() {
    let itself = json!({"type": "array", "uniqueItems": true, "minItems": 2, "items": {
        "anyOf": [{"type": "null"}, {"$ref": "#"}]
    }});
    let verdict = on_a_small_stack(itself, json!({"type": "string"}));
    assert_ne!(verdict, Verdict::Compatible);

    let tree = json!({"$ref": "#/$defs/Tree", "$defs": {"Tree": {
        "type": "object",
        "properties": {"children": {
            "type": "array", "uniqueItems": true, "items": {"$ref": "#/$defs/Tree"}
        }},
        "required": ["children"]
    }}});
    let mut one = tree.clone();
    one["$defs"]["Tree"]["properties"]["children"]["maxItems"] = json!(1);
    assert_ne!(on_a_small_stack(tree, one), Verdict::Compatible);
}

#[test]
fn items_without_doubles_are_still_found_for_an_example() {
    let of = |kind: &str| json!({"type": "array", "uniqueItems": true, "minItems": 3, "items": {"type": kind}});
    let Verdict::Broken(breaks) = compare(&of("integer"), &json!({"type": "string"})) else {
        panic!("not broken");
    };
    assert_eq!(breaks[0].kind, BreakKind::TypeChanged);
    assert_eq!(breaks[0].example.as_array().map(Vec::len), Some(3));
}

#[test]
fn a_set_of_trees_is_compared_on_a_small_stack() {
    #[derive(Serialize, Deserialize, JsonSchema, PartialEq, Eq, PartialOrd, Ord)]
    struct Tree {
        children: std::collections::BTreeSet<Tree>,
    }
    let mut one = taken::<Tree>();
    one["properties"]["children"]["maxItems"] = json!(1);
    let verdict = on_a_small_stack(sent::<Tree>(), one);
    assert_ne!(verdict, Verdict::Compatible);
}
