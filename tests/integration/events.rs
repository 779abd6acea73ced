//! What becomes of an event: every handler's call ends in one outcome, and no plugin's misbehaviour
//! is more than that.

use std::{collections::BTreeSet, time::Instant};

use serde_json::{Value, json};

use crate::kit::{Client, Library, PATIENCE, TestHost, error_of, until};

/// A request that fails, and the code and the text that it fails with.
#[track_caller]
fn failure(client: &mut Client, event: &str, data: Value) -> (String, String) {
    let reply = client.reply(event, data);
    assert_eq!(
        (&reply["failed"], &reply["data"]["status"]),
        (&json!(true), &json!("failed")),
        "{reply}"
    );
    assert_eq!(reply["data"]["module"], "chaos");
    (reply["data"]["code"].as_str().unwrap().to_owned(), error_of(&reply).to_owned())
}

#[test]
fn a_payload_of_the_wrong_type_is_a_failure_that_names_the_path_inside_it() {
    let host = TestHost::chaos();
    let mut client = host.client();
    for (data, words) in [
        (json!({"items": [{"count": 1}, {"count": "x"}]}), "items[1].count"),
        (json!({"items": [{"count": -1}]}), "items[0].count"),
        (json!({"items": [{}]}), "count"),
        (json!({}), "items"),
        (json!([1, 2, 3]), "invalid"),
        (json!("text"), "invalid"),
    ] {
        let (code, text) = failure(&mut client, "chaos:typed", data);
        assert_eq!(code, "invalid_payload");
        assert!(text.contains(words), "{words}: {text}");
    }
    assert_eq!(client.emit("chaos:typed", json!({"items": [{"count": 4}, {"count": 5}]})), 9);
}

#[test]
fn a_failure_keeps_its_code_and_its_message() {
    let host = TestHost::chaos();
    let how = json!({"code": "out_of_paper", "message": "tray 2 is \"empty\"\nrefill it"});
    let failure = failure(&mut host.client(), "chaos:fail", how);
    assert_eq!(failure, ("out_of_paper".to_owned(), "tray 2 is \"empty\"\nrefill it".to_owned()));
}

#[test]
fn a_panic_is_an_outcome_with_its_message_and_place() {
    let host = TestHost::chaos();
    let mut client = host.client();
    for (event, words) in [
        ("chaos:panic", "a handler panics on purpose"),
        ("chaos:panic_late", "a handler panics late on purpose"),
        ("chaos:panic_drop", ""),
    ] {
        for _ in 0..3 {
            let (code, text) = failure(&mut client, event, json!({}));
            assert_eq!(code, "panicked");
            assert!(text.contains(words) && text.contains("lib.rs"), "{event}: {text}");
        }
    }
    assert_eq!(client.emit("chaos:echo", json!(1)), 1, "the plugin goes on");
}

#[test]
fn a_call_ends_at_its_handlers_own_timeout_or_else_at_the_hosts() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config("[timeouts]\nhandler = '80ms'")
        .start();
    let mut client = host.client();
    for (event, after) in [("chaos:late", "50ms"), ("chaos:hang", "80ms")] {
        let start = Instant::now();
        let (code, text) = failure(&mut client, event, json!({}));
        assert_eq!(code, "timed_out");
        assert!(text.contains(after), "{text}");
        assert!(start.elapsed() < PATIENCE / 2);
    }
    let handlers =
        client.emit("module:inspect", json!({"module_name": "chaos"}))["handlers"].take();
    let hang = handlers.as_array().unwrap().iter().find(|it| it["name"] == "hang").unwrap().clone();
    assert_eq!(
        (&hang["counts"]["timed_out"], &hang["counts"]["in_flight"]),
        (&json!(1), &json!(0))
    );
}

#[test]
fn a_loop_of_events_ends_at_the_depth_limit_with_an_error_that_shows_the_chain() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config("[limits]\nevent_depth = 8")
        .start();
    let mut client = host.client();
    let (_, text) = failure(&mut client, "chaos:loop", json!({}));
    let told = "event number 9 of a chain of events, and 8 are allowed (limits.event_depth)";
    assert!(text.contains(told), "{text}");
    assert!(text.matches("chaos:loop").count() > 8, "the chain is shown: {text}");
    assert_eq!(client.emit("chaos:echo", json!(1)), 1);
}

#[test]
fn a_child_event_knows_its_parent_its_root_and_who_emitted_it() {
    let host = TestHost::chaos();
    let mut client = host.client();
    let inner = json!({"event": "chaos:version", "data": {}});
    let nested = json!({"event": "chaos:request", "data": inner});
    client.send(
        &json!({"event": "chaos:request", "data": nested, "_correlation_id": "trace"}).to_string(),
    );
    let event = client.read()["data"]["event"].take();
    assert_eq!(
        (&event["depth"], &event["source"], &event["correlation"]),
        (&json!(2), &json!("chaos"), &json!("trace"))
    );
    let number = |key: &str| event[key].as_u64().unwrap();
    // Threads take numbers in blocks of their own, so a later event may have a smaller one.
    let all = BTreeSet::from(["root", "parent", "id"].map(number));
    assert_eq!(all.len(), 3, "{event}");
}

#[test]
fn a_request_wants_one_reply_and_says_clearly_when_there_is_none() {
    let host = TestHost::builder()
        .plugin("a.so", &Library::chaos())
        .plugin("b.so", &Library::chaos().named("chao1"))
        .config("[plugin.chaos]\nlabel = 'a'\n[plugin.chao1]\nanswer = 'quiet'")
        .start();
    let mut client = host.client();
    let mut ask = |event: &str, data: Value| {
        let reply = client.reply("chaos:request", json!({"event": event, "data": data}));
        // Both plugins relay, and both relays end alike.
        assert_eq!(reply["failed"], true, "{reply}");
        (reply["data"]["code"].as_str().unwrap().to_owned(), error_of(&reply).to_owned())
    };
    let (code, text) = ask("nobody:home", json!({}));
    assert_eq!(code, "no_handler");
    assert!(text.contains("nobody:home"), "{text}");
    assert_eq!(ask("chaos:quiet", json!({})).0, "no_reply");
    assert_eq!(ask("chaos:echo", json!(1)).0, "several_replies");
    let (code, text) = ask("chaos:fail", json!({"code": "deep", "message": "down there"}));
    assert_eq!(code, "deep");
    assert!(text.contains("down there"), "{text}");
    let answers = client.emit("chaos:request", json!({"event": "chaos:answer", "data": {}}));
    assert_eq!(
        answers,
        json!([{"label": "a"}, {"label": "a"}]),
        "one reply is enough, whoever else is quiet"
    );
}

#[test]
fn outcomes_come_by_priority_then_by_plugin_then_in_the_order_of_declaration() {
    let host = TestHost::builder()
        .plugin("1.so", &Library::chaos())
        .plugin("2.so", &Library::chaos().named("chao1"))
        .config("[plugin.chaos]\nlabel = 'chaos'\n[plugin.chao1]\nlabel = 'chao1'")
        .start();
    let expected = [
        "chao1 high",
        "chaos high",
        "chao1 first",
        "chao1 second",
        "chaos first",
        "chaos second",
        "chao1 low",
        "chaos low",
    ];
    let mut client = host.client();
    for _ in 0..20 {
        assert_eq!(client.emit("order:all", json!({})), json!(expected));
    }
    let partly = client.emit("order:some:more", json!({}));
    assert_eq!(
        partly,
        json!(["chao1 second", "chaos second"]),
        "** matches any number of segments"
    );
}

#[test]
fn a_plugin_subscribes_and_unsubscribes_while_it_runs() {
    let host = TestHost::chaos();
    let mut client = host.client();
    assert_eq!(client.reply("test:one", json!({}))["data"]["status"], "error");
    client.emit("chaos:subscribe", json!({"pattern": "test:*"}));
    assert_eq!(client.emit("test:one", json!({})), json!({"heard": "test:one"}));
    assert_eq!(client.emit("chaos:unsubscribe", json!({"pattern": "test:*"})), true);
    assert_eq!(client.reply("test:one", json!({}))["data"]["status"], "error");
    assert_eq!(client.emit("chaos:heard", json!({})), json!(["test:one"]));
    let (code, text) = failure(&mut client, "chaos:subscribe", json!({"pattern": "a::b"}));
    assert_eq!(code, "rejected");
    assert!(text.contains("a::b"), "{text}");
}

#[test]
fn sent_events_beyond_the_queue_are_refused_to_the_senders_face() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config("[limits]\nqueued_events = 10")
        .start();
    let mut client = host.client();
    let flood = client.emit("chaos:flood", json!({"event": "gate:wait", "count": 50}));
    assert_eq!(flood["sent"], 10);
    assert!(flood["refusal"].as_str().unwrap().contains("gate:wait"), "{flood}");
    let waiting = |client: &mut Client| client.emit("gate:stats", json!({}))["waiting"].clone();
    until("the accepted ones are handled", || waiting(&mut client), |n| *n == 10);
    client.emit("gate:open", json!({}));
    until("they end", || waiting(&mut client), |n| *n == 0);
    let again = || client.emit("chaos:flood", json!({"event": "chaos:quiet", "count": 1}));
    until("there is room again", again, |flood| flood["sent"] == 1);
}

#[test]
fn a_payload_above_the_limit_is_refused_with_the_limits_name() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config("[limits]\npayload_bytes = 2000")
        .start();
    let mut client = host.client();
    let reply = client.reply("chaos:echo", json!("x".repeat(3000)));
    assert_eq!(reply["failed"], true);
    assert!(error_of(&reply).contains("limits.payload_bytes"), "{reply}");
    assert_eq!(client.emit("chaos:echo", json!("x".repeat(1000))), "x".repeat(1000));
}

#[test]
fn what_a_plugin_logs_stands_in_the_hosts_log_with_the_plugins_name() {
    let host = TestHost::chaos();
    host.client().emit("chaos:log", json!({"what": "this"}));
    until(
        "it is logged",
        || host.process.stderr(),
        |text| {
            text.lines().any(|line| {
                ["WARN", "logged by a plugin: {\"what\":\"this\"}", "number=7", "plugin", "chaos"]
                    .iter()
                    .all(|word| line.contains(word))
            })
        },
    );
}

#[test]
fn what_a_plugin_logs_with_the_crate_log_is_forwarded_up_to_the_hosts_level_in_every_generation() {
    let host = TestHost::chaos();
    for generation in 1..=2 {
        host.until_live("chaos", generation);
        host.client().emit("chaos:log", json!(generation));
        let words = ["WARN", "chaos::log", &format!("crate log: {generation}"), "plugin", "chaos"];
        let logged = until(
            "it is logged",
            || host.process.stderr(),
            |text| text.lines().any(|line| words.iter().all(|word| line.contains(word))),
        );
        assert!(!logged.contains("more detailed"), "{logged}");
        host.ksi(&["reload", "chaos"]).ok();
    }
    host.until_unmapped("chaos");
}

#[test]
fn what_a_call_was_waiting_for_ends_with_its_own_timeout() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config("[timeouts]\nhandler = '150ms'")
        .start();
    // `gate:wait` may take a minute, but the event that causes it may not.
    let (code, _) =
        failure(&mut host.client(), "chaos:request", json!({"event": "gate:wait", "data": {}}));
    assert_eq!(code, "timed_out");
    host.until_module("nothing goes on", "chaos", |module| module["counts"]["in_flight"] == 0);
}
