//! The host's own events: what the clients of KSI ask for, and what an operator does.

use ksi_wire::module::ModuleState;
use ksi_wire::{config, metrics, module, router, state, system};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::kit::{Library, States, TestHost, error_of};

#[test]
fn health_says_healthy_version_uptime_and_counts() {
    let host = TestHost::chaos();
    let health = host.client().emit("system:health", json!({}));
    assert_eq!(health["status"], "healthy");
    assert!(health["version"].is_string(), "{health}");
    assert!(health["uptime"].as_f64().unwrap() > 0.0, "{health}");
    let counts: Vec<_> =
        health.as_object().unwrap().iter().filter(|(_, value)| value.is_u64()).collect();
    assert!(counts.iter().any(|(key, value)| key.contains("plugin") && **value == 1), "{health}");
    assert!(counts.iter().any(|(key, _)| key.contains("event")), "{health}");
}

#[test]
fn discover_lists_every_event_by_namespace_with_its_parameters() {
    let host = TestHost::chaos();
    let events = host.client().emit("system:discover", json!({}))["events"].take();
    let entry = |event: &str| -> Value {
        let (namespace, _) = event.split_once(':').unwrap();
        let of_namespace =
            events[namespace].as_array().unwrap_or_else(|| panic!("no {namespace}: {events:#}"));
        of_namespace
            .iter()
            .find(|entry| entry["event"] == event)
            .unwrap_or_else(|| panic!("no {event}"))
            .clone()
    };
    assert_eq!(entry("chaos:count")["summary"], "Counts the calls of one generation.");
    let failing = &entry("chaos:fail")["parameters"];
    assert_eq!(
        (&failing["code"]["type"], &failing["code"]["required"]),
        (&json!("str"), &json!(true))
    );
    let sleeping = &entry("chaos:sleep")["parameters"];
    assert_eq!(
        (&sleeping["millis"]["type"], &sleeping["millis"]["required"]),
        (&json!("int"), &json!(false))
    );
    assert_eq!(sleeping["millis"]["description"], "How long.");
    let typed = &entry("chaos:typed")["parameters"];
    assert_eq!(
        (&typed["items"]["type"], &typed["items"]["required"]),
        (&json!("list"), &json!(true))
    );
    let subscribe = &entry("monitor:subscribe")["parameters"];
    assert_eq!(
        (&subscribe["event_patterns"]["type"], &subscribe["event_patterns"]["required"]),
        (&json!("list"), &json!(true))
    );
    for event in ["system:health", "system:help", "module:list", "module:reload", "router:graph"] {
        entry(event);
    }
}

#[test]
fn discover_has_the_levels_and_filters_that_clients_use() {
    let host = TestHost::chaos();
    let mut client = host.client();
    let summary = client.emit("system:discover", json!({"level": "summary"}));
    assert_eq!(summary["_level"], "summary");
    assert!(summary["namespaces"]["chaos"]["count"].as_u64().unwrap() > 10, "{summary}");
    assert!(summary["namespaces"]["chaos"].get("description").is_some(), "{summary}");
    for level in ["namespace", "full"] {
        let flat = client.emit("system:discover", json!({"level": level, "namespace": "gate"}));
        let mut names: Vec<_> = flat["events"].as_object().unwrap().keys().cloned().collect();
        names.sort();
        assert_eq!(names, ["gate:open", "gate:stats", "gate:wait"]);
        assert_eq!(
            (&flat["total"], &flat["namespaces"], &flat["_level"]),
            (&json!(3), &json!(["gate"]), &json!(level))
        );
    }
    let one = client.emit("system:discover", json!({"level": "full", "event": "chaos:fail"}));
    assert_eq!(one["events"].as_object().unwrap().keys().collect::<Vec<_>>(), ["chaos:fail"]);
    let of_module =
        client.emit("system:discover", json!({"level": "namespace", "module": "chaos"}));
    let names = of_module["events"].as_object().unwrap();
    assert!(names.contains_key("chaos:echo") && !names.contains_key("module:list"));
}

#[test]
fn help_describes_one_event_and_fails_for_an_unknown_one() {
    let host = TestHost::chaos();
    let mut client = host.client();
    let help = client.emit("system:help", json!({"event": "chaos:fail"}));
    assert_eq!(
        (&help["event"], &help["module"], &help["handler"]),
        (&json!("chaos:fail"), &json!("chaos"), &json!("fail"))
    );
    assert_eq!(help["parameters"]["message"]["required"], true);
    assert!(help["examples"].is_array() && help["summary"].is_string(), "{help}");
    let reply = client.reply("system:help", json!({"event": "chaos:fial"}));
    assert_eq!(reply["failed"], true);
    assert!(error_of(&reply).contains("chaos:fial"), "{reply}");
}

#[test]
fn module_list_inspect_and_events_tell_of_a_plugin() {
    let host = TestHost::chaos();
    let mut client = host.client();
    let module = host.module("chaos");
    assert_eq!(
        (&module["version"], &module["generation"], module.state()),
        (&json!("0.1.0"), &json!(1), ModuleState::Live)
    );
    assert_eq!(module["file"], host.file("chaos.so").to_str().unwrap());
    assert!(module["events"].as_array().unwrap().contains(&json!("chaos:echo")));
    assert_eq!((&module["retired"], &module["last_error"]), (&json!([]), &Value::Null));

    let inspected = client.emit("module:inspect", json!({"module_name": "chaos"}));
    assert_eq!(
        (&inspected["name"], &inspected["manifest"]["panic"]),
        (&json!("chaos"), &json!("unwind"))
    );
    assert_eq!(inspected["emits"], json!(["chaos:flooded"]));
    for step in ["copy", "manifest", "probe", "load", "init"] {
        assert!(
            inspected["timings_ms"][step].as_f64().unwrap() > 0.0,
            "{step}: {}",
            inspected["timings_ms"]
        );
    }
    let handlers = inspected["handlers"].as_array().unwrap();
    let late = handlers.iter().find(|handler| handler["name"] == "late").unwrap();
    assert_eq!((&late["timeout_ms"], &late["subscriptions"]), (&json!(50), &json!(["chaos:late"])));
    let reply = client.reply("module:inspect", json!({"module_name": "nobody"}));
    assert!(error_of(&reply).contains("nobody"), "{reply}");

    let events = client.emit("module:events", json!({}));
    let all = json!([{"module": "chaos", "handler": "order_high", "priority": 10}]);
    assert_eq!(events["events"]["order:all"], all);
}

#[test]
fn module_load_reload_and_unload_do_what_they_say_and_fail_with_a_reason() {
    let host = TestHost::builder().start();
    let mut client = host.client();
    let path = host.dir().join("elsewhere.so");
    std::fs::write(&path, Library::chaos().0).unwrap();
    let loaded = client.emit("module:load", json!({"path": path}));
    assert_eq!(
        loaded,
        json!({"status": "loaded", "name": "chaos", "version": "0.1.0", "generation": 1})
    );
    let reloaded = client.emit("module:reload", json!({"module_name": "chaos"}));
    assert_eq!(
        reloaded,
        json!({"status": "reloaded", "name": "chaos", "version": "0.1.0", "generation": 2})
    );
    let unloaded = client.emit("module:unload", json!({"module_name": "chaos"}));
    let expected =
        json!({"status": "unloaded", "name": "chaos", "version": "0.1.0", "generation": 2});
    assert_eq!(unloaded, expected);
    assert_eq!(host.until_unmapped("chaos").state(), ModuleState::Unloaded);
    assert!(path.exists(), "the file stays");
    for (event, data, word) in [
        ("module:unload", json!({"module_name": "chaos"}), "chaos"),
        ("module:reload", json!({"module_name": "nobody"}), "nobody"),
        ("module:load", json!({"path": "/nowhere/at-all.so"}), "/nowhere/at-all.so"),
        ("module:load", json!({"paht": "x"}), "path"),
    ] {
        let reply = client.reply(event, data);
        assert_eq!(reply["failed"], true, "{event}: {reply}");
        assert!(error_of(&reply).contains(word), "{event}: {reply}");
    }
}

#[test]
fn a_plugin_can_ask_the_host_as_a_client_does() {
    let host = TestHost::chaos();
    let answer = host.client().emit("chaos:request", json!({"event": "module:list", "data": {}}));
    assert_eq!((&answer["count"], &answer["modules"][0]["name"]), (&json!(1), &json!("chaos")));
}

#[test]
fn what_was_accepted_is_the_sum_of_all_outcomes() {
    let host = TestHost::chaos();
    let mut client = host.client();
    for (event, data) in [
        ("chaos:echo", json!(1)),
        ("chaos:quiet", json!({})),
        ("chaos:fail", json!({"code": "c", "message": "m"})),
        ("chaos:typed", json!({"items": 5})),
        ("chaos:panic", json!({})),
        ("chaos:late", json!({})),
    ] {
        client.reply(event, data);
    }
    let waiting = client.begin("gate:wait", json!({}));
    let mut other = host.client();
    crate::kit::until(
        "it waits",
        || other.emit("gate:stats", json!({}))["waiting"].clone(),
        |n| *n == 1,
    );
    let number = |counts: &Value, key: &str| {
        counts[key].as_u64().unwrap_or_else(|| panic!("no {key}: {counts}"))
    };
    let is_balanced = |counts: &Value| {
        let ended =
            ["replied", "no_reply", "failed", "panicked", "crashed", "timed_out", "rejected"];
        let sum: u64 = ended.iter().map(|key| number(counts, key)).sum();
        assert_eq!(number(counts, "accepted"), sum + number(counts, "in_flight"), "{counts}");
    };
    let counts = host.module("chaos")["counts"].clone();
    is_balanced(&counts);
    assert_eq!((number(&counts, "failed"), number(&counts, "panicked")), (2, 1), "{counts}");
    assert_eq!((number(&counts, "timed_out"), number(&counts, "in_flight")), (1, 1), "{counts}");
    let stats = other.emit("router:stats", json!({}));
    is_balanced(&stats);
    assert!(number(&stats, "accepted") > number(&counts, "accepted"));
    assert!(
        number(&stats, "events_emitted") >= 8 && stats["uptime"].as_f64().unwrap() > 0.0,
        "{stats}"
    );
    other.emit("gate:open", json!({}));
    client.end(&waiting);
    let after =
        host.until_module("all have ended", "chaos", |module| module["counts"]["in_flight"] == 0);
    is_balanced(&after["counts"]);
}

#[test]
fn the_host_alone_answers_its_own_events_and_a_plugin_that_subscribes_to_all_sees_them() {
    let everything = "[plugin.chaos]\nsubscribe = ['**']";
    let host = TestHost::builder().plugin("chaos.so", &Library::chaos()).config(everything).start();
    let mut client = host.client();
    for event in ["module:list", "module:events", "router:graph", "system:health", "metrics:get"] {
        let reply = client.reply(event, json!({}));
        assert_eq!((&reply["count"], &reply["errors"]), (&json!(1), &Value::Null), "{reply}");
        crate::kit::until(
            "the plugin has seen it",
            || client.emit("chaos:heard", json!({})),
            |heard| heard[0].as_array().unwrap().contains(&json!(event)),
        );
    }
    for command in [&["list"][..], &["events"], &["graph"], &["inspect", "chaos"]] {
        host.ksi(command).ok();
    }
    host.ksi(&["stop"]).ok();
    host.has_stopped();
}

/// What a host replies has no key that the type for it does not know, and none is missing.
#[test]
fn what_clients_know_of_a_reply_is_all_that_is_in_it() {
    #[track_caller]
    fn whole<T: DeserializeOwned + Serialize>(host: &TestHost, event: &str, data: Value) -> T {
        let reply = host.client().emit(event, data);
        let read: T = serde_json::from_value(reply.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), reply, "{event}");
        read
    }
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .plugin("counter.so", &Library::counter(1))
        .plugin("notes.so", &Library(b"no library".to_vec()))
        .config("[state]\ndir = 'state'")
        .start();
    let one = json!({"module_name": "counter"});
    let of_one = || one.clone();
    host.client().emit("counter:increment", json!({"name": "a"}));
    whole::<module::Changed>(&host, "module:reload", of_one());
    let health = whole::<system::Health>(&host, "system:health", json!({}));
    assert_eq!((&*health.status, health.plugins), ("healthy", 2));
    whole::<system::Clients>(&host, "system:clients", json!({}));
    whole::<system::LogInEffect>(&host, "system:log", json!({}));
    whole::<system::ByNamespace>(&host, "system:discover", json!({}));
    whole::<system::Flat>(&host, "system:discover", json!({"level": "full"}));
    whole::<system::Summary>(&host, "system:discover", json!({"level": "summary"}));
    whole::<system::Event>(&host, "system:help", json!({"event": "counter:increment"}));
    let counter = whole::<module::Inspect>(&host, "module:inspect", of_one());
    assert_eq!((counter.overview.state, counter.handlers.len()), (module::ModuleState::Live, 9));
    whole::<module::Events>(&host, "module:events", json!({}));
    let said = whole::<module::Schemas>(&host, "module:schemas", json!({}));
    assert!(said.events["counter:increment"].handles[0].payload_schema.is_some());
    whole::<module::History>(&host, "module:history", json!({}));
    whole::<router::Graph>(&host, "router:graph", json!({}));
    whole::<router::Stats>(&host, "router:stats", json!({}));
    whole::<router::Calls>(&host, "router:calls", json!({}));
    whole::<router::Failures>(&host, "router:failures", json!({}));
    whole::<router::Latencies>(&host, "router:latency", json!({}));
    whole::<metrics::Metrics>(&host, "metrics:get", json!({}));
    whole::<config::Reloaded>(&host, "config:reload", json!({}));
    let kept = whole::<state::KeptList>(&host, "module:state_list", json!({}));
    assert_eq!(kept.count, 1);
    whole::<state::Restored>(&host, "module:state_restore", of_one());
    whole::<module::Changed>(&host, "module:unload", of_one());
    whole::<state::Dropped>(&host, "module:state_drop", of_one());
    let list = host.client().emit("module:list", json!({}));
    for entry in list["modules"].as_array().unwrap() {
        let read = match entry.get("duplicate_of") {
            Some(_) => serde_json::to_value(module::RefusedFile::deserialize(entry).unwrap()),
            None => serde_json::to_value(module::Overview::deserialize(entry).unwrap()),
        };
        assert_eq!(read.unwrap(), *entry);
    }
}
