//! A host that loads its plugins still, and those who ask it something meanwhile.

use std::os::unix::net::UnixStream;

use ksi_wire::module::ModuleState;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::kit::{Client, HostBuilder, Library, Running, States, TestHost, children, ksi, until};

/// Two plugins, of which the second one keeps the host from becoming ready.
fn stuck(how: &str) -> HostBuilder {
    TestHost::builder()
        .plugin("a.so", &Library::counter(1))
        .plugin("b.so", &Library::chaos())
        .config("[timeouts]\ninit = '10m'\nprobe = '10m'")
        .config(how)
}

/// In its probe, and in the host.
const WAYS: [&str; 2] = [
    "[plugin.chaos]\ninit = 'block'\ninit_millis = 600000",
    "[reload]\ntrial = false\n[plugin.chaos]\ninit = 'block'\ninit_millis = 600000",
];

/// Waits until somebody listens: the socket's file is there a moment before.
#[track_caller]
fn until_served(setup: &HostBuilder) -> Client {
    let connects = || UnixStream::connect(setup.socket()).is_ok();
    until("somebody listens", connects, |listens| *listens);
    Client::connect(&setup.socket())
}

/// Waits until clients are answered, and the first plugin is live.
#[track_caller]
fn until_stuck(setup: &HostBuilder) -> Client {
    let mut client = until_served(setup);
    let loads_b = |health: &Value| health["starting"]["loading"] == "b.so";
    until("it loads the second one", || client.emit("system:health", json!({})), loads_b);
    client
}

#[test]
fn while_it_starts_it_tells_what_it_loads_and_a_client_stops_it_at_once() {
    for how in WAYS {
        let setup = stuck(how);
        let mut host = Running::start(&mut setup.command());
        let health = until_stuck(&setup).emit("system:health", json!({}));
        let of = (&health["starting"]["number"], &health["starting"]["of"]);
        assert_eq!((&health["status"], of), (&json!("starting"), (&json!(2), &json!(2))));
        let listed = ksi(&setup.socket(), &["list"], "");
        assert!(listed.stdout.contains("counter"), "{listed:#?}");
        assert!(listed.stderr.contains(": loading b.so (2 of 2)"), "{listed:#?}");
        ksi(&setup.socket(), &["stop"], "").ok();
        let ran = host.ended();
        assert_eq!((ran.code, &*ran.stdout), (Some(0), ""), "{how}: {ran:#?}");
    }
}

#[test]
fn what_needs_plugins_waits_for_the_end_of_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("go");
    let wait =
        format!("[reload]\ntrial = false\n[plugin.chaos]\ninit = 'file'\ninit_file = {file:?}");
    let setup = stuck(&wait);
    let host = Running::start(&mut setup.command());
    let mut asks = until_stuck(&setup);
    let echo = asks.begin("chaos:echo", json!("later"));
    let unload = asks.begin("module:unload", json!({"module_name": "counter"}));
    // Whoever is answered behind them on the same connection was served behind them.
    assert_eq!(asks.emit("system:health", json!({}))["status"], "starting");
    let mut other = Client::connect(&setup.socket());
    assert_eq!(other.emit("module:list", json!({}))["modules"][0].state(), ModuleState::Live);
    std::fs::write(&file, "").unwrap();
    assert_eq!(asks.end(&echo)["data"], "later");
    assert_eq!(asks.end(&unload)["data"]["status"], "unloaded");
    assert!(host.line().starts_with("ready on "));
    let health = other.emit("system:health", json!({}));
    assert_eq!((&health["status"], &health["starting"]), (&json!("healthy"), &Value::Null));
}

#[test]
fn while_the_end_of_the_start_is_told_clients_are_answered() {
    let setup = TestHost::builder();
    let file = setup.dir().join("go");
    let setup = setup
        .plugin("chaos.so", &Library::chaos())
        .config(&format!("[timeouts]\nhandler = '10m'\n[plugin.chaos]\nready_file = {file:?}"));
    let host = Running::start(&mut setup.command());
    let mut client = until_served(&setup);
    assert_eq!(client.emit("chaos:echo", json!("during")), "during");
    assert_eq!(client.emit("system:health", json!({}))["status"], "healthy");
    std::fs::write(&file, "").unwrap();
    assert!(host.line().starts_with("ready on "));
}

#[test]
fn what_waits_for_a_start_that_ends_in_a_stop_is_refused() {
    let setup = stuck(WAYS[0]);
    let mut host = Running::start(&mut setup.command());
    let mut asks = until_stuck(&setup);
    let echo = asks.begin("chaos:echo", json!("never"));
    assert_eq!(asks.emit("system:health", json!({}))["status"], "starting");
    host.signal(Signal::TERM);
    assert_eq!(asks.end(&echo)["data"]["code"], "stopping");
    assert_eq!(host.ended().code, Some(0));
}

/// A host whose only plugin hangs in its probe, and all probes that there are then.
#[track_caller]
fn probing() -> (HostBuilder, Running, Vec<u32>) {
    let setup = TestHost::builder()
        .plugin("b.so", &Library::chaos())
        .config("[timeouts]\ninit = '10m'\nprobe = '10m'")
        .config(WAYS[0]);
    let host = Running::start(&mut setup.command());
    let copies = setup.temporary();
    let maps = |id: &u32| std::fs::read_to_string(format!("/proc/{id}/maps")).unwrap_or_default();
    // The one that is kept for the next file has opened none.
    let hangs =
        |found: &Vec<u32>| found.iter().any(|id| maps(id).contains(copies.to_str().unwrap()));
    let probes = until("it hangs in a probe", || children(host.id()), hangs);
    (setup, host, probes)
}

/// Whoever adopts one that has ended may leave it to be waited for.
fn is_alive(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

#[test]
fn a_probe_that_hangs_ends_with_a_host_that_is_killed() {
    let (_setup, mut host, probes) = probing();
    host.signal(Signal::KILL);
    host.ended();
    let alive = || probes.iter().filter(|probe| is_alive(**probe)).count();
    until("no probe is left", alive, |alive| *alive == 0);
}

#[test]
fn a_probe_that_hangs_is_ended_before_a_host_that_stops() {
    let (_setup, mut host, probes) = probing();
    host.signal(Signal::TERM);
    let ran = host.ended();
    let left: Vec<_> =
        probes.iter().filter(|probe| std::fs::exists(format!("/proc/{probe}")).unwrap()).collect();
    assert!(left.is_empty(), "{left:?} are left");
    assert!(!ran.stderr.contains("b.so"), "nothing is said of a file that was given up: {ran:#?}");
}
