//! A host under a hard limit of memory, with everything at once that could fill it.
//!
//! Not run by default, because it takes a minute, and much longer with the 100,000 files of a long run:
//!
//! ```text
//! KSI_LONG=1 cargo test --release -p ksi-tests --test integration -- --ignored memory_limit --nocapture
//! ```
//!
//! The limit is one of a cgroup where this user may make one; otherwise it is one of the process's data (`prlimit`), which
//! is stricter, as it counts what is reserved too.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::kit::{Client, Library, TestHost, until, wrapped};

const MIB: u64 = 1 << 20;
const LIMIT: u64 = 512 * MIB;
/// Files that are there together.
const AT_A_TIME: usize = 50;

/// A cgroup of our own, removed at the end.
struct Group(PathBuf);

impl Group {
    fn new() -> Option<Group> {
        let name = format!("ksi-memory-limit-{}", std::process::id());
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
        // The head of a plugin, and nothing but a hole behind it: copied and hashed, which takes a while.
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

/// What the host says of a file that is no plugin.
fn listed(client: &mut Client, file: &str) -> Value {
    let mut modules = client.emit("module:list", json!({}))["modules"].take();
    let modules = modules.as_array_mut().unwrap();
    let found = modules.iter_mut().find(|module| module["name"] == file);
    found.map(|module| module["state"].take()).unwrap_or_default()
}

/// Sends what there is until it is cut off or told to stop.
fn send(client: &mut Client, bytes: &[u8]) {
    client.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let _ = client.stream.write_all(bytes);
}

#[test]
#[ignore = "takes a minute; much longer with KSI_LONG=1, or as many files as KSI_FILES says"]
fn memory_limit_with_bad_files_stalled_subscribers_and_half_lines_a_host_is_never_killed() {
    let files = std::env::var("KSI_FILES").ok().and_then(|number| number.parse().ok());
    let files: usize = files.unwrap_or(match std::env::var_os("KSI_LONG") {
        Some(_) => 100_000,
        None => 300,
    });
    let group = Group::new();
    let builder = TestHost::builder().plugin("chaos.so", &Library::chaos());
    let mut host = builder.start_as(|command| limited(command, group.as_ref()));
    let plugin = Library::counter(1).0;
    let over = AtomicBool::new(false);
    let mut latencies = Vec::new();
    std::thread::scope(|scope| {
        let (host, over) = (&host, &over);
        // Twenty that subscribe and never read.
        let subscribed = || {
            let mut client = host.client();
            client.subscribe(&["chaos:*"]);
            client
        };
        let idle: Vec<Client> = (0..20).map(|_| subscribed()).collect();
        // These have their places before others take all there are.
        let [mut client, mut asking, mut looking] = [(); 3].map(|()| host.client());
        // Events of two megabytes, as long as it lasts.
        scope.spawn(move || {
            let text = "x".repeat(2_000_000);
            while !over.load(Ordering::Relaxed) {
                client.emit("chaos:echo", json!({"text": text}));
            }
        });
        // 250 half lines of one megabyte, and again whenever they were cut off.
        scope.spawn(|| {
            let half = vec![b'x'; MIB as usize];
            while !over.load(Ordering::Relaxed) {
                let clients = (0..250).map(|_| {
                    let mut client = host.client();
                    send(&mut client, &half);
                    client
                });
                drop(clients.collect::<Vec<_>>());
            }
        });
        // One that subscribes anew whenever it was dropped, and stalls.
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let mut client = host.client();
                let ask = json!({"event": "monitor:subscribe",
                    "data": {"client_id": "stalled", "event_patterns": ["**"]}});
                send(&mut client, format!("{ask}\n").as_bytes());
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        let latencies = &mut latencies;
        scope.spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let begin = Instant::now();
                asking.emit("system:health", json!({}));
                latencies.push(begin.elapsed());
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        for number in 0..files {
            let file = |number: usize| format!("bad{number}.so");
            bad_file(&host.file(&file(number)), number, &plugin);
            if number % AT_A_TIME == 0 {
                // It has looked at this one before the next ones come.
                until(
                    "it is refused",
                    || listed(&mut looking, &file(number)),
                    |state| state == "refused",
                );
            }
            if let Some(old) = number.checked_sub(AT_A_TIME) {
                fs::remove_file(host.file(&file(old))).unwrap();
            }
        }
        over.store(true, Ordering::Relaxed);
        drop(idle);
    });
    let mut client = host.client();
    assert_eq!(client.emit("chaos:echo", json!({"a": 1}))["a"], 1);
    let memory = client.emit("system:health", json!({}))["memory"].take();
    let status = fs::read_to_string(format!("/proc/{}/status", host.process.id())).unwrap();
    let most = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default().to_owned();
    latencies.sort_unstable();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    println!(
        "{files} bad files; {} asked for its health: p50 {:?}, p99 {:?}, most {:?}; {most}; \
         the group's peak with what is cached: {:?} MiB; {memory}",
        latencies.len(),
        at(0.5),
        at(0.99),
        at(1.0),
        group.as_ref().and_then(Group::peak).map(|peak| peak / MIB),
    );
    host.process.signal(rustix::process::Signal::TERM);
    assert_eq!(host.process.ended().code, Some(0), "it was never killed, and stops in order");
}
