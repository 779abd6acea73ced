//! The threads that run plugins are exchanged at every replacement. What comes from outside
//! meanwhile arrives, and what other plugins do goes on, also when every thread is stuck.

use std::{
    fs,
    time::{Duration, Instant},
};

use ksi_wire::module::RetiredState;
use serde_json::{Value, json};

use crate::kit::{Library, States, TestHost, counters, under_load, until};

/// A host with a plugin that keeps state, and another one whose task emits numbered events to it
/// without a pause.
fn ticking(more: &str) -> TestHost {
    let host = TestHost::builder()
        .plugin("counter.so", &Library::counter(1))
        .config("[plugin.another]\nbackground = 'counter:tick'")
        .config(more)
        .start();
    host.drop_in("another.so", &Library::counter(1).called("another"));
    host.until_live("another", 1);
    host
}

#[track_caller]
fn ticks(host: &TestHost) -> u64 {
    let counters = counters(&mut host.client());
    assert_eq!(counters.get("gaps"), None, "none was lost and none came twice");
    counters.get("ticks").copied().unwrap_or_default()
}

#[test]
fn no_event_of_another_plugins_background_task_is_lost_over_replacements_under_load() {
    let host = ticking("");
    until("it ticks", || ticks(&host), |ticks| *ticks > 5);
    under_load(&host, 2, || {
        for version in 2..=15 {
            host.drop_in("counter.so", &Library::counter(version));
            host.until_live("counter", version as u64);
        }
    });
    let before = ticks(&host);
    until("it goes on", || ticks(&host), |ticks| *ticks > before + 20);
    assert_eq!(host.module("another")["generation"], 1);
    host.until_unmapped("counter");
    assert_eq!(host.resources().libraries.len(), 2);
}

#[test]
fn a_plugins_own_task_stops_with_its_generation_and_begins_with_the_next() {
    let host = TestHost::builder()
        .plugin("counter.so", &Library::counter(1))
        .config("[plugin.counter]\nbackground = 'life:tick'")
        .start();
    let mut watcher = host.client();
    watcher.subscribe(&["life:tick", "module:retired"]);
    for version in 2..=6 {
        host.drop_in("counter.so", &Library::counter(version));
        assert_eq!(watcher.push_of("module:retired")["unmapped"], true);
        let tick = watcher.push_of("life:tick");
        assert_eq!(
            tick["version"],
            format!("counter-version-{version:04}"),
            "the old one has ended"
        );
    }
}

#[test]
fn sleeping_and_waiting_calls_of_other_plugins_end_as_if_nothing_had_been() {
    let host = ticking("");
    host.drop_in("chaos.so", &Library::chaos());
    host.until_live("chaos", 1);
    let (mut caller, mut other) = (host.client(), host.client());
    let sleeping: Vec<_> = (0..20)
        .map(|number| (number, caller.begin("chaos:sleep", json!({"millis": 40 * number}))))
        .collect();
    let waiting: Vec<_> = (0..10).map(|_| caller.begin("gate:wait", json!({}))).collect();
    for version in 2..=8 {
        host.drop_in("counter.so", &Library::counter(version));
        host.until_live("counter", version as u64);
        host.until_unmapped("counter");
    }
    for (number, id) in &sleeping {
        assert_eq!(caller.end(id)["data"], "chaos-version-0001", "{number}");
    }
    until("they wait", || other.emit("gate:stats", json!({}))["waiting"].clone(), |n| *n == 10);
    other.emit("gate:open", json!({}));
    for id in &waiting {
        assert_eq!(caller.end(id)["data"]["version"], "chaos-version-0001");
    }
    ticks(&host);
}

#[test]
fn a_plugin_with_state_is_replaced_while_every_worker_is_stuck_in_another_one() {
    let host = ticking("[limits]\nworkers = 2\n[timeouts]\nstuck = '100ms'");
    host.drop_in("chaos.so", &Library::chaos());
    host.until_live("chaos", 1);
    let (mut stuck, flag) = (host.client(), host.dir().join("stuck"));
    fs::write(&flag, "").unwrap();
    let block = json!({ "while_exists": flag });
    let calls: Vec<_> = (0..2).map(|_| stuck.begin("chaos:block", block.clone())).collect();
    let reported =
        |text: &String| text.lines().any(|line| line.contains("block") && line.contains("evt_"));
    until("they are stuck", || host.process.stderr(), reported);
    let before = ticks(&host);
    under_load(&host, 2, || {
        for version in 2..=6 {
            host.drop_in("counter.so", &Library::counter(version));
            host.until_live("counter", version as u64);
        }
    });
    until("the task of the third goes on", || ticks(&host), |ticks| *ticks > before + 20);
    let module = host.module("counter");
    let retired = module.retired_states();
    let kept = retired.iter().filter(|old| **old != RetiredState::Unmapped);
    assert!(kept.count() > 0, "a stuck thread may still have touched them: {module:#}");
    fs::remove_file(&flag).unwrap();
    for id in &calls {
        assert_eq!(stuck.end(id)["data"], "chaos-version-0001", "a stuck call is answered");
    }
    host.until_unmapped("counter");
    assert_eq!(host.resources().libraries.len(), 3);
}

#[test]
fn a_thread_that_ends_long_after_an_unload_takes_the_library_with_it() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .plugin("stuck.so", &Library::chaos().named("chao1").with("\"chaos:", "\"stuck:"))
        .config("[limits]\nworkers = 2")
        .start();
    let (mut client, mut stuck) = (host.client(), host.client());
    // Both workers have run it, and have a thread-local of it whose destructor is its code.
    for _ in 0..40 {
        client.emit("chaos:thread_local", json!({}));
    }
    let flag = host.dir().join("stuck");
    fs::write(&flag, "").unwrap();
    let block = json!({ "while_exists": flag });
    let calls: Vec<_> = (0..2).map(|_| stuck.begin("stuck:block", block.clone())).collect();
    host.until_module("they are stuck", "chao1", |module| module["counts"]["in_flight"] == 2);
    client.emit("module:unload", json!({"module_name": "chaos"}));
    let pinned = |module: &Value| module.retired_state(0) == RetiredState::Pinned;
    let module = host.until_module("its library stays", "chaos", pinned);
    let cause = module["retired"][0]["cause"].as_str().unwrap();
    assert!(cause.contains("stuck in a call"), "{cause}");
    assert_eq!(host.resources().libraries.len(), 2);
    fs::remove_file(&flag).unwrap();
    for id in &calls {
        assert_eq!(stuck.end(id)["data"], "chaos-version-0001");
    }
    host.until_unmapped("chaos");
    assert_eq!(host.resources().libraries.len(), 1);
    assert_eq!(host.client().emit("stuck:echo", json!(1)), 1, "the host goes on");
}

#[test]
fn calls_beyond_the_drain_timeout_are_let_go_on_and_shown_where_they_are_to_be_kept() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .plugin("other.so", &Library::chaos().named("chao1").with("\"gate:", "\"door:"))
        .config("[timeouts]\ndrain = '100ms'")
        .config("[reload.plugins.chaos]\nafter_drain = 'keep'")
        .start();
    let (mut caller, mut other) = (host.client(), host.client());
    let kept = caller.begin("gate:wait", json!("kept"));
    let cancelled = caller.begin("door:wait", json!("cancelled"));
    for space in ["gate", "door"] {
        let waiting = || other.emit(&format!("{space}:stats"), json!({}))["waiting"].clone();
        until("it waits", waiting, |waiting| *waiting == 1);
    }
    host.drop_in("chaos.so", &Library::chaos().version(2));
    let second = Library::chaos().named("chao1").with("\"gate:", "\"door:").version(2);
    host.drop_in("other.so", &second);
    assert_eq!(caller.end(&cancelled)["data"]["code"], "rejected", "the other one's is not kept");
    let pinned = |module: &Value| module.retired_state(0) == RetiredState::Pinned;
    let module = host.until_module("it is shown", "chaos", pinned);
    let cause = module["retired"][0]["cause"].as_str().unwrap();
    assert!(cause.contains("1 of gate_wait"), "{cause}");
    assert!(host.ksi(&["list"]).ok().contains("1 of gate_wait"));
    host.until_unmapped("chao1");
    other.emit("gate:open", json!({}));
    assert_eq!(caller.end(&kept)["data"], json!({"data": "kept", "version": "chaos-version-0001"}));
    host.until_unmapped("chaos");
    assert_eq!(host.resources().libraries.len(), 2);
}

#[test]
fn a_call_that_is_kept_does_not_keep_the_host_from_its_end() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config("[timeouts]\ndrain = '100ms'\n[reload]\nafter_drain = 'keep'")
        .start();
    let mut caller = host.client();
    let kept = caller.begin("gate:wait", json!({}));
    host.until_module("it runs", "chaos", |module| module["counts"]["in_flight"] == 1);
    host.drop_in("chaos.so", &Library::chaos().version(2));
    let pinned = |module: &Value| module.retired_state(0) == RetiredState::Pinned;
    host.until_module("it is kept", "chaos", pinned);
    let start = Instant::now();
    let mut host = host;
    host.process.signal(rustix::process::Signal::TERM);
    assert_eq!(caller.end(&kept)["data"]["code"], "rejected", "it is told so");
    assert_eq!(host.process.ended().code, Some(0));
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}
