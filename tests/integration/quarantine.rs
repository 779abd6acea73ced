//! The way back where it is not straight: states that the earlier version cannot read, files that
//! come and go.

use std::fs;

use ksi_wire::module::ModuleState;
use serde_json::{Value, json};

use crate::kit::{Client, Library, States, TestHost, counters, error_of, until};

#[track_caller]
fn increment(client: &mut Client) -> u64 {
    client.emit("counter:increment", json!({"name": "a"}))["value"].as_u64().unwrap()
}

/// Replaces version 1 by a version 2 whose calls fail, and waits until the host has gone back.
#[track_caller]
fn gone_back(host: &TestHost, first: &Library, second: &Library) {
    let (mut client, mut watcher) = (host.client(), host.client());
    watcher.subscribe(&["module:quarantined"]);
    host.drop_in("counter.so", first);
    host.until_version("counter", "1.0.0");
    host.drop_in("counter.so", second);
    let answer = || {
        client.reply("counter:increment", json!({"name": "bad"}));
        host.module("counter")["rollbacks"].clone()
    };
    until("it is rolled back", answer, |rollbacks| *rollbacks == 1);
    watcher.push_of("module:quarantined");
}

#[test]
fn the_good_bytes_in_the_place_of_the_bad_ones_end_the_quarantine() {
    let (good, bad) = (Library::counter(1), Library::counter(2).does("calls=fail"));
    let host = TestHost::builder().start();
    gone_back(&host, &good, &bad);
    assert!(host.module("counter")["quarantined"].is_object());
    host.drop_in("counter.so", &good);
    let lifted = |module: &Value| module["quarantined"].is_null();
    let module = host.until_module("the quarantine is over", "counter", lifted);
    assert_eq!((&module["generation"], &module["last_error"]), (&json!(3), &Value::Null));
    assert_eq!(module["retry_in_ms"], Value::Null);
    host.drop_in("counter.so", &bad);
    host.until_version("counter", "2.0.0");
}

#[test]
fn a_bad_file_that_went_and_came_again_is_tried_again() {
    let bad = Library::counter(2).does("calls=fail");
    let host = TestHost::builder().start();
    gone_back(&host, &Library::counter(1), &bad);
    increment(&mut host.client());
    fs::remove_file(host.file("counter.so")).unwrap();
    host.until_module("it is unloaded", "counter", |module| module.state() != ModuleState::Live);
    host.drop_in("counter.so", &bad);
    host.until_version("counter", "2.0.0");
    assert_eq!(counters(&mut host.client())["a"], 1, "its state was kept meanwhile");
}

#[test]
fn a_version_that_cannot_read_the_bad_ones_snapshots_gets_the_state_of_the_swap() {
    let first = Library::counter(1).keeping("[1]", "[1]");
    let second = Library::counter(2).keeping("[2]", "[2,1]").does("calls=fail");
    let host = TestHost::builder().start();
    host.drop_in("counter.so", &first);
    host.until_version("counter", "1.0.0");
    assert_eq!(increment(&mut host.client()), 1);
    let mut watcher = host.client();
    watcher.subscribe(&["module:rolled_back"]);
    gone_back(&host, &first, &second);
    assert_eq!(watcher.push_of("module:rolled_back")["state"], "as_of_the_swap");
    assert_eq!(increment(&mut host.client()), 2);
}

/// Asks for a rollback that must be refused, and gives the reason.
#[track_caller]
fn refused(host: &TestHost) -> String {
    let reply = host.client().reply("module:rollback", json!({"module_name": "counter"}));
    assert_eq!(reply["failed"], true, "{reply}");
    error_of(&reply).to_owned()
}

#[test]
fn a_rollback_by_hand_that_would_lose_the_state_is_refused() {
    let host = TestHost::builder()
        .plugin("counter.so", &Library::counter(1).keeping("[1]", "[1]"))
        .config("[reload]\nprobation = '0s'")
        .start();
    increment(&mut host.client());
    host.drop_in("counter.so", &Library::counter(2).keeping("[2]", "[2,1]"));
    host.until_version("counter", "2.0.0");
    assert_eq!(increment(&mut host.client()), 2);
    let reason = refused(&host);
    assert!(reason.contains("2.0.0 writes snapshots of versions [2]"), "{reason}");
    host.drop_in("counter.so", &Library::counter(3).keeping("[2]", "[2,1]").does("snapshot=fail"));
    host.until_version("counter", "3.0.0");
    let reason = refused(&host);
    assert!(reason.contains("snapshot fails on purpose"), "{reason}");
    assert_eq!(host.module("counter")["version"], "3.0.0");
    assert_eq!(increment(&mut host.client()), 3);
}

#[test]
fn a_version_that_keeps_calls_gives_its_state_away_when_they_have_ended() {
    let host = TestHost::builder()
        .plugin("counter.so", &Library::counter(1))
        .config("[reload]\nprobation = '0s'\nafter_drain = 'keep'\n[timeouts]\nhold = '2s'")
        .start();
    host.drop_in("counter.so", &Library::counter(2));
    host.until_version("counter", "2.0.0");
    assert_eq!(increment(&mut host.client()), 1);
    let (mut caller, mut other) = (host.client(), host.client());
    let inside = caller.begin("counter:wait_inside", json!({}));
    let waiting = || other.emit("counter:values", json!({}))["waiting"].clone();
    until("it waits", waiting, |waiting| *waiting == 1);
    let reason = refused(&host);
    assert!(reason.contains("1 of wait_inside"), "{reason}");
    other.emit("counter:open", json!({}));
    assert_eq!(caller.end(&inside)["data"], "counter-version-0002");
    host.ksi(&["rollback", "counter"]).ok();
    assert_eq!(increment(&mut host.client()), 2);
}

#[test]
fn copies_of_earlier_versions_are_bounded_and_go_with_the_plugin() {
    let host = TestHost::builder()
        .plugin("counter.so", &Library::counter(1))
        .config("[reload]\nkept_versions = 2")
        .start();
    let copies = || {
        let private = fs::read_dir(host.dir().join("tmp")).unwrap().next().unwrap().unwrap().path();
        let files = fs::read_dir(private).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|file| file.extension().is_some_and(|it| it == "so")).count()
    };
    for version in 2..=8 {
        host.drop_in("counter.so", &Library::counter(version));
        host.until_live("counter", version as u64);
    }
    let module = host.until_unmapped("counter");
    let previous =
        json!([{"version": "7.0.0", "generation": 7}, {"version": "6.0.0", "generation": 6}]);
    assert_eq!(module["previous"], previous);
    until("the live one and those that can be gone back to", copies, |count| *count == 3);
    for version in [7, 6] {
        host.ksi(&["rollback", "counter"]).ok();
        host.until_version("counter", &format!("{version}.0.0"));
    }
    host.until_unmapped("counter");
    until("one is left", copies, |count| *count == 1);
    host.client().emit("module:unload", json!({"module_name": "counter"}));
    until("none is left", copies, |count| *count == 0);
    assert_eq!(host.resources().libraries.len(), 0);
}

#[test]
fn a_plugin_that_was_unloaded_has_no_way_back() {
    let host = TestHost::counter();
    host.drop_in("counter.so", &Library::counter(2));
    host.until_version("counter", "2.0.0");
    let mut client = host.client();
    client.emit("module:unload", json!({"module_name": "counter"}));
    let gone = client.reply("module:rollback", json!({"module_name": "counter"}));
    assert_eq!(gone["data"]["code"], "not_live", "{gone}");
    client.emit("module:load", json!({"path": host.file("counter.so")}));
    assert!(refused(&host).contains("no version of counter to go back to"));
}

#[test]
fn behind_a_version_that_was_bad_the_way_back_goes_on() {
    let host = TestHost::counter();
    host.drop_in("counter.so", &Library::counter(2));
    host.until_version("counter", "2.0.0");
    assert_eq!(increment(&mut host.client()), 1);
    let mut watcher = host.client();
    watcher.subscribe(&["module:quarantined"]);
    host.drop_in("counter.so", &Library::counter(3).does("calls=panic"));
    let answer = || {
        host.client().reply("counter:increment", json!({"name": "bad"}));
        host.module("counter")["rollbacks"].clone()
    };
    until("it is rolled back", answer, |rollbacks| *rollbacks == 1);
    watcher.push_of("module:quarantined");
    let module = host.module("counter");
    assert_eq!(module["version"], "2.0.0");
    assert_eq!(module["previous"], json!([{"version": "1.0.0", "generation": 1}]));
    host.ksi(&["rollback", "counter"]).ok();
    assert_eq!(host.module("counter")["version"], "1.0.0");
    assert_eq!(increment(&mut host.client()), 2);
    assert!(refused(&host).contains("no version of counter to go back to"));
}

#[test]
fn a_version_that_is_gone_back_to_may_miss_somebody() {
    let first = Library::counter(1).requiring(&["chaos:echo"]);
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .plugin("counter.so", &first)
        .start();
    fs::remove_file(host.file("chaos.so")).unwrap();
    host.until_module("it is gone", "chaos", |module| module.state() != ModuleState::Live);
    gone_back(&host, &first, &Library::counter(2).does("calls=fail"));
    let module = host.module("counter");
    assert_eq!((&module["version"], &module["missing"]), (&json!("1.0.0"), &json!(["chaos:echo"])));
    assert_eq!(increment(&mut host.client()), 1);
}

#[test]
fn a_bad_version_stays_and_says_why_when_the_one_before_does_not_come_up_any_more() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .plugin("counter.so", &Library::counter(1).does("init=ask"))
        .start();
    fs::remove_file(host.file("chaos.so")).unwrap();
    host.until_module("it is gone", "chaos", |module| module.state() != ModuleState::Live);
    assert_eq!(increment(&mut host.client()), 1);
    let mut watcher = host.client();
    watcher.subscribe(&["module:reload_failed"]);
    host.drop_in("counter.so", &Library::counter(2).does("calls=fail"));
    let answer = || {
        host.client().reply("counter:increment", json!({"name": "bad"}));
        host.module("counter")["last_error"].to_string()
    };
    let reason = until("it is told", answer, |reason| reason.contains("and cannot"));
    assert!(reason.contains("did not initialize"), "{reason}");
    assert_eq!(watcher.push_of("module:reload_failed")["generation"], 2);
    let module = host.module("counter");
    assert_eq!((module.state(), &module["version"]), (ModuleState::Live, &json!("2.0.0")));
    assert_eq!((&module["rollbacks"], &module["on_probation"]), (&json!(0), &json!(false)));
    assert_eq!(counters(&mut host.client())["a"], 1, "with its state");
    host.drop_in("counter.so", &Library::counter(3));
    host.until_version("counter", "3.0.0");
    assert_eq!(increment(&mut host.client()), 2);
}

#[test]
fn an_earlier_version_that_does_not_take_the_state_in_its_trial_gets_that_of_the_swap() {
    for how in ["abort", "panic", "fail"] {
        let first = Library::counter(1).keeping("[1]", "[3,1]").does(&format!("restore_3={how}"));
        let host = TestHost::builder().plugin("counter.so", &first).start();
        assert_eq!(increment(&mut host.client()), 1);
        host.drop_in("counter.so", &Library::counter(2));
        host.until_version("counter", "2.0.0");
        assert_eq!(increment(&mut host.client()), 2);
        let reason = refused(&host);
        assert!(reason.contains("would give up what 1 call"), "{how}: {reason}");
        host.ksi(&["rollback", "counter", "--force"]).ok();
        assert_eq!(host.module("counter")["version"], "1.0.0");
        assert_eq!(increment(&mut host.client()), 2, "{how}: the state as of the swap");
        let kept = host.ksi(&["state", "list", "counter"]).ok();
        assert!(kept.contains("aside-1"), "{how}: {kept}");
    }
}

#[test]
fn state_that_a_call_held_up_is_kept_aside_by_an_automatic_rollback() {
    let host = TestHost::builder()
        .plugin("counter.so", &Library::counter(1))
        .config("[reload]\nafter_drain = 'keep'\n[timeouts]\nhold = '2s'")
        .start();
    increment(&mut host.client());
    let (mut watcher, mut caller) = (host.client(), host.client());
    watcher.subscribe(&["module:rolled_back"]);
    host.drop_in("counter.so", &Library::counter(2).does("calls=fail"));
    host.until_version("counter", "2.0.0");
    caller.begin("counter:wait_inside", json!({}));
    let waiting = || host.client().emit("counter:values", json!({}))["waiting"].clone();
    until("it waits", waiting, |waiting| *waiting == 1);
    let answer = || {
        host.client().reply("counter:increment", json!({"name": "bad"}));
        host.module("counter")["rollbacks"].clone()
    };
    until("it is rolled back", answer, |rollbacks| *rollbacks == 1);
    let told = watcher.push_of("module:rolled_back");
    assert_eq!(
        (&told["state"], &told["kept_aside"]),
        (&json!("as_of_the_swap"), &json!("aside-1"))
    );
}

#[test]
fn a_rollback_with_force_says_so_when_nothing_of_the_state_could_be_kept_aside() {
    let host = TestHost::counter();
    assert_eq!(increment(&mut host.client()), 1);
    host.drop_in("counter.so", &Library::counter(2).does("snapshot=fail"));
    host.until_version("counter", "2.0.0");
    assert_eq!(increment(&mut host.client()), 2);
    assert!(refused(&host).contains("snapshot fails on purpose"));
    let said = host.ksi(&["rollback", "counter", "--force"]).ok();
    assert!(said.contains("it is not kept: 2.0.0 gave none"), "{said}");
    assert_eq!(increment(&mut host.client()), 2);
}
