//! Limits in bytes: what is huge, endless or never read takes little of the host's memory.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::FileExt,
    time::Duration,
};

use serde_json::{Value, json};

use crate::kit::{Client, Library, TestHost, error_of, ksi};

const MIB: u64 = 1 << 20;

/// The most memory that the host's process ever had, in KiB, and what it has now.
fn peak_and_now(host: &TestHost) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{}/status", host.process.id())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    (field("VmHWM:"), field("VmRSS:"))
}

/// A file of this length that begins with these bytes and has nothing but a hole behind them.
fn sparse(host: &TestHost, name: &str, begin: &[u8], len: u64) {
    let draft = host.file(&format!(".{name}.draft"));
    let file = File::create(&draft).unwrap();
    file.write_all_at(begin, 0).unwrap();
    file.set_len(len).unwrap();
    fs::rename(draft, host.file(name)).unwrap();
}

#[test]
fn huge_files_are_refused_by_their_length_and_their_head_and_take_no_memory() {
    let host = TestHost::chaos();
    let (_, before) = peak_and_now(&host);
    for number in 0..4 {
        sparse(&host, &format!("gigabyte{number}.so"), b"\x7fELF", 1024 * MIB);
        sparse(&host, &format!("zeroes{number}.so"), b"", 200 * MIB);
    }
    for number in 0..4 {
        let reason = host.until_refused(&format!("gigabyte{number}.so"));
        assert!(reason.contains("limits.plugin_bytes"), "{reason}");
        let reason = host.until_refused(&format!("zeroes{number}.so"));
        assert!(reason.contains("nothing but zero bytes"), "{reason}");
    }
    let (peak, _) = peak_and_now(&host);
    assert!(peak < before + 32 * 1024, "{before} KiB became {peak} KiB");
}

#[test]
fn a_plugin_of_many_megabytes_is_loaded_and_takes_memory_for_none_but_its_code() {
    let host = TestHost::counter();
    let (_, before) = peak_and_now(&host);
    sparse(&host, "chaos.so", &Library::chaos().0, 250 * MIB);
    host.until_live("chaos", 1);
    let (peak, _) = peak_and_now(&host);
    assert!(peak < before + 64 * 1024, "{before} KiB became {peak} KiB");
}

#[test]
fn how_long_a_plugin_file_may_be_is_configured() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config("[limits]\nplugin_bytes = 4096")
        .start();
    let reason = host.until_refused("chaos.so");
    assert!(reason.contains("4096 are allowed (limits.plugin_bytes)"), "{reason}");
}

#[test]
fn what_is_no_file_or_endless_is_not_inspected() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe.so");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
    let huge = folder.path().join("huge.so");
    File::create(&huge).unwrap().set_len(1024 * MIB).unwrap();
    for (path, words) in [
        (pipe.to_str().unwrap(), "a named pipe"),
        ("/dev/zero", "a device"),
        (folder.path().to_str().unwrap(), "a directory"),
        (huge.to_str().unwrap(), "limits.plugin_bytes"),
    ] {
        let error = ksi(&folder.path().join("s"), &["inspect", path], "").fails(1);
        assert!(error.contains(words), "{path}: {error}");
    }
}

/// A host whose queues may hold 32 MiB in all.
fn small() -> TestHost {
    TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config("[limits]\nwaiting_bytes = 33554432")
        .start()
}

/// An event of two megabytes that is replied to with as many.
fn large() -> Value {
    json!({"text": "x".repeat(2_000_000)})
}

#[test]
fn subscribers_that_do_not_read_hold_no_more_than_the_budget_and_one_that_reads_misses_nothing() {
    let host = small();
    let mut client = host.client();
    client.emit("chaos:echo", large());
    let (_, before) = peak_and_now(&host);
    let subscribed = || {
        let mut client = host.client();
        client.subscribe(&["chaos:*"]);
        client
    };
    let idle: Vec<Client> = (0..20).map(|_| subscribed()).collect();
    let mut reading = subscribed();
    let large = large();
    for _ in 0..100 {
        client.emit("chaos:echo", large.clone());
        assert_eq!(reading.push()["event"], "chaos:echo");
    }
    let (peak, _) = peak_and_now(&host);
    assert!(peak < before + 128 * 1024, "{before} KiB became {peak} KiB");
    let memory = client.emit("system:health", json!({}))["memory"].take();
    assert!(memory["waiting_bytes"].as_u64() <= Some(32 * MIB), "{memory}");
    assert!(memory["given_up"].as_u64() > Some(0), "{memory}");
    drop(idle);
}

#[test]
fn half_lines_hold_no_more_than_the_budget() {
    let host = small();
    let mut client = host.client();
    client.emit("chaos:echo", large());
    let (_, before) = peak_and_now(&host);
    let half = vec![b'x'; 5_000_000];
    let half: Vec<Client> = (0..60)
        .map(|_| {
            let mut client = host.client();
            client.stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
            // A client that is cut off meanwhile can't send the rest.
            let _ = client.stream.write_all(&half);
            client
        })
        .collect();
    assert_eq!(client.emit("system:health", json!({}))["status"], "healthy");
    let (peak, _) = peak_and_now(&host);
    assert!(peak < before + 128 * 1024, "{before} KiB became {peak} KiB");
    drop(half);
}

#[test]
fn a_client_that_does_not_read_its_replies_holds_a_bounded_part_of_them() {
    let host = small();
    let mut client = host.client();
    client.emit("chaos:echo", large());
    let (_, before) = peak_and_now(&host);
    let mut idle = host.client();
    // Small requests, large replies.
    idle.stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    for number in 0..200 {
        let ask =
            json!({"event": "chaos:big", "data": {"count": 1_000_000}, "correlation_id": number});
        if idle.stream.write_all(format!("{ask}\n").as_bytes()).is_err() {
            break;
        }
    }
    for _ in 0..20 {
        client.emit("chaos:echo", json!({"small": true}));
    }
    let (peak, _) = peak_and_now(&host);
    assert!(peak < before + 128 * 1024, "{before} KiB became {peak} KiB");
}

fn patterns(of: usize) -> Vec<String> {
    (0..64).map(|number| format!("space{of}:name{number}:*")).collect()
}

#[test]
fn subscriptions_of_many_patterns_come_and_go_without_holding_up_others() {
    const CONNECTIONS: usize = 12;
    let host = TestHost::chaos();
    let mut client = host.client();
    let mut subscribers: Vec<Client> = (0..CONNECTIONS).map(|_| host.client()).collect();
    let mut longest = Duration::ZERO;
    let mut health = |client: &mut Client| {
        let begin = std::time::Instant::now();
        client.emit("system:health", json!({}));
        longest = longest.max(begin.elapsed());
    };
    for (connection, subscriber) in subscribers.iter_mut().enumerate() {
        for number in 0..16 {
            let patterns = patterns(16 * connection + number);
            let data = json!({"client_id": number, "event_patterns": patterns});
            let reply = subscriber.emit("monitor:subscribe", data);
            assert_eq!(reply["status"], "subscribed", "{reply}");
            health(&mut client);
        }
    }
    // All of them at once.
    drop(subscribers);
    (0..20).for_each(|_| health(&mut client));
    // Twelve connections took two seconds when each change built all of it anew.
    assert!(longest < Duration::from_secs(1), "{longest:?}");
}

#[test]
fn patterns_of_all_clients_together_are_bounded_and_come_free_again() {
    let host = TestHost::builder().config("[limits]\nsubscribed_patterns = 100").start();
    let subscribe = |client: &mut Client| {
        let data = json!({"client_id": "c", "event_patterns": patterns(1)});
        client.reply("monitor:subscribe", data)
    };
    let (mut first, mut second) = (host.client(), host.client());
    assert_eq!(subscribe(&mut first)["data"]["status"], "subscribed");
    let refused = subscribe(&mut second);
    assert!(error_of(&refused).contains("limits.subscribed_patterns"), "{refused}");
    first.emit("monitor:unsubscribe", json!({"client_id": "c"}));
    assert_eq!(subscribe(&mut second)["data"]["status"], "subscribed");
}
