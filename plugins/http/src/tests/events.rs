use std::io::Write;

use super::{client::*, *};

/// With a shop that sells pens, and says for which trace and customer.
fn shop(config: Value) -> (Harness, SocketAddr) {
    let (http, address) = start(config);
    http.on("shop:sell", |item: Value| match item["item"].as_str() {
        Some("pen") => Ok(json!("one pen")),
        Some(_) => Err(Error::new("sold_out", "there are pens")),
        None => Err(Error::new("invalid_payload", "at \"item\": it is missing")),
    });
    (http, address)
}

fn post(http: &Harness, address: SocketAddr, path: &str, body: &str) -> (u16, Value) {
    let mut stream = connect(address);
    let answer = asked(http, &mut stream, &format!("POST {path}"), "", body);
    (answer.status, answer.json())
}

#[test]
fn an_event_is_emitted_and_its_report_answered_with_the_status_that_fits() {
    let (http, address) = shop(json!({}));
    let post = |path: &str, body: &str| post(&http, address, path, body);
    let (status, report) = post("/events/shop:sell", r#"{"item": "pen"}"#);
    assert_eq!(
        (status, &report["status"], &report["event"]),
        (200, &json!("ok"), &json!("shop:sell"))
    );
    assert_eq!(report["outcomes"][0]["outcome"], "replied");
    assert_eq!(report["outcomes"][0]["reply"], "one pen");
    let (status, report) = post("/events/shop:sell", r#"{"item": "cup"}"#);
    assert_eq!((status, &report["status"]), (422, &json!("failed")));
    assert_eq!(report["outcomes"][0]["code"], "sold_out");
    assert_eq!(report["outcomes"][0]["message"], "there are pens");
    assert_eq!(
        post("/events/shop:sell", "").0,
        400,
        "an empty object, of which the item is missing"
    );
    let (status, report) = post("/events/shop:close", "{}");
    assert_eq!((status, &report["status"]), (404, &json!("unhandled")));
}

#[test]
fn an_event_that_nobody_waits_for_is_sent() {
    let (http, address) = shop(json!({}));
    let (status, sent) = post(&http, address, "/events/shop:sell?wait=none", r#"{"item":"pen"}"#);
    assert_eq!((status, sent), (202, json!({"event": "shop:sell", "status": "sent"})));
    assert_eq!(http.wait_emitted("shop:sell"), json!({"item": "pen"}));
}

#[test]
fn what_is_no_event_no_json_or_no_question_is_refused_with_the_reason() {
    let (http, address) = shop(json!({"emit": ["shop:*"]}));
    let code = |path: &str, body: &str| {
        let (status, answer) = post(&http, address, path, body);
        (status, answer["error"]["code"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(code("/events/shop", "{}"), (400, "invalid_name".to_owned()));
    assert_eq!(code("/events/till:open", "{}"), (403, "not_allowed".to_owned()));
    assert_eq!(code("/events/shop:sell", "{"), (400, "invalid_json".to_owned()));
    assert_eq!(code("/events/shop:sell?wait=long", "{}"), (400, "invalid_query".to_owned()));
    assert_eq!(code("/events/shop:sell?wiat=none", "{}"), (400, "invalid_query".to_owned()));
    assert_eq!(http.emitted_of("till:open"), Vec::<Value>::new());
}

#[test]
fn a_body_is_refused_that_is_too_large_or_for_which_there_is_no_room() {
    let (http, address) = shop(json!({"max_body_bytes": 100, "max_waiting_bytes": 40}));
    let post = |body: &str| {
        let (status, answer) = post(&http, address, "/events/shop:sell", body);
        (status, answer["error"]["code"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(post(&format!("\"{}\"", "x".repeat(100))), (413, "too_large".to_owned()));
    assert_eq!(post(&format!("\"{}\"", "x".repeat(60))), (503, "busy".to_owned()));
    assert_eq!(post(r#"{"item":"pen"}"#).0, 200, "what was refused has given its room back");
}

#[test]
fn a_body_that_does_not_say_how_large_it_is_is_refused_when_it_has_become_too_large() {
    let (http, address) = shop(json!({"max_body_bytes": 100}));
    let mut stream = connect(address);
    let head =
        "POST /events/shop:sell HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    for _ in 0..2 {
        stream.write_all(format!("3c\r\n{}\r\n", "1".repeat(60)).as_bytes()).unwrap();
    }
    assert_eq!(answer(&http, &mut stream).status, 413);
}

#[test]
fn headers_become_attributes_and_those_of_a_trace_are_given_back() {
    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let (http, address) = start(json!({}));
    http.other("shop").on("shop:sell", |ctx: Context, _: Value| async move {
        let event = ctx.event().expect("it is called for one");
        let read = |key| event.attribute(key).map(str::to_owned);
        Ok(json!([read("traceparent"), read("tracestate"), read("customer")]))
    });
    let mut stream = connect(address);
    let headers =
        format!("traceparent: {TRACE}\r\ntracestate: a=1\r\nKSI-Attribute-Customer: 17\r\n");
    let line = "POST /events/shop:sell";
    let answer = asked(&http, &mut stream, line, &headers, "{}");
    assert_eq!(answer.json()["outcomes"][0]["reply"], json!([TRACE, "a=1", "17"]), "{answer:?}");
    assert_eq!(answer.header("traceparent"), Some(TRACE));
    assert_eq!(answer.header("tracestate"), Some("a=1"));
    let answer = asked(&http, &mut stream, line, "traceparent: 00-1-2-3\r\n", "{}");
    assert_eq!(answer.json()["outcomes"][0]["reply"], json!([null, null, null]), "{answer:?}");
    assert_eq!(answer.header("traceparent"), None);
}
