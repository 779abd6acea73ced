//! What is known of calls that have ended: `ksi trace`, and the events behind it.

use ksi_wire::router::{Calls, Failures, Latencies};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::kit::{Library, TestHost};

fn asked<T: DeserializeOwned>(host: &TestHost, event: &str, data: Value) -> T {
    let answer = host.client().emit(event, data);
    serde_json::from_value(answer.clone()).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

fn calls(host: &TestHost, data: Value) -> Calls {
    asked(host, "router:calls", data)
}

/// The number of the root event of the last call of this event.
fn root_of(host: &TestHost, event: &str) -> String {
    let calls = calls(host, json!({"event": event})).calls;
    calls.last().unwrap_or_else(|| panic!("no call of {event}")).root_id.clone()
}

/// What differs between runs, out of a tree: numbers and times.
fn without_times(tree: &str) -> Vec<String> {
    let line = |line: &str| {
        let words = line.split_whitespace().filter(|word| {
            let is_time = word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
            !is_time
                && !word.starts_with("evt_")
                && !matches!(*word, "…" | "ms" | "µs" | "waited" | "ms;")
        });
        words.collect::<Vec<_>>().join(" ")
    };
    tree.lines().map(line).collect()
}

#[test]
fn a_chain_of_events_is_one_tree_with_what_failed_in_it() {
    let host = TestHost::builder()
        .plugin("a.so", &Library::chaos())
        .config("[plugin.chaos]\nlabel = 'it'\nanswer = 'fail'")
        .start();
    let of = |event: &str| {
        let inner = json!({"event": event, "data": {}});
        host.client().emit("chaos:emit", json!({"event": "chaos:emit", "data": inner}));
        let tree = host.ksi(&["trace", &root_of(&host, event)]).ok();
        // The number of any other event of the chain does as well.
        let calls = calls(&host, json!({"event": event})).calls;
        let inner = &calls.last().unwrap().event_id;
        assert_eq!(host.ksi(&["trace", inner]).ok(), tree);
        without_times(&tree)
    };
    assert_eq!(
        of("chaos:answer"),
        [
            "chaos:emit from socket 1 failed",
            "└─ chaos.emit gen 1 replied",
            "└─ chaos:emit chaos.emit gen 1 replied",
            "└─ chaos:answer chaos.answer gen 1 failed broken it broke",
        ]
    );
    assert_eq!(
        of("order:all"),
        [
            "chaos:emit from socket",
            "└─ chaos.emit gen 1 replied",
            "└─ chaos:emit chaos.emit gen 1 replied",
            "└─ order:all 4 handlers",
            "├─ chaos.order_high gen 1 replied",
            "├─ chaos.order_first gen 1 replied",
            "├─ chaos.order_second gen 1 replied",
            "└─ chaos.order_low gen 1 replied",
        ]
    );
}

#[test]
fn failures_are_told_with_their_count_code_message_and_a_way_to_the_tree() {
    let host = TestHost::chaos();
    for n in 0..3 {
        let how = json!({"code": "out_of_stock", "message": format!("sku {n}: 0 left")});
        host.ksi(&["emit", "chaos:fail", &how.to_string()]).fails(1);
    }
    let told = host.ksi(&["trace", "--failed", "--last", "1m"]).ok();
    let (titles, line) = told.split_once('\n').unwrap();
    for title in ["LAST", "COUNT", "EVENT", "HANDLER", "GEN", "CODE", "MESSAGE", "TRACE"] {
        assert!(titles.contains(title), "{told}");
    }
    for word in ["3", "chaos:fail", "chaos.fail", "out_of_stock", "sku 2: 0 left", "evt_"] {
        assert!(line.contains(word), "{word}: {told}");
    }
    let id = line.split_whitespace().last().unwrap();
    assert!(host.ksi(&["trace", id]).ok().contains("out_of_stock"));
    let Failures { failures } = asked(&host, "router:failures", json!({"plugin": "chaos"}));
    let recent: Vec<&str> = failures[0].recent.iter().map(|call| &*call.message).collect();
    assert_eq!((failures[0].count, failures[0].last_minute), (3, 3));
    assert_eq!(recent, ["sku 0: 0 left", "sku 1: 0 left", "sku 2: 0 left"]);
    assert!(failures[0].first_us <= failures[0].last_us);
    let none = host.ksi(&["trace", "--failed", "--plugin", "nobody"]);
    assert_eq!((none.code, &*none.stdout), (Some(0), ""));
    assert!(none.stderr.contains("no failures are known"), "{none:?}");
}

#[test]
fn calls_are_found_by_time_event_plugin_and_outcome() {
    let host = TestHost::chaos();
    host.client().emit("chaos:sleep", json!({"millis": 30}));
    host.client().emit("chaos:count", json!({}));
    let slow = host.ksi(&["trace", "--slow", "20ms"]).ok();
    assert!(slow.contains("chaos:sleep") && !slow.contains("chaos:count"), "{slow}");
    let all = host.ksi(&["trace", "--last", "1m"]).ok();
    assert!(all.contains("chaos.count") && !all.contains("host."), "{all}");
    let of_host = host.ksi(&["trace", "--plugin", "host"]).ok();
    assert!(of_host.contains("host.router:calls") && !of_host.contains("chaos."), "{of_host}");
    let by_event = host.ksi(&["trace", "--event", "*:count"]).ok();
    assert!(by_event.contains("chaos.count") && !by_event.contains("chaos:sleep"), "{by_event}");
    let of_plugin = calls(&host, json!({"plugin": "chaos", "limit": 1}));
    assert_eq!(of_plugin.calls.len(), 1);
    assert_eq!((&*of_plugin.calls[0].event, of_plugin.calls[0].generation), ("chaos:count", 1));
    assert_eq!(calls(&host, json!({"failed": true})).calls, []);
    let json = host.ksi(&["trace", "--event", "chaos:sleep", "--json"]).ok();
    let answer: Calls = serde_json::from_str(&json).unwrap();
    assert!(answer.calls[0].took_ms >= Some(30.0), "{json}");
}

#[test]
fn who_reads_on_from_a_cursor_gets_what_ended_since() {
    let host = TestHost::chaos();
    let first = calls(&host, json!({}));
    host.client().emit("chaos:count", json!({}));
    let next = calls(&host, json!({"after": first.cursor}));
    let names: Vec<&str> = next.calls.iter().map(|call| &*call.event).collect();
    assert!(names.contains(&"chaos:count"), "{names:?}");
    let last = calls(&host, json!({"after": next.cursor}));
    assert!(last.calls.iter().all(|call| call.event != "chaos:count"), "{last:?}");
}

#[test]
fn what_is_asked_wrongly_is_told_and_what_is_not_known_too() {
    let host = TestHost::chaos();
    for (arguments, said) in [
        (&["trace", "order:place"][..], "is no number of an event"),
        (&["trace", "--event", "a b"], "a b"),
        (&["trace", "evt_1", "--failed"], "cannot be used with"),
    ] {
        assert!(host.ksi(arguments).fails(2).contains(said), "{arguments:?}");
    }
    assert!(host.ksi(&["trace", "evt_1"]).fails(1).contains("nothing is known of calls of it"));
    for data in
        [json!({"root": "x"}), json!({"after": "x"}), json!({"last_ms": -1}), json!({"no": 1})]
    {
        let answer = host.client().reply("router:calls", data.clone());
        assert_eq!(answer["data"]["code"], "invalid_payload", "{data}: {answer}");
    }
}

#[test]
fn how_long_calls_take_is_told_of_the_live_generation_and_summed_over_all() {
    let host = TestHost::chaos();
    for _ in 0..3 {
        host.client().emit("chaos:sleep", json!({"millis": 5}));
    }
    let of_sleep = |host: &TestHost| {
        let Latencies { bounds, handlers, recorder } = asked(host, "router:latency", json!({}));
        assert_eq!(bounds.len() + 1, handlers[0].classes.len());
        assert!(recorder.calls >= 3 && recorder.bytes > 0, "{recorder:?}");
        let found = handlers.into_iter().find(|known| known.handler == "sleep");
        found.expect("a handler")
    };
    let first = of_sleep(&host);
    let latency = first.latency.expect("there were calls");
    assert_eq!(latency.calls, 3);
    assert!(latency.p50_ms >= 5.0 && latency.max_ms >= latency.p50_ms, "{latency:?}");
    assert!(first.sum >= 0.015 && first.classes.iter().sum::<u64>() == 3, "{first:?}");
    host.ksi(&["reload", "chaos"]).ok();
    let second = of_sleep(&host);
    assert_eq!((second.latency, second.classes), (None, first.classes));
}

#[test]
fn a_failure_of_a_generation_that_is_gone_is_still_told_with_its_number() {
    let host = TestHost::chaos();
    let how = json!({"code": "broken", "message": "it is"});
    host.ksi(&["emit", "chaos:fail", &how.to_string()]).fails(1);
    host.ksi(&["reload", "chaos"]).ok();
    host.until_module("the first generation is gone", "chaos", |module| {
        module["retired"][0]["state"] == "unmapped"
    });
    let told = host.ksi(&["trace", "--failed", "--json"]).ok();
    let Failures { failures } = serde_json::from_str(&told).unwrap();
    let last = &failures[0].recent[0];
    assert_eq!((&*last.plugin, &*last.handler, last.generation), ("chaos", "fail", 1));
}
