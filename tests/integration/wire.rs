//! The wire: requests and replies of one connection, good ones and bad ones.

use std::io::Write;

use serde_json::{Value, json};

use crate::kit::{Library, TestHost, error_of};

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
