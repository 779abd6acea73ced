//! Plugins that do not come up at first: those that fail are tried again, and those that need
//! others wait for them.

use std::fs;

use ksi_wire::module::ModuleState;
use serde_json::{Value, json};

use crate::kit::{Client, HostBuilder, Library, States, TestHost, until};

const QUICKLY: &str = "[recovery]\nfirst = '40ms'\nlongest = '100ms'\nattempts = 5";

/// A host to be, whose plugin fails so often before it starts, and writes down every attempt.
fn failing(times: usize) -> HostBuilder {
    let builder = TestHost::builder().plugin("counter.so", &Library::counter(1));
    let log = builder.dir().join("attempts");
    builder.config(&format!("[plugin.counter]\ninit_log = {log:?}\ninit_failures = {times}"))
}

fn attempts(host: &TestHost) -> usize {
    fs::read_to_string(host.dir().join("attempts")).unwrap_or_default().lines().count()
}

#[test]
fn a_plugin_that_does_not_initialize_at_the_start_is_tried_again_until_it_does() {
    let host = failing(3).config(QUICKLY).start();
    let module = host.until_live("counter", 4);
    assert_eq!((&module["last_error"], attempts(&host)), (&Value::Null, 4));
    assert_eq!(host.modules().len(), 1, "it is no refused file any more");
    host.until_unmapped("counter");
    until("nothing stays of those that failed", || host.resources().libraries.len(), |n| *n == 1);
}

#[test]
fn a_retry_comes_later_each_time_and_is_shown() {
    let host = failing(99).config("[recovery]\nfirst = '1h'\nlongest = '10h'").start();
    let reason = host.until_refused("counter.so");
    assert!(reason.contains("attempt 1 fails on purpose"), "{reason}");
    let due = host.module("counter.so")["retry_in_ms"].as_u64();
    assert!(due > Some(3_500_000) && due <= Some(3_600_000), "{due:?}");
}

#[test]
fn the_retries_end_and_after_that_a_change_or_a_command_tries_again() {
    let host = failing(4).config(&QUICKLY.replace("attempts = 5", "attempts = 2")).start();
    let ended =
        |module: &Value| module.state() == ModuleState::Refused && module["retry_in_ms"].is_null();
    host.until_module("the retries have ended", "counter.so", |module| {
        ended(module) && module["last_error"].as_str().is_some_and(|it| it.contains("attempt 3"))
    });
    assert_eq!(attempts(&host), 3, "once, and two retries");
    // Another plugin's start takes longer than the longest wait.
    host.drop_in("chaos.so", &Library::chaos());
    host.until_live("chaos", 1);
    assert_eq!(attempts(&host), 3);
    let mut client = host.client();
    let asked = client.reply("module:load", json!({"path": host.file("counter.so")}));
    assert_eq!(asked["data"]["code"], "init_failed", "{asked}");
    host.drop_in("counter.so", &Library::counter(2));
    let module = host.until_version("counter", "2.0.0");
    assert_eq!(module["last_error"], Value::Null);
    // What somebody asked for is retried as well, and may have come up before the new version.
    assert!((5..=6).contains(&attempts(&host)), "{}", attempts(&host));
}

#[test]
fn a_file_that_goes_is_not_tried_again() {
    let host = failing(99).config(&QUICKLY.replace("attempts = 5", "attempts = 100")).start();
    host.until_refused("counter.so");
    fs::remove_file(host.file("counter.so")).unwrap();
    until("it is forgotten", || host.modules(), Vec::is_empty);
    let before = attempts(&host);
    host.drop_in("chaos.so", &Library::chaos());
    host.until_live("chaos", 1);
    assert!(attempts(&host) <= before + 1, "one may have been under way");
    assert_eq!(host.modules().len(), 1, "{:#?}", host.modules());
}

#[test]
fn a_new_version_that_does_not_initialize_is_tried_again_while_the_old_one_is_live() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config(QUICKLY)
        .config("[plugin.chaos]\ninit = 'fail'\ninit_version = 'chaos-version-0002'")
        .start();
    let mut watcher = host.client();
    watcher.subscribe(&["module:reload_failed"]);
    host.drop_in("chaos.so", &Library::chaos().version(2));
    for _ in 0..6 {
        watcher.push_of("module:reload_failed");
        assert_eq!(host.client().emit("chaos:version", json!({}))["version"], "chaos-version-0001");
    }
    let ended = |module: &Value| module["retry_in_ms"].is_null();
    let module = host.until_module("the retries have ended", "chaos", ended);
    assert_eq!((module.state(), &module["generation"]), (ModuleState::Live, &json!(1)));
    host.drop_in("chaos.so", &Library::chaos().version(3));
    until(
        "a good one comes up",
        || host.client().emit("chaos:version", json!({}))["version"].clone(),
        |version| version == "chaos-version-0003",
    );
}

/// The plugins of a host in the order in which they stop, which is that of their start backwards.
#[track_caller]
fn stopping(mut host: TestHost) -> Vec<String> {
    let mut watcher = host.client();
    watcher.subscribe(&["module:unloaded"]);
    host.process.signal(rustix::process::Signal::TERM);
    let lines = std::iter::from_fn(|| watcher.raw());
    let told: Vec<Value> = lines.map(|line| serde_json::from_str(&line).unwrap()).collect();
    host.process.ended().ok();
    told.iter().map(|push| push["data"]["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_plugin_starts_after_those_that_handle_what_it_requires_whatever_their_files_are_called() {
    let host = TestHost::builder()
        .plugin("a.so", &Library::counter(1).requiring(&["another:increment", "chaos:echo"]))
        .plugin("b.so", &Library::counter(1).called("another").requiring(&["chaos:echo"]))
        .plugin("z.so", &Library::chaos())
        .start();
    for module in host.modules() {
        assert_eq!((module.state(), &module["generation"]), (ModuleState::Live, &json!(1)));
    }
    assert_eq!(host.module("counter")["requires"], json!(["another:increment", "chaos:echo"]));
    assert_eq!(stopping(host), ["counter", "another", "chaos"]);
}

#[test]
fn a_plugin_waits_for_the_one_that_it_requires_and_starts_when_that_comes() {
    let host = TestHost::builder()
        .plugin("counter.so", &Library::counter(1).requiring(&["chaos:echo", "system:health"]))
        .start();
    let waiting = host.module("counter.so");
    assert_eq!(
        (waiting.state(), &waiting["missing"]),
        (ModuleState::Waiting, &json!(["chaos:echo"]))
    );
    let list = host.ksi(&["list"]).ok();
    assert!(list.contains("waiting") && list.contains("nobody handles chaos:echo"), "{list}");
    assert_eq!(host.resources().libraries.len(), 0);
    host.drop_in("chaos.so", &Library::chaos());
    let module = host.until_version("counter", "1.0.0");
    assert_eq!((&module["missing"], &module["last_error"]), (&json!([]), &Value::Null));
    assert_eq!(host.modules().len(), 2, "it waits no longer");
}

#[test]
fn plugins_that_require_each_other_are_told_what_they_miss() {
    let host = TestHost::builder()
        .plugin("a.so", &Library::counter(1).requiring(&["another:increment"]))
        .plugin("b.so", &Library::counter(1).called("another").requiring(&["counter:increment"]))
        .start();
    assert_eq!(host.module("a.so")["missing"], json!(["another:increment"]));
    assert_eq!(host.module("b.so")["missing"], json!(["counter:increment"]));
    // One version without that need resolves it.
    host.drop_in("b.so", &Library::counter(1).called("another"));
    host.until_live("counter", 1);
    host.until_live("another", 1);
}

#[test]
fn a_new_version_that_requires_what_nobody_handles_is_refused_with_the_event() {
    let host = TestHost::counter();
    let mut watcher = host.client();
    watcher.subscribe(&["module:reload_failed"]);
    host.drop_in("counter.so", &Library::counter(2).requiring(&["chaos:echo", "no:body"]));
    let reason = watcher.push_of("module:reload_failed")["reason"].take();
    assert!(reason.as_str().unwrap().contains("requires chaos:echo and no:body"), "{reason}");
    let module = host.module("counter");
    let live = (module.state(), &module["version"], &module["last_error"]);
    assert_eq!(live, (ModuleState::Live, &json!("1.0.0"), &reason));
    host.drop_in("counter.so", &Library::counter(3).requiring(&["chaos:echo"]));
    watcher.push_of("module:reload_failed");
    host.drop_in("chaos.so", &Library::chaos());
    let module = host.until_version("counter", "3.0.0");
    assert_eq!(module["last_error"], Value::Null, "what it waited for has come");
}

#[test]
fn a_plugin_stays_when_the_one_that_it_requires_goes_and_shows_what_it_misses() {
    let host = TestHost::builder()
        .plugin("counter.so", &Library::counter(1).requiring(&["chaos:echo"]))
        .plugin("chaos.so", &Library::chaos())
        .start();
    fs::remove_file(host.file("chaos.so")).unwrap();
    let misses = |module: &Value| module["missing"] == json!(["chaos:echo"]);
    let module = host.until_module("it misses somebody", "counter", misses);
    assert_eq!(module.state(), ModuleState::Live);
    let mut client: Client = host.client();
    assert_eq!(client.emit("counter:increment", json!({"name": "a"}))["value"], 1);
    assert!(host.ksi(&["list"]).ok().contains("nobody handles chaos:echo"));
    host.drop_in("chaos.so", &Library::chaos());
    host.until_module("it misses nobody", "counter", |module| module["missing"] == json!([]));
}
