//! Schemas that nobody means well with: they end, and without a verdict if there is none to have.

use std::time::{Duration, Instant};

use ksi_contracts::{Verdict, compare};
use serde_json::{Map, Value, json};

fn deep(levels: usize, end: Value) -> Value {
    let one = |name: &str, inner: Value| Value::from(Map::from_iter([(name.to_owned(), inner)]));
    (0..levels).fold(end, |inner, _| {
        let mut outer = one("properties", one("a", inner));
        outer["type"] = json!("object");
        outer["required"] = json!(["a"]);
        outer
    })
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

fn hostile() -> Vec<(&'static str, Value)> {
    let many = |from: usize| {
        (from..from + 100_000).map(|it| json!(format!("value {it}"))).collect::<Vec<_>>()
    };
    let fields = |of: &str| {
        let all = (0..20_000).map(|it| (format!("f{it}"), json!({"type": of})));
        json!({"type": "object", "properties": all.collect::<Map<_, _>>()})
    };
    vec![
        ("deep", deep(500, json!({"type": "string"}))),
        ("deep, another", deep(500, json!({"type": "null"}))),
        ("itself", json!({"$ref": "#"})),
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
fn every_comparison_ends() {
    let all = hostile();
    let plain = json!({"type": "object", "properties": {"a": {"type": ["string", "null"]}}});
    for (at, (name, one)) in all.iter().enumerate() {
        let (next_name, next) = &all[(at + 1) % all.len()];
        ended(name, one, name, one);
        ended(name, one, next_name, next);
        ended(next_name, next, name, one);
        ended(name, one, "plain", &plain);
        ended("plain", &plain, name, one);
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
    assert!(undecided(&deep(500, json!({"type": "string"})), &deep(500, json!({"type": "null"}))));
    assert!(undecided(&choices(30, 4), &choices(30, 5)));
    // Twice as often at each level, and once for each definition.
    assert_eq!(compare(&doubling(30, "integer"), &doubling(30, "number")), Verdict::Compatible);
}
