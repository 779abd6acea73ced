//! A process ends while something else is going on with its plugin: it is replaced, gone back from,
//! started again, or the host stops.

use std::{fs, path::Path};

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use super::{ALL, increment, process};
use crate::kit::{Library, TestHost, counters, until};

/// Takes what there is as often as something has changed.
const ON_CHANGE: &str = "checkpoint = \"on_change\"\n";

/// The configuration of counters that write down each `initialize` of theirs.
fn noted(log: &Path) -> String {
    format!("[plugin.counter]\ninit_log = {log:?}\n")
}

/// Waits until a checkpoint has what so many calls have done.
fn until_taken(host: &TestHost, calls: u64) {
    host.until_module("a checkpoint has all of it", "counter", |module| {
        module["residence"]["checkpoint"]["calls"].as_u64() >= Some(calls)
    });
}

/// Waits until so many have begun, outside of trials.
fn until_initializes(log: &Path, times: usize) {
    let begun = || fs::read_to_string(log).unwrap_or_default().lines().count();
    until("it is initialized", begun, |begun| *begun == times);
}

#[test]
fn a_version_that_gets_ready_while_the_process_before_it_is_killed_begins_with_its_checkpoint() {
    let builder = TestHost::builder();
    let log = builder.dir().join("log");
    let builder = builder.config(&format!("{ALL}{ON_CHANGE}{}", noted(&log)));
    let host = builder.plugin("counter.so", &Library::counter(1)).start();
    let (mut client, mut watcher) = (host.client(), host.client());
    watcher.subscribe(&["module:*"]);
    for _ in 0..3 {
        increment(&mut client);
    }
    until_taken(&host, 3);
    let before = process(&host, "counter");
    host.drop_in("counter.so", &Library::counter(2).does("init=slow"));
    until_initializes(&log, 2);
    kill_process(before, Signal::KILL).unwrap();
    let told = watcher.push_of("module:reloaded");
    assert_eq!(told["state"], "kept", "{told}");
    let module = host.until_version("counter", "2.0.0");
    assert_eq!(module["last_error"], Value::Null);
    assert_eq!(counters(&mut client).get("a"), Some(&3));
}

#[test]
fn going_back_from_a_version_whose_process_is_killed_meanwhile_begins_with_its_checkpoint() {
    let builder = TestHost::builder();
    let log = builder.dir().join("log");
    let config = format!("{ALL}{ON_CHANGE}[reload]\nmin_calls = 5\n{}", noted(&log));
    let first = Library::counter(1).does("init=slow");
    let host = builder.config(&config).plugin("counter.so", &first).start();
    let (mut client, mut watcher) = (host.client(), host.client());
    watcher.subscribe(&["module:*"]);
    increment(&mut client);
    host.drop_in("counter.so", &Library::counter(2).does("calls=fail"));
    host.until_version("counter", "2.0.0");
    client.emit("counter:again", json!({"name": "a", "more": 2}));
    assert_eq!(counters(&mut client).get("a"), Some(&4));
    until_taken(&host, 3);
    // Enough of them to go back.
    for _ in 0..20 {
        client.begin("counter:increment", json!({"name": "a"}));
    }
    until_initializes(&log, 3);
    kill_process(process(&host, "counter"), Signal::KILL).unwrap();
    let told = watcher.push_of("module:rolled_back");
    assert_eq!((&told["state"], &told["lost"]), (&json!("kept"), &Value::Null), "{told}");
    host.until_version("counter", "1.0.0");
    assert_eq!(counters(&mut host.client()).get("a"), Some(&4));
}
