//! The plugin `http` in a real host.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
};

use serde_json::json;

use crate::kit::{Ends, HostBuilder, HttpClient, Library, TestHost};

const FILE: &str = "libksi_http.so";

fn http() -> Library {
    Library::of("ksi-plugin-http")
}

/// At a free port.
fn host() -> HostBuilder {
    TestHost::builder().plugin(FILE, &http()).config("[plugin.http]\naddress = '127.0.0.1:0'")
}

fn address(host: &TestHost) -> SocketAddr {
    let address = host.client().emit("http:address", json!({}));
    address.as_str().unwrap().parse().unwrap()
}

/// Asks until `done`. Every answer must be the one to its own request, and none may fail.
fn ask_until(address: SocketAddr, keeps: bool, done: &AtomicBool) -> usize {
    let (mut http, mut requests) = (HttpClient::new(address, keeps), 0);
    while !done.load(SeqCst) {
        let name = format!("{keeps} {requests}");
        let answer = http.post("/events/greet:request", &json!({"name": name}));
        let answer = answer.unwrap_or_else(|error| panic!("request {name}: {error}"));
        let greeting = format!("Hello, {name}!");
        let reply = &answer.body["outcomes"][0]["reply"]["text"];
        assert_eq!((answer.status, reply), (200, &json!(greeting)), "{answer:?}");
        requests += 1;
    }
    requests
}

#[test]
fn no_client_of_the_http_plugin_notices_that_it_is_replaced_and_unloading_it_closes_the_socket() {
    let replacements = 6;
    let host = host().plugin("libhello.so", &Library::of("hello")).start();
    let (address, done) = (address(&host), AtomicBool::new(false));
    let requests: usize = thread::scope(|scope| {
        let (ends, done) = (Ends(&done), &done);
        let clients =
            [false, true].map(|keeps| scope.spawn(move || ask_until(address, keeps, done)));
        for version in (2..).take(replacements) {
            host.drop_in(FILE, &http().of_version(version));
            host.until_version("http", &format!("0.0.{version}"));
        }
        drop(ends);
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    let module = host.until_unmapped("http");
    assert_eq!(module["reloads"], replacements);
    let greeted = host.module("hello")["counts"].take();
    assert_eq!((&greeted["accepted"], &greeted["replied"]), (&json!(requests), &json!(requests)));
    assert!(requests > replacements, "there was load");
    host.client().emit("module:unload", json!({"module_name": "http"}));
    host.until_unmapped("http");
    let mut http = HttpClient::new(address, false);
    assert!(http.post("/events/greet:request", &json!({"name": "Ada"})).is_err(), "it is closed");
}

#[test]
fn an_address_that_other_machines_reach_is_refused_without_a_token() {
    let open = "[plugin.http]\naddress = '0.0.0.0:0'";
    let host = TestHost::builder().plugin(FILE, &http()).config(open).start();
    let refused = host.until_refused(FILE);
    assert!(refused.contains("token_file"), "{refused}");
}
