//! Versions that do worse than the one before: the host goes back by itself, or because somebody
//! asks for it.

use ksi_wire::module::ModuleState;
use serde_json::{Value, json};

use crate::kit::{Client, Library, States, TestHost, error_of, under_load, until};

#[track_caller]
fn increment(client: &mut Client) -> u64 {
    client.emit("counter:increment", json!({"name": "a"}))["value"].as_u64().unwrap()
}

#[track_caller]
fn increment_often(host: &TestHost, times: usize) {
    let mut client = host.client();
    for _ in 0..times {
        increment(&mut client);
    }
}

/// Increments until the bad version that is live has been gone back from, whatever is answered
/// meanwhile. How many increments were acknowledged.
#[track_caller]
fn until_rolled_back(host: &TestHost) -> u64 {
    let (mut client, mut acknowledged) = (host.client(), 0);
    let rollbacks = || {
        // Side by side: those that time out do so in the time of one.
        let asked: Vec<_> =
            (0..5).map(|_| client.begin("counter:increment", json!({"name": "a"}))).collect();
        for id in asked {
            acknowledged += u64::from(client.end(&id)["data"]["value"].is_u64());
        }
        host.module("counter")["rollbacks"].clone()
    };
    until("it is rolled back", rollbacks, |rollbacks| *rollbacks == 1);
    acknowledged
}

#[test]
fn a_version_whose_calls_go_wrong_is_gone_back_from_with_its_state_and_quarantined() {
    let host = TestHost::counter();
    let (mut client, mut watcher) = (host.client(), host.client());
    watcher.subscribe(&["module:*"]);
    increment_often(&host, 20);
    host.drop_in("counter.so", &Library::counter(2).does("calls=fail"));
    let module = host.until_version("counter", "2.0.0");
    assert_eq!(module["on_probation"], true);
    assert_eq!(module["previous"], json!([{"version": "1.0.0", "generation": 1}]));
    assert!(host.ksi(&["list"]).ok().contains("probation"));
    let acknowledged = until_rolled_back(&host);

    let told = watcher.push_of("module:rolled_back");
    let reason = told["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("calls failed, panicked, crashed or timed out (100 %)"), "{reason}");
    let expected = json!({"name": "counter", "version": "1.0.0", "generation": 3, "reason": reason,
        "file": host.file("counter.so"), "from_version": "2.0.0", "from_generation": 2, "automatic": true,
        "state": "handed_over"});
    assert_eq!(told, expected);
    let quarantined = watcher.push_of("module:quarantined");
    assert_eq!((&quarantined["name"], &quarantined["reason"]), (&json!("counter"), &json!(reason)));

    let module = host.module("counter");
    let live = (module.state(), &module["version"], &module["generation"]);
    assert_eq!(live, (ModuleState::Live, &json!("1.0.0"), &json!(3)));
    assert_eq!((&module["on_probation"], &module["previous"]), (&json!(false), &json!([])));
    assert_eq!(module["quarantined"]["version"], "2.0.0");
    assert_eq!(module["quarantined"]["hash"], quarantined["hash"]);
    assert!(module["quarantined"]["retry_in_ms"].as_u64() > Some(1_000), "{module:#}");
    let list = host.ksi(&["list"]).ok();
    assert!(list.contains("quarantined version 2.0.0") && list.contains("1 rollback"), "{list}");
    // Failed calls do not count, and nothing else is lost.
    assert_eq!(increment(&mut client), 20 + acknowledged + 1);
    host.until_unmapped("counter");
    assert_eq!(host.resources().libraries.len(), 1);
}

#[test]
fn panics_and_calls_that_take_too_long_are_as_bad_as_failures() {
    // The good version's calls must end within it too, however long a busy machine lets one of them
    // wait; one that does not is answered as if it had failed, and counts all the same.
    for (how, timeout) in [("calls=panic", "30s"), ("calls=hang", "3s")] {
        let host = TestHost::builder()
            .plugin("counter.so", &Library::counter(1))
            .config(&format!("[timeouts]\nhandler = '{timeout}'\n[reload]\nmin_calls = 5"))
            .start();
        increment(&mut host.client());
        host.drop_in("counter.so", &Library::counter(2).does(how));
        host.until_version("counter", "2.0.0");
        let acknowledged = until_rolled_back(&host);
        assert_eq!(increment(&mut host.client()), 1 + acknowledged + 1, "{how}");
    }
}

#[test]
fn a_quarantined_file_is_not_loaded_by_its_folder_until_it_changes() {
    let host = TestHost::counter();
    let bad = Library::counter(2).does("calls=fail");
    host.drop_in("counter.so", &bad);
    host.until_version("counter", "2.0.0");
    until_rolled_back(&host);
    // What is told of another plugin comes after what would be told of this file.
    for round in 1..=3 {
        host.drop_in("counter.so", &bad);
        host.drop_in("chaos.so", &Library::chaos().version(round));
        host.until_live("chaos", round as u64);
    }
    let module = host.module("counter");
    assert_eq!((&module["version"], &module["generation"]), (&json!("1.0.0"), &json!(3)));
    host.drop_in("counter.so", &Library::counter(3));
    let module = host.until_version("counter", "3.0.0");
    assert_eq!((&module["generation"], &module["quarantined"]), (&json!(4), &Value::Null));
    assert_eq!(module["last_error"], Value::Null);
}

#[test]
fn ksi_reload_lifts_a_quarantine() {
    let host = TestHost::counter();
    increment_often(&host, 20);
    host.drop_in("counter.so", &Library::counter(2).does("calls=fail"));
    host.until_version("counter", "2.0.0");
    until_rolled_back(&host);
    host.ksi(&["reload", "counter"]).ok();
    let module = host.module("counter");
    assert_eq!((&module["version"], &module["quarantined"]), (&json!("2.0.0"), &Value::Null));
    assert_eq!(module["on_probation"], true, "it is watched again");
}

#[test]
fn a_quarantined_file_is_tried_again_when_it_is_due() {
    let host = TestHost::builder()
        .plugin("counter.so", &Library::counter(1))
        .config("[recovery]\nafter_rollback = '300ms'\nattempts = 1")
        .start();
    let mut watcher = host.client();
    watcher.subscribe(&["module:reloaded", "module:rolled_back"]);
    increment_often(&host, 20);
    host.drop_in("counter.so", &Library::counter(2).does("calls=fail"));
    let mut acknowledged = 20;
    for round in ["first", "again"] {
        assert_eq!(watcher.push_of("module:reloaded")["version"], "2.0.0", "{round}");
        // The good version, which may be back before all of them are asked, counts.
        (0..15).for_each(|_| {
            let reply = host.client().reply("counter:increment", json!({"name": "a"}));
            acknowledged += u64::from(reply["data"]["value"].is_u64());
        });
        assert_eq!(watcher.push_of("module:rolled_back")["version"], "1.0.0", "{round}");
    }
    let again = |module: &Value| module["quarantined"]["attempts"] == 1;
    let module = host.until_module("it is quarantined once more", "counter", again);
    assert_eq!(module["quarantined"]["retry_in_ms"], Value::Null, "that was the last time");
    assert_eq!(increment(&mut host.client()), acknowledged + 1);
}

#[test]
fn when_the_bad_version_gives_no_snapshot_the_state_is_that_of_the_swap() {
    for how in ["calls=fail snapshot=fail", "calls=panic snapshot=panic"] {
        let host = TestHost::counter();
        let (mut client, mut watcher) = (host.client(), host.client());
        watcher.subscribe(&["module:rolled_back"]);
        increment_often(&host, 20);
        host.drop_in("counter.so", &Library::counter(2).does(how));
        host.until_version("counter", "2.0.0");
        let acknowledged = until_rolled_back(&host);
        assert_eq!(watcher.push_of("module:rolled_back")["state"], "as_of_the_swap", "{how}");
        assert_eq!(increment(&mut client), 20 + acknowledged + 1);
    }
}

#[test]
fn a_newer_file_that_is_refused_takes_nothing_from_the_way_back() {
    let host = TestHost::counter();
    increment(&mut host.client());
    host.drop_in("counter.so", &Library::counter(2));
    host.until_version("counter", "2.0.0");
    increment(&mut host.client());
    let before = host.module("counter")["previous"].clone();
    // It fails its trial: it does not restore what the live one has.
    host.drop_in("counter.so", &Library::counter(3).does("restore=abort"));
    host.until_module("the third one is refused", "counter", |it| it["last_error"].is_string());
    assert_eq!(host.module("counter")["previous"], before);
    host.ksi(&["rollback", "counter"]).ok();
    let module = host.until_version("counter", "1.0.0");
    assert_eq!(module["rollbacks"], 1);
    assert_eq!(increment(&mut host.client()), 3);
}

#[test]
fn a_version_that_is_no_worse_than_the_one_before_stays() {
    let host = TestHost::builder()
        .plugin("counter.so", &Library::counter(1).does("calls=fail"))
        .config("[reload]\nprobation = '400ms'")
        .start();
    let mut client = host.client();
    (0..20).for_each(|_| drop(client.reply("counter:increment", json!({"name": "a"}))));
    host.drop_in("counter.so", &Library::counter(2).does("calls=fail"));
    host.until_version("counter", "2.0.0");
    (0..20).for_each(|_| drop(client.reply("counter:increment", json!({"name": "a"}))));
    let trusted = |module: &Value| module["on_probation"] == false;
    let module = host.until_module("it has stood its probation", "counter", trusted);
    assert_eq!((&module["version"], &module["rollbacks"]), (&json!("2.0.0"), &json!(0)));
}

#[test]
fn what_goes_wrong_after_the_probation_is_not_gone_back_from() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config("[reload]\nprobation = '100ms'\nmin_calls = 1")
        .start();
    let mut client = host.client();
    host.drop_in("chaos.so", &Library::chaos().version(2));
    host.until_live("chaos", 2);
    let trusted = |module: &Value| module["on_probation"] == false;
    host.until_module("it has stood its probation", "chaos", trusted);
    (0..20).for_each(|_| drop(client.reply("chaos:fail", json!({"code": "x", "message": "y"}))));
    host.drop_in("other.so", &Library::chaos().named("chao1"));
    host.until_live("chao1", 1);
    assert_eq!(host.module("chaos")["generation"], 2);
}

#[test]
fn a_version_that_comes_while_the_one_before_is_gone_back_from_is_not_blamed_for_it() {
    let host = TestHost::counter();
    let mut client = host.client();
    increment_often(&host, 20);
    host.drop_in("counter.so", &Library::counter(2).does("calls=fail"));
    host.until_version("counter", "2.0.0");
    host.drop_in("counter.so", &Library::counter(3).does("init=slow"));
    let answer = || {
        client.reply("counter:increment", json!({"name": "a"}));
        host.module("counter")
    };
    let module = until("the third is live", answer, |module| module["version"] == "3.0.0");
    assert_eq!((&module["last_error"], &module["on_probation"]), (&Value::Null, &json!(true)));
    increment_often(&host, 12);
    assert_eq!(host.module("counter")["version"], "3.0.0");
}

#[test]
fn other_plugins_do_not_notice_a_rollback() {
    let host = TestHost::builder()
        .plugin("another.so", &Library::counter(1).called("another"))
        .plugin("counter.so", &Library::counter(1))
        .start();
    under_load(&host, 2, || {
        let mut client = host.client();
        host.drop_in("another.so", &Library::counter(2).called("another").does("calls=panic"));
        let rollbacks = || {
            client.reply("another:increment", json!({"name": "a"}));
            host.module("another")["rollbacks"].clone()
        };
        until("it is rolled back", rollbacks, |rollbacks| *rollbacks == 1);
    });
    let counts = host.module("counter")["counts"].take();
    assert_eq!(counts["accepted"], counts["replied"]);
}

#[test]
fn a_rollback_by_hand_goes_from_version_to_version_with_the_state_and_ends_at_the_first() {
    let host = TestHost::counter();
    let (mut client, mut watcher) = (host.client(), host.client());
    watcher.subscribe(&["module:rolled_back"]);
    for version in 2..=3 {
        increment(&mut client);
        host.drop_in("counter.so", &Library::counter(version));
        host.until_version("counter", &format!("{version}.0.0"));
    }
    assert_eq!(host.module("counter")["previous"][1]["version"], "1.0.0");
    let mut value = 2;
    for (round, version) in (1..).zip(["2.0.0", "1.0.0"]) {
        let said = host.ksi(&["rollback", "counter"]).ok();
        assert!(said.contains("counter") && said.contains(version), "{said}");
        let told = watcher.push_of("module:rolled_back");
        assert_eq!((&told["version"], &told["automatic"]), (&json!(version), &json!(false)));
        assert_eq!(told["state"], "handed_over");
        let module = host.module("counter");
        assert_eq!((&module["version"], &module["rollbacks"]), (&json!(version), &json!(round)));
        value += 1;
        assert_eq!(increment(&mut client), value);
    }
    let reply = client.reply("module:rollback", json!({"module_name": "counter"}));
    assert_eq!(reply["data"]["code"], "nothing_before", "{reply}");
    assert!(error_of(&reply).contains("no version of counter to go back to"), "{reply}");
    assert!(host.ksi(&["rollback", "counter"]).code != Some(0));
    let module = host.module("counter");
    assert_eq!((&module["version"], module.state()), (&json!("1.0.0"), ModuleState::Live));
    host.until_unmapped("counter");
    assert_eq!(host.resources().libraries.len(), 1);
}

#[test]
fn a_rollback_and_a_reload_alternate_with_the_state() {
    let host = TestHost::counter();
    let mut client = host.client();
    host.drop_in("counter.so", &Library::counter(2));
    host.until_version("counter", "2.0.0");
    for round in 1..=6 {
        let back = client.emit("module:rollback", json!({"module_name": "counter"}));
        assert_eq!((&back["status"], &back["version"]), (&json!("rolled_back"), &json!("1.0.0")));
        assert_eq!(increment(&mut client), 2 * round - 1);
        let again = client.emit("module:reload", json!({"module_name": "counter"}));
        assert_eq!((&again["status"], &again["version"]), (&json!("reloaded"), &json!("2.0.0")));
        assert_eq!(increment(&mut client), 2 * round);
    }
    let module = host.until_unmapped("counter");
    assert_eq!((&module["reloads"], &module["rollbacks"]), (&json!(7), &json!(6)));
    assert_eq!(host.resources().libraries.len(), 1);
}

#[test]
fn a_rollback_under_load_loses_nothing() {
    let host = TestHost::counter();
    under_load(&host, 2, || {
        for version in 2..=6 {
            host.drop_in("counter.so", &Library::counter(version));
            host.until_version("counter", &format!("{version}.0.0"));
            host.ksi(&["rollback", "counter"]).ok();
        }
    });
    let module = host.until_unmapped("counter");
    assert_eq!((&module["version"], &module["rollbacks"]), (&json!("1.0.0"), &json!(5)));
    assert_eq!(module["counts"]["accepted"], module["counts"]["replied"]);
}

#[test]
fn no_version_is_kept_for_going_back_where_none_is_to_be() {
    let host = TestHost::builder()
        .plugin("counter.so", &Library::counter(1))
        .config("[reload]\nkept_versions = 0")
        .start();
    host.drop_in("counter.so", &Library::counter(2));
    let module = host.until_version("counter", "2.0.0");
    assert_eq!(module["previous"], json!([]));
    let reply = host.client().reply("module:rollback", json!({"module_name": "counter"}));
    assert!(error_of(&reply).contains("reload.kept_versions"), "{reply}");
    let unknown = host.client().reply("module:rollback", json!({"module_name": "nobody"}));
    assert_eq!(unknown["data"]["code"], "no_such_module");
}

#[test]
fn the_version_that_the_host_went_back_to_is_what_the_next_host_starts() {
    let host = TestHost::builder()
        .plugin("counter.so", &Library::counter(1))
        .config("[recovery]\ndir = 'recovery'\nafter_rollback = '1h'\nlongest = '1h'")
        .start();
    increment_often(&host, 20);
    host.drop_in("counter.so", &Library::counter(2).does("calls=fail"));
    host.until_version("counter", "2.0.0");
    until_rolled_back(&host);
    let good = host.dir().join("recovery/good");
    let kept = || std::fs::read_dir(&good).map_or(0, Iterator::count);
    until("the good version is kept", kept, |kept| *kept == 1);
    let before = increment(&mut host.client());

    let host = host.stopped().start();
    host.until_version("counter", "1.0.0");
    assert_eq!(increment(&mut host.client()), before + 1, "with its state");
    let list = host.ksi(&["list"]).ok();
    assert!(list.contains("quarantined version 2.0.0"), "{list}");
    host.process.told("version 2.0.0, which is quarantined: version 1.0.0");

    // What is kept is what was kept.
    let file = std::fs::read_dir(&good).unwrap().next().unwrap().unwrap().path();
    let setup = host.stopped();
    std::fs::write(&file, &Library::counter(3).0).unwrap();
    let host = setup.start();
    assert_eq!(host.module("counter"), Value::Null);
    host.process.told("is not the file that was kept there");

    host.drop_in("counter.so", &Library::counter(4));
    host.until_version("counter", "4.0.0");
    let _host = host.stopped().start();
    until("nothing needs it any more", kept, |kept| *kept == 0);
}
