use ksi_abi::{Attribute, EmitOptions, RefusalCode};

use super::*;

fn new(name: &str) -> NewEvent {
    NewEvent::new(name, Payload::from_json_bytes(b"{}".to_vec())).unwrap()
}

#[test]
fn a_child_inherits_root_depth_deadline_and_attributes() {
    let ids = EventIds::new();
    let first = new("a:first").attribute("_agent_id", "x").timeout(Duration::from_secs(1));
    let first = Counted::new(Event::new(first, None, &ids, 0));
    let second = new("a:second").attribute("k", "v").timeout(Duration::from_secs(9));
    let second = Event::new(second, Some(first.clone()), &ids, 0);
    assert_eq!((second.root(), second.parent(), second.depth()), (first.id(), Some(first.id()), 1));
    assert_eq!(second.deadline(), first.deadline());
    assert_eq!((second.attribute("_agent_id"), second.attribute("k")), (Some("x"), Some("v")));
    assert_eq!(first.attribute("k"), None);
    assert_eq!(second.chain(), "a:first -> a:second");
}

#[test]
fn attributes_that_come_in_place_of_inherited_ones_count_once() {
    let ids = EventIds::new();
    let text = |kilobytes: usize| "x".repeat(kilobytes * 1024);
    let parent =
        |kilobytes| Event::new(new("a:b").attribute("key", &text(kilobytes)), None, &ids, 0);
    let value = text(40);
    let said = |key: &str, parent: &Event| {
        let attribute = [Attribute { key: key.into(), value: value.as_str().into() }];
        Said::of(&&EmitOptions::of(&attribute), "a:c", Some(parent)).map(drop)
    };
    assert!(said("key", &parent(40)).is_ok());
    let refusal = said("other", &parent(40)).expect_err("there are two");
    assert_eq!(refusal.code, RefusalCode::TOO_LARGE);
    let timeout = EmitOptions { timeout: 1, ..EmitOptions::of(&[]) };
    let said = Said::of(&&timeout, "a:c", Some(&parent(100)));
    assert!(said.is_ok(), "what came from outside goes on");
}

#[test]
fn a_depth_from_outside_counts() {
    let ids = EventIds::new();
    let event = Event::new(new("a:b").attribute("_event_depth", "7"), None, &ids, 0);
    assert_eq!(Event::new(new("a:c"), Some(Counted::new(event)), &ids, 0).depth(), 8);
    assert_eq!(Event::new(new("a:b").attribute("_event_depth", "x"), None, &ids, 0).depth(), 0);
}

#[test]
fn a_long_chain_is_shown_by_its_ends() {
    let ids = EventIds::new();
    let mut event = Counted::new(Event::new(new("a:start"), None, &ids, 0));
    for _ in 0..100 {
        event = Counted::new(Event::new(new("a:again"), Some(event), &ids, 0));
    }
    assert!(event.chain().starts_with("a:start -> a:again"));
    assert!(event.chain().contains("…") && event.chain().len() < 300);
}
