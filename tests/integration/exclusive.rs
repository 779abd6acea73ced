//! Plugins that hold what two instances cannot hold: the old one goes before the new one comes, and
//! nothing is lost.
//!
//! `KSI_LONG=1` makes the runs with SQLite as long as the documentation tells of.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
};

use ksi_wire::module::ModuleState;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::kit::{
    Client, Ends, HostBuilder, Library, States, TestHost, counters, error_of, put, under_load,
    until,
};

/// Reloads and rollbacks under load.
fn rounds() -> (usize, usize) {
    match std::env::var_os("KSI_LONG") {
        Some(_) => (200, 20),
        None => (12, 3),
    }
}

fn ledger_host(journal: &str, more: &str, library: &Library) -> TestHost {
    let host = TestHost::builder().plugin("ledger.so", library);
    let (file, lock) = (host.dir().join("ledger.db"), host.dir().join("ledger.lock"));
    let config =
        format!("[plugin.ledger]\npath = {file:?}\njournal = {journal:?}\nlock = {lock:?}\n{more}");
    host.config(&config).start()
}

/// Has four clients write lines until `work` is done. None may fail. How many were acknowledged.
#[track_caller]
fn while_four_write(host: &TestHost, work: impl FnOnce()) -> u64 {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let ends = Ends(&done);
        let clients: Vec<_> = (0..4_u64)
            .map(|number| {
                let done = &done;
                scope.spawn(move || write_until(host, number, done))
            })
            .collect();
        work();
        drop(ends);
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    })
}

fn write_until(host: &TestHost, client: u64, done: &AtomicBool) -> u64 {
    let mut socket = host.client();
    let mut number = 0;
    while !done.load(SeqCst) {
        socket.emit("ledger:add", json!({"client": client, "number": number}));
        number += 1;
    }
    number
}

/// How many lines are in a ledger's file, whose host has stopped, and what SQLite thinks of the
/// file.
fn look_into(file: &Path) -> (u64, String) {
    let connection = Connection::open(file).unwrap();
    let rows: i64 =
        connection.query_row("SELECT COUNT(*) FROM line", (), |row| row.get(0)).unwrap();
    let check = connection.query_row("PRAGMA integrity_check", (), |row| row.get(0)).unwrap();
    (rows.try_into().unwrap(), check)
}

/// How long the events were held for the live generation, in milliseconds.
fn hold(client: &mut Client, name: &str) -> f64 {
    let inspected = client.emit("module:inspect", json!({"module_name": name}));
    inspected["timings_ms"]["hold"].as_f64().expect("it was held")
}

fn named(name: &str) -> Value {
    json!({"module_name": name})
}

#[track_caller]
fn keeps_every_line(journal: &str) {
    let (reloads, rollbacks) = rounds();
    let host = ledger_host(journal, "", &Library::ledger(1));
    let (mut client, mut holds) = (host.client(), Vec::new());
    let acknowledged = while_four_write(&host, || {
        for round in 1..=reloads {
            client.emit("module:reload", named("ledger"));
            holds.push(hold(&mut client, "ledger"));
            if round % (reloads / rollbacks) == 0 {
                host.drop_in("ledger.so", &Library::ledger(1 + round));
                let [a, b, c] = [100, 10, 1].map(|place| (1 + round) / place % 10);
                host.until_version("ledger", &format!("{a}.{b}.{c}"));
                holds.push(hold(&mut client, "ledger"));
                client.emit("module:rollback", named("ledger"));
                holds.push(hold(&mut client, "ledger"));
                // What it went back from is not loaded again by itself.
                client.emit("module:reload", named("ledger"));
            }
        }
    });
    let module = host.module("ledger");
    assert_eq!((&module["rollbacks"], &module["reinstated"]), (&json!(rollbacks), &json!(0)));
    assert_eq!(module["counts"]["accepted"], module["counts"]["replied"], "{module}");
    host.until_unmapped("ledger");
    let stopped = host.stopped();
    let found = look_into(&stopped.dir().join("ledger.db"));
    assert_eq!(found, (acknowledged, "ok".to_owned()), "what was acknowledged is there");
    holds.sort_by(f64::total_cmp);
    let [median, p99] = [0.5, 0.99].map(|part| holds[((holds.len() - 1) as f64 * part) as usize]);
    println!(
        "{journal}: {acknowledged} lines acknowledged and found, {} replacements, {rollbacks} of them back; \
         events held {median:.1} ms at the median, {p99:.1} ms at p99",
        holds.len()
    );
}

#[test]
fn every_acknowledged_line_of_an_exclusive_ledger_is_in_its_file() {
    keeps_every_line("DELETE");
}

#[test]
fn every_acknowledged_line_of_an_exclusive_ledger_with_a_log_ahead_is_in_its_file() {
    keeps_every_line("WAL");
}

#[test]
fn what_the_operator_makes_exclusive_is_replaced_that_way() {
    let exclusive = "[reload.plugins.ledger]\nexclusive = true";
    let host = ledger_host("DELETE", exclusive, &Library::ledger(1).exclusive(false));
    let acknowledged = while_four_write(&host, || {
        host.client().emit("module:reload", named("ledger"));
    });
    let stopped = host.stopped();
    assert_eq!(look_into(&stopped.dir().join("ledger.db")).0, acknowledged);
}

#[test]
fn a_version_that_is_the_first_to_be_exclusive_is_given_what_the_one_before_held() {
    let host = ledger_host("DELETE", "", &Library::ledger(1).exclusive(false));
    let acknowledged = while_four_write(&host, || {
        host.drop_in("ledger.so", &Library::ledger(2));
        host.until_version("ledger", "0.0.2");
    });
    let stopped = host.stopped();
    assert_eq!(look_into(&stopped.dir().join("ledger.db")).0, acknowledged);
}

#[test]
fn an_exclusive_plugin_that_is_unloaded_and_loaded_again_waits_for_its_last_call() {
    let host = ledger_host("DELETE", "", &Library::ledger(1));
    let (mut writer, mut client) = (host.client(), host.client());
    let slow = writer.begin("ledger:add", json!({"client": 0, "number": 0, "millis": 700}));
    host.until_module("it writes", "ledger", |module| module["counts"]["in_flight"] == 1);
    client.emit("module:unload", named("ledger"));
    client.emit("module:load", json!({"path": host.file("ledger.so")}));
    assert_eq!(writer.end(&slow)["data"], 0);
    client.emit("ledger:add", json!({"client": 0, "number": 1}));
    let stopped = host.stopped();
    assert_eq!(look_into(&stopped.dir().join("ledger.db")).0, 2);
}

fn counter_host(more: &str) -> HostBuilder {
    TestHost::builder()
        .plugin("counter.so", &Library::counter(1).exclusive(true))
        .config("[timeouts]\ninit = '2s'\nhold = '4s'")
        .config(more)
}

/// Replaces version 1 by a version 2 that fails once version 1 has no instance any more; then by a
/// good version 3.
#[track_caller]
fn goes_on_with_the_old_version(second: &str, words: &str) {
    let host = counter_host("[recovery]\nattempts = 0").start();
    let mut watcher = host.client();
    watcher.subscribe(&["module:reload_failed"]);
    let (reason, _) = under_load(&host, 3, || {
        host.drop_in("counter.so", &Library::counter(2).exclusive(true).does(second));
        watcher.push_of("module:reload_failed")["reason"].take()
    });
    let reason = reason.as_str().unwrap();
    for words in [words, "one of version 1.0.0 was made again"] {
        assert!(reason.contains(words), "{second}: {reason}");
    }
    let module = host.module("counter");
    assert_eq!((module.state(), &module["version"]), (ModuleState::Live, &json!("1.0.0")));
    assert_eq!((&module["generation"], &module["reinstated"]), (&json!(1), &json!(1)));
    assert_eq!(module["counts"]["accepted"], module["counts"]["replied"], "{second}: {module}");
    let before = counters(&mut host.client());
    host.drop_in("counter.so", &Library::counter(3).exclusive(true));
    host.until_version("counter", "3.0.0");
    assert_eq!(counters(&mut host.client()), before, "{second}");
    host.until_unmapped("counter");
}

#[test]
fn an_exclusive_plugin_whose_new_version_does_not_initialize_goes_on_with_its_state() {
    goes_on_with_the_old_version("init=fail", "init fails on purpose");
    goes_on_with_the_old_version("init=panic", "init panics on purpose");
    goes_on_with_the_old_version("init=hang", "did not initialize within 2s");
    goes_on_with_the_old_version("init=block", "did not initialize within 2s");
}

#[test]
fn an_old_version_that_cannot_start_for_a_moment_is_made_again_a_moment_later() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    // The new version's, and the first two of the old one.
    let fails = format!(
        "[recovery]\nattempts = 0\n[plugin.counter]\ninit_log = {log:?}\ninit_fails_at = [2, 3, 4]"
    );
    let host = counter_host(&fails).start();
    let mut watcher = host.client();
    watcher.subscribe(&["module:reload_failed"]);
    let (reason, _) = under_load(&host, 3, || {
        host.drop_in("counter.so", &Library::counter(2).exclusive(true));
        watcher.push_of("module:reload_failed")["reason"].take()
    });
    let reason = reason.as_str().unwrap();
    for words in ["attempt 2 fails on purpose", "one of version 1.0.0 was made again"] {
        assert!(reason.contains(words), "{reason}");
    }
    let module = host.module("counter");
    let (generation, counts) = (&module["generation"], &module["counts"]);
    assert_eq!((generation, &module["reinstated"]), (&json!(1), &json!(1)));
    assert_eq!(counts["accepted"], counts["replied"], "every event waited for it: {module}");
    let versions = [1, 2, 1, 1, 1].map(|it| format!("counter-version-000{it}\n")).concat();
    assert_eq!(fs::read_to_string(&log).unwrap(), versions);
}

#[test]
fn a_duplicate_of_a_plugin_that_has_ended_is_tried_when_that_ones_file_goes() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let attempts: Vec<usize> = (2..100).collect();
    let host = counter_host(&format!(
        "[recovery]\nattempts = 0\n[plugin.counter]\ninit_log = {log:?}\ninit_fails_at = {attempts:?}"
    ));
    let host = host.start();
    host.drop_in("other.so", &Library::counter(1).exclusive(true));
    let mut client = host.client();
    let mut reason = || {
        let listed = client.emit("module:list", json!({}));
        let modules = listed["modules"].as_array().unwrap();
        let file = |it: &Value| it["file"].as_str().is_some_and(|it| it.ends_with("other.so"));
        let found = modules.iter().find(|it| file(it)).map(|it| it["last_error"].to_string());
        found.unwrap_or_default()
    };
    until("it is a duplicate", &mut reason, |reason| reason.contains("and so is"));
    host.drop_in("counter.so", &Library::counter(2).exclusive(true));
    until("it has ended", || host.module("counter").state(), |state| *state != ModuleState::Live);
    fs::remove_file(host.file("counter.so")).unwrap();
    until("the other one was tried", reason, |reason| reason.contains("fails on purpose"));
}

#[test]
fn an_exclusive_plugin_whose_new_version_does_not_restore_goes_on_with_its_state() {
    goes_on_with_the_old_version("restore_in_host=fail", "restore_in_host fails on purpose");
    goes_on_with_the_old_version("restore_in_host=hang", "its restore did not end within");
}

#[test]
fn a_snapshot_that_fails_leaves_an_exclusive_plugin_as_it_is() {
    let library = Library::counter(1).exclusive(true).does("snapshot=fail");
    let host = TestHost::builder().plugin("counter.so", &library).start();
    let mut watcher = host.client();
    watcher.subscribe(&["module:reload_failed"]);
    under_load(&host, 2, || {
        host.drop_in("counter.so", &Library::counter(2).exclusive(true));
        watcher.push_of("module:reload_failed")
    });
    let module = host.module("counter");
    assert_eq!((&module["generation"], &module["reinstated"]), (&json!(1), &json!(0)));
}

#[test]
fn events_of_an_exclusive_plugin_without_state_wait_and_are_answered_by_the_new_version() {
    let library = |version| Library::counter(version).stateless().exclusive(true);
    let host = TestHost::builder().plugin("counter.so", &library(1)).start();
    let (mut caller, mut other) = (host.client(), host.client());
    let inside = caller.begin("counter:wait", json!({"event": "gate:open"}));
    let waiting = || other.emit("counter:values", json!({}))["waiting"].clone();
    until("a call is inside", waiting, |waiting| *waiting == 1);
    host.drop_in("counter.so", &library(2));
    let mut sent = Vec::new();
    let one_more = || {
        sent.push(other.begin("counter:increment", json!({"name": "a"})));
        host.module("counter")["held"].as_u64()
    };
    until("an event is held", one_more, |held| *held > Some(0));
    host.client().reply("gate:open", json!({}));
    assert_eq!(caller.end(&inside)["data"], "counter-version-0001", "it ends where it began");
    let replies: Vec<Value> = sent.iter().map(|id| other.end(id)).collect();
    assert_eq!(replies.last().unwrap()["data"]["version"], "counter-version-0002");
    assert!(replies.iter().all(|reply| reply["data"]["value"].is_u64()), "{replies:?}");
    // Its events go on a moment before it is shown.
    host.until_live("counter", 2);
    let timings = other.emit("module:inspect", named("counter"))["timings_ms"].take();
    for step in ["hold", "quiet", "release", "init"] {
        assert!(timings[step].as_f64() >= Some(0.0), "{step} is missing: {timings}");
    }
}

#[test]
fn when_neither_version_comes_up_every_event_is_told_and_the_state_comes_back_with_the_next_try() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken");
    let config = format!(
        "[recovery]\nfirst = '100ms'\nlongest = '100ms'\nattempts = 1000\n[state]\npersist = false\n\
         [reload.plugins.counter]\nhold = '20s'\n[plugin.counter]\nfails_while = {broken:?}"
    );
    let host = counter_host(&config).start();
    let (mut client, mut watcher) = (host.client(), host.client());
    watcher.subscribe(&["module:unloaded"]);
    for _ in 0..3 {
        client.emit("counter:increment", json!({"name": "a"}));
    }
    let inside = client.begin("counter:increment", json!({"name": "a", "millis": 3_000}));
    host.until_module("it is inside", "counter", |it| it["counts"]["in_flight"] == 1);
    fs::write(&broken, "").unwrap();
    host.drop_in("counter.so", &Library::counter(2).exclusive(true));
    let mut held = Vec::new();
    let one_more = || {
        held.push(client.begin("counter:increment", json!({"name": "b"})));
        host.module("counter")["held"].as_u64()
    };
    until("an event is held", one_more, |held| *held > Some(0));
    let reason = watcher.push_of("module:unloaded")["reason"].to_string();
    assert!(reason.contains("fails while a file is there"), "{reason}");
    assert_eq!(client.end(&inside)["data"]["value"], 4);
    let told = client.end(held.last().unwrap());
    assert!(error_of(&told).contains("it was replaced or unloaded"), "{told}");
    let acknowledged = held[..held.len() - 1].iter().map(|id| client.end(id));
    let acknowledged = acknowledged.filter(|reply| reply["data"]["value"].is_u64()).count() as u64;
    fs::remove_file(&broken).unwrap();
    host.until_version("counter", "2.0.0");
    let now = counters(&mut client);
    assert_eq!((now["a"], now.get("b").copied().unwrap_or(0)), (4, acknowledged));
    let counts = host.module("counter")["counts"].take();
    assert_eq!(
        counts["accepted"].as_u64().unwrap(),
        ["replied", "rejected"].map(|it| counts[it].as_u64().unwrap()).iter().sum::<u64>()
    );
}

#[test]
fn a_host_that_stops_while_an_exclusive_plugin_has_no_instance_keeps_its_state() {
    let host = released("[timeouts]\ninit = '5s'\nhold = '5s'");
    let stopped = host.stopped();
    fs::remove_file(stopped.plugins().join("counter.so")).unwrap();
    let host = stopped.plugin("counter.so", &Library::counter(3).exclusive(true)).start();
    assert_eq!(counters(&mut host.client())["a"], 3);
}

/// A host whose exclusive counter has counted to 3 and was released for a version that does not
/// come up soon.
#[track_caller]
fn released(config: &str) -> TestHost {
    let host = TestHost::builder()
        .plugin("counter.so", &Library::counter(1).exclusive(true))
        .config(config)
        .start();
    let mut client = host.client();
    for _ in 0..3 {
        client.emit("counter:increment", json!({"name": "a"}));
    }
    host.drop_in("counter.so", &Library::counter(2).exclusive(true).does("init=hang"));
    host.until_module("it is released", "counter", |module| {
        module.state() == ModuleState::Replacing
    });
    host
}

/// The same for a minute, and what is kept goes to `folder`.
#[track_caller]
fn released_for_long(folder: &Path) -> TestHost {
    let timeouts = "[timeouts]\ninit = '60s'\nhold = '60s'\ndrain = '500ms'\nshutdown = '500ms'";
    released(&format!("{timeouts}\n[state]\ndir = {folder:?}"))
}

#[test]
fn a_host_that_stops_does_not_wait_for_a_replacement_to_keep_the_state_of_a_released_instance() {
    let folder = tempfile::tempdir().unwrap();
    let stopped = released_for_long(folder.path()).stopped();
    fs::remove_file(stopped.plugins().join("counter.so")).unwrap();
    let host = stopped.plugin("counter.so", &Library::counter(3).exclusive(true)).start();
    assert_eq!(counters(&mut host.client())["a"], 3);
}

#[test]
fn a_host_that_cannot_keep_the_state_of_a_released_instance_says_so_when_it_stops() {
    let folder = tempfile::tempdir().unwrap();
    let host = released_for_long(folder.path());
    fs::create_dir(folder.path().join("counter.new")).unwrap();
    let (_, said) = host.stopped_without_all_state();
    assert!(said.contains("counter") && said.contains("counter.new"), "{said}");
}

#[test]
fn no_trial_of_an_exclusive_plugin_runs_beside_an_instance_that_is_on_its_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let held = folder.path().join("held");
    let config = format!("[plugin.counter]\nfails_while = {held:?}");
    // The version before says so; the next one need not.
    let host = counter_host(&config).start();
    let (mut caller, mut client, mut loader) = (host.client(), host.client(), host.client());
    let inside = caller.begin("counter:wait", json!({"event": "gate:open"}));
    let waiting = || client.emit("counter:values", json!({}))["waiting"].clone();
    until("a call is inside", waiting, |waiting| *waiting == 1);
    client.emit("module:unload", named("counter"));
    // What it holds until it is gone.
    fs::write(&held, "").unwrap();
    let other = folder.path().join("counter.so");
    put(&other, &Library::counter(2).0);
    let loading = loader.begin("module:load", json!({"path": other}));
    // Another file goes all the way meanwhile, again and again.
    let apart = folder.path().join("apart.so");
    put(&apart, &Library::counter(9).called("another").0);
    for _ in 0..4 {
        client.emit("module:load", json!({"path": apart}));
    }
    fs::remove_file(&held).unwrap();
    client.reply("gate:open", json!({}));
    assert_eq!(caller.end(&inside)["data"], "counter-version-0001");
    let loaded = loader.end(&loading);
    assert_eq!(loaded["data"]["version"], "2.0.0", "{loaded}");
    let inspected = client.emit("module:inspect", named("counter"));
    let trial = inspected["trial"].to_string();
    assert!(trial.contains("an earlier instance of it is not gone"), "{inspected}");
}
