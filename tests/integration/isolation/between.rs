//! Between two processes of a plugin: what waits, for how long, and who may take its place.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use ksi_wire::module::ModuleState;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{
    ALL, assert_balanced, increment, isolated, process, until_checkpoint, until_restarted,
};
use crate::kit::{
    Client, HostBuilder, Library, PATIENCE, States, TestHost, children, counters, error_of, until,
};

/// Often enough that the next process comes after many seconds: 100 ms, doubled each time.
const OFTEN: u64 = 8;
const PAUSE: Duration = Duration::from_millis(12_800);

/// Ends processes of a plugin until the wait for the next one is long. The last one is alive.
fn until_it_ends_often(host: &TestHost, name: &str) {
    for restarts in 1..=OFTEN {
        kill_process(process(host, name), Signal::KILL).unwrap();
        until_restarted(host, name, restarts);
    }
}

fn patient(config: &str) -> HostBuilder {
    isolated("intensity = 100\n[timeouts]\nhold = \"30s\"\n").config(config)
}

/// Whether a process is stopped by a signal.
pub(super) fn is_stopped(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}

#[test]
fn calls_that_never_got_to_a_process_hold_up_no_other_version_and_go_to_it() {
    let host = patient("").plugin("chaos.so", &Library::chaos()).start();
    until_it_ends_often(&host, "chaos");
    let pid = process(&host, "chaos");
    kill_process(pid, Signal::STOP).unwrap();
    until("it reads no more", || is_stopped(pid), |stopped| *stopped);
    let mut client = host.client();
    // More than its socket takes.
    let long = "x".repeat(200_000);
    let asked: Vec<_> = (0..40).map(|_| client.begin("chaos:echo", json!(long))).collect();
    until("all are there", || host.module("chaos")["counts"]["in_flight"].clone(), |it| *it == 40);
    kill_process(pid, Signal::KILL).unwrap();
    host.until_module("it is gone", "chaos", |it| it.state() == ModuleState::Restarting);
    let began = Instant::now();
    host.drop_in("chaos.so", &Library::chaos().version(2));
    let module = host.until_live("chaos", 2);
    assert!(began.elapsed() < PAUSE, "it did not wait for another process of the old version");
    assert_eq!(module["residence"]["restarts"], OFTEN, "{module}");
    let (mut echoed, mut crashed) = (0, 0);
    for id in &asked {
        let reply = client.end(id);
        match reply["data"]["code"].as_str() {
            Some("crashed") => crashed += 1,
            _ => {
                assert_eq!(reply["data"].as_str(), Some(&*long), "{}", error_text(&reply));
                echoed += 1;
            }
        }
    }
    assert!(echoed > 0 && crashed > 0, "{echoed} waited for the next, and {crashed} were there");
    assert_balanced(&host, "chaos");
    let counts = host.module("chaos")["counts"].clone();
    assert_eq!((&counts["in_flight"], &counts["rejected"]), (&json!(0), &json!(0)), "{counts}");
}

fn error_text(reply: &Value) -> String {
    reply.to_string().chars().take(300).collect()
}

#[test]
fn calls_that_never_got_to_a_process_go_to_the_next_one_of_the_same_version() {
    let host = isolated("").plugin("chaos.so", &Library::chaos()).start();
    let pid = process(&host, "chaos");
    kill_process(pid, Signal::STOP).unwrap();
    until("it reads no more", || is_stopped(pid), |stopped| *stopped);
    let mut client = host.client();
    let long = "x".repeat(200_000);
    let asked: Vec<_> = (0..40).map(|_| client.begin("chaos:echo", json!(long))).collect();
    until("all are there", || host.module("chaos")["counts"]["in_flight"].clone(), |it| *it == 40);
    kill_process(pid, Signal::KILL).unwrap();
    let replies: Vec<_> = asked.iter().map(|id| client.end(id)).collect();
    let is_crashed = |reply: &&Value| reply["data"]["code"] == "crashed";
    let crashed = replies.iter().filter(is_crashed).count();
    let echoed = replies.iter().filter(|reply| reply["data"] == long.as_str()).count();
    assert!(crashed > 0 && echoed > 0, "{crashed} {echoed}");
    assert_eq!(crashed + echoed, 40);
    until_restarted(&host, "chaos", 1);
    assert_balanced(&host, "chaos");
}

#[test]
fn an_exclusive_plugin_is_replaced_by_a_good_file_while_it_waits_for_its_next_process() {
    let exclusive = "[reload.plugins.counter]\nexclusive = true\n";
    let config = format!(
        "{ALL}intensity = 100\ncheckpoint = \"on_change\"\n[timeouts]\nhold = \"30s\"\n{exclusive}"
    );
    let host = TestHost::builder().config(&config).plugin("counter.so", &Library::counter(1));
    let host = host.start();
    let mut client = host.client();
    for _ in 0..3 {
        increment(&mut client);
    }
    until_checkpoint(&host, "counter", 3);
    until_it_ends_often(&host, "counter");
    assert_eq!(counters(&mut client).get("a"), Some(&3), "each has what the one before had");
    kill_process(process(&host, "counter"), Signal::KILL).unwrap();
    host.until_module("it is gone", "counter", |it| it.state() == ModuleState::Restarting);
    let began = Instant::now();
    host.drop_in("counter.so", &Library::counter(2));
    let module = host.until_version("counter", "2.0.0");
    assert!(began.elapsed() < PAUSE, "it did not wait for another process of the old version");
    assert_eq!(
        (&module["residence"]["restarts"], &module["last_error"]),
        (&json!(OFTEN), &json!(null))
    );
    assert_eq!(counters(&mut client).get("a"), Some(&3));
}

/// A host whose chaos plugin does not get ready as long as a file is not there, which is there now.
fn unready(config: &str) -> (TestHost, PathBuf) {
    let builder = TestHost::builder();
    let ready = builder.dir().join("ready");
    fs::write(&ready, "").unwrap();
    let config = format!("{ALL}{config}\n[plugin.chaos]\ninit = \"file\"\ninit_file = {ready:?}");
    (builder.config(&config).plugin("chaos.so", &Library::chaos()).start(), ready)
}

#[test]
fn no_more_events_wait_for_a_process_that_does_not_get_ready_than_may() {
    let config = "[limits]\nheld_events = 4\n[timeouts]\nhold = \"60s\"\ninit = \"60s\"";
    let (host, ready) = unready(config);
    let mut client = host.client();
    fs::remove_file(&ready).unwrap();
    kill_process(process(&host, "chaos"), Signal::KILL).unwrap();
    host.until_module("it is gone", "chaos", |it| it.state() == ModuleState::Restarting);
    let asked: Vec<_> = (0..10).map(|_| client.begin("chaos:echo", json!(1))).collect();
    for id in &asked {
        let reply = client.end(id);
        let error = error_of(&reply);
        assert!(error.contains("the plugin is down, and started again"), "{reply}");
    }
    fs::write(&ready, "").unwrap();
    until_restarted(&host, "chaos", 1);
    assert_eq!(client.emit("chaos:echo", json!(2)), 2);
}

#[test]
fn events_wait_for_a_process_that_does_not_get_ready_no_longer_than_they_may() {
    let (host, ready) = unready("[timeouts]\nhold = \"300ms\"\ninit = \"60s\"");
    let mut client = host.client();
    fs::remove_file(&ready).unwrap();
    kill_process(process(&host, "chaos"), Signal::KILL).unwrap();
    host.until_module("it is gone", "chaos", |it| it.state() == ModuleState::Restarting);
    let reply = client.reply("chaos:echo", json!(1));
    assert!(error_of(&reply).contains("the plugin is down, and started again"), "{reply}");
    fs::write(&ready, "").unwrap();
    until_restarted(&host, "chaos", 1);
    assert_eq!(client.emit("chaos:echo", json!(2)), 2);
}

#[test]
fn going_back_from_a_version_whose_process_ended_begins_with_the_last_checkpoint_of_it() {
    let config = format!("{ALL}checkpoint = \"on_change\"\n");
    let host = TestHost::builder().config(&config).plugin("counter.so", &Library::counter(1));
    let host = host.start();
    let (mut client, mut watcher) = (host.client(), host.client());
    watcher.subscribe(&["module:*"]);
    for _ in 0..3 {
        increment(&mut client);
    }
    host.drop_in("counter.so", &Library::counter(2));
    host.until_version("counter", "2.0.0");
    for value in 4..=5 {
        assert_eq!(increment(&mut client)["value"], value);
    }
    until_checkpoint(&host, "counter", 2);
    kill_process(process(&host, "counter"), Signal::KILL).unwrap();
    let told = watcher.push_of("module:rolled_back");
    assert_eq!(told["state"], "kept", "{told}");
    host.until_version("counter", "1.0.0");
    assert_eq!(counters(&mut client).get("a"), Some(&5));
}

#[test]
fn a_checkpoint_is_of_a_version_too_that_the_one_before_can_read_as_long_as_there_is_a_way_back() {
    let config = format!("{ALL}checkpoint = \"on_change\"\n");
    let builder = TestHost::builder().config(&config);
    let first = Library::counter(1).keeping("[1]", "[1]");
    let host = builder.plugin("counter.so", &first).start();
    let (mut client, mut watcher) = (host.client(), host.client());
    watcher.subscribe(&["module:*"]);
    increment(&mut client);
    host.drop_in("counter.so", &Library::counter(2).keeping("[2,1]", "[2,1]"));
    host.until_version("counter", "2.0.0");
    assert_eq!(increment(&mut client)["value"], 2);
    until_checkpoint(&host, "counter", 1);
    kill_process(process(&host, "counter"), Signal::KILL).unwrap();
    assert_eq!(watcher.push_of("module:rolled_back")["state"], "kept");
    host.until_version("counter", "1.0.0");
    assert_eq!(counters(&mut client).get("a"), Some(&2));
}

#[test]
fn a_file_whose_own_process_is_killed_while_it_is_opened_there_is_tried_again() {
    let host =
        isolated("[recovery]\nfirst = \"20ms\"\n").plugin("counter.so", &Library::counter(1));
    let host = host.start();
    let (mut client, mut watcher) = (host.client(), host.client());
    watcher.subscribe(&["module:reloaded", "module:reload_failed", "module:rolled_back"]);
    increment(&mut client);
    // On a busy machine it may be live before it is found, and another version is killed then.
    for number in 2..10 {
        if !killed_while_it_is_opened(&host, &mut watcher, number) {
            continue;
        }
        let module = host.until_version("counter", &format!("{number}.0.0"));
        assert_eq!(counters(&mut client).get("a"), Some(&1), "{module}");
        let log = host.process.told("it is tried again");
        let told = log.lines().find(|line| line.contains("it is tried again")).unwrap();
        assert!(told.contains("SIGKILL"), "{told}");
        return;
    }
    panic!("all of them were live before they were found");
}

/// Puts a version into the folder and kills its process. Whether it was not live by then; if it
/// was, the host has gone back from it.
#[track_caller]
fn killed_while_it_is_opened(host: &TestHost, watcher: &mut Client, number: usize) -> bool {
    let live = process(host, "counter");
    let is_new = |pid: &u32| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.contains("__ksi-worker") && *pid != live.as_raw_nonzero().get().unsigned_abs()
    };
    host.until_unmapped("counter");
    let own = || children(host.process.id());
    until("the live one has the only process", own, |own| !own.iter().any(is_new));
    host.drop_in("counter.so", &Library::counter(number));
    let began = Instant::now();
    let new = loop {
        // Without a pause: it has opened the file within some milliseconds.
        let found = own().into_iter().find(is_new);
        match found.and_then(|pid| Pid::from_raw(pid.try_into().unwrap())) {
            Some(new) if kill_process(new, Signal::STOP).is_ok() => break new,
            _ => assert!(began.elapsed() < PATIENCE, "there is a process for the new file"),
        }
    };
    until("it does nothing more", || is_stopped(new), |stopped| *stopped);
    kill_process(new, Signal::KILL).unwrap();
    let is_tried_again = watcher.push()["event"] == "module:reload_failed";
    if !is_tried_again {
        watcher.push_of("module:rolled_back");
    }
    is_tried_again
}

#[test]
fn a_process_is_started_again_after_the_ends_that_the_operator_says_and_no_others() {
    for (config, how) in
        [("", "exit"), ("restart = \"never\"\n", "abort"), ("restart = \"never\"\n", "exit")]
    {
        let host = isolated(config).plugin("chaos.so", &Library::chaos()).start();
        let mut watcher = host.client();
        watcher.subscribe(&["module:unloaded", "module:worker_restarted"]);
        let reply = host.client().reply("chaos:crash", json!({"how": how}));
        assert_eq!(reply["data"]["code"], "crashed", "{reply}");
        let told = watcher.push();
        assert_eq!(told["event"], "module:unloaded", "{told}");
        let reason = told["data"]["reason"].as_str().unwrap();
        assert!(reason.contains("it is not started again (isolation.restart)"), "{reason}");
        // Until somebody says so.
        host.ksi(&["load", host.file("chaos.so").to_str().unwrap()]).ok();
        assert_eq!(host.client().emit("chaos:echo", json!(how)), how);
    }
    let host = isolated("restart = \"always\"\n").plugin("chaos.so", &Library::chaos()).start();
    host.client().reply("chaos:crash", json!({"how": "exit"}));
    until_restarted(&host, "chaos", 1);
}

#[test]
fn what_a_plugin_had_last_is_on_the_disk_when_its_processes_end_too_often() {
    let config = format!(
        "{ALL}checkpoint = \"10ms\"\nintensity = 1\n[state]\ndir = 'state'\ninterval = '1h'\n"
    );
    let builder = TestHost::builder().config(&config).plugin("counter.so", &Library::counter(1));
    let host = builder.start();
    let (mut client, mut watcher) = (host.client(), host.client());
    watcher.subscribe(&["module:unloaded"]);
    for _ in 0..4 {
        increment(&mut client);
    }
    until_checkpoint(&host, "counter", 4);
    kill_process(process(&host, "counter"), Signal::KILL).unwrap();
    until_restarted(&host, "counter", 1);
    assert_eq!(counters(&mut client).get("a"), Some(&4));
    kill_process(process(&host, "counter"), Signal::KILL).unwrap();
    watcher.push_of("module:unloaded");
    let host = host.crash().start();
    assert_eq!(counters(&mut host.client()).get("a"), Some(&4));
}
