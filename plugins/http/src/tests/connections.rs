use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    sync::{Arc, Mutex},
};

use super::{client::*, *};

#[test]
fn a_connection_that_is_open_when_the_plugin_goes_has_its_next_request_answered() {
    let (http, address) = start(json!({}));
    let [mut busy, mut asked_once, mut silent] = [(); 3].map(|()| connect(address));
    not_found(&mut asked_once).unwrap();
    let clients = std::thread::spawn(move || {
        // Until the shutdown has begun.
        while not_found(&mut busy).unwrap().header("connection") != Some("close") {}
        [&mut asked_once, &mut silent].map(|it| not_found(it).unwrap())
    });
    assert!(http.shutdown().is_ok());
    for answer in clients.join().unwrap() {
        assert_eq!(answer.header("connection"), Some("close"), "{answer:?}");
    }
}

#[test]
fn one_connection_more_than_there_may_be_is_served_when_another_one_ends() {
    let (_http, address) = start(json!({"max_connections": 1}));
    let (mut first, mut second) = (connect(address), connect(address));
    not_found(&mut first).unwrap();
    second.write_all(b"GET /none HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    second.set_nonblocking(true).unwrap();
    not_found(&mut first).unwrap();
    assert!(second.read(&mut [0]).is_err(), "it waits");
    second.set_nonblocking(false).unwrap();
    drop(first);
    assert_eq!(second.read(&mut [0]).unwrap(), 1);
}

#[test]
fn a_connection_that_is_silent_for_too_long_is_closed() {
    let (_http, address) = start(json!({"idle_seconds": 1}));
    let (mut silent, mut slow) = (connect(address), connect(address));
    slow.write_all(b"GET / HTTP/1.1\r\nhost:").unwrap();
    assert_eq!(silent.read(&mut [0]).unwrap(), 0);
    let mut said = String::new();
    slow.read_to_string(&mut said).unwrap();
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{said}");
}

#[test]
fn a_socket_in_the_file_system_is_served_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("http.sock");
    let config = json!({"address": format!("unix:{}", path.display())});
    let http = ksi_harness::Harness::with_config::<Http>(config).unwrap();
    let address: String = http.request(named("http:address", &json!({}))).unwrap();
    assert_eq!(address, format!("unix:{}", path.display()));
    not_found(&mut UnixStream::connect(path).unwrap()).unwrap();
}

#[test]
fn whether_the_host_is_well_and_ready_is_what_it_says_of_itself() {
    let (http, address) = start(json!({}));
    let mut stream = connect(address);
    let mut get = |path: &str| {
        let answer = asked(&http, &mut stream, &format!("GET {path}"), "", "");
        (answer.status, answer.json()["status"].clone())
    };
    assert_eq!(get("/healthz"), (503, json!("silent")), "there is no host");
    let told = Arc::new(Mutex::new(""));
    let tells = told.clone();
    http.on("system:health", move |_: Value| Ok(json!({"status": *tells.lock().unwrap()})));
    for (status, ready) in
        [("starting", 503), ("healthy", 200), ("degraded", 200), ("stopping", 503)]
    {
        *told.lock().unwrap() = status;
        assert_eq!(get("/healthz"), (200, json!(status)));
        assert_eq!(get("/readyz"), (ready, json!(status)));
    }
}

#[test]
fn what_is_not_there_or_of_another_site_is_answered_with_a_reason() {
    let (http, address) = start(json!({}));
    let mut stream = connect(address);
    let mut code = |line: &str, headers: &str| {
        let answer = asked(&http, &mut stream, line, headers, "");
        (answer.status, answer.json()["error"]["code"].clone())
    };
    assert_eq!(code("GET /none", ""), (404, json!("not_found")));
    assert_eq!(code("POST /healthz", ""), (405, json!("method")));
    assert_eq!(code("GET /healthz", "host: evil.example\r\n"), (403, json!("foreign_host")));
    let from_elsewhere = "origin: https://evil.example\r\n";
    assert_eq!(code("GET /healthz", from_elsewhere), (403, json!("foreign_origin")));
}
