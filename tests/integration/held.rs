//! What may happen to a plugin and to those who call it while its events are held.

use std::fs;

use serde_json::{Value, json};

use crate::kit::{Client, Library, TestHost, counters, error_of, under_load, until};

#[track_caller]
fn increment(client: &mut Client) -> u64 {
    client.emit("counter:increment", json!({"name": "a"}))["value"].as_u64().unwrap()
}

/// A call inside a plugin holds up the hand-over of its state, and an event waits for it.
struct Held {
    host: TestHost,
    /// Who has made the call, and its id.
    inside: (Client, String),
    /// Who has sent events, and their ids: the last one is held.
    outside: (Client, Vec<String>),
}

impl Held {
    #[track_caller]
    fn begin(host: TestHost) -> Held {
        Held::begin_until(host, "gate:open")
    }

    /// The same; the call that is inside waits for this event.
    #[track_caller]
    fn begin_until(host: TestHost, event: &str) -> Held {
        let (mut caller, mut other) = (host.client(), host.client());
        let inside = caller.begin("counter:wait", json!({"event": event}));
        let waiting = || other.emit("counter:values", json!({}))["waiting"].clone();
        until("it waits", waiting, |waiting| *waiting == 1);
        host.drop_in("counter.so", &Library::counter(2));
        let mut sent = Vec::new();
        let one_more = || {
            sent.push(other.begin("counter:increment", json!({"name": "held"})));
            host.module("counter")["held"].as_u64()
        };
        until("an event is held", one_more, |held| *held > Some(0));
        Held { host, inside: (caller, inside), outside: (other, sent) }
    }

    /// Lets the call end, and waits until the new version is live.
    #[track_caller]
    fn open(&mut self) -> &TestHost {
        self.host.client().reply("gate:open", json!({}));
        assert_eq!(self.inside.0.end(&self.inside.1)["data"], "counter-version-0001");
        self.host.until_version("counter", "2.0.0");
        &self.host
    }
}

#[test]
fn a_host_that_stops_while_events_are_held_answers_them_and_keeps_what_it_acknowledged() {
    // One of the events that a client may ask of a host that stops.
    let mut held = Held::begin_until(TestHost::counter(), "system:help");
    held.host.process.signal(rustix::process::Signal::TERM);
    until(
        "it is stopping",
        || held.host.client().reply("module:load", json!({"path": "/nowhere.so"})).to_string(),
        |reply| reply.contains("stopping"),
    );
    held.host.client().begin("system:help", json!({"event": "system:help"}));
    assert_eq!(held.inside.0.end(&held.inside.1)["data"], "counter-version-0001");
    let (mut client, sent) = held.outside;
    let replies: Vec<Value> = sent.iter().map(|id| client.end(id)).collect();
    let acknowledged = replies.iter().filter(|reply| reply["data"]["value"].is_u64()).count();
    let host = held.host.has_stopped().start();
    assert_eq!(counters(&mut host.client())["held"], acknowledged as u64, "{replies:#?}");
}

#[test]
fn an_event_whose_deadline_passes_while_it_is_held_does_not_run_afterwards() {
    let host = TestHost::builder()
        .plugin("another.so", &Library::counter(1).called("another"))
        .plugin("counter.so", &Library::counter(1))
        .start();
    let mut held = Held::begin(host);
    let mut client = held.host.client();
    let relay = json!({"event": "counter:increment", "data": {"name": "late"}});
    let reply = client.reply("another:relay_soon", relay);
    assert_eq!((&reply["failed"], &reply["data"]["code"]), (&json!(true), &json!("timed_out")));
    let host = held.open();
    assert_eq!(counters(&mut host.client()).get("late"), None);
    let counts = host.until_unmapped("counter")["counts"].take();
    assert_eq!((&counts["rejected"], &counts["in_flight"]), (&json!(1), &json!(0)), "{counts}");
}

#[test]
fn events_of_a_client_that_leaves_while_they_are_held_end_in_one_outcome_each() {
    let mut held = Held::begin(TestHost::counter());
    let mut gone = held.host.client();
    for _ in 0..10 {
        gone.begin("counter:increment", json!({"name": "gone"}));
    }
    let all = |module: &Value| module["held"].as_u64() > Some(10);
    held.host.until_module("they are held", "counter", all);
    drop(gone);
    held.open();
    let host = &held.host;
    let ended = |module: &Value| module["counts"]["in_flight"] == 0;
    let counts = host.until_module("all have ended", "counter", ended)["counts"].take();
    let outcomes =
        ["replied", "no_reply", "failed", "panicked", "crashed", "timed_out", "rejected"];
    let sum: u64 = outcomes.iter().map(|outcome| counts[outcome].as_u64().unwrap()).sum();
    assert_eq!(counts["accepted"], sum, "{counts}");
    let ran = counters(&mut host.client()).get("gone").copied().unwrap_or_default();
    assert_eq!(10 - ran, counts["rejected"].as_u64().unwrap(), "one was run or rejected: {counts}");
    host.until_unmapped("counter");
}

#[test]
fn a_plugin_that_is_unloaded_while_its_events_are_held_goes_after_the_hand_over() {
    let mut held = Held::begin(TestHost::counter());
    let mut client = held.host.client();
    let unload = client.begin("module:unload", json!({"module_name": "counter"}));
    held.host.client().reply("gate:open", json!({}));
    assert_eq!(client.end(&unload)["data"]["generation"], 2);
    assert_eq!(held.inside.0.end(&held.inside.1)["data"], "counter-version-0001");
    let (mut other, sent) = held.outside;
    for id in &sent {
        let reply = other.end(id);
        let answered = reply["data"]["value"].is_u64() || reply["data"]["status"] == "error";
        assert!(answered || reply["failed"] == true, "{reply}");
    }
    held.host.until_unmapped("counter");
    assert_eq!(held.host.resources().libraries.len(), 0);
}

#[test]
fn a_plugin_with_state_may_replace_itself_in_the_middle_of_a_call_which_then_ends() {
    let host = TestHost::builder()
        .plugin("counter.so", &Library::counter(1))
        .config("[timeouts]\nhold = '2s'")
        .start();
    let mut client = host.client();
    assert_eq!(increment(&mut client), 1);
    let reload = json!({"event": "module:reload", "data": {"module_name": "counter"}});
    let reply = client.reply("counter:relay", reload);
    assert_eq!(reply["data"]["code"], "rejected", "a call cannot outlive its state: {reply}");
    assert!(error_of(&reply).contains("being replaced"), "{reply}");
    host.until_live("counter", 2);
    assert_eq!(increment(&mut client), 2);
}

#[test]
fn a_plugin_that_emits_to_itself_all_the_while_is_replaced() {
    let host = TestHost::builder()
        .plugin("counter.so", &Library::counter(1))
        .config("[plugin.counter]\nbackground = 'counter:tick'")
        .start();
    under_load(&host, 2, || {
        for version in 2..=12 {
            host.drop_in("counter.so", &Library::counter(version));
            host.until_live("counter", version as u64);
        }
    });
    host.until_unmapped("counter");
    assert_eq!(host.resources().libraries.len(), 1);
}

#[test]
fn a_file_that_is_renamed_keeps_its_plugins_state_without_any_folder_for_it() {
    for init in ["", "init=slow"] {
        let host = TestHost::builder()
            .plugin("counter.so", &Library::counter(1).does(init))
            .config("[state]\npersist = false")
            .start();
        assert_eq!(increment(&mut host.client()), 1);
        fs::rename(host.file("counter.so"), host.file("renamed.so")).unwrap();
        let module = host.until_live("counter", 2);
        assert_eq!(module["file"], host.file("renamed.so").to_str().unwrap());
        assert_eq!(increment(&mut host.client()), 2, "{init:?}");
        host.until_unmapped("counter");
    }
}

#[test]
fn a_state_of_many_megabytes_is_handed_over_and_kept() {
    let host = TestHost::builder()
        .plugin("counter.so", &Library::counter(1))
        .config("[plugin.counter]\npadding = 12000000\n[timeouts]\nhold = '20s'")
        .start();
    assert_eq!(increment(&mut host.client()), 1);
    host.drop_in("counter.so", &Library::counter(2));
    host.until_version("counter", "2.0.0");
    assert_eq!(increment(&mut host.client()), 2);
    let host = host.stopped().start();
    assert!(host.module("counter")["persisted"]["bytes"].as_u64() > Some(12_000_000));
    assert_eq!(increment(&mut host.client()), 3);
}

#[test]
fn an_initialize_that_needs_another_plugin_is_no_reason_against_a_version() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .plugin("counter.so", &Library::counter(1))
        .start();
    assert_eq!(increment(&mut host.client()), 1);
    // In the trial nobody is there to ask.
    host.drop_in("counter.so", &Library::counter(2).does("init=ask"));
    host.until_version("counter", "2.0.0");
    assert_eq!(increment(&mut host.client()), 2);
}

#[test]
fn a_call_that_blocks_its_thread_is_waited_for_and_counts() {
    let host = TestHost::builder()
        .plugin("counter.so", &Library::counter(1).does("calls=block"))
        .config("[timeouts]\nhold = '300ms'")
        .start();
    let mut caller = host.client();
    let blocked = caller.begin("counter:increment", json!({"name": "a"}));
    host.until_module("it runs", "counter", |module| module["counts"]["in_flight"] == 1);
    host.drop_in("counter.so", &Library::counter(2));
    assert_eq!(caller.end(&blocked)["data"]["value"], 1);
    host.until_version("counter", "2.0.0");
    assert_eq!(increment(&mut caller), 2);
}
