//! `ksi list`: every plugin and every refused file, in a line each; below it what somebody should
//! read, and the totals of the host. Many refused files are told together ([`files`]).

mod files;

use std::time::SystemTime;

use ksi_wire::Counts;
use ksi_wire::module::{List, Overview};
use ksi_wire::system::{Health, Starting};
use serde::de::DeserializeOwned;
use serde_json::json;
use serde_json::value::RawValue;

use super::args::{Common, List as Args};
use super::client::SOON;
use super::exit::CommandFailure;
use super::output;
use super::plugin;
use super::table::{Column, Table, Tone, hanging, terminal_width};

pub(crate) fn list(common: &Common, args: Args) -> Result<(), CommandFailure> {
    let mut client = common.client()?;
    let answer: Box<RawValue> = client.ask("module:list", &json!({}), SOON)?;
    if args.json {
        return output::json(answer.get());
    }
    let List { modules, .. } = understood::<List>(&answer)?;
    let Health { counts, starting, .. } = client.ask("system:health", &json!({}), SOON)?;
    let is_empty = modules.is_empty();
    let (modules, files) = files::apart(modules, args.all);
    output::text(&table(&modules).render())?;
    match starting {
        Some(starting) => output::remark(&told(&starting)),
        None if is_empty => output::remark("no plugins"),
        None => {}
    }
    let width = terminal_width();
    let mut below = notes(&modules, SystemTime::now(), width);
    below.extend(files::told(&files, width));
    below.extend(totals(&counts, width));
    below.iter().try_for_each(|line| output::text(line))
}

/// `starting, for 4s: loading liba.so (3 of 12)`
fn told(starting: &Starting) -> String {
    let Starting { loading, number, of, seconds } = starting;
    match loading {
        Some(file) => {
            let (number, of) = (number.unwrap_or_default(), of.unwrap_or_default());
            let file = output::plain(file);
            format!("starting, for {seconds:.0}s: loading {file} ({number} of {of})")
        }
        None => "starting: no plugin is loaded yet".to_owned(),
    }
}

/// The typed form of the host's answer.
pub(crate) fn understood<T: DeserializeOwned>(answer: &RawValue) -> Result<T, CommandFailure> {
    serde_json::from_str(answer.get()).map_err(|error| {
        output::error(&format!("the host's answer is not understood: {error}"));
        CommandFailure::Told
    })
}

fn table(plugins: &[Overview]) -> Table {
    let mut table = Table::new(&[
        Column::Text("NAME"),
        Column::Text("VERSION"),
        Column::Number("GEN"),
        Column::Text("STATE"),
        Column::Number("EVENTS"),
        Column::Number("FAILED"),
        Column::Number("IN FLIGHT"),
        Column::Text("OLD"),
    ]);
    for plugin in plugins {
        let (counts, unwell) = (plugin.counts, plugin::unwell(&plugin.counts));
        let usual = |text: String| (text, Tone::Usual);
        table.row([
            usual(plugin.name.clone()),
            usual(plugin.version.clone().unwrap_or_else(|| "-".into())),
            usual(plugin.generation.map_or_else(|| "-".into(), |number| number.to_string())),
            (plugin::state(plugin), plugin::tone(plugin)),
            usual(counts.accepted.to_string()),
            (unwell.to_string(), if unwell > 0 { Tone::Bad } else { Tone::Usual }),
            usual(counts.in_flight.to_string()),
            usual(plugin::old(plugin)),
        ]);
    }
    table
}

/// What does not fit into a row and somebody should read, a paragraph each.
fn notes(plugins: &[Overview], now: SystemTime, width: Option<usize>) -> Vec<String> {
    let mut lines = Vec::new();
    for plugin in plugins {
        let name = output::plain(&plugin.name);
        let quarantined = plugin::quarantined(plugin).map(|it| format!("quarantined {it}"));
        let last_error = plugin::last_error(plugin);
        let not_kept = plugin::not_kept(plugin, now).map(|it| format!("its state is {it}"));
        let notices = plugin.notices.iter().cloned().map(Some);
        let all = [
            last_error,
            plugin::config_refused(plugin, now),
            quarantined,
            plugin::missing(plugin),
            not_kept,
            plugin.state_notice.clone(),
            plugin::held(plugin),
            plugin::rollbacks(plugin),
            plugin::not_isolated(plugin),
            plugin::signals(plugin),
        ];
        lines.extend(
            all.into_iter()
                .chain(notices)
                .flatten()
                .map(|note| hanging(&format!("{name}: "), &note, width)),
        );
        for old in &plugin.retired {
            if let Some(cause) = &old.cause {
                let title = format!(
                    "{name}: generation {} is {}: ",
                    old.generation,
                    output::plain(old.state.as_str())
                );
                lines.push(hanging(&title, cause, width));
            }
        }
    }
    if !lines.is_empty() {
        lines.insert(0, String::new());
    }
    lines
}

/// Over all plugins and all of their generations.
fn totals(counts: &Counts, width: Option<usize>) -> [String; 2] {
    [String::new(), hanging("in all: ", &plugin::equation(counts), width)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugins() -> Vec<Overview> {
        serde_json::from_value(json!([
            {"name": "hello", "version": "0.1.0", "generation": 3, "state": "live", "events": ["a:b"],
             "on_probation": true, "held": 4, "rollbacks": 1, "reloads": 2,
             "quarantined": {"version": "0.2.0", "hash": "ab", "reason": "it panics", "attempts": 1, "retry_in_ms": 900},
             "file": "/p/libhello.so", "last_error": "the new file\nis torn",
             "counts": {"accepted": 12, "replied": 8, "no_reply": 1, "failed": 1, "panicked": 1, "timed_out": 1,
                        "rejected": 0, "in_flight": 2},
             "retired": [{"generation": 1, "state": "unmapped", "cause": null},
                         {"generation": 2, "state": "pinned", "cause": "a thread of its own"}]},
            {"name": "later.so", "version": "0.1.0", "state": "waiting", "generation": null, "keeps_state": null,
             "requires": ["a:b", "c:d"], "missing": ["a:b", "c:d"], "quarantined": null, "persisted": null},
            {"name": "notes.so", "version": null, "state": "refused", "last_error": "is no library",
             "file": "/p/notes.so"},
        ]))
        .expect("plugins as the host sends them")
    }

    #[test]
    fn a_pipe_gets_a_line_each() {
        let text = table(&plugins()).render();
        assert_eq!(
            text,
            "NAME      VERSION  GEN  STATE             EVENTS  FAILED  IN FLIGHT  OLD\n\
             hello     0.1.0      3  live (probation)      12       3          2  1 unmapped, 1 pinned\n\
             later.so  0.1.0      -  waiting                0       0          0\n\
             notes.so  -          -  refused                0       0          0"
        );
    }

    #[test]
    fn what_somebody_should_read_is_told_below() {
        assert_eq!(
            notes(&plugins(), SystemTime::now(), None),
            [
                "",
                "hello: the new file is torn",
                "hello: quarantined version 0.2.0: it panics; 1 attempt, the next in 1s",
                "hello: 4 events wait for the hand-over of its state",
                "hello: 1 rollback, 2 reloads",
                "hello: generation 2 is pinned: a thread of its own",
                "later.so: nobody handles a:b, c:d, which it requires",
                "notes.so: is no library; not tried again until it changes or `ksi load /p/notes.so`",
            ]
        );
        assert!(notes(&[], SystemTime::now(), None).is_empty());
    }

    #[test]
    fn the_totals_can_be_added_up() {
        let counts = serde_json::from_value(json!({"accepted": 9, "replied": 7, "timed_out": 2}))
            .expect("counts as the host sends them");
        assert_eq!(
            totals(&counts, None)[1],
            "in all: 9 accepted = 7 replied + 0 no reply + 0 failed + 0 panicked + 2 timed out + 0 rejected + 0 in flight"
        );
    }
}
