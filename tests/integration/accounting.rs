//! Every accepted event ends in one outcome, and all who count agree on how many there were.

use serde_json::{Value, json};

use crate::kit::{Client, Library, TestHost, until};

const OUTCOMES: [&str; 7] =
    ["replied", "no_reply", "failed", "panicked", "crashed", "timed_out", "rejected"];

#[track_caller]
fn number(counts: &Value, key: &str) -> u64 {
    counts[key].as_u64().unwrap_or_else(|| panic!("no {key} in {counts:#}"))
}

/// Accepted events, if each has ended in one outcome.
#[track_caller]
fn balanced(counts: &Value) -> u64 {
    let ended: u64 = OUTCOMES.iter().map(|outcome| number(counts, outcome)).sum();
    let (accepted, in_flight) = (number(counts, "accepted"), number(counts, "in_flight"));
    assert_eq!(accepted, ended + in_flight, "{counts:#}");
    assert_eq!(in_flight, 0, "{counts:#}");
    accepted
}

fn sum<'a>(all: impl Iterator<Item = &'a Value>) -> Value {
    let mut sum = json!({});
    for counts in all {
        for key in OUTCOMES.into_iter().chain(["accepted", "in_flight"]) {
            sum[key] = json!(sum[key].as_u64().unwrap_or_default() + number(counts, key));
        }
    }
    sum
}

/// Ends calls in every way but rejected: how many events that were.
fn use_all(client: &mut Client) -> u64 {
    let events = [
        ("chaos:echo", json!(1)),
        ("chaos:quiet", json!({})),
        ("chaos:fail", json!({"code": "no", "message": "no"})),
        ("chaos:panic", json!({})),
        ("chaos:late", json!({})),
        ("chaos:block_well", json!({"millis": 1})),
        ("chaos:sleep", json!({"millis": 2})),
        ("chaos:typed", json!({"items": "none"})),
    ];
    events.iter().for_each(|(event, data)| drop(client.reply(event, data.clone())));
    events.len() as u64
}

#[test]
fn accepted_is_the_sum_of_the_outcomes_over_generations_wherever_it_is_shown() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .plugin("counter.so", &Library::counter(1))
        .config("[timeouts]\ndrain = '100ms'\n[reload]\nprobation = '0s'")
        .start();
    let (mut client, mut caller) = (host.client(), host.client());
    let (mut used, mut last) = (0, 0);
    for version in 2..=5 {
        last = use_all(&mut client);
        used += last;
        let given_up = caller.begin("chaos:hang", json!({}));
        used += 1;
        let runs = |module: &Value| module["counts"]["in_flight"] == 1;
        host.until_module("it hangs", "chaos", runs);
        for (file, library) in [
            ("chaos.so", Library::chaos().version(version)),
            ("counter.so", Library::counter(version)),
        ] {
            client.reply("counter:increment", json!({"name": "a"}));
            client.reply("counter:increment", json!({"nobody": "a"}));
            host.drop_in(file, &library);
        }
        host.until_live("chaos", version as u64);
        host.until_live("counter", version as u64);
        assert_eq!(caller.end(&given_up)["data"]["code"], "rejected");
    }
    used += use_all(&mut client);
    host.until_unmapped("chaos");
    host.until_unmapped("counter");

    let metrics = client.emit("metrics:get", json!({}));
    for (name, accepted) in [("chaos", used), ("counter", 16)] {
        let counts = host.module(name)["counts"].take();
        assert_eq!(balanced(&counts), accepted, "{name}");
        let inspected = client.emit("module:inspect", json!({"module_name": name}));
        assert_eq!(inspected["counts"], counts);
        let handlers = inspected["handlers"].as_array().unwrap();
        for handler in handlers {
            balanced(&handler["counts"]);
        }
        assert_eq!(sum(handlers.iter().map(|handler| &handler["counts"])), counts);
        let own = &metrics["plugins"][name];
        assert_eq!((&own["counts"], &own["generation"]), (&counts, &json!(5)));
        assert_eq!(sum(own["handlers"].as_object().unwrap().values()), counts);
        for handler in handlers {
            let name = handler["name"].as_str().unwrap();
            let there = own["handlers"].get(name);
            assert!(there.is_none_or(|there| *there == handler["counts"]), "{name}");
        }
        balanced(&inspected["generation_counts"]);
    }
    let inspected = client.emit("module:inspect", json!({"module_name": "chaos"}));
    assert_eq!(number(&inspected["generation_counts"], "accepted"), last, "the live one's alone");
    let text = host.ksi(&["inspect", "chaos"]).ok();
    assert!(text.contains(&used.to_string()), "{text}");
}

#[test]
fn the_totals_of_the_host_are_those_of_its_plugins_and_its_own() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .plugin("counter.so", &Library::counter(1))
        .start();
    let mut client = host.client();
    let before = client.emit("system:health", json!({}))["counts"].take();
    let used = use_all(&mut client);
    for _ in 0..7 {
        client.emit("counter:increment", json!({"name": "a"}));
    }
    let after = client.emit("system:health", json!({}))["counts"].take();
    let more = number(&after, "accepted") - number(&before, "accepted");
    assert!(more >= used + 7, "{before} {after}");
    let metrics = client.emit("metrics:get", json!({}));
    let ended: u64 = OUTCOMES.iter().map(|outcome| number(&metrics["host"], outcome)).sum();
    let accepted = number(&metrics["host"], "accepted");
    assert_eq!(accepted, ended + number(&metrics["host"], "in_flight"));
    let list = host.ksi(&["list"]).ok();
    assert!(list.contains("in all: ") && list.contains(" accepted = "), "{list}");
}

#[test]
fn what_a_plugin_counted_is_there_after_it_was_unloaded_and_loaded_again() {
    let host = TestHost::chaos();
    let mut client = host.client();
    let used = use_all(&mut client);
    client.emit("module:unload", json!({"module_name": "chaos"}));
    assert_eq!(balanced(&host.module("chaos")["counts"]), used);
    client.emit("module:load", json!({"path": host.file("chaos.so")}));
    let inspected = client.emit("module:inspect", json!({"module_name": "chaos"}));
    assert_eq!(balanced(&inspected["counts"]), used);
    assert_eq!(balanced(&inspected["generation_counts"]), 0);
}

#[test]
fn events_that_wait_for_a_hand_over_count_once() {
    let host = TestHost::counter();
    let (mut caller, mut other) = (host.client(), host.client());
    let inside = caller.begin("counter:wait", json!({"event": "gate:open"}));
    let waiting = || other.emit("counter:values", json!({}))["waiting"].clone();
    until("it waits", waiting, |waiting| *waiting == 1);
    host.drop_in("counter.so", &Library::counter(2));
    let mut held = Vec::new();
    let one_more = || {
        held.push(other.begin("counter:increment", json!({"name": "a"})));
        host.module("counter")["held"].as_u64()
    };
    until("an event is held", one_more, |held| *held > Some(0));
    host.client().reply("gate:open", json!({}));
    caller.end(&inside);
    held.iter().for_each(|id| drop(other.end(id)));
    host.until_unmapped("counter");
    let before = balanced(&host.module("counter")["counts"]);
    let values = before - 1 - held.len() as u64;
    assert!(values >= 1, "what is left are the questions whether it waits: {values}");
    other.emit("counter:values", json!({}));
    assert_eq!(balanced(&host.module("counter")["counts"]), before + 1);
    let inspected = other.emit("module:inspect", json!({"module_name": "counter"}));
    let increments = inspected["handlers"][0]["counts"].clone();
    assert_eq!(number(&increments, "accepted"), held.len() as u64, "{increments}");
}

#[test]
fn metrics_are_reported_at_an_interval_to_whoever_listens() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config("[metrics]\ninterval = '50ms'")
        .start();
    let (mut client, mut watcher) = (host.client(), host.client());
    let used = use_all(&mut client);
    watcher.subscribe(&["metrics:*"]);
    for _ in 0..3 {
        let report = watcher.push_of("metrics:report");
        assert_eq!(balanced(&report["plugins"]["chaos"]["counts"]), used, "{report}");
        assert!(number(&report["host"], "accepted") >= used);
    }
    assert_eq!(balanced(&host.module("chaos")["counts"]), used, "the watching itself calls nobody");
}

#[test]
fn every_generation_tells_how_long_its_steps_took() {
    let host = TestHost::counter();
    host.client().emit("counter:increment", json!({"name": "a"}));
    host.drop_in("counter.so", &Library::counter(2));
    host.until_live("counter", 2);
    let module = host.until_unmapped("counter");
    let retired = &module["retired"][0];
    assert_eq!((&retired["generation"], &retired["version"]), (&json!(1), &json!("1.0.0")));
    for step in ["drain", "unmap"] {
        assert!(retired["timings_ms"][step].as_f64() >= Some(0.0), "{step}: {retired}");
    }
    let inspected = host.client().emit("module:inspect", json!({"module_name": "counter"}));
    for step in ["copy", "manifest", "probe", "load", "init", "hold", "snapshot", "restore"] {
        let took = inspected["timings_ms"][step].as_f64();
        assert!(took >= Some(0.0), "{step}: {}", inspected["timings_ms"]);
    }
}
