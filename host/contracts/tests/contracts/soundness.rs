//! Pairs that were once given a verdict that does not hold, or none where there is one.

use std::thread;

use ksi_contracts::{BreakKind, Verdict, compare};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    oracle::validator,
    types::{sent, taken},
};

/// A pair that a value shows not to fit is broken or undecided, never compatible.
fn does_not_fit(sent: Value, taken: Value, value: Value) {
    assert!(validator(&sent).is_valid(&value), "{value} is not sent: {sent}");
    assert!(!validator(&taken).is_valid(&value), "{value} is taken: {taken}");
    assert_ne!(compare(&sent, &taken), Verdict::Compatible, "{value}\n{sent}\n{taken}");
}

fn is_undecided(sent: &Value, taken: &Value) {
    let verdict = compare(sent, taken);
    assert!(matches!(verdict, Verdict::Undecided(_)), "{verdict:?}\n{sent}\n{taken}");
}

fn fits(sent: &Value, taken: &Value) {
    assert_eq!(compare(sent, taken), Verdict::Compatible, "\n{sent}\n{taken}");
}

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
fn whoever_says_nothing_may_send_any_field() {
    let silent = [json!(true), json!({}), json!({"not": {"type": "null"}}), json!({"minimum": 3})];
    let titled = json!({"title": "T", "minimum": 3});
    let taken = [
        json!({"properties": {"x": {"type": "string"}}}),
        json!({"additionalProperties": false}),
        json!({"maxProperties": 0}),
        json!({"not": {"type": "object", "required": ["x"]}}),
    ];
    for sent in silent.into_iter().chain([titled]) {
        for taken in &taken {
            does_not_fit(sent.clone(), taken.clone(), json!({"x": 1}));
            is_undecided(&sent, taken);
            let field = |of: &Value| json!({"type": "object", "properties": {"a": of}});
            is_undecided(&field(&sent), &field(taken));
        }
    }
    // Choices between schemas that say nothing of them say nothing either.
    let beside = json!({"type": "object", "oneOf": [false, {"minLength": 1}]});
    is_undecided(&beside, &json!({"properties": {"x": {"type": "string"}}}));
    // Beside a schema that speaks of the fields it adds none.
    let typed = json!({"type": "object", "properties": {"a": {"type": "null"}}});
    let mut closed = typed.clone();
    closed["additionalProperties"] = json!(false);
    for beside in [json!({"not": {"type": "string"}}), json!({"minimum": 3})] {
        fits(&json!({"allOf": [typed, beside]}), &closed);
    }
}

#[test]
fn fields_that_only_a_condition_declares_are_sent() {
    let taken = json!({"type": "object", "properties": {"x": {"type": "string"}}});
    let then = json!({"properties": {"x": {"type": "integer"}}});
    let conditions = [
        json!({"type": "object", "title": "T", "if": true, "then": then}),
        json!({"type": "object", "title": "T", "allOf": [{"if": true, "then": then}]}),
        json!({"type": "object", "title": "T", "dependentSchemas": {"x": then}}),
    ];
    for sent in conditions {
        does_not_fit(sent, taken.clone(), json!({"x": 1}));
    }
}

#[test]
fn keywords_that_belong_together_are_compared_together() {
    let int = json!({"type": "integer"});
    does_not_fit(
        json!({"type": "array", "prefixItems": [int, int], "unevaluatedItems": false}),
        json!({"type": "array", "prefixItems": [int], "unevaluatedItems": false}),
        json!([1, 2]),
    );
    let first = |count: usize| json!({"type": "array", "allOf": [{"prefixItems": vec![int.clone(); count]}], "unevaluatedItems": false});
    does_not_fit(first(2), first(1), json!([1, 2]));

    let object = |more: Value| json!({"type": "object", "allOf": more});
    let has = |name: &str| json!({"required": [name]});
    let when = |one: &str, then: &str| json!({"if": has(one), "then": has(then)});
    does_not_fit(
        object(json!([when("x", "y"), when("w", "v")])),
        object(json!([when("x", "v")])),
        json!({"x": 1, "y": 1}),
    );
    fits(&object(json!([when("x", "y"), when("w", "v")])), &object(json!([when("w", "v")])));

    let list = |more: Value| json!({"type": "array", "allOf": more});
    let contains = |of: &str, least: u64| json!({"contains": {"type": of}, "minContains": least});
    does_not_fit(
        list(json!([contains("string", 1), contains("integer", 2)])),
        list(json!([contains("string", 2)])),
        json!(["a", 1, 2]),
    );
    fits(
        &list(json!([contains("string", 1), contains("integer", 2)])),
        &list(json!([contains("integer", 2)])),
    );
}

#[test]
fn dependencies_are_compared_by_what_depends() {
    let required = |name: &str| json!({"type": "object", "title": "T", "properties": {"x": {}, "y": {}, "z": {}}, "dependentRequired": {"x": [name]}});
    does_not_fit(required("y"), required("z"), json!({"x": 1, "y": 1}));
    let mut wider = required("y");
    wider["maxProperties"] = json!(3);
    fits(&required("y"), &wider);
    let schemas = |name: &str| json!({"type": "object", "properties": {"x": {}, "y": {}, "z": {}}, "dependentSchemas": {"x": {"required": [name]}}});
    does_not_fit(schemas("y"), schemas("z"), json!({"x": 1, "y": 1}));
}

#[test]
fn references_that_are_not_followed_are_not_the_same() {
    let by = |keyword: &str, anchor: &str, of: &str| {
        json!({"type": "object", keyword: "#node", "$defs": {"node": {
            anchor: "node", "properties": {"a": {"type": of}}, "required": ["a"]
        }}})
    };
    for (keyword, anchor) in [("$ref", "$anchor"), ("$dynamicRef", "$dynamicAnchor")] {
        let [text, int] = ["string", "integer"].map(|of| by(keyword, anchor, of));
        does_not_fit(text.clone(), int, json!({"a": "b"}));
        fits(&text, &text);
    }
}

#[test]
fn branches_that_overlap_are_not_taken_to_be_apart() {
    let int = json!({"type": "integer"});
    let both =
        json!({"type": "object", "properties": {"a": int, "b": int}, "required": ["a", "b"]});
    let one = json!({"type": "object", "unevaluatedProperties": false, "anyOf": [
        {"properties": {"a": int}}, {"properties": {"b": int}}
    ]});
    let value = json!({"a": 1, "b": 2});
    does_not_fit(both.clone(), json!({"oneOf": [both, one]}), value.clone());
    does_not_fit(both.clone(), json!({"type": "object", "not": one}), value.clone());
    let more = json!({"allOf": [one, {"properties": {"b": int}}]});
    does_not_fit(both.clone(), json!({"type": "object", "not": more}), value.clone());
    // One that is not compiled here may be found in the name or not.
    let pattern = json!({"type": "object", "patternProperties": {"(?=c)c": {"type": "null"}}});
    does_not_fit(both.clone(), json!({"type": "object", "not": pattern}), value.clone());
    let mut declared = pattern.clone();
    declared["properties"] = json!({"a": int});
    does_not_fit(both.clone(), json!({"type": "object", "not": declared}), value.clone());
    // A name that both patterns are found in is none of the others.
    let by = |pattern: &str| json!({"type": "object", "patternProperties": {pattern: int}, "additionalProperties": false});
    let patterns = json!({"allOf": [by("^[ab]"), by("[ab]$")]});
    does_not_fit(both.clone(), json!({"type": "object", "not": patterns}), value.clone());
    let nested = |of: &Value| json!({"type": "object", "properties": {"n": of}, "required": ["n"]});
    does_not_fit(
        nested(&json!({"const": value})),
        json!({"type": "object", "not": nested(&one)}),
        json!({"n": value}),
    );
}

#[test]
fn branches_that_are_apart_are_still_told_by_their_tags() {
    let variant = |tag: &str| {
        json!({"type": "object", "unevaluatedProperties": false, "properties": {"kind": {"const": tag}}, "required": ["kind"], "anyOf": [
            {"properties": {"a": {"type": "null"}}}, {"properties": {"b": {"type": "null"}}}
        ]})
    };
    let sent =
        json!({"type": "object", "properties": {"kind": {"const": "x"}}, "required": ["kind"]});
    fits(&sent, &json!({"oneOf": [variant("x"), variant("y")]}));
}

#[test]
fn a_literal_that_may_not_be_valid_is_not_all_that_is_taken() {
    let one = json!({"type": "integer", "minimum": 1, "maximum": 2});
    let uncertain = json!({"allOf": [{"const": 1}, {"multipleOf": 0.3}]});
    does_not_fit(one, json!({"anyOf": [uncertain, {"const": 2}]}), json!(1));
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

#[test]
fn references_in_an_embedded_document_are_not_followed_in_the_outer_one() {
    let of = |outer: &str, inner: &str| {
        json!({"$ref": "#/$defs/Inner", "$defs": {
            "Is": {"type": outer},
            "Inner": {"$id": "https://example.com/inner", "$ref": "#/$defs/Is", "$defs": {"Is": {"type": inner}}}
        }})
    };
    does_not_fit(of("integer", "string"), of("number", "boolean"), json!("a"));
}

#[test]
fn nothing_is_concluded_from_arguments_that_mean_nothing() {
    let number = json!({"type": "number", "minimum": 0});
    for taken in [
        // As in the fourth draft.
        json!({"type": "number", "minimum": 0, "exclusiveMinimum": true}),
        json!({"type": "number", "maximum": "3"}),
        json!({"enum": 0}),
        json!({"type": [1]}),
        json!({"allOf": {"type": "null"}}),
    ] {
        is_undecided(&number, &taken);
        is_undecided(&taken, &json!({"type": "null"}));
        is_undecided(&json!({"const": 0}), &taken);
    }
}

#[test]
fn a_break_is_told_of_after_many_places_that_are_undecided() {
    let field = |name: String, of: Value| json!({"type": "object", "properties": {name.as_str(): of}, "required": [name.as_str()]});
    let pattern = |of: &str| json!({"type": "string", "pattern": of});
    // Each is undecided for a pattern that no example is known of, the last one plainly broken.
    let open = (0..20).map(|at| field(format!("f{at}"), pattern("^q{3}[xy]z$")));
    let sent = open.chain([field("last".to_owned(), json!({"type": "integer"}))]);
    let sent = json!({"anyOf": sent.collect::<Vec<_>>()});
    let mut taken = json!({"type": "object", "properties": {"last": {"type": "string"}}});
    for at in 0..20 {
        taken["properties"][format!("f{at}")] = pattern("^qqq[xyw]z$");
    }
    let Verdict::Broken(breaks) = compare(&sent, &taken) else { panic!("not broken") };
    assert_eq!(breaks[0].path, "/last");
    assert!(!validator(&taken).is_valid(&breaks[0].example));
}

#[test]
fn a_large_enum_may_grow() {
    let names = |count: usize| (0..count).map(|at| json!(format!("v{at}"))).collect::<Vec<_>>();
    let of = |count: usize| json!({"type": "string", "enum": names(count)});
    fits(&of(1_000), &of(1_001));
    let Verdict::Broken(breaks) = compare(&of(1_001), &of(1_000)) else { panic!("not broken") };
    assert_eq!(breaks[0].example, json!("v1000"));
}

#[test]
fn every_way_to_write_an_uuid_may_be_taken() {
    let uuid = json!({"type": "string", "format": "uuid"});
    for text in [
        "67e5504410b1426f9247bb680e5fe0c8",
        "urn:uuid:67e55044-10b1-426f-9247-bb680e5fe0c8",
        "{67e55044-10b1-426f-9247-bb680e5fe0c8}",
    ] {
        is_undecided(&json!({"const": text}), &uuid);
    }
    fits(&json!({"const": "67e55044-10b1-426f-9247-bb680e5fe0c8"}), &uuid);
    for text in ["", "67e5504410b1426f9247bb680e5fe0c", "urn:uuid:", "{}"] {
        let verdict = compare(&json!({"const": text}), &uuid);
        assert!(matches!(verdict, Verdict::Broken(_)), "{text}: {verdict:?}");
    }
}

#[test]
fn numbers_that_are_too_large_to_be_counted_are_compared() {
    let huge = json!({"type": "number", "maximum": -1});
    let whole = json!({"type": "number", "maximum": -1, "multipleOf": 1});
    // A number without a fraction, however large it is, is a multiple of one.
    let Verdict::Broken(breaks) = compare(&huge, &whole) else { panic!("not broken") };
    assert!(!validator(&whole).is_valid(&breaks[0].example), "{}", breaks[0]);
    let from = |bound: &str| json!({"type": "integer", bound: 1e40});
    does_not_fit(from("minimum"), from("exclusiveMinimum"), json!(1e40));
    let to = |bound: &str| json!({"type": "integer", bound: -1e40});
    does_not_fit(to("maximum"), to("exclusiveMaximum"), json!(-1e40));
}
