//! Schemas that nobody means well with: they end, and without a verdict if there is none to have.

use std::{
    thread,
    time::{Duration, Instant},
};

use ksi_contracts::{Verdict, compare};
use serde_json::{Map, Value, json};

fn one(name: &str, inner: Value) -> Value {
    Value::from(Map::from_iter([(name.to_owned(), inner)]))
}

fn deep(levels: usize, end: Value) -> Value {
    (0..levels).fold(end, |inner, _| {
        let mut outer = one("properties", one("a", inner));
        outer["type"] = json!("object");
        outer["required"] = json!(["a"]);
        outer
    })
}

/// A schema within a schema, so many times.
fn nested(levels: usize, outer: impl Fn(Value) -> Value) -> Value {
    nested_in(levels, json!({"type": "string"}), outer)
}

fn nested_in(levels: usize, innermost: Value, outer: impl Fn(Value) -> Value) -> Value {
    (0..levels).fold(innermost, |inner, _| outer(inner))
}

fn all(levels: usize, end: Value) -> Value {
    (0..levels).fold(end, |inner, _| json!({"allOf": [inner]}))
}

/// Fields within fields, choices within choices in the innermost one, and as many lists.
fn in_every_way() -> Value {
    let innermost = json!({"oneOf": [
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/99"}}},
        {"type": "object", "required": ["b"]},
        {"$ref": "#/$defs/98"}
    ]});
    let mut whole = deep(39, all(45, innermost));
    let list = |it| json!({"anyOf": [{"type": "array", "items": it}, {"type": "null"}]});
    whole["$defs"] = chained(100, list)["$defs"].take();
    whole
}

/// Definitions each of which is made of the one before.
fn chained(levels: usize, link: impl Fn(Value) -> Value) -> Value {
    let mut definitions = Map::from_iter([("0".to_owned(), json!({"type": "string"}))]);
    for level in 1..levels {
        let before = json!({"$ref": format!("#/$defs/{}", level - 1)});
        definitions.insert(level.to_string(), link(before));
    }
    json!({"$ref": format!("#/$defs/{}", levels - 1), "$defs": definitions})
}

/// Definitions each of which has two fields of the one before.
fn doubling(levels: usize, end: &str) -> Value {
    let mut definitions = Map::new();
    definitions.insert("0".to_owned(), json!({"type": end}));
    for level in 1..levels {
        let before = format!("#/$defs/{}", level - 1);
        let field = json!({"anyOf": [{"$ref": before}, {"type": "null"}]});
        let fields = json!({"type": "object", "properties": {"a": field, "b": field}, "required": ["a", "b"]});
        definitions.insert(level.to_string(), fields);
    }
    json!({"$ref": format!("#/$defs/{}", levels - 1), "$defs": definitions})
}

fn choices(count: usize, of: usize) -> Value {
    let choice = |at: usize| {
        let branch = |value: usize| json!({"type": "object", "properties": {format!("f{at}"): {"const": value}}, "required": [format!("f{at}")]});
        json!({"anyOf": (0..of).map(branch).collect::<Vec<_>>()})
    };
    json!({"allOf": (0..count).map(choice).collect::<Vec<_>>()})
}

fn variants(count: usize, more: &str) -> Value {
    let variant = |at: usize| json!({"type": "object", "properties": {format!("v{at}"): {"type": more}}, "required": [format!("v{at}")], "additionalProperties": false});
    json!({"oneOf": (0..count).map(variant).collect::<Vec<_>>()})
}

fn branches(count: usize, branch: impl Fn(usize) -> Value) -> Value {
    json!({"anyOf": (0..count).map(branch).collect::<Vec<_>>()})
}

/// Schemas that are large in one way or another.
fn large() -> Vec<(&'static str, Value)> {
    let many = |count: usize, of: &dyn Fn(usize) -> (String, Value)| {
        Value::from((0..count).map(of).collect::<Map<_, _>>())
    };
    let fields = many(10_000, &|at| (format!("f{at}"), json!({"type": "string"})));
    let patterns = |of: &str| {
        let all = many(3_000, &|at| (format!("^a{at}(b{{1,9}}){{1,9}}$"), json!({"type": of})));
        json!({"type": "object", "patternProperties": all})
    };
    let text = "x".repeat(200_000);
    let record = |at: usize| json!({"type": "object", "properties": {"f": {"minLength": at}}});
    let named = chained(60, |it| {
        let mut field = Map::new();
        field.insert(text.clone(), it);
        json!({"type": "object", "properties": field, "required": [&text]})
    });
    let mut other_names = named.clone();
    other_names["$defs"]["0"] = json!({"type": "integer"});
    let lists = |of: &Value| {
        nested_in(6, of.clone(), |it| json!({"type": "array", "minItems": 64, "items": it}))
    };
    vec![
        (
            "branches of one record",
            json!({
                "anyOf": (0..16_000).map(|_| json!({"$ref": "#/$defs/A"})).collect::<Vec<_>>(),
                "$defs": {"A": {"type": "object", "properties": fields}}
            }),
        ),
        (
            "parts of one record",
            json!({
                "allOf": (0..2_000).map(|_| json!({"$ref": "#/$defs/A"})).collect::<Vec<_>>(),
                "$defs": {"A": {"type": "object", "properties": fields}}
            }),
        ),
        ("parts with one field", json!({"allOf": (0..9_000).map(record).collect::<Vec<_>>()})),
        (
            "required",
            json!({
                "type": "object", "properties": fields,
                "required": fields.as_object().unwrap().keys().collect::<Vec<_>>()
            }),
        ),
        ("many patterns", patterns("string")),
        ("many other patterns", patterns("integer")),
        ("a long text", json!({"const": text})),
        ("a long text in lists", lists(&json!({"const": text}))),
        ("long texts", json!({"enum": vec![json!([text, text]); 20]})),
        ("lists", lists(&json!({"enum": vec![json!([1]); 1_000]}))),
        ("long names", named),
        ("other long names", other_names),
        (
            "many lists",
            json!({"enum": (0..1_000).map(|at| json!(vec![at; 100])).collect::<Vec<_>>()}),
        ),
        (
            "bare objects",
            json!({"$defs": many(8_000, &|at| (at.to_string(), json!({"type": "object"}))),
                "anyOf": (0..8_000).map(|_| json!({"type": "object"})).collect::<Vec<_>>()}),
        ),
        ("a long pattern", json!({"type": "string", "pattern": "(a|b)".repeat(100_000)})),
        (
            "many names",
            json!({"type": "object", "propertyNames": {"anyOf": (0..5_000).map(|at| json!({"pattern": format!("{at}a*")})).collect::<Vec<_>>()},
                "additionalProperties": {"type": "string"}, "properties": fields}),
        ),
    ]
}

fn hostile() -> Vec<(&'static str, Value)> {
    let many = |from: usize| {
        (from..from + 100_000).map(|it| json!(format!("value {it}"))).collect::<Vec<_>>()
    };
    let fields = |of: &str| {
        let all = (0..20_000).map(|it| (format!("f{it}"), json!({"type": of})));
        json!({"type": "object", "properties": all.collect::<Map<_, _>>()})
    };
    vec![
        ("deep", deep(125, json!({"type": "string"}))),
        ("deep, another", deep(125, json!({"type": "null"}))),
        ("deep lists", nested(250, |it| json!({"type": "array", "items": it}))),
        (
            "deep sets",
            nested(
                400,
                |it| json!({"type": "array", "uniqueItems": true, "minItems": 2, "items": it}),
            ),
        ),
        ("deep all", nested(125, |it| json!({"allOf": [it]}))),
        ("deep any", nested(125, |it| json!({"anyOf": [it, {"type": "null"}]}))),
        ("deep one", nested(125, |it| json!({"oneOf": [{"type": "null"}, it]}))),
        ("deep not", nested(250, |it| json!({"not": it}))),
        ("deep not, another", nested(251, |it| json!({"not": it}))),
        ("deep names", nested(250, |it| json!({"type": "object", "propertyNames": it}))),
        ("deep conditions", nested(200, |it| json!({"if": it, "then": {"minLength": 1}}))),
        (
            "deep in every way",
            deep(39, all(30, one("const", one("a", nested(110, |it| json!([it])))))),
        ),
        ("deep in every other way", in_every_way()),
        ("a deep value", json!({"const": nested(250, |it| json!([it]))})),
        ("another deep value", json!({"enum": [nested(250, |it| json!({"a": it}))]})),
        ("too deep a value", one("const", nested(2_000, |it| Value::Array(vec![it])))),
        ("a chain", chained(2_000, |it| it)),
        ("a chain of all", chained(2_000, |it| json!({"allOf": [it, {"minLength": 1}]}))),
        ("a chain of not", chained(2_000, |it| json!({"not": it}))),
        (
            "a chain of fields",
            chained(
                2_000,
                |it| json!({"type": "object", "properties": {"a": {"anyOf": [{"type": "null"}, {"allOf": [it]}]}}, "required": ["a"]}),
            ),
        ),
        (
            "a chain of branches",
            chained(
                2_000,
                |it| json!({"oneOf": [{"type": "object", "properties": {"a": it}, "required": ["a"]}, {"type": "array", "items": it, "minItems": 1}]}),
            ),
        ),
        ("itself", json!({"$ref": "#"})),
        ("not itself", json!({"type": "array", "items": {"not": {"$ref": "#"}}})),
        (
            "a set of itself",
            json!({"type": "array", "uniqueItems": true, "minItems": 2, "items": {"anyOf": [{"type": "null"}, {"$ref": "#"}]}}),
        ),
        (
            "one another",
            json!({"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}}),
        ),
        (
            "itself and more",
            json!({"type": "object", "allOf": [{"$ref": "#"}], "properties": {"a": {"$ref": "#"}}}),
        ),
        ("any of itself", json!({"anyOf": [{"$ref": "#"}, {"type": "string"}]})),
        (
            "never ends",
            json!({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}),
        ),
        ("nowhere", json!({"$ref": "#/$defs/None"})),
        ("elsewhere", json!({"$ref": "https://example.com/schema"})),
        ("enum", json!({"enum": many(0)})),
        ("another enum", json!({"enum": many(1)})),
        ("doubling", doubling(60, "string")),
        ("doubling, another", doubling(60, "integer")),
        ("choices", choices(30, 4)),
        ("more choices", choices(30, 5)),
        ("variants", variants(3_000, "string")),
        ("other variants", variants(3_000, "integer")),
        ("branches", branches(16_000, |at| json!({"type": "string", "minLength": at}))),
        ("other branches", branches(16_000, |at| json!({"const": at}))),
        ("branches of any type", branches(16_000, |at| json!({"minimum": at}))),
        ("fields", fields("string")),
        ("other fields", fields("integer")),
        ("a pattern", json!({"type": "string", "pattern": "(((a{1,100}){1,100}){1,100})+$"})),
        ("no pattern", json!({"type": "string", "pattern": "(?<=a)(b"})),
        (
            "a slow pattern",
            json!({"type": "object", "patternProperties": {"^(a+)+$": {"type": "null"}}, "properties": {"a".repeat(5_000): {"type": "string"}}}),
        ),
        ("long", json!({"type": "string", "minLength": u64::MAX, "maxLength": u64::MAX})),
        (
            "many items",
            json!({"type": "array", "minItems": 1e18, "items": {"type": "array", "minItems": u64::MAX}}),
        ),
        (
            "wrong words",
            json!({"type": 7, "properties": [], "required": {}, "anyOf": {}, "enum": 1, "items": 3, "minimum": "a", "pattern": 1, "$ref": 1}),
        ),
        ("wrong types", json!({"type": ["strange", 1], "oneOf": [1, null, "a"], "not": 1})),
        (
            "huge numbers",
            json!({"type": "integer", "minimum": -1e308, "maximum": 1e308, "multipleOf": 1e-308}),
        ),
        ("no schema", json!("no schema")),
        ("anything", json!(true)),
        ("nothing", json!(false)),
    ]
}

#[test]
fn every_comparison_ends_on_a_small_stack() {
    let mut all = hostile();
    all.extend(large());
    let plain = json!({"type": "object", "properties": {"a": {"type": ["string", "null"]}}});
    for (at, (name, one)) in all.iter().enumerate() {
        let (next_name, next) = &all[(at + 1) % all.len()];
        let pairs = [
            (name, one, name, one),
            (name, one, next_name, next),
            (next_name, next, name, one),
            (name, one, &"plain", &plain),
            (&"plain", &plain, name, one),
        ];
        for (sent_name, sent, taken_name, taken) in pairs {
            // A quarter of what a thread has.
            let small = thread::Builder::new().stack_size(512 * 1024);
            thread::scope(|scope| {
                let compared = || ended(sent_name, sent, taken_name, taken);
                small.spawn_scoped(scope, compared).unwrap().join().unwrap();
            });
        }
    }
}

fn ended(sent_name: &str, sent: &Value, taken_name: &str, taken: &Value) {
    let began = Instant::now();
    let verdict = compare(sent, taken);
    let (took, text) = (began.elapsed(), verdict.to_string());
    println!("{took:?} {sent_name}, {taken_name}: {}", text.chars().take(150).collect::<String>());
    // Many times as long as it takes where nobody else is at work.
    assert!(took < Duration::from_secs(20), "{sent_name}, {taken_name}: {took:?}");
    let refused = matches!(verdict, Verdict::Broken(_));
    assert!(!refused || sent_name != taken_name, "{sent_name} refuses itself");
}

#[test]
fn what_is_too_deep_or_too_large_is_undecided() {
    let undecided =
        |sent: &Value, taken: &Value| matches!(compare(sent, taken), Verdict::Undecided(_));
    assert!(undecided(&deep(125, json!({"type": "string"})), &deep(125, json!({"type": "null"}))));
    assert!(undecided(&choices(30, 4), &choices(30, 5)));
    // Twice as often at each level, and once for each definition.
    assert_eq!(compare(&doubling(30, "integer"), &doubling(30, "number")), Verdict::Compatible);
}
