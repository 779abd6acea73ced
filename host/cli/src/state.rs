//! `ksi state`: what is kept of the plugins' state, and choosing or giving up some of it.

use std::time::SystemTime;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::args::{Common, State, StateList, StateOf};
use super::client::{PATIENT, SOON};
use super::exit::Failure;
use super::list::understood;
use super::output;
use super::plugin::{ago, size};
use super::table::{Column, Table, Tone, hanging, terminal_width};

pub(crate) fn state(common: &Common, command: State) -> Result<(), Failure> {
    match command {
        State::List(args) => list(common, args),
        State::Show(args) => show(common, &args),
        State::Restore(args) => change(common, "module:state_restore", &args),
        State::Drop(args) => change(common, "module:state_drop", &args),
    }
}

/// A kept snapshot, as the host tells of it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Snapshot {
    name: String,
    which: String,
    file: String,
    version: u64,
    plugin_version: String,
    bytes: u64,
    /// Seconds since 1970.
    written: f64,
    error: Option<String>,
    state: Option<Box<RawValue>>,
    not_shown: Option<String>,
}

fn list(common: &Common, args: StateList) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct Answer {
        snapshots: Vec<Snapshot>,
    }
    let question = args.name.map_or_else(|| json!({}), |name| json!({"module_name": name}));
    let answer: Box<RawValue> = common.client()?.ask("module:state_list", &question, SOON)?;
    if args.json {
        return output::json(answer.get());
    }
    let Answer { snapshots } = understood(&answer)?;
    if snapshots.is_empty() {
        output::remark("nothing is kept");
        return Ok(());
    }
    output::text(&table(&snapshots, SystemTime::now()).render())?;
    notes(&snapshots, terminal_width()).iter().try_for_each(|line| output::text(line))
}

fn table(snapshots: &[Snapshot], now: SystemTime) -> Table {
    let mut table = Table::new(&[
        Column::Text("NAME"),
        Column::Text("WHICH"),
        Column::Number("VERSION"),
        Column::Text("WRITTEN BY"),
        Column::Number("SIZE"),
        Column::Text("WRITTEN"),
    ]);
    for snapshot in snapshots {
        let (tone, unknown) = match snapshot.error {
            Some(_) => (Tone::Bad, true),
            None => (Tone::Usual, false),
        };
        let known = |text: String| if unknown { "-".to_owned() } else { text };
        let cells = [
            snapshot.name.clone(),
            snapshot.which.clone(),
            known(snapshot.version.to_string()),
            known(snapshot.plugin_version.clone()),
            known(size(snapshot.bytes)),
            known(ago(snapshot.written, now).unwrap_or_default()),
        ];
        table.row(cells.into_iter().map(|cell| (cell, tone)));
    }
    table
}

/// What is wrong with some of them.
fn notes(snapshots: &[Snapshot], width: Option<usize>) -> Vec<String> {
    let bad = snapshots.iter().filter_map(|it| Some((it, it.error.as_ref()?)));
    let mut lines: Vec<String> = bad
        .map(|(snapshot, error)| {
            let title =
                format!("{} {}: ", output::plain(&snapshot.name), output::plain(&snapshot.which));
            let note = match error.contains(&snapshot.file) {
                true => error.clone(),
                false => format!("{}: {error}", snapshot.file),
            };
            hanging(&title, &note, width)
        })
        .collect();
    if !lines.is_empty() {
        lines.insert(0, String::new());
    }
    lines
}

fn show(common: &Common, args: &StateOf) -> Result<(), Failure> {
    let answer: Box<RawValue> = common.client()?.ask("module:state_show", &question(args), SOON)?;
    if args.json {
        return output::json(answer.get());
    }
    let snapshot: Snapshot = understood(&answer)?;
    let written = ago(snapshot.written, SystemTime::now()).unwrap_or_default();
    output::remark(&format!(
        "{} of {}: version {}, {}, written {written}, in {}",
        snapshot.which,
        snapshot.name,
        snapshot.version,
        size(snapshot.bytes),
        snapshot.file
    ));
    match (snapshot.not_shown, snapshot.state) {
        (Some(why), _) => {
            output::error(&format!("not shown: {why}"));
            Err(Failure::Told)
        }
        (None, state) => output::json(state.as_ref().map_or("null", |state| state.get())),
    }
}

fn question(args: &StateOf) -> Value {
    match &args.which {
        Some(which) => json!({"module_name": args.name, "which": which}),
        None => json!({"module_name": args.name}),
    }
}

fn change(common: &Common, event: &str, args: &StateOf) -> Result<(), Failure> {
    let answer: Box<RawValue> = common.client()?.ask(event, &question(args), PATIENT)?;
    if args.json {
        return output::json(answer.get());
    }
    output::text(&output::plain(&sentence(&understood(&answer)?)))
}

/// `restored good of counter; it is live, in generation 4; what it had before is kept as aside-1`
fn sentence(answer: &Value) -> String {
    let text = |key: &str| answer.get(key).and_then(Value::as_str);
    let name = text("name").unwrap_or("the plugin");
    if let Some(dropped) = answer.get("dropped").and_then(Value::as_array) {
        let dropped: Vec<&str> = dropped.iter().filter_map(Value::as_str).collect();
        return format!("dropped {} of {name}", dropped.join(", "));
    }
    let mut words = format!("restored {} of {name}", text("which").unwrap_or("a snapshot"));
    match answer.get("generation").and_then(Value::as_u64) {
        Some(generation) => words.push_str(&format!("; it goes on in generation {generation}")),
        None => words.push_str("; it is not live, and starts from that when it is loaded"),
    }
    if let Some(aside) = text("kept_aside") {
        words.push_str(&format!("; what was newest before is kept as {aside}"));
    }
    if let Some(why) = text("not_kept_aside") {
        words.push_str(&format!("; what it had before is not kept: {why}"));
    }
    words
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn snapshots() -> Vec<Snapshot> {
        serde_json::from_value(json!([
            {"name": "counter", "which": "newest", "file": "/s/counter.snapshot", "version": 3,
             "plugin_version": "0.2.0", "bytes": 4200, "written": 940.0, "hash": "ab", "error": null},
            {"name": "counter", "which": "previous", "file": "/s/counter.previous", "error": "it ends early"},
        ]))
        .expect("snapshots as the host sends them")
    }

    #[test]
    fn each_snapshot_is_a_line_and_what_is_wrong_with_it_stands_below() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        assert_eq!(
            table(&snapshots(), now).render(),
            "NAME     WHICH     VERSION  WRITTEN BY     SIZE  WRITTEN\n\
             counter  newest          3  0.2.0       4.1 KiB  1m ago\n\
             counter  previous        -  -                 -  -"
        );
        assert_eq!(
            notes(&snapshots(), None),
            ["", "counter previous: /s/counter.previous: it ends early"]
        );
    }

    #[test]
    fn the_answer_is_said_in_a_sentence() {
        let live =
            json!({"name": "counter", "which": "good", "generation": 4, "kept_aside": "aside-1"});
        let expected = "restored good of counter; it goes on in generation 4; what was newest before is kept as aside-1";
        assert_eq!(sentence(&live), expected);
        let gone =
            json!({"name": "counter", "which": "aside-2", "generation": null, "kept_aside": null});
        let expected =
            "restored aside-2 of counter; it is not live, and starts from that when it is loaded";
        assert_eq!(sentence(&gone), expected);
        let dropped = json!({"name": "counter", "dropped": ["newest", "previous"]});
        assert_eq!(sentence(&dropped), "dropped newest, previous of counter");
    }
}
