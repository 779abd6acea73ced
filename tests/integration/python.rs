//! Plugins that are modules of Python: dropped in, called, saved again, killed, refused.

mod back;
mod chain;
mod comparing;
mod configured;
mod folders;
mod limits;
mod packages;
mod pluggy;
mod ready;
mod refused;
mod retried;
mod shared;
mod state;
mod threads;

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
    sync::OnceLock,
};

use ksi_wire::module::ModuleState;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::kit::{HostBuilder, Library, TestHost, children, put, until, workspace, wrapped};

/// Whether there is an interpreter, which is told where there is none: the test is left out then.
/// With `KSI_TEST_PYTHON=required` that is a failure.
pub(crate) fn is_there() -> bool {
    static THERE: OnceLock<bool> = OnceLock::new();
    let there = *THERE.get_or_init(|| {
        let asked = Command::new("python3").args(["-I", "-c", "import asyncio"]).status();
        asked.is_ok_and(|status| status.success())
    });
    if !there {
        assert!(
            std::env::var_os("KSI_TEST_PYTHON").is_none_or(|it| it != "required"),
            "there is no python3"
        );
        // Past the capture of the test's output.
        let _ = writeln!(std::io::stderr().lock(), "a test was left out: there is no python3");
    }
    there
}

/// A module that keeps what it is told, and says so.
fn store(version: u32) -> String {
    format!(
        r#"
from ksi.events import event_handler, emit_event

__version__ = "{version}"
_state = {{}}


@event_handler("store:set")
async def set(data):
    _state[data["key"]] = data["value"]
    return {{"said": await emit_event("store:changed", data), "of": "{version}"}}


@event_handler("store:get")
async def get(data):
    return {{"value": _state.get(data["key"]), "of": "{version}"}}
"#
    )
}

fn module(builder: HostBuilder, name: &str, text: &str) -> HostBuilder {
    put(&builder.plugins().join(name), text.as_bytes());
    builder
}

/// A host with the store in its first version.
fn with_store(config: &str) -> TestHost {
    module(TestHost::builder().config(config), "store.py", &store(1)).start()
}

fn save(host: &TestHost, name: &str, text: &str) {
    put(&host.file(name), text.as_bytes());
}

#[track_caller]
fn set(host: &TestHost, key: &str, value: i64) -> Value {
    host.client().emit("store:set", json!({"key": key, "value": value}))
}

#[track_caller]
fn get(host: &TestHost, key: &str) -> Value {
    host.client().emit("store:get", json!({"key": key}))
}

fn pid_of(host: &TestHost, name: &str) -> Option<u32> {
    let pid = host.module(name)["residence"]["pid"].as_u64();
    pid.map(|pid| pid.try_into().unwrap())
}

#[test]
fn a_module_answers_its_events_are_seen_and_it_is_listed_as_what_it_is() {
    if !is_there() {
        return;
    }
    let host = with_store("");
    let mut watcher = host.client();
    watcher.subscribe(&["store:changed"]);
    assert_eq!(set(&host, "a", 1), json!({"said": [], "of": "1"}));
    assert_eq!(watcher.push_of("store:changed"), json!({"key": "a", "value": 1}));
    assert_eq!(get(&host, "a"), json!({"value": 1, "of": "1"}));
    let module = host.module("store");
    assert_eq!((&module["version"], &module["keeps_state"]), (&json!("1"), &json!(1)));
    assert_eq!(module["residence"]["kind"], "process");
    let inspected = host.client().emit("module:inspect", json!({"module_name": "store"}));
    assert_eq!(inspected["manifest"]["built"], "python");
    assert!(inspected["manifest"]["interpreter"].as_str().unwrap().starts_with("3."));
    let shown = host.ksi(&["inspect", "store"]).ok();
    assert!(shown.contains("built as    python, run by CPython 3."), "{shown}");
    let shown = host.ksi(&["inspect", host.file("store.py").to_str().unwrap()]).ok();
    assert!(shown.contains("store 1\n") && shown.contains("store:get"), "{shown}");
}

#[test]
fn a_saved_change_is_live_with_the_state_that_there_was() {
    if !is_there() {
        return;
    }
    let host = with_store("");
    set(&host, "a", 7);
    let before = pid_of(&host, "store");
    save(&host, "store.py", &store(2));
    host.until_version("store", "2");
    assert_eq!(get(&host, "a"), json!({"value": 7, "of": "2"}));
    assert_ne!(pid_of(&host, "store"), before);
    // By hand, and from the host's own copy.
    host.ksi(&["reload", "store"]).ok();
    assert_eq!(get(&host, "a"), json!({"value": 7, "of": "2"}));
    host.ksi(&["rollback", "store"]).ok();
    assert_eq!(get(&host, "a"), json!({"value": 7, "of": "1"}));
}

#[test]
fn state_outlives_the_host() {
    if !is_there() {
        return;
    }
    let host = with_store("");
    set(&host, "a", 7);
    let host = host.stopped().start();
    assert_eq!(get(&host, "a"), json!({"value": 7, "of": "1"}));
}

#[test]
fn a_process_that_is_killed_is_followed_by_one_with_the_state() {
    if !is_there() {
        return;
    }
    let host = with_store("[isolation.plugins.store]\ncheckpoint = 'on_change'\n");
    set(&host, "a", 7);
    let pid = pid_of(&host, "store").unwrap();
    host.until_module("a checkpoint has it", "store", |module| {
        module["residence"]["checkpoint"]["calls"] == 1
    });
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
    host.until_module("it is restarted", "store", |module| {
        module["residence"]["restarts"] == 1 && module["state"] == "live"
    });
    assert_eq!(get(&host, "a"), json!({"value": 7, "of": "1"}));
}

#[test]
fn a_module_calls_native_code() {
    if !is_there() {
        return;
    }
    let caller = r#"
from ksi.events import event_handler, emit_event


@event_handler("py:relay")
async def relay(data):
    return {"echoed": await emit_event("chaos:echo", data)}
"#;
    let builder = TestHost::builder().plugin("chaos.so", &Library::chaos());
    let host = module(builder, "caller.py", caller).start();
    let mut client = host.client();
    assert_eq!(client.emit("py:relay", json!({"a": 1})), json!({"echoed": [{"a": 1}]}));
}

#[test]
fn one_interpreter_waits_for_the_next_module_and_ends_with_the_host() {
    if !is_there() {
        return;
    }
    let host = with_store("");
    let waiting = |host: &TestHost| {
        let own = pid_of(host, "store");
        let is_python = |pid: &u32| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.contains("ksi.worker")
        };
        let all: Vec<u32> = children(host.process.id()).into_iter().filter(is_python).collect();
        all.into_iter().filter(|pid| Some(*pid) != own).collect::<Vec<_>>()
    };
    let one = until("one waits", || waiting(&host), |waiting| waiting.len() == 1);
    save(&host, "store.py", &store(2));
    host.until_version("store", "2");
    assert_eq!(pid_of(&host, "store"), Some(one[0]), "the one that waited was taken");
    let next = until("one waits", || waiting(&host), |waiting| waiting.len() == 1);
    host.stop().ok();
    let is_there = || fs::exists(format!("/proc/{}", next[0])).unwrap();
    until("it ends with the host", is_there, |there| !there);
    let host = with_store("[python]\nspare = false\n");
    get(&host, "a");
    assert!(waiting(&host).is_empty());
}

/// An interpreter whose second process for modules watches the package that it would import, and
/// notes if it sees that gone.
const WATCHES: &str = r#"#!/bin/sh
if [ "$2" = -S ]; then
    # It is this that is to be run.
    python3 "$@" | python3 -c 'import json, os, sys
it = json.loads(sys.stdin.readline())
it["paths"][0] = list(os.fsencode(sys.argv[1]))
print(json.dumps(it))' "$0"
    exit
fi
case "$4" in
*ksi.worker*)
    if ! mkdir "$0.first" 2>/dev/null; then
        for package; do :; done
        touch "$0.watches"
        while [ -e "$package/ksi/__init__.py" ]; do :; done
        touch "$0.gone"
        exit
    fi
esac
exec python3 "$@"
"#;

#[test]
fn an_interpreter_that_is_just_starting_when_the_host_stops_ends_before_its_files_do() {
    if !is_there() {
        return;
    }
    let builder = TestHost::builder().config("[python]\ninterpreter = './python'\n");
    let python = builder.dir().join("python");
    put(&python, WATCHES.as_bytes());
    fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
    let host = module(builder, "store.py", &store(1)).start();
    assert_eq!(get(&host, "a")["of"], "1");
    let watches = || fs::exists(python.with_extension("watches")).unwrap();
    until("one is starting", watches, |watches| *watches);
    let setup = host.stopped();
    assert!(!fs::exists(python.with_extension("gone")).unwrap());
    drop(setup);
}

#[test]
fn globals_that_the_operator_names_are_the_state() {
    if !is_there() {
        return;
    }
    let text = |version: u32| {
        format!(
            r#"
from ksi.events import event_handler

__version__ = "{version}"
counts = {{"n": 0}}
other = {{"n": 0}}


@event_handler("count:up")
async def up(data):
    counts["n"] += 1
    other["n"] += 1
    return [counts["n"], other["n"]]
"#
        )
    };
    let builder = TestHost::builder().config("[python.plugins.count]\nkeep = ['counts']\n");
    let host = module(builder, "count.py", &text(1)).start();
    let up = || host.client().emit("count:up", json!({}));
    assert_eq!((up(), up()), (json!([1, 1]), json!([2, 2])));
    save(&host, "count.py", &text(2));
    host.until_version("count", "2");
    assert_eq!(up(), json!([3, 1]));
    assert_eq!(host.module("count")["state"], serde_json::to_value(ModuleState::Live).unwrap());
}

#[test]
fn what_a_source_does_not_tell_is_found_when_it_runs() {
    if !is_there() {
        return;
    }
    let text = r#"
from ksi.events import event_handler, emit_event

NAMES = ["made:one", "made:two"]


def make(name):
    @event_handler(name)
    async def made(data):
        return {"of": name, "said": await emit_event(data["ask"], {})}


for name in NAMES:
    make(name)


@event_handler("told:plain")
async def plain(data):
    return "plain"
"#;
    let host = module(TestHost::builder(), "made.py", text).start();
    let mut client = host.client();
    let said = client.emit("made:two", json!({"ask": "told:plain"}));
    assert_eq!(said, json!({"of": "made:two", "said": ["plain"]}));
    let inspected = client.emit("module:inspect", json!({"module_name": "made"}));
    let handlers = inspected["manifest"]["handlers"].as_array().unwrap();
    let names: Vec<_> = handlers.iter().map(|handler| &handler["subscriptions"][0]).collect();
    assert_eq!(names, ["made:one", "made:two", "told:plain"]);
    let unread = &inspected["manifest"]["unread"][0];
    assert!(unread["file"].as_str().unwrap().ends_with("made.py"), "{unread}");
}

#[test]
fn the_examples_do_what_they_say() {
    if !is_there() {
        return;
    }
    let mut builder = TestHost::builder();
    for example in ["counter.py", "digest.py", "state.py"] {
        let text = fs::read_to_string(workspace().join("examples/python").join(example)).unwrap();
        builder = module(builder, example, &text);
    }
    let host = builder.start();
    let mut client = host.client();
    let mut watcher = host.client();
    watcher.subscribe(&["counter:changed", "digest:result"]);
    let changed = json!({"name": "visits", "value": 2});
    assert_eq!(client.emit("counter:change", json!({"name": "visits", "by": 2})), changed);
    assert_eq!(watcher.push_of("counter:changed"), changed);
    let text = json!({"text": "so it goes and so it goes"});
    let begun = client.emit("digest:request", text.clone());
    assert_eq!(begun, json!({"number": 1, "status": "begun"}));
    let digest = json!(["so", "it", "goes"]);
    assert_eq!(watcher.push_of("digest:result"), json!({"number": 1, "digest": digest}));
    assert_eq!(client.emit("digest:now", text)["digest"], digest);
    let counter = fs::read_to_string(host.file("counter.py")).unwrap();
    save(&host, "counter.py", &format!("{counter}\n# Saved once more.\n"));
    host.until_live("counter", 2);
    assert_eq!(client.emit("counter:read", json!({"name": "visits"})), changed);
}
