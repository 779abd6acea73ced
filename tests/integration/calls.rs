//! How deep calls may go, how long they are waited for, and how they are counted and watched.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::kit::{Library, TestHost, error_of};

#[test]
fn a_long_chain_of_events_with_large_futures_ends_at_the_depth_limit_and_not_in_a_full_stack() {
    for depth in [64, 1_000] {
        let host = TestHost::builder()
            .plugin("chaos.so", &Library::chaos())
            .config(&format!("[limits]\nevent_depth = {depth}"))
            .start();
        let mut client = host.client();
        for _ in 0..2 {
            let reply = client.reply("chaos:deep", json!({}));
            assert_eq!(reply["failed"], true);
            let error = error_of(&reply);
            assert!(error.contains("limits.event_depth"), "{error}");
        }
        let counts = host.module("chaos")["counts"].take();
        assert_eq!(
            (&counts["accepted"], &counts["failed"]),
            (&json!(2 * depth), &json!(2 * depth))
        );
        assert_eq!(client.emit("chaos:echo", json!(1)), 1, "the host goes on");
    }
}

#[test]
fn a_blocking_call_is_answered_at_its_timeout_whether_it_runs_or_waits_for_a_thread() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config("[limits]\nblocking_threads = 1")
        .start();
    // Long, and not so long that the process of a plugin is ended before.
    const BLOCKED: Duration = Duration::from_secs(4);
    let (mut client, start) = (host.client(), Instant::now());
    let block = json!({"millis": BLOCKED.as_millis() as u64});
    let calls: Vec<_> = (0..3).map(|_| client.begin("chaos:block_late", block.clone())).collect();
    for id in calls {
        let reply = client.end(&id);
        assert_eq!((&reply["failed"], &reply["data"]["code"]), (&json!(true), &json!("timed_out")));
        assert!(error_of(&reply).contains("200ms"), "{reply}");
    }
    assert!(start.elapsed() < BLOCKED, "{:?}", start.elapsed());
    let counts = host.module("chaos")["counts"].take();
    let expected = (&json!(3), &json!(3), &json!(0));
    assert_eq!((&counts["accepted"], &counts["timed_out"], &counts["in_flight"]), expected);
    // The one that runs goes on, and its code stays for as long as it does; those that waited never
    // began.
    let old = host.resources().libraries;
    client.emit("module:unload", json!({"module_name": "chaos"}));
    host.until_unmapped("chaos");
    assert_eq!(old.len(), 1);
    let ran = start.elapsed();
    assert!(ran >= BLOCKED, "unmapped in the middle of a call: {ran:?}");
    assert!(ran < 2 * BLOCKED, "a call that nobody waits for was begun: {ran:?}");
}

/// Whether each call that was accepted has ended in one way, or has not ended yet.
#[track_caller]
fn assert_balanced(counts: &Value) {
    let of = |name: &str| counts[name].as_u64().unwrap();
    let ways = [
        "replied",
        "no_reply",
        "failed",
        "panicked",
        "crashed",
        "timed_out",
        "rejected",
        "in_flight",
    ];
    let sum: u64 = ways.iter().map(|way| of(way)).sum();
    assert_eq!(of("accepted"), sum, "{counts}");
}

#[test]
fn calls_of_run_time_subscriptions_stay_in_the_accounts_when_the_subscription_goes() {
    const RELOADS: u64 = 5;
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config("[plugin.chaos]\nsubscribe = ['life:heard']")
        .start();
    let mut client = host.client();
    let before = client.emit("router:stats", json!({}));
    let done = AtomicBool::new(false);
    let (answered, own) = std::thread::scope(|scope| {
        let load: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let (mut client, mut number) = (host.client(), 0_u64);
                    while !done.load(SeqCst) {
                        let answer = client.emit("life:heard", json!({}));
                        assert_eq!(answer, json!({"heard": "life:heard"}));
                        number += 1;
                    }
                    number
                })
            })
            .collect();
        let mut own = 0;
        for _ in 0..RELOADS {
            client.emit("chaos:subscribe", json!({"pattern": "life:briefly"}));
            let answer = client.emit("life:briefly", json!({}));
            assert_eq!(answer, json!({"heard": "life:briefly"}));
            assert_eq!(client.emit("chaos:unsubscribe", json!({"pattern": "life:briefly"})), true);
            own += 3;
            client.emit("module:reload", json!({"module_name": "chaos"}));
        }
        done.store(true, SeqCst);
        let answered: u64 = load.into_iter().map(|thread| thread.join().unwrap()).sum();
        (answered, own)
    });
    let after = client.emit("router:stats", json!({}));
    let counts = host.module("chaos")["counts"].take();
    assert!(answered > RELOADS, "there was load: {answered}");
    assert_eq!(counts["accepted"], answered + own, "{counts}");
    for counts in [&before, &after, &counts] {
        assert_balanced(counts);
    }
    // The host's own handlers count there too: of each reload, and of the last question.
    let accepted = |stats: &Value| stats["accepted"].as_u64().unwrap();
    assert_eq!(accepted(&after) - accepted(&before), answered + own + RELOADS + 1);
}

#[test]
fn a_watcher_with_overlapping_patterns_sees_each_event_once() {
    const EMITTERS: u64 = 4;
    const EACH: u64 = 500;
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config("[limits]\nsubscriber_queue = 20_000")
        .start();
    let mut watcher = host.client();
    watcher.subscribe(&["chaos:quiet", "chaos:*", "*:quiet", "chaos:**", "**"]);
    let mut seen: HashMap<u64, u64> = HashMap::new();
    std::thread::scope(|scope| {
        let emitters = (0..EMITTERS).map(|emitter| {
            let host = &host;
            scope.spawn(move || {
                let mut client = host.client();
                for burst in 0..EACH / 100 {
                    let numbers = (0..100).map(|number| (emitter * EACH) + burst * 100 + number);
                    let sent: Vec<_> =
                        numbers.map(|number| client.begin("chaos:quiet", json!(number))).collect();
                    sent.iter().for_each(|id| drop(client.end(id)));
                }
            })
        });
        let emitters: Vec<_> = emitters.collect();
        scope.spawn(|| {
            loop {
                let event = watcher.push();
                match event["event"].as_str() {
                    Some("chaos:quiet") => {
                        *seen.entry(event["data"].as_u64().unwrap()).or_default() += 1;
                    }
                    Some("chaos:echo") => break,
                    // The last pattern matches what the host tells of itself, too.
                    _ => {}
                }
            }
        });
        emitters.into_iter().for_each(|emitter| emitter.join().unwrap());
        host.client().emit("chaos:echo", json!("the end"));
    });
    assert_eq!(seen.len() as u64, EMITTERS * EACH, "none is lost");
    let twice: Vec<_> = seen.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "seen more than once: {twice:?}");
}

#[test]
fn a_client_is_answered_in_time_although_the_call_does_not_return_and_its_late_end_counts_as_late()
{
    let host = TestHost::chaos();
    let mut client = host.client();
    // Nothing releases the call before the answer is there.
    let reply = client.reply("chaos:held", json!({}));
    assert_eq!((&reply["failed"], &reply["data"]["code"]), (&json!(true), &json!("timed_out")));
    assert_eq!(host.module("chaos")["counts"]["in_flight"], 1, "the call is still there");
    client.emit("chaos:release", json!({}));
    let after = host
        .until_module("the call has ended", "chaos", |module| module["counts"]["in_flight"] == 0);
    assert_eq!(
        (&after["counts"]["timed_out"], &after["counts"]["replied"]),
        (&json!(1), &json!(0))
    );
}

#[test]
fn of_several_handlers_those_that_have_ended_are_told_when_one_does_not_return() {
    // With a gate, through which its events pass, and without.
    for config in ["", "[reload.plugins.chaos]\nexclusive = true"] {
        let host = TestHost::builder().plugin("chaos.so", &Library::chaos()).config(config).start();
        let mut client = host.client();
        let reply = client.reply("several:one", json!({}));
        assert_eq!((&reply["data"], &reply["count"]), (&json!("in time"), &json!(1)), "{reply}");
        let errors = reply["errors"].as_array().unwrap();
        let failed: Vec<_> =
            errors.iter().map(|error| (&error["handler"], &error["code"])).collect();
        let late = json!("timed_out");
        let expected = [(&json!("held"), &late), (&json!("behind_held"), &late)];
        assert_eq!(failed, expected, "{reply}");
        client.emit("chaos:release", json!({}));
    }
}

#[test]
fn a_call_that_fails_leaves_a_line_and_an_event_and_a_thousand_like_it_do_not_leave_a_thousand() {
    let host = TestHost::chaos();
    let (mut client, mut watcher) = (host.client(), host.client());
    watcher.subscribe(&["module:call_failed"]);
    let none_left = |number: usize| {
        let message = format!("sku {number}: none left");
        json!({"code": "no_stock", "message": message})
    };
    // The first is the one that is told of.
    client.reply("chaos:fail", none_left(0));
    // Side by side, as they are counted for some seconds before more is told.
    for tens in 0..100 {
        let begun: Vec<_> =
            (1..=10).map(|one| client.begin("chaos:fail", none_left(tens * 10 + one))).collect();
        begun.iter().for_each(|id| drop(client.end(id)));
    }
    client.reply("chaos:panic", json!({}));
    client.reply("chaos:late", json!({}));
    let told = ["no_stock", "panicked", "timed_out"].map(|code| {
        let data = watcher.push_of("module:call_failed");
        assert_eq!((&data["name"], &data["code"]), (&json!("chaos"), &json!(code)), "{data}");
        assert_eq!(data["count"], 1, "{data}");
        data
    });
    assert_eq!(
        (&told[0]["handler"], &told[0]["event"], &told[0]["message"]),
        (&json!("fail"), &json!("chaos:fail"), &json!("sku 0: none left"))
    );
    let stderr = host.stop().stderr;
    let lines: Vec<&str> = stderr.lines().filter(|line| line.contains("a call failed")).collect();
    assert_eq!(lines.len(), 3, "{stderr}");
    for word in ["plugin=\"chaos\"", "handler=\"fail\"", "event=\"chaos:fail\"", "sku 0"] {
        assert!(lines[0].contains(word), "{word}: {}", lines[0]);
    }
}
