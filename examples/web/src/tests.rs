//! Over a real socket: the harness waits for I/O in real time.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use ksi_harness::Harness;

use super::*;

fn start() -> (Harness, SocketAddr) {
    let config = json!({"address": "127.0.0.1:0", "events": ["shop:*"]});
    let web = Harness::with_config::<Web>(config).unwrap();
    web.on("shop:order", |order: Value| match order["item"].as_str() {
        Some(item) => Ok(format!("one {item}")),
        None => Err(Error::new("no_item", "say what")),
    });
    web.on("secret:read", |_: Value| Ok("for nobody"));
    let address: String = web.request(named("web:address", &json!({}))).unwrap();
    (web, address.parse().unwrap())
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    stream
}

fn ask(stream: &mut TcpStream, path: &str, body: &str) {
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
}

/// The answer's head and body. The host of a harness does its work on this thread, between reads.
fn answer(web: &Harness, stream: &mut TcpStream) -> (String, Value) {
    let mut read = Vec::new();
    stream.set_nonblocking(true).unwrap();
    let found = loop {
        web.emitted();
        let mut some = [0; 4_096];
        match stream.read(&mut some) {
            Ok(0) => panic!("it is closed behind {:?}", String::from_utf8_lossy(&read)),
            Ok(count) => read.extend_from_slice(&some[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
        let text = String::from_utf8_lossy(&read);
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && let Ok(body) = body.parse()
        {
            break (head.to_ascii_lowercase(), body);
        }
    };
    stream.set_nonblocking(false).unwrap();
    found
}

/// The status and the body.
fn asked(web: &Harness, stream: &mut TcpStream, path: &str, body: &str) -> (u16, Value) {
    ask(stream, path, body);
    let (head, body) = answer(web, stream);
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body)
}

#[test]
fn an_event_is_asked_for_and_its_reply_answered_on_one_connection() {
    let (web, address) = start();
    let mut stream = connect(address);
    let mut order = |body| asked(&web, &mut stream, "/events/shop:order", body);
    assert_eq!(order(r#"{"item": "pen"}"#), (200, json!("one pen")));
    let (status, body) = order("{}");
    assert_eq!((status, &body["error"]["code"]), (422, &json!("no_item")));
    assert_eq!(order("{").0, 400);
    assert_eq!(order(r#"{"item": "cup"}"#), (200, json!("one cup")));
}

#[test]
fn what_is_not_allowed_or_not_there_is_not_found() {
    let (web, address) = start();
    let mut stream = connect(address);
    for path in ["/", "/events/", "/events/secret:read", "/events/shop:close"] {
        assert_eq!(asked(&web, &mut stream, path, "{}").0, 404, "{path}");
    }
    assert_eq!(web.emitted_of("secret:read"), Vec::<Value>::new());
}

#[test]
fn a_body_that_is_too_large_is_refused() {
    let (web, address) = start();
    let mut stream = connect(address);
    let body = format!("\"{}\"", "x".repeat(70_000));
    assert_eq!(asked(&web, &mut stream, "/events/shop:order", &body).0, 413);
}

/// Asks for nothing that there is, which needs nothing of the host's; the answer's head.
fn not_found(stream: &mut TcpStream) -> String {
    ask(stream, "/events/none", "{}");
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains("\r\n\r\n{") {
        let mut some = [0; 4_096];
        let count = stream.read(&mut some).unwrap();
        assert!(count > 0, "it is closed behind {:?}", String::from_utf8_lossy(&read));
        read.extend_from_slice(&some[..count]);
    }
    let text = String::from_utf8_lossy(&read).to_ascii_lowercase();
    assert!(text.starts_with("http/1.1 404"), "{text}");
    text
}

#[test]
fn a_connection_that_is_open_when_the_plugin_goes_has_its_next_request_answered() {
    let (web, address) = start();
    let [mut busy, mut asked_once, mut silent] = [(); 3].map(|()| connect(address));
    not_found(&mut asked_once);
    let clients = std::thread::spawn(move || {
        // Until the shutdown has begun.
        while !not_found(&mut busy).contains("connection: close") {}
        [&mut asked_once, &mut silent].map(not_found)
    });
    assert!(web.shutdown().is_ok());
    for head in clients.join().unwrap() {
        assert!(head.contains("connection: close"), "{head}");
    }
}
