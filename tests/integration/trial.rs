//! A new version's first code runs in a process of its own: what ends that one leaves the running
//! version alone.

use serde_json::{Value, json};

use crate::kit::{HostBuilder, Library, TestHost, until};

/// A host with a good version, whose second version begins in this way.
fn beginning(how: &str) -> HostBuilder {
    TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config("[timeouts]\ninit = '2s'\nprobe = '3s'\n[recovery]\nattempts = 0")
        .config(&format!("[plugin.chaos]\ninit_version = 'chaos-version-0002'\n{how}"))
}

/// Drops the second version in and gives why it is refused, while the first one is called.
#[track_caller]
fn refused(host: &TestHost) -> String {
    let mut client = host.client();
    host.drop_in("chaos.so", &Library::chaos().version(2));
    let answer = || {
        let version = client.emit("chaos:version", json!({}))["version"].clone();
        assert_eq!(version, "chaos-version-0001");
        host.module("chaos")["last_error"].clone()
    };
    let reason = until("the second version is refused", answer, Value::is_string);
    assert_eq!(client.emit("chaos:version", json!({}))["version"], "chaos-version-0001");
    assert_eq!(host.module("chaos")["generation"], 1);
    reason.as_str().unwrap().to_owned()
}

fn trial_of(host: &TestHost) -> Value {
    host.client().emit("module:inspect", json!({"module_name": "chaos"}))["trial"].clone()
}

#[test]
fn an_initialize_that_ends_the_process_is_a_message_and_the_running_version_goes_on() {
    for (how, ended) in [
        ("abort", "signal: 6 (SIGABRT)"),
        ("segfault", "signal: 11 (SIGSEGV)"),
        ("exit", "exit status: 0"),
        ("overflow", "signal: 6 (SIGABRT)"),
        ("panic", "signal: 6 (SIGABRT)"),
    ] {
        let host = beginning(&format!("init_crash = '{how}'")).start();
        assert_eq!(trial_of(&host), json!({"result": "passed"}));
        let reason = refused(&host);
        let told = format!("initializing an instance of it ended a probe process ({ended})");
        assert!(reason.contains(&told) && reason.contains("chaos.so"), "{how}: {reason}");
        host.drop_in("chaos.so", &Library::chaos().version(3));
        until(
            "a better one comes up",
            || host.client().emit("chaos:version", json!({}))["version"].clone(),
            |version| version == "chaos-version-0003",
        );
    }
}

#[test]
fn an_initialize_that_never_returns_from_a_poll_is_a_message_and_takes_no_thread_of_the_host() {
    let host = beginning("init = 'block'\ninit_millis = 600000").start();
    let threads = host.resources().threads;
    let reason = refused(&host);
    let told = "initializing an instance of it did not end within 5s in a probe process";
    assert!(reason.contains(told), "{reason}");
    until("no thread is stuck", || host.resources().threads, |now| *now <= threads + 1);
}

#[test]
fn an_initialize_that_fails_or_waits_alone_is_not_refused_for_that() {
    for (how, told) in [
        ("init = 'fail'", "its initialize fails in a trial: init fails on purpose"),
        ("init = 'panic'", "its initialize fails in a trial: it panicked: init panics on purpose"),
        ("init = 'hang'", "its initialize does not end in a trial"),
    ] {
        let host = beginning(&format!("{how}\ninit_only_in_a_trial = true")).start();
        host.drop_in("chaos.so", &Library::chaos().version(2));
        host.until_live("chaos", 2);
        let trial = trial_of(&host);
        let reason = trial["reason"].as_str().unwrap_or_default();
        assert!(trial["result"] == "unsure" && reason.starts_with(told), "{how}: {trial}");
        let shown = host.ksi(&["inspect", "chaos"]).ok();
        assert!(shown.contains(&format!("unsure: {told}")), "{shown}");
    }
}

#[test]
fn who_says_no_to_a_trial_gets_none_and_that_is_shown() {
    let by_plugin = Library::chaos().with(r#""trial": true"#, r#""trial":false"#);
    let host = TestHost::builder().plugin("chaos.so", &by_plugin).start();
    let reason = "the plugin says so: #[plugin(trial = false)]";
    assert_eq!(trial_of(&host), json!({"result": "skipped", "reason": reason}));
    assert!(host.ksi(&["inspect", "chaos"]).ok().contains(&format!("skipped: {reason}")));
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config(
            "[reload.plugins.chaos]\ntrial = false\n[plugin.chaos]\ninit_only_in_a_trial = true",
        )
        .config("init_crash = 'abort'")
        .start();
    let trial = trial_of(&host);
    assert_eq!(trial["result"], "skipped", "{trial}");
    assert!(trial["reason"].as_str().unwrap().contains("reload.plugins.chaos.trial"), "{trial}");
}

#[test]
fn a_trial_sees_the_environment_of_the_host() {
    let builder = beginning("init = 'variable'");
    let mut command = builder.command();
    let host = builder.start_by(command.env("CHAOS", "it is there"));
    host.drop_in("chaos.so", &Library::chaos().version(2));
    host.until_live("chaos", 2);
    assert_eq!(trial_of(&host), json!({"result": "passed"}));
}
