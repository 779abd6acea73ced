//! Calls of handlers, and how they end.

use ksi_plugin_api::json;
use ksi_worker_protocol::{FromHost, OutcomeKind, life::Limits};

use super::{
    fake::{Fake, LET_GO},
    kit::Host,
    live,
};

#[test]
fn a_call_has_its_event_and_ends_in_what_the_handler_says() {
    let mut host = live();
    let id = host.call("echo", "{\"a\":1}");
    assert_eq!(host.next(), format!(r#"reply {id} [{{"a":1}},"fake:any","shop","me",3]"#));
    let id = host.call("fails", "1");
    assert_eq!(host.next(), format!("failed {id} late: too late"));
    let id = host.call("panics", "1");
    assert_eq!(host.next(), format!("panicked {id} on purpose"));
    let id = host.call("set", "5");
    assert_eq!(host.next(), format!("no_reply {id}"));
    host.ends();
}

#[test]
fn calls_that_come_together_are_answered_together() {
    let mut host = live();
    let calls: Vec<_> = (0..50).map(|_| host.call_later("echo", "1")).collect();
    host.flush();
    for id in calls {
        assert!(host.next().starts_with(&format!("reply {id} ")));
    }
    host.ends();
}

#[test]
fn a_call_that_waits_or_sleeps_goes_on() {
    let mut host = live();
    let id = host.call("sleeps", "1");
    assert_eq!(host.next(), format!("no_reply {id}"));
    let id = host.call("waits", "1");
    let wait = host.next();
    assert!(wait.ends_with("other:came 9"), "{wait}");
    host.answer_event(&wait, "other:came");
    assert_eq!(host.next(), format!("reply {id} \"other:came\""));
    host.ends();
}

#[test]
fn a_call_that_is_cancelled_ends_and_so_does_what_it_asked_for() {
    let mut host = live();
    let id = host.call("asks", "1");
    let asked = host.next();
    host.answer(id, FromHost::Cancel);
    let number = asked.split(' ').nth(1).unwrap();
    let mut ends = [host.next(), host.next()];
    ends.sort();
    assert_eq!(ends[0], format!("cancel {number}"));
    assert!(ends[1].starts_with(&format!("failed {id} cancelled: ")), "{}", ends[1]);
    host.ends();
}

#[test]
fn a_ping_and_other_calls_are_answered_while_a_handler_does_not_return() {
    let mut host = live();
    let stuck = host.call("stuck", "1");
    let ping = host.put(FromHost::Ping);
    assert_eq!(host.until("pong"), format!("pong {ping}"));
    let id = host.call("sleeps", "1");
    assert_eq!(host.until("no_reply"), format!("no_reply {id}"));
    LET_GO.get_or_init(|| ());
    assert_eq!(host.until("no_reply"), format!("no_reply {stuck}"));
    host.ends();
}

#[test]
fn a_blocking_handler_has_a_thread_of_its_own() {
    let mut host = live();
    let id = host.call_blocking("blocking", "1");
    let reply = host.next();
    assert!(reply.starts_with(&format!("reply {id} ")), "{reply}");
    assert!(!reply.contains("ksi-reader"), "{reply}");
    host.ends();
}

#[test]
fn a_context_that_outlives_its_call_is_kept_by_the_host_until_it_is_released() {
    let mut host = live();
    let id = host.call("keeps", "1");
    let mut first = [host.next(), host.next()];
    first.sort();
    assert_eq!(first[1], format!("no_reply {id} kept"));
    assert!(first[0].ends_with(&format!("Request of {id} other:later 1")), "{}", first[0]);
    host.report(&first[0], &[(OutcomeKind::REPLIED, "2")]);
    assert_eq!(host.next(), format!("release {id}"));
    let limits = Limits { kept_contexts: 0, ..Limits::default() };
    host.ends();
    // Where none may be kept, it is as one without a call.
    let mut host = Host::live::<Fake>(json!({}), limits);
    let id = host.call("keeps", "1");
    assert_eq!(host.until("no_reply"), format!("no_reply {id}"));
    host.ends();
}
