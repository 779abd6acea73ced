use ksi_harness::{Emitted, Harness};

use super::*;

fn emitted(name: &str, payload: Value) -> Emitted {
    Emitted { name: name.to_owned(), payload }
}

fn code(report: &Report) -> (String, String) {
    match report.outcomes().remove(0).result {
        OutcomeKind::Failed { code, message } => (code, message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_update_sets_gets_lists_and_deletes() {
    let plugin = Harness::start::<State>();
    let update = |payload: Value| plugin.emit("state:update", payload).results();
    let k = |operation| json!({"namespace": "a", "key": "k", "operation": operation});

    let set = json!({"namespace": "a", "key": "k", "value": 1, "operation": "set"});
    assert_eq!(update(set), [json!({"status": "set"})]);
    assert_eq!(update(k("get")), [json!({"value": 1})]);
    assert_eq!(
        update(json!({"namespace": "a", "key": "k", "value": null})),
        [json!({"status": "set"})]
    );
    assert_eq!(update(k("get")), [json!({"value": null})]);
    assert_eq!(update(json!({"namespace": "a", "operation": "list"})), [json!({"keys": ["k"]})]);
    assert_eq!(update(json!({"operation": "list"})), [json!({"namespaces": ["a"]})]);
    assert_eq!(update(k("delete")), [json!({"status": "deleted"})]);
    assert_eq!(update(k("delete")), [json!({"status": "not_found"})]);
    assert_eq!(update(k("get")), [json!({"value": null, "found": false})]);

    let key = |more: Value| {
        let mut payload = json!({"namespace": "a", "key": "k"});
        payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        payload
    };
    let expected = [
        emitted("state:changed", key(json!({"value": 1}))),
        emitted("state:changed", key(json!({"value": null, "previous": 1}))),
        emitted("state:deleted", key(json!({"previous": null}))),
    ];
    assert_eq!(plugin.emitted(), expected);
}

#[test]
fn every_operation_has_an_event_of_its_own() {
    let plugin = Harness::start::<State>();
    let one = |event: &str, payload: Value| plugin.emit(event, payload).results();
    for (namespace, key) in [("b", "2"), ("b", "1"), ("a", "1")] {
        let set = json!({"namespace": namespace, "key": key, "value": {"of": key}});
        assert_eq!(one("state:set", set), [json!({"status": "set"})]);
    }
    let key = json!({"namespace": "b", "key": "1"});
    assert_eq!(one("state:get", key.clone()), [json!({"value": {"of": "1"}})]);
    assert_eq!(one("state:list", json!({"namespace": "b"})), [json!({"keys": ["1", "2"]})]);
    assert_eq!(one("state:list", json!({"namespace": "c"})), [json!({"keys": []})]);
    assert_eq!(one("state:list", json!({})), [json!({"namespaces": ["a", "b"]})]);
    assert_eq!(one("state:delete", key.clone()), [json!({"status": "deleted"})]);
    assert_eq!(one("state:get", key), [json!({"value": null, "found": false})]);
}

#[test]
fn what_an_operation_lacks_is_named() {
    let plugin = Harness::start::<State>();
    for (payload, lacks) in [
        (json!({"key": "k", "operation": "get"}), "get needs a \"namespace\""),
        (json!({"namespace": "a", "operation": "delete"}), "delete needs a \"key\""),
        (json!({"namespace": "a", "key": "k"}), "set needs a \"value\""),
        (json!({"operation": "rename"}), "rename"),
    ] {
        let (code, message) = code(&plugin.emit("state:update", payload));
        assert_eq!(code, "invalid_payload");
        assert!(message.contains(lacks), "{message}");
    }
    let set = json!({"namespace": "", "key": "k", "value": 1});
    assert_eq!(code(&plugin.emit("state:set", set)).0, "invalid_name");
    let set = json!({"namespace": "a", "key": "k".repeat(2_000), "value": 1});
    assert_eq!(code(&plugin.emit("state:set", set)).0, "invalid_name");
    assert_eq!(plugin.emitted(), []);
}

#[test]
fn what_exceeds_a_bound_is_refused_and_changes_nothing() {
    let config = json!({"max_keys": 2, "max_value_bytes": 12, "max_total_bytes": 24});
    let plugin = Harness::with_config::<State>(config).unwrap();
    let set = |key: &str, value: &str| {
        plugin.emit("state:set", json!({"namespace": "a", "key": key, "value": value}))
    };
    assert!(set("1", "1234567890").is_ok());
    let (too_large, message) = code(&set("1", "12345678901"));
    assert_eq!(too_large, "too_large");
    assert!(message.contains("a/1 has 13 bytes, and 12 are allowed"), "{message}");
    let (full, message) = code(&set("2", "1234567890"));
    assert_eq!(full, "full");
    assert!(message.contains("28 bytes, and 24"), "{message}");
    assert!(set("2", "1").is_ok());
    let (too_many, message) = code(&set("3", ""));
    assert_eq!(too_many, "too_many_keys");
    assert!(message.contains("there are 2 keys"), "{message}");
    let found = plugin.emit("state:get", json!({"namespace": "a", "key": "1"})).results();
    assert_eq!(found, [json!({"value": "1234567890"})]);
    assert_eq!(plugin.emitted().len(), 2);
}

#[test]
fn a_misspelt_bound_is_refused() {
    let error = Harness::with_config::<State>(json!({"max_key": 1})).err().expect("it is refused");
    assert_eq!(error.code(), "invalid_config");
    assert!(error.message().contains("max_key"), "{error}");
}

#[test]
fn the_end_is_announced_with_what_is_there() {
    let plugin = Harness::start::<State>();
    for (namespace, key) in [("b", "2"), ("b", "1"), ("a", "1")] {
        plugin.emit("state:set", json!({"namespace": namespace, "key": key, "value": 1}));
    }
    assert!(plugin.shutdown().is_ok());
    let persisting = json!({"namespaces": 2, "keys": 3});
    assert_eq!(plugin.emitted_of("state:persisting"), [persisting]);
}

#[test]
fn values_survive_a_replacement_as_they_are() {
    let old = Harness::start::<State>();
    let values = [
        ("b", "1", json!({"deep": [1, 2.5, null], "text": "ä \"quoted\" \n"})),
        ("b", "2", json!(u64::MAX)),
        ("a", "\"odd\" key", json!(null)),
        ("a", "gone", json!("gone")),
    ];
    for (namespace, key, value) in &values {
        old.emit("state:set", json!({"namespace": namespace, "key": key, "value": value}));
    }
    old.emit("state:delete", json!({"namespace": "a", "key": "gone"}));
    let (version, saved) = old.snapshot().unwrap();
    let expected = json!({"namespaces": {
        "a": {"\"odd\" key": null},
        "b": {"1": values[0].2, "2": u64::MAX},
    }});
    assert_eq!((version, &saved), (1, &expected));

    let new = Harness::setup::<State>().restore(version, saved).start().unwrap();
    for (namespace, key, value) in &values[..3] {
        let found = new.emit("state:get", json!({"namespace": namespace, "key": key})).results();
        assert_eq!(found, [json!({"value": value})]);
    }
    let namespaces = new.emit("state:list", json!({})).results();
    assert_eq!(namespaces, [json!({"namespaces": ["a", "b"]})]);
    assert_eq!(new.emitted(), []);
    assert_eq!(new.snapshot().unwrap(), old.snapshot().unwrap());
}

#[test]
fn a_restored_store_counts_what_it_holds() {
    let config = json!({"max_keys": 3, "max_total_bytes": 20});
    let old = Harness::with_config::<State>(config.clone()).unwrap();
    let set = |plugin: &Harness, key: &str, value: &str| {
        plugin.emit("state:set", json!({"namespace": "a", "key": key, "value": value}))
    };
    assert!(set(&old, "1", "1234").is_ok());
    let (version, saved) = old.snapshot().unwrap();
    let setup = Harness::setup::<State>().config(config);
    let new = setup.restore(version, saved).start().unwrap();
    for plugin in [&old, &new] {
        let (full, message) = code(&set(plugin, "2", "123456789"));
        assert_eq!(full, "full");
        assert!(message.contains("would have 21 bytes, and 20"), "{message}");
        assert!(set(plugin, "2", "12345678").is_ok());
        assert!(plugin.emit("state:delete", json!({"namespace": "a", "key": "1"})).is_ok());
        for key in ["1", "3"] {
            assert!(set(plugin, key, "").is_ok());
        }
        assert_eq!(code(&set(plugin, "4", "")).0, "too_many_keys");
    }
}

#[test]
fn a_snapshot_that_does_not_fit_is_refused_with_the_limit_to_raise() {
    let saved = json!({"namespaces": {"a": {"1": "1234567890", "2": 1}, "b": {"1": 1}}});
    for (config, expected, says) in [
        (json!({"max_keys": 2}), "too_many_keys", "3 keys, and 2 are allowed: raise max_keys"),
        (json!({"max_value_bytes": 11}), "too_large", "a/1 has 12 bytes, and 11 are allowed"),
        (json!({"max_total_bytes": 19}), "full", "20 bytes, and 19 are allowed"),
    ] {
        let setup = Harness::setup::<State>().config(config).restore(1, saved.clone());
        let error = setup.start().err().expect("it is refused");
        assert_eq!(error.code(), expected);
        let message = error.message();
        assert!(
            message.starts_with("the snapshot does not fit the present configuration"),
            "{message}"
        );
        assert!(message.contains(says), "{message}");
    }
    let fits = json!({"max_keys": 3, "max_value_bytes": 12, "max_total_bytes": 20});
    let plugin = Harness::setup::<State>().config(fits).restore(1, saved).start().unwrap();

    let unnamed = json!({"namespaces": {"a": {"": 1}}});
    assert_eq!(plugin.restore(1, &unnamed).unwrap_err().code(), "invalid_name");
    assert_eq!(plugin.restore(1, &json!({})).unwrap_err().code(), "invalid_snapshot");
    assert_eq!(plugin.restore(2, &json!({})).unwrap_err().code(), "unknown_snapshot_version");
    let keys = plugin.emit("state:list", json!({"namespace": "a"})).results();
    assert_eq!(keys, [json!({"keys": ["1", "2"]})]);
    let empty = json!({"namespaces": {"a": {}}});
    plugin.restore(1, &empty).unwrap();
    assert_eq!(plugin.emit("state:list", json!({})).results(), [json!({"namespaces": []})]);
}
