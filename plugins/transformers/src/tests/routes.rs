//! Which events go where: patterns, async ones and their answers, loops, and what is handed over.

use super::*;

#[test]
fn sources_may_be_patterns_and_several_transformers_take_one_event() {
    let plugin = of(r#"
- {name: all_of_a, source: "a:*", target: got:a, mapping: {e: "{{_ksi_context.event}}"}}
- {name: exact, source: a:x, target: got:x}
- {name: exact_too, source: a:x, target: got:x}
- {name: everything, source: "*", target: got:all, condition: "not source_event.startswith('got:')"}
"#);
    plugin.emit("a:x", json!({}));
    assert_eq!(plugin.emitted_of("got:a"), [json!({"e": "a:x"})]);
    assert_eq!(plugin.emitted_of("got:x").len(), 2);
    plugin.take_emitted();
    plugin.emit("a:b:c", json!({}));
    assert_eq!(plugin.emitted_of("got:a"), [] as [Value; 0], "a `*` is one segment");
    assert_eq!(plugin.emitted_of("got:all").len(), 1);
}

#[test]
fn the_emitter_waits_for_what_a_transformer_emits_but_not_for_an_async_one() {
    let yaml = |is_async: bool| format!("async: {is_async}\nmapping: {{id: '{{{{id}}}}'}}");
    let slow = |plugin: &Harness| {
        plugin.on("out:event", |_: Value| Ok(json!("its reply is nobody's")));
    };
    let plugin = one(&yaml(false));
    slow(&plugin);
    let report = plugin.emit("in:event", json!({"id": 1}));
    assert!(report.is_ok());
    assert_eq!(report.results(), [] as [Value; 0]);
    let plugin = one(&yaml(true));
    slow(&plugin);
    assert!(plugin.emit("in:event", json!({"id": 1})).is_ok());
    assert_eq!(plugin.emitted_of("out:event"), [json!({"id": "1"})]);
}

const ASKS: &str = r#"
transformers:
  - name: asks
    source: in:event
    target: completion:async
    async: true
    mapping:
      prompt: "{{text}}"
      request_id: "{{transform_id}}"
    response_route:
      from: completion:result
      to: out:event
      filter: "request_id == {{transform_id}} and status == 'done'"
"#;

fn begun(plugin: &Harness) -> String {
    plugin.emit("in:event", json!({"text": "hi"}));
    let asked = plugin.emitted_of("completion:async").pop().unwrap();
    asked["request_id"].as_str().unwrap().to_owned()
}

#[test]
fn the_answer_to_an_async_one_goes_where_it_says_once() {
    let plugin = of(ASKS);
    let (first, second) = (begun(&plugin), begun(&plugin));
    assert_ne!(first, second);
    let answer = |id: &str, status: &str| {
        plugin.take_emitted();
        let answer = json!({"request_id": id, "status": status, "text": "hello"});
        assert!(!plugin.emit("completion:result", answer).failed());
        plugin.emitted_of("out:event").len()
    };
    assert_eq!(answer("somebody else's", "done"), 0);
    assert_eq!(answer(&first, "not yet"), 0, "the filter leaves it out");
    assert_eq!(answer(&first, "done"), 1);
    let mut result = plugin.emitted_of("transform:result").remove(0);
    assert!(result["timestamp"].as_f64().unwrap() > 1.7e9);
    result.as_object_mut().unwrap().remove("timestamp");
    let expected = json!({
        "transform_id": first, "source_event": "in:event", "target_event": "out:event",
        "result": {"request_id": first, "status": "done", "text": "hello"},
    });
    assert_eq!(result, expected);
    assert_eq!(answer(&first, "done"), 0, "it was answered");
    assert_eq!(answer(&second, "done"), 1);
}

#[test]
fn no_more_answers_are_awaited_than_are_allowed() {
    let folder = Folder::with("t.yaml", ASKS);
    let config = json!({"paths": [folder.path("")], "max_pending": 2});
    let plugin = Harness::with_config::<Transformers>(config).unwrap();
    let ids: Vec<String> = (0..3).map(|_| begun(&plugin)).collect();
    let answered: Vec<usize> = ids
        .iter()
        .map(|id| {
            plugin.take_emitted();
            plugin.emit("completion:result", json!({"request_id": id, "status": "done"}));
            plugin.emitted_of("out:event").len()
        })
        .collect();
    assert_eq!(answered, [0, 1, 1], "the earliest gives way");
}

#[test]
fn transformers_that_cause_one_another_end_at_the_hosts_limit() {
    let plugin = of(r#"
- {name: there, source: a:a, target: b:b, mapping: {n: "{{_ksi_context._event_depth}}"}}
- {name: back, source: b:b, target: a:a}
"#);
    let report = plugin.emit("a:a", json!({}));
    assert!(!report.failed(), "what comes of what it emits is not its own");
    // 64 in all: the first is the test's, and the one that was refused was not accepted.
    let emitted = plugin.emitted();
    let accepted: Vec<&str> = emitted.iter().map(|it| it.name.as_str()).take(63).collect();
    assert_eq!(accepted.iter().filter(|name| **name == "b:b").count(), 32);
    let listed = plugin.emit("transformer:list", json!({})).results().remove(0);
    let of = |name: &str, key: &str| {
        let all = listed["transformers"].as_array().unwrap();
        all.iter().find(|shown| shown["name"] == name).unwrap()[key].clone()
    };
    let failed = of("there", "failed").as_u64().unwrap() + of("back", "failed").as_u64().unwrap();
    assert_eq!(failed, 1);
    let errors = [of("there", "last_error"), of("back", "last_error")];
    let error = errors.iter().find_map(Value::as_str).unwrap();
    assert!(error.contains("limits.event_depth") && error.contains("a:a"), "{error}");
}

#[test]
fn transformers_are_registered_listed_and_removed_by_events_as_in_ksi() {
    let plugin = of("transformers: []");
    let transformer = json!({
        "source": "in:event", "target": "out:event", "async": false, "condition": "x == 1",
        "mapping": {"x": "{{x}}"},
    });
    let registered =
        plugin.emit("router:register_transformer", json!({"transformer": transformer}));
    let expected = json!({
        "status": "registered", "name": "in:event -> out:event", "source": "in:event",
        "target": "out:event",
    });
    assert_eq!(registered.results(), [expected]);
    plugin.emit("router:register_transformer", json!({"transformer": transformer}));
    let listed = plugin.emit("router:list_transformers", json!({})).results();
    let shown = json!({
        "source": "in:event", "target": "out:event", "async": false, "has_condition": true,
        "has_response_route": false,
    });
    assert_eq!(listed, [json!({"transformers": [shown], "count": 1})], "the same one is one");
    assert_eq!(made(&plugin, json!({"x": 1})), [json!({"x": "1"})]);
    let bad =
        json!({"transformer": {"name": "bad", "source": "a:b", "target": "c:d", "condition": "("}});
    let report = plugin.emit("router:register_transformer", bad);
    let OutcomeKind::Failed { code, message } = &report.outcomes()[0].result else { panic!() };
    assert_eq!(code, "invalid_transformer");
    assert!(message.starts_with("transformer \"bad\": condition: "), "{message}");
    let removed = plugin.emit("router:unregister_transformer", json!({"source": "in:event"}));
    assert_eq!(
        removed.results(),
        [json!({"status": "unregistered", "source": "in:event", "count": 1})]
    );
    assert_eq!(made(&plugin, json!({"x": 1})), [] as [Value; 0]);
}

#[test]
fn one_of_a_name_takes_the_place_of_the_one_before() {
    let plugin = of("transformers: []");
    for text in ["first", "second"] {
        let transformer = json!({
            "name": "n", "source": "in:event", "target": "out:event", "mapping": {"t": text},
        });
        plugin.emit("router:register_transformer", json!({"transformer": transformer}));
    }
    assert_eq!(made(&plugin, json!({})), [json!({"t": "second"})]);
}

#[test]
fn an_answer_that_is_awaited_finds_its_transformer_after_a_replacement() {
    let old = of("transformers: []");
    let asks = |text: &str| {
        json!({"transformer": {
            "source": "in:event", "target": "ask:it", "async": true, "condition": format!("t == '{text}'"),
            "mapping": {"request_id": "{{transform_id}}"},
            "response_route": {"from": "answer:it", "to": format!("out:{text}")},
        }})
    };
    old.emit("router:register_transformer", asks("first"));
    old.emit("router:register_transformer", asks("second"));
    old.emit("in:event", json!({"t": "second"}));
    let id = old.emitted_of("ask:it").remove(0)["request_id"].clone();
    let (version, snapshot) = old.snapshot().unwrap();
    let new = Folder::with("t.yaml", "transformers: []")
        .setup()
        .restore(version, snapshot)
        .start()
        .unwrap();
    new.emit("answer:it", json!({"request_id": id}));
    assert_eq!(new.emitted_of("out:second").len(), 1);
    assert_eq!(new.emitted_of("out:first").len(), 0);
}

#[test]
fn what_no_file_says_is_handed_over() {
    let folder = Folder::with("t.yaml", ASKS);
    let old = folder.start();
    let transformer = json!({"source": "x:x", "target": "y:y", "mapping": {"v": "{{v}}"}});
    old.emit("router:register_transformer", json!({"transformer": transformer}));
    let id = begun(&old);
    let (version, snapshot) = old.snapshot().unwrap();
    let new = folder.setup().restore(version, snapshot).start().unwrap();
    new.emit("x:x", json!({"v": 1}));
    assert_eq!(new.emitted_of("y:y"), [json!({"v": "1"})]);
    new.emit("completion:result", json!({"request_id": id, "status": "done"}));
    assert_eq!(new.emitted_of("out:event").len(), 1);
    assert_ne!(begun(&new), id);
}
