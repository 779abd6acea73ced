//! Pairs of schemas as people write and change them, and what is said of them.

use ksi_contracts::{BreakKind, Verdict, compare};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    oracle::validator,
    types::{sent, taken},
};

/// The places and kinds of the breaks of a pair. Their examples are held to be what they promise.
fn breaks(sent: &Value, taken: &Value) -> Vec<(String, BreakKind, Value)> {
    match compare(sent, taken) {
        Verdict::Broken(breaks) => {
            for it in &breaks {
                let (sent, taken) = (validator(sent), validator(taken));
                assert!(sent.is_valid(&it.example), "not sent: {it}");
                assert!(!taken.is_valid(&it.example), "taken: {it}");
            }
            breaks.into_iter().map(|it| (it.path, it.kind, it.example)).collect()
        }
        other => panic!("{other}\n{sent}\n{taken}"),
    }
}

fn one_break(sent: &Value, taken: &Value) -> (String, BreakKind, Value) {
    let all = breaks(sent, taken);
    assert_eq!(all.len(), 1, "{all:?}");
    all.into_iter().next().unwrap()
}

fn fits(sent: &Value, taken: &Value) {
    assert_eq!(compare(sent, taken), Verdict::Compatible, "\n{sent}\n{taken}");
}

fn reason(sent: &Value, taken: &Value) -> String {
    match compare(sent, taken) {
        Verdict::Undecided(places) => places[0].to_string(),
        other => panic!("{other:?}\n{sent}\n{taken}"),
    }
}

fn object(properties: Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required})
}

fn order() -> Value {
    let item = object(
        json!({"name": {"type": "string"}, "price": {"type": "number"}}),
        &["name", "price"],
    );
    object(json!({"items": {"type": "array", "items": item}}), &["items"])
}

#[test]
fn a_break_names_the_place_the_kind_and_a_value() {
    let mut taken = order();
    taken["properties"]["items"]["items"]["properties"]["price"] = json!({"type": "string"});
    let (path, kind, example) = one_break(&order(), &taken);
    assert_eq!((path.as_str(), kind), ("/items/*/price", BreakKind::TypeChanged));
    assert_eq!(example, json!({"items": [{"name": "a", "price": 0}]}));
    let Verdict::Broken(all) = compare(&order(), &taken) else { unreachable!() };
    assert_eq!(
        all[0].to_string(),
        r#"/items/*/price: type changed: a number is sent, a string is taken; {"items":[{"name":"a","price":0}]} would fail"#
    );
}

/// As of a field that serde reads by several names.
#[test]
fn a_field_of_several_names_that_is_gone_is_named_by_all_of_them() {
    let number = || json!({"type": "integer"});
    let mut taken = object(json!({"a": number(), "b": number(), "c": number()}), &["a"]);
    taken["allOf"] = json!([{"anyOf": [{"required": ["b"]}, {"required": ["c"]}]}]);
    let sent = object(json!({"a": number()}), &["a"]);
    let gone = ("/b".to_owned(), BreakKind::Removed, json!({"a": 0}));
    assert_eq!(one_break(&sent, &taken), gone);
    let Verdict::Broken(all) = compare(&sent, &taken) else { unreachable!() };
    assert_eq!(all[0].detail, "it or `c` is required, and none is sent");
    for name in ["b", "c"] {
        let mut sent = sent.clone();
        sent["properties"][name] = number();
        sent["required"] = json!(["a", name]);
        fits(&sent, &taken);
    }
}

#[test]
fn a_field_that_is_gone_is_told_from_one_that_may_be_left_out() {
    let with = object(json!({"a": {"type": "string"}, "b": {"type": "null"}}), &["a", "b"]);
    let without = object(json!({"a": {"type": "string"}}), &["a"]);
    let optional = object(json!({"a": {"type": "string"}, "b": {"type": "null"}}), &["a"]);
    assert_eq!(
        one_break(&without, &with),
        ("/b".to_owned(), BreakKind::Removed, json!({"a": "a"}))
    );
    assert_eq!(
        one_break(&optional, &with),
        ("/b".to_owned(), BreakKind::RequiredNow, json!({"a": "a"}))
    );
    fits(&with, &without);
    fits(&without, &optional);
    fits(&with, &optional);
}

#[test]
fn an_unknown_field_is_refused_only_by_those_who_say_so() {
    let sent = object(json!({"a": {"type": "string"}, "b": {"type": "integer"}}), &["a"]);
    let mut taken = object(json!({"a": {"type": "string"}}), &["a"]);
    fits(&sent, &taken);
    taken["additionalProperties"] = json!(false);
    let found = one_break(&sent, &taken);
    assert_eq!(found, ("/b".to_owned(), BreakKind::FieldRefused, json!({"a": "a", "b": 0})));
}

#[test]
fn an_option_may_be_null_and_its_type_may_not() {
    let text = object(json!({"a": {"type": "string"}}), &["a"]);
    let option = object(json!({"a": {"type": ["string", "null"]}}), &[]);
    fits(&text, &option);
    let found = breaks(&option, &text);
    assert_eq!(found[0], ("/a".to_owned(), BreakKind::RequiredNow, json!({})));
    assert_eq!(found[1], ("/a".to_owned(), BreakKind::TypeChanged, json!({"a": null})));
}

#[test]
fn an_integer_fits_into_a_larger_one() {
    let integer =
        |format: &str, min: Value| json!({"type": "integer", "format": format, "minimum": min});
    let (i32, i64) = (
        json!({"type": "integer", "format": "int32"}),
        json!({"type": "integer", "format": "int64"}),
    );
    let (u32, u64) = (integer("uint32", json!(0)), integer("uint64", json!(0)));
    let float = json!({"type": "number", "format": "double"});
    for (small, large) in [(&i32, &i64), (&u32, &u64), (&u32, &i64), (&i64, &float), (&u64, &float)]
    {
        fits(small, large);
    }
    let value = |sent, taken| one_break(sent, taken).2;
    assert_eq!(value(&i64, &i32), json!(-2_147_483_649_i64));
    assert_eq!(value(&i64, &u64), json!(-1));
    assert_eq!(value(&u64, &i64), json!(9_223_372_036_854_775_808_u64));
    assert_eq!(value(&u64, &u32), json!(4_294_967_296_u64));
    let found = one_break(&float, &i64);
    assert_eq!((found.1, found.2), (BreakKind::TypeChanged, json!(0.5)));
    // What does not say how large it is has 64 bits.
    fits(&json!({"type": "integer"}), &i64);
    fits(&json!({"type": "integer", "minimum": 0}), &u64);
    assert_eq!(value(&json!({"type": "integer"}), &u32), json!(-1));
}

#[test]
fn a_variant_that_is_not_known_is_told_by_its_tag() {
    let variant = |tag: &str| json!({"type": "object", "properties": {"kind": {"type": "string", "const": tag}, "n": {"type": "integer"}}, "required": ["kind", "n"]});
    let two = json!({"oneOf": [variant("a"), variant("b")]});
    let three = json!({"oneOf": [variant("a"), variant("b"), variant("c")]});
    fits(&two, &three);
    let found = one_break(&three, &two);
    assert_eq!(
        found,
        ("/kind".to_owned(), BreakKind::ValuesNarrowed, json!({"kind": "c", "n": 0}))
    );

    let outer = |tag: &str| json!({"type": "object", "properties": {tag: {"type": "integer"}}, "required": [tag], "additionalProperties": false});
    let two = json!({"oneOf": [{"type": "string", "enum": ["unit"]}, outer("a"), outer("b")]});
    let three = json!({"oneOf": [{"type": "string", "enum": ["unit", "other"]}, outer("a"), outer("b"), outer("c")]});
    fits(&two, &three);
    let found = breaks(&three, &two);
    assert_eq!(found[0], (String::new(), BreakKind::ValuesNarrowed, json!("other")));
    assert_eq!(found.len(), 1, "{found:?}");
    // One field that tells the variants apart may be an enum for whoever sends it.
    let sent = json!({"type": "object", "properties": {"kind": {"enum": ["a", "b"]}, "n": {"type": "integer"}}, "required": ["kind", "n"]});
    fits(&sent, &json!({"oneOf": [variant("a"), variant("b"), variant("c")]}));
}

#[test]
fn what_contains_itself_is_compared() {
    let tree = |value: Value| {
        json!({
            "$ref": "#/$defs/Tree",
            "$defs": {"Tree": {"type": "object", "properties": {
                "value": value, "children": {"type": "array", "items": {"$ref": "#/$defs/Tree"}}
            }, "required": ["value", "children"]}}
        })
    };
    fits(&tree(json!({"type": "integer", "minimum": 0})), &tree(json!({"type": "number"})));
    let found = breaks(&tree(json!({"type": "string"})), &tree(json!({"type": "number"})));
    assert_eq!(found[0].0, "/value");
    assert_eq!(found[0].2, json!({"value": "a", "children": []}));
}

#[test]
fn maps_and_tuples_are_compared_by_their_items() {
    let map = |values: Value| json!({"type": "object", "additionalProperties": values});
    fits(&map(json!({"type": "integer"})), &map(json!({"type": "number"})));
    let found = one_break(&map(json!({"type": "number"})), &map(json!({"type": "string"})));
    assert_eq!(found, ("/*".to_owned(), BreakKind::TypeChanged, json!({"a": 0})));
    let keys = |pattern: &str| json!({"type": "object", "additionalProperties": false, "patternProperties": {pattern: {"type": "string"}}});
    fits(&keys(r"^\d+$"), &keys(r"^\d+$"));
    fits(&keys(r"^\d+$"), &map(json!({"type": "string"})));
    let found = one_break(&map(json!({"type": "string"})), &keys(r"^\d+$"));
    assert_eq!((found.0.as_str(), found.1), ("/*", BreakKind::FieldRefused));

    let tuple = |items: Value| {
        let count = items.as_array().unwrap().len();
        json!({"type": "array", "prefixItems": items, "minItems": count, "maxItems": count})
    };
    let (two, three) = (
        json!([{"type": "string"}, {"type": "null"}]),
        json!([{"type": "string"}, {"type": "null"}, true]),
    );
    fits(&tuple(two.clone()), &json!({"type": "array", "items": {"type": ["string", "null"]}}));
    assert_eq!(one_break(&tuple(two.clone()), &tuple(three)).1, BreakKind::ValuesNarrowed);
    let other = json!([{"type": "string"}, {"type": "string"}]);
    assert_eq!(
        one_break(&tuple(two), &tuple(other)),
        ("/1".to_owned(), BreakKind::TypeChanged, json!(["a", null]))
    );
}

#[test]
fn what_the_sender_does_not_say_is_undecided() {
    let typed = object(json!({"a": {"type": "string"}}), &["a"]);
    assert!(reason(&json!(true), &typed).contains("does not say"));
    assert!(reason(&json!({"title": "AnyValue"}), &typed).contains("does not say"));
    assert!(reason(&Value::Null, &typed).contains("the sender has no schema"));
    let open = json!({"type": "object", "additionalProperties": true});
    assert!(reason(&open, &typed).starts_with("/a: "));
    fits(&typed, &json!(true));
    fits(&json!(true), &json!({"title": "AnyValue"}));
    // A dict of Python's says nothing; a type without fields says that it has none.
    let dict = json!({"type": "object"});
    assert!(reason(&dict, &typed).starts_with("/a: "));
    let empty = json!({"type": "object", "title": "Empty"});
    assert_eq!(one_break(&empty, &typed).1, BreakKind::Removed);
    let named = json!({"$ref": "#/$defs/Empty", "$defs": {"Empty": {"type": "object"}}});
    assert_eq!(one_break(&named, &typed).1, BreakKind::Removed);
    fits(&empty, &dict);
    let any_field = object(json!({"a": true}), &["a"]);
    assert!(reason(&any_field, &typed).starts_with("/a: "));
}

#[test]
fn formats_that_are_not_known_are_equal_or_undecided() {
    let text = |format: &str| json!({"type": "string", "format": format});
    let plain = json!({"type": "string"});
    fits(&text("uuid"), &plain);
    fits(&text("colour"), &text("colour"));
    fits(&text("ipv4"), &text("ip"));
    assert_eq!(one_break(&plain, &text("uuid")).1, BreakKind::ValuesNarrowed);
    assert_eq!(one_break(&text("date"), &text("date-time")).2, json!("2000-01-01"));
    assert!(reason(&plain, &text("colour")).contains("of format colour is taken"));
}

#[test]
fn words_for_people_do_not_matter() {
    let mut documented = order();
    documented["description"] = json!("An order.");
    documented["properties"]["items"]["default"] = json!([]);
    documented["properties"]["items"]["items"]["title"] = json!("Item");
    fits(&order(), &documented);
    fits(&documented, &order());
}

#[test]
fn not_and_lengths_are_compared() {
    let signed = json!({"type": "integer", "format": "int32", "not": {"const": 0}});
    let unsigned = json!({"type": "integer", "format": "uint16", "minimum": 1, "maximum": 65535});
    fits(&unsigned, &signed);
    fits(&signed, &json!({"type": "integer", "format": "int64", "not": {"const": 0}}));
    assert_eq!(one_break(&json!({"type": "integer", "format": "int32"}), &signed).2, json!(0));
    let length = |min: u64, max: u64| json!({"type": "string", "minLength": min, "maxLength": max});
    fits(&length(2, 3), &length(1, 5));
    assert_eq!(one_break(&length(1, 5), &length(1, 3)).2, json!("aaaa"));
    assert_eq!(one_break(&length(1, 5), &length(2, 5)).2, json!("a"));
}

#[test]
fn a_default_is_always_sent_and_told_so_by_the_schema_of_a_sender() {
    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Counted {
        #[serde(default)]
        count: u32,
    }
    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Strict {
        count: u32,
    }
    fits(&sent::<Counted>(), &taken::<Strict>());
    fits(&sent::<Strict>(), &taken::<Counted>());
    let found = one_break(&taken::<Counted>(), &taken::<Strict>());
    assert_eq!(found, ("/count".to_owned(), BreakKind::RequiredNow, json!({})));
}
