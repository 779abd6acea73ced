//! Replies of a host as they were recorded before there were these types: each is read, and written
//! again byte for byte. What hosts say seldom is compared with the JSON that it was made of.

#![allow(clippy::expect_used)]

use std::{fs, path::Path};

use ksi_wire::{
    config, line, metrics,
    module::{
        self, Changed, ConfigTaken, Entry, Inspect, List, Lost, ModuleState, Overview, Quarantined,
        RefusedFile, Retired, RetiredState, Signal, announced::Announced,
    },
    monitor, router, state,
    system::{self, Health},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

fn recorded(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded");
    let text = fs::read_to_string(folder.join(name).with_extension("json")).expect(name);
    text.trim_end().to_owned()
}

fn written(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("it is written")
}

#[track_caller]
fn same<T: DeserializeOwned + Serialize>(name: &str) {
    let text = recorded(name);
    let read: T = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(written(&read), text, "{name}");
}

/// The same of a reply that is put together, whose keys the host puts in order; with keys that came
/// later.
#[track_caller]
fn same_sorted<T: DeserializeOwned + Serialize>(name: &str, later: &[&str]) {
    let text = recorded(name);
    let read: T = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut written = serde_json::to_value(read).expect(name);
    for key in later {
        let keys = written.as_object_mut().expect("an object");
        assert!(keys.remove(*key).is_some(), "{name} has no {key}");
    }
    assert_eq!(written.to_string(), text, "{name}");
}

#[test]
fn every_recorded_reply_is_read_and_written_again_byte_for_byte() {
    same::<system::Health>("system-health");
    same::<system::Clients>("system-clients");
    same::<system::ByNamespace>("system-discover");
    same::<system::Summary>("system-discover-summary");
    same::<system::Flat>("system-discover-full");
    same::<system::Event>("system-help");
    same::<system::Shutdown>("system-shutdown_request");
    same_sorted::<Inspect>("module-inspect", &["emits_schemas", "exchanges", "watches"]);
    same::<module::Events>("module-events");
    for name in ["module-load", "module-reload", "module-unload"] {
        same::<Changed>(name);
    }
    same::<state::KeptList>("module-state_list");
    same::<state::Restored>("module-state_restore");
    same::<state::Dropped>("module-state_drop");
    same::<router::Graph>("router-graph");
    same_sorted::<router::Stats>("router-stats", &[]);
    same::<metrics::Metrics>("metrics-get");
    same::<config::Reloaded>("config-reload");
    same::<monitor::Subscribed>("monitor-subscribe");
    same::<monitor::Unsubscribed>("monitor-unsubscribe");
    same::<line::UnknownEvent>("unknown-event");
    same::<line::FailedReply>("failure");
}

#[test]
fn the_list_has_plugins_with_all_keys_and_files_with_their_own() {
    #[derive(Deserialize)]
    struct Recorded {
        modules: Vec<Value>,
    }
    let text = recorded("module-list");
    let Recorded { modules } = serde_json::from_str(&text).expect("a list");
    let entry = |module: Value| match module.get("duplicate_of") {
        Some(_) => Entry::File(Box::new(serde_json::from_value(module).expect("a file"))),
        None => Entry::Plugin(Box::new(serde_json::from_value(module).expect("a plugin"))),
    };
    let list = List { count: modules.len(), modules: modules.into_iter().map(entry).collect() };
    assert_eq!(written(&list), text);
    let read: List = serde_json::from_str(&text).expect("a list");
    let states: Vec<_> = read.modules.iter().map(|it| (&*it.name, it.state.clone())).collect();
    let (live, refused) = (ModuleState::Live, ModuleState::Refused);
    let expected = [
        ("counter", live.clone()),
        ("hello", live),
        ("hello_again.so", refused.clone()),
        ("notes.so", refused),
    ];
    assert_eq!(states, expected);
    assert_eq!(read.modules[2].duplicate_of.as_deref(), Some("hello"));
}

#[test]
fn what_hosts_say_seldom_is_written_as_it_was() {
    let zero = json!({
        "accepted": 0, "replied": 0, "no_reply": 0, "failed": 0, "panicked": 0, "crashed": 0, "timed_out": 0,
        "rejected": 0, "in_flight": 0,
    });
    let quarantined = json!({
        "version": "0.2.0", "hash": "ab", "reason": "it panics", "attempts": 2, "retry_in_ms": 900,
    });
    let file = json!({
        "name": "a.so", "version": null, "generation": null, "state": "quarantined",
        "file": "/p/a.so", "events": [], "counts": zero, "retired": [], "last_error": "it panics",
        "missing": [], "quarantined": quarantined, "retry_in_ms": 900, "duplicate_of": null,
    });
    again::<RefusedFile>(&file);
    let mut plugin: Value = serde_json::from_str(&recorded("module-list")).expect("a list");
    let mut plugin = plugin["modules"][0].take();
    plugin["persisted"] = json!({ "version": 2, "bytes": 2048, "written": 88.5 });
    plugin["state_not_kept"] = json!({ "reason": "the disk is full", "since": 9.5, "times": 3 });
    plugin["signals"] = json!([{ "signal": "SIGINT", "ignored": false, "host_too": true }]);
    plugin["previous"] = json!([{ "version": "0.1.0", "generation": 1 }]);
    plugin["quarantined"] = quarantined;
    plugin["retired"] = json!([{
        "generation": 2, "version": "0.1.0", "state": "pinned", "cause": "a thread",
        "timings_ms": { "drain": 0.2, "unmap": null }, "resident_kib": null,
    }]);
    for state in ["live", "replacing", "draining", "unloaded"] {
        plugin["state"] = state.into();
        again::<Overview>(&plugin);
    }
    let mut health: Value = serde_json::from_str(&recorded("system-health")).expect("health");
    health["state_not_kept"] =
        json!([{ "name": "a", "reason": "the disk is full", "since": 9.5, "live": false }]);
    health["starting"] = json!({ "loading": "a.so", "number": 2, "of": 3, "seconds": 0.5 });
    again::<Health>(&health);
    health["starting"] = json!({ "seconds": 0.5 });
    let call = json!({ "plugin": "a", "handler": "h", "events": ["a:b"], "calls": 1 });
    health["stopping"] = json!({
        "stage": "draining", "seconds": 0.5,
        "waits_for": { "events_of_clients": 1, "sent_events": 2, "calls": [call] },
    });
    again::<Health>(&health);
    again::<Changed>(&json!({
        "status": "rolled_back", "name": "a", "version": "0.1.0", "generation": 3,
        "cost": "what 4 calls did", "lost": { "calls": 4, "seconds": 2, "because": "it is older" },
        "kept_aside": null, "not_kept_aside": "the disk is full",
    }));
    again::<Changed>(&json!({
        "status": "unloaded", "name": "a", "version": "0.1.0", "generation": 3,
        "still_in_memory": 17,
    }));
    again::<config::Reloaded>(&json!({
        "status": "reloaded", "file": "/ksi.toml", "applied": ["reload.margin"],
        "needs_restart": [], "plugins": [
            { "name": "a", "status": "reloaded", "generation": 2 },
            { "name": "b", "status": "not_live", "reason": null },
            { "name": "c", "status": "refused", "reason": "it does not take it" },
        ],
    }));
    again::<state::Kept>(
        &json!({ "name": "a", "which": "newest", "file": "/s/a.snapshot", "error": "torn" }),
    );
    again::<state::Shown>(&json!({
        "name": "a", "which": "newest", "file": "/s/a.snapshot", "version": 1, "bytes": 7,
        "written": 9.5, "state": { "b": 1.5, "a": [] }, "not_shown": null,
    }));
    again::<line::FailureBeside>(
        &json!({ "module": "a", "handler": "h", "error": "no", "code": "broken" }),
    );
    again::<monitor::SubscriberDropped>(
        &json!({ "client_id": "w", "missed": 3, "reason": "too slow" }),
    );
    again::<module::announced::CallStuck>(
        &json!({ "name": "a", "handler": "h", "event_id": "evt_1", "seconds": 2.5 }),
    );
    again::<module::announced::CallFailed>(&json!({
        "name": "a", "handler": "h", "event": "a:b", "code": "no", "message": "none", "count": 2,
    }));
    let of_generation = json!({
        "name": "a", "version": "0.1.0", "generation": 2, "reason": "why", "file": "/p/a.so",
    });
    for more in [
        json!({}),
        json!({ "state": "handed_over" }),
        json!({ "state": "restored", "which": "previous", "kept_aside": null }),
        json!({
            "from_version": null, "from_generation": null, "automatic": true, "state": "older",
        }),
        json!({
            "from_version": "0.2.0", "from_generation": 1, "automatic": false, "state": "older",
            "lost": { "calls": 4, "seconds": 2, "because": "it is older" }, "kept_aside": "aside-1",
        }),
        json!({ "hash": "ab" }),
        json!({ "unmapped": true, "cause": null, "timings_ms": { "drain": 0.2 } }),
        json!({ "failures": 3 }),
        json!({ "last": false }),
    ] {
        let mut announced = of_generation.clone();
        for (key, value) in more.as_object().expect("an object") {
            announced[key] = value.clone();
        }
        again::<Announced>(&announced);
    }
    again::<Announced>(&json!({ "file": "/p/a.so", "reason": "it is torn" }));
    again::<system::HostAnnounced>(&json!({ "version": "0.1.0", "plugins": 2, "pid": 7 }));
    again::<system::Disconnected>(&json!({ "status": "disconnected", "id": 7 }));
    for trial in [json!({ "result": "passed" }), json!({ "result": "unsure", "reason": "it hung" })]
    {
        again::<module::Trial>(&trial);
    }
}

/// The keys of `json` are in order, as those of every reply of a host.
#[track_caller]
fn again<T: DeserializeOwned + Serialize>(json: &Value) {
    let read: T = serde_json::from_str(&json.to_string()).expect("it is read");
    assert_eq!(written(&read), json.to_string());
}

#[test]
fn whoever_reads_an_older_or_a_newer_host_finds_defaults_and_keeps_words_that_are_new() {
    let read: List = serde_json::from_value(json!({
        "modules": [
            { "name": "hello", "state": "live" },
            { "name": "other", "state": "frozen", "new": { "key": 1 }, "retired": [
                { "generation": 1, "state": "archived" },
            ]},
        ],
    }))
    .expect("a list");
    let hello = Overview { name: "hello".to_owned(), state: ModuleState::Live, ..default() };
    assert_eq!(read.modules[0], hello);
    assert_eq!(read.modules[1].state.as_str(), "frozen");
    let archived = RetiredState::Other("archived".to_owned());
    assert_eq!(read.modules[1].retired, [Retired { generation: 1, state: archived, ..default() }]);
    let changed: Changed = serde_json::from_value(json!({ "config": "merged" })).expect("a change");
    assert_eq!(changed.config, Some(ConfigTaken::Other("merged".to_owned())));
}

fn default<T: Default>() -> T {
    T::default()
}

#[test]
fn three_things_are_told_apart_where_a_key_may_be_missing_or_null() {
    let read = |json: Value| serde_json::from_value::<Changed>(json).expect("an answer");
    assert_eq!(read(json!({})).kept_aside, None);
    assert_eq!(read(json!({ "kept_aside": null })).kept_aside, Some(None));
    assert_eq!(read(json!({ "kept_aside": "a" })).kept_aside, Some(Some("a".to_owned())));
    let lost = Lost { because: "b".to_owned(), calls: 1, seconds: 2 };
    let changed = Changed { config: Some(ConfigTaken::AsBefore), lost: Some(lost), ..default() };
    assert_eq!(serde_json::to_value(changed).expect("it is written")["config"], "as_before");
}

#[test]
fn an_entry_of_the_history_is_one_line_without_what_it_has_nothing_to_say_of() {
    let started = module::HistoryEntry {
        at: 1.5,
        kind: module::HistoryKind::Started,
        reason: "r".to_owned(),
        ..default()
    };
    let line = r#"{"at":1.5,"by":{"kind":""},"kind":"started","reason":"r"}"#;
    assert_eq!(written(&started), line);
    for kind in module::HistoryKind::KNOWN {
        assert_eq!(written(&kind), format!("{:?}", kind.as_str()));
    }
    let later = r#"{"at":1.5,"kind":"asked","token":"t","by":{"kind":"page","token":"t"}}"#;
    let later: module::HistoryEntry = serde_json::from_str(later).expect("an entry");
    assert_eq!((later.kind.as_str(), &*later.by.kind), ("asked", "page"));
}

#[test]
fn lines_are_read_with_their_payloads_as_they_were_written() {
    let line =
        r#"{"event":"a:b","data":{"z":1.50},"count":1,"correlation_id":"c","timestamp":1.5}"#;
    let reply: line::Reply<'_> = serde_json::from_str(line).expect("a reply");
    assert_eq!(reply.data.map(|data| data.get()), Some(r#"{"z":1.50}"#));
    assert_eq!(reply.correlation_id.map(|id| id.get()), Some(r#""c""#));
    assert!(!reply.failed && reply.errors.is_empty() && reply.error.is_none());
    let data = serde_json::value::to_raw_value(&json!({ "z": 1 })).expect("a payload");
    let request = line::Request { event: "a:b", data: &data, correlation_id: 7 };
    assert_eq!(written(&request), r#"{"event":"a:b","data":{"z":1},"correlation_id":7}"#);
    let push = r#"{"event":"a:b","event_name":"a:b","data":[],"timestamp":1.5,"_event_id":"evt_1","_correlation_id":null,"_parent_event_id":null,"_source":"p"}"#;
    let push: line::Push<'_> = serde_json::from_str(push).expect("a push");
    assert_eq!((push.event.as_deref(), push.source.as_deref()), (Some("a:b"), Some("p")));
}

#[test]
fn announcements_are_read_whichever_they_are() {
    let read = |json: Value| serde_json::from_value::<Announced>(json).expect("an announcement");
    let refused = read(json!({ "file": "/p/a.so", "reason": "it is torn" }));
    assert_eq!((refused.name, &*refused.reason), (None, "it is torn"));
    let retired = read(json!({
        "file": "/p/a.so", "generation": 1, "name": "a", "reason": "retired", "version": "0.1.0",
        "cause": null, "timings_ms": { "drain": 0.1 }, "unmapped": true,
    }));
    assert_eq!((retired.unmapped, retired.cause, retired.last), (Some(true), Some(None), None));
}

#[test]
fn every_word_for_a_state_is_the_one_that_is_written() {
    let all = [
        ModuleState::Live,
        ModuleState::Replacing,
        ModuleState::Draining,
        ModuleState::Unloaded,
        ModuleState::Waiting,
        ModuleState::Refused,
        ModuleState::Quarantined,
        ModuleState::Other("new".to_owned()),
    ];
    for state in all {
        assert_eq!(written(&state), format!("{:?}", state.as_str()));
        let read: ModuleState = serde_json::from_str(&written(&state)).expect("a state");
        assert_eq!(read, state);
    }
    for state in [RetiredState::Draining, RetiredState::Unmapped, RetiredState::Pinned] {
        assert_eq!(written(&state), format!("{:?}", state.as_str()));
    }
    let signal = Signal { signal: "SIGHUP".to_owned(), ..default() };
    let expected = r#"{"host_too":false,"ignored":false,"signal":"SIGHUP"}"#;
    assert_eq!(written(&signal), expected);
    assert_eq!(Quarantined::default().attempts, 0);
}
