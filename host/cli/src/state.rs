//! `ksi state`: what is kept of the plugins' state, and choosing or giving up some of it.

use std::time::SystemTime;

use ksi_wire::state::{Dropped, Kept, KeptList, OfPlugin, Restored, Shown, Which};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::args::{Common, StateCommand, StateList, StateOf};
use super::client::{PATIENT, SOON};
use super::exit::CommandFailure;
use super::list::understood;
use super::output;
use super::plugin::{ago, size};
use super::table::{Column, Table, Tone, hanging, terminal_width};

pub(crate) fn state(common: &Common, command: StateCommand) -> Result<(), CommandFailure> {
    match command {
        StateCommand::List(args) => list(common, args),
        StateCommand::Show(args) => show(common, &args),
        StateCommand::Restore(args) => change(common, "module:state_restore", &args, restored),
        StateCommand::Drop(args) => change(common, "module:state_drop", &args, dropped),
    }
}

fn list(common: &Common, args: StateList) -> Result<(), CommandFailure> {
    let question = OfPlugin { module_name: args.name };
    let answer: Box<RawValue> = common.client()?.ask("module:state_list", &question, SOON)?;
    if args.json {
        return output::json(answer.get());
    }
    let KeptList { snapshots, .. } = understood(&answer)?;
    if snapshots.is_empty() {
        output::remark("nothing is kept");
        return Ok(());
    }
    output::text(&table(&snapshots, SystemTime::now()).render())?;
    notes(&snapshots, terminal_width()).iter().try_for_each(|line| output::text(line))
}

fn table(snapshots: &[Kept], now: SystemTime) -> Table {
    let mut table = Table::new(&[
        Column::Text("NAME"),
        Column::Text("WHICH"),
        Column::Number("VERSION"),
        Column::Text("WRITTEN BY"),
        Column::Number("SIZE"),
        Column::Text("WRITTEN"),
    ]);
    for snapshot in snapshots {
        let tone = if snapshot.error.is_some() { Tone::Bad } else { Tone::Usual };
        let known = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let cells = [
            snapshot.name.clone(),
            snapshot.which.clone(),
            known(snapshot.version.map(|version| version.to_string())),
            known(snapshot.plugin_version.clone()),
            known(snapshot.bytes.map(size)),
            known(snapshot.written.map(|written| ago(written, now).unwrap_or_default())),
        ];
        table.row(cells.into_iter().map(|cell| (cell, tone)));
    }
    table
}

/// What is wrong with some of them.
fn notes(snapshots: &[Kept], width: Option<usize>) -> Vec<String> {
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

fn show(common: &Common, args: &StateOf) -> Result<(), CommandFailure> {
    let answer: Box<RawValue> = common.client()?.ask("module:state_show", &question(args), SOON)?;
    if args.json {
        return output::json(answer.get());
    }
    let snapshot: Shown = understood(&answer)?;
    let written = ago(snapshot.written, SystemTime::now()).unwrap_or_default();
    output::remark(&format!(
        "{} of {}: version {}, {}, written {written}, in {}",
        snapshot.which,
        snapshot.name,
        snapshot.version,
        size(snapshot.bytes as u64),
        snapshot.file
    ));
    match (snapshot.not_shown, snapshot.state) {
        (Some(why), _) => {
            output::error(&format!("not shown: {why}"));
            Err(CommandFailure::Told)
        }
        (None, state) => output::json(state.as_ref().map_or("null", |state| state.get())),
    }
}

fn question(args: &StateOf) -> Which {
    Which { module_name: args.name.clone(), which: args.which.clone() }
}

fn change<T: DeserializeOwned>(
    common: &Common,
    event: &str,
    args: &StateOf,
    sentence: fn(&T) -> String,
) -> Result<(), CommandFailure> {
    let answer: Box<RawValue> = common.client()?.ask(event, &question(args), PATIENT)?;
    if args.json {
        return output::json(answer.get());
    }
    output::text(&output::plain(&sentence(&understood(&answer)?)))
}

/// `dropped newest, previous of counter`
fn dropped(Dropped { dropped, name, .. }: &Dropped) -> String {
    format!("dropped {} of {name}", dropped.join(", "))
}

/// `restored good of counter; it is live, in generation 4; what it had before is kept as aside-1`
fn restored(answer: &Restored) -> String {
    let mut words = format!("restored {} of {}", answer.which, answer.name);
    match answer.generation {
        Some(generation) => words.push_str(&format!("; it goes on in generation {generation}")),
        None => words.push_str("; it is not live, and starts from that when it is loaded"),
    }
    if let Some(aside) = &answer.kept_aside {
        words.push_str(&format!("; what was newest before is kept as {aside}"));
    }
    if let Some(why) = &answer.not_kept_aside {
        words.push_str(&format!("; what it had before is not kept: {why}"));
    }
    words
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn snapshots() -> Vec<Kept> {
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
        let restored_of = |json| restored(&serde_json::from_value(json).expect("an answer"));
        let live =
            json!({"name": "counter", "which": "good", "generation": 4, "kept_aside": "aside-1"});
        let expected = "restored good of counter; it goes on in generation 4; what was newest before is kept as aside-1";
        assert_eq!(restored_of(live), expected);
        let gone =
            json!({"name": "counter", "which": "aside-2", "generation": null, "kept_aside": null});
        let expected =
            "restored aside-2 of counter; it is not live, and starts from that when it is loaded";
        assert_eq!(restored_of(gone), expected);
        let dropped = json!({"name": "counter", "dropped": ["newest", "previous"]});
        let dropped = serde_json::from_value(dropped).expect("an answer");
        assert_eq!(super::dropped(&dropped), "dropped newest, previous of counter");
    }
}
