//! Going from version to version and back: chains, halves of the way, calls that outlast several
//! versions.

use std::thread;

use ksi_wire::module::{ModuleState, RetiredState};
use serde_json::{Value, json};

use crate::kit::{Client, Library, States, TestHost, counters, under_load, until};

#[track_caller]
fn increment(client: &mut Client) -> Value {
    client.emit("counter:increment", json!({"name": "a"}))
}

/// The way that the state has come.
#[track_caller]
fn passed(host: &TestHost) -> Value {
    host.client().emit("counter:values", json!({}))["passed"].take()
}

/// Puts a file in the place of the plugin that must be refused, and gives the reason.
#[track_caller]
fn refused(host: &TestHost, library: &Library) -> String {
    let mut watcher = host.client();
    watcher.subscribe(&["module:reload_failed"]);
    host.drop_in("counter.so", library);
    watcher.push_of("module:reload_failed")["reason"].as_str().unwrap().to_owned()
}

#[test]
fn a_snapshot_that_is_newer_than_a_file_can_read_is_refused_with_what_to_do() {
    let new = Library::counter(2).keeping("[2]", "[2,1]");
    let host = TestHost::builder().plugin("counter.so", &new).start();
    increment(&mut host.client());
    let reason = refused(&host, &Library::counter(1).keeping("[1]", "[1]"));
    for words in ["writes snapshots of version 2", "restores version 1", "#[restore(version"] {
        assert!(reason.contains(words), "{words}: {reason}");
    }
    let module = host.module("counter");
    assert_eq!((&module["version"], &module["last_error"]), (&json!("2.0.0"), &json!(reason)));
    assert_eq!(increment(&mut host.client())["value"], 2);
}

#[test]
fn a_snapshot_that_is_older_is_restored() {
    let old = Library::counter(1).keeping("[1]", "[1]");
    let host = TestHost::builder().plugin("counter.so", &old).start();
    increment(&mut host.client());
    host.drop_in("counter.so", &Library::counter(2).keeping("[2]", "[2,1]"));
    host.until_version("counter", "2.0.0");
    assert_eq!(passed(&host), json!(["counter-version-0002 from 1"]));
    assert_eq!(increment(&mut host.client())["value"], 2);
}

#[test]
fn a_second_way_to_write_snapshots_lets_an_older_version_take_over() {
    let new = Library::counter(2).keeping("[3,2,1]", "[3]");
    let host = TestHost::builder().plugin("counter.so", &new).start();
    increment(&mut host.client());
    host.drop_in("counter.so", &Library::counter(1).keeping("[2]", "[2]"));
    host.until_version("counter", "1.0.0");
    assert_eq!(passed(&host), json!(["counter-version-0001 from 2"]), "the newest that both know");
    assert_eq!(increment(&mut host.client())["value"], 2);
}

#[test]
fn a_version_without_state_does_not_take_the_place_of_one_with_state() {
    let host = TestHost::counter();
    let mut client = host.client();
    increment(&mut client);
    let reason = refused(&host, &Library::counter(2).stateless());
    assert!(
        reason.contains("keeps none: it would be lost") && reason.contains("unload"),
        "{reason}"
    );
    assert_eq!(increment(&mut client)["value"], 2);
    client.emit("module:unload", json!({"module_name": "counter"}));
    client.emit("module:load", json!({"path": host.file("counter.so")}));
    let module = host.module("counter");
    assert_eq!((&module["version"], &module["keeps_state"]), (&json!("2.0.0"), &Value::Null));
    assert_eq!(increment(&mut client)["value"], 1, "it was given up knowingly");
}

#[test]
fn a_version_with_state_takes_the_place_of_one_without() {
    let host = TestHost::builder().plugin("counter.so", &Library::counter(1).stateless()).start();
    increment(&mut host.client());
    host.drop_in("counter.so", &Library::counter(2));
    host.until_version("counter", "2.0.0");
    assert_eq!(increment(&mut host.client())["value"], 1);
    host.drop_in("counter.so", &Library::counter(3));
    host.until_version("counter", "3.0.0");
    assert_eq!(increment(&mut host.client())["value"], 2);
}

#[test]
fn versions_follow_each_other_in_any_order_with_their_state() {
    let versions = [
        Library::counter(1).keeping("[1]", "[1]"),
        Library::counter(2).keeping("[2,1]", "[2,1]"),
        Library::counter(3).keeping("[3,2,1]", "[3,2,1]"),
    ];
    let host = TestHost::builder().plugin("counter.so", &versions[0]).start();
    let mut way = Vec::new();
    under_load(&host, 2, || {
        for next in [1, 2, 0, 2, 1, 0, 1] {
            host.drop_in("counter.so", &versions[next]);
            host.until_version("counter", &format!("{}.0.0", next + 1));
            way.push(passed(&host).as_array().unwrap().last().cloned().unwrap());
        }
    });
    let shapes: Vec<String> =
        way.iter().map(|step| step.as_str().unwrap().replace("counter-version-000", "")).collect();
    let expected =
        ["2 from 1", "3 from 2", "1 from 1", "3 from 1", "2 from 2", "1 from 1", "2 from 1"];
    assert_eq!(shapes, expected);
    let module = host.until_unmapped("counter");
    assert_eq!((&module["reloads"], &module["generation"]), (&json!(7), &json!(8)));
    assert_eq!(host.resources().libraries.len(), 1);
}

#[test]
fn an_upgrade_that_fails_halfway_is_as_if_it_had_not_been_tried() {
    let host = TestHost::counter();
    for (number, how) in [(2, "init=fail"), (3, "init=panic"), (4, "restore_in_host=fail")] {
        increment(&mut host.client());
        let reason = refused(&host, &Library::counter(number).does(how));
        assert!(reason.contains("on purpose"), "{reason}");
        assert_eq!(host.module("counter")["version"], "1.0.0");
    }
    host.drop_in("counter.so", &Library::counter(5));
    host.until_version("counter", "5.0.0");
    assert_eq!(
        passed(&host),
        json!(["counter-version-0005 from 3"]),
        "no failed one is on the way"
    );
    assert_eq!(increment(&mut host.client())["value"], 4);
    host.until_unmapped("counter");
    until("nothing stays", || host.resources().libraries.len(), |count| *count == 1);
}

#[test]
fn a_call_goes_on_in_its_old_code_while_two_newer_versions_arrive() {
    let host = TestHost::chaos();
    let (mut caller, mut other) = (host.client(), host.client());
    let mut calls = Vec::new();
    for version in 1..=3_usize {
        if version > 1 {
            host.drop_in("chaos.so", &Library::chaos().version(version));
            host.until_live("chaos", version as u64);
        }
        calls.push(caller.begin("gate:wait", json!(version)));
        until("it waits", || other.emit("gate:stats", json!({}))["waiting"].clone(), |n| *n == 1);
    }
    let module = host.module("chaos");
    assert_eq!(module.retired_states(), [RetiredState::Draining, RetiredState::Draining]);
    assert_eq!(host.resources().libraries.len(), 3, "three generations are in memory");
    other.emit("gate:open", json!({}));
    for (version, call) in (1..).zip(&calls) {
        let answer = json!({"data": version, "version": format!("chaos-version-{version:04}")});
        assert_eq!(caller.end(call)["data"], answer);
    }
    host.until_unmapped("chaos");
    assert_eq!(host.resources().libraries.len(), 1);
}

#[test]
fn a_call_of_a_plugin_with_state_ends_before_the_first_of_two_newer_versions_takes_over() {
    let host = TestHost::counter();
    let (mut caller, mut other) = (host.client(), host.client());
    increment(&mut other);
    let inside = caller.begin("counter:wait", json!({"event": "gate:open"}));
    let waiting = || other.emit("counter:values", json!({}))["waiting"].clone();
    until("it waits", waiting, |waiting| *waiting == 1);
    host.drop_in("counter.so", &Library::counter(2));
    let mut held = vec![caller.begin("counter:increment", json!({"name": "a"}))];
    until(
        "an event is held",
        || {
            held.push(caller.begin("counter:increment", json!({"name": "a"})));
            host.module("counter")["held"].as_u64()
        },
        |held| *held > Some(0),
    );
    host.drop_in("counter.so", &Library::counter(3));
    other.reply("gate:open", json!({}));
    assert_eq!(caller.end(&inside)["data"], "counter-version-0001");
    host.until_version("counter", "3.0.0");
    let mut values: Vec<_> =
        held.iter().map(|id| caller.end(id)["data"]["value"].as_u64().unwrap()).collect();
    values.sort_unstable();
    assert_eq!(values, (2..2 + held.len() as u64).collect::<Vec<_>>());
    host.until_unmapped("counter");
}

#[test]
fn of_many_versions_with_state_in_quick_succession_the_last_one_stays_with_the_state() {
    let host = TestHost::counter();
    under_load(&host, 2, || {
        for version in 2..=20 {
            host.drop_in("counter.so", &Library::counter(version));
        }
        host.until_version("counter", "20.00");
    });
    let module = host.until_unmapped("counter");
    assert_eq!((module.state(), &module["last_error"]), (ModuleState::Live, &Value::Null));
}

#[test]
fn two_plugins_that_request_each_other_are_replaced_at_the_same_time() {
    const ROUNDS: usize = 12;
    let host = TestHost::builder()
        .plugin("another.so", &Library::counter(1).called("another"))
        .plugin("counter.so", &Library::counter(1))
        .start();
    let relays = |from: &str, to: &str| {
        let back =
            json!({"event": format!("{from}:increment"), "data": {"name": format!("by {to}")}});
        (format!("{from}:relay"), json!({"event": format!("{to}:relay"), "data": back}))
    };
    let done = std::sync::atomic::AtomicBool::new(false);
    let load = |from: &'static str, to: &'static str| {
        let (mut client, mut acknowledged) = (host.client(), 0_u64);
        let (event, data) = relays(from, to);
        while !done.load(std::sync::atomic::Ordering::SeqCst) {
            acknowledged += 1;
            assert_eq!(client.emit(&event, data.clone())["value"], acknowledged, "{event}");
        }
        acknowledged
    };
    let (there, back) = thread::scope(|scope| {
        let there = scope.spawn(|| load("counter", "another"));
        let back = scope.spawn(|| load("another", "counter"));
        for version in 2..=ROUNDS {
            host.drop_in("counter.so", &Library::counter(version));
            host.drop_in("another.so", &Library::counter(version).called("another"));
            for name in ["counter", "another"] {
                host.until_live(name, version as u64);
            }
        }
        done.store(true, std::sync::atomic::Ordering::SeqCst);
        (there.join().unwrap(), back.join().unwrap())
    });
    assert!(there > 20 && back > 20, "there was load: {there} {back}");
    assert_eq!(counters(&mut host.client())["by another"], there);
    for name in ["counter", "another"] {
        let counts = host.until_unmapped(name)["counts"].take();
        assert_eq!(counts["accepted"], counts["replied"], "{name}: {counts}");
    }
}
