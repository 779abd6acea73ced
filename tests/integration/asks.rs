//! What a plugin may ask of its host, and what it is told when that is refused.

use serde_json::json;

use crate::kit::{Library, TestHost};

fn host() -> TestHost {
    let limits = "[limits]\npayload_bytes = 1500\nqueued_events = 4\nsubscriptions = 3\nbackground_tasks = 3\n\
                  kept_resources = 2\nevent_depth = 8";
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
