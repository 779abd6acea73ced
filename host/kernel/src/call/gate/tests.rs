use std::task;

use ksi_abi::Counted;

use super::*;
use crate::event::{EventIds, NewEvent, Payload};
use crate::memory::Budget;

fn event(parent: Option<&Counted<Event>>, ids: &EventIds) -> Counted<Event> {
    let new = NewEvent::valid("a:b", Payload::from_json_bytes(b"{}".to_vec()));
    Counted::new(Event::new(new, parent.cloned(), ids, 0))
}

fn pending<F: Future + Unpin>(future: &mut F) -> bool {
    let mut cx = task::Context::from_waker(task::Waker::noop());
    pin!(future).poll(&mut cx).is_pending()
}

fn gate(limit: usize) -> Arc<Gate> {
    Gate::new(limit, Budget::new(1 << 20).limited(10_000))
}

#[tokio::test]
async fn what_is_inside_ends_and_what_is_new_waits() {
    let (gate, ids) = (gate(9), EventIds::new());
    let inside = gate.enter(&event(None, &ids)).unwrap();
    let hold = gate.hold();
    let outside = gate.enter(&event(None, &ids)).unwrap_err();
    let mut waiting = Box::pin(outside.wait());
    assert!(pending(&mut waiting));
    assert_eq!(gate.waiting(), 1);
    let mut quiet = Box::pin(hold.quiet());
    assert!(pending(&mut quiet));
    drop(inside);
    assert_eq!(quiet.await, Ok(()));
    hold.moved();
    waiting.await;
    assert_eq!(gate.waiting(), 0);
    assert!(gate.enter(&event(None, &ids)).is_err(), "nothing enters what was left");
}

#[tokio::test]
async fn what_comes_from_inside_is_let_in_over_any_number_of_events() {
    let (gate, ids) = (gate(9), EventIds::new());
    let first = event(None, &ids);
    let inside = gate.enter(&first).unwrap();
    let hold = gate.hold();
    let far = event(Some(&event(Some(&event(Some(&first), &ids)), &ids)), &ids);
    let again = gate.enter(&far).expect("it comes from inside");
    drop(inside);
    let mut quiet = Box::pin(hold.quiet());
    assert!(pending(&mut quiet));
    drop(again);
    assert_eq!(quiet.await, Ok(()));
    assert!(gate.enter(&far).is_err(), "nothing enters once it is quiet");
    let late = event(Some(&first), &ids);
    assert!(gate.enter(&late).is_err(), "its call has ended, so nobody waits for it");
}

#[tokio::test]
async fn gates_that_are_held_together_let_in_what_comes_from_one_another_and_are_quiet_at_once() {
    let (one, other, ids) = (gate(9), gate(9), EventIds::new());
    let (first, second) = (event(None, &ids), event(None, &ids));
    let (in_one, in_other) = (one.enter(&first).unwrap(), other.enter(&second).unwrap());
    let [hold, other_hold] = Gate::hold_together(&[one.clone(), other.clone()]).try_into().unwrap();
    assert!(one.enter(&event(None, &ids)).is_err());
    let mut quiet = Box::pin(hold.quiet());
    assert!(pending(&mut quiet));
    drop(in_one);
    assert!(pending(&mut quiet), "something is inside the other one");
    // Each way: what is inside the other gate calls into this one, which is empty.
    let back = one.enter(&event(Some(&second), &ids)).expect("it comes from the other one");
    drop(in_other);
    assert!(pending(&mut quiet));
    drop(back);
    assert_eq!(quiet.await, Ok(()));
    assert!(other.enter(&event(Some(&second), &ids)).is_err(), "both are quiet");
    assert_eq!(other_hold.quiet().await, Ok(()));
    drop(hold);
    assert!(one.enter(&event(None, &ids)).is_ok(), "it goes on by itself");
    assert!(other.enter(&event(None, &ids)).is_err());
    drop(other_hold);
    let outside = event(None, &ids);
    let inside = other.enter(&outside).unwrap();
    let _alone = one.hold();
    assert!(one.enter(&event(Some(&outside), &ids)).is_err(), "they are together no more");
    drop(inside);
}

#[tokio::test]
async fn a_hold_that_is_given_up_lets_everything_go_on() {
    let (gate, ids) = (gate(9), EventIds::new());
    let hold = gate.hold();
    let outside = gate.enter(&event(None, &ids)).unwrap_err();
    drop(hold);
    outside.wait().await;
    assert!(gate.enter(&event(None, &ids)).is_ok());
}

#[tokio::test]
async fn a_gate_that_two_hold_opens_with_the_last_of_them() {
    let (gate, ids) = (gate(9), EventIds::new());
    let (first, second) = (gate.hold(), gate.hold());
    let outside = gate.enter(&event(None, &ids)).unwrap_err();
    let mut waiting = Box::pin(outside.wait());
    drop(first);
    assert!(pending(&mut waiting), "the other one holds it still");
    drop(second);
    waiting.await;
    let (third, fourth) = (gate.hold(), gate.hold());
    third.moved();
    drop(fourth);
    drop(gate.hold());
    assert!(gate.enter(&event(None, &ids)).is_err(), "nothing enters what was left");
}

#[tokio::test]
async fn a_hold_ends_when_as_many_events_wait_as_may() {
    let (gate, ids) = (gate(2), EventIds::new());
    let _inside = gate.enter(&event(None, &ids)).unwrap();
    let hold = gate.hold();
    let waiting: Vec<_> = (0..2).map(|_| gate.enter(&event(None, &ids)).unwrap_err()).collect();
    let mut waits: Vec<_> = waiting.iter().map(|outside| Box::pin(outside.wait())).collect();
    let mut quiet = Box::pin(hold.quiet());
    assert!(pending(&mut waits[0]));
    assert!(pending(&mut quiet));
    assert!(pending(&mut waits[1]));
    assert_eq!(quiet.await, Err(Overfull::Events(2)));
    let snapshot = hold.while_waiting(std::future::pending::<()>());
    assert_eq!(snapshot.await, Err(Overfull::Events(2)));
    assert_eq!(hold.while_waiting(async { 7 }).await, Ok(7), "what is done is done");
}

#[tokio::test]
async fn a_hold_ends_when_what_waits_is_too_large() {
    let (gate, ids) = (gate(100), EventIds::new());
    let _inside = gate.enter(&event(None, &ids)).unwrap();
    let hold = gate.hold();
    let payload = Payload::from_json_bytes(vec![b' '; 6_000]);
    let large = NewEvent::valid("a:b", payload);
    let outside = |_| gate.enter(&Event::new(large.clone(), None, &ids, 0)).unwrap_err();
    let waiting: Vec<_> = (0..2).map(outside).collect();
    let mut waits: Vec<_> = waiting.iter().map(|outside| Box::pin(outside.wait())).collect();
    let mut quiet = Box::pin(hold.quiet());
    assert!(pending(&mut waits[0]) && pending(&mut quiet));
    assert!(pending(&mut waits[1]));
    assert_eq!(quiet.await, Err(Overfull::Bytes(10_000)));
    drop(waits);
    assert_eq!(gate.waiting.account.bytes(), 0);
}
