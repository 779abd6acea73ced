//! Events pushed to those that subscribed to them.

use serde_json::{Value, json};

use crate::kit::{Client, Library, TestHost, error_of};

fn subscribe(client: &mut Client, id: &str, patterns: Value) -> Value {
    client.reply("monitor:subscribe", json!({"client_id": id, "event_patterns": patterns}))
}

#[test]
fn a_subscriber_is_pushed_what_matches() {
    let host = TestHost::chaos();
    let (mut client, mut other) = (host.client(), host.client());
    let reply = subscribe(&mut client, "w", json!(["chaos:quiet", "none:**"]));
    let expected = json!({"status": "subscribed", "client_id": "w", "event_patterns": ["chaos:quiet", "none:**"]});
    assert_eq!(reply["data"], expected);
    other.emit("chaos:echo", json!({}));
    other.ask(r#"{"event":"chaos:quiet","data":{"n":1},"correlation_id":"theirs","_correlation_id":"trace","_parent_event_id":"evt_9"}"#);
    let raw = client.raw().unwrap();
    let start = r#"{"event":"chaos:quiet","event_name":"chaos:quiet","data":{"n":1},"timestamp":1"#;
    assert!(raw.starts_with(start), "{raw}");
    let push: Value = serde_json::from_str(&raw).unwrap();
    assert!(push["_event_id"].as_str().unwrap().starts_with("evt_"));
    assert!(push.get("correlation_id").is_none(), "a push answers no request");
    assert_eq!(
        (&push["_correlation_id"], &push["_parent_event_id"]),
        (&json!("trace"), &json!("evt_9"))
    );
}

#[test]
fn a_new_subscription_of_the_same_client_replaces_the_old_one_until_it_is_ended() {
    let host = TestHost::chaos();
    let (mut client, mut other) = (host.client(), host.client());
    subscribe(&mut client, "w", json!(["chaos:quiet"]));
    let reply = subscribe(&mut client, "w", json!("chaos:echo"));
    assert_eq!(
        reply["data"]["event_patterns"],
        json!(["chaos:echo"]),
        "one pattern may stand alone"
    );
    other.emit("chaos:quiet", json!({}));
    other.emit("chaos:echo", json!({"n": 3}));
    let push = client.push();
    assert_eq!((&push["event"], &push["data"]), (&json!("chaos:echo"), &json!({"n": 3})));
    assert_eq!(
        client.emit("chaos:version", json!({}))["label"],
        "",
        "its own requests go on beside it"
    );
    let ended = client.emit("monitor:unsubscribe", json!({"client_id": "w"}));
    assert_eq!(ended, json!({"status": "unsubscribed", "client_id": "w"}));
    other.emit("chaos:echo", json!({}));
    let again = client.emit("monitor:unsubscribe", json!({"client_id": "w"}));
    assert_eq!(again["status"], "not_subscribed");
    assert_eq!(
        client.ask(r#"{"event":"chaos:echo","data":1}"#)["data"],
        1,
        "nothing was pushed in between"
    );
}

#[test]
fn subscribing_and_unsubscribing_in_one_breath_keeps_its_order() {
    let host = TestHost::chaos();
    for _ in 0..50 {
        let mut client = host.client();
        client.send(r#"{"event":"monitor:subscribe","data":{"client_id":"w","event_patterns":"*"},"correlation_id":1}
{"event":"monitor:unsubscribe","data":{"client_id":"w"},"correlation_id":2}
{"event":"monitor:subscribe","data":{"event_patterns":["none:*"]},"correlation_id":3,"_client_id":"me"}"#);
        let statuses: Vec<Value> =
            (0..3).map(|_| client.read()["data"]["status"].clone()).collect();
        assert_eq!(statuses, ["subscribed", "unsubscribed", "subscribed"]);
    }
}

#[test]
fn bad_subscriptions_are_refused_by_name() {
    let host = TestHost::chaos();
    let mut client = host.client();
    for (data, words) in [
        (json!({"client_id": "w", "event_patterns": ["a:b", "a::b"]}), "a::b"),
        (json!({"client_id": "w", "event_patterns": [5]}), "5"),
        (json!({"client_id": "w", "event_patterns": []}), "event_patterns"),
        (json!({"client_id": "w"}), "event_patterns"),
        (json!({"event_patterns": ["*"]}), "client_id"),
        (json!({"client_id": "w", "event_patterns": vec!["*"; 1000]}), "64"),
        (json!([]), "object"),
    ] {
        let reply = client.reply("monitor:subscribe", data);
        assert_eq!((&reply["failed"], &reply["data"]["status"]), (&json!(true), &json!("failed")));
        assert!(error_of(&reply).contains(words), "{reply}");
    }
}

#[test]
fn a_slow_subscriber_is_dropped_with_a_last_word() {
    // So many that none waits but for its reader: a last word that can be written at once does not
    // count what comes later.
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config("[limits]\nsubscriber_queue = 1000")
        .start();
    let (mut slow, mut quick, mut emitter) = (host.client(), host.client(), host.client());
    subscribe(&mut slow, "slow", json!(["chaos:quiet"]));
    subscribe(&mut quick, "quick", json!(["chaos:echo"]));
    for number in 0..3000 {
        emitter.emit("chaos:quiet", json!({"number": number, "text": "x".repeat(1000)}));
    }
    emitter.emit("chaos:echo", json!({}));
    assert_eq!(quick.push()["event"], "chaos:echo", "another subscriber goes on");
    let mut seen = 0;
    let last = loop {
        let push = slow.push();
        if push["event"] == "monitor:dropped" {
            break push;
        }
        assert_eq!(push["data"]["number"], seen, "what was pushed is whole and in order");
        seen += 1;
    };
    assert_eq!(slow.raw(), None);
    assert_eq!(last["event_name"], "monitor:dropped");
    assert_eq!(last["data"]["missed"].as_u64().unwrap() + seen, 3000);
    assert_eq!(emitter.emit("chaos:echo", json!(1)), 1);
}

#[test]
fn a_bare_star_sees_every_event_also_those_that_plugins_emit_and_nobody_handles() {
    let host = TestHost::chaos();
    let (mut watcher, mut other) = (host.client(), host.client());
    watcher.subscribe(&["*"]);
    other.emit("chaos:emit", json!({"event": "nobody:home", "data": {"n": 1}}));
    let outer = watcher.push();
    let inner = watcher.push();
    assert_eq!((&outer["event"], &inner["event"]), (&json!("chaos:emit"), &json!("nobody:home")));
    assert_eq!(inner["_parent_event_id"], outer["_event_id"]);
}
