use std::{
    io::Read,
    net::TcpStream,
    time::{Duration, Instant},
};

use super::{client::*, *};

/// Begins to look, and where it does.
fn look(http: &Harness, address: SocketAddr, query: &str) -> (TcpStream, String) {
    let mut stream = connect(address);
    ask(&mut stream, &format!("GET /events?{query}"), "", "");
    let read = read_until(http, &mut stream, "id: ");
    let head = read.to_ascii_lowercase();
    assert!(head.contains("content-type: text/event-stream"), "{read}");
    assert!(head.contains("connection: close"), "{read}");
    let position = last_id(&read);
    (stream, position)
}

/// Comes back behind a position; whatever is told is still to be read.
fn come_back(address: SocketAddr, query: &str, position: &str) -> TcpStream {
    let mut stream = connect(address);
    let headers = format!("last-event-id: {position}\r\n");
    ask(&mut stream, &format!("GET /events?{query}"), &headers, "");
    stream
}

fn last_id(read: &str) -> String {
    read.lines().rev().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned()
}

/// Reads what comes until an event has this payload.
fn until(http: &Harness, stream: &mut TcpStream, payload: &str) -> String {
    read_until(http, stream, &format!("\"data\":{payload}}}\nid: "))
}

#[test]
fn events_are_streamed_as_they_pass_and_whoever_looks_handles_none() {
    let (http, address) = start(json!({}));
    let (mut stream, _) = look(&http, address, "pattern=shop:*&pattern=till:open");
    for event in ["shop:sold", "other:thing", "till:open"] {
        assert!(!http.emit(event, json!(event)).handled());
    }
    let read = until(&http, &mut stream, "\"till:open\"");
    assert!(read.contains(r#"data: {"event":"shop:sold","event_id":"evt_"#), "{read}");
    assert!(!read.contains("other:thing"), "{read}");
    drop(stream);
    let (mut again, _) = look(&http, address, "pattern=till:open&pattern=shop:*");
    http.emit("shop:sold", json!("again"));
    until(&http, &mut again, "\"again\"");
}

#[test]
fn whoever_comes_back_with_the_last_id_misses_nothing() {
    let (http, address) = start(json!({}));
    let (mut stream, _) = look(&http, address, "pattern=shop:*");
    http.emit("shop:sold", json!(1));
    let position = last_id(&until(&http, &mut stream, "1"));
    drop(stream);
    http.emit("shop:sold", json!(2));
    http.emit("shop:sold", json!(3));
    let mut stream = come_back(address, "pattern=shop:*", &position);
    let read = until(&http, &mut stream, "3");
    assert!(read.contains("\"data\":2}") && !read.contains("\"data\":1}"), "{read}");
    assert!(!read.contains("missed"), "{read}");
}

#[test]
fn what_was_missed_is_told_as_an_event_of_its_own() {
    let (http, address) = start(json!({"resume_bytes": 2_000}));
    let (mut stream, position) = look(&http, address, "pattern=shop:*");
    let last = "x".repeat(900);
    for number in 0..8 {
        http.emit("shop:sold", json!(format!("{number} {last}")));
    }
    until(&http, &mut stream, &format!("\"7 {last}\""));
    let mut back = come_back(address, "pattern=shop:*", &position);
    let read = read_until(&http, &mut back, &format!("\"7 {last}\""));
    assert!(read.contains("event: missed\ndata: {\"count\":7}\n"), "{read}");
    let mut lost = come_back(address, "pattern=shop:*", "18f0");
    let read = read_until(&http, &mut lost, "event: missed\ndata: {\"count\":null}\n");
    assert!(!read.contains("\"event\":\"shop:sold\""), "{read}");
}

#[test]
fn a_plugin_that_goes_has_those_who_look_come_back_by_another_connection() {
    let (http, address) = start(json!({}));
    let (mut stream, position) = look(&http, address, "pattern=shop:*");
    let client = std::thread::spawn(move || {
        let mut read = String::new();
        stream.read_to_string(&mut read).unwrap();
        read
    });
    assert!(http.shutdown().is_ok());
    let read = client.join().unwrap();
    assert!(read.contains("event: reconnect\ndata: {}\n"), "{read}");
    assert!(!read.contains("id: "), "it stays behind {position}: {read}");
}

#[test]
fn who_may_not_look_and_what_is_no_pattern_is_told() {
    let config = json!({"watch": ["shop:*"], "max_streams": 1, "max_patterns": 1});
    let (http, address) = start(config);
    let code = |query: &str| {
        let mut stream = connect(address);
        let answer = asked(&http, &mut stream, &format!("GET /events?{query}"), "", "");
        (answer.status, answer.json()["error"]["code"].as_str().unwrap().to_owned())
    };
    assert_eq!(code(""), (400, "invalid_pattern".to_owned()));
    assert_eq!(code("pattern=shop"), (400, "invalid_pattern".to_owned()));
    assert_eq!(code("patern=shop:*"), (400, "invalid_query".to_owned()));
    let (mut stream, _) = look(&http, address, "pattern=**");
    assert_eq!(code("pattern=**"), (503, "too_many_streams".to_owned()));
    http.emit("till:open", json!(1));
    http.emit("shop:sold", json!(2));
    let read = until(&http, &mut stream, "2");
    assert!(!read.contains("till:open"), "clients may see the shop's events alone: {read}");
    drop(stream);
    // Its place is free as soon as the server sees that it has gone; its patterns are kept.
    let freed = (0..10_000).find(|_| {
        std::thread::yield_now();
        code("pattern=shop:*") == (503, "too_many_patterns".to_owned())
    });
    assert!(freed.is_some());
}

#[test]
fn a_client_that_does_not_read_is_dropped() {
    let (http, address) = start(json!({"write_seconds": 1, "max_streams": 1}));
    let (_unread, _) = look(&http, address, "pattern=shop:*");
    let large = json!("x".repeat(500_000));
    let begun = Instant::now();
    let is_free = || {
        let mut other = connect(address);
        asked(&http, &mut other, "GET /events?pattern=1", "", "").json()["error"]["code"]
            == "invalid_pattern"
    };
    while !is_free() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it has its place still");
        http.emit("shop:sold", &large);
        http.take_emitted();
    }
}

#[test]
fn whoever_comes_back_to_the_next_version_of_the_plugin_misses_nothing() {
    let (http, address) = start(json!({}));
    let (mut stream, begin) = look(&http, address, "pattern=shop:*");
    http.emit("shop:sold", json!(1));
    let position = last_id(&until(&http, &mut stream, "1"));
    let client = std::thread::spawn(move || stream.read_to_string(&mut String::new()).unwrap());
    let setup = Harness::setup::<Http>().config(json!({"address": "127.0.0.1:0"}));
    http.replace_with(setup).unwrap();
    client.join().unwrap();
    // Nobody looks.
    http.emit("shop:sold", json!(2));
    http.emit("shop:sold", json!(3));
    let mut stream = come_back(address, "pattern=shop:*", &position);
    let read = until(&http, &mut stream, "3");
    assert!(read.contains("\"data\":2}") && !read.contains("\"data\":1}"), "{read}");
    assert!(!read.contains("missed"), "{read}");
    let mut stream = come_back(address, "pattern=shop:*", &begin);
    let read = until(&http, &mut stream, "3");
    assert!(read.contains("event: missed\ndata: {\"count\":1}\n"), "{read}");
}
