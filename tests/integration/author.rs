//! What an author does: a crate of their own, from what they were shown.

use std::fs;

use serde_json::json;

use crate::kit::{Library, OutsideCrate, TestHost, workspace};

#[test]
fn the_example_works_copied_out_of_the_workspace() {
    let source = fs::read_to_string(workspace().join("examples/hello/src/lib.rs")).unwrap();
    let package = OutsideCrate::new("copied", &source);
    let host = TestHost::builder().start();
    host.drop_in("copied.so", &Library(package.build(&[])));
    host.until_live("copied", 1);
    let mut watcher = host.client();
    watcher.subscribe(&["greet:done"]);
    let greeting = host.client().emit("greet:request", json!({"name": "you"}));
    assert_eq!(greeting, json!({"text": "Hello, you!", "count": 1}));
    assert_eq!(watcher.push_of("greet:done"), greeting);
}

/// The README shows a plugin in a block of Rust, and the `ksi emit` that calls it. Both are taken as they stand.
#[test]
fn the_plugin_in_the_readme_builds_outside_the_workspace_and_answers_as_it_says() {
    let readme = fs::read_to_string(workspace().join("README.md")).unwrap();
    let blocks = readme.split("```rust\n").skip(1).filter_map(|rest| rest.split("```").next());
    let source = blocks.into_iter().find(|block| block.contains("#[plugin")).expect("a plugin");
    let package = OutsideCrate::new("shown", source);
    let host = TestHost::builder().start();
    host.drop_in("shown.so", &Library(package.build(&[])));
    let module = host.until_live("shown", 1);
    let events = module["events"].as_array().unwrap();
    let shown = readme.lines().filter_map(|line| {
        let mut words = line.trim().trim_start_matches("$ ").strip_prefix("ksi emit ")?.splitn(2, ' ');
        let (event, rest) = (words.next()?, words.next().unwrap_or("{}"));
        events.contains(&json!(event)).then(|| (event, rest.trim_matches('\'')))
    });
    let (event, payload) = shown.into_iter().next().expect("a `ksi emit` of an event of this plugin");
    let answer = host.ksi(&["emit", event, payload]).ok();
    assert!(serde_json::from_str::<serde_json::Value>(&answer).unwrap().is_object(), "{answer}");
}
