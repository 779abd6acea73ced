//! `ksi compare`: two versions of a plugin, and the same events to both.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::kit::{Client, Library, Ran, TestHost, ksi, ksi_command, put, until};

/// A folder with two libraries and a recording.
struct Pair(tempfile::TempDir);

impl Pair {
    fn of(old: &Library, new: &Library) -> Pair {
        let pair = Pair(tempfile::Builder::new().prefix("ksi-test-").tempdir().unwrap());
        put(&pair.path("old.so"), &old.0);
        put(&pair.path("new.so"), &new.0);
        pair
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Has events recorded as `ksi watch --json` prints them.
    fn record(&self, events: &[(&str, Value)]) {
        let lines = events.iter().zip(1..).map(|((event, data), id)| {
            let id = format!("evt_{id}");
            let line = json!({
                "event": event, "event_name": event, "data": data, "timestamp": 1.5, "_event_id": id,
                "_correlation_id": null, "_parent_event_id": null, "_source": "",
            });
            line.to_string() + "\n"
        });
        fs::write(self.path("recorded"), lines.collect::<String>()).unwrap();
    }

    /// Compares the two by what is recorded.
    fn compare(&self, further: &[&str]) -> Ran {
        let paths = ["old.so", "new.so", "recorded"].map(|it| self.path(it));
        let [old, new, recorded] = paths.each_ref().map(|path| path.to_str().unwrap());
        let arguments = [&["compare", old, new, "--recorded", recorded], further].concat();
        // Nobody listens there, and nobody need.
        ksi(Path::new("/nowhere/ksi.sock"), &arguments, "")
    }

    /// The same as JSON, with the code that it ends with.
    #[track_caller]
    fn told(&self, code: i32, further: &[&str]) -> Value {
        let ran = self.compare(&[&["--json"], further].concat());
        assert_eq!(ran.code, Some(code), "{ran:#?}");
        serde_json::from_str(&ran.stdout).unwrap()
    }
}

fn counted(times: usize) -> Vec<(&'static str, Value)> {
    let mut events = vec![("counter:increment", json!({"name": "a"})); times];
    events.push(("counter:values", json!({})));
    events
}

#[test]
fn a_version_that_does_the_same_is_told_so() {
    let pair = Pair::of(&Library::of("ksi-plugin-state"), &Library::of("ksi-plugin-state"));
    let key = |key: &str, value: Value| json!({"namespace": "n", "key": key, "value": value});
    pair.record(&[
        ("state:set", key("a", json!({"deep": [1, 2.5]}))),
        ("state:get", key("a", json!(null))),
        ("nobody:home", json!({})),
        ("state:get", json!({"namespace": 7})),
        ("system:health", json!({})),
        ("state:delete", key("a", json!(null))),
    ]);
    let told = pair.told(0, &[]);
    let counts = ["compared", "differing", "left_out", "failed_alike"];
    let counts = counts.map(|key| told[key].as_u64().unwrap());
    assert_eq!(counts, [4, 0, 2, 1], "{told:#}");
    assert_eq!(told["differences"], json!([]));
    assert!(told["new_took"]["p50_us"].as_f64().unwrap() > 0.0);
    let said = pair.compare(&[]).ok();
    assert!(said.contains("4 events compared: 4 the same, 0 not; 2 left out"), "{said}");
    // What is not asked for is not played.
    assert_eq!(pair.told(0, &["--event", "state:get"])["compared"], 2);
    let nothing = pair.compare(&["--event", "other:*"]).fails(2);
    assert!(nothing.contains("no event was compared"), "{nothing}");
}

#[test]
fn what_differs_is_shown_by_path_and_what_is_ignored_does_not_count() {
    let pair = Pair::of(&Library::counter(1), &Library::counter(2));
    pair.record(&counted(3));
    let told = pair.told(1, &[]);
    let differs = |event: &str, count: u64, first: &str| {
        json!({
            "event": event, "path": "reply/version", "count": count, "first": first,
            "old": "counter-version-0001", "new": "counter-version-0002",
        })
    };
    let expected =
        json!([differs("counter:increment", 3, "evt_1"), differs("counter:values", 1, "evt_4")]);
    assert_eq!(told["differences"], expected, "{told:#}");
    let table = pair.compare(&[]);
    assert_eq!(table.code, Some(1));
    let line = table.stdout.lines().find(|line| line.contains("counter:values")).unwrap();
    assert!(line.contains("\"counter-version-0001\"") && line.contains("evt_4"), "{line}");
    for pattern in ["reply/version", "**/version", "reply", "reply/**"] {
        assert_eq!(pair.told(0, &["--ignore", pattern])["differing"], 0, "{pattern}");
    }
}

#[test]
fn a_version_that_fails_or_dies_is_a_difference_and_not_the_end() {
    for (behaviour, new) in
        [("calls=fail", "on_purpose: calls fails on purpose"), ("calls=abort", "crashed: ")]
    {
        let pair = Pair::of(&Library::counter(1), &Library::counter(2).does(behaviour));
        pair.record(&counted(1));
        let told = pair.told(1, &["--event", "counter:increment"]);
        let difference = &told["differences"][0];
        assert_eq!(difference["path"], "outcome", "{told:#}");
        assert!(difference["new"].as_str().unwrap().starts_with(new), "{difference}");
        assert_eq!(difference["old"]["replied"]["value"], 1);
    }
}

#[test]
fn what_the_old_one_emits_and_the_new_one_does_not_is_seen() {
    let pair = Pair::of(&Library::of("ksi-plugin-state"), &Library::chaos());
    pair.record(&[("state:set", json!({"namespace": "n", "key": "k", "value": 1}))]);
    let told = pair.told(1, &[]);
    let differences = told["differences"].as_array().unwrap();
    let paths: Vec<&str> = differences.iter().map(|it| it["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["emit/state:changed/0", "outcome"], "{told:#}");
    assert_eq!(differences[0]["old"], json!({"namespace": "n", "key": "k", "value": 1}));
    assert_eq!(differences[0]["new"], Value::Null);
}

#[test]
fn what_cannot_be_compared_is_told() {
    let pair = Pair::of(&Library::counter(1), &Library::counter(2));
    pair.record(&counted(1));
    fs::write(pair.path("new.so"), "no library").unwrap();
    let said = pair.compare(&[]).fails(1);
    assert!(said.contains("new.so"), "{said}");
    let pair = Pair::of(&Library::counter(1), &Library::counter(2));
    fs::write(pair.path("recorded"), "{\"event\":\"counter:values\"}\nno JSON\n").unwrap();
    let said = pair.compare(&[]).fails(1);
    assert!(said.contains("line 2 of the recording: expected ident"), "{said}");
    let without = ksi(Path::new("/nowhere/ksi.sock"), &["compare", "a.so", "b.so"], "");
    assert!(without.fails(2).contains("<--live <DURATION>|--recorded <FILE>>"));
    let old = pair.path("old.so");
    let nowhere = ["compare", old.to_str().unwrap(), old.to_str().unwrap()];
    let nowhere = [&nowhere[..], &["--recorded", "/nowhere/recorded"]].concat();
    let said = ksi(Path::new("/nowhere/ksi.sock"), &nowhere, "").fails(1);
    assert!(said.contains("/nowhere/recorded: No such file"), "{said}");
    // Whoever wrote it was ended.
    fs::write(pair.path("recorded"), "{\"event\":\"counter:values\"}\n{\"event\":\"coun").unwrap();
    let ran = pair.compare(&["--json"]);
    assert!(ran.stderr.contains("line 2 of the recording, its last one, is not whole"), "{ran:#?}");
    assert_eq!(serde_json::from_str::<Value>(&ran.stdout).unwrap()["compared"], 1, "{ran:#?}");
    assert!(ran.stderr.contains("both begin without state: OLD is a file"), "{ran:#?}");
    let nobody = ["compare", "counter", "b.so", "--live", "1s"];
    ksi(Path::new("/nowhere/ksi.sock"), &nobody, "").fails(3);
}

#[test]
fn the_events_of_a_running_host_are_given_to_both_with_its_state_and_do_not_reach_it_again() {
    let host = TestHost::builder()
        .plugin("counter.so", &Library::counter(1))
        .config("[state]\ndir = 'state'\ninterval = '20ms'")
        .start();
    let mut client = host.client();
    let increment = |client: &mut Client| {
        client.emit("counter:increment", json!({"name": "a"}))["value"].as_u64().unwrap()
    };
    for _ in 0..5 {
        increment(&mut client);
    }
    let file = host.dir().join("state/counter.snapshot");
    let kept = || fs::read_to_string(&file).unwrap_or_default();
    until("five are kept", kept, |kept| kept.contains(r#"["a",5]"#));
    let new = host.dir().join("new.so");
    put(&new, &Library::counter(2).does("calls=fail").0);
    let mut compare = ksi_command(&["compare", "counter"]);
    compare.arg(&new).args(["--event", "counter:*", "--live", "5m", "--count", "4", "--json"]);
    compare.env("KSI_SOCKET", host.socket());
    let compare = thread::spawn(move || compare.output().unwrap());
    let mut last = 5;
    while !compare.is_finished() {
        last += 1;
        assert_eq!(increment(&mut client), last, "nobody else counts here");
    }
    let output = compare.join().unwrap();
    let told: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!((output.status.code(), &told["compared"]), (Some(1), &json!(4)), "{output:?}");
    let difference = &told["differences"][0];
    assert_eq!((&difference["path"], &difference["count"]), (&json!("outcome"), &json!(4)));
    let first = difference["old"]["replied"]["value"].as_u64().unwrap();
    assert!(first > 5, "it goes on from what was kept: {difference}");
    assert_eq!(host.module("counter")["generation"], 1);
}

#[test]
fn a_snapshot_is_known_by_what_stands_in_it_and_each_is_said_to_have_begun_with_it_or_not() {
    let host = TestHost::builder()
        .plugin("counter.so", &Library::counter(1))
        .config("[state]\ndir = 'state'")
        .start();
    for _ in 0..5 {
        host.client().emit("counter:increment", json!({"name": "a"}));
    }
    let stopped = host.stopped();
    let pair = Pair::of(&Library::counter(1), &Library::counter(2).does("calls=fail"));
    let kept = pair.path("friday");
    fs::copy(stopped.dir().join("state/counter.snapshot"), &kept).unwrap();
    pair.record(&[("counter:increment", json!({"name": "a"}))]);
    let state = ["--state", kept.to_str().unwrap()];
    let restored =
        |told: &Value| [&told["old_restored"], &told["new_restored"]].map(|it| it == true);
    let told = pair.told(1, &state);
    assert_eq!(restored(&told), [true, true], "{told:#}");
    assert_eq!(told["differences"][0]["old"]["replied"]["value"], 6, "{told:#}");
    put(&pair.path("new.so"), &Library::counter(2).stateless().0);
    let ran = pair.compare(&state);
    let said = format!("NEW begins without the state of {}: it keeps no state", kept.display());
    assert!(
        ran.stderr.contains("OLD begins with the state of") && ran.stderr.contains(&said),
        "{ran:#?}"
    );
    put(&pair.path("new.so"), &Library::of("ksi-plugin-state").0);
    let ran = pair.compare(&state);
    let said = "that is of \"counter\", and this is \"state\"";
    assert!(ran.stderr.contains(said), "{ran:#?}");
    assert_eq!(restored(&pair.told(1, &state)), [true, false]);
    assert_eq!(restored(&pair.told(1, &[])), [false, false]);
    let said = pair.compare(&["--state", pair.path("recorded").to_str().unwrap()]).fails(1);
    assert!(said.contains("it is no kept snapshot"), "{said}");
}

/// Compares the counter of a host with its next version, by all that passes; it has begun.
fn live(host: &TestHost) -> Child {
    let new = host.dir().join("new.so");
    put(&new, &Library::counter(1).0);
    let mut compare = ksi_command(&["compare", "counter"]);
    compare.arg(&new).args(["--event", "counter:*", "--live", "5m", "--json"]);
    compare.env("KSI_SOCKET", host.socket()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let compare = compare.spawn().unwrap();
    let watches = || {
        let clients = host.client().emit("system:clients", json!({}));
        let mut clients = clients["clients"].as_array().unwrap().iter();
        clients.any(|it| it["pid"] == compare.id() && it["subscriptions"] != 0)
    };
    until("it watches", watches, |watches| *watches);
    compare
}

#[test]
fn a_host_that_goes_away_before_the_time_is_over_is_a_failure_and_no_agreement() {
    let host = TestHost::counter();
    let compare = live(&host);
    host.client().emit("counter:increment", json!({"name": "a"}));
    drop(host.crash());
    let output = compare.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said.contains("closed the connection before the time of --live was over"), "{said}");
}

#[test]
fn a_comparison_that_is_interrupted_tells_what_it_has_seen() {
    let host = TestHost::counter();
    let mut compare = live(&host);
    let mut client = host.client();
    let mut emitted = 0;
    while compare.try_wait().unwrap().is_none() {
        client.emit("counter:increment", json!({"name": "a"}));
        emitted += 1;
        if emitted == 100 {
            let pid = Pid::from_raw(compare.id().try_into().unwrap()).unwrap();
            kill_process(pid, Signal::INT).unwrap();
        }
    }
    let output = compare.wait_with_output().unwrap();
    let told: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!((output.status.code(), &told["differing"]), (Some(0), &json!(0)), "{output:?}");
    assert!(told["compared"].as_u64().unwrap() > 0, "{told}");
}
