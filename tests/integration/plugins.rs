//! The plugins that come with the host.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    thread::JoinHandle,
};

use serde_json::{Value, json};

use crate::kit::{Library, TestHost, until};

fn state() -> TestHost {
    TestHost::builder().plugin("state.so", &Library::of("ksi-plugin-state")).start()
}

#[test]
fn what_is_unloaded_is_said_to_come_back_and_does_so_at_the_next_start() {
    let host = TestHost::builder().plugin("chaos.so", &Library::chaos()).start();
    let said = host.ksi(&["unload", "chaos"]).ok();
    let file = host.file("chaos.so");
    assert!(said.contains("until its file changes or the host starts again"), "{said}");
    assert!(said.contains(file.to_str().unwrap()), "{said}");
    let host = host.stopped().start();
    host.until_live("chaos", 1);
    // Elsewhere nothing loads it again.
    let elsewhere = host.dir().join("other.so");
    std::fs::write(&elsewhere, &Library::chaos().named("chao1").0).unwrap();
    host.ksi(&["load", elsewhere.to_str().unwrap()]).ok();
    let said = host.ksi(&["unload", "chao1"]).ok();
    assert!(!said.contains("until"), "{said}");
}

#[test]
fn a_plugin_is_told_where_its_own_file_is_and_not_where_its_copy_lies() {
    let host = TestHost::builder().plugin("other name.so", &Library::chaos()).start();
    let told = host.client().emit("chaos:file", json!({}));
    let file = host.file("other name.so");
    assert_eq!(told, json!({"at_start": file, "now": file}));
}

#[test]
fn state_is_set_read_listed_and_deleted_from_the_command_line() {
    let host = state();
    let update = |operation: &str| {
        let data = format!(r#"{{"namespace":"a","key":"k","value":1,"operation":"{operation}"}}"#);
        host.ksi(&["emit", "state:update", &data]).ok()
    };
    assert_eq!(update("set"), "{\"status\":\"set\"}\n");
    assert_eq!(update("get"), "{\"value\":1}\n");
    assert_eq!(update("list"), "{\"keys\":[\"k\"]}\n");
    assert_eq!(update("delete"), "{\"status\":\"deleted\"}\n");
    assert_eq!(update("delete"), "{\"status\":\"not_found\"}\n");
}

#[test]
fn changes_of_state_are_seen_by_whoever_watches() {
    let mut host = state();
    let (mut watcher, mut client) = (host.client(), host.client());
    watcher.subscribe(&["state:changed", "state:deleted", "state:persisting"]);
    client.emit("state:set", json!({"namespace": "a", "key": "k", "value": {"deep": [1]}}));
    let changed = watcher.push_of("state:changed");
    assert_eq!((&changed["key"], &changed["value"]), (&json!("k"), &json!({"deep": [1]})));
    client.emit("state:delete", json!({"namespace": "a", "key": "k"}));
    assert_eq!(watcher.push_of("state:deleted")["key"], "k");
    host.process.signal(rustix::process::Signal::TERM);
    watcher.push_of("state:persisting");
    assert_eq!(host.process.ended().code, Some(0));
}

#[test]
fn another_plugin_asks_for_state_like_anybody() {
    let host = TestHost::builder()
        .plugin("state.so", &Library::of("ksi-plugin-state"))
        .plugin("chaos.so", &Library::chaos())
        .start();
    let mut client = host.client();
    client.emit("state:set", json!({"namespace": "a", "key": "k", "value": 7}));
    let get = json!({"event": "state:get", "data": {"namespace": "a", "key": "k"}});
    assert_eq!(client.emit("chaos:request", get)["value"], 7);
}

#[test]
fn completion_echoes_offline_and_publishes_its_result() {
    let host = TestHost::builder().plugin("c.so", &Library::of("ksi-plugin-completion")).start();
    let mut watcher = host.client();
    watcher.subscribe(&["completion:*"]);
    let answer = host
        .ksi(&["emit", "completion:request", r#"{"prompt":"hi","model":"echo","temperature":0}"#])
        .ok();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["text"], "hi");
    assert_eq!(watcher.push_of("completion:result"), answer);
}

#[test]
fn completion_speaks_http_in_its_own_runtime_and_leaves_memory_when_it_is_replaced() {
    let (url, server) = fake_server();
    let host = TestHost::builder()
        .plugin("c.so", &Library::of("ksi-plugin-completion"))
        .config("[plugin.completion]\nprovider = 'openai'\nmodel = 'm'\ntimeout_seconds = 20")
        .config(&format!("base_url = '{url}/v1'"))
        .start();
    let mut client = host.client();
    for generation in 1..=3 {
        let answer = client.emit("completion:request", json!({"prompt": "hi"}));
        assert_eq!(
            (&answer["text"], &answer["provider"]),
            (&json!("hello from afar"), &json!("openai"))
        );
        let reloaded = client.emit("module:reload", json!({"module_name": "completion"}));
        assert_eq!(reloaded["generation"], generation + 1);
        host.until_unmapped("completion");
        assert_eq!(host.resources().libraries.len(), 1);
    }
    drop(host);
    let asked = server.join().unwrap();
    assert!(asked.iter().all(|body| body["messages"][0]["content"] == "hi"), "{asked:?}");
}

#[test]
fn a_plugin_with_its_own_runtime_keeps_no_descriptors_when_it_is_replaced() {
    let host = TestHost::builder().plugin("c.so", &Library::of("ksi-plugin-completion")).start();
    let mut client = host.client();
    let mut reload = |times: usize| {
        for _ in 0..times {
            client.emit("module:reload", json!({"module_name": "completion"}));
            host.until_unmapped("completion");
        }
    };
    reload(3);
    let descriptors = || host.resources().descriptors;
    let before = descriptors();
    reload(15);
    until("there are no more descriptors", descriptors, |after| *after <= before + 4);
}

/// Answers three requests as a server of the chat API does, and gives what it was asked.
fn fake_server() -> (String, JoinHandle<Vec<Value>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = json!({
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello from afar"}, "finish_reason": "stop"}],
    })
    .to_string();
    let serve = move || {
        let answered = listener.incoming().take(3).map(|stream| {
            let mut reader = BufReader::new(stream.unwrap());
            let mut length = 0;
            let mut line = String::new();
            while reader.read_line(&mut line).unwrap() > 0 && line != "\r\n" {
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
            let length = answer.len();
            write!(reader.into_inner(), "{head}content-length: {length}\r\n\r\n{answer}").unwrap();
            serde_json::from_slice(&body).unwrap()
        });
        answered.collect()
    };
    (url, std::thread::spawn(serve))
}
