//! Folders that modules import from beside their own.

use std::path::Path;

use super::*;

fn write(folder: &Path, file: &str, text: &str) {
    let path = folder.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A tree like that of KSI, one folder of which is the folder of plugins.
fn tree(builder: &HostBuilder) {
    let root = builder.dir();
    write(root, "ksi_common/timestamps.py", "def stamp():\n    return 'now'\n");
    // A service that others import.
    write(root, "plugins/__init__.py", "");
    let service = r#"
from ksi_common.timestamps import stamp
from ksi_daemon.event_system import event_handler

_state = {"asked": 0}


@event_handler("clock:read")
async def read(data):
    _state["asked"] += 1
    return {"asked": _state["asked"], "at": stamp(), "of": __name__}
"#;
    write(root, "plugins/clock_service.py", service);
    let events = r#"
from ksi_daemon.event_system import event_handler, emit_event
from .clock_service import stamp, read
import plugins.clock_events as own


@event_handler("clock:events")
async def events(data):
    return {"stamp": stamp(), "read": await emit_event("clock:read"), "same": own.events is events}
"#;
    write(root, "plugins/clock_events.py", events);
}

#[test]
fn a_host_at_a_folder_of_a_package_runs_its_modules_each_event_once() {
    if !is_there() {
        return;
    }
    for limits in ["", "[isolation.plugins.clock_events]\nprofile = 'strict'\n"] {
        let builder = TestHost::builder().config(&format!("[python]\npath = ['.']\n{limits}"));
        tree(&builder);
        let host = builder.start();
        let events = host.client().emit("clock:events", json!({}));
        let read = json!({"asked": 1, "at": "now", "of": "plugins.clock_service"});
        assert_eq!(events, json!({"stamp": "now", "read": [read], "same": true}), "{limits}");
        host.process.told("none of this plugin's");
        host.stop().ok();
    }
}

#[test]
fn what_cannot_be_imported_is_told_with_where_it_lies_and_the_way_out() {
    if !is_there() {
        return;
    }
    let builder = TestHost::builder().config("[recovery]\nfirst = '1h'\nlongest = '1h'\n");
    let root = builder.dir();
    write(root, "plugins/_helpers.py", "X = 1\n");
    write(root, "plugins/more/__init__.py", "Y = 1\n");
    let handler = "from ksi.events import event_handler\n@event_handler('a:b')\ndef f(d): ...\n";
    let texts = [
        ("a.py", "import _helpers", "which is"),
        ("b.py", "from more import Y", "nothing that lies beside it"),
        (
            "c.py",
            "from ._helpers import X",
            "c.py has a relative import, and is in no package (line 1)",
        ),
        (
            "d.py",
            "import ksi_common.timestamps",
            "name the folder that ksi_common lies in in `python.path`",
        ),
    ];
    for (file, text, _) in texts {
        write(root, &format!("plugins/{file}"), &format!("{text}\n{handler}"));
    }
    let host = builder.start();
    for (file, _, told) in texts {
        let reason = host.until_refused(file);
        assert!(reason.contains(told), "{file}: {reason}");
        assert!(reason.contains("`python.path` of the host's configuration"), "{file}: {reason}");
        assert!(!reason.contains("pip install"), "{file}: {reason}");
    }
    let reason = host.until_refused("a.py");
    assert!(reason.contains(host.file("_helpers.py").to_str().unwrap()), "{reason}");
}

#[test]
fn folders_of_modules_that_nobody_looks_at_and_folders_that_are_not_there_are_told() {
    if !is_there() {
        return;
    }
    let builder = TestHost::builder().config("[python]\npath = ['nowhere']\n");
    write(builder.dir(), "plugins/core/state.py", "");
    write(builder.dir(), "plugins/data/state.txt", "");
    let host = module(builder, "store.py", &store(1)).start();
    host.process.told("the modules in core below it are no plugins");
    host.process.told("/nowhere, and there is no such folder");
    write(host.dir(), "plugins/completion/service.py", "");
    host.process.told("the modules in completion below it are no");
}
