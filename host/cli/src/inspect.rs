//! `ksi inspect`: all there is to know about one plugin, from a host or from a file's bytes.

use std::fmt::Write;
use std::path::Path;
use std::time::SystemTime;

use ksi_host::HandlerManifest;
use ksi_wire::Counts;
use ksi_wire::module::{Exchange, Handler, Inspect, Named};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::args::{Common, Inspect as Args};
use super::client::SOON;
use super::exit::CommandFailure;
use super::list::understood;
use super::output;
use super::plugin;
use super::table::{Column, Table, Tone};

mod exchanges;
mod running;

pub(crate) fn inspect(common: &Common, args: Args) -> Result<(), CommandFailure> {
    match names_a_file(&args.what) {
        true => of_file(args),
        false => of_plugin(common, args),
    }
}

fn of_file(args: Args) -> Result<(), CommandFailure> {
    let path = Path::new(&args.what);
    let manifest =
        ksi_host::manifest_of(path).map_err(CommandFailure::host("nothing to inspect"))?;
    let answer =
        to_raw_value(&manifest).map_err(CommandFailure::host("the manifest is not understood"))?;
    if args.json {
        return output::json(answer.get());
    }
    let handlers: Vec<_> = manifest.handlers.into_iter().map(declared).collect();
    let text = facts(&[("file", args.what)]) + &of_manifest(&understood(&answer)?);
    told(text, &manifest.requires, &manifest.emits, &handlers, &[])
}

fn of_plugin(common: &Common, args: Args) -> Result<(), CommandFailure> {
    let question = Named { module_name: args.what };
    let answer: Box<RawValue> = common.client()?.ask("module:inspect", &question, SOON)?;
    if args.json {
        return output::json(answer.get());
    }
    let plugin: Inspect = understood(&answer)?;
    let text = running::running(&plugin, SystemTime::now()) + &of_manifest(&plugin.manifest);
    told(text, &plugin.overview.requires, &plugin.emits, &plugin.handlers, &plugin.exchanges)
}

fn told(
    mut text: String,
    requires: &[String],
    emits: &[String],
    handlers: &[Handler],
    exchanged: &[Exchange],
) -> Result<(), CommandFailure> {
    text += &facts(&[("requires", requires.join(", ")), ("emits", emits.join(", "))]);
    // Writing to a String cannot fail.
    let _ = write!(text, "\n{}", table(handlers).render());
    if !exchanged.is_empty() {
        let _ = write!(text, "\n\n{}", exchanges::table(exchanged).render());
    }
    output::text(&text)
}

/// A handler as its file declares it. What is known of one that runs is missing.
fn declared(handler: HandlerManifest) -> Handler {
    Handler {
        blocking: handler.blocking,
        name: handler.name,
        priority: handler.priority,
        subscriptions: handler.subscriptions,
        timeout_ms: handler.timeout_ms,
        ..Handler::default()
    }
}

/// A path, by its looks or because it is there.
fn names_a_file(what: &str) -> bool {
    let path = Path::new(what);
    let is_named = |it: &std::ffi::OsStr| it == "so" || it == "py";
    what.contains('/') || path.extension().is_some_and(is_named) || path.is_file()
}

fn of_manifest(manifest: &Value) -> String {
    let text = |key: &str| manifest.get(key).map(words).unwrap_or_default();
    let flag = |key: &str| if manifest.get(key) == Some(&Value::Bool(true)) { "yes" } else { "no" };
    let of_python = match manifest.get("built") == Some(&Value::from("python")) {
        true => format!("python, run by CPython {}", text("interpreter")),
        false => String::new(),
    };
    facts(&[
        ("plugin", format!("{} {}", text("name"), text("version"))),
        ("built as", of_python),
        ("needs", text("dependencies")),
        ("keeps", text("keep")),
        ("abi", text("abi")),
        ("compiler", text("rustc")),
        ("target", text("target")),
        ("on panic", text("panic")),
        ("keeps state", state(manifest.get("state"))),
        ("own runtime", flag("runtime").into()),
        ("exclusive", flag("exclusive").into()),
        ("asks for", process(manifest)),
        ("mind", text("notices")),
    ])
}

/// Whether it asks for a process, which is the operator's to decide.
fn process(manifest: &Value) -> String {
    match manifest.get("isolated") {
        Some(Value::Bool(true)) => "a process of its own".to_owned(),
        _ => String::new(),
    }
}

/// Which versions of its state a plugin writes and restores. A manifest of the first hosts says no
/// more than whether.
fn state(state: Option<&Value>) -> String {
    let versions = |key: &str| {
        let versions = state.and_then(|state| state.get(key)).map(words).unwrap_or_default();
        if versions.is_empty() { "none".to_owned() } else { versions }
    };
    match state {
        None | Some(Value::Null | Value::Bool(false)) => "no".to_owned(),
        Some(Value::Object(_)) => format!(
            "yes: writes snapshots of version {}, restores {}",
            versions("writes"),
            versions("restores")
        ),
        Some(_) => "yes".to_owned(),
    }
}

/// A JSON value as a reader would say it.
fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(words).collect::<Vec<_>>().join(", "),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Lines of a title and what there is to say; empty ones are left out.
fn facts(facts: &[(&str, String)]) -> String {
    let mut text = String::new();
    for (title, fact) in facts.iter().filter(|(_, fact)| !fact.trim().is_empty()) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{title:<12}{}", output::plain(&fact.replace('\n', " ")));
    }
    text
}

fn table(handlers: &[Handler]) -> Table {
    let mut table = Table::new(&[
        Column::Text("HANDLER"),
        Column::Text("EVENTS"),
        Column::Number("PRIORITY"),
        Column::Number("TIMEOUT"),
        Column::Number("CALLS"),
        Column::Number("FAILED"),
        Column::Text("SUMMARY"),
    ]);
    for handler in handlers {
        let blocking = if handler.blocking { " (blocking)" } else { "" };
        let of_counts = |pick: fn(&Counts) -> u64| {
            handler.counts.as_ref().map_or_else(|| "-".into(), |counts| pick(counts).to_string())
        };
        let timeout = match handler.timeout_ms {
            0 => "-".into(),
            ms => humantime::format_duration(std::time::Duration::from_millis(ms)).to_string(),
        };
        let cells = [
            format!("{}{blocking}", handler.name),
            handler.subscriptions.join(", "),
            handler.priority.to_string(),
            timeout,
            of_counts(|counts| counts.accepted),
            of_counts(plugin::unwell),
            handler.summary.clone().unwrap_or_default(),
        ];
        table.row(cells.into_iter().map(|cell| (cell, Tone::Usual)));
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_are_told_from_names() {
        for path in ["./hello", "a/b", "/x", "libhello.so", env!("CARGO_MANIFEST_DIR")] {
            assert!(names_a_file(path), "{path}");
        }
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("plugin");
        std::fs::write(&file, "").expect("a file");
        assert!(names_a_file(&file.display().to_string()));
        for name in ["hello", "no-such-file-here", "so"] {
            assert!(!names_a_file(name), "{name}");
        }
    }

    #[test]
    fn facts_without_content_are_left_out() {
        let text =
            facts(&[("file", "/p".into()), ("took", " ".into()), ("last error", "a\nb".into())]);
        assert_eq!(text, "file        /p\nlast error  a b\n");
    }

    #[test]
    fn a_manifest_says_which_versions_of_state_a_plugin_knows() {
        let told = |manifest: Value| {
            let text = of_manifest(&manifest);
            let line = text.lines().find(|line| line.starts_with("keeps state")).expect("a line");
            line.replace("keeps state ", "")
        };
        assert_eq!(
            told(json!({"state": {"writes": [2, 1], "restores": [3, 2, 1]}})),
            "yes: writes snapshots of version 2, 1, restores 3, 2, 1"
        );
        for none in [json!({}), json!({"state": null}), json!({"state": false})] {
            assert_eq!(told(none), "no");
        }
        assert_eq!(told(json!({"state": true})), "yes");
    }

    #[test]
    fn handlers_of_a_file_have_no_counts() {
        let handlers: Vec<Handler> = serde_json::from_value(json!([
            {"name": "greet", "subscriptions": ["a:b", "c:*"], "priority": 10, "timeout_ms": 1500, "blocking": true},
            {"name": "other", "subscriptions": ["d:e"], "counts": {"accepted": 3, "panicked": 1}, "summary": "Does."},
        ]))
        .expect("handlers as the host sends them");
        assert_eq!(
            table(&handlers).render(),
            "HANDLER           EVENTS    PRIORITY   TIMEOUT  CALLS  FAILED  SUMMARY\n\
             greet (blocking)  a:b, c:*        10  1s 500ms      -       -\n\
             other             d:e              0         -      3       1  Does."
        );
    }
}
