//! Events and replies that cross between libraries as Rust values: that they do, who gets JSON
//! instead, and that nothing is lost while their libraries are replaced.

use std::{
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
};

use serde_json::{Value, json};

use crate::kit::{
    Ends, Library, TestHost, error_of, isolated,
    lanes::{ask, by_pointer, leaves, reading, until_heard, with},
};

#[test]
fn handlers_in_other_libraries_see_the_very_value_that_was_emitted() {
    let host = reading();
    host.drop_in("gamma.so", &Library::lanes("gamma", &["reads"]));
    host.until_live("gamma", 1);
    let answer = ask(&host, "alpha:note", "a note");
    let seen = answer["seen"].as_array().unwrap();
    assert_eq!(seen.len(), 2, "{answer:#}");
    for one in seen {
        assert_eq!((&one["text"], &one["number"]), (&json!("a note"), &json!(6)));
        assert_eq!(one["text_at"], answer["text_at"], "it is the emitter's own text");
    }
    assert_eq!(seen[0]["note"], seen[1]["note"], "one value serves both");
}

#[test]
fn of_an_event_that_is_lent_the_handlers_see_one_copy() {
    let host = reading();
    host.drop_in("gamma.so", &Library::lanes("gamma", &["reads"]));
    host.until_live("gamma", 1);
    let answer = ask(&host, "alpha:lend", "a note");
    let seen = answer["seen"].as_array().unwrap();
    assert_ne!(seen[0]["text_at"], answer["text_at"]);
    assert_eq!((&seen[0]["text_at"], &seen[0]["note"]), (&seen[1]["text_at"], &seen[1]["note"]));
    assert_eq!((&seen[0]["text"], &seen[1]["text"]), (&json!("a note"), &json!("a note")));
}

#[test]
fn each_handler_gets_the_event_as_it_can_take_it() {
    let host = with(&["reads", "taken", "stray"]);
    let answer = ask(&host, "alpha:note", "a note");
    let seen = answer["seen"].as_array().unwrap();
    let by: Vec<&Value> = seen.iter().map(|one| &one["by"]).collect();
    assert_eq!(by, ["reads", "taken", "stray"], "in the order of their declaration");
    for one in seen {
        assert_eq!((&one["text"], &one["number"]), (&json!("a note"), &json!(6)), "equal data");
        let same = one["text_at"] == answer["text_at"];
        let reads = one["by"] == "reads" && by_pointer();
        assert_eq!(same, reads, "a copy, and what was made of JSON, lie elsewhere");
    }
    assert_eq!(answer["json"], answer["seen"], "replies read as JSON say the same");
}

/// How an event gets to a handler by what `module:inspect` says of both plugins.
#[track_caller]
fn said(host: &TestHost, event: &str, handler: &str) -> (Value, Value) {
    let of = |plugin: &str| {
        let inspected = host.client().emit("module:inspect", json!({"module_name": plugin}));
        let exchanges = inspected["exchanges"].as_array().unwrap().clone();
        let is_it = |it: &Value| {
            it["event"] == event
                && it["emitter"] == "alpha"
                && it["module"] == "bravo"
                && it["handler"] == handler
        };
        exchanges.into_iter().find(is_it)
    };
    let sides = (of("alpha"), of("bravo"));
    assert_eq!(sides.0, sides.1, "both plugins say the same");
    let exchange = sides.0.unwrap_or_else(|| panic!("nothing is said of {handler}"));
    (exchange["form"].clone(), exchange["why"].clone())
}

#[test]
fn what_is_said_of_values_and_json_is_what_handlers_get() {
    let host = with(&["reads", "taken", "stray"]);
    let answer = ask(&host, "alpha:note", "a note");
    let expect = |as_value: bool, why: &str| match (by_pointer(), as_value) {
        (false, _) => (json!("json"), json!("process")),
        (true, true) => (json!("value"), json!(why)),
        (true, false) => (json!("json"), json!(why)),
    };
    let same = expect(true, "same_definition");
    assert_eq!(said(&host, "lanes:note", "reads_note"), same);
    assert_eq!(said(&host, "lanes:note", "taken_note"), same);
    assert_eq!(said(&host, "lanes:note", "stray_note"), expect(false, "other_type"));
    let seen = &answer["seen"][0];
    assert_eq!(
        (&seen["by"], seen["text_at"] == answer["text_at"]),
        (&json!("reads"), by_pointer())
    );
    let shown = host.ksi(&["inspect", "alpha"]).ok();
    let line = shown.lines().find(|line| line.contains("bravo.reads_note")).unwrap();
    let words = if by_pointer() { "both mean the same by" } else { "a process of its own" };
    assert!(line.contains(words), "{line}");
    let host = with(&["holds"]);
    assert_eq!(said(&host, "lanes:json", "holds_json"), expect(false, "sent_as_json"));
}

#[test]
fn handlers_that_are_subscribed_at_run_time_take_values_too() {
    let host = with(&[]);
    host.client().emit("bravo:subscribe", json!({}));
    let answer = ask(&host, "alpha:note", "a note");
    assert_eq!(
        (&answer["seen"][0]["by"], &answer["seen"][0]["text"]),
        (&json!("subscribed"), &json!("a note"))
    );
    if by_pointer() {
        assert_eq!(ask(&host, "alpha:request_grid", ""), 9, "which JSON could not bring");
    }
}

#[test]
fn replies_come_back_as_values_and_to_another_definition_as_json() {
    let host = reading();
    assert_eq!(ask(&host, "alpha:sum", ""), true, "JSON has nothing for what is no number");
    ask(&host, "alpha:sum_outside", "");
    until_heard(&host, "alpha", &["NaN"]);
    assert_eq!(ask(&host, "alpha:request", "a note")["text"], "a note");
    assert_eq!(ask(&host, "alpha:request_other", "a note"), "a note");
    assert_eq!(ask(&host, "alpha:request_grid", ""), 90, "a reply that cannot become JSON");
}

#[test]
fn what_cannot_become_json_fails_for_those_who_need_that_and_for_nobody_else() {
    let host = with(&["reads", "stray"]);
    let mut watcher = host.client();
    watcher.subscribe(&["lanes:*", "alpha:stats"]);
    let answer = ask(&host, "alpha:grid", "");
    assert_eq!(answer["values"]["Ok"], json!([90]), "{answer:#}");
    assert_eq!(answer["json"], json!([]));
    let outcomes = answer["outcomes"].as_array().unwrap();
    assert_eq!(outcomes.len(), 2);
    for (outcome, words) in outcomes.iter().zip(["invalid_reply", "encode"]) {
        let how = outcome[1].as_str().unwrap();
        let told = how.starts_with("Failed") && how.contains(words);
        assert!(told && how.contains("key must be a string"), "{how}");
    }
    let reply = host.client().reply("alpha:reply_grid", json!({}));
    assert_eq!(reply["failed"], true, "{reply:#}");
    assert!(error_of(&reply).contains("cannot become JSON"), "{reply:#}");
    assert_eq!(ask(&host, "alpha:note", "after it")["seen"].as_array().unwrap().len(), 2);
    assert_eq!(watcher.push_of("lanes:note")["text"], "after it", "the watcher goes on");
    host.process.told("those who watch it do not see it");
    assert_eq!(host.module("bravo")["counts"]["failed"], 1, "{:#}", host.module("bravo"));
}

#[test]
fn a_value_that_is_too_large_as_json_is_so_only_for_those_who_need_json() {
    let host = TestHost::builder()
        .plugin("alpha.so", &Library::lanes("alpha", &[]))
        .plugin("bravo.so", &Library::lanes("bravo", &["reads"]))
        .plugin("gamma.so", &Library::lanes("gamma", &["stray"]))
        .config("[limits]\npayload_bytes = 4096")
        .start();
    let long = "\u{1}".repeat(600);
    assert_eq!(ask(&host, "alpha:note", &long)["seen"].as_array().unwrap().len(), 2);
    // Within the limit as it was asked for, and beyond it with the note's other field.
    let long = format!("{}{}", "\u{1}".repeat(670), "x".repeat(60));
    let answer = ask(&host, "alpha:note", &long);
    assert_eq!(answer["seen"].as_array().unwrap().len(), 1, "{answer:#}");
    assert_eq!(answer["seen"][0]["by"], "reads");
    assert_eq!(host.module("gamma")["counts"]["failed"], 1);
}

#[test]
fn whoever_else_sees_the_event_sees_its_json() {
    let host = reading();
    let mut watcher = host.client();
    watcher.subscribe(&["lanes:*"]);
    let mut waiting = host.client();
    let waits = waiting.begin("bravo:watch", json!({}));
    host.until_waiting("bravo", 1);
    let answer = ask(&host, "alpha:note", "a note");
    let same = answer["seen"][0]["text_at"] == answer["text_at"];
    assert_eq!(same, by_pointer(), "the handler sees the value");
    assert_eq!(watcher.push_of("lanes:note"), json!({"text": "a note", "number": 6}));
    assert_eq!(waiting.end(&waits)["data"], "a note");
    let seen = host.client().emit("lanes:note", json!({"text": "of a client", "number": 1}));
    assert_eq!((&seen["text"], &seen["number"]), (&json!("of a client"), &json!(1)));
    // A handler of the host's own.
    let answer = ask(&host, "alpha:unload", "bravo");
    assert_eq!((&answer["name"], &answer["status"]), (&json!("bravo"), &json!("unloaded")));
    leaves(&host, "bravo", 1);
}

#[test]
fn emitters_and_handlers_of_values_are_replaced_under_load() {
    const ROUNDS: usize = 8;
    let mut libraries = [
        ("alpha", Library::lanes("alpha", &[])),
        ("bravo", Library::lanes_with_state("bravo", &["reads"])),
        ("gamma", Library::lanes("gamma", &["taken"])),
    ];
    let host = TestHost::builder()
        .plugin("alpha.so", &libraries[0].1)
        .plugin("bravo.so", &libraries[1].1)
        .plugin("gamma.so", &libraries[2].1)
        .start();
    let done = AtomicBool::new(false);
    let answered: u64 = thread::scope(|scope| {
        let ends = Ends(&done);
        let clients: Vec<_> = (0..3)
            .map(|number| {
                let (host, done) = (&host, &done);
                isolated::spawn_in_test(scope, move || answers_until(host, number, done))
            })
            .collect();
        for version in 2..2 + ROUNDS {
            for (name, library) in &mut libraries {
                library.lanes_version(version);
                host.drop_in(&format!("{name}.so"), library);
                host.until_live(name, version as u64);
            }
        }
        drop(ends);
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    assert!(answered > 100, "{answered}");
    let stats = host.client().emit("bravo:stats", json!({}));
    assert_eq!(stats["counted"], answered, "each note was read once");
    for (name, _) in &libraries {
        host.until_unmapped(name);
    }
    assert_eq!(host.resources().libraries.len(), libraries.len());
}

/// Asks for notes without a pause, and checks every answer; how many there were.
fn answers_until(host: &TestHost, number: usize, done: &AtomicBool) -> u64 {
    let (mut client, mut count) = (host.client(), 0);
    while !done.load(SeqCst) {
        let text = format!("note {count} of client {number}");
        let answer = client.emit("alpha:note", json!({"text": text}));
        let seen = answer["seen"].as_array().unwrap();
        assert_eq!(seen.len(), 2, "{answer:#}");
        assert!(seen.iter().all(|one| one["text"] == text), "{answer:#}");
        assert_eq!(seen[0]["text_at"] == answer["text_at"], by_pointer(), "{answer:#}");
        assert_ne!(seen[1]["text_at"], answer["text_at"], "{answer:#}");
        if by_pointer() {
            assert_eq!(client.emit("alpha:sum", json!({})), true);
        }
        count += 1;
    }
    count
}
