//! The plugin in a harness, with files in KSI's form.

mod files;
mod routes;
mod templates;

use std::{fs, path::PathBuf};

use ksi_harness::{Harness, Setup};

use super::*;

/// A folder with files for the plugin.
struct Folder(tempfile::TempDir);

impl Folder {
    fn with(name: &str, yaml: &str) -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        folder.write(name, yaml);
        folder
    }

    fn write(&self, name: &str, yaml: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), yaml).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn setup(&self) -> Setup<Transformers> {
        Harness::setup::<Transformers>().config(json!({"paths": [self.0.path()]}))
    }

    fn start(&self) -> Harness {
        self.setup().start().unwrap()
    }
}

/// A plugin with the transformers of this text.
fn of(yaml: &str) -> Harness {
    Folder::with("t.yaml", yaml).start()
}

/// A plugin with one transformer from `in:event` to `out:event`.
fn one(rest: &str) -> Harness {
    let indented = rest.replace('\n', "\n    ");
    of(&format!(
        "transformers:\n  - name: one\n    source: in:event\n    target: out:event\n    {indented}\n"
    ))
}

/// What `in:event` with this payload becomes.
#[track_caller]
fn made(plugin: &Harness, payload: Value) -> Vec<Value> {
    plugin.take_emitted();
    let report = plugin.emit("in:event", payload);
    assert!(!report.failed(), "{:?}", report.outcomes());
    plugin.emitted_of("out:event")
}

/// Why it becomes nothing.
#[track_caller]
fn why(plugin: &Harness, payload: Value) -> String {
    plugin.take_emitted();
    let report = plugin.emit("in:event", payload);
    assert_eq!(plugin.emitted_of("out:event"), [] as [Value; 0]);
    match report.outcomes().remove(0).result {
        OutcomeKind::Failed { message, .. } => message,
        other => panic!("{other:?}"),
    }
}

/// What is wrong in the files, each in a line.
#[track_caller]
fn problems(plugin: &Harness) -> Vec<String> {
    let listed = plugin.emit("transformer:list", json!({})).results().remove(0);
    let problems = listed["problems"].as_array().unwrap().iter().map(|problem| {
        let file = problem["file"].as_str().unwrap().rsplit('/').next().unwrap();
        let name = problem["name"].as_str().unwrap_or("-");
        format!("{file}:{} {name}: {}", problem["line"], problem["message"].as_str().unwrap())
    });
    problems.collect()
}

fn names(plugin: &Harness) -> Vec<String> {
    let listed = plugin.emit("transformer:list", json!({})).results().remove(0);
    let all = listed["transformers"].as_array().unwrap().iter();
    all.map(|shown| shown["name"].as_str().unwrap().to_owned()).collect()
}
