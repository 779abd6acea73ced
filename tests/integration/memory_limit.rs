//! A host under a hard limit of memory, with everything at once that could fill it.
//!
//! A short run is among the other tests. The measurement is not, because it takes minutes and wants
//! the machine for itself; docs/limits.md has the command, and what was measured. It builds the
//! workspace first, which counts as part of the test.
//!
//! The limit is one of a cgroup where this user may make one; otherwise, or with `KSI_LIMIT=data`,
//! it is one of the process's data (`prlimit`), which needs no rights and is stricter, as it counts
//! what is reserved too.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    os::unix::{fs::FileExt, net::UnixStream},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread::{Scope, sleep},
    time::{Duration, Instant},
};

use ksi_wire::module::ModuleState;
use serde_json::json;

use crate::kit::{Client, Library, States, TestHost, until, wrapped};

const MIB: u64 = 1 << 20;
const LIMIT: u64 = 512 * MIB;
/// Files that come together. Those before them are still there.
const AT_A_TIME: usize = 50;
/// Connections with half a line each, and how long they are left alone.
const HALF_LINES: usize = 250;
const HALF_LINES_STAY: Duration = Duration::from_secs(1);
/// Subscribers that never read, and how often one of them is replaced: the host drops them.
const IDLE: usize = 20;
const IDLE_ANEW: Duration = Duration::from_millis(250);
/// How often an event of two megabytes is emitted, at the most.
const EVENT: Duration = Duration::from_millis(20);

/// A cgroup of our own, removed at the end.
struct Group(PathBuf);

impl Group {
    fn new(label: &str) -> Option<Group> {
        if std::env::var_os("KSI_LIMIT").is_some_and(|limit| limit == "data") {
            return None;
        }
        let name = format!("ksi-memory-limit-{}-{label}", std::process::id());
        for (root, limit) in
            [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")]
        {
            let folder = Path::new(root).join(&name);
            if fs::create_dir(&folder).is_err() {
                continue;
            }
            let group = Group(folder);
            if group.0.join(limit).exists()
                && fs::write(group.0.join(limit), LIMIT.to_string()).is_ok()
            {
                // No swap may hide what does not fit.
                let _ = fs::write(group.0.join("memory.swap.max"), "0");
                return Some(group);
            }
        }
        None
    }

    fn peak(&self) -> Option<u64> {
        ["memory.max_usage_in_bytes", "memory.peak"]
            .iter()
            .find_map(|file| fs::read_to_string(self.0.join(file)).ok()?.trim().parse().ok())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// The command, with the limit around it.
fn limited(command: &Command, group: Option<&Group>) -> Command {
    let around = match group {
        Some(group) => {
            let mut shell = Command::new("sh");
            shell.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]);
            shell.arg(group.0.join("cgroup.procs"));
            shell
        }
        None => {
            let mut prlimit = Command::new("prlimit");
            prlimit.arg(format!("--data={LIMIT}"));
            prlimit
        }
    };
    wrapped(around, command)
}

/// One bad file, each kind in turn: of any size, and with any beginning.
fn bad_file(path: &Path, number: usize, plugin: &[u8]) {
    let draft = path.with_file_name(".draft");
    let file = File::create(&draft).unwrap();
    let begin: (&[u8], u64) = match number % 7 {
        // The head of a plugin, and nothing but a hole behind it: copied and hashed, which takes a
        // while.
        0 if number.is_multiple_of(70) => (&plugin[..4096], 250 * MIB),
        0 | 3 => (b"", 1024 * MIB),
        1 => (b"", 200 * MIB),
        2 => (b"\x7fELF", 1024 * MIB),
        4 => (b"#!/bin/sh\n", 10),
        5 => (&plugin[..plugin.len() / 2], plugin.len() as u64 / 2),
        _ => (b"", 0),
    };
    file.write_all_at(begin.0, 0).unwrap();
    file.set_len(begin.1).unwrap();
    fs::rename(draft, path).unwrap();
}

/// What the host says of files that are no plugins: how many of these are refused, and how many
/// entries there are.
fn refused(client: &mut Client, files: &[String]) -> (usize, usize) {
    let list = client.emit("module:list", json!({}));
    let modules = list["modules"].as_array().unwrap();
    let is_refused = |file: &&String| {
        let mut known = modules.iter().filter(|module| module["name"] == file.as_str());
        known.any(|module| module.state() == ModuleState::Refused)
    };
    (files.iter().filter(is_refused).count(), modules.len())
}

/// Sends what there is until it is cut off.
fn send(client: &mut Client, bytes: &[u8]) {
    client.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let _ = client.stream.write_all(bytes);
}

/// A client that subscribes and reads nothing more.
fn stalled(host: &TestHost, pattern: &str) -> Client {
    let mut client = host.client();
    let data = json!({"client_id": "stalled", "event_patterns": [pattern]});
    send(
        &mut client,
        format!("{}\n", json!({"event": "monitor:subscribe", "data": data})).as_bytes(),
    );
    client
}

/// Ends the load also when a check fails, else its threads would be waited for for ever.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What fills a host's memory if anything does, until it is over. Each kind has a thread.
fn load<'scope>(
    scope: &'scope Scope<'scope, '_>,
    host: &'scope TestHost,
    mut emitter: Client,
    over: &'scope AtomicBool,
) {
    let goes_on = || !over.load(Ordering::Relaxed);
    // Its place was taken before others take all there are.
    scope.spawn(move || {
        let data = json!({"text": "x".repeat(2_000_000)});
        let line = format!("{}\n", json!({"event": "chaos:echo", "data": data}));
        let mut answered = 0;
        while goes_on() {
            let next = Instant::now() + EVENT;
            // On a busy machine it may be this one that has kept most bytes waiting for the longest
            // time: it is told so, or finds its connection closed.
            let sent = emitter.stream.write_all(line.as_bytes());
            match sent.ok().and_then(|()| emitter.raw()) {
                Some(reply) if reply.len() > 2_000_000 => answered += 1,
                told => {
                    let reason = told.unwrap_or_default();
                    let expected = reason.is_empty() || reason.contains("limits.waiting_bytes");
                    assert!(expected, "{reason}");
                    emitter = host.client();
                }
            }
            sleep(next.saturating_duration_since(Instant::now()));
        }
        assert!(answered > 0, "put out whenever it has sent something");
    });
    scope.spawn(move || {
        let half = vec![b'x'; MIB as usize];
        while goes_on() {
            let clients = (0..HALF_LINES).take_while(|_| goes_on()).map(|_| {
                let mut client = host.client();
                send(&mut client, &half);
                client
            });
            let clients: Vec<_> = clients.collect();
            sleep(HALF_LINES_STAY);
            drop(clients);
        }
    });
    scope.spawn(move || {
        while goes_on() {
            // Dropped at the end of the loop's body, after it has stalled for a while.
            let _stalled = stalled(host, "**");
            sleep(Duration::from_millis(200));
        }
    });
    scope.spawn(move || {
        let mut idle: Vec<Client> = (0..IDLE).map(|_| stalled(host, "chaos:*")).collect();
        while goes_on() {
            sleep(IDLE_ANEW);
            idle.remove(0);
            idle.push(stalled(host, "chaos:*"));
        }
    });
}

/// How long requests took, in the order of how long they took.
struct Latencies(Vec<Duration>);

impl Latencies {
    fn at(&self, share: f64) -> Duration {
        self.0[((self.0.len() - 1) as f64 * share) as usize]
    }
}

impl std::fmt::Display for Latencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [p50, p90, p99, most] = [0.5, 0.9, 0.99, 1.0].map(|share| self.at(share));
        write!(f, "p50 {p50:.1?}, p90 {p90:.1?}, p99 {p99:.1?}, most {most:.1?}")
    }
}

/// Asks for the host's health, and then a thread that does nothing but send lines back, in turns:
/// what the machine itself makes of a line there and a line back is to be seen beside what the host
/// does.
fn measured(mut client: Client, over: &AtomicBool) -> [Latencies; 2] {
    let (mut there, back) = UnixStream::pair().unwrap();
    let echo = std::thread::spawn(move || {
        let mut lines = BufReader::new(&back);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).unwrap() > 0 {
            (&back).write_all(&line).unwrap();
            line.clear();
        }
    });
    let mut reader = BufReader::new(there.try_clone().unwrap());
    let mut took = [Vec::new(), Vec::new()];
    let mut line = String::new();
    while !over.load(Ordering::Relaxed) {
        let begin = Instant::now();
        client.send(r#"{"event": "system:health"}"#);
        let health = client.raw().expect("a reply");
        took[0].push(begin.elapsed());
        assert!(health.contains("\"healthy\""), "{health}");
        sleep(Duration::from_millis(2));
        let begin = Instant::now();
        there.write_all(health.as_bytes()).unwrap();
        line.clear();
        reader.read_line(&mut line).unwrap();
        took[1].push(begin.elapsed());
        sleep(Duration::from_millis(2));
    }
    there.shutdown(std::net::Shutdown::Both).unwrap();
    echo.join().unwrap();
    took.map(|mut took| {
        took.sort_unstable();
        Latencies(took)
    })
}

/// Runs a command about this thread alone, and those that it starts from here on.
fn of_this_thread(command: &str, arguments: &[&str]) {
    let this = fs::read_link("/proc/thread-self").unwrap();
    let this = this.file_name().unwrap();
    // For the measurement alone, which says what was done; where it can't be done, it is as it was.
    let _ = Command::new(command).args(arguments).arg(this).output();
}

/// What a process has used of the processor, in seconds.
fn processor_time(process: &str) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    // USER_HZ is 100 on every Linux there is.
    ticks as f64 / 100.0
}

/// A field of a process's status, in KiB.
fn of_status(process: &str, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let found = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    found.map_or(0, |value| value.trim().trim_end_matches(" kB").parse().unwrap())
}

/// A number in the environment.
fn number(name: &str) -> Option<usize> {
    std::env::var(name).ok()?.parse().ok()
}

/// A host under the limit, with as many bad files one after the other, and the load beside them.
fn under_load(files: usize, label: &str) {
    let group = Group::new(label);
    let limit = if group.is_some() { "a cgroup" } else { "the process's data" };
    let builder = TestHost::builder().plugin("chaos.so", &Library::chaos());
    let mut host = builder.start_as(|command| limited(command, group.as_ref()));
    let id = host.process.id().to_string();
    let plugin = Library::counter(1).0;
    let over = AtomicBool::new(false);
    let begin = (Instant::now(), processor_time("self"), processor_time(&id));
    let (mut most_listed, mut written) = (0, 0);
    let mut most = [0; 2];
    let [health, echo] = std::thread::scope(|scope| {
        let (host, over) = (&host, &over);
        let _over = Over(over);
        let [asking, mut looking, emitter] = [(); 3].map(|()| host.client());
        let measuring = scope.spawn(move || {
            of_this_thread("renice", &["-n", "-5", "-p"]);
            measured(asking, over)
        });
        if let Some(core) = std::env::var_os("KSI_LOAD_CORE") {
            of_this_thread("taskset", &["-pc", core.to_str().unwrap()]);
        }
        load(scope, host, emitter, over);
        let most_seconds = number("KSI_SECONDS").map_or(u64::MAX, |seconds| seconds as u64);
        let mut before: Vec<String> = Vec::new();
        while written < files && begin.0.elapsed().as_secs() < most_seconds {
            let numbers = written..files.min(written + AT_A_TIME);
            let now: Vec<String> =
                numbers.clone().map(|number| format!("bad{number}.so")).collect();
            for (number, file) in numbers.zip(&now) {
                bad_file(&host.file(file), number, &plugin);
            }
            written += now.len();
            let (_, listed) = until(
                "all of them are refused",
                || refused(&mut looking, &now),
                |(refused, _)| *refused == now.len(),
            );
            most_listed = most_listed.max(listed);
            let now_used = ["RssAnon", "VmData"].map(|field| of_status(&id, field) / 1024);
            most = std::array::from_fn(|index| most[index].max(now_used[index]));
            for old in std::mem::replace(&mut before, now) {
                fs::remove_file(host.file(&old)).unwrap();
            }
        }
        over.store(true, Ordering::Relaxed);
        measuring.join().unwrap()
    });
    let wall = begin.0.elapsed().as_secs_f64();
    let (of_load, of_host) = (processor_time("self") - begin.1, processor_time(&id) - begin.2);
    // Those of the last time are there, and the plugin.
    assert!(most_listed <= 3 * AT_A_TIME + 1, "{most_listed} entries");
    let mut client = host.client();
    assert_eq!(client.emit("chaos:echo", json!({"a": 1}))["a"], 1);
    let memory = client.emit("system:health", json!({}))["memory"].take();
    let now = ["VmHWM", "VmRSS", "RssAnon"].map(|field| of_status(&id, field) / 1024);
    println!(
        "{written} bad files in {wall:.0} s, all refused, at most {most_listed} listed; the limit of 512 MiB is one of {limit}\n\
         health ({} times): {health}\n\
         bare echo beside it: {echo}\n\
         processor: the host {of_host:.0} s, the load {of_load:.0} s\n\
         MiB of its own memory at most {}, of what is data {}; the most resident, with mapped files, {}; in the end resident \
         {}, of its own {}; the cgroup's peak with what is cached {:?}; {memory}",
        health.0.len(),
        most[0],
        most[1],
        now[0],
        now[1],
        now[2],
        group.as_ref().and_then(Group::peak).map(|peak| peak / MIB),
    );
    host.process.signal(rustix::process::Signal::TERM);
    assert_eq!(host.process.ended().code, Some(0), "it was never killed, and stops in order");
}

#[test]
fn under_a_limit_of_memory_with_all_at_once_that_could_fill_it_a_host_is_never_killed() {
    under_load(200, "short");
}

#[test]
#[ignore = "a measurement: as many files as KSI_FILES says, for as many seconds as KSI_SECONDS says at the most"]
fn memory_limit_measured() {
    under_load(number("KSI_FILES").unwrap_or(100_000), "measured");
}
