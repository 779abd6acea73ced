//! Plugins in processes of their own: the same file, the same promises, and an end of theirs is not
//! the host's.

mod asked;
mod between;
mod deaths;
mod groups;
mod limits;
mod meanwhile;

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    time::{Duration, Instant},
};

use ksi_wire::module::ModuleState;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::kit::{
    Client, HostBuilder, Library, PATIENCE, States, TestHost, counters, error_of,
    isolated::NOT_ISOLATED, under_load, until,
};

const ALL: &str = "[isolation]\ndefault = \"process\"\n";

fn isolated(config: &str) -> HostBuilder {
    TestHost::builder().config(ALL).config(config)
}

fn chaos(config: &str) -> TestHost {
    isolated(config).plugin("chaos.so", &Library::chaos()).start()
}

fn counter(config: &str) -> TestHost {
    isolated(config).plugin("counter.so", &Library::counter(1)).start()
}

/// The process of a plugin.
#[track_caller]
fn process(host: &TestHost, name: &str) -> Pid {
    let module = host.module(name);
    let pid = module["residence"]["pid"].as_i64().unwrap_or_else(|| panic!("no process: {module}"));
    Pid::from_raw(pid.try_into().unwrap()).unwrap()
}

/// Waits until a plugin has had so many further processes, and is live.
#[track_caller]
fn until_restarted(host: &TestHost, name: &str, times: u64) -> Value {
    host.until_module(&format!("{name} is restarted {times} times"), name, |module| {
        module.state() == ModuleState::Live && module["residence"]["restarts"] == times
    })
}

/// Waits until what the next process would begin with is of after so many calls, of the version
/// that is live.
#[track_caller]
fn until_checkpoint(host: &TestHost, name: &str, calls: u64) {
    let has = |module: &Value| module["residence"]["checkpoint"]["calls"].as_u64() >= Some(calls);
    host.until_module(&format!("a checkpoint has {calls} calls"), name, has);
}

fn increment(client: &mut Client) -> Value {
    client.emit("counter:increment", json!({"name": "a"}))
}

/// Whether a process is there, and no zombie.
fn is_there(pid: Pid) -> bool {
    let stat =
        fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// Each call that was accepted has ended in one way.
#[track_caller]
fn assert_balanced(host: &TestHost, name: &str) {
    let counts = host.module(name)["counts"].clone();
    let of = |way: &str| counts[way].as_u64().unwrap();
    let ways = ["replied", "no_reply", "failed", "panicked", "crashed", "timed_out", "rejected"];
    let ended: u64 = ways.iter().map(|way| of(way)).sum();
    assert_eq!(of("accepted"), ended + of("in_flight"), "{counts}");
}

#[test]
fn an_isolated_plugin_answers_as_any_other_and_its_library_is_in_no_process_but_its_own() {
    let host = chaos("");
    let mut client = host.client();
    assert_eq!(client.emit("chaos:echo", json!({"a": [1, null]})), json!({"a": [1, null]}));
    assert_eq!(client.emit("chaos:quiet", json!({})), json!([]));
    let failed = client.reply("chaos:fail", json!({"code": "no_stock", "message": "none left"}));
    assert_eq!(failed["data"]["code"], "no_stock", "{failed}");
    assert!(
        error_of(&client.reply("chaos:panic", json!({}))).contains("a handler panics on purpose")
    );
    let text = client.emit("chaos:big", json!({"count": 3_000_000}))["text"].clone();
    assert_eq!(text.as_str().map(str::len), Some(3_000_000));
    let module = host.module("chaos");
    let residence = &module["residence"];
    assert_eq!(residence["kind"], "process", "{module}");
    assert!(residence["resident_kib"].as_u64() > Some(500), "{residence}");
    let pid = process(&host, "chaos");
    let maps = |of: String| fs::read_to_string(format!("/proc/{of}/maps")).unwrap_or_default();
    assert!(maps(pid.as_raw_nonzero().to_string()).contains("chaos"));
    assert!(!host.maps().contains("chaos"), "the host has opened it");
    let shown = host.ksi(&["inspect", "chaos"]).ok();
    assert!(shown.contains(&format!("process {}", pid.as_raw_nonzero())), "{shown}");
    assert_balanced(&host, "chaos");
}

#[test]
fn whatever_ends_the_process_of_a_plugin_is_one_outcome_and_the_next_call_is_answered() {
    let host = chaos("period = \"1ms\"\n");
    let mut client = host.client();
    let mut restarts = 0;
    for (how, ended) in [
        ("segfault", "signal: 11 (SIGSEGV)"),
        ("abort", "signal: 6 (SIGABRT)"),
        ("panic", "signal: 6 (SIGABRT)"),
        ("overflow", "signal: 6 (SIGABRT)"),
        ("exit", "exit status: 0"),
    ] {
        if how == "exit" {
            // It went by its own will, which is no crash.
            continue;
        }
        for late in [false, true] {
            let reply = client.reply("chaos:crash", json!({"how": how, "late": late}));
            assert_eq!(reply["data"]["code"], "crashed", "{how}: {reply}");
            let error = error_of(&reply);
            assert!(error.contains(&format!("its process ended: {ended}")), "{how}: {error}");
            assert_eq!(client.emit("chaos:echo", json!(how)), json!(how), "it waited for the next");
            restarts += 1;
        }
    }
    let module = until_restarted(&host, "chaos", restarts);
    assert_eq!(
        (&module["generation"], &module["counts"]["crashed"]),
        (&json!(1), &json!(restarts))
    );
    let overflow = client.reply("chaos:crash", json!({"how": "overflow"}));
    assert!(error_of(&overflow).contains("has overflowed its stack"), "{overflow}");
    assert_balanced(&host, "chaos");
    assert!(host.ksi(&["inspect", "chaos"]).ok().contains("crashed"));
}

#[test]
fn all_calls_that_a_process_had_end_with_it_once_each() {
    let host = chaos("");
    let mut client = host.client();
    let asked: Vec<_> = (0..64).map(|_| client.begin("chaos:hang", json!({}))).collect();
    until("all are there", || host.module("chaos")["counts"]["in_flight"].clone(), |it| *it == 64);
    kill_process(process(&host, "chaos"), Signal::KILL).unwrap();
    for id in &asked {
        let reply = client.end(id);
        assert_eq!(reply["data"]["code"], "crashed", "{reply}");
        assert!(error_of(&reply).contains("signal: 9 (SIGKILL)"), "{reply}");
    }
    let module = until_restarted(&host, "chaos", 1);
    assert_eq!(module["counts"]["crashed"], 64);
    assert_balanced(&host, "chaos");
}

#[test]
fn state_is_handed_over_between_processes_under_load_and_nothing_is_lost() {
    const ROUNDS: u64 = 10;
    let host = counter("");
    let (module, acknowledged) = under_load(&host, 3, || {
        for version in 2..=ROUNDS + 1 {
            host.drop_in("counter.so", &Library::counter(version as usize));
            host.until_live("counter", version);
        }
        host.module("counter")
    });
    assert!(acknowledged > 50, "there was load: {acknowledged}");
    assert_eq!((&module["reloads"], &module["last_error"]), (&json!(ROUNDS), &Value::Null));
    let counts = &host.until_unmapped("counter")["counts"];
    assert_eq!(counts["accepted"], counts["replied"], "every event was replied to: {counts}");
}

#[test]
fn a_process_that_ended_is_followed_by_one_with_the_state_of_the_last_checkpoint() {
    let host = counter("checkpoint = \"on_change\"\n");
    let mut client = host.client();
    for value in 1..=5 {
        assert_eq!(increment(&mut client)["value"], value);
    }
    until_checkpoint(&host, "counter", 5);
    let shown = host.ksi(&["inspect", "counter"]).ok();
    assert!(shown.contains("after 5 calls"), "{shown}");
    kill_process(process(&host, "counter"), Signal::KILL).unwrap();
    until_restarted(&host, "counter", 1);
    assert_eq!(counters(&mut client).get("a"), Some(&5));
    assert_eq!(increment(&mut client)["value"], 6);
}

#[test]
fn a_version_whose_process_ends_on_probation_is_gone_back_from_within_a_second_with_its_state() {
    let host = counter("");
    let (mut client, mut watcher) = (host.client(), host.client());
    watcher.subscribe(&["module:*"]);
    for _ in 0..20 {
        increment(&mut client);
    }
    // On a busy machine one may take longer for other reasons.
    let mut took = Vec::new();
    while took.is_empty() || took.len() < 8 && took.iter().all(|it| *it >= Duration::from_secs(1)) {
        let version = took.len() + 2;
        host.drop_in("counter.so", &Library::counter(version));
        host.until_version("counter", &format!("{version}.0.0"));
        let began = Instant::now();
        kill_process(process(&host, "counter"), Signal::KILL).unwrap();
        let told = watcher.push_of("module:worker_down");
        assert!(told["reason"].as_str().unwrap().contains("SIGKILL"), "{told}");
        let told = watcher.push_of("module:rolled_back");
        assert!(told["reason"].as_str().unwrap().contains("SIGKILL"), "{told}");
        assert_eq!(counters(&mut client).get("a"), Some(&20));
        took.push(began.elapsed());
        let module = host.until_version("counter", "1.0.0");
        assert_eq!(module["rollbacks"], took.len());
    }
    assert!(took.iter().any(|it| *it < Duration::from_secs(1)), "{took:?}");
}

#[test]
fn a_plugin_whose_processes_end_too_often_stays_down_until_its_file_is_another() {
    let host = chaos("intensity = 2\nperiod = \"60s\"\n");
    let (mut client, mut watcher) = (host.client(), host.client());
    watcher.subscribe(&["module:worker_restarted", "module:unloaded"]);
    for _ in 0..3 {
        let reply = client.reply("chaos:crash", json!({"how": "abort"}));
        assert_eq!(reply["data"]["code"], "crashed", "{reply}");
    }
    for restarts in 1..=2 {
        assert_eq!(watcher.push_of("module:worker_restarted")["restarts"], restarts);
    }
    let told = watcher.push_of("module:unloaded");
    let reason = told["reason"].as_str().unwrap();
    assert!(reason.contains("has ended 3 times within 1m (isolation.intensity"), "{reason}");
    assert_eq!(host.module("chaos")["last_error"], *reason);
    host.drop_in("chaos.so", &Library::chaos().version(2));
    host.until_module("it is live", "chaos", |module| module.state() == ModuleState::Live);
    assert_eq!(client.emit("chaos:echo", json!(7)), 7);
}

#[test]
fn a_process_is_followed_by_the_next_while_calls_of_an_earlier_version_go_on() {
    let host = chaos("[reload]\nprobation = \"0s\"\n");
    let mut client = host.client();
    client.begin("chaos:hang", json!({}));
    until("it is there", || host.module("chaos")["counts"]["in_flight"].clone(), |it| *it == 1);
    host.drop_in("chaos.so", &Library::chaos().version(2));
    host.until_live("chaos", 2);
    kill_process(process(&host, "chaos"), Signal::KILL).unwrap();
    until_restarted(&host, "chaos", 1);
    assert_eq!(host.client().emit("chaos:echo", json!(7)), 7);
    let told = host.log_by_now();
    assert!(!told.contains("does not get ready"), "{told}");
}

#[test]
fn processes_that_do_not_get_ready_count_once_each_and_are_no_ends_of_the_plugin() {
    let builder = TestHost::builder();
    let ready = builder.dir().join("ready");
    fs::write(&ready, "").unwrap();
    let config = format!(
        "{ALL}intensity = 2\n[timeouts]\ninit = \"2s\"\n[plugin.chaos]\ninit = \"file\"\n\
         init_file = {ready:?}"
    );
    let host = builder.config(&config).plugin("chaos.so", &Library::chaos()).start();
    let mut watcher = host.client();
    // One that was not ready in time is tried again.
    host.until_module("it is live", "chaos", |module| module.state() == ModuleState::Live);
    watcher.subscribe(&["module:*"]);
    fs::remove_file(&ready).unwrap();
    kill_process(process(&host, "chaos"), Signal::KILL).unwrap();
    watcher.push_of("module:worker_down");
    let next = watcher.push();
    assert_eq!(next["event"], "module:unloaded", "{next}");
    host.process.told("does not get ready");
    let reason = next["data"]["reason"].as_str().unwrap();
    assert!(reason.contains("did not end within 2s"), "{reason}");
    assert!(reason.contains("has ended 3 times"), "{reason}");
}

#[test]
fn a_handler_that_holds_its_thread_beyond_its_time_has_its_process_ended() {
    let host = chaos("stuck = \"200ms\"\n");
    let mut client = host.client();
    let before = process(&host, "chaos");
    let late = client.reply("chaos:held", json!({}));
    assert_eq!(late["data"]["code"], "timed_out", "{late}");
    until_restarted(&host, "chaos", 1);
    assert!(!is_there(before));
    assert_eq!(client.emit("chaos:echo", json!(1)), 1);
    host.process.told("nobody waited for it any more (isolation.stuck)");
}

#[test]
fn a_killed_host_leaves_no_process_behind() {
    let host = chaos("");
    let (mut client, pid) = (host.client(), process(&host, "chaos"));
    let forked = client.emit("chaos:fork", json!({}))["process"].as_i64().unwrap();
    let forked = Pid::from_raw(forked.try_into().unwrap()).unwrap();
    // At work, so that it reads nothing.
    client.begin("chaos:block", json!({"millis": 60_000}));
    host.process.signal(Signal::KILL);
    until("they are gone", || is_there(pid) || is_there(forked), |there| !there);
}

#[test]
fn a_killed_host_takes_its_plugins_processes_along_also_when_somebody_else_holds_their_sockets() {
    let config = "[isolation.plugins.counter]\nmode = \"process\"\n";
    let builder = TestHost::builder().config(config).plugin("chaos.so", &Library::chaos());
    let host = builder.plugin("counter.so", &Library::counter(1)).start();
    let pid = process(&host, "counter");
    // A child of the host's own process, without a program: it has all that the host has open.
    let forked = host.client().emit("chaos:fork", json!({}))["process"].as_i64().unwrap();
    let forked = Pid::from_raw(forked.try_into().unwrap()).unwrap();
    host.process.signal(Signal::KILL);
    until("it is gone", || is_there(pid), |there| !there);
    assert!(is_there(forked), "it held the socket all the time");
    kill_process(forked, Signal::KILL).unwrap();
}

#[test]
fn a_plugin_moves_between_the_host_and_a_process_with_its_state() {
    let host = TestHost::counter();
    let mut client = host.client();
    for _ in 0..3 {
        increment(&mut client);
    }
    let config = host.dir().join("ksi.toml");
    for (round, (mode, kind)) in
        [("process", json!("process")), ("none", Value::Null)].into_iter().enumerate()
    {
        let text = format!("[isolation.plugins.counter]\nmode = \"{mode}\"\n");
        fs::write(&config, text).unwrap();
        host.ksi(&["config", "reload"]).ok();
        host.ksi(&["reload", "counter"]).ok();
        let module = host.until_live("counter", round as u64 + 2);
        assert_eq!(module["residence"]["kind"], kind, "{module}");
        assert_eq!(counters(&mut client).get("a"), Some(&(round as u64 + 3)));
        increment(&mut client);
    }
}

#[test]
fn a_call_that_is_given_up_and_still_holds_its_thread_has_ended_when_the_state_is_taken() {
    let config = format!("{ALL}[timeouts]\nhold = \"300ms\"\n");
    let blocks = Library::counter(1).does("calls=block");
    let host = TestHost::builder().config(&config).plugin("counter.so", &blocks).start();
    let mut client = host.client();
    let blocked = client.begin("counter:increment", json!({"name": "a"}));
    host.until_module("it runs", "counter", |module| module["counts"]["in_flight"] == 1);
    host.drop_in("counter.so", &Library::counter(2));
    let given_up = client.end(&blocked);
    assert_eq!(given_up["failed"], true, "{given_up}");
    host.until_version("counter", "2.0.0");
    assert_eq!(increment(&mut client)["value"], 2, "what it did is in the state");
}

#[test]
fn a_call_that_ends_after_its_deadline_is_counted() {
    let host = chaos("");
    let mut client = host.client();
    let late = client.reply("chaos:held", json!({}));
    assert_eq!(late["data"]["code"], "timed_out", "{late}");
    assert_eq!(host.module("chaos")["residence"]["late_calls"], 0, "it has not ended");
    client.emit("chaos:release", json!({}));
    let counted = |module: &Value| module["residence"]["late_calls"] == 1;
    host.until_module("its end is counted", "chaos", counted);
    assert_balanced(&host, "chaos");
}

#[test]
fn no_more_wait_for_a_watch_in_a_process_than_the_operator_allows() {
    let plugin = Library::of("ksi-fixture-asks");
    let host = isolated("[limits]\nsubscriber_queue = 8\n").plugin("asks.so", &plugin).start();
    let mut client = host.client();
    client.emit("asks:watch", json!([["order:*"], 1_000_000, "later"]));
    // More than wait in the host and in the process; and the process has read what was sent to it.
    for _ in 0..100 {
        client.reply("order:placed", json!({}));
    }
    client.emit("asks:seen", json!({}));
    client.reply("asks:read", json!({}));
    let seen = || client.emit("asks:seen", json!({}));
    let ended =
        |seen: &Value| seen.as_array().is_some_and(|seen| seen.last() == Some(&json!("end")));
    let seen = until("it is read to its end", seen, ended);
    let seen: Vec<&str> = seen.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let [waited @ .., missed, _end] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!(waited, ["order:placed"; 8], "{seen:?}");
    // One, or both: the watch has ended with the first.
    assert!(missed.starts_with("missed "), "{seen:?}");
}

#[test]
fn events_sent_from_a_process_beyond_the_queue_are_refused_to_the_senders_face() {
    let host = chaos("[limits]\nqueued_events = 10\n");
    let mut client = host.client();
    let flood = client.emit("chaos:flood", json!({"event": "gate:wait", "count": 50}));
    assert_eq!(flood["sent"], 10, "{flood}");
    assert!(flood["refusal"].as_str().unwrap().contains("gate:wait"), "{flood}");
    let waiting = |client: &mut Client| client.emit("gate:stats", json!({}))["waiting"].clone();
    until("the accepted ones are handled", || waiting(&mut client), |n| *n == 10);
    client.emit("gate:open", json!({}));
    let again = || client.emit("chaos:flood", json!({"event": "chaos:quiet", "count": 1}));
    until("there is room again", again, |flood| flood["sent"] == 1);
}

#[test]
fn events_sent_from_a_process_wait_in_no_more_bytes_than_may_and_the_rest_is_told_in_the_log() {
    const SENT: u64 = 20;
    /// Of 10 kB each, in 64 KiB.
    const FIT: u64 = 6;
    let host = chaos("[limits]\nqueued_bytes = 65536\n");
    let mut client = host.client();
    let ask = json!({"event": "gate:wait", "count": SENT, "bytes": 10_000});
    let flood = client.emit("chaos:flood", ask);
    assert_eq!(flood["sent"], SENT, "who sends does not wait for the host: {flood}");
    let waiting = || client.emit("gate:stats", json!({}))["waiting"].clone();
    until("those that fit are handled", waiting, |waiting| *waiting == FIT);
    host.process.told("limits.queued_bytes");
    client.emit("gate:open", json!({}));
    assert_eq!(client.emit("gate:stats", json!({}))["most"], FIT, "no more ever did");
    // There is room again, for as many as before.
    let again = || {
        client.emit("chaos:flood", json!({"event": "chaos:quiet", "count": 1, "bytes": 60_000}));
        host.module("chaos")["counts"]["no_reply"].as_u64()
    };
    until("one of those is handled", again, |handled| *handled > Some(1));
}

#[test]
fn a_socket_that_the_host_listens_on_for_a_plugin_outlives_its_processes() {
    let host = isolated("").plugin("web.so", &Library::web(1)).start();
    let address = host.client().emit("web:address", json!({}));
    let get = || {
        let mut stream = TcpStream::connect(address.as_str().unwrap()).expect("it is listened on");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"GET /here HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("you asked for /here"), "{answer:?}");
    };
    get();
    kill_process(process(&host, "web"), Signal::KILL).unwrap();
    // Whether the next one is there already or not: nobody is refused.
    get();
    until_restarted(&host, "web", 1);
    assert_eq!(host.client().emit("web:address", json!({})), address);
    host.drop_in("web.so", &Library::web(2));
    host.until_live("web", 2);
    get();
    assert_eq!(host.client().emit("web:address", json!({})), address);
}

#[test]
fn each_test_that_the_suite_does_not_isolate_is_there() {
    let this = std::env::current_exe().unwrap();
    let listed = Command::new(this).args(["--list", "--format", "terse"]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let tests: Vec<_> = listed.lines().filter_map(|line| line.strip_suffix(": test")).collect();
    let is_there = |left_out: &str| match left_out.ends_with("::") {
        true => tests.iter().any(|test| test.starts_with(left_out)),
        false => tests.contains(&left_out),
    };
    let left_out = NOT_ISOLATED.iter().flat_map(|it| it.tests);
    let gone: Vec<_> = left_out.filter(|test| !is_there(test)).collect();
    assert!(gone.is_empty(), "{gone:?}");
}
