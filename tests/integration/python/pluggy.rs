//! Plugins of pluggy, with the real library.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::*;

/// An interpreter that has pluggy: that of `target/python`, which `.ci/run` makes, or the one that
/// there is. Where there is none, the test is left out and says so; with
/// `KSI_TEST_PYTHON=required` that is a failure.
fn with_pluggy() -> Option<PathBuf> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let own = workspace().join("target/python/bin/python");
        let has = |python: &PathBuf| {
            let mut command = Command::new(python);
            let asked = command.args(["-I", "-c", "import pluggy"]).stderr(Stdio::null()).status();
            asked.is_ok_and(|status| status.success())
        };
        [own, "python3".into()].into_iter().find(has)
    });
    if found.is_none() {
        const MISSING: &str = "there is no pluggy: python3 -m venv target/python && \
                               target/python/bin/python -m pip install 'pluggy>=1.7,<2'";
        assert!(std::env::var_os("KSI_TEST_PYTHON").is_none_or(|it| it != "required"), "{MISSING}");
        // Past the capture of the test's output.
        let _ = writeln!(std::io::stderr().lock(), "a test was left out: {MISSING}");
    }
    found.clone()
}

fn run_by(python: &Path) -> HostBuilder {
    TestHost::builder().config(&format!("[python]\ninterpreter = '{}'\n", python.display()))
}

/// What the scenarios are, and what plain pluggy makes of them.
#[derive(Deserialize)]
struct Scenario {
    name: String,
    /// Of its events.
    prefix: String,
    /// Hooks with their arguments.
    calls: Vec<(String, Value)>,
    /// `["result", ...]` or `["error", class]`.
    plain: Vec<(String, Value)>,
}

/// What came of a call of a hook, in the same form.
fn end_of(reply: &Value) -> (String, Value) {
    if reply["failed"] == true {
        return ("error".to_owned(), reply["data"]["code"].clone());
    }
    let replied = reply["count"] == 1;
    ("result".to_owned(), if replied { reply["data"].clone() } else { Value::Null })
}

#[test]
fn hooks_have_the_order_and_the_results_of_plain_pluggy() {
    let Some(python) = with_pluggy() else { return };
    let builder = run_by(&python);
    let package = workspace().join("plugin-api/python");
    let mut command = Command::new(&python);
    command
        .args(["-I", "-B"])
        .arg(workspace().join("tests/integration/python/pluggy_scenarios.py"));
    let told = command.arg(package).arg(builder.plugins()).stderr(Stdio::inherit()).output();
    let scenarios: Vec<Scenario> = serde_json::from_slice(&told.unwrap().stdout).unwrap();
    assert!(scenarios.len() > 10);
    let host = builder.start();
    let mut client = host.client();
    for Scenario { name, prefix, calls, plain } in scenarios {
        let ends = calls.iter().map(|(hook, arguments)| {
            end_of(&client.reply(&format!("{prefix}:{hook}"), arguments.clone()))
        });
        assert_eq!(ends.collect::<Vec<_>>(), plain, "{name}");
    }
}

const SPECS: &str = "
import pluggy

hookspec = pluggy.HookspecMarker('eggs')
hookimpl = pluggy.HookimplMarker('eggs')
eaten = []


@hookspec
def eat(what):
    \"\"\"Eats it.\"\"\"


def snapshot():
    return eaten


def restore(data):
    eaten[:] = data
";
const PROJECT: &str = "
[tool.ksi]
kind = 'pluggy'

[tool.ksi.pluggy]
project = 'eggs'
hookspecs = 'eggs.specs'
plugins = ['eggs.plugin']
state = 'eggs.specs'

[tool.ksi.pluggy.events]
'kitchen:eat' = 'eat'
";

#[test]
fn a_plugin_that_is_put_there_hears_what_a_historic_hook_was_called_with() {
    let Some(python) = with_pluggy() else { return };
    let builder = run_by(&python);
    let folder = builder.plugins().join("eggs");
    fs::create_dir_all(folder.join("plugins")).unwrap();
    let write = |file: &str, text: &str| put(&folder.join(file), text.as_bytes());
    write(
        "specs.py",
        "import pluggy\n\nhookspec = pluggy.HookspecMarker('eggs')\n\
         hookimpl = pluggy.HookimplMarker('eggs')\n\n\n\
         @hookspec(historic=True)\ndef laid(x): ...\n\n\n@hookspec\ndef heard(): ...\n",
    );
    write(
        "pyproject.toml",
        "[tool.ksi]\nkind = 'pluggy'\n\n[tool.ksi.pluggy]\nproject = 'eggs'\n\
         hookspecs = 'specs'\nplugins = ['plugins']\n",
    );
    let hears = "from specs import hookimpl\n\nseen = []\n\n\n\
                 @hookimpl\ndef laid(x):\n    seen.append(x)\n\n\n\
                 @hookimpl\ndef heard():\n    return [__name__, seen]\n";
    write("plugins/first.py", hears);
    let host = builder.start();
    let mut client = host.client();
    for x in [1, 2] {
        client.emit("eggs:laid", json!({"x": x}));
    }
    assert_eq!(client.emit("eggs:heard", json!({})), json!([["plugins.first", [1, 2]]]));
    write("plugins/second.py", hears);
    host.until_live("eggs", 2);
    client.emit("eggs:laid", json!({"x": 3}));
    // The first one is another process's now, and what it has heard is none of its state.
    let heard = json!([["plugins.second", [1, 2, 3]], ["plugins.first", [3]]]);
    assert_eq!(client.emit("eggs:heard", json!({})), heard);
    let host = host.stopped().start();
    write("plugins/third.py", hears);
    host.until_live("eggs", 2);
    let heard = host.client().emit("eggs:heard", json!({}));
    assert_eq!(heard[0], json!(["plugins.third", [1, 2, 3]]));
}

/// A project whose packages lie in `src`.
fn eggs(plugins: &Path, word: &str) {
    let folder = plugins.join("eggs");
    fs::create_dir_all(folder.join("src/eggs")).unwrap();
    let write = |file: &str, text: &str| fs::write(folder.join(file), text).unwrap();
    write("src/eggs/__init__.py", "");
    write("src/eggs/specs.py", SPECS);
    let plugin = format!(
        "from eggs.specs import eaten, hookimpl\n\n\n\
         @hookimpl\ndef eat(what):\n    eaten.append(what)\n    return ['{word}', list(eaten)]\n"
    );
    write("src/eggs/plugin.py", &plugin);
    write("pyproject.toml", PROJECT);
}

#[test]
fn a_project_in_src_is_replaced_with_the_state_of_the_module_that_it_names() {
    let Some(python) = with_pluggy() else { return };
    let builder = run_by(&python);
    eggs(&builder.plugins(), "one");
    let host = builder.start();
    let eat = |what: &str| host.client().emit("kitchen:eat", json!({"what": what}));
    assert_eq!(eat("a"), json!([["one", ["a"]]]));
    assert_eq!(host.module("eggs")["keeps_state"], 1);
    eggs(&host.plugins(), "two");
    host.until_live("eggs", 2);
    assert_eq!(eat("b"), json!([["two", ["a", "b"]]]));
}
