//! Where plugin code runs: blocking handlers, stuck calls, background tasks, threads of a plugin's
//! own.

use std::{fs, time::Instant};

use serde_json::json;

use crate::kit::{Library, TestHost, error_of, until};

#[test]
fn blocking_handlers_hold_up_nobody_else() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config("[limits]\nworkers = 2")
        .start();
    let mut client = host.client();
    let blocked: Vec<_> =
        (0..6).map(|_| client.begin("chaos:block_well", json!({"millis": 3_000}))).collect();
    let start = Instant::now();
    for number in 0..20 {
        assert_eq!(host.client().emit("chaos:echo", json!(number)), number);
    }
    for id in blocked {
        assert_eq!(client.end(&id)["data"], "chaos-version-0001");
    }
    assert!(start.elapsed().as_millis() < 6 * 3_000, "they ran side by side");
}

#[test]
fn a_client_that_is_connected_is_read_although_exactly_every_worker_is_stuck() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        // What is reported of a stuck call is an event, which would show that others are needed.
        .config("[limits]\nworkers = 2\n[timeouts]\nstuck = '60s'")
        .start();
    let (mut client, mut other) = (host.client(), host.client());
    assert_eq!(other.emit("chaos:echo", json!(1)), 1);
    let flag = host.dir().join("stuck");
    fs::write(&flag, "").unwrap();
    let block = json!({ "while_exists": flag });
    let stuck: Vec<_> = (0..2).map(|_| client.begin("chaos:block", block.clone())).collect();
    // No call waits for a thread, so all that can show that others are needed is what this client
    // sends.
    for number in 0..200 {
        assert_eq!(other.emit("chaos:echo", json!(number)), number);
    }
    let module = host.module("chaos");
    assert_eq!(module["counts"]["in_flight"], 2, "they are still stuck: {module:#}");
    fs::remove_file(&flag).unwrap();
    for id in stuck {
        assert_eq!(client.end(&id)["data"], "chaos-version-0001");
    }
}

#[test]
fn a_host_that_is_told_no_number_has_one_more_worker_than_there_are_cores() {
    let host = TestHost::chaos();
    let tasks = format!("/proc/{}/task", host.process.id());
    // A thread has the name of the one that started it until it gives itself one, or has ended by
    // now.
    let workers = || {
        let threads = std::fs::read_dir(&tasks).unwrap();
        let names =
            threads.filter_map(|it| std::fs::read_to_string(it.unwrap().path().join("comm")).ok());
        names.filter(|name| name == "ksi-dispatch\n").count()
    };
    let cores = std::thread::available_parallelism().unwrap().get();
    until("so many are there", workers, |workers| *workers == cores.max(2) + 1);
}

#[test]
fn when_every_worker_is_stuck_new_ones_take_over_and_the_stuck_call_is_named() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config("[limits]\nworkers = 2\n[timeouts]\nstuck = '200ms'")
        .start();
    let mut client = host.client();
    let flag = host.dir().join("stuck");
    fs::write(&flag, "").unwrap();
    let block = json!({ "while_exists": flag });
    let stuck: Vec<_> = (0..4).map(|_| client.begin("chaos:block", block.clone())).collect();
    // An answer comes while the others are stuck.
    assert_eq!(host.client().emit("chaos:echo", json!(1)), 1);
    until(
        "the stuck call is reported",
        || host.process.stderr(),
        |text| {
            text.lines().any(|line| {
                ["chaos", "block"].iter().all(|word| line.contains(word)) && line.contains("evt_")
            })
        },
    );
    fs::remove_file(&flag).unwrap();
    for id in stuck {
        assert_eq!(
            client.end(&id)["data"],
            "chaos-version-0001",
            "a stuck call that returns is still answered"
        );
    }
}

#[test]
fn a_plugins_own_threads_and_wakers_work() {
    let host = TestHost::chaos();
    let mut client = host.client();
    let used = client.emit("chaos:own_thread", json!({"millis": 5}));
    assert_eq!(used, json!({"slept": "chaos:own_thread", "asked": {"from": "tokio"}}));
    assert_eq!(client.emit("chaos:foreign_waker", json!({"millis": 5})), json!({"polled": true}));
    assert!(client.emit("chaos:thread_local", json!({})).as_u64().unwrap() >= 1);
}

#[test]
fn a_waker_that_panics_is_logged_and_the_host_goes_on() {
    let host = TestHost::chaos();
    let mut client = host.client();
    client.emit("chaos:rude_wakers", json!({"millis": 5}));
    for words in ["a waker panics on purpose", "the last of a waker panics on purpose"] {
        until(
            "it is logged",
            || host.process.stderr(),
            |text| text.lines().any(|line| line.contains(words) && line.contains("chaos")),
        );
    }
    assert_eq!(client.emit("chaos:echo", json!(1)), 1);
}

#[test]
fn background_tasks_run_on_and_are_bounded() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config("[limits]\nbackground_tasks = 3")
        .start();
    let mut client = host.client();
    client.emit("chaos:spawn", json!({"count": 3}));
    until("they tick", || client.emit("chaos:ticks", json!({})), |ticks| ticks.as_u64() > Some(20));
    let reply = client.reply("chaos:spawn", json!({"count": 1}));
    assert_eq!(reply["data"]["code"], "rejected");
    assert!(error_of(&reply).contains('3'), "{reply}");
}

#[test]
fn a_background_task_that_panics_is_logged_and_the_plugin_goes_on() {
    let host = TestHost::chaos();
    let mut client = host.client();
    client.emit("chaos:spawn_panic", json!({}));
    until(
        "it is logged",
        || host.process.stderr(),
        |text| {
            text.lines()
                .any(|line| line.contains("a task panics on purpose") && line.contains("chaos"))
        },
    );
    assert_eq!(client.emit("chaos:echo", json!(1)), 1);
}
