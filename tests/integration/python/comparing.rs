//! Modules in `ksi compare`.

use std::path::Path;

use super::*;
use crate::kit::{ksi, ksi_command};

const STATE: &str = "examples/python/state.py";

#[test]
fn the_example_of_a_state_answers_as_the_native_plugin_does() {
    if !is_there() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (library, recorded) = (folder.path().join("libksi_state.so"), folder.path().join("events"));
    put(&library, &Library::of("ksi-plugin-state").0);
    let update = |data: Value| ("state:update", data);
    let a = |operation: &str| json!({"operation": operation, "namespace": "a", "key": "k"});
    let of = |key: &str, value: Value| json!({"namespace": "b", "key": key, "value": value});
    let succeed = [
        update(json!({"namespace": "a", "key": "k", "value": 1})),
        update(json!({"operation": "set", "namespace": "a", "key": "k", "value": {"deep": [2.5]}})),
        update(a("get")),
        update(json!({"operation": "get", "namespace": "a", "key": "other"})),
        ("state:set", of("\u{e4}", json!(null))),
        ("state:set", of("\u{e4}", json!(false))),
        ("state:set", of("z", json!(null))),
        ("state:get", of("z", json!(null))),
        ("state:list", json!({"namespace": "b"})),
        ("state:list", json!({})),
        update(json!({"operation": "list", "namespace": "nothing"})),
        update(a("delete")),
        update(a("delete")),
        ("state:list", json!({})),
        ("state:delete", of("z", json!(null))),
        ("state:delete", json!({"namespace": "nothing", "key": "z"})),
    ];
    let fail = [
        update(json!({"operation": "get", "namespace": "a"})),
        update(json!({"operation": "other", "namespace": "a", "key": "k"})),
        update(json!({"namespace": "a", "key": "k"})),
        ("state:set", json!({"namespace": "a", "key": "k"})),
        ("state:set", json!({"namespace": "", "key": "k", "value": 1})),
        ("state:get", json!({"namespace": 7, "key": "k"})),
        ("state:delete", json!({"namespace": "a"})),
    ];
    let compare = |events: &[(&str, Value)], further: &[&str]| {
        let lines =
            events.iter().map(|(event, data)| json!({"event": event, "data": data}).to_string());
        fs::write(&recorded, lines.collect::<Vec<_>>().join("\n")).unwrap();
        let module = workspace().join(STATE);
        let [module, library, recorded] =
            [&module, &library, &recorded].map(|it| it.to_str().unwrap());
        let compare = ["compare", module, library, "--recorded", recorded, "--json"];
        let ran = ksi(Path::new("/nowhere/ksi.sock"), &[&compare, further].concat(), "");
        assert_eq!(ran.code, Some(0), "{ran:#?}");
        serde_json::from_str::<Value>(&ran.stdout).unwrap()
    };
    let told = compare(&succeed, &[]);
    let counts = ["compared", "differing", "failed_alike"].map(|key| told[key].as_u64());
    assert_eq!(counts, [Some(succeed.len() as u64), Some(0), Some(0)], "{told:#}");
    // What fails does so in both, for reasons that they call by other names.
    let told = compare(&fail, &["--ignore", "error"]);
    let counts = ["compared", "differing", "failed_alike"].map(|key| told[key].as_u64());
    assert_eq!(counts, [Some(fail.len() as u64), Some(0), Some(fail.len() as u64)], "{told:#}");
}

#[test]
fn the_native_plugin_takes_over_the_state_of_the_example() {
    if !is_there() {
        return;
    }
    let text = fs::read_to_string(workspace().join(STATE)).unwrap();
    let host = module(TestHost::builder(), "state.py", &text).start();
    let mut client = host.client();
    let entry = json!({"namespace": "a", "key": "k", "value": {"deep": [1, null]}});
    assert_eq!(client.emit("state:set", entry.clone()), json!({"status": "set"}));
    host.drop_in("libksi_state.so", &Library::of("ksi-plugin-state"));
    host.until_refused("libksi_state.so");
    fs::remove_file(host.file("state.py")).unwrap();
    host.until_module("the library is live", "state", |module| {
        module["file"].as_str().is_some_and(|it| it.ends_with(".so")) && module["state"] == "live"
    });
    assert_eq!(client.emit("state:get", entry), json!({"value": {"deep": [1, null]}}));
}

/// What `ksi compare` tells of two files, and whether it found them to be the same.
#[track_caller]
fn compared(old: &Path, new: &Path, recorded: &Path, further: &[&str]) -> (Value, bool) {
    let mut compare = ksi_command(&["compare", "--json", "--recorded"]);
    compare.args([recorded, old, new]).args(further).args(["--socket", "/nowhere/ksi.sock"]);
    let output = compare.output().unwrap();
    let told = serde_json::from_slice(&output.stdout);
    (told.unwrap_or_else(|_| panic!("{output:?}")), output.status.success())
}

#[test]
fn the_same_source_at_another_place_does_the_same_and_a_library_is_compared_with_a_module() {
    if !is_there() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let text = r#"
from ksi.events import event_handler

counters = {}


@event_handler("counter:increment")
async def increment(data):
    value = counters[data["name"]] = counters.get(data["name"], 0) + 1
    return {"value": value, "version": "module"}
"#;
    fs::create_dir(path("moved")).unwrap();
    fs::write(path("counter.py"), text).unwrap();
    fs::write(path("moved/counter.py"), format!("# One line more.\n{text}")).unwrap();
    fs::write(path("counter.so"), &Library::counter(1).0).unwrap();
    let events = ["{\"name\":\"a\"}", "{\"nam\":\"a\"}", "{\"name\":\"a\"}"];
    let lines = events.map(|data| format!("{{\"event\":\"counter:increment\",\"data\":{data}}}\n"));
    fs::write(path("recorded"), lines.concat()).unwrap();
    let (module, library) = (path("counter.py"), path("counter.so"));
    let (told, same) = compared(&module, &path("moved/counter.py"), &path("recorded"), &[]);
    assert_eq!((&told["compared"], &told["failed_alike"], same), (&json!(3), &json!(1), true));
    for (old, new, further) in [
        (&module, &library, &[][..]),
        (&library, &module, &["--in-process"][..]),
        (&library, &module, &["--ignore", "reply/version"][..]),
    ] {
        let (told, same) = compared(old, new, &path("recorded"), further);
        let paths: Vec<&str> = told["differences"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["path"].as_str().unwrap())
            .collect();
        let expected: &[&str] = match further.contains(&"--ignore") {
            true => &["error/code", "error/message"],
            false => &["error/code", "error/message", "reply/version"],
        };
        assert_eq!((&*paths, &told["compared"], same), (expected, &json!(3), false), "{told}");
        let code = |side: &str| told["differences"][0][side].clone();
        let codes = if old == &module { ["old", "new"] } else { ["new", "old"] };
        assert_eq!(codes.map(code), [json!("KeyError"), json!("invalid_payload")]);
    }
}

/// A module that needs a package, and says a word of it and one of its own.
fn needing(own: &str) -> String {
    format!(
        "# /// script\n# dependencies = [\"no-such-ksi-package\"]\n# ///\n\
         from ksi.events import event_handler\nimport no_such_ksi_package\n\
         @event_handler('needy:say')\n\
         async def say(data):\n    return [no_such_ksi_package.WORD, {own:?}]\n"
    )
}

#[test]
fn modules_are_compared_with_the_packages_that_the_host_has_for_them() {
    if !is_there() {
        return;
    }
    // Beside the state, and where the operator wants them.
    for config in ["", "[python]\nenvironments = 'packages'\n"] {
        let host = module(TestHost::builder().config(config), "needy.py", &needing("old")).start();
        let error = host.until_refused("needy.py");
        let target = error.split("--target ").nth(1).unwrap().split(' ').next().unwrap();
        let there = if config.is_empty() { "state-home/ksi" } else { "packages" };
        assert!(Path::new(target).starts_with(host.dir().join(there)), "{error}");
        // As the command that is told leaves it there.
        fs::create_dir_all(target).unwrap();
        fs::write(format!("{target}/no_such_ksi_package.py"), "WORD = 'here'\n").unwrap();
        let last = error.split(" && ").nth(1).unwrap().split('`').next().unwrap();
        fs::write(last.trim_start_matches("touch "), "").unwrap();
        host.ksi(&["load", host.file("needy.py").to_str().unwrap()]).ok();
        let (new, recorded) = (host.dir().join("needy.py"), host.dir().join("recorded"));
        fs::write(&new, needing("new")).unwrap();
        fs::write(&recorded, "{\"event\": \"needy:say\"}\n").unwrap();
        let mut compare = ksi_command(&["compare", "needy"]);
        compare.args([&new, &"--recorded".into(), &recorded, &"--json".into()]);
        compare.arg("--config").arg(host.dir().join("ksi.toml"));
        compare.arg("--socket").arg(host.socket());
        compare.env("XDG_STATE_HOME", host.dir().join("state-home"));
        compare.env("TMPDIR", host.dir().join("tmp"));
        let output = compare.output().unwrap();
        let told: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        let difference = &told["differences"][0];
        assert_eq!((&difference["path"], &difference["old"]), (&json!("reply/1"), &json!("old")));
        assert_eq!((told["differing"].as_u64(), &difference["new"]), (Some(1), &json!("new")));
    }
}
