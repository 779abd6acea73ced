//! What a plugin asks its host for.

use ksi_plugin_api::json;
use ksi_worker_protocol::{FromHost, OutcomeKind, life::Limits};

use super::{fake::Fake, kit::Host, live};

#[test]
fn an_event_is_emitted_in_the_name_of_its_call_and_the_call_goes_on_with_the_report() {
    let mut host = live();
    let id = host.call("asks", "{\"b\":2}");
    let asked = host.next();
    assert!(asked.ends_with(&format!("Request of {id} other:asked {{\"b\":2}}")), "{asked}");
    host.report(&asked, &[(OutcomeKind::REPLIED, "[7]")]);
    assert_eq!(host.next(), format!("reply {id} [7]"));
    let id = host.call("says", "1");
    let asked = host.next();
    let options = format!("Emit of {id} other:told {{}} a=b timeout 7 depth 2");
    assert!(asked.ends_with(&options), "{asked}");
    host.report(&asked, &[(OutcomeKind::REPLIED, "1"), (OutcomeKind::CRASHED, "")]);
    let reply = host.next();
    assert!(reply.contains("Replied") && reply.contains("Crashed"), "{reply}");
    host.ends();
}

#[test]
fn what_is_refused_without_the_host_never_reaches_it() {
    let limits = Limits { payload: 100, ..Limits::default() };
    let mut host = Host::live::<Fake>(json!({}), limits);
    let id = host.call("sends", "101");
    let failed = host.next();
    assert!(failed.starts_with(&format!("failed {id} ")), "{failed}");
    assert!(failed.contains("limits.payload_bytes"), "{failed}");
    let id = host.call("sends", "5");
    assert_eq!(host.next(), format!("emit {} Send of {id} other:sent \"xxxxx\"", host.last()));
    assert_eq!(host.next(), format!("no_reply {id}"));
    host.ends();
}

#[test]
fn a_refusal_that_comes_later_is_a_line_of_the_log() {
    let mut host = live();
    host.call("sends", "5");
    let sent = host.until("emit");
    host.until("no_reply");
    let number = sent.split(' ').nth(1).unwrap().parse().unwrap();
    host.answer(number, FromHost::Refused { code: 3, text: "the queue is full" });
    let line = host.next();
    assert!(line.starts_with("log 2 ") && line.ends_with("the queue is full"), "{line}");
    host.ends();
}

#[test]
fn a_subscription_is_called_by_the_number_that_it_came_with() {
    let mut host = live();
    let id = host.call("subscribes", "[\"a:*\"]");
    let asked = host.next();
    let mut words = asked.split(' ');
    assert_eq!((words.next(), words.nth(1)), (Some("subscribe"), Some("4294967296")), "{asked}");
    assert!(asked.ends_with("a:* 0 0 false"), "{asked}");
    assert_eq!(host.next(), format!("no_reply {id}"));
    let id = host.call_number(1 << 32, "7");
    assert_eq!(host.next(), format!("reply {id} [7]"));
    let id = host.call("subscribes", "[\"not a pattern\"]");
    assert!(host.next().starts_with(&format!("failed {id} ")));
    host.ends();
}

#[test]
fn subscriptions_have_the_bound_that_the_host_gave() {
    let limits = Limits { subscriptions: 2, ..Limits::default() };
    let mut host = Host::live::<Fake>(json!({}), limits);
    let id = host.call("subscribes", "[\"a:a\",\"a:b\",\"a:c\"]");
    assert!(host.next().starts_with("subscribe ") && host.next().starts_with("subscribe "));
    let failed = host.next();
    assert!(failed.starts_with(&format!("failed {id} ")), "{failed}");
    assert!(failed.contains("limits.subscriptions"), "{failed}");
    host.ends();
}

#[test]
fn a_watch_shows_what_comes_and_says_what_it_has_missed() {
    let mut host = live();
    let id = host.call("watches", "2");
    let watch = host.next();
    assert!(watch.ends_with("2 a:* b:c"), "{watch}");
    let (mut call, number) = (id, watch.split(' ').nth(1).unwrap().parse().unwrap());
    host.show(number, "a:one");
    host.answer(number, FromHost::Watched(ksi_worker_protocol::Watched::Missed(4)));
    let reply = host.until("reply");
    assert_eq!(reply, format!("reply {call} [\"a:one\",\"missed 4\"]"));
    assert_eq!(host.until("unwatch"), format!("unwatch {number}"));
    // The end of the plugin.
    call = host.call("watches", "2");
    host.until("watch");
    let detach = host.put(FromHost::Detach);
    assert_eq!(host.until("reply"), format!("reply {call} []"));
    assert_eq!(host.until("no_reply"), format!("no_reply {detach}"));
    let id = host.call("watches", "2");
    let failed = host.until("failed");
    assert!(failed.starts_with(&format!("failed {id} ")) && failed.contains("retired"), "{failed}");
    host.ends();
}

#[test]
fn resources_are_asked_for_from_the_reading_thread_and_come_as_descriptors() {
    let mut host = live();
    let id = host.call("kept", "1");
    let keep = host.next();
    assert!(keep.starts_with("keep ") && keep.ends_with(" pair"), "{keep}");
    let kept = host.descriptor();
    host.answer_to(&keep, FromHost::Done);
    let asked = host.next();
    assert!(asked.ends_with(" pair"), "{asked}");
    host.answer_to(&asked, FromHost::Descriptor(kept));
    let stop = host.next();
    assert!(stop.starts_with("stop_keeping "), "{stop}");
    host.answer_to(&stop, FromHost::Done);
    let other = host.next();
    host.answer_to(&other, FromHost::Nothing);
    assert_eq!(host.next(), format!("reply {id} \"hello true true\""));
    host.ends();
}
