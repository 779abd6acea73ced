//! State that goes from a generation to the next while events come in.

use ksi_wire::module::ModuleState;
use serde_json::{Value, json};

use crate::kit::{Client, Library, States, TestHost, counters, error_of, under_load, until};

#[track_caller]
fn increment(client: &mut Client, name: &str) -> Value {
    client.emit("counter:increment", json!({"name": name}))
}

/// Waits until so many calls have begun to wait in the live instance.
#[track_caller]
fn until_waiting(client: &mut Client, count: u64) {
    let waiting = || client.emit("counter:values", json!({}))["waiting"].clone();
    until("calls wait", waiting, |waiting| *waiting == count);
}

/// Sends increments, without waiting for them, until one is held. What was sent.
#[track_caller]
fn until_held(host: &TestHost, client: &mut Client) -> Vec<String> {
    let mut sent = Vec::new();
    let one_more = || {
        sent.push(client.begin("counter:increment", json!({"name": "early"})));
        host.module("counter")["held"].as_u64()
    };
    until("an event is held", one_more, |held| *held > Some(0));
    sent
}

#[test]
fn acknowledged_increments_are_all_there_after_fifty_replacements_under_load() {
    const ROUNDS: usize = 50;
    let host = TestHost::counter();
    let (module, acknowledged) = under_load(&host, 3, || {
        for version in 2..=ROUNDS + 1 {
            host.drop_in("counter.so", &Library::counter(version));
            host.until_live("counter", version as u64);
        }
        host.module("counter")
    });
    assert!(acknowledged > 200, "there was load: {acknowledged}");
    assert_eq!((&module["reloads"], &module["last_error"]), (&json!(ROUNDS), &Value::Null));
    let module = host.until_unmapped("counter");
    let counts = &module["counts"];
    assert_eq!(counts["accepted"], counts["replied"], "every event was replied to: {counts}");
    assert_eq!(host.resources().libraries.len(), 1);
}

#[test]
fn events_wait_while_state_is_handed_over_and_are_answered_by_the_new_generation() {
    let host = TestHost::counter();
    let (mut caller, mut other, mut watcher) = (host.client(), host.client(), host.client());
    watcher.subscribe(&["module:reloaded"]);
    let inside = caller.begin("counter:wait", json!({"event": "gate:open"}));
    until_waiting(&mut other, 1);
    host.drop_in("counter.so", &Library::counter(2));
    let early = until_held(&host, &mut other);
    let late: Vec<String> =
        (0..20).map(|_| caller.begin("counter:increment", json!({"name": "late"}))).collect();
    let module = host.until_module("they are held", "counter", |it| it["held"].as_u64() > Some(20));
    assert_eq!((&module["generation"], module.state()), (&json!(1), ModuleState::Live));
    let list = host.ksi(&["list"]).ok();
    assert!(list.contains("wait for the hand-over of its state"), "{list}");
    host.client().reply("gate:open", json!({}));
    assert_eq!(caller.end(&inside)["data"], "counter-version-0001", "it ends where it began");
    let mut values: Vec<u64> = Vec::new();
    for id in &late {
        let reply = caller.end(id);
        assert_eq!(reply["data"]["version"], "counter-version-0002", "{reply}");
        values.extend(reply["data"]["value"].as_u64());
    }
    values.sort_unstable();
    assert_eq!(values, (1..=20).collect::<Vec<u64>>());
    for id in &early {
        assert!(other.end(id)["data"]["value"].is_u64());
    }
    assert_eq!(watcher.push_of("module:reloaded")["state"], "handed_over");
    assert_eq!(counters(&mut other)["early"], early.len() as u64);
    let timings =
        other.emit("module:inspect", json!({"module_name": "counter"}))["timings_ms"].take();
    for step in
        ["copy", "manifest", "probe", "load", "init", "hold", "quiet", "snapshot", "restore"]
    {
        assert!(timings[step].as_f64() >= Some(0.0), "{step} is missing: {timings}");
    }
}

#[test]
fn a_call_that_comes_back_to_its_own_plugin_is_served_by_the_old_generation() {
    let again = json!({"name": "inside", "more": 5});
    let through = json!({"event": "counter:again", "data": again});
    for relay in [
        json!({"after": "gate:open", "event": "counter:again", "data": again}),
        json!({"after": "gate:open", "event": "chaos:request", "data": through}),
        json!({"after": "gate:open", "event": "another:relay", "data": through}),
    ] {
        let host = TestHost::builder()
            .plugin("another.so", &Library::counter(1).called("another"))
            .plugin("chaos.so", &Library::chaos())
            .plugin("counter.so", &Library::counter(1))
            .start();
        let (mut caller, mut other) = (host.client(), host.client());
        let inside = caller.begin("counter:relay", relay.clone());
        until_waiting(&mut other, 1);
        host.drop_in("counter.so", &Library::counter(2));
        let held = until_held(&host, &mut other);
        host.client().reply("gate:open", json!({}));
        let answer = json!({"value": 6, "version": "counter-version-0001"});
        assert_eq!(caller.end(&inside)["data"], answer, "{relay}");
        let last = held.iter().map(|id| other.end(id)).last().unwrap();
        assert_eq!(last["data"]["version"], "counter-version-0002", "{last}");
        let now = counters(&mut other);
        assert_eq!((now["inside"], now["early"]), (6, held.len() as u64));
    }
}

#[test]
fn a_call_that_waits_for_a_held_event_is_cancelled_at_the_deadline() {
    let host = TestHost::builder()
        .plugin("counter.so", &Library::counter(1))
        .config("[timeouts]\nhold = '3s'")
        .start();
    let (mut caller, mut other) = (host.client(), host.client());
    increment(&mut other, "before");
    let inside = caller.begin("counter:wait_inside", json!({}));
    until_waiting(&mut other, 1);
    host.drop_in("counter.so", &Library::counter(2));
    let held = until_held(&host, &mut other);
    let opening = other.begin("counter:open", json!({}));
    let reply = caller.end(&inside);
    assert_eq!((&reply["failed"], &reply["data"]["code"]), (&json!(true), &json!("rejected")));
    assert!(error_of(&reply).contains("being replaced"), "{reply}");
    assert!(other.end(&opening).get("failed").is_none(), "nobody else is refused");
    let last = other.end(held.last().unwrap());
    assert_eq!(last["data"]["version"], "counter-version-0002", "{last}");
    assert_eq!(counters(&mut other)["before"], 1);
    host.until_unmapped("counter");
}

#[test]
fn a_replacement_that_a_kept_call_holds_up_is_given_up_and_tried_again() {
    let host = TestHost::builder()
        .plugin("counter.so", &Library::counter(1))
        .config("[reload.plugins.counter]\nhold = '300ms'\nafter_drain = 'keep'")
        .config("[recovery]\nfirst = '50ms'\nlongest = '50ms'\nattempts = 50")
        .start();
    let (mut caller, mut other, mut watcher) = (host.client(), host.client(), host.client());
    watcher.subscribe(&["module:reload_failed"]);
    let inside = caller.begin("counter:wait_inside", json!({}));
    until_waiting(&mut other, 1);
    host.drop_in("counter.so", &Library::counter(2));
    let held = until_held(&host, &mut other);
    let reason = watcher.push_of("module:reload_failed")["reason"].take();
    for words in ["1 of wait_inside", "300ms", "timeouts.hold"] {
        assert!(reason.as_str().unwrap().contains(words), "{words}: {reason}");
    }
    for id in &held {
        let reply = other.end(id);
        assert_eq!(reply["data"]["version"], "counter-version-0001", "{reply}");
    }
    other.emit("counter:open", json!({}));
    assert_eq!(caller.end(&inside)["data"], "counter-version-0001", "it was let go on");
    let module = host.until_version("counter", "2.0.0");
    assert_eq!(module["last_error"], Value::Null);
    assert_eq!(counters(&mut other)["early"], held.len() as u64);
}

#[test]
fn a_replacement_is_given_up_before_more_events_wait_than_may() {
    let host = TestHost::builder()
        .plugin("counter.so", &Library::counter(1))
        .config("[limits]\nheld_events = 10\n[recovery]\nfirst = '50ms'")
        .start();
    let (mut caller, mut other, mut watcher) = (host.client(), host.client(), host.client());
    watcher.subscribe(&["module:reload_failed"]);
    let inside = caller.begin("counter:wait", json!({"event": "gate:open"}));
    until_waiting(&mut other, 1);
    host.drop_in("counter.so", &Library::counter(2));
    let mut sent = until_held(&host, &mut other);
    sent.extend((0..20).map(|_| other.begin("counter:increment", json!({"name": "early"}))));
    let reason = watcher.push_of("module:reload_failed")["reason"].take();
    assert!(reason.as_str().unwrap().contains("limits.held_events"), "{reason}");
    for id in &sent {
        assert!(other.end(id)["data"]["value"].is_u64(), "nothing is refused");
    }
    host.client().reply("gate:open", json!({}));
    assert_eq!(caller.end(&inside)["data"], "counter-version-0001");
    host.until_version("counter", "2.0.0");
    assert_eq!(counters(&mut other)["early"], sent.len() as u64);
}

/// Replaces version 1 by a version 2, one of which misbehaves, under load; then by a good version
/// 3.
#[track_caller]
fn state_survives(first: &str, second: &str, words: &str) {
    let host = TestHost::builder()
        .plugin("counter.so", &Library::counter(1).does(first))
        .config("[timeouts]\nprobe = '2s'\ninit = '2s'\nhold = '2s'")
        .config("[recovery]\nattempts = 0")
        .start();
    let mut watcher = host.client();
    watcher.subscribe(&["module:reload_failed"]);
    let (reason, _) = under_load(&host, 2, || {
        host.drop_in("counter.so", &Library::counter(2).does(second));
        watcher.push_of("module:reload_failed")["reason"].take()
    });
    assert!(reason.as_str().unwrap().contains(words), "{first}/{second}: {reason}");
    let module = host.module("counter");
    assert_eq!((module.state(), &module["version"]), (ModuleState::Live, &json!("1.0.0")));
    assert_eq!((&module["generation"], &module["last_error"]), (&json!(1), &reason));
    assert_eq!(module["counts"]["accepted"], module["counts"]["replied"], "{first}/{second}");
    if first.is_empty() {
        let before = counters(&mut host.client());
        host.drop_in("counter.so", &Library::counter(3));
        host.until_version("counter", "3.0.0");
        assert_eq!(counters(&mut host.client()), before, "{second}");
        host.until_unmapped("counter");
    }
}

#[test]
fn a_restore_that_goes_wrong_in_the_trial_leaves_the_old_generation_with_its_state() {
    state_survives("", "restore=fail", "restore fails on purpose");
    state_survives("", "restore=panic", "restore panics on purpose");
    state_survives("", "restore=abort", "ended a probe process");
    state_survives("", "restore=hang", "did not end within 6s in a probe process");
}

#[test]
fn a_restore_that_goes_wrong_in_the_host_leaves_the_old_generation_with_its_state() {
    state_survives("", "restore_in_host=fail", "restore_in_host fails on purpose");
    state_survives("", "restore_in_host=panic", "restore_in_host panics on purpose");
    state_survives("", "restore_in_host=hang", "its restore did not end within");
    state_survives("", "restore_in_host=block", "its restore did not end within");
}

#[test]
fn a_snapshot_that_goes_wrong_leaves_the_old_generation_with_its_state() {
    state_survives("snapshot=fail", "", "its snapshot failed: snapshot fails on purpose");
    state_survives("snapshot=panic", "", "snapshot panics on purpose");
    state_survives("snapshot=hang", "", "its snapshot did not end within");
    state_survives("snapshot=block", "", "its snapshot did not end within");
}

#[test]
fn a_trial_reaches_nobody() {
    let host = TestHost::builder()
        .plugin("counter.so", &Library::counter(1))
        .config("[plugin.counter]\nborn = 'life:born'\nbackground = 'life:goes_on'")
        .start();
    let mut watcher = host.client();
    watcher.subscribe(&["life:*", "module:*"]);
    host.drop_in("counter.so", &Library::counter(2).does("restore_in_host=slow"));
    let mut events = Vec::new();
    while events.last().is_none_or(|(event, _)| event != "module:reloaded") {
        let push = watcher.push();
        events.push((push["event"].as_str().unwrap().to_owned(), push["data"]["version"].clone()));
    }
    let born = events.iter().filter(|(event, _)| event == "life:born");
    assert_eq!(born.count(), 1, "a trial's events reach nobody: {events:?}");
}

#[test]
fn bad_files_that_are_dropped_under_load_change_nothing() {
    let host = TestHost::counter();
    let good = Library::counter(2);
    let bad = [
        (Vec::new(), "is empty"),
        (b"#!/bin/sh\necho I am a library\n".to_vec(), "no ELF shared library"),
        (vec![0; 100_000], "no ELF shared library"),
        (good.0[..good.0.len() / 3].to_vec(), "torn"),
        (good.0[..good.0.len() - 1].to_vec(), "torn"),
        (good.clone().of_abi_9().0, "ABI version 9"),
        (good.clone().with("\"panic\":\"unwind\"", "\"panic\": \"abort\"").0, "panic"),
        (good.clone().with("KSIM1\n{", "KSIM8\n{").0, "KSIM8"),
        (good.clone().keeping("[1,2]", "[1,2]").0, "the highest first"),
        (good.clone().keeping("[0]", "[0]").0, "no version 0"),
        (good.clone().does("init=fail").0, "init fails on purpose"),
    ];
    let mut watcher = host.client();
    watcher.subscribe(&["module:reload_failed"]);
    let (_, acknowledged) = under_load(&host, 2, || {
        for (bytes, words) in bad {
            host.drop_in("counter.so", &Library(bytes));
            let reason = || watcher.push_of("module:reload_failed")["reason"].to_string();
            // A file may be looked at twice.
            until(words, reason, |reason| reason.contains(words));
        }
        host.drop_in("counter.so", &good);
        host.until_version("counter", "2.0.0");
    });
    assert!(acknowledged > 20, "there was load: {acknowledged}");
}
