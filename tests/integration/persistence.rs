//! State that outlives its host: kept in files, and there again at the next start.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use ksi_wire::module::ModuleState;
use serde_json::{Value, json};

use crate::kit::{Client, HostBuilder, Library, States, TestHost, counters, until};

const HERE: &str = "[state]\ndir = 'state'";
const OFTEN: &str = "[state]\ndir = 'state'\ninterval = '20ms'";

#[track_caller]
fn increment(client: &mut Client, times: u64) -> u64 {
    let one = |client: &mut Client| client.emit("counter:increment", json!({"name": "a"}));
    let last = (0..times).map(|_| one(client)["value"].as_u64().unwrap()).last();
    last.unwrap()
}

#[track_caller]
fn value(host: &TestHost) -> Option<u64> {
    counters(&mut host.client()).get("a").copied()
}

fn kept(builder: &HostBuilder, kind: &str) -> PathBuf {
    builder.dir().join("state").join(format!("counter.{kind}"))
}

/// A host that has counted so far in two runs, and was stopped: it leaves the last snapshot and the
/// one before.
#[track_caller]
fn stopped_after(first: u64, second: u64) -> HostBuilder {
    let builder = TestHost::builder().plugin("counter.so", &Library::counter(1)).config(HERE);
    let host = builder.start();
    increment(&mut host.client(), first);
    let host = host.stopped().start();
    increment(&mut host.client(), second);
    host.stopped()
}

#[test]
fn state_is_there_after_an_orderly_stop_and_a_start() {
    let host = stopped_after(3, 4).start();
    assert_eq!(value(&host), Some(7));
    let module = host.module("counter");
    assert_eq!((&module["generation"], &module["keeps_state"]), (&json!(1), &json!(3)));
    let persisted = &module["persisted"];
    assert_eq!(persisted["version"], 3);
    assert!(persisted["bytes"].as_u64() > Some(10) && persisted["written"].as_f64() > Some(1e9));
    let inspect = host.ksi(&["inspect", "counter"]).ok();
    assert!(inspect.contains("version 3"), "{inspect}");
}

#[test]
fn what_a_call_counts_that_ends_while_the_host_stops_is_kept() {
    let builder = TestHost::builder().plugin("counter.so", &Library::counter(1)).config(HERE);
    let host = builder.start();
    let mut client = host.client();
    let slow = client.begin("counter:increment", json!({"name": "a", "millis": 250}));
    host.until_module("it runs", "counter", |module| module["counts"]["in_flight"] == 1);
    let builder = host.stopped();
    assert_eq!(client.end(&slow)["data"]["value"], 1);
    assert_eq!(value(&builder.start()), Some(1));
}

#[test]
fn state_is_kept_at_an_interval_so_that_a_crash_costs_no_more_than_that() {
    let builder = TestHost::builder().plugin("counter.so", &Library::counter(1)).config(OFTEN);
    let host = builder.start();
    assert_eq!(increment(&mut host.client(), 5), 5);
    let file = host.dir().join("state/counter.snapshot");
    let read = || fs::read_to_string(&file).unwrap_or_default();
    until("it is on the disk", read, |text| text.contains(r#"["a",5]"#));
    assert_eq!(value(&host.crash().start()), Some(5));
}

#[test]
fn a_host_that_is_killed_at_any_moment_comes_back_with_a_snapshot_that_was_whole() {
    const ROUNDS: u64 = 12;
    let mut builder = TestHost::builder()
        .plugin("counter.so", &Library::counter(1))
        .config("[state]\ndir = 'state'\ninterval = '1ms'\n[plugin.counter]\npadding = 300000");
    let mut last = 0;
    for round in 0..ROUNDS {
        let host = builder.start();
        let mut client = host.client();
        let module = host.module("counter");
        assert_eq!(module.state(), ModuleState::Live, "{module:#}");
        let found = value(&host).unwrap_or_default();
        // Nothing is older than what a host had begun with, and nothing is there that was never
        // acknowledged.
        assert!((round == 0 && found == 0) || found <= last, "{found} of {last}");
        let start = Instant::now();
        loop {
            last = increment(&mut client, 1);
            if start.elapsed() >= Duration::from_millis(15 + 11 * round) {
                break;
            }
        }
        assert!(last > found, "it went on from there");
        builder = host.crash();
        let next = builder.start();
        let after = value(&next).unwrap_or_default();
        assert!(after >= found && after <= last, "{after} is between {found} and {last}");
        assert_eq!(next.module("counter")["last_error"], Value::Null);
        last = after.max(last);
        builder = next.crash();
    }
}

#[test]
fn a_plugin_that_is_unloaded_and_loaded_again_at_once_has_its_state() {
    let host = TestHost::builder().plugin("counter.so", &Library::counter(1)).config(HERE).start();
    let mut client = host.client();
    for round in 1..=10 {
        assert_eq!(increment(&mut client, 1), round);
        client.emit("module:unload", json!({"module_name": "counter"}));
        let loaded = client.emit("module:load", json!({"path": host.file("counter.so")}));
        assert_eq!(loaded["generation"], round + 1);
    }
    host.until_unmapped("counter");
    assert_eq!(host.resources().libraries.len(), 1);
}

#[test]
fn a_plugin_whose_call_still_runs_when_it_is_unloaded_has_its_state_when_it_is_loaded_again() {
    let host = TestHost::builder().plugin("counter.so", &Library::counter(1)).config(HERE).start();
    let (mut caller, mut client) = (host.client(), host.client());
    let slow = caller.begin("counter:increment", json!({"name": "a", "millis": 300}));
    host.until_module("it runs", "counter", |module| module["counts"]["in_flight"] == 1);
    client.emit("module:unload", json!({"module_name": "counter"}));
    client.emit("module:load", json!({"path": host.file("counter.so")}));
    assert_eq!(caller.end(&slow)["data"]["value"], 1);
    assert_eq!(value(&host), Some(1), "it waited for what the other one still counted");
}

#[test]
fn the_state_plugin_keeps_its_values_over_a_replacement_a_restart_and_a_crash() {
    let mut builder =
        TestHost::builder().plugin("state.so", &Library::of("ksi-plugin-state")).config(OFTEN);
    let get = json!({"namespace": "n", "key": "k"});
    for round in 0..3 {
        let host = builder.start();
        let mut client = host.client();
        let found = client.emit("state:get", get.clone())["value"].take();
        assert_eq!(found, if round == 0 { Value::Null } else { json!(round - 1) });
        client.emit("state:set", json!({"namespace": "n", "key": "k", "value": round}));
        client.emit("module:reload", json!({"module_name": "state"}));
        assert_eq!(client.emit("state:get", get.clone())["value"], round);
        let file = host.dir().join("state/state.snapshot");
        let mark = format!(r#""k":{round}"#);
        let read = || fs::read_to_string(&file).unwrap_or_default();
        builder = match round {
            0 => host.stopped(),
            _ => {
                until("it is on the disk", read, |text| text.contains(&mark));
                host.crash()
            }
        };
    }
}

#[test]
fn a_broken_snapshot_gives_way_to_the_one_before_and_is_kept_aside() {
    for damage in [
        |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() - 3),
        |bytes: &mut Vec<u8>| {
            let last = bytes.len() - 3;
            bytes[last] ^= 1;
        },
    ] {
        let builder = stopped_after(3, 4);
        let file = kept(&builder, "snapshot");
        let mut bytes = fs::read(&file).unwrap();
        damage(&mut bytes);
        fs::write(&file, bytes).unwrap();
        let host = builder.start();
        assert_eq!(value(&host), Some(3), "the last good one");
        host.process.told("it was started from an older snapshot");
        let builder = host.stopped();
        assert!(kept(&builder, "broken").exists(), "somebody may want to look at it");
        assert_eq!(value(&builder.start()), Some(3));
    }
}

#[test]
fn without_a_whole_snapshot_a_plugin_does_not_start_empty_and_it_says_what_to_do() {
    let builder = stopped_after(3, 4);
    for kind in ["snapshot", "previous", "good"] {
        fs::write(kept(&builder, kind), "half of").unwrap();
    }
    let host = builder.start();
    let reason = host.until_refused("counter.so");
    for words in
        ["counter.snapshot", "counter.previous", "counter.good", "`ksi state drop counter`"]
    {
        assert!(reason.contains(words), "{words}: {reason}");
    }
    for kind in ["snapshot", "previous", "good"] {
        fs::remove_file(host.dir().join(format!("state/counter.{kind}"))).unwrap();
    }
    host.client().emit("module:load", json!({"path": host.file("counter.so")}));
    assert_eq!(value(&host), None);
}

#[test]
fn a_kept_snapshot_that_is_newer_than_the_plugin_is_not_lost() {
    let builder = stopped_after(3, 4);
    let old = Library::counter(1).keeping("[2,1]", "[2,1]");
    let host = builder.plugin("counter.so", &old).start();
    let reason = host.until_refused("counter.so");
    for words in ["counter.snapshot", "of version 3", "restores [2, 1]", "ksi state drop counter"] {
        assert!(reason.contains(words), "{words}: {reason}");
    }
    host.drop_in("counter.so", &Library::counter(2));
    host.until_version("counter", "2.0.0");
    assert_eq!(value(&host), Some(7));
}

#[test]
fn an_older_kept_snapshot_is_restored() {
    let old = Library::counter(1).keeping("[1]", "[1]");
    let host = TestHost::builder().plugin("counter.so", &old).config(HERE).start();
    increment(&mut host.client(), 2);
    let host = host.stopped().plugin("counter.so", &Library::counter(2)).start();
    assert_eq!(value(&host), Some(2));
    let passed = host.client().emit("counter:values", json!({}))["passed"].take();
    assert_eq!(passed, json!(["counter-version-0002 from 1"]));
}

#[test]
fn a_restore_that_fails_at_the_start_keeps_the_snapshot() {
    for how in ["restore=fail", "restore_in_host=panic", "restore=abort"] {
        let builder = stopped_after(3, 4).plugin("counter.so", &Library::counter(2).does(how));
        let before = fs::read(kept(&builder, "snapshot")).unwrap();
        let host = builder.start();
        let reason = host.until_refused("counter.so");
        for words in ["counter.snapshot was not restored", "`ksi state drop counter`"] {
            assert!(reason.contains(words), "{how}, {words}: {reason}");
        }
        until("nothing of it stays", || host.resources().libraries, |mapped| mapped.is_empty());
        let builder = host.stopped().plugin("counter.so", &Library::counter(3));
        assert_eq!(fs::read(kept(&builder, "snapshot")).unwrap(), before, "{how}");
        assert_eq!(value(&builder.start()), Some(7), "{how}");
    }
}

#[test]
fn a_last_snapshot_that_fails_leaves_the_one_before_and_is_told() {
    let builder = stopped_after(3, 4);
    let before = fs::read(kept(&builder, "snapshot")).unwrap();
    let failing = Library::counter(2).does("snapshot=fail");
    let host = builder.plugin("counter.so", &failing).start();
    assert_eq!(increment(&mut host.client(), 1), 8);
    let mut host = host;
    host.process.signal(rustix::process::Signal::TERM);
    let ran = host.process.ended();
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("its last state is not kept"), "{}", ran.stderr);
    assert_eq!(fs::read(host.dir().join("state/counter.snapshot")).unwrap(), before);
}

#[test]
fn a_last_snapshot_that_never_ends_does_not_keep_the_host_from_its_end() {
    let host = TestHost::builder()
        .plugin("counter.so", &Library::counter(2).does("snapshot=hang"))
        .config(HERE)
        .config("[timeouts]\ndrain = '300ms'\nshutdown = '300ms'")
        .start();
    increment(&mut host.client(), 1);
    let start = Instant::now();
    let ran = host.stop();
    assert_eq!(ran.code, Some(1), "what it counted is lost");
    assert!(ran.stderr.contains("the last state of counter is not kept"), "{}", ran.stderr);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn a_host_that_is_to_keep_nothing_writes_nothing_and_starts_empty() {
    let host = TestHost::builder()
        .plugin("counter.so", &Library::counter(1))
        .config("[state]\npersist = false\ndir = 'state'")
        .start();
    increment(&mut host.client(), 2);
    assert_eq!(host.module("counter")["persisted"], Value::Null);
    let builder = host.stopped();
    assert!(!builder.dir().join("state").exists());
    assert_eq!(value(&builder.start()), None);
}

#[test]
fn what_was_kept_of_a_replaced_generation_never_comes_back() {
    let host = TestHost::builder().plugin("counter.so", &Library::counter(1)).config(OFTEN).start();
    let mut client = host.client();
    for version in 2..=12 {
        increment(&mut client, 3);
        host.drop_in("counter.so", &Library::counter(version));
        host.until_live("counter", version as u64);
    }
    let last = increment(&mut client, 1);
    assert_eq!(last, 34);
    assert_eq!(value(&host.stopped().start()), Some(last));
}

#[test]
fn a_snapshot_that_never_ends_costs_no_other_plugin_its_own() {
    let host = TestHost::builder()
        .plugin("another.so", &Library::counter(1).called("another").does("snapshot=hang"))
        .plugin("counter.so", &Library::counter(1))
        .config(OFTEN)
        .config("[timeouts]\ndrain = '300ms'\nshutdown = '300ms'")
        .start();
    for count in 1..=3 {
        increment(&mut host.client(), 1);
        let file = host.dir().join("state/counter.snapshot");
        let read = || fs::read_to_string(&file).unwrap_or_default();
        let value = format!(r#"["a",{count}]"#);
        until("it is on the disk", read, |text| text.contains(&value));
    }
    let (builder, told) = host.stopped_without_all_state();
    assert!(told.contains("the last state of another is not kept"), "{told}");
    assert_eq!(value(&builder.start()), Some(3));
}

#[test]
fn a_last_snapshot_does_not_wait_for_one_of_another_plugin() {
    let host = TestHost::builder()
        .plugin("another.so", &Library::counter(1).called("another").does("snapshot=hang"))
        .plugin("counter.so", &Library::counter(1))
        .config("[state]\ndir = 'state'\ninterval = '500ms'")
        .config("[timeouts]\ndrain = '2s'\nshutdown = '2s'")
        .start();
    // From the first interval on, a snapshot of the other one is on its way.
    let persisted = |module: &Value| module["persisted"].is_object();
    increment(&mut host.client(), 1);
    host.until_module("the first interval is over", "counter", persisted);
    assert_eq!(increment(&mut host.client(), 1), 2);
    let start = Instant::now();
    let (builder, _) = host.stopped_without_all_state();
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert_eq!(value(&builder.start()), Some(2));
}
