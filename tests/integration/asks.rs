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
