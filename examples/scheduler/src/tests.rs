use ksi_harness::Harness;

use super::*;

fn start() -> Harness {
    Harness::start::<Scheduler>()
}

/// A later generation with the state of this one, `later` than it.
fn successor(old: &Harness, later: Duration) -> Harness {
    let (version, mut saved) = old.snapshot().unwrap();
    // The calendar of a test goes on by what the harness lets pass: of two, each by its own. So
    // what is planned comes nearer in place of that.
    for entry in saved["entries"].as_object_mut().unwrap().values_mut() {
        entry["due_ms"] = json!(entry["due_ms"].as_u64().unwrap() - later.as_millis() as u64);
    }
    Harness::setup::<Scheduler>().restore(version, saved).start().unwrap()
}

fn in_ms(plugin: &Harness, id: &str, wait: u64) {
    let asked = json!({"id": id, "event": "tea:ready", "data": {"cup": id}, "in_ms": wait});
    assert!(plugin.emit("schedule:at", asked).is_ok());
}

fn emitted(plugin: &Harness) -> Vec<Value> {
    plugin.emitted_of("tea:ready")
}

#[test]
fn an_event_comes_at_its_time_once_and_not_before() {
    let plugin = start();
    in_ms(&plugin, "late", 5_000);
    in_ms(&plugin, "soon", 1_000);
    plugin.advance(Duration::from_millis(990));
    assert!(emitted(&plugin).is_empty());
    plugin.advance(Duration::from_millis(20));
    assert_eq!(emitted(&plugin), [json!({"cup": "soon"})]);
    plugin.advance(Duration::from_secs(60));
    assert_eq!(emitted(&plugin), [json!({"cup": "soon"}), json!({"cup": "late"})]);
    assert_eq!(plugin.emit("schedule:list", json!({})).results()[0]["entries"], json!({}));
}

#[test]
fn an_event_comes_again_and_again_until_it_is_cancelled() {
    let plugin = start();
    let every = json!({"id": "a", "event": "tea:ready", "every_ms": 1_000});
    assert!(plugin.emit("schedule:every", every).is_ok());
    plugin.advance(Duration::from_millis(3_500));
    assert_eq!(emitted(&plugin).len(), 3);
    assert_eq!(plugin.emit("schedule:cancel", json!({"id": "a"})).results(), [json!(true)]);
    assert_eq!(plugin.emit("schedule:cancel", json!({"id": "a"})).results(), [json!(false)]);
    plugin.advance(Duration::from_secs(10));
    assert_eq!(emitted(&plugin).len(), 3);
}

#[test]
fn a_thousand_repetitions_are_no_chain_of_events() {
    let plugin = start();
    let every = json!({"id": "a", "event": "tea:ready", "every_ms": 10});
    assert!(plugin.emit("schedule:every", every).is_ok());
    plugin.advance(Duration::from_secs(10));
    assert!(emitted(&plugin).len() >= 999, "{}", emitted(&plugin).len());
}

#[test]
fn what_is_planned_is_kept_by_the_next_generation() {
    let old = start();
    in_ms(&old, "a", 5_000);
    let new = successor(&old, Duration::from_secs(4));
    new.advance(Duration::from_millis(900));
    assert!(emitted(&new).is_empty());
    new.advance(Duration::from_millis(200));
    assert_eq!(emitted(&new), [json!({"cup": "a"})]);
}

#[test]
fn what_was_due_while_nobody_was_there_comes_once_and_then_in_its_rhythm() {
    let old = start();
    in_ms(&old, "once", 5_000);
    let every = json!({"id": "again", "event": "tea:ready", "data": "again", "every_ms": 1_000});
    assert!(old.emit("schedule:every", every).is_ok());
    let new = successor(&old, Duration::from_millis(60_500));
    // It is live a moment later.
    new.advance(Duration::from_millis(100));
    assert_eq!(emitted(&new), [json!("again"), json!({"cup": "once"})]);
    new.advance(Duration::from_millis(1_000));
    assert_eq!(emitted(&new).len(), 3);
}

#[test]
fn what_is_out_of_bounds_is_refused_with_the_bound() {
    let config = json!({"max_entries": 1, "max_data_bytes": 10});
    let plugin = Harness::with_config::<Scheduler>(config).unwrap();
    let asked = |id: &str, event: &str, data: &str, every: u64| {
        let every =
            Every { id: id.into(), event: event.into(), data: data.into(), every_ms: every };
        plugin.request::<Entry>(every).map_err(|error| error.code().to_owned())
    };
    assert_eq!(asked("a", "a:b", "", 9).unwrap_err(), "too_often");
    assert_eq!(asked("a", "a:b", "0123456789", 10).unwrap_err(), "too_large");
    assert!(asked("a", "no name", "", 10).is_err());
    assert!(asked("a", "a:b", "", 10).is_ok());
    assert!(asked("a", "a:c", "", 10).is_ok(), "it takes the place of the one before");
    assert_eq!(asked("b", "a:b", "", 10).unwrap_err(), "too_many");
}
