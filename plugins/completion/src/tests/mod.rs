use std::time::Duration;

use ksi_harness::Harness;

use super::*;

mod server;

use server::{Server, Then, answer, stream};

/// A variable that every environment has, in place of one with a key.
const KEY: &str = "PATH";

fn plugin(server: &Server, more: Value) -> Harness {
    let mut config = json!({"provider": "openai", "model": "m1", "base_url": server.base_url});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Harness::with_config::<Completion>(config).unwrap()
}

fn code(report: &Report) -> (String, String) {
    match report.outcomes().remove(0).result {
        OutcomeKind::Failed { code, message } => (code, message),
        other => panic!("{other:?}"),
    }
}

/// What becomes of a request, streamed or not, to a server that does this.
fn failure(then: Then, stream: bool, config: Value) -> (String, String) {
    let server = Server::start(then);
    let plugin = plugin(&server, config);
    let request = json!({"prompt": "hi", "stream": stream, "request_id": "r"});
    let (code, message) = code(&plugin.emit("completion:request", request));
    let failed = json!({"request_id": "r", "model": "m1", "provider": "openai", "code": code, "message": message});
    assert_eq!(plugin.emitted_of("completion:failed"), [failed]);
    assert_eq!(plugin.emitted_of("completion:result"), [] as [Value; 0]);
    (code, message)
}

#[test]
fn echo_answers_offline_and_says_so() {
    let plugin = Harness::start::<Completion>();
    let request = json!({"prompt": "hi", "model": "echo", "temperature": 0, "request_id": "r1"});
    let done = json!({
        "request_id": "r1", "model": "echo", "provider": "echo", "text": "hi", "finish_reason": "stop",
    });
    assert_eq!(plugin.emit("completion:request", request).results()[0], done);
    assert_eq!(plugin.emitted_of("completion:result"), [done]);
    assert_eq!(plugin.emitted().len(), 1);
}

#[test]
fn echo_streams_word_by_word() {
    let plugin = Harness::start::<Completion>();
    let request = json!({"prompt": "one two\nthree", "stream": true});
    let done = plugin.emit("completion:request", request).results().remove(0);
    let id = done["request_id"].as_str().unwrap();
    assert!(id.starts_with("evt_"), "{id}");
    let chunk = |index: u64, text| json!({"request_id": id, "index": index, "text": text});
    let chunks = [chunk(0, "one "), chunk(1, "two\n"), chunk(2, "three")];
    assert_eq!(plugin.emitted_of("completion:chunk"), chunks);
    assert_eq!(plugin.emitted_of("completion:result"), [done]);
}

#[test]
fn a_server_is_asked_and_its_answer_is_published() {
    let body = r#"{"model":"m1-2026","choices":[{"message":{"role":"assistant","content":"Hello!"},
        "finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}"#;
    let server = Server::start(answer("200 OK", "application/json", body));
    let plugin = plugin(&server, json!({"api_key_env": KEY}));
    let request = json!({"prompt": "hi", "model": "m2", "temperature": 0.5, "request_id": "r"});
    let done = json!({
        "request_id": "r", "model": "m1-2026", "provider": "openai", "text": "Hello!", "finish_reason": "stop",
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    });
    assert_eq!(plugin.emit("completion:request", request).results()[0], done);
    assert_eq!(plugin.emitted_of("completion:result"), [done]);

    let request = server.request();
    assert!(request.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{request}");
    let key = format!("authorization: Bearer {}\r\n", std::env::var(KEY).unwrap());
    assert!(request.contains(&key), "the key is missing");
    let body = request.split_once("\r\n\r\n").unwrap().1;
    let question = json!({
        "model": "m2", "messages": [{"role": "user", "content": "hi"}], "temperature": 0.5, "stream": false,
    });
    assert_eq!(serde_json::from_str::<Value>(body).unwrap(), question);
}

#[test]
fn the_model_echo_needs_no_server() {
    let config = json!({"provider": "openai", "base_url": "http://127.0.0.1:9/v1"});
    let plugin = Harness::with_config::<Completion>(config).unwrap();
    let request = json!({"prompt": "hi", "model": "echo"});
    assert_eq!(plugin.emit("completion:request", request).results()[0]["provider"], "echo");
    let (code, message) = code(&plugin.emit("completion:request", json!({"prompt": "hi"})));
    assert_eq!(code, "invalid_request");
    assert!(message.contains("no model is named"), "{message}");
}

#[test]
fn a_stream_comes_in_pieces_however_it_is_split() {
    let whole = "data: {\"model\":\"m9\",\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n\
        data: {\"choices\":[{\"delta\":{\"content\":\"Grüß\"}}]}\n\n: still here\n\n\
        data: {\"choices\":[{\"delta\":{\"content\":\" dich\"}}]}\n\n\
        data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
        data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2,\"total_tokens\":3}}\n\n\
        data: [DONE]\n\n";
    // Among the cuts is one inside the `ü`.
    for size in [1, 7, whole.find('ü').unwrap() + 1, whole.len()] {
        let parts: Vec<&[u8]> = whole.as_bytes().chunks(size).collect();
        let server = Server::start(stream(&parts, true));
        let plugin = plugin(&server, json!({}));
        let request = json!({"prompt": "hi", "stream": true, "request_id": "r"});
        let done = json!({
            "request_id": "r", "model": "m9", "provider": "openai", "text": "Grüß dich", "finish_reason": "stop",
            "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
        });
        assert_eq!(plugin.emit("completion:request", request).results(), [done], "parts of {size}");
        let chunk = |index: u64, text| json!({"request_id": "r", "index": index, "text": text});
        assert_eq!(plugin.emitted_of("completion:chunk"), [chunk(0, "Grüß"), chunk(1, " dich")]);
    }
}

#[test]
fn a_whole_answer_to_a_streamed_request_is_one_chunk() {
    let body = r#"{"choices":[{"message":{"content":"Hello!"}}]}"#;
    let server = Server::start(answer("200 OK", "application/json; charset=utf-8", body));
    let plugin = plugin(&server, json!({}));
    let report = plugin.emit("completion:request", json!({"prompt": "hi", "stream": true}));
    assert_eq!(report.results()[0]["text"], "Hello!");
    assert_eq!(plugin.emitted_of("completion:chunk").len(), 1);
}

#[test]
fn a_refusal_repeats_the_servers_message_but_never_the_key() {
    let key = std::env::var(KEY).unwrap();
    let body =
        json!({"error": {"message": format!("wrong key: {key}"), "type": "auth"}}).to_string();
    let refused = answer("401 Unauthorized", "application/json", &body);
    let (code, message) = failure(refused, false, json!({"api_key_env": KEY}));
    assert_eq!(code, "provider_refused");
    assert!(message.ends_with("with status 401: wrong key: ***"), "{message}");

    let unread = json!({"choices": format!("bad key {key}")}).to_string();
    let odd = answer("200 OK", "application/json", &unread);
    let (code, message) = failure(odd, false, json!({"api_key_env": KEY}));
    assert_eq!(code, "invalid_response");
    assert!(message.contains("***") && !message.contains(&key), "{message}");

    // A message is cut after 500 characters, here in the middle of the key.
    let body = json!({"error": {"message": format!("{}{key}", "x".repeat(497))}}).to_string();
    let cut = answer("401 Unauthorized", "application/json", &body);
    let (_, message) = failure(cut, false, json!({"api_key_env": KEY}));
    assert!(!message.contains(&key[..3]), "{message}");

    let (code, message) = failure(answer("404 Not Found", "text/plain", ""), true, json!({}));
    assert_eq!(code, "provider_refused");
    assert!(message.ends_with("404: it does not say why"), "{message}");

    let moved =
        "HTTP/1.1 308 Permanent Redirect\r\nlocation: https://x/v1\r\ncontent-length: 0\r\n\r\n";
    let (code, message) = failure(Then::Say(vec![moved.into()]), false, json!({}));
    assert_eq!(code, "provider_refused");
    assert!(message.contains("https://x/v1"), "{message}");
}

#[test]
fn a_failing_server_is_no_refusal() {
    let (code, message) = failure(answer("500 Oops", "text/plain", "no memory\n"), true, json!({}));
    assert_eq!(code, "provider_failed");
    assert!(message.ends_with("status 500: no memory"), "{message}");
    let long = "x".repeat(100_000);
    let (_, message) = failure(answer("503 Busy", "text/plain", &long), false, json!({}));
    assert!(message.len() < 700, "{} bytes", message.len());
}

#[test]
fn a_server_that_is_not_there_is_unreachable() {
    // Bound and closed at once, so that nobody listens there.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
    drop(listener);
    let config = json!({"provider": "openai", "model": "m1", "base_url": base_url});
    let plugin = Harness::with_config::<Completion>(config).unwrap();
    let (unreachable, message) = code(&plugin.emit("completion:request", json!({"prompt": "hi"})));
    assert_eq!(unreachable, "unreachable");
    assert!(message.contains("127.0.0.1") && message.contains("refused"), "{message}");

    let (code, message) = failure(Then::Say(Vec::new()), false, json!({}));
    assert_eq!(code, "unreachable");
    assert!(message.contains("broke before its answer"), "{message}");
}

#[test]
fn a_server_that_hangs_is_left_after_the_timeout() {
    let server = Server::start(Then::Hang(""));
    let plugin = plugin(&server, json!({"timeout_seconds": 7}));
    let call = plugin.begin("completion:request", json!({"prompt": "hi"}));
    plugin.meanwhile(|| server.request());
    plugin.advance(Duration::from_millis(6_999));
    assert!(call.finished().is_none());
    plugin.advance(Duration::from_millis(1));
    let (code, message) = code(&call.finished().unwrap());
    assert_eq!(code, "timed_out");
    assert!(message.contains("within 7s"), "{message}");
    plugin.meanwhile(|| server.hung_up());
}

#[test]
fn a_request_that_is_given_up_ends_at_the_server_too() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n\
        data: {\"choices\":[{\"delta\":{\"content\":\"Well\"}}]}\n\n";
    let server = Server::start(Then::Hang(head));
    let plugin = plugin(&server, json!({}));
    let call = plugin.begin("completion:request", json!({"prompt": "hi", "stream": true}));
    assert_eq!(plugin.wait_emitted("completion:chunk")["text"], "Well");
    call.cancel();
    plugin.meanwhile(|| server.hung_up());
}

#[test]
fn a_stream_that_breaks_is_no_answer() {
    let piece: &[u8] = b"data: {\"choices\":[{\"delta\":{\"content\":\"Well\"}}]}\n\n";
    let (code, message) = failure(stream(&[piece], false), true, json!({}));
    assert_eq!(code, "broken_stream");
    assert!(message.contains("broke after 1 pieces"), "{message}");

    let (code, message) = failure(stream(&[piece, piece], true), true, json!({}));
    assert_eq!(code, "broken_stream");
    assert!(message.contains("ended after 2 pieces"), "{message}");

    let error: &[u8] = b"data: {\"error\":{\"message\":\"out of memory\"}}\n\n";
    let (code, message) = failure(stream(&[piece, error], true), true, json!({}));
    assert_eq!(code, "provider_failed");
    assert!(message.contains("out of memory"), "{message}");

    let (code, _) = failure(stream(&[piece, b"data: {\"choices\n\n"], true), true, json!({}));
    assert_eq!(code, "invalid_response");
}

#[test]
fn a_stream_may_end_with_its_reason_alone() {
    let piece: &[u8] =
        b"data: {\"choices\":[{\"delta\":{\"content\":\"Well\"},\"finish_reason\":\"stop\"}]}";
    let server = Server::start(stream(&[piece], true));
    let plugin = plugin(&server, json!({}));
    let report = plugin.emit("completion:request", json!({"prompt": "hi", "stream": true}));
    assert_eq!(report.results()[0]["text"], "Well");
}

#[test]
fn an_answer_that_is_none_is_refused() {
    for (body, expected) in [
        ("<html>", "no chat completion"),
        ("{}", "choices"),
        (r#"{"choices":[]}"#, "without a text"),
        (r#"{"choices":[{"message":{"content":null}}]}"#, "without a text"),
    ] {
        let (code, message) = failure(answer("200 OK", "application/json", body), false, json!({}));
        assert_eq!(code, "invalid_response", "{body}");
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn an_answer_has_a_bound() {
    let body = format!(r#"{{"choices":[{{"message":{{"content":"{}"}}}}]}}"#, "x".repeat(2_000));
    let bound = json!({"max_response_bytes": 1_000});
    let (code, message) =
        failure(answer("200 OK", "application/json", &body), false, bound.clone());
    assert_eq!(code, "too_large");
    assert!(message.contains("more than 1000 bytes"), "{message}");
    let piece: &[u8] = b"data: {\"choices\":[{\"delta\":{\"content\":\"Well\"}}]}\n\n";
    let (code, _) = failure(stream(&[piece; 30], true), true, bound);
    assert_eq!(code, "too_large");
}

#[test]
fn requests_beyond_the_bound_are_refused_until_one_ends() {
    let server = Server::start(Then::Hang(""));
    let plugin = plugin(&server, json!({"max_concurrent": 1}));
    let request = || plugin.begin("completion:request", json!({"prompt": "hi"}));
    let first = request();
    plugin.meanwhile(|| server.request());
    let busy = || code(&request().finished().expect("it is refused at once")).0;
    assert_eq!((busy(), busy()), ("busy".to_owned(), "busy".to_owned()));
    first.cancel();
    plugin.meanwhile(|| server.hung_up());
    // The server is gone after its one request, so the next one gets as far as to it.
    assert_eq!(code(&plugin.wait(&request())).0, "unreachable");
}

#[test]
fn a_configuration_that_cannot_work_is_refused_at_the_start() {
    let with = |more: Value| {
        let mut config = json!({"provider": "openai"});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let error = Harness::with_config::<Completion>(config).err().expect("it is refused");
        (error.code().to_owned(), error.message().to_owned())
    };
    for (config, expected_code, expected) in [
        (json!({"base_url": "here"}), "invalid_config", "base_url is no URL"),
        (json!({"base_url": "ftp://x"}), "invalid_config", "http://"),
        (json!({"base_url": "http://u:secret@x"}), "invalid_config", "api_key_env"),
        (json!({"api_key_env": "KSI_NO_SUCH_KEY"}), "missing_api_key", "KSI_NO_SUCH_KEY"),
        (json!({"timeout_seconds": 0}), "invalid_config", "1 to 3600"),
        (json!({"provider": "oracle"}), "invalid_config", "oracle"),
        (json!({"api_key": "secret"}), "invalid_config", "api_key"),
    ] {
        let (code, message) = with(config);
        assert_eq!(code, expected_code, "{message}");
        assert!(message.contains(expected), "{message}");
        assert!(!message.contains("secret"), "{message}");
    }
}

#[test]
fn a_server_with_tls_can_be_configured() {
    // Building the client is what fails where a TLS provider is missing.
    let config = json!({"provider": "openai", "base_url": "https://localhost:1/v1", "model": "m1"});
    match Harness::with_config::<Completion>(config) {
        Ok(plugin) => {
            let (code, _) = code(&plugin.emit("completion:request", json!({"prompt": "hi"})));
            assert_eq!(code, "unreachable");
        }
        Err(error) => assert!(error.message().contains("CA certificates"), "{error}"),
    }
}
