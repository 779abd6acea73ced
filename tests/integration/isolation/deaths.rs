//! Many deaths of a process, of every kind, with calls in flight: each of them has one outcome, and
//! nothing is left of them.
//!
//! `KSI_DEATHS=1000 cargo test --release -p ksi-tests --test integration -- --nocapture deaths`
//! has so many, says how long what takes, and how much longer another plugin's answers take than
//! beside the same calls without a death, by turns.

use std::{
    fs,
    sync::{
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use ksi_wire::module::ModuleState;
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open},
};
use serde_json::json;

use super::{assert_balanced, process, until_restarted};
use crate::kit::{Client, Library, PATIENCE, Resources, States, TestHost, children, until};

/// Calls that a process has when it ends.
const IN_FLIGHT: usize = 64;
/// How the process ends; the last of them does not get ready again at once.
const KINDS: [&str; 8] =
    ["segfault", "abort", "exit", "overflow", "memory", "kill", "busy", "constructor"];

/// What a plugin beside it sees: nothing that is measured, calls that end well, and from then on
/// one kind of death each.
const UNMEASURED: usize = 0;
const WELL: usize = 1;
const DEATHS: usize = 2;

/// Times of one kind of death, from the death on.
#[derive(Default)]
struct Times {
    first_outcome: Vec<Duration>,
    good_answer: Vec<Duration>,
}

/// When a process ends, as its descriptor says.
fn end_of(pid: Pid) -> mpsc::Receiver<Instant> {
    let descriptor = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    let (ended, end) = mpsc::channel();
    thread::spawn(move || {
        while !matches!(poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], None), Ok(1..)) {}
        let _ = ended.send(Instant::now());
    });
    end
}

/// One death of the plugin's process.
fn die(host: &TestHost, clients: &mut [Client; 2], kind: &str, times: &mut Times) {
    let [client, other] = clients;
    let pid = process(host, "chaos");
    let before = json!(pid.as_raw_nonzero());
    let asked: Vec<_> = (0..IN_FLIGHT).map(|_| client.begin("gate:wait", json!({}))).collect();
    let mut waiting = || other.emit("gate:stats", json!({}))["waiting"].clone();
    until("all of them are with the plugin", &mut waiting, |now| *now == IN_FLIGHT);
    let (end, ready) = (end_of(pid), host.dir().join("ready"));
    let last = match kind {
        "kill" => {
            kill_process(pid, Signal::KILL).unwrap();
            None
        }
        "constructor" => {
            fs::remove_file(&ready).unwrap();
            kill_process(pid, Signal::KILL).unwrap();
            None
        }
        "busy" => Some((client.begin("chaos:crash_late", json!({"how": kind})), "timed_out")),
        _ => Some((client.begin("chaos:crash", json!({"how": kind})), "crashed")),
    };
    let died = end.recv_timeout(PATIENCE).expect("it ends");
    let answer = thread::scope(|scope| {
        let answer = scope.spawn(move || {
            let answer = other.emit("chaos:echo", json!(kind));
            (answer, died.elapsed())
        });
        for (number, id) in asked.iter().enumerate() {
            let reply = client.end(id);
            if number == 0 {
                times.first_outcome.push(died.elapsed());
            }
            assert_eq!(reply["data"]["code"], "crashed", "{kind}: {reply}");
        }
        if let Some((id, code)) = last {
            let reply = client.end(&id);
            assert_eq!(reply["data"]["code"], code, "{kind}: {reply}");
        }
        if kind == "constructor" {
            // The first of its processes does not get ready, and is followed by another.
            let newest = || host.module("chaos")["residence"]["pid"].clone();
            let first = until("a process is tried", newest, |now| *now != before);
            until("another one is tried", newest, |now| *now != before && *now != first);
            fs::write(&ready, "").unwrap();
        }
        answer.join().unwrap()
    });
    assert_eq!(answer.0, kind);
    times.good_answer.push(answer.1);
}

/// As many calls as a death has, which all end well.
fn live(clients: &mut [Client; 2]) {
    let [client, other] = clients;
    let asked: Vec<_> = (0..IN_FLIGHT).map(|_| client.begin("gate:wait", json!({}))).collect();
    let mut waiting = || other.emit("gate:stats", json!({}))["waiting"].clone();
    until("all of them are with the plugin", &mut waiting, |now| *now == IN_FLIGHT);
    other.emit("gate:open", json!({}));
    for id in &asked {
        let reply = client.end(id);
        assert_eq!(reply["data"]["data"], json!({}), "{reply}");
    }
    assert_eq!(other.emit("chaos:echo", json!("well")), "well");
}

/// Processes of plugins and dead ones, with what there is to say of them.
fn workers(host: &TestHost) -> Vec<String> {
    let of = |child: u32| {
        let read = |file| fs::read(format!("/proc/{child}/{file}")).unwrap_or_default();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        format!("{} {}", text(read("stat")), text(read("cmdline")))
    };
    let all = children(host.process.id()).into_iter().map(of);
    // The process that tries files is there as long as there may be more of them.
    all.filter(|told| told.contains(") Z ") || told.contains("worker")).collect()
}

/// Says how long something takes; its 99th percentile.
fn told(what: &str, times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    let Some(last) = times.len().checked_sub(1) else { return Duration::ZERO };
    let at = |part: f64| times[(last as f64 * part).round() as usize];
    let p99 = at(0.99);
    eprintln!("{what}: median {:?}, p99 {p99:?}, max {:?} of {}", at(0.5), at(1.0), last + 1);
    p99
}

/// Answers of another plugin: how long each took, by what went on beside it.
type Beside = [Vec<Duration>; DEATHS + KINDS.len()];

/// Asks another plugin until it is over.
fn neighbour(host: &TestHost, beside: &AtomicUsize, over: &AtomicBool) -> Beside {
    let (mut client, mut took) = (host.client(), Beside::default());
    for value in 1_u64.. {
        if over.load(SeqCst) {
            break;
        }
        let (began, with) = (Instant::now(), beside.load(SeqCst));
        let counted = client.emit("counter:increment", json!({"name": "a"}));
        took[with].push(began.elapsed());
        assert_eq!(counted["value"], value, "it is not touched");
        thread::sleep(Duration::from_micros(500));
    }
    took
}

#[test]
fn of_many_deaths_of_every_kind_each_call_has_one_outcome_and_nothing_is_left() {
    let deaths = std::env::var("KSI_DEATHS").ok().and_then(|it| it.parse().ok());
    let deaths: usize = deaths.unwrap_or(2 * KINDS.len());
    let builder = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .plugin("counter.so", &Library::counter(1));
    let ready = builder.dir().join("ready");
    fs::write(&ready, "").unwrap();
    let host = builder
        .config(
            "[isolation.plugins.chaos]\nmode = \"process\"\nrestart = \"always\"\nperiod = \"1ms\"\n\
             intensity = 1000\nstuck = \"500ms\"\nmemory = \"1 GiB\"\n\
             [timeouts]\ninit = \"2s\"\nhold = \"60s\"",
        )
        .config(&format!("[plugin.chaos]\ninit = \"file\"\ninit_file = {ready:?}"))
        .start();
    // One that was not ready in time is tried again.
    host.until_module("it is live", "chaos", |module| module.state() == ModuleState::Live);
    let (goes_on, over) = (AtomicUsize::new(UNMEASURED), AtomicBool::new(false));
    let mut times: [Times; KINDS.len()] = Default::default();
    let (mut took, before, after) = thread::scope(|scope| {
        let _ends = crate::kit::Ends(&over);
        let beside = scope.spawn(|| neighbour(&host, &goes_on, &over));
        let mut clients = [host.client(), host.client()];
        // One of each kind first, for what is kept from then on.
        let warm_up = KINDS.len();
        let mut before = None;
        for number in 0..warm_up + deaths {
            let kind = number % KINDS.len();
            if number == warm_up {
                thread::sleep(Duration::from_millis(deaths.min(1_000) as u64));
                before = Some(host.resources());
                times = Default::default();
            }
            if number >= warm_up {
                goes_on.store(WELL, SeqCst);
                live(&mut clients);
                goes_on.store(DEATHS + kind, SeqCst);
            }
            die(&host, &mut clients, KINDS[kind], &mut times[kind]);
            goes_on.store(UNMEASURED, SeqCst);
        }
        let module = until_restarted(&host, "chaos", (warm_up + deaths) as u64);
        let crashed = (warm_up + deaths) * IN_FLIGHT;
        assert!(module["counts"]["crashed"].as_u64() >= Some(crashed as u64), "{module}");
        assert_balanced(&host, "chaos");
        until("its one process is there, and no zombie", || workers(&host), |now| now.len() == 1);
        over.store(true, SeqCst);
        let before = before.unwrap();
        let is_back = |now: &Resources| {
            now.descriptors <= before.descriptors + 2
                && now.threads <= before.threads + 2
                && now.resident_kib < before.resident_kib + (64 << 10)
        };
        let after = until("it holds what it held before", || host.resources(), is_back);
        (beside.join().unwrap(), before, after)
    });
    for (kind, times) in KINDS.iter().zip(&mut times) {
        told(&format!("{kind}: first outcome"), &mut times.first_outcome);
        told(&format!("{kind}: next good answer"), &mut times.good_answer);
    }
    let without = told("another plugin, without", &mut took[WELL]);
    for (kind, took) in KINDS.iter().zip(&mut took[DEATHS..]) {
        told(&format!("another plugin, {kind}"), took);
    }
    let with = told("another plugin, with all of them", &mut took[DEATHS..].concat());
    let ratio = with.as_secs_f64() / without.as_secs_f64();
    eprintln!("another plugin, p99 with to p99 without: {ratio:.2}");
    eprintln!("descriptors {} -> {}", before.descriptors, after.descriptors);
    eprintln!("resident {} KiB -> {} KiB", before.resident_kib, after.resident_kib);
}
