//! How long a value that crosses between libraries keeps the one that it comes from: until its last
//! reference is gone, and no longer.

use std::collections::BTreeSet;

use serde_json::json;

use crate::kit::{
    Library, TestHost,
    lanes::{ask, heard, leaves, open_gate, reading, stays, unload, until_heard, with},
    until,
};

#[test]
fn a_handler_that_is_not_done_with_a_value_keeps_the_library_that_it_comes_from() {
    for handler in ["holds", "block"] {
        let host = with(&[handler]);
        ask(&host, "alpha:send", "held over its emitter's unload");
        host.until_waiting("bravo", 1);
        unload(&host, "alpha");
        stays(&host, "alpha");
        open_gate(&host);
        leaves(&host, "alpha", 1);
        until_heard(&host, "bravo", &["held over its emitter's unload"]);
    }
}

#[test]
fn a_report_is_read_and_let_go_on_a_thread_of_a_plugins_own() {
    let host = reading();
    ask(&host, "alpha:report_outside", "a note");
    host.until_waiting("alpha", 1);
    unload(&host, "bravo");
    stays(&host, "bravo");
    open_gate(&host);
    leaves(&host, "bravo", 1);
    until_heard(&host, "alpha", &["\"a note\""]);
}

#[test]
fn values_are_emitted_from_the_first_moment_of_a_generation_to_its_last() {
    let host = TestHost::builder()
        .plugin("bravo.so", &Library::lanes("bravo", &["reads"]))
        .config("[plugin.alpha]\nfirst_and_last = true")
        .start();
    let mut library = Library::lanes_with_state("alpha", &[]);
    for version in 1..3 {
        library.lanes_version(version);
        // The second one is tried out before, and emits there as well.
        host.drop_in("alpha.so", &library);
        host.until_live("alpha", version as u64);
        until_heard(&host, "alpha", &["the same: true"]);
    }
    host.until_unmapped("alpha");
    host.drop_in("gamma.so", &Library::lanes("gamma", &["holds"]));
    host.until_live("gamma", 1);
    unload(&host, "alpha");
    host.until_waiting("gamma", 1);
    // Its instance is gone, and what it sent in the end is not.
    stays(&host, "alpha");
    open_gate(&host);
    leaves(&host, "alpha", 2);
    until_heard(&host, "gamma", &["last"]);
}

#[test]
fn a_plugin_that_handles_its_own_values_is_replaced_like_any_other() {
    let mut library = Library::lanes("alpha", &["holds"]);
    let host = TestHost::builder().plugin("alpha.so", &library).start();
    let mut client = host.client();
    let call = client.begin("alpha:note", json!({"text": "its own"}));
    host.until_waiting("alpha", 1);
    library.lanes_version(2);
    host.drop_in("alpha.so", &library);
    host.until_live("alpha", 2);
    open_gate(&host);
    let answer = &client.end(&call)["data"];
    assert_eq!(answer["seen"][0]["text_at"], answer["text_at"], "{answer:#}");
    leaves(&host, "alpha", 1);
}

#[test]
fn a_host_that_stops_while_values_are_held_ends_in_order() {
    let host = TestHost::builder()
        .plugin("alpha.so", &Library::lanes("alpha", &[]))
        .plugin("bravo.so", &Library::lanes("bravo", &["holds", "reads"]))
        .config("[timeouts]\ndrain = '100ms'")
        .start();
    let mut client = host.client();
    client.begin("alpha:report", json!({"text": "a report with a reply"}));
    ask(&host, "alpha:send", "held");
    host.until_waiting("bravo", 2);
    unload(&host, "alpha");
    host.stop().ok();
}

#[test]
fn an_event_whose_handler_was_slow_and_is_gone_lets_go_of_the_library_too() {
    let host = TestHost::builder()
        .plugin("alpha.so", &Library::lanes("alpha", &[]))
        .plugin("bravo.so", &Library::lanes("bravo", &["holds"]))
        .config("[timeouts]\ndrain = '100ms'")
        .start();
    ask(&host, "alpha:send", "never read");
    host.until_waiting("bravo", 1);
    unload(&host, "alpha");
    // Its call is cancelled, and with it goes the value.
    unload(&host, "bravo");
    host.until_unmapped("bravo");
    leaves(&host, "alpha", 0);
}

#[test]
fn nobody_keeps_the_library_who_keeps_no_value_of_it() {
    let host = with(&["keeps"]);
    // It is never read until the library is gone.
    let mut watcher = host.client();
    watcher.subscribe(&["lanes:*"]);
    ask(&host, "alpha:send", "kept");
    // A task with the handler's context, and a child of the event.
    host.until_waiting("bravo", 2);
    unload(&host, "alpha");
    leaves(&host, "alpha", 1);
    open_gate(&host);
    host.until_waiting("bravo", 0);
    let heard = || {
        let heard = serde_json::from_value::<Vec<String>>(heard(&host, "bravo"));
        heard.unwrap().into_iter().collect::<BTreeSet<_>>()
    };
    let both = ["kept Some((\"lanes:note\", \"alpha\"))", "kept at Some(2)"];
    until("both are heard", heard, |heard| heard.iter().eq(both));
    assert_eq!(watcher.push_of("lanes:note"), json!({"text": "kept", "number": 4}));
}

#[test]
fn a_watcher_that_does_not_read_keeps_no_library() {
    const NOTES: usize = 40;
    let host = reading();
    let mut watcher = host.client();
    watcher.subscribe(&["lanes:*"]);
    // More than a socket takes, so most of them wait in the host.
    let text = "x".repeat(100_000);
    for _ in 0..NOTES {
        ask(&host, "alpha:send", &text);
    }
    unload(&host, "alpha");
    leaves(&host, "alpha", 1);
    for _ in 0..NOTES {
        assert_eq!(watcher.push_of("lanes:note")["text"], text);
    }
}

#[test]
fn an_event_that_came_as_json_keeps_no_library() {
    let host = with(&["holds"]);
    ask(&host, "alpha:send_json", "text");
    host.until_waiting("bravo", 1);
    unload(&host, "alpha");
    leaves(&host, "alpha", 1);
    host.until_waiting("bravo", 1);
    open_gate(&host);
    host.until_waiting("bravo", 0);
    until_heard(&host, "bravo", &[r#"{"text":"text"}"#]);
}

#[test]
fn a_reply_in_a_report_is_there_after_the_unload_of_who_gave_it() {
    let host = reading();
    let mut client = host.client();
    let holding = client.begin("alpha:report", json!({"text": "a note"}));
    host.until_waiting("alpha", 1);
    unload(&host, "bravo");
    stays(&host, "bravo");
    open_gate(&host);
    let answer = &client.end(&holding)["data"];
    assert_eq!(answer["seen"][0]["text_at"], answer["text_at"], "{answer:#}");
    assert_eq!(answer["json"], answer["seen"], "it becomes JSON by the code of who gave it");
    leaves(&host, "bravo", 1);
}

/// A host with a handler that replies plain data at once, and another one that ends when the gate
/// is opened.
#[track_caller]
fn reading_and_holding() -> TestHost {
    let host = reading();
    host.drop_in("gamma.so", &Library::lanes("gamma", &["holds"]));
    host.until_live("gamma", 1);
    host
}

#[test]
fn a_reply_of_plain_data_waits_for_a_slower_handler_without_its_library() {
    let host = reading_and_holding();
    let mut client = host.client();
    let asked = client.begin("alpha:sum", json!({}));
    host.until_waiting("gamma", 1);
    unload(&host, "bravo");
    leaves(&host, "bravo", 2);
    open_gate(&host);
    assert_eq!(client.end(&asked)["data"], true);
}

#[test]
fn so_does_one_that_is_awaited_on_a_thread_of_a_plugins_own() {
    let host = reading_and_holding();
    ask(&host, "alpha:sum_outside", "");
    host.until_waiting("gamma", 1);
    unload(&host, "bravo");
    leaves(&host, "bravo", 2);
    open_gate(&host);
    until_heard(&host, "alpha", &["NaN"]);
}

#[test]
fn a_value_that_is_held_for_a_plugin_with_state_reaches_its_next_generation() {
    let mut library = Library::lanes_with_state("bravo", &["reads"]);
    let host = TestHost::builder()
        .plugin("alpha.so", &Library::lanes("alpha", &[]))
        .plugin("bravo.so", &library)
        .start();
    // A call that has to end before the state can go; it ends when the next note passes by.
    let (mut inside, mut outside) = (host.client(), host.client());
    let call = inside.begin("bravo:pass", json!({}));
    host.until_waiting("bravo", 1);
    library.lanes_version(2);
    host.drop_in("bravo.so", &library);
    let mut sent = 0;
    let one_more = || {
        outside.emit("alpha:send", json!({"text": "held"}));
        sent += 1;
        host.module("bravo")["held"].as_u64()
    };
    until("a note is held", one_more, |held| *held > Some(0));
    unload(&host, "alpha");
    open_gate(&host);
    assert_eq!(inside.end(&call).get("failed"), None);
    host.until_live("bravo", 2);
    let stats = || host.client().emit("bravo:stats", json!({}));
    let stats = until("all are read", stats, |stats| stats["counted"] == sent);
    assert_eq!(stats["version"], "lanes-version-0002");
    host.until_unmapped("bravo");
    leaves(&host, "alpha", 1);
}
