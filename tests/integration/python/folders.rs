//! Folders that are one plugin: found, watched and replaced as a whole.

use std::path::Path;

use super::*;

const PROJECT: &str = "
[project]
version = '1'
[tool.ksi]
module = 'stock.events'
keep = ['counts']
";

const EVENTS: &str = r#"
from ksi.events import event_handler
from .words import WORD
from stock import words

counts = {"n": 0}


@event_handler("stock:up")
async def up(data):
    counts["n"] += 1
    return {"n": counts["n"], "word": WORD, "same": words.WORD == WORD}
"#;

fn write(folder: &Path, file: &str, text: &str) {
    let path = folder.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn stock(plugins: &Path) -> std::path::PathBuf {
    let folder = plugins.join("shop");
    write(&folder, "src/stock/__init__.py", "");
    write(&folder, "src/stock/events.py", EVENTS);
    write(&folder, "src/stock/words.py", "WORD = 'one'\n");
    write(&folder, "pyproject.toml", PROJECT);
    folder
}

#[test]
fn a_folder_is_one_plugin_and_a_change_anywhere_in_it_is_a_new_version_with_its_state() {
    if !is_there() {
        return;
    }
    let builder = TestHost::builder();
    let folder = stock(&builder.plugins());
    // Neither of them is a plugin.
    write(&builder.plugins(), "notes/pyproject.toml", "[project]\nname = 'notes'\n");
    write(&builder.plugins(), "plain/a.py", "");
    let host = builder.start();
    let up = || host.client().emit("stock:up", json!({}));
    assert_eq!(up(), json!({"n": 1, "word": "one", "same": true}));
    assert_eq!(host.modules().len(), 1);
    let before = host.module("shop");
    assert_eq!((&before["version"], &before["generation"]), (&json!("1"), &json!(1)));
    // What tools leave there is no change.
    write(&folder, "src/stock/__pycache__/x.pyc", "x");
    write(&folder, ".git/index", "x");
    write(&folder, "src/stock/words.py", "WORD = 'two'\n");
    host.until_live("shop", 2);
    assert_eq!(up(), json!({"n": 2, "word": "two", "same": true}));
    host.ksi(&["rollback", "shop"]).ok();
    assert_eq!(up(), json!({"n": 3, "word": "one", "same": true}));
}

#[test]
fn a_folder_may_have_more_files_than_the_host_has_descriptors() {
    if !is_there() {
        return;
    }
    let builder = TestHost::builder();
    let folder = stock(&builder.plugins());
    for number in 0..400 {
        write(&folder, &format!("src/stock/more/m{number}.py"), "");
    }
    let host = builder.start_as(|command| {
        let mut limited = Command::new("prlimit");
        limited.arg("--nofile=256");
        wrapped(limited, command)
    });
    let up = || host.client().emit("stock:up", json!({}));
    assert_eq!(up()["n"], 1);
    // Three versions are kept.
    for generation in 2..6 {
        write(&folder, "src/stock/words.py", &format!("WORD = 'word {generation}'\n"));
        host.until_live("shop", generation);
    }
    host.ksi(&["rollback", "shop"]).ok();
    assert_eq!(up(), json!({"n": 2, "word": "word 4", "same": true}));
}

/// An interpreter that has no reader of TOML, as CPython 3.10 has none.
fn without_toml(folder: &Path) -> std::path::PathBuf {
    let environment = folder.join("python");
    let mut made = Command::new("python3");
    made.args(["-m", "venv", "--without-pip"]).arg(&environment);
    assert!(made.status().unwrap().success());
    let python = environment.join("bin/python");
    let asked = ["-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"];
    let told = String::from_utf8(Command::new(&python).args(asked).output().unwrap().stdout);
    let customized = Path::new(told.unwrap().trim()).join("sitecustomize.py");
    fs::write(customized, "import sys\nsys.modules['tomllib'] = None\n").unwrap();
    python
}

#[test]
fn a_project_means_the_same_to_an_interpreter_that_reads_no_toml() {
    if !is_there() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let python = without_toml(folder.path());
    let config = format!("[python]\ninterpreter = '{}'\n", python.display());
    let builder = TestHost::builder().config(&config);
    let shop = stock(&builder.plugins());
    let project = "
[project]
authors = [{name = \"x\"}]
version = '7'
dependencies = [
]
[tool.ksi]
module = 'stock.events'
keep = [
  'counts',  # of those that were asked for
]
[tool.other.events]
\"kitchen:ingredients\" = \"add\"
";
    write(&shop, "pyproject.toml", project);
    let text = "# /// script\n# [tool.ksi]\n# keep = [\n#   '_known',\n# ]\n# ///\n";
    let text = format!("{text}{}", store(1).replace("_state", "_known"));
    let host = module(builder, "store.py", &text).start();
    let up = || host.client().emit("stock:up", json!({}));
    assert_eq!(up()["n"], 1);
    let shown = host.module("shop");
    assert_eq!((&shown["version"], &shown["keeps_state"]), (&json!("7"), &json!(1)));
    assert_eq!(host.module("store")["keeps_state"], 1);
    write(&shop, "pyproject.toml", &project.replace("version = '7'", "version = "));
    let shown =
        host.until_module("it is refused", "shop", |module| !module["last_error"].is_null());
    let error = shown["last_error"].as_str().unwrap();
    assert!(error.contains("shop/pyproject.toml, line 4, column 11: "), "{error}");
    assert_eq!(up()["n"], 2);
}

#[test]
fn what_a_new_folder_says_and_nobody_understands_is_told_and_so_is_a_table_for_no_plugin() {
    if !is_there() {
        return;
    }
    let builder = TestHost::builder().config("[python.plugins.nosuch]\nkeep = ['a']\n");
    for (folder, project) in [("torn", "[tool.ksi\n"), ("typo", "[tool.ksi]\nkeeep = ['counts']\n")]
    {
        write(&builder.plugins(), &format!("{folder}/main.py"), "counts = {}\n");
        write(&builder.plugins(), &format!("{folder}/pyproject.toml"), project);
    }
    let host = builder.start();
    let torn = host.until_refused("torn");
    assert!(torn.contains("torn/pyproject.toml, line 1, column"), "{torn}");
    let typo = host.until_refused("typo");
    assert!(typo.contains("tool.ksi.keeep, which means nothing: did you mean `keep`?"), "{typo}");
    host.process.told("a configuration for plugin \"nosuch\"");
}

#[test]
fn what_is_wrong_in_a_folder_is_told_by_its_file_and_the_old_version_goes_on() {
    if !is_there() {
        return;
    }
    let builder = TestHost::builder();
    let folder = stock(&builder.plugins());
    let host = builder.start();
    host.until_live("shop", 1);
    write(&folder, "src/stock/events.py", "def f(:\n");
    let module =
        host.until_module("it is refused", "shop", |module| !module["last_error"].is_null());
    let error = module["last_error"].as_str().unwrap();
    assert!(error.contains("shop/src/stock/events.py, line 1"), "{error}");
    assert_eq!(host.client().emit("stock:up", json!({}))["n"], 1);
    fs::remove_dir_all(&folder).unwrap();
    host.until_module("it is unloaded", "shop", |module| module["state"] == "unloaded");
}
