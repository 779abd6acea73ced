//! A process ends while something else is going on with its plugin: it is replaced, gone back from,
//! started again, or the host stops.

use std::{fs, path::Path, time::Instant};

use ksi_wire::module::ModuleState;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{
    ALL, assert_balanced, between::is_stopped, counter, increment, process, until_restarted,
};
use crate::kit::{Client, Library, PATIENCE, States, TestHost, children, counters, until};

/// Takes what there is as often as something has changed.
const ON_CHANGE: &str = "checkpoint = \"on_change\"\n";

/// The configuration of counters that write down each `initialize` of theirs, a slow one of which
/// lasts as long as the other file is there.
fn noted(log: &Path, slow: &Path) -> String {
    format!("[plugin.counter]\ninit_log = {log:?}\nslow_while = {slow:?}\n")
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
    let (log, slow) = (builder.dir().join("log"), builder.dir().join("slow"));
    let builder = builder.config(&format!("{ALL}{ON_CHANGE}{}", noted(&log, &slow)));
    let host = builder.plugin("counter.so", &Library::counter(1)).start();
    let (mut client, mut watcher) = (host.client(), host.client());
    watcher.subscribe(&["module:*"]);
    for _ in 0..3 {
        increment(&mut client);
    }
    until_taken(&host, 3);
    let before = process(&host, "counter");
    fs::write(&slow, "").unwrap();
    host.drop_in("counter.so", &Library::counter(2).does("init=slow"));
    until_initializes(&log, 2);
    kill_process(before, Signal::KILL).unwrap();
    watcher.push_of("module:worker_down");
    fs::remove_file(&slow).unwrap();
    let told = watcher.push_of("module:reloaded");
    assert_eq!(told["state"], "kept", "{told}");
    let module = host.until_version("counter", "2.0.0");
    assert_eq!(module["last_error"], Value::Null);
    assert_eq!(counters(&mut client).get("a"), Some(&3));
}

#[test]
fn going_back_from_a_version_whose_process_is_killed_meanwhile_begins_with_its_checkpoint() {
    let builder = TestHost::builder();
    let (log, slow) = (builder.dir().join("log"), builder.dir().join("slow"));
    let config = format!("{ALL}{ON_CHANGE}[reload]\nmin_calls = 5\n{}", noted(&log, &slow));
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
    fs::write(&slow, "").unwrap();
    // Enough of them to go back.
    for _ in 0..20 {
        client.begin("counter:increment", json!({"name": "a"}));
    }
    until_initializes(&log, 3);
    kill_process(process(&host, "counter"), Signal::KILL).unwrap();
    watcher.push_of("module:worker_down");
    fs::remove_file(&slow).unwrap();
    let told = watcher.push_of("module:rolled_back");
    assert_eq!((&told["state"], &told["lost"]), (&json!("kept"), &Value::Null), "{told}");
    host.until_version("counter", "1.0.0");
    assert_eq!(counters(&mut host.client()).get("a"), Some(&4));
}

#[test]
fn a_version_whose_process_is_killed_while_it_is_gone_back_to_is_gone_back_to_all_the_same() {
    let builder = TestHost::builder();
    let (log, slow) = (builder.dir().join("log"), builder.dir().join("slow"));
    let config = format!("{ALL}{ON_CHANGE}[reload]\nmin_calls = 5\n{}", noted(&log, &slow));
    let first = Library::counter(1).does("init=slow");
    let host = builder.config(&config).plugin("counter.so", &first).start();
    let (mut client, mut watcher) = (host.client(), host.client());
    watcher.subscribe(&["module:*"]);
    increment(&mut client);
    host.drop_in("counter.so", &Library::counter(2).does("calls=fail"));
    host.until_version("counter", "2.0.0");
    let bad = process(&host, "counter");
    // Its first process has ended.
    host.until_unmapped("counter");
    fs::write(&slow, "").unwrap();
    for _ in 0..20 {
        client.begin("counter:increment", json!({"name": "a"}));
    }
    until_initializes(&log, 3);
    let has_it_open = |pid: &u32| {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        maps.contains("/counter-") && i32::try_from(*pid) != Ok(bad.as_raw_nonzero().get())
    };
    let tried = || children(host.process.id()).into_iter().find(has_it_open);
    let tried = until("it has a process", tried, Option::is_some).unwrap();
    kill_process(Pid::from_raw(tried.try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
    fs::remove_file(&slow).unwrap();
    watcher.push_of("module:rolled_back");
    host.until_version("counter", "1.0.0");
    assert_eq!(counters(&mut host.client()).get("a"), Some(&1));
}

#[test]
fn what_going_back_has_given_up_does_not_come_back_when_the_process_ends_right_after() {
    let state = "[state]\ndir = 'state'\ninterval = '20ms'\n";
    // It hands its state over, and gives none that could be kept.
    let first = Library::counter(1).keeping("[2,1]", "[2,1]").does("snapshot_2=fail");
    let builder = TestHost::builder().config(&format!("{ALL}{ON_CHANGE}{state}"));
    let host = builder.plugin("counter.so", &first).start();
    let (mut client, mut watcher) = (host.client(), host.client());
    watcher.subscribe(&["module:*"]);
    increment(&mut client);
    host.drop_in("counter.so", &Library::counter(2).keeping("[3]", "[3,1]"));
    host.until_version("counter", "2.0.0");
    increment(&mut client);
    let is_kept = |module: &Value| module["persisted"]["version"] == 3;
    host.until_module("its state is on the disk", "counter", is_kept);
    kill_process(process(&host, "counter"), Signal::KILL).unwrap();
    let told = watcher.push_of("module:rolled_back");
    assert_eq!(told["state"], "as_of_the_swap", "{told}");
    host.until_version("counter", "1.0.0");
    kill_process(process(&host, "counter"), Signal::KILL).unwrap();
    until_restarted(&host, "counter", 1);
    assert_eq!(counters(&mut client).get("a"), Some(&1));
}

/// Calls that are more than the socket of a process takes that does not read.
fn more_than_it_takes(host: &TestHost, client: &mut Client, pid: Pid) -> (Vec<String>, String) {
    kill_process(pid, Signal::STOP).unwrap();
    until("it reads no more", || is_stopped(pid), |stopped| *stopped);
    let long = "x".repeat(200_000);
    let asked: Vec<_> = (0..40).map(|_| client.begin("chaos:echo", json!(long))).collect();
    let in_flight = || host.module("chaos")["counts"]["in_flight"].clone();
    until("all are there", in_flight, |it| *it == 40);
    (asked, long)
}

/// How many of them ended with their process, how many were refused, and how many were answered.
#[track_caller]
fn ends(client: &mut Client, (asked, long): &(Vec<String>, String)) -> (usize, usize, usize) {
    let (mut crashed, mut refused, mut echoed) = (0, 0, 0);
    for id in asked {
        let reply = client.end(id);
        match reply["data"]["code"].as_str() {
            Some("crashed") => crashed += 1,
            Some(_) => refused += 1,
            None => {
                assert_eq!(reply["data"].as_str(), Some(&**long));
                echoed += 1;
            }
        }
    }
    (crashed, refused, echoed)
}

#[test]
fn a_host_that_stops_does_not_wait_for_calls_that_never_got_to_a_process_which_is_gone() {
    let config = format!("{ALL}[timeouts]\ndrain = \"60s\"\n");
    let host = TestHost::builder().config(&config).plugin("chaos.so", &Library::chaos()).start();
    let pid = process(&host, "chaos");
    let (mut client, mut other) = (host.client(), host.client());
    let asked = more_than_it_takes(&host, &mut client, pid);
    host.process.signal(Signal::TERM);
    let stage = || other.emit("system:health", json!({}))["stopping"]["stage"].clone();
    until("it is stopping", stage, |stage| *stage == "draining");
    let began = Instant::now();
    kill_process(pid, Signal::KILL).unwrap();
    let (crashed, refused, echoed) = ends(&mut client, &asked);
    assert!(crashed > 0 && refused > 0 && echoed == 0, "{crashed} {refused} {echoed}");
    host.has_stopped();
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
}

#[test]
fn calls_that_never_got_to_a_process_of_a_replaced_version_are_answered_by_the_next_one() {
    let host = TestHost::builder().config(ALL).plugin("chaos.so", &Library::chaos()).start();
    let pid = process(&host, "chaos");
    let mut client = host.client();
    let asked = more_than_it_takes(&host, &mut client, pid);
    host.drop_in("chaos.so", &Library::chaos().version(2));
    host.until_live("chaos", 2);
    let began = Instant::now();
    kill_process(pid, Signal::KILL).unwrap();
    let (crashed, refused, echoed) = ends(&mut client, &asked);
    assert!(crashed > 0 && refused == 0 && echoed > 0, "{crashed} {refused} {echoed}");
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    assert_balanced(&host, "chaos");
}

#[test]
fn another_version_does_not_wait_for_a_process_of_this_one_that_does_not_get_ready() {
    let builder = TestHost::builder();
    let ready = builder.dir().join("ready");
    fs::write(&ready, "").unwrap();
    let config = format!(
        "{ALL}[timeouts]\ninit = \"60s\"\nhold = \"60s\"\n[plugin.chaos]\ninit = \"file\"\n\
         init_version = \"chaos-version-0001\"\ninit_file = {ready:?}\n"
    );
    let host = builder.config(&config).plugin("chaos.so", &Library::chaos().version(1)).start();
    fs::remove_file(&ready).unwrap();
    kill_process(process(&host, "chaos"), Signal::KILL).unwrap();
    host.until_module("it is gone", "chaos", |it| it.state() == ModuleState::Restarting);
    let mut client = host.client();
    let waits = client.begin("chaos:echo", json!(7));
    let began = Instant::now();
    host.drop_in("chaos.so", &Library::chaos().version(2));
    let module = host.until_live("chaos", 2);
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    assert_eq!(module["residence"]["restarts"], 0, "{module}");
    assert_eq!(client.end(&waits)["data"], 7);
}

#[test]
fn what_was_refused_is_still_told_when_the_live_version_has_another_process() {
    let host = counter("");
    host.drop_in("counter.so", &Library(b"no library".to_vec()));
    let refused = |module: &Value| module["last_error"].as_str().is_some();
    let before = host.until_module("its new file is refused", "counter", refused);
    kill_process(process(&host, "counter"), Signal::KILL).unwrap();
    let after = until_restarted(&host, "counter", 1);
    assert_eq!(after["last_error"], before["last_error"]);
}
