use serde_json::{Value, json};

use super::*;

fn plugin(json: serde_json::Value) -> Overview {
    serde_json::from_value(json).expect("a plugin as the host sends it")
}

#[test]
fn what_an_older_host_does_not_know_is_not_told() {
    let plugin = plugin(json!({"name": "hello", "state": "live"}));
    assert_eq!(state(&plugin), "live");
    let told = [quarantined(&plugin), missing(&plugin), held(&plugin), replaced(&plugin)];
    assert_eq!(told, [None, None, None, None]);
    assert_eq!((previous(&plugin), old(&plugin)), (String::new(), String::new()));
    assert!(plugin.persisted.is_none() && plugin.generation.is_none());
}

#[test]
fn a_version_on_probation_is_told_from_one_that_is_trusted() {
    let on_probation = plugin(json!({"state": "live", "on_probation": true}));
    assert_eq!(
        (state(&on_probation).as_str(), tone(&on_probation)),
        ("live (probation)", Tone::Doubtful)
    );
    let trusted = plugin(json!({"state": "live", "on_probation": false}));
    assert_eq!((state(&trusted).as_str(), tone(&trusted)), ("live", Tone::Good));
    assert_eq!(tone(&plugin(json!({"state": "waiting"}))), Tone::Doubtful);
}

#[test]
fn a_quarantine_says_why_and_when_it_is_tried_again() {
    let told = |attempts: u64, retry: serde_json::Value| {
        let quarantined = json!({"version": "0.2.0", "hash": "ab", "reason": "it panics", "attempts": attempts,
                                 "retry_in_ms": retry});
        super::quarantined(&plugin(json!({"name": "hello", "quarantined": quarantined})))
    };
    assert_eq!(
        told(1, json!(11_001)).as_deref(),
        Some("version 0.2.0: it panics; 1 attempt, the next in 12s")
    );
    assert_eq!(
        told(5, json!(null)).as_deref(),
        Some(
            "version 0.2.0: it panics; 5 attempts, none until its file changes or `ksi reload hello`"
        )
    );
}

#[test]
fn an_error_that_is_the_reason_of_the_quarantine_is_told_once() {
    let with = |reason: &str| {
        plugin(json!({"last_error": "it panics", "quarantined": {"reason": reason}}))
    };
    assert_eq!(last_error(&with("it panics")), None);
    assert_eq!(last_error(&with("it fails")).as_deref(), Some("it panics"));
}

#[test]
fn what_was_refused_says_whether_it_is_tried_again() {
    let told = |state: &str, retry: serde_json::Value| {
        let file = json!({"name": "a.so", "state": state, "file": "/p/a.so", "last_error": "it is torn",
                          "retry_in_ms": retry});
        last_error(&plugin(file))
    };
    assert_eq!(told("refused", json!(1_001)).as_deref(), Some("it is torn; tried again in 2s"));
    let never = told("refused", json!(null));
    let words = "it is torn; not tried again until it changes or `ksi load /p/a.so`";
    assert_eq!(never.as_deref(), Some(words));
    assert_eq!(told("waiting", json!(null)).as_deref(), Some("it is torn"));
    let duplicate = plugin(json!({"name": "b.so", "state": "refused", "file": "/p/b.so",
                                  "last_error": "so is a.so", "duplicate_of": "a"}));
    let words = "so is a.so; tried again when that one goes";
    assert_eq!(last_error(&duplicate).as_deref(), Some(words));
}

#[test]
fn a_snapshot_is_told_with_its_size_and_age() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
    let told = |bytes: u64, written: f64| {
        let persisted = json!({"version": 2, "bytes": bytes, "written": written});
        let persisted: Persisted = serde_json::from_value(persisted).expect("a snapshot");
        super::persisted(&persisted, now)
    };
    assert_eq!(told(812, 939.5), "version 2, 812 B, written 1m ago");
    assert_eq!(told(4_200, 999.9), "version 2, 4.1 KiB, written just now");
    assert_eq!(told(3 << 20, 2_000.0), "version 2, 3.0 MiB, written just now");
    assert_eq!(told(1 << 30, -1.0), "version 2, 1.0 GiB");
}

#[test]
fn the_state_that_another_process_would_begin_with_is_told_with_its_size_and_age() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
    let told = |residence: Value| checkpoint(&plugin(json!({"residence": residence})), now);
    let taken = json!({"bytes": 812, "calls": 120, "taken": 997.0});
    let process = told(json!({"kind": "process", "pid": 7, "checkpoint": taken}));
    assert_eq!(process.as_deref(), Some("812 B, taken 3s ago, after 120 calls"));
    assert_eq!(told(json!({"kind": "process", "pid": 7, "checkpoint": null})), None);
    assert_eq!(told(json!({"kind": "host"})), None);
}

#[test]
fn state_that_is_not_kept_is_marked_and_told_with_the_reason() {
    let trouble = json!({"reason": "the disk is full", "since": 940.2, "times": 3});
    let plugin = plugin(json!({"state": "live", "on_probation": true, "state_not_kept": trouble}));
    assert_eq!(state(&plugin), "live (probation, state not kept)");
    assert_eq!(tone(&plugin), Tone::Bad);
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
    let told = not_kept(&plugin, now);
    let expected = "not kept since 59s ago: the disk is full; 3 attempts failed";
    assert_eq!(told.as_deref(), Some(expected));
}

#[test]
fn what_is_kept_is_told_with_where_it_listens() {
    let kept = |kept: serde_json::Value| {
        let plugin = serde_json::from_value(json!({"kept_resources": kept}));
        kept_resources(&plugin.expect("a plugin as the host sends it"))
    };
    assert_eq!(kept(json!([])), None);
    let told = kept(json!([
        {"name": "127.0.0.1:0", "address": "127.0.0.1:41233"},
        {"name": "127.0.0.1:80", "address": "127.0.0.1:80"},
        {"name": "serial", "address": null},
    ]));
    assert_eq!(told.as_deref(), Some("127.0.0.1:0 (127.0.0.1:41233), 127.0.0.1:80, serial"));
}

#[test]
fn signals_are_told_with_whether_the_host_gets_them_too() {
    let plugin = plugin(json!({"signals": [
        {"signal": "SIGINT", "ignored": false, "host_too": true},
        {"signal": "SIGUSR1", "ignored": false, "host_too": false},
        {"signal": "SIGTERM", "ignored": true, "host_too": true},
    ]}));
    assert_eq!(
        signals(&plugin).as_deref(),
        Some(
            "has handlers for SIGINT (so has the host), SIGUSR1; asks to ignore SIGTERM (the host handles it)"
        )
    );
}

#[test]
fn one_is_told_from_many() {
    let plugin = plugin(json!({"held": 1, "rollbacks": 1, "reloads": 3}));
    assert_eq!(held(&plugin).as_deref(), Some("1 event waits for the hand-over of its state"));
    assert_eq!(replaced(&plugin).as_deref(), Some("1 rollback, 3 reloads"));
}
