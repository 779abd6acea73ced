//! What the host keeps for a plugin over its generations.
//!
//! `KSI_LONG=1` makes the run of the web server as long as the documentation tells of.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
};

use serde_json::{Value, json};

use crate::kit::{Ends, Library, PATIENCE, TestHost};

fn address(host: &TestHost) -> SocketAddr {
    let address = host.client().emit("web:address", json!({}));
    address.as_str().unwrap().parse().unwrap()
}

fn named(name: &str) -> Value {
    json!({"module_name": name})
}

/// One connection, one request.
fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(
        format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn no_connection_is_refused_or_reset_while_a_web_server_is_replaced() {
    let reloads = if std::env::var_os("KSI_LONG").is_some() { 200 } else { 12 };
    let host = TestHost::builder().plugin("web.so", &Library::web(1)).start();
    let (address, done) = (address(&host), AtomicBool::new(false));
    let answered: usize = thread::scope(|scope| {
        let ends = Ends(&done);
        let clients: Vec<_> = (0..4)
            .map(|client| {
                let done = &done;
                scope.spawn(move || {
                    let mut answered = 0;
                    while !done.load(SeqCst) {
                        let path = format!("/{client}/{answered}");
                        let answer = get(address, &path).expect("a connection is served");
                        assert!(answer.ends_with(&format!("you asked for {path}")), "{answer:?}");
                        answered += 1;
                    }
                    answered
                })
            })
            .collect();
        let mut socket = host.client();
        for _ in 0..reloads {
            socket.emit("module:reload", named("web"));
        }
        drop(ends);
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    assert!(answered > reloads, "there was load: {answered}");
    assert_eq!(host.module("web")["reloads"], reloads);
    host.until_unmapped("web");
    println!("{reloads} reloads, {answered} connections, none refused or reset");
}

#[test]
fn a_kept_listener_outlives_replacement_and_rollback_and_is_closed_when_its_plugin_is_unloaded() {
    let host = TestHost::builder().plugin("web.so", &Library::web(1)).start();
    let (first, mut client) = (address(&host), host.client());
    host.drop_in("web.so", &Library::web(2));
    host.until_version("web", "0.0.2");
    assert_eq!(address(&host), first);
    client.emit("module:rollback", named("web"));
    assert_eq!(address(&host), first);
    let inspected = host.ksi(&["inspect", "web"]).ok();
    assert!(inspected.contains(&format!("127.0.0.1:0 ({first})")), "{inspected}");
    client.emit("module:unload", named("web"));
    host.until_unmapped("web");
    assert!(TcpStream::connect(first).is_err(), "it is closed");
    let kept = client.emit("module:inspect", named("web"))["kept_resources"].take();
    assert_eq!(kept, json!([]));
}
