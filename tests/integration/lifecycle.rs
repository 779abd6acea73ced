//! What a generation may leave behind, at its end and at that of the host: threads, tasks,
//! closures, wakers, calls.

use std::{
    fs,
    time::{Duration, Instant},
};

use ksi_wire::module::{ModuleState, RetiredState};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::kit::{Library, PATIENCE, States, TestHost, until};

#[test]
fn a_context_from_a_run_time_subscription_pins_its_generation_until_a_thread_lets_it_go() {
    let host = TestHost::chaos();
    let mut client = host.client();
    let flag = host.dir().join("keep");
    fs::write(&flag, "").unwrap();
    client.emit("chaos:subscribe_keeping", json!({"pattern": "life:keep", "while_exists": flag}));
    assert_eq!(client.emit("life:keep", json!({})), "kept");
    host.drop_in("chaos.so", &Library::chaos().version(2));
    host.until_live("chaos", 2);
    let pinned = |module: &Value| module.retired_state(0) == RetiredState::Pinned;
    let module = host.until_module("the old one is pinned", "chaos", pinned);
    let cause = module["retired"][0]["cause"].as_str().unwrap();
    assert!(cause.contains("reference"), "{cause}");
    assert_eq!(host.resources().libraries.len(), 2);
    assert_eq!(client.emit("chaos:echo", json!(1)), 1, "the host goes on");
    fs::remove_file(&flag).unwrap();
    host.until_unmapped("chaos");
    assert_eq!(host.resources().libraries.len(), 1);
    assert_eq!(client.emit("chaos:version", json!({}))["version"], "chaos-version-0002");
}

#[test]
fn a_task_of_an_initialize_that_fails_ends_with_it() {
    let host = TestHost::builder()
        .config("[recovery]\nattempts = 0")
        .config("[plugin.chaos]\ninit = 'fail'\nbackground = 'life:undead'")
        .start();
    let (mut client, mut watcher) = (host.client(), host.client());
    watcher.subscribe(&["life:undead", "chaos:echo"]);
    host.drop_in("chaos.so", &Library::chaos());
    assert!(host.until_refused("chaos.so").contains("init fails on purpose"));
    until("it leaves memory", || host.resources().libraries, |mapped| mapped.is_empty());
    // Loading another plugin takes many times the period of the task, and then there is somebody to
    // answer.
    host.drop_in("other.so", &Library::chaos().named("chao1"));
    host.until_live("chao1", 1);
    client.emit("chaos:echo", json!("fence"));
    watcher.pushes_until("chaos:echo");
    for number in 0..20 {
        client.emit("chaos:sleep", json!({"millis": 2}));
        client.emit("chaos:echo", json!(number));
    }
    let names: Vec<Value> = (0..20).map(|_| watcher.push()["event"].take()).collect();
    assert!(names.iter().all(|name| name == "chaos:echo"), "it goes on: {names:?}");
    assert_eq!(host.resources().libraries.len(), 1);
}

#[test]
fn a_plugin_stays_live_when_its_file_is_renamed_however_long_it_takes_to_start() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config("[plugin.chaos]\ninit = 'sleep'\ninit_millis = 500")
        .start();
    fs::rename(host.file("chaos.so"), host.file("renamed.so")).unwrap();
    host.until_live("chaos", 2);
    // Turns go in order, so when this one is over, so is that of the file that is not there any
    // more.
    let copy = host.dir().join("copy.so");
    fs::write(&copy, &Library::chaos().version(2).0).unwrap();
    let refused = host.client().reply("module:load", json!({"path": copy}));
    assert_eq!(refused["data"]["code"], "duplicate", "{refused}");
    let module = host.until_unmapped("chaos");
    assert_eq!((module.state(), &module["generation"]), (ModuleState::Live, &json!(2)));
    assert_eq!(module["file"], host.file("renamed.so").to_str().unwrap());
    assert_eq!(module["last_error"], Value::Null);
    assert_eq!(host.client().emit("chaos:echo", json!(1)), 1);
}

#[test]
fn a_subscription_that_holds_a_context_in_its_closure_does_not_pin_its_generation() {
    let host = TestHost::chaos();
    let mut client = host.client();
    for generation in 2..=21 {
        client.emit("chaos:subscribe_in_a_circle", json!({"pattern": "life:circle"}));
        assert_eq!(client.emit("life:circle", json!({})), "called");
        let reloaded = client.emit("module:reload", json!({"module_name": "chaos"}));
        assert_eq!(reloaded["generation"], generation);
    }
    let module = host.until_unmapped("chaos");
    let (kept, earlier) = (&module["retired"], &module["earlier_unmapped"]);
    assert_eq!(kept.as_array().unwrap().len() as u64 + earlier.as_u64().unwrap(), 20);
    assert_eq!(host.resources().libraries.len(), 1);
}

#[test]
fn a_bad_file_is_forgotten_when_the_good_bytes_are_back() {
    let host = TestHost::chaos();
    host.drop_in("chaos.so", &Library(b"no library at all".to_vec()));
    host.until_module("it is told", "chaos", |module| module["last_error"].is_string());
    host.drop_in("chaos.so", &Library::chaos());
    let module = host
        .until_module("it is told no more", "chaos", |module| module["last_error"] == Value::Null);
    assert_eq!((module.state(), &module["generation"]), (ModuleState::Live, &json!(1)));
    assert_eq!(module["retired"], json!([]), "the same content is no new generation");
}

#[test]
fn a_waker_that_is_woken_after_the_unloading_does_not_keep_its_library_in_memory() {
    let host = TestHost::chaos();
    let (mut client, mut watcher) = (host.client(), host.client());
    watcher.subscribe(&["module:retired"]);
    let asked = Instant::now();
    client.emit("chaos:woken_late", json!({"millis": 600}));
    client.emit("module:unload", json!({"module_name": "chaos"}));
    let retired = watcher.push_of("module:retired");
    assert!(asked.elapsed() >= Duration::from_millis(600), "its timer held it until then");
    assert_eq!(retired["unmapped"], true, "{retired}");
    host.until_unmapped("chaos");
    assert_eq!(host.resources().libraries.len(), 0);
}

#[test]
fn stop_waits_for_a_call_on_a_generation_that_was_replaced_before() {
    let version = |number| Library::counter(number).stateless();
    let mut host = TestHost::builder().plugin("counter.so", &version(1)).start();
    let (mut caller, mut other) = (host.client(), host.client());
    // The host's own events alone are accepted while it stops.
    let waiting = caller.begin("counter:wait", json!({"event": "system:help"}));
    let is_inside = || other.emit("counter:values", json!({}))["waiting"].clone();
    until("it waits", is_inside, |waiting| *waiting == 1);
    host.drop_in("counter.so", &version(2));
    host.until_live("counter", 2);
    other.subscribe(&["system:shutdown"]);
    host.process.signal(Signal::TERM);
    other.push_of("system:shutdown");
    other.begin("system:help", json!({"event": "system:help"}));
    assert_eq!(caller.end(&waiting)["data"], "counter-version-0001");
    assert_eq!(host.process.ended().code, Some(0));
}

/// Stops a host while a version of `chaos` is in its `initialize`; gives what is told from then on,
/// with the version or the name, and how long the stop takes.
#[track_caller]
fn stopped_while_starting(mut host: TestHost, version: usize) -> (Vec<String>, Duration) {
    let mut watcher = host.client();
    watcher.subscribe(&["life:*", "system:shutdown", "module:loaded", "module:unloaded"]);
    host.drop_in("z.so", &Library::chaos().version(version));
    let version = format!("chaos-version-{version:04}");
    while watcher.push_of("life:begun")["version"] != version {}
    let start = Instant::now();
    host.process.signal(Signal::TERM);
    watcher.pushes_until("system:shutdown");
    let lines = std::iter::from_fn(|| watcher.raw()).take_while(|_| start.elapsed() < PATIENCE);
    let told = lines.filter_map(|line| {
        let push: Value = serde_json::from_str(&line).unwrap();
        let (event, data) = (push["event"].as_str().unwrap(), &push["data"]);
        let of = data["name"].as_str().or(data["version"].as_str()).unwrap();
        (event != "life:begun").then(|| format!("{event} {of}"))
    });
    let told = told.collect();
    assert_eq!(host.process.ended().code, Some(0));
    (told, start.elapsed())
}

#[test]
fn a_plugin_that_starts_while_the_host_stops_does_not_become_live() {
    let host = TestHost::builder()
        .plugin("other.so", &Library::chaos().named("chao1"))
        .config("[plugin.chaos]\ninit = 'sleep'\ninit_millis = 2000\nbackground = 'life:begun'")
        .config("[plugin.chao1]\nshutdown = 'sleep'\nshutdown_millis = 3000")
        .config("last_words = 'life:last'")
        .start();
    let (told, _) = stopped_while_starting(host, 1);
    assert_eq!(told, ["life:last chaos-version-0001", "module:unloaded chao1"]);
}

#[test]
fn a_start_that_never_ends_keeps_no_plugin_from_its_shutdown_and_the_host_not_from_its_end() {
    let host = TestHost::builder()
        .plugin("other.so", &Library::chaos().named("chao1").version(9))
        .plugin("z.so", &Library::chaos())
        .config("[timeouts]\ninit = '10m'\ndrain = '400ms'\nshutdown = '2s'")
        .config("[plugin.chaos]\ninit = 'hang'\ninit_version = 'chaos-version-0002'")
        .config("background = 'life:begun'\nlast_words = 'life:last'")
        .config("[plugin.chao1]\nshutdown = 'sleep'\nshutdown_millis = 100")
        .config("last_words = 'life:last'")
        .start();
    let (told, time) = stopped_while_starting(host, 2);
    assert_eq!(
        told,
        [
            "life:last chaos-version-0001",
            "module:unloaded chaos",
            "life:last chaos-version-0009",
            "module:unloaded chao1"
        ]
    );
    // Both timeouts and three seconds.
    assert!(time < PATIENCE / 3 * 2, "{time:?}");
}
