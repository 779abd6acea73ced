//! From the first frame to the last: what is opened, made, restored and let go.

use ksi_plugin_api::json;
use ksi_worker_protocol::{FromHost, OutcomeKind, Payload, life::Limits};

use super::{
    fake::{DROPPED, Fake},
    kit::Host,
    live,
};

#[test]
fn a_worker_says_what_it_opened_and_that_it_made_an_instance() {
    let mut host = Host::start::<Fake>(Limits::default());
    let opened = host.open();
    assert!(opened.contains(r#""name":"echo""#), "{opened}");
    let id = host.put(FromHost::Create(Payload::Bytes(b"{}")));
    assert_eq!(host.next(), format!("created {id}"));
    host.ends();
}

#[test]
fn an_initialize_that_fails_is_told_and_another_may_follow() {
    let mut host = Host::start::<Fake>(Limits::default());
    host.open();
    let id = host.put(FromHost::Create(Payload::Bytes(b"{\"fails\":true}")));
    assert_eq!(host.next(), format!("failed {id} unfit: it does not want to"));
    let id = host.put(FromHost::Create(Payload::Bytes(b"{}")));
    assert_eq!(host.next(), format!("created {id}"));
    host.ends();
}

#[test]
fn an_initialize_that_asks_is_answered() {
    let mut host = Host::start::<Fake>(Limits::default());
    host.open();
    let id = host.put(FromHost::Create(Payload::Bytes(b"{\"asks\":true}")));
    let asked = host.until("emit");
    assert!(asked.ends_with("Request of 0 init:asks 1"), "{asked}");
    host.report(&asked, &[(OutcomeKind::REPLIED, "2")]);
    assert_eq!(host.next(), format!("created {id}"));
    host.ends();
}

#[test]
fn tasks_end_before_the_host_hears_that_they_have() {
    let mut host = live();
    let id = host.call("task", "1");
    assert_eq!(host.next(), format!("no_reply {id}"));
    let id = host.put(FromHost::Detach);
    assert_eq!(host.next(), format!("no_reply {id}"));
    assert!(DROPPED.lock().unwrap().contains(&"task"));
    let id = host.call("task", "1");
    assert!(host.next().starts_with(&format!("failed {id} ")));
    host.ends();
}

#[test]
fn state_is_given_read_and_restored_by_its_version() {
    let mut host = live();
    host.call("set", "[1,2]");
    host.next();
    let id = host.put(FromHost::Snapshot { version: 1 });
    assert_eq!(host.next(), format!("reply {id} [1,2]"));
    let restore = |state: &'static [u8]| ksi_worker_protocol::Restore {
        version: 1,
        state: Payload::Bytes(state),
    };
    let id = host.put(FromHost::ReadBack(restore(b"[1")));
    assert!(host.next().starts_with(&format!("failed {id} ")));
    let id = host.put(FromHost::Restore(restore(b"{\"x\":3}")));
    assert_eq!(host.next(), format!("no_reply {id}"));
    let id = host.put(FromHost::Snapshot { version: 1 });
    assert_eq!(host.next(), format!("reply {id} {{\"x\":3}}"));
    host.ends();
}

#[test]
fn a_shutdown_ends_calls_and_drops_the_instance_before_it_is_answered() {
    let mut host = Host::live::<Fake>(json!({"noticed": true}), Limits::default());
    let asks = host.call("asks", "1");
    host.until("emit");
    let id = host.put(FromHost::Shutdown);
    assert!(host.until("failed").starts_with(&format!("failed {asks} cancelled")));
    assert_eq!(host.until("bye"), format!("bye {id}"));
    assert!(DROPPED.lock().unwrap().contains(&"instance"));
    host.has_ended().unwrap();
}

#[test]
fn the_end_of_the_socket_is_the_end_and_so_is_what_is_no_frame() {
    let host = live();
    host.hangs_up().unwrap();
    let host = live();
    let error = host.sends_nonsense().unwrap_err();
    assert!(error.contains("a host sends no frames of kind 0"), "{error}");
}

#[test]
fn what_the_host_must_not_wait_for_is_answered_before_there_is_an_instance() {
    let mut host = Host::start::<Fake>(Limits::default());
    let ping = host.put(FromHost::Ping);
    assert_eq!(host.until("pong"), format!("pong {ping}"));
    host.open();
    let id = host.call("echo", "1");
    assert!(host.next().starts_with(&format!("failed {id} no_instance: ")));
    host.ends();
}

#[test]
fn limits_that_cannot_be_read_are_no_reason_to_do_without() {
    let mut host = Host::start::<Fake>(Limits::default());
    let id = host.put_open(json!({"memory": []}));
    let failed = host.until("failed");
    assert!(failed.starts_with(&format!("failed {id} sandbox: ")), "{failed}");
    assert!(host.has_ended().is_err());
}
