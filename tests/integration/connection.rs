//! One connection over its life: requests side by side, bounds, hang-ups.

use std::{io::Write, net::Shutdown};

use serde_json::{Value, json};

use crate::kit::{Client, Library, TestHost, error_of, until};

/// Waits until so many calls wait at the gate.
fn until_waiting(other: &mut Client, count: u64) {
    until(
        "calls wait at the gate",
        || other.emit("gate:stats", json!({}))["waiting"].clone(),
        |n| *n == count,
    );
}

#[test]
fn half_a_line_and_a_hang_up_is_dropped() {
    let host = TestHost::chaos();
    let mut client = host.client();
    client.send(r#"{"event":"chaos:count"}"#);
    client.stream.write_all(br#"{"event":"chaos:count","data":{"#).unwrap();
    client.half_close();
    assert_eq!(client.read()["data"]["count"], 1);
    assert_eq!(client.raw(), None);
    assert_eq!(host.client().emit("chaos:count", json!({}))["count"], 2);
}

#[test]
fn requests_with_an_id_overtake_and_those_without_keep_their_order() {
    let host = TestHost::chaos();
    let (mut client, mut other) = (host.client(), host.client());
    client.send(r#"{"event":"gate:wait","data":1}"#);
    client.send(r#"{"event":"gate:wait","data":2,"correlation_id":"slow"}"#);
    client.send("nonsense");
    client.send(r#"{"event":"chaos:echo","data":3}"#);
    client.send(r#"{"event":"chaos:echo","data":4,"correlation_id":"quick"}"#);
    assert_eq!(client.read()["correlation_id"], "quick");
    until_waiting(&mut other, 2);
    other.emit("gate:open", json!({}));
    let replies: Vec<Value> = (0..4).map(|_| client.read()).collect();
    let (slow, rest): (Vec<_>, Vec<_>) =
        replies.into_iter().partition(|reply| reply["correlation_id"] == "slow");
    assert_eq!(slow[0]["data"]["data"], 2);
    assert_eq!(rest[0]["data"]["data"], 1);
    assert!(error_of(&rest[1]).starts_with("Invalid JSON"));
    assert_eq!(rest[2]["data"], 3);
}

#[test]
fn a_burst_of_quick_and_waiting_requests_is_answered_in_full_and_in_order() {
    let host = TestHost::chaos();
    let (mut client, mut other) = (host.client(), host.client());
    // From here on the host knows the event as one that ends at once.
    (0..20).for_each(|number| assert_eq!(client.emit("chaos:echo", json!(number)), number));
    let (mut burst, mut in_order) = (String::new(), Vec::new());
    for number in 0..100 {
        burst += &format!("{{\"event\":\"chaos:echo\",\"data\":{number}}}\n");
        burst += &format!(
            "{{\"event\":\"chaos:echo\",\"data\":{number},\"correlation_id\":{number}}}\n"
        );
        in_order.push(json!(number));
        if number == 30 {
            burst += "{\"event\":\"gate:wait\",\"data\":\"gate\"}\n";
            in_order.push(json!("gate"));
        }
        if number % 25 == 0 {
            burst += "nonsense\n";
            in_order.push(Value::Null);
        }
    }
    client.stream.write_all(burst.as_bytes()).unwrap();
    until_waiting(&mut other, 1);
    other.emit("gate:open", json!({}));
    let replies: Vec<Value> = (0..in_order.len() + 100).map(|_| client.read()).collect();
    let (by_id, rest): (Vec<_>, Vec<_>) =
        replies.into_iter().partition(|reply| reply["correlation_id"].is_u64());
    let data = |reply: &Value| match &reply["data"] {
        Value::Object(gate) => gate["data"].clone(),
        data => data.clone(),
    };
    assert_eq!(rest.iter().map(data).collect::<Vec<_>>(), in_order);
    assert!(by_id.iter().all(|reply| reply["data"] == reply["correlation_id"]));
    let mut ids: Vec<u64> = by_id.iter().filter_map(|it| it["correlation_id"].as_u64()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..100).collect::<Vec<_>>(), "each is answered once");
}

#[test]
fn a_request_that_gets_a_task_does_not_overtake_the_replies_before_it() {
    let host = TestHost::chaos();
    let mut client = host.client();
    (0..20).for_each(|number| assert_eq!(client.emit("chaos:echo", json!(number)), number));
    // One that is served in place, then one that is not, and a few more to do before replies are
    // handed over.
    let mut burst = "{\"event\":\"chaos:echo\",\"data\":\"first\"}\n\
                     {\"event\":\"chaos:panic\",\"data\":{}}\n"
        .to_owned();
    (0..8).for_each(|id| {
        burst += &format!("{{\"event\":\"chaos:echo\",\"data\":{id},\"correlation_id\":{id}}}\n");
    });
    for round in 0..300 {
        client.stream.write_all(burst.as_bytes()).unwrap();
        let replies: Vec<Value> = (0..10).map(|_| client.read()).collect();
        let mut in_order = replies.iter().filter(|reply| !reply["correlation_id"].is_u64());
        assert_eq!(in_order.next().unwrap()["data"], "first", "round {round}: {replies:?}");
        assert_ne!(in_order.next().unwrap()["data"], "first", "round {round}: {replies:?}");
    }
}

#[test]
fn at_the_bound_of_requests_reading_pauses() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config("[limits]\nrequests_per_connection = 4")
        .start();
    let (mut client, mut other) = (host.client(), host.client());
    for id in 0..10 {
        client.send(&json!({"event": "gate:wait", "data": id, "correlation_id": id}).to_string());
    }
    let mut answered = 0;
    while answered < 10 {
        let expected = (10 - answered).min(4);
        until_waiting(&mut other, expected);
        other.emit("gate:open", json!({}));
        (0..expected).for_each(|_| drop(client.read()));
        answered += expected;
    }
    assert_eq!(other.emit("gate:stats", json!({}))["most"], 4);
}

#[test]
fn a_half_closed_client_gets_all_its_replies() {
    let host = TestHost::chaos();
    let (mut client, mut other) = (host.client(), host.client());
    for number in 0..50 {
        client.send(&json!({"event": "chaos:echo", "data": number}).to_string());
    }
    client.send(r#"{"event":"gate:wait","correlation_id":"late"}"#);
    client.half_close();
    for number in 0..50 {
        assert_eq!(client.read()["data"], number);
    }
    until_waiting(&mut other, 1);
    other.emit("gate:open", json!({}));
    assert_eq!(client.read()["correlation_id"], "late");
    assert_eq!(client.raw(), None);
}

#[test]
fn what_a_client_sent_before_it_left_is_served() {
    let host = TestHost::chaos();
    let (mut client, mut other) = (host.client(), host.client());
    for number in 0..200 {
        let id = if number % 2 == 0 { "" } else { ",\"correlation_id\":1" };
        client.send(&format!("{{\"event\":\"chaos:count\"{id}}}"));
    }
    client.send(r#"{"event":"gate:wait","correlation_id":2}"#);
    drop(client);
    until_waiting(&mut other, 1);
    other.emit("gate:open", json!({}));
    until_waiting(&mut other, 0);
    let mut own = 0;
    let counted = || {
        own += 1;
        other.emit("chaos:count", json!({}))["count"].as_u64().unwrap() - own
    };
    until("all are served", counted, |count| *count == 200);
}

#[test]
fn a_client_that_does_not_read_holds_up_only_itself() {
    let host = TestHost::chaos();
    let mut client = host.client();
    client.stream.set_nonblocking(true).unwrap();
    let line = b"{\"event\":\"chaos:big\",\"data\":{\"count\":65536},\"correlation_id\":1}\n";
    let (mut sent, mut partial, mut refused) = (0_u64, 0, 0);
    // Until the host has stopped reading for a good while.
    while refused < 100 {
        match client.stream.write(&line[partial..]) {
            Ok(written) => {
                refused = 0;
                partial = (partial + written) % line.len();
                sent += u64::from(partial == 0);
            }
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                refused += 1;
                assert_eq!(host.client().emit("chaos:echo", json!(1)), 1);
            }
        }
        assert!(sent < 1_000_000, "the host reads without end");
    }
    // It reads at last, and misses nothing.
    client.stream.set_nonblocking(false).unwrap();
    let mut writer = client.stream.try_clone().unwrap();
    let rest = std::thread::spawn(move || {
        if partial > 0 {
            writer.write_all(&line[partial..]).unwrap();
        }
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut got = 0;
    while let Some(line) = client.raw() {
        assert!(line.len() > 65_536);
        got += 1;
    }
    rest.join().unwrap();
    assert_eq!(got, sent + u64::from(partial > 0));
}

#[test]
fn one_client_too_many_is_told_so() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config("[limits]\nconnections = 1\nmanagement_connections = 1")
        .start();
    let (mut one, mut two) = (host.client(), host.client());
    one.emit("chaos:echo", json!({}));
    two.emit("system:health", json!({}));
    let mut three = host.client();
    assert!(error_of(&three.read()).contains("serves 1 at once"));
    assert_eq!(three.raw(), None);
    drop(one);
    let again = || {
        let mut next = host.client();
        // It may be refused while it writes.
        let _ = next.stream.write_all(b"{\"event\":\"chaos:quiet\"}\n");
        next.read()
    };
    until("there is room again", again, |line| line.get("error").is_none());
}

/// Has a request not return, behind one that is answered and before one more, after it was quick so
/// many times; whether its connection was ended for it. Otherwise it had a task of its own.
fn ended_by_a_stuck_request(host: &TestHost, quick: usize) -> bool {
    let (mut client, mut other) = (host.client(), host.client());
    let flag = host.dir().join("stuck");
    std::fs::write(&flag, "").unwrap();
    for _ in 0..quick {
        client.emit("leave:stuck", json!({}));
        client.emit("leave:version", json!({}));
    }
    let waiting = client.begin("gate:wait", json!({}));
    until_waiting(&mut other, 1);
    let line = |id: &str, event: &str, data: Value| {
        json!({ "event": event, "data": data, "correlation_id": id }).to_string()
    };
    let lines = [
        line("before", "leave:version", json!({})),
        line("stuck", "leave:stuck", json!({ "while_exists": flag })),
        line("after", "leave:version", json!({})),
    ];
    client.send(&lines.join("\n"));
    assert!(client.end("before")["data"].is_string());
    let stuck = client.end("stuck");
    assert!(error_of(&stuck).contains("200ms"), "{stuck}");
    // What is being served in tasks of its own is answered before the end.
    other.emit("gate:open", json!({}));
    client.end(&waiting);
    let is_ended = match client.came("after") {
        true => None,
        false => Some(client.read()).filter(|last| last["correlation_id"] != "after"),
    };
    if let Some(last) = &is_ended {
        assert!(last["error"].as_str().unwrap().contains("does not return"), "{last}");
        assert_eq!(client.raw(), None);
    }
    std::fs::remove_file(&flag).unwrap();
    drop(client);
    let clients = || other.emit("system:clients", json!({}))["clients"].as_array().map(Vec::len);
    until("its late end is no trouble", clients, |count| *count == Some(1));
    is_ended.is_some()
}

#[test]
fn a_quick_request_that_suddenly_does_not_return_is_answered_and_its_connection_ended_with_the_reason()
 {
    let host = TestHost::builder()
        .plugin("leftovers.so", &Library::of("ksi-fixture-leftovers"))
        .plugin("chaos.so", &Library::chaos())
        .start();
    // Served in place from the second time on, if the machine lets it be quick.
    assert!((0..10).any(|_| ended_by_a_stuck_request(&host, 20)), "none was served in place");
}

#[test]
fn a_request_that_does_not_return_at_its_first_time_is_answered_and_its_connection_goes_on() {
    let host = TestHost::builder()
        .plugin("leftovers.so", &Library::of("ksi-fixture-leftovers"))
        .plugin("chaos.so", &Library::chaos())
        .start();
    assert!(!ended_by_a_stuck_request(&host, 0), "nothing is served in place at its first time");
}
