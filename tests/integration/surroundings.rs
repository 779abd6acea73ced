//! What changes around a host while it runs, and what it does about that.

use std::fs;

use serde_json::json;

use crate::kit::{Client, Library, Running, TestHost, ksi_command, until};

/// A folder beside its own, for what a second host would keep.
fn second_host(socket: &std::path::Path, dir: &std::path::Path) -> std::process::Command {
    let mut second = ksi_command(&["run", "--plugins"]);
    second.arg(dir).arg("--socket").arg(socket);
    second.env("TMPDIR", dir).env("XDG_STATE_HOME", dir);
    second
}

#[test]
fn a_second_host_is_refused_and_clients_wait_while_the_first_one_still_loads_its_plugins() {
    let builder = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config("[timeouts]\ninit = '1h'\n[plugin.chaos]\ninit = 'file'\ninit_in_earnest = true");
    let gate = builder.dir().join("gate");
    let builder = builder.config(&format!("init_file = '{}'", gate.display()));
    let socket = builder.socket();
    let first = Running::start(&mut builder.command());
    until("it has the socket", || socket.exists(), |there| *there);
    let mut early = Client::connect(&socket);
    early.send(&json!({"event": "chaos:echo", "data": 7}).to_string());

    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.so"), &Library::chaos().0).unwrap();
    let refused = Running::start(&mut second_host(&socket, dir.path())).ended().fails(1);
    assert!(refused.contains("ksi stop"), "{refused}");
    assert_eq!(first.line_soon(), None, "the first one is not ready yet");

    fs::write(&gate, "").unwrap();
    assert!(first.line().starts_with("ready on "));
    assert_eq!(early.read()["data"], 7, "a request from before is answered by the plugin");
}
