//! State that is not to be seen in a source: what the module says of it when it runs counts.

use std::path::Path;

use super::*;

/// A store whose `_state` begins as this expression.
fn beginning(version: u32, lines: &str, expression: &str) -> String {
    let begins = format!("{lines}\n_state = {expression}\n");
    store(version).replace("_state = {}\n", &begins)
}

/// What a store of version 1 was told is known to that of version 2, and to the next host.
#[track_caller]
fn is_kept(host: TestHost, second: impl FnOnce(&TestHost)) {
    set(&host, "a", 7);
    assert_eq!(host.module("store")["keeps_state"], 1);
    second(&host);
    host.until_version("store", "2");
    assert_eq!(get(&host, "a"), json!({"value": 7, "of": "2"}));
    host.ksi(&["rollback", "store"]).ok();
    assert_eq!(get(&host, "a"), json!({"value": 7, "of": "1"}));
    host.ksi(&["reload", "store"]).ok();
    let host = host.stopped().start();
    assert_eq!(get(&host, "a"), json!({"value": 7, "of": "2"}));
}

#[test]
fn a_state_that_only_running_tells_goes_over_a_replacement_and_a_restart() {
    if !is_there() {
        return;
    }
    let copied = ("DEFAULTS = {}", "DEFAULTS.copy()");
    let parsed = ("import json", "json.loads('{}')");
    let chosen = ("import os", "{} if os.sep == '/' else {}");
    for (lines, expression) in [copied, parsed, chosen] {
        let text = |version| beginning(version, lines, expression);
        let host = module(TestHost::builder(), "store.py", &text(1)).start();
        is_kept(host, |host| save(host, "store.py", &text(2)));
    }
}

#[test]
fn functions_that_are_imported_are_the_state() {
    if !is_there() {
        return;
    }
    const HELPERS: &str = "values = {}\n\n\ndef snapshot():\n    return values\n\n\n\
                           def restore(data):\n    values.update(data)\n";
    let written = |plugins: &Path, version| {
        let folder = plugins.join("store");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("helpers.py"), HELPERS).unwrap();
        let imports = "from helpers import snapshot, restore, values";
        let text = beginning(version, imports, "0").replace("_state[", "values[");
        fs::write(folder.join("main.py"), text.replace("_state.", "values.")).unwrap();
        fs::write(folder.join("pyproject.toml"), "[tool.ksi]\nmodule = 'main'\n").unwrap();
    };
    let builder = TestHost::builder();
    written(&builder.plugins(), 1);
    is_kept(builder.start(), |host| written(&host.plugins(), 2));
}

#[test]
fn a_participant_of_checkpoints_is_the_state() {
    if !is_there() {
        return;
    }
    let text = |version| {
        let participant = "
from ksi_common.checkpoint_participation import CheckpointParticipant


class Values(CheckpointParticipant):
    def collect_checkpoint_data(self):
        return {\"values\": values}

    def restore_from_checkpoint(self, data):
        values.update(data[\"values\"])


values = {}
participant = Values(\"values\")
";
        let text = beginning(version, participant, "0").replace("_state[", "values[");
        text.replace("_state.", "values.")
    };
    let host = module(TestHost::builder(), "store.py", &text(1)).start();
    is_kept(host, |host| save(host, "store.py", &text(2)));
}

#[test]
fn globals_that_the_operator_names_have_the_version_that_the_module_says() {
    if !is_there() {
        return;
    }
    let text = |version| beginning(version, "STATE_VERSION = 2", "{}").replace("_state", "known");
    let builder = TestHost::builder().config("[python.plugins.store]\nkeep = ['known']\n");
    let host = module(builder, "store.py", &text(1)).start();
    set(&host, "a", 7);
    assert_eq!(host.module("store")["keeps_state"], 2);
    save(&host, "store.py", &text(2));
    host.until_version("store", "2");
    assert_eq!(get(&host, "a"), json!({"value": 7, "of": "2"}));
}

#[test]
fn globals_that_nobody_keeps_are_no_state() {
    if !is_there() {
        return;
    }
    let builder = TestHost::builder().config("[python.plugins.store]\nkeep = []\n");
    let host = module(builder, "store.py", &store(1)).start();
    set(&host, "a", 7);
    save(&host, "store.py", &store(2));
    host.until_version("store", "2");
    assert_eq!(get(&host, "a"), json!({"value": null, "of": "2"}));
}
