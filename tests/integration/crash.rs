//! A plugin that ends the process: the host says who it was, and the next one comes up without it.

use std::{fs, path::PathBuf};

use ksi_wire::module::ModuleState;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::kit::{Client, HostBuilder, Library, Ran, States, TestHost, isolated, until};

/// A host with the plugin that misbehaves, and another one.
fn two() -> HostBuilder {
    TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .plugin("counter.so", &Library::counter(1))
}

/// Has the plugin end the host in one of its calls.
#[track_caller]
fn crash(host: TestHost, how: &Value) -> (Ran, HostBuilder) {
    let mut client = host.client();
    client.begin("chaos:crash", how.clone());
    host.died()
}

/// The line that a host died with.
#[track_caller]
fn last_words(ran: &Ran) -> &str {
    let mut lines = ran.stderr.lines().filter(|line| line.starts_with("ksi: this host dies: "));
    let line = lines.next().unwrap_or_else(|| panic!("no last words: {ran:#?}"));
    assert_eq!(lines.next(), None, "there is one line");
    line
}

/// Starts the next host, which comes up with the rest, and gives why the file is quarantined.
#[track_caller]
fn comes_up_without(setup: HostBuilder) -> (TestHost, String) {
    let host = setup.start();
    assert_eq!(host.module("counter").state(), ModuleState::Live);
    let module = host.module("chaos.so");
    assert_eq!(module.state(), ModuleState::Quarantined, "{module}");
    let reason = module["quarantined"]["reason"].as_str().unwrap().to_owned();
    assert_eq!(module["last_error"], *reason);
    (host, reason)
}

#[test]
fn a_first_call_that_ends_the_process_is_told_and_the_next_host_comes_up_without_its_file() {
    for (how, words, ended, reason) in [
        ("segfault", "SIGSEGV at address 0x8", (None, Some(11)), "died of SIGSEGV"),
        ("abort", "SIGABRT", (None, Some(6)), "died of SIGABRT"),
        ("panic", "SIGABRT", (None, Some(6)), "died of SIGABRT"),
        ("overflow", "SIGSEGV at address", (None, Some(6)), "died of SIGSEGV"),
        ("exit", "exit() was called", (Some(0), None), "ended by exit()"),
    ] {
        for late in [false, true] {
            let (ran, setup) = crash(two().start(), &json!({"how": how, "late": late}));
            assert_eq!((ran.code, ran.signal), ended, "{how}: {ran:#?}");
            let line = last_words(&ran);
            let who = "in a call of plugin chaos 0.1.0 (generation 1), handler crash of chaos:crash with event evt_";
            assert!(line.contains(words) && line.contains(who), "{how}: {line}");
            assert!(line.contains("on thread ksi-dispatch"), "{how}: {line}");
            if how == "overflow" {
                assert!(line.contains("(the end of its stack)"), "{line}");
                assert!(ran.stderr.contains("has overflowed its stack"), "{ran:#?}");
            }
            let (host, told) = comes_up_without(setup);
            let step = "the first call of crash, with event chaos:crash";
            assert!(told.contains(reason) && told.contains(step), "{how}: {told}");
            // The next host says it again.
            host.process.told(line);
        }
    }
}

#[test]
fn a_quarantine_is_remembered_until_the_bytes_change_or_somebody_asks() {
    let (_, setup) = crash(two().start(), &json!({"how": "abort"}));
    let (host, _) = comes_up_without(setup);
    let listed = host.ksi(&["list"]).ok();
    let file = host.file("chaos.so");
    assert!(
        listed.contains("quarantined version 0.1.0: the host before this one died"),
        "{listed}"
    );
    assert!(listed.contains(&format!("`ksi load {}`", file.display())), "{listed}");
    let (host, _) = comes_up_without(host.stopped());
    host.drop_in("chaos.so", &Library::chaos().version(2));
    host.until_live("chaos", 1);
    host.drop_in("chaos.so", &Library::chaos());
    let bytes_are_known = |module: &Value| module["last_error"].is_string();
    let module = host.until_module("the old bytes are refused", "chaos", bytes_are_known);
    assert_eq!((module.state(), &module["generation"]), (ModuleState::Live, &json!(1)));
    assert!(module["quarantined"].is_object(), "{module}");
    host.drop_in("renamed.so", &Library::chaos());
    host.until_module("also under another name", "renamed.so", |module| {
        module.state() == ModuleState::Quarantined
    });
    host.ksi(&["load", file.to_str().unwrap()]).ok();
    let module = host.until_live("chaos", 2);
    assert_eq!(module["quarantined"], Value::Null);
    let host = host.stopped().start();
    host.until_live("chaos", 1);
}

#[test]
fn an_initialize_that_ends_the_process_after_all_is_not_run_again_by_the_next_host() {
    for (how, reason) in [("segfault", "died of SIGSEGV"), ("exit", "ended by exit()")] {
        let config = format!(
            "[plugin.chaos]\ninit_version = 'chaos-version-0002'\ninit_crash = '{how}'\ninit_in_earnest = true"
        );
        let host = two().config(&config).start();
        host.drop_in("chaos.so", &Library::chaos().version(2));
        let (ran, setup) = host.died();
        let line = last_words(&ran);
        assert!(line.contains("in plugin chaos 0.1.0, its initialize, of /"), "{how}: {line}");
        let (host, told) = comes_up_without(setup);
        assert!(told.contains(reason) && told.contains("in its initialize"), "{how}: {told}");
        host.drop_in("chaos.so", &Library::chaos());
        host.until_live("chaos", 1);
    }
}

#[test]
fn a_version_that_has_stood_its_first_calls_is_named_and_comes_up_again() {
    for how in ["segfault", "abort", "exit"] {
        let host = two().start();
        host.client().emit("chaos:crash", json!({}));
        let (ran, setup) = crash(host, &json!({"how": how}));
        let line = last_words(&ran).to_owned();
        assert!(line.contains("handler crash of chaos:crash with event evt_"), "{line}");
        let host = setup.start();
        host.until_live("chaos", 1);
        host.process.told(&line);
    }
}

#[test]
fn a_first_call_that_asks_somebody_who_ends_the_process_is_not_taken_for_guilty() {
    for late in [false, true] {
        let host = two().start();
        let mut client = host.client();
        client.emit("chaos:crash", json!({}));
        let crashing = json!({"how": "segfault", "late": late});
        client.begin("counter:relay", json!({"event": "chaos:crash", "data": crashing}));
        let (ran, setup) = host.died();
        assert!(last_words(&ran).contains("handler crash of chaos:crash"), "{ran:#?}");
        let host = setup.start();
        host.until_live("counter", 1);
        host.until_live("chaos", 1);
        let told = host.log_by_now();
        assert!(!told.contains("by chance"), "{told}");
    }
}

#[test]
fn a_death_in_a_thread_of_the_plugins_own_names_the_file_that_was_at_work() {
    let (ran, _) = crash(two().start(), &json!({"how": "segfault", "in_a_thread": true}));
    let line = last_words(&ran);
    assert!(line.contains("outside of calls, on thread chaos-crash, in code of /"), "{line}");
    assert!(line.ends_with(".so") && line.contains("/chaos-"), "{line}");
}

#[test]
fn a_child_that_a_plugin_forks_and_that_exits_is_not_taken_for_the_host() {
    let host = two().start();
    let mut client = host.client();
    client.emit("chaos:crash", json!({"how": "child"}));
    let told = host.log_by_now();
    assert!(!told.contains("this host dies"), "{told}");
    let host = host.crash().start();
    host.until_live("chaos", 1);
    let told = host.log_by_now();
    assert!(!told.contains("this host dies"), "{told}");
}

/// Where a host keeps its plugins' state.
fn state_of(host: &TestHost) -> PathBuf {
    let states = host.dir().join("state-home/ksi");
    fs::read_dir(states).unwrap().next().unwrap().unwrap().path()
}

/// Begins a first call that does not end soon, and waits until it is noted: what runs in another
/// process is not.
#[track_caller]
fn at_work(host: &TestHost) -> Client {
    let mut client = host.client();
    client.begin("chaos:block_well", json!({"millis": 60_000}));
    if isolated::is_on() {
        host.until_module("it is called", "chaos", |module| module["counts"]["in_flight"] == 1);
        return client;
    }
    let state = state_of(host);
    let journal = || fs::read(state.join(".recovery/crashes")).unwrap();
    let is_noted = |journal: &Vec<u8>| {
        String::from_utf8_lossy(journal).contains("the first call of block_well")
    };
    until("it is noted", journal, is_noted);
    client
}

/// Ends a host without a word while a first call is at work.
#[track_caller]
fn killed_at_work(host: TestHost) -> HostBuilder {
    let _client = at_work(&host);
    host.crash()
}

#[test]
fn one_kill_by_an_operator_quarantines_nobody_and_a_second_in_a_row_whoever_was_at_work_both_times()
{
    let host = killed_at_work(two().start()).start();
    host.until_live("chaos", 1);
    host.process.told("this may be by chance");
    // A host that ends in order forgets its suspects.
    let host = killed_at_work(host.stopped().start()).start();
    host.until_live("chaos", 1);
    let (_, told) = comes_up_without(killed_at_work(host));
    assert!(told.contains("two hosts in a row ended without a word"), "{told}");
}

#[test]
fn a_suspect_that_a_host_did_not_find_at_work_when_it_died_is_none_any_more() {
    let host = killed_at_work(two().start()).start();
    host.until_live("chaos", 1);
    let host = killed_at_work(host.crash().start()).start();
    host.until_live("chaos", 1);
}

#[test]
fn a_host_that_is_told_again_and_again_to_stop_suspects_nobody() {
    let host = two().start();
    let _client = at_work(&host);
    let (ran, setup) = host.insisted();
    // In order, or by one signal more than there are ways to stop.
    assert!(matches!(ran.code, Some(0 | 130)), "{ran:#?}");
    let host = setup.start();
    host.until_live("chaos", 1);
    let told = host.log_by_now();
    assert!(!told.contains("by chance"), "{told}");
}

#[test]
fn a_crash_journal_that_cannot_be_used_keeps_no_host_from_starting() {
    let host = two().start();
    let journal = state_of(&host).join(".recovery/crashes");
    let setup = host.stopped();
    fs::remove_file(&journal).unwrap();
    fs::create_dir(&journal).unwrap();
    let host = setup.start();
    host.until_live("chaos", 1);
    host.process.told("going on without a crash journal");
}

#[test]
fn whoever_is_not_at_work_when_the_host_is_killed_is_not_suspected() {
    let host = two().start();
    host.client().emit("chaos:echo", json!(1));
    let host = host.crash().start();
    host.until_live("chaos", 1);
    let told = host.log_by_now();
    assert!(!told.contains("before this one") && !told.contains("by chance"), "{told}");
}

#[test]
fn a_signal_that_somebody_else_sends_is_nobodys_fault() {
    let host = two().start();
    let _client = at_work(&host);
    host.process.signal(Signal::SEGV);
    let (ran, setup) = host.died();
    assert_eq!(ran.signal, Some(11));
    assert!(!ran.stderr.contains("this host dies"), "{ran:#?}");
    setup.start().until_live("chaos", 1);
}

#[test]
fn a_suspect_is_tried_elsewhere_first_although_the_operator_wants_no_trial() {
    let host = two().config("[reload]\ntrial = false").start();
    let host = killed_at_work(host).start();
    host.until_live("chaos", 1);
    let trial = |name: &str| {
        host.client().emit("module:inspect", json!({"module_name": name}))["trial"]["result"]
            .clone()
    };
    assert_eq!((trial("chaos"), trial("counter")), (json!("passed"), json!("skipped")));
}

#[test]
fn a_version_that_the_host_went_back_from_stays_quarantined_over_a_restart() {
    let host = TestHost::builder()
        .plugin("counter.so", &Library::counter(1))
        .config("[recovery]\ndir = 'recovery'\nafter_rollback = '1h'")
        .start();
    host.drop_in("counter.so", &Library::counter(2).does("calls=fail"));
    let answer = || {
        host.client().reply("counter:increment", json!({"name": "a"}));
        host.module("counter")["rollbacks"].clone()
    };
    until("it is rolled back", answer, |rollbacks| *rollbacks == 1);
    until("and quarantined", || host.module("counter")["quarantined"].clone(), Value::is_object);
    let good = host.dir().join("recovery/good");
    let kept = || fs::read_dir(&good).map_or(0, Iterator::count);
    until("and the good one is kept", kept, |kept| *kept == 1);
    let setup = host.stopped();
    // As if it had not been.
    fs::remove_dir_all(&good).unwrap();
    let host = setup.start();
    let module = host.module("counter.so");
    assert_eq!(module.state(), ModuleState::Quarantined, "{module}");
    assert!(module["retry_in_ms"].as_u64() > Some(3_000_000), "{module}");
    host.drop_in("counter.so", &Library::counter(3));
    host.until_version("counter", "3.0.0");
    host.drop_in("counter.so", &Library::counter(2).does("calls=fail"));
    host.until_version("counter", "2.0.0");
}
