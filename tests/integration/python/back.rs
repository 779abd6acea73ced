//! The way back from a conversion: from a library to a module, a folder of modules, and each to
//! each.

use std::path::{Path, PathBuf};

use super::*;
use crate::kit::States;

const CONFIG: &str = "[isolation]\ndefault = 'process'\ncheckpoint = 'on_change'\n\
    [recovery]\ndir = 'recovery'\nafter_rollback = '1h'\nlongest = '1h'\n[reload]\nmin_calls = 5\n";

/// What the plugin is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum As {
    Library,
    Module,
    Folder,
}

const WAYS: [(As, As); 6] = [
    (As::Module, As::Library),
    (As::Library, As::Module),
    (As::Module, As::Folder),
    (As::Folder, As::Module),
    (As::Library, As::Folder),
    (As::Folder, As::Library),
];

impl As {
    fn file(self) -> &'static str {
        match self {
            As::Library => "libcounter.so",
            As::Module => "counter.py",
            As::Folder => "counter",
        }
    }

    /// Puts a version of the plugin into the folder, whole.
    fn put(self, plugins: &Path, version: usize, is_good: bool) {
        match self {
            As::Library => {
                let library = Library::counter(version);
                let library = if is_good { library } else { library.does("calls=fail") };
                put(&plugins.join(self.file()), &library.0);
            }
            As::Module => put(&plugins.join(self.file()), source(version, is_good).as_bytes()),
            As::Folder => {
                let draft = plugins.join(".counter");
                fs::create_dir(&draft).unwrap();
                fs::create_dir(draft.join("inside")).unwrap();
                let project = "[tool.ksi]\nmodule = 'inside.main'\n";
                fs::write(draft.join("pyproject.toml"), project).unwrap();
                fs::write(draft.join("inside/main.py"), source(version, is_good)).unwrap();
                fs::rename(draft, plugins.join(self.file())).unwrap();
            }
        }
    }
}

/// The same as the library that counts, with the same state.
fn source(version: usize, is_good: bool) -> String {
    let worse = if is_good { "" } else { "raise RuntimeError('it is worse')" };
    format!(
        r#"
from ksi.events import event_handler

__version__ = "{version}.0.0"
counters = {{}}


@event_handler("counter:increment")
async def increment(data):
    {worse}
    value = counters[data["name"]] = counters.get(data["name"], 0) + 1
    return {{"value": value}}


def snapshot():
    return {{"counters": counters}}


def restore(data):
    counters.update(data["counters"])
"#
    )
}

fn increment(host: &TestHost) -> Value {
    let answer = host.client().reply("counter:increment", json!({"name": "a"}));
    answer["data"]["value"].clone()
}

/// A host in which a good version, with state, was replaced by one of another kind.
fn converted((from, to): (As, As), is_good: bool) -> TestHost {
    let builder = TestHost::builder().config(CONFIG);
    from.put(&builder.plugins(), 1, true);
    let host = builder.start();
    host.until_version("counter", "1.0.0");
    (1..=3).for_each(|value| assert_eq!(increment(&host), value));
    to.put(&host.plugins(), 2, is_good);
    let other = |modules: &Vec<Value>| modules.len() == 2;
    until("it is refused beside the other one", || host.modules(), other);
    fs::rename(host.file(from.file()), host.dir().join(from.file())).unwrap();
    host.until_version("counter", "2.0.0");
    host
}

/// Looks whether the first version is live in place of the second one's file, with this state.
#[track_caller]
fn is_back(host: &TestHost, way: (As, As), next: u64) {
    let module = host.until_version("counter", "1.0.0");
    let file: PathBuf = module["file"].as_str().unwrap().into();
    assert_eq!(file, host.file(way.1.file()), "{way:?}");
    assert_eq!(module["quarantined"]["version"], "2.0.0", "{way:?}: {module}");
    assert_eq!(increment(host), next, "{way:?}");
}

#[test]
fn a_conversion_is_gone_back_from_by_hand_and_by_the_next_host_with_the_state() {
    if !is_there() {
        return;
    }
    for way in WAYS {
        let host = converted(way, true);
        assert_eq!(increment(&host), 4, "{way:?}");
        host.ksi(&["rollback", "counter"]).ok();
        is_back(&host, way, 5);
        // The live version once more, which is not what its file holds.
        let list = || host.ksi(&["state", "list", "counter"]).ok();
        until("some is kept", list, |list| list.contains("newest"));
        host.ksi(&["state", "restore", "counter", "newest"]).ok();
        let value = increment(&host).as_u64().unwrap();
        assert!((5..=6).contains(&value), "{way:?}: {value}");
        is_back(&host, way, value + 1);
        let host = host.stopped().start();
        is_back(&host, way, value + 2);
        host.process.told("quarantined: version 1.0.0, which was kept, is started");
        // And what takes the file's place after all.
        fs::rename(host.file(way.1.file()), host.dir().join("bad")).unwrap();
        way.1.put(&host.plugins(), 3, true);
        host.until_version("counter", "3.0.0");
        host.stop().ok();
    }
}

#[test]
fn a_conversion_whose_calls_fail_is_gone_back_from_with_the_state() {
    if !is_there() {
        return;
    }
    for way in WAYS {
        let host = converted(way, false);
        let rollbacks = || {
            increment(&host);
            host.module("counter")["rollbacks"].clone()
        };
        until("it goes back", rollbacks, |rollbacks| *rollbacks == 1);
        // Calls of the good version count: those that were asked after it was back.
        let module = host.module("counter");
        assert_eq!(module.state(), ModuleState::Live, "{way:?}: {module}");
        let last = increment(&host).as_u64();
        assert!(last.is_some_and(|last| last >= 4), "{way:?}: {last:?}");
        is_back(&host, way, last.unwrap() + 1);
    }
}

#[test]
fn a_conversion_that_is_killed_is_gone_back_from_with_the_state() {
    if !is_there() {
        return;
    }
    for way in WAYS {
        let host = converted(way, true);
        assert_eq!(increment(&host), 4, "{way:?}");
        host.until_module("a checkpoint has it", "counter", |module| {
            module["residence"]["checkpoint"]["calls"] == 1
        });
        let pid = pid_of(&host, "counter").unwrap();
        kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
        is_back(&host, way, 5);
    }
}
