//! A plugin may ask for a process of its own, and the operator decides.

use std::{fs, process::Command};

use serde_json::Value;

use super::{increment, process};
use crate::kit::{HostBuilder, Library, TestHost, artifacts, counters};

/// A counter that asks for a process.
fn asks(version: usize) -> Library {
    Library::counter(version).with(r#""isolated":false"#, r#""isolated": true"#)
}

fn host(config: &str) -> HostBuilder {
    TestHost::builder().config(config).plugin("counter.so", &asks(1))
}

#[test]
fn a_plugin_that_asks_for_a_process_has_one_where_the_operator_says_nothing() {
    let host = host("").plugin("chaos.so", &Library::chaos()).start();
    process(&host, "counter");
    assert_eq!(host.module("counter")["not_isolated"], Value::Null);
    let other = host.module("chaos");
    assert_eq!((&other["residence"], &other["not_isolated"]), (&Value::Null, &Value::Null));
    assert_eq!(increment(&mut host.client())["value"], 1);
    let shown = host.ksi(&["inspect", "counter"]).ok();
    assert!(shown.contains("asks for    a process of its own"), "{shown}");
    let file = host.file("counter.so");
    let shown = host.ksi(&["inspect", file.to_str().unwrap()]).ok();
    assert!(shown.contains("asks for    a process of its own"), "{shown}");
}

#[test]
fn an_operator_who_says_none_is_obeyed_and_shown_who_asked() {
    let host = host("[isolation]\ndefault = \"none\"\n").start();
    let module = host.module("counter");
    assert_eq!(module["residence"], Value::Null, "{module}");
    let reason = "the operator has it live in the host's (isolation.default, \
                  isolation.plugins.counter.mode)";
    assert_eq!(module["not_isolated"], reason);
    let told = format!("asks for a process of its own, and has none: {reason}");
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    for command in [&["list"][..], &["inspect", "counter"]] {
        let shown = words(&host.ksi(command).ok());
        assert!(shown.contains(&told), "{command:?}: {shown}");
    }
    host.process.told("it asks for a process of its own, and has none");
    // He changes his mind, and the plugin moves with its state.
    increment(&mut host.client());
    fs::write(host.dir().join("ksi.toml"), "[isolation]\ndefault = \"asked\"\n").unwrap();
    host.ksi(&["config", "reload"]).ok();
    let reason = "it gets one when it is replaced (`ksi reload counter`)";
    assert_eq!(host.module("counter")["not_isolated"], reason);
    host.ksi(&["reload", "counter"]).ok();
    host.until_live("counter", 2);
    process(&host, "counter");
    assert_eq!(counters(&mut host.client()).get("a"), Some(&1));
    assert_eq!(host.module("counter")["not_isolated"], Value::Null);
}

#[test]
fn a_version_that_begins_to_ask_moves_into_a_process_with_its_state() {
    let host = TestHost::builder().plugin("counter.so", &Library::counter(1)).start();
    increment(&mut host.client());
    host.drop_in("counter.so", &asks(2));
    host.until_version("counter", "2.0.0");
    process(&host, "counter");
    assert_eq!(counters(&mut host.client()).get("a"), Some(&1));
}

#[test]
fn what_the_configuration_says_of_those_who_ask_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let shown = |toml: &str| {
        let config = folder.path().join("ksi.toml");
        fs::write(&config, toml).unwrap();
        let mut ksi = Command::new(artifacts().ksi());
        let ksi = ksi.args(["config", "isolation", "parser"]).arg("--config").arg(config);
        String::from_utf8(ksi.output().unwrap().stdout).unwrap()
    };
    assert!(shown("").starts_with("parser: in a process of its own if asked for"), "{}", shown(""));
    let none = shown("[isolation]\ndefault = \"none\"\n");
    assert_eq!(none.trim(), "parser: in the host's process");
}
