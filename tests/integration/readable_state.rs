//! State that is written only if it can be read: what a snapshot cannot carry is refused with its
//! path, and told wherever somebody looks.

use std::{fs, path::PathBuf};

use ksi_wire::module::ModuleState;
use serde_json::{Value, json};

use crate::kit::{Library, States, TestHost, until};

const OFTEN: &str = "[state]\ndir = 'state'\ninterval = '20ms'";

/// What the plugin's state is given, and what is said of it.
const ODDITIES: [(&str, &[&str]); 6] = [
    ("nan", &["at \"odd.mean\"", "NaN"]),
    ("infinity", &["at \"odd.mean\"", "inf"]),
    ("nan in an option", &["at \"odd.guess\"", "NaN"]),
    ("some of none", &["at \"odd.twice\"", "`None`"]),
    ("deep", &["odd.deep[0][0]", "127"]),
    ("skipped", &["missing field `lucky`", "cannot be read back", "#[snapshot] and #[restore]"]),
];

fn field() -> TestHost {
    let library = Library::of("ksi-fixture-field-state");
    TestHost::builder().plugin("field.so", &library).config(OFTEN).start()
}

fn change(host: &TestHost, odd: &str) -> u64 {
    host.client().emit("field:change", json!({"odd": odd})).as_u64().unwrap()
}

fn values(host: &TestHost) -> Value {
    host.client().emit("field:values", json!({}))
}

fn newest(host: &TestHost) -> PathBuf {
    host.dir().join("state/field.snapshot")
}

/// Waits until so many changes are on the disk.
#[track_caller]
fn until_kept(host: &TestHost, changes: u64) {
    let read = || fs::read_to_string(newest(host)).unwrap_or_default();
    let text = format!("{{\"changes\":{changes},");
    until("it is on the disk", read, |found| found.contains(&text));
}

/// Waits until the plugin's state is not kept, and gives the reason.
#[track_caller]
fn until_not_kept(host: &TestHost) -> String {
    let unkept = |module: &Value| module["state_not_kept"].is_object();
    let module = host.until_module("its state is not kept", "field", unkept);
    module["state_not_kept"]["reason"].as_str().unwrap().to_owned()
}

#[test]
fn state_of_common_types_survives_replacement_and_the_end_of_the_host() {
    let host = field();
    for _ in 0..10 {
        change(&host, "");
    }
    let before = values(&host);
    assert_eq!(before["changes"], 10);
    host.ksi(&["reload", "field"]).ok();
    assert_eq!(values(&host), before);
    assert_eq!(change(&host, ""), 11);
    let before = values(&host);
    until_kept(&host, 11);
    let host = host.crash().start();
    assert_eq!(values(&host), before);
    assert_eq!(values(&host.stopped().start()), before);
}

#[test]
fn what_a_snapshot_cannot_carry_is_refused_with_its_path_and_the_last_good_one_stays() {
    let host = field();
    change(&host, "");
    until_kept(&host, 1);
    let good = fs::read(newest(&host)).unwrap();
    for (round, (odd, words)) in (0..).zip(ODDITIES) {
        let before = round * 2 + 1;
        assert_eq!(change(&host, odd), before + 1);
        let reason = until_not_kept(&host);
        for words in words {
            assert!(reason.contains(words), "{odd}: {words}: {reason}");
        }
        if round == 0 {
            assert_eq!(fs::read(newest(&host)).unwrap(), good, "{odd}");
        }
        // It goes nowhere else either.
        let told = host.ksi(&["reload", "field"]).fails(1);
        assert!(words[..1].iter().all(|words| told.contains(words)), "{odd}: {told}");
        assert_eq!(values(&host)["changes"], before + 1, "{odd}: the live one goes on");
        // A crash now costs what could not be kept, and no more.
        assert_eq!(change(&host, ""), before + 2);
        until_kept(&host, before + 2);
        let kept = |module: &Value| module["state_not_kept"].is_null();
        host.until_module("its state is kept again", "field", kept);
    }
    let host = host.crash().start();
    assert_eq!(values(&host)["changes"], 13);
}

#[test]
fn state_that_is_not_kept_shows_in_list_inspect_health_and_exit_codes() {
    let host = field();
    let mut watcher = host.client();
    watcher.subscribe(&["module:state_not_kept", "module:state_kept"]);
    let health = || host.client().emit("system:health", json!({}));
    assert_eq!((&health()["status"], &health()["state_not_kept"]), (&json!("healthy"), &json!([])));
    change(&host, "nan");
    let told = watcher.push_of("module:state_not_kept");
    assert_eq!((&told["name"], &told["last"]), (&json!("field"), &json!(false)));
    let degraded = health();
    assert_eq!(degraded["status"], "degraded");
    assert_eq!(degraded["state_not_kept"][0]["name"], "field");
    assert_eq!(degraded["state_not_kept"][0]["reason"], told["reason"]);
    let list = host.ksi(&["list"]).ok();
    for words in ["live (state not kept)", "its state is not kept since", "odd.mean"] {
        assert!(list.contains(words), "{words}: {list}");
    }
    assert!(host.ksi(&["inspect", "field"]).ok().contains("odd.mean"));

    change(&host, "");
    assert_eq!(watcher.push_of("module:state_kept")["name"], "field");
    assert_eq!(health()["status"], "healthy");

    let changes = change(&host, "nan");
    let stop = host.ksi(&["stop"]).fails(1);
    assert!(
        stop.contains("the last state of field is not kept") && stop.contains("odd.mean"),
        "{stop}"
    );
    let mut host = host;
    let ended = host.process.ended().fails(1);
    assert!(ended.contains("the last state of field is not kept"), "{ended}");
    assert_eq!(changes, 3);
}

#[test]
fn a_plugin_that_went_without_its_last_state_counts_in_the_exit_code_of_the_host() {
    let host = field();
    change(&host, "deep");
    host.ksi(&["unload", "field"]).ok();
    let gone = |module: &Value| module.state() == ModuleState::Unloaded;
    host.until_module("it is gone", "field", gone);
    assert!(until_not_kept(&host).contains("127"));
    assert!(host.ksi(&["list"]).ok().contains("unloaded (state not kept)"));
    assert!(host.ksi(&["stop"]).fails(1).contains("the last state of field is not kept"));
}
