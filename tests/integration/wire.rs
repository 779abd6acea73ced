//! The wire: requests and replies of one connection, good ones and bad ones.

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
fn a_reply_is_one_line_that_repeats_event_and_correlation_id_and_hands_data_on_as_written() {
    let host = TestHost::chaos();
    let mut client = host.client();
    client.send(
        r#"{"event":"chaos:echo","data":{"b":1.0,"a":[2]},"correlation_id":"c-1","unknown":{}}"#,
    );
    let raw = client.raw().unwrap();
    let start = r#"{"event":"chaos:echo","data":{"a":[2],"b":1.0},"count":1,"correlation_id":"c-1","timestamp":1"#;
    assert!(raw.starts_with(start), "{raw}");
}

#[test]
fn no_result_is_an_empty_list_and_several_are_a_list() {
    let host = TestHost::builder()
        .plugin("a.so", &Library::chaos())
        .plugin("b.so", &Library::chaos().named("chao1"))
        .config("[plugin.chaos]\nlabel = 'a'\n[plugin.chao1]\nlabel = 'b'")
        .start();
    let mut client = host.client();
    let reply = client.ask(r#"{"event":"chaos:quiet"}"#);
    assert_eq!((&reply["data"], &reply["count"]), (&json!([]), &json!(0)));
    assert_eq!(reply["correlation_id"], Value::Null);
    assert!(
        reply["timestamp"].is_f64()
            && reply.get("failed").is_none()
            && reply.get("errors").is_none()
    );
    let reply = client.ask(r#"{"event":"chaos:answer"}"#);
    assert_eq!(
        (&reply["data"], &reply["count"]),
        (&json!([{"label": "b"}, {"label": "a"}]), &json!(2))
    );
}

#[test]
fn when_some_fail_and_some_answer_both_are_told() {
    let host = TestHost::builder()
        .plugin("a.so", &Library::chaos())
        .plugin("b.so", &Library::chaos().named("chao1"))
        .config("[plugin.chaos]\nlabel = 'a'\n[plugin.chao1]\nlabel = 'b'\nanswer = 'fail'")
        .start();
    let reply = host.client().reply("chaos:answer", json!({}));
    assert_eq!((&reply["data"], &reply["count"]), (&json!({"label": "a"}), &json!(1)));
    let error =
        json!({"module": "chao1", "handler": "answer", "error": "b broke", "code": "broken"});
    assert_eq!(reply["errors"], json!([error]));
    assert!(reply.get("failed").is_none());
}

#[test]
fn when_all_fail_the_first_failure_is_the_data_and_none_is_lost() {
    let host = TestHost::builder()
        .plugin("a.so", &Library::chaos())
        .plugin("b.so", &Library::chaos().named("chao1"))
        .config("[plugin.chaos]\nlabel = 'a'\nanswer = 'panic'\n[plugin.chao1]\nlabel = 'b'\nanswer = 'fail'")
        .start();
    let mut client = host.client();
    let reply = client.reply("chaos:answer", json!({}));
    let first = json!({"status": "failed", "error": "b broke", "code": "broken", "module": "chao1", "handler": "answer"});
    assert_eq!(
        (&reply["data"], &reply["count"], &reply["failed"]),
        (&first, &json!(1), &json!(true))
    );
    let errors = reply["errors"].as_array().unwrap();
    assert_eq!((errors.len(), &errors[1]["code"]), (2, &json!("panicked")));
    assert_eq!(client.emit("chaos:echo", json!(1)), json!([1, 1]), "still in step");
}

#[test]
fn an_unknown_event_is_answered_with_similar_ones_and_the_namespaces() {
    let host = TestHost::chaos();
    let mut client = host.client();
    let reply = client.reply("chaos:ecko", json!({}));
    assert_eq!(
        (&reply["data"]["status"], error_of(&reply)),
        (&json!("error"), "Unknown event: chaos:ecko")
    );
    assert_eq!((&reply["count"], &reply["failed"]), (&json!(1), &json!(true)));
    let details = &reply["data"]["details"];
    assert_eq!(details["similar"][0], "chaos:echo");
    for namespace in ["chaos", "gate", "module", "monitor", "router", "system"] {
        assert!(details["namespaces"].as_array().unwrap().contains(&json!(namespace)), "{details}");
    }
    let reply = client.reply("monitor:subscrib", json!({}));
    assert_eq!(reply["data"]["details"]["similar"][0], "monitor:subscribe");
    let reply = client.reply(&"x".repeat(5_000_000), json!({}));
    assert!(error_of(&reply).len() < 1_000, "what is repeated of it is short");
}

#[test]
fn an_impossible_event_name_is_refused_by_name() {
    let host = TestHost::chaos();
    let mut client = host.client();
    for name in ["noNamespace", "a::b", "a:b:", "a b:c", "chaos:*"] {
        let reply = client.reply(name, json!({}));
        assert!(error_of(&reply).contains(&format!("{name:?}")), "{name:?}: {reply}");
        assert_eq!(reply["failed"], true);
    }
}

#[test]
fn correlation_ids_come_back_as_they_were_written() {
    let host = TestHost::chaos();
    let mut client = host.client();
    for id in [
        "\"a\\u0062\"",
        "1.50",
        "1e3",
        "true",
        "\"\"",
        "123456789012345678901234567890",
        "\"\\ud800\"",
    ] {
        client.send(&format!(r#"{{"event":"chaos:quiet","correlation_id":{id}}}"#));
        let raw = client.raw().unwrap();
        assert!(raw.contains(&format!(r#""correlation_id":{id},"#)), "{raw}");
    }
}

#[test]
fn what_a_client_attaches_reaches_the_plugin() {
    let host = TestHost::chaos();
    let reply = host.client().ask(
        r#"{"event":"chaos:version","_correlation_id":"trace-1","_agent_id":"me","_event_depth":0,"_event_id":"evt_1"}"#,
    );
    assert_eq!(reply["data"]["event"]["correlation"], "trace-1");
    assert_eq!(reply["data"]["event"]["name"], "chaos:version");
}

#[test]
fn bad_lines_are_answered_and_the_connection_goes_on() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config("[limits]\nline_bytes = 100_000")
        .start();
    let mut client = host.client();
    let deep =
        format!(r#"{{"event":"chaos:echo","data":{}{}}}"#, "[".repeat(40_000), "]".repeat(40_000));
    let long = format!(r#"{{"event":"chaos:echo","data":"{}"}}"#, "x".repeat(1_000_000));
    for (line, error) in [
        ("nonsense", "Invalid JSON: "),
        ("{\"event\":\"a:b\"", "Invalid JSON: "),
        (&deep, "Invalid JSON: "),
        (&long, "Line too long: "),
        ("[1]", "Expected a JSON object"),
        ("\"x\"", "Expected a JSON object"),
        ("{}", "Missing event name"),
        ("{\"event\":5}", "Invalid event name"),
        ("{\"event\":\"a:b\",\"correlation_id\":[]}", "Invalid correlation_id"),
    ] {
        let reply = client.ask(line);
        assert!(error_of(&reply).starts_with(error), "{reply}");
        assert_eq!(reply.as_object().unwrap().len(), 1);
    }
    client.stream.write_all(b"{\"event\":\"\xff\xfe:b\"}\n").unwrap();
    assert!(error_of(&client.read()).starts_with("Invalid JSON: "));
    client.stream.write_all(b"\n  \n\r\n\t\n").unwrap();
    let reply = client.ask("{\"data\":{},\"correlation_id\":7}");
    assert_eq!(reply, json!({"error": "Missing event name", "correlation_id": 7}));
    client.send("{\"event\":\"chaos:echo\",\"data\":null}\r");
    assert_eq!(client.read()["data"], json!({}), "no data is the empty object");
}

#[test]
fn a_line_of_just_the_limit_passes() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config("[limits]\nline_bytes = 1024")
        .start();
    let line = |length: usize| {
        let empty = r#"{"event":"chaos:echo","data":""}"#.len();
        format!(r#"{{"event":"chaos:echo","data":"{}"}}"#, "x".repeat(length - empty))
    };
    let mut client = host.client();
    assert_eq!(client.ask(&line(1024))["count"], 1);
    assert!(error_of(&client.ask(&line(1025))).contains("1024 bytes"));
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
        .config("[limits]\nconnections = 2")
        .start();
    let (mut one, mut two) = (host.client(), host.client());
    one.emit("chaos:echo", json!({}));
    two.emit("chaos:echo", json!({}));
    let mut three = host.client();
    assert!(error_of(&three.read()).contains("serves 2 at once"));
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
