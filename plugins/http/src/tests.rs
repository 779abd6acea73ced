//! Over real sockets: the harness waits for I/O in real time.

mod client;
mod connections;
mod events;
mod secrets;
mod sse;
mod ws;

use std::net::SocketAddr;

use ksi_harness::Harness;

use super::*;

/// The plugin, where it listens at a free port of this machine, beside what is configured.
fn start(config: Value) -> (Harness, SocketAddr) {
    let mut all = json!({"address": "127.0.0.1:0"});
    for (key, value) in config.as_object().unwrap() {
        all[key] = value.clone();
    }
    let http = Harness::with_config::<Http>(all).unwrap();
    let address: String = http.request(named("http:address", &json!({}))).unwrap();
    (http, address.parse().unwrap())
}
