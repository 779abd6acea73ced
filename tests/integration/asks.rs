//! What a plugin may ask of its host, and what it is told when that is refused.

use ksi_wire::module::RetiredState;
use serde_json::{Value, json};

use crate::kit::{Library, States, TestHost, isolated, until};

fn host() -> TestHost {
    let limits = "[limits]\npayload_bytes = 1500\nqueued_events = 4\nsubscriptions = 4\nbackground_tasks = 3\n\
                  kept_resources = 2\nevent_depth = 8\nsubscriber_queue = 8";
    let plugin = Library::of("ksi-fixture-asks");
    TestHost::builder().plugin("asks.so", &plugin).config(limits).start()
}

#[test]
fn what_is_refused_has_a_code_for_each_reason() {
    let host = host();
    let mut client = host.client();
    for (what, code, refusal) in [
        ("request_name", "rejected", "InvalidName"),
        ("send_name", "rejected", "InvalidName"),
        ("wait_for_pattern", "rejected", "InvalidPattern"),
        ("subscribe_pattern", "rejected", "InvalidPattern"),
        ("request_too_large", "rejected", "TooLarge"),
        ("send_too_large", "rejected", "TooLarge"),
        ("send_too_many", "rejected", "QueueFull"),
        ("watch_pattern", "rejected", "InvalidPattern"),
        ("watch_nothing", "rejected", "InvalidPattern"),
        ("watch_too_often", "rejected", "TooManyWatches"),
        ("subscribe_too_often", "rejected", "TooManySubscriptions"),
        ("spawn_too_often", "rejected", "TooManyTasks"),
        ("listener_address", "not_kept", "InvalidAddress"),
        ("listener_taken", "not_kept", "AddressUnavailable"),
        ("keep_name", "not_kept", "InvalidResourceName"),
        ("keep_too_many", "not_kept", "TooManyResources"),
    ] {
        let told = client.emit("asks:refused", json!(what));
        assert_eq!(told, json!([code, format!("Some({refusal})")]), "{what}");
    }
    assert_eq!(client.emit("asks:emit", json!("no name")), "Some(InvalidName)");
    assert_eq!(client.emit("asks:emit", json!("asks:nobody")), "None", "nobody need be there");
    assert_eq!(client.emit("asks:deeper", json!(1)), "TooDeep");
}

#[test]
fn what_is_said_beside_an_event_goes_with_it_by_type_and_by_name() {
    let host = host();
    let mut client = host.client();
    for (by, named) in [("emit", false), ("emit", true), ("request", false), ("request", true)] {
        let mut say = json!({"by": by, "named": named, "depth": 5, "timeout_ms": 60_000, "length": 1,
                             "sleep": false});
        // The event in whose handler it is emitted lies before it, too.
        let heard = client.emit("asks:say", say.clone());
        assert_eq!(heard, json!(["x", null, 6]), "{say}");

        say["depth"] = json!(8);
        let refused = client.reply("asks:say", say.clone()).to_string();
        let told = if by == "emit" { "Some(TooDeep)" } else { "limits.event_depth" };
        assert!(refused.contains(told), "{say}: {refused}");

        (say["depth"], say["sleep"], say["timeout_ms"]) = (json!(0), json!(true), json!(50));
        let late = client.reply("asks:say", say.clone()).to_string();
        assert!(late.contains("timed_out"), "{say}: {late}");

        (say["sleep"], say["length"]) = (json!(false), json!(64 * 1024));
        let refused = client.reply("asks:say", say.clone()).to_string();
        let told = if by == "emit" { "Some(TooLarge)" } else { "65536 are allowed" };
        assert!(refused.contains(told), "{by}: {refused}");
    }
    let send = json!({"by": "send", "named": false, "depth": 5, "timeout_ms": 50, "length": 1, "sleep": false});
    assert_eq!(client.emit("asks:say", send), json!([]));
}

#[test]
fn subscriptions_made_at_run_time_have_the_options_of_declared_handlers() {
    let host = host();
    let mut client = host.client();
    client.emit("asks:subscribe", json!({}));
    let told = client.emit("order:all", json!({}));
    let told: Vec<(u32, String)> = serde_json::from_value(told).unwrap();
    let numbers: Vec<u32> = told.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [1, 2, 3], "by priority");
    if !isolated::is_on() {
        // Threads of a plugin's own process have one name.
        let blocks = |number: usize| told[number - 1].1.contains("block");
        assert!(blocks(3) && !blocks(2), "{told:?}");
    }
    let late = client.reply("order:late", json!({})).to_string();
    assert!(late.contains("timed_out"), "{late}");
}

#[test]
fn what_a_plugin_declares_to_emit_is_described_by_its_type() {
    let host = host();
    let inspected = host.client().emit("module:inspect", json!({"module_name": "asks"}));
    assert_eq!(inspected["emits"], json!(["beside:typed", "beside:named"]));
    let schemas = inspected["emits_schemas"].as_object().unwrap();
    assert_eq!(schemas.keys().collect::<Vec<_>>(), ["beside:typed"], "the other has no type");
    assert_eq!(schemas["beside:typed"]["properties"]["sleep"]["type"], "boolean");
}

#[test]
fn who_watches_sees_events_pass_and_handles_none_of_them() {
    let host = host();
    let mut client = host.client();
    client.emit("asks:watch", json!([["order:*", "*:paid"], 8, "task"]));
    let inspected = client.emit("module:inspect", json!({"module_name": "asks"}));
    assert_eq!(inspected["watches"], json!(["order:*, *:paid"]));
    for event in ["order:placed", "order:paid", "bill:paid", "bill:sent"] {
        let reply = client.reply(event, json!({"item": "pen"}));
        assert!(reply.to_string().contains("similar"), "nobody handles it: {reply}");
    }
    let seen = || client.emit("asks:seen", json!({}));
    until("they are seen", seen, |seen| {
        *seen == json!(["order:placed", "order:paid", "bill:paid"])
    });
}

/// Has more events pass than a watch holds that is not read meanwhile.
#[track_caller]
fn misses_what_it_does_not_hold(asked_for: u64, holds: usize) {
    let host = host();
    let mut client = host.client();
    client.emit("asks:watch", json!([["order:*"], asked_for, "later"]));
    // To a process they are on their way for a moment: many more, and it has read others by then.
    let in_process = isolated::is_on();
    for _ in 0..if in_process { 100 } else { holds + 3 } {
        client.reply("order:placed", json!({}));
    }
    client.emit("asks:seen", json!({}));
    client.reply("asks:read", json!({}));
    let seen = || serde_json::from_value(client.emit("asks:seen", json!({}))).unwrap();
    let ended = |seen: &Vec<String>| seen.last().is_some_and(|last| last == "end");
    let seen = until("it is read to its end", seen, ended);
    let [waited @ .., missed, _end] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!(waited, vec!["order:placed"; holds], "{seen:?}");
    // In the host or in the process: the watch has ended with the first.
    let is_right = if in_process { missed.starts_with("missed ") } else { missed == "missed 3" };
    assert!(is_right, "{seen:?}");
}

#[test]
fn who_does_not_read_in_time_gets_what_fitted_and_how_many_did_not() {
    misses_what_it_does_not_hold(2, 2);
}

#[test]
fn no_more_wait_for_a_watch_than_the_operator_allows() {
    misses_what_it_does_not_hold(1_000_000, 8);
}

#[test]
fn a_watch_ends_with_its_generation_and_one_that_is_kept_for_ever_is_named() {
    let host = host();
    let mut client = host.client();
    // A thread of its own, which ends with its watch.
    client.emit("asks:watch", json!([["order:*", "*:paid"], 8, "thread"]));
    host.ksi(&["reload", "asks"]).ok();
    host.until_unmapped("asks");

    client.emit("asks:watch", json!([["order:*", "*:paid"], 8, "nobody"]));
    host.ksi(&["reload", "asks"]).ok();
    let pinned = |module: &Value| module.retired_state(1) == RetiredState::Pinned;
    let module = host.until_module("it is pinned", "asks", pinned);
    let cause = module["retired"][1]["cause"].as_str().unwrap();
    assert!(cause.contains("not dropped: order:*, *:paid"), "{cause}");
}
