//! Mappings and conditions.

use super::*;

#[test]
fn a_mapping_fills_in_fields_paths_positions_and_defaults_as_text() {
    let plugin = one(r#"mapping:
  name: "{{user.name}}"
  first: "{{items.0.id}}"
  count: "{{count}}"
  rate: "{{rate}}"
  yes: "{{flag}}"
  text: "{{user.name|nobody}} has {{ count }}"
  missing: "{{user.age|unknown}}"
  quoted: "{{user.age|'unknown'}}"
  null: "{{nothing|was null}}"
  list: "{{tags}}"
  number: 7
  fixed: [true, {a: "{{count}}"}]
  user.address.city: "{{city|Rome}}"
  user.name: "{{user.name}}""#);
    let payload = json!({
        "user": {"name": "Ada"}, "items": [{"id": "i1"}], "count": 5, "rate": 1e16, "flag": true,
        "nothing": null, "tags": ["a", {"b": 1}],
    });
    let expected = json!({
        "name": "Ada", "first": "i1", "count": "5", "rate": "1e+16", "yes": "True",
        "text": "Ada has 5", "missing": "unknown", "quoted": "'unknown'", "null": "was null",
        "list": "[\n  \"a\",\n  {\n    \"b\": 1\n  }\n]", "number": 7, "fixed": [true, {"a": "5"}],
        "user": {"address": {"city": "Rome"}, "name": "Ada"},
    });
    assert_eq!(made(&plugin, payload), [expected]);
}

#[test]
fn native_values_stay_what_they_are() {
    let plugin = one(r#"values: native
mapping:
  count: "{{count}}"
  list: "{{tags}}"
  sum: "{{count + 1}}"
  flag: "{{missing|false}}"
  none: "{{missing|null}}"
  text: "{{missing|'some'}}"
  plain: "{{missing|some}}"
  mixed: "{{count}} of them"
  length: "{{len(tags)}}""#);
    let expected = json!({
        "count": 5, "list": [1, "b"], "sum": 6, "flag": false, "none": null, "text": "some",
        "plain": "some", "mixed": "5 of them", "length": 2,
    });
    assert_eq!(made(&plugin, json!({"count": 5, "tags": [1, "b"]})), [expected]);
}

#[test]
fn the_whole_payload_and_the_context_can_be_passed_on() {
    let plugin = one(r#"mapping:
  all: "{{$}}"
  event: "{{_ksi_context.event}}"
  agent: "{{_ksi_context._agent_id|nobody}}"
  correlation: "{{_ksi_context._correlation_id|none}}"
  depth: "{{_ksi_context._event_depth}}""#);
    let with = |agent: &str, correlation: &str| {
        json!({
            "all": {"a": [1]}, "event": "in:event", "agent": agent, "correlation": correlation,
            "depth": "0",
        })
    };
    assert_eq!(made(&plugin, json!({"a": [1]})), [with("system", "none")]);
    plugin.attribute("_agent_id", "a1");
    plugin.attribute("_correlation_id", "c1");
    assert_eq!(made(&plugin, json!({"a": [1]})), [with("a1", "c1")]);
    assert_eq!(made(&one(r#"mapping: "{{$}}""#), json!({"a": 1})), [json!({"a": 1})]);
    assert_eq!(made(&one("description: no mapping"), json!({"a": 1})), [json!({})]);
}

#[test]
fn functions_of_ksi_are_there_and_expressions_beside_them() {
    let plugin = one(r#"mapping:
  up: "{{upper(name)}}"
  low: '{{lower("ABC")}}'
  items: "{{len(items)}} items"
  int: "{{int(price)}}"
  at: "{{timestamp_utc()}}"
  next: "{{retry_count + 1}}"
  last: "{{retry_count >= 3}}"
  kind: "{{kind in ['a', 'b']}}""#);
    let payload =
        json!({"name": "ada", "items": [1, 2], "price": 7.9, "retry_count": 2, "kind": "b"});
    let mut result = made(&plugin, payload).remove(0);
    let at = result.as_object_mut().unwrap().remove("at").unwrap();
    let at = at.as_str().unwrap();
    assert!(at.len() == 27 && at.ends_with('Z'), "{at}");
    let expected = json!({
        "up": "ADA", "low": "abc", "items": "2 items", "int": "7", "next": "3", "last": "False",
        "kind": "True",
    });
    assert_eq!(result, expected);
}

#[test]
fn what_is_not_there_and_has_no_default_fails_with_the_names_that_are_there() {
    let plugin = one(r#"mapping: {a: "{{order.id}}"}"#);
    let message = why(&plugin, json!({"order": {"no": 1}, "more": 2}));
    assert_eq!(
        message,
        "transformer \"one\": the event has no {{order.id}}, and there is no default; it has more, order"
    );
    assert_eq!(made(&plugin, json!({"order": {"id": 3}})), [json!({"a": "3"})]);
    let plugin = one(r#"mapping: {a: "{{upper(name)}}"}"#);
    let message = why(&plugin, json!({"name": null}));
    assert!(message.ends_with("upper() is given something that is not there"), "{message}");
    let plugin = one(r#"mapping: {a: "{{count + 1}}"}"#);
    let message = why(&plugin, json!({"count": "x"}));
    assert!(message.starts_with("transformer \"one\": {{count + 1}}: tried to use +"), "{message}");
}

#[test]
fn conditions_compare_search_and_combine_fields() {
    let payload = json!({
        "status": "failed", "retry_count": 2, "agent_id": "judge_1", "properties": {"level": 3},
        "critical": true, "extracted": {"recommendation": 1}, "nothing": null,
    });
    for (condition, holds) in [
        ("status == 'failed'", true),
        ("status != 'failed'", false),
        ("status in ['completed', 'failed'] and retry_count < 3", true),
        ("status not in ['completed', 'failed'] or retry_count >= 3", false),
        ("critical == true", true),
        ("critical", true),
        ("not critical", false),
        ("properties.level", true),
        ("properties.other", false),
        ("missing.deep.down", false),
        ("missing", false),
        ("nothing == None", true),
        ("missing is not defined", true),
        ("missing > 3", false),
        ("agent_id.startswith('judge_')", true),
        ("missing.startswith('judge_')", false),
        ("'recommendation' in extracted", true),
        ("'recommendation' in missing", false),
        ("not (source_event.startswith('transport:') or source_event == 'a:b')", true),
        ("source_event == 'in:event'", true),
        ("_ksi_context.event == 'in:event'", true),
        ("retry_count * 2 == 4 and len(agent_id) == 7", true),
        ("true", true),
        ("False", false),
    ] {
        let plugin = one(&format!("condition: |\n  {condition}\nmapping: {{ok: true}}"));
        assert_eq!(problems(&plugin), [] as [&str; 0], "{condition}");
        let expected = if holds { vec![json!({"ok": true})] } else { vec![] };
        assert_eq!(made(&plugin, payload.clone()), expected, "{condition}");
    }
}

#[test]
fn a_condition_that_cannot_be_decided_fails_and_nothing_is_emitted() {
    let plugin = one("condition: 1 / count == 2");
    assert_eq!(
        why(&plugin, json!({"count": 0})),
        "transformer \"one\": condition: unable to calculate 1 / 0"
    );
}

#[test]
fn what_takes_too_long_or_makes_too_much_is_ended() {
    let plugin = one("condition: \"'ab' * count == 'x'\"");
    let message = why(&plugin, json!({"count": 100_000_000}));
    assert_eq!(message, "transformer \"one\": condition: it takes too long");
    let folder = Folder::with(
        "t.yaml",
        "transformers:\n  - {name: one, source: in:event, target: out:event, mapping: {a: '{{t}}{{t}}{{t}}'}}\n",
    );
    let config = json!({"paths": [folder.path("t.yaml")], "max_bytes": 1000});
    let plugin = Harness::with_config::<Transformers>(config).unwrap();
    let message = why(&plugin, json!({"t": "x".repeat(400)}));
    assert_eq!(message, "transformer \"one\": it makes more than 1000 bytes (max_bytes)");
    assert_eq!(made(&plugin, json!({"t": "x".repeat(300)})).len(), 1);
}

#[test]
fn an_event_for_each_item_has_the_item_its_place_and_the_payload() {
    let plugin = one(r#"foreach: agents
mapping:
  id: "{{data.flow}}_{{item.id}}"
  role: "{{item.role|worker}}"
  place: "{{index}} of {{total}}"
  last: "{{is_last}}"
  field: "{{item_id}}"
  worker: "{{data.workers[index % 2].id}}""#);
    let payload = json!({
        "flow": "f", "agents": [{"id": "a", "role": "boss"}, {"id": "b"}],
        "workers": [{"id": "w0"}, {"id": "w1"}],
    });
    let event = |id: &str, role: &str, place: &str, last: &str, worker: &str| {
        json!({
            "id": format!("f_{id}"), "role": role, "place": place, "last": last, "field": id,
            "worker": worker,
        })
    };
    let expected =
        [event("a", "boss", "0 of 2", "False", "w0"), event("b", "worker", "1 of 2", "True", "w1")];
    assert_eq!(made(&plugin, payload), expected);
    assert_eq!(made(&plugin, json!({"flow": "f"})), [] as [Value; 0]);

    let plugin = one("foreach: items\nmapping: {v: '{{item.v}}'}");
    let report = plugin.emit("in:event", json!({"items": [{"v": 1}, {"x": 2}, {"v": 3}]}));
    assert!(report.failed(), "the second has no v");
    assert_eq!(plugin.emitted_of("out:event"), [json!({"v": "1"}), json!({"v": "3"})]);
    let many: Vec<u32> = (0..1001).collect();
    let message = why(&plugin, json!({"items": many}));
    assert_eq!(message, "transformer \"one\": it has 1001 items, and 1000 are allowed (max_items)");
}

#[test]
fn floats_stand_in_texts_as_python_writes_them() {
    let plugin = one(r#"mapping: {f: "{{f}}"}"#);
    for (float, text) in [
        (1.0, "1.0"),
        (0.5, "0.5"),
        (-2.25, "-2.25"),
        (0.0, "0.0"),
        (1e-4, "0.0001"),
        (1e-5, "1e-05"),
        (1.5e-7, "1.5e-07"),
        (1234567.0, "1234567.0"),
        (1e15, "1000000000000000.0"),
        (1e16, "1e+16"),
        (1.25e22, "1.25e+22"),
        (0.1, "0.1"),
    ] {
        assert_eq!(made(&plugin, json!({"f": float})), [json!({"f": text})]);
    }
}
