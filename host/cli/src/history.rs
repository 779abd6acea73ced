//! `ksi history`: what has become of plugins, a paragraph each, the newest last.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ksi_wire::module::{AskHistory, History, HistoryBy, HistoryEntry, HistoryKind};
use serde_json::value::RawValue;

use super::args::{Common, History as Args};
use super::client::SOON;
use super::exit::CommandFailure;
use super::list::understood;
use super::output;
use super::table::{hanging, terminal_width};

/// How much of a hash tells one file from another.
const OF_HASH: usize = 12;

pub(crate) fn history(common: &Common, args: Args) -> Result<(), CommandFailure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let question = AskHistory {
        kinds: args.kinds,
        limit: Some(args.count),
        module_name: args.name,
        since: args.last.map(|last| now.saturating_sub(last).as_secs_f64()),
    };
    let answer: Box<RawValue> = common.client()?.ask("module:history", &question, SOON)?;
    if args.json {
        return output::json(answer.get());
    }
    let history: History = understood(&answer)?;
    let width = terminal_width();
    history.entries.iter().try_for_each(|entry| output::text(&told(entry, width)))?;
    remarks(&history).iter().for_each(|remark| output::remark(remark));
    Ok(())
}

/// `2026-11-28T22:31:07Z live: shop 0.2.0 (generation 7), /p/libshop.so 3f2a91c04e1d: loaded; ...`
fn told(entry: &HistoryEntry, width: Option<usize>) -> String {
    let at = Duration::try_from_secs_f64(entry.at).ok();
    let at = at.and_then(|at| UNIX_EPOCH.checked_add(at)).unwrap_or(UNIX_EPOCH);
    let at = humantime::format_rfc3339_seconds(at);
    let title = format!("{at} {}: ", output::plain(entry.kind.as_str()));
    let parts = [what(entry), file(entry)];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    let mut text = parts.join(", ");
    if !text.is_empty() {
        text.push_str(": ");
    }
    // What names the file once more says nothing by that.
    let named = entry.file.as_ref().map(|file| format!("{file} is refused: "));
    let reason = named.and_then(|named| entry.reason.strip_prefix(&named));
    text.push_str(reason.unwrap_or(&entry.reason));
    if let Some(by) = by(&entry.by) {
        text = format!("{text}; {by}");
    }
    hanging(&title, &text, width)
}

/// `shop 0.2.0 (generation 7, process 4711) instead of 0.1.0 (generation 6)`
fn what(entry: &HistoryEntry) -> Option<String> {
    let HistoryEntry { kind, name, version, generation, process, before, .. } = entry;
    let name = match (name, kind) {
        (Some(name), _) => name,
        (None, HistoryKind::Started | HistoryKind::Stopped) => "ksi",
        (None, _) => return None,
    };
    let mut what = name.to_owned();
    if let Some(version) = version {
        what = format!("{what} {version}");
    }
    let numbers = [
        generation.map(|number| format!("generation {number}")),
        process.map(|process| format!("process {process}")),
    ];
    let numbers: Vec<String> = numbers.into_iter().flatten().collect();
    if !numbers.is_empty() {
        what = format!("{what} ({})", numbers.join(", "));
    }
    if let Some(before) = before {
        let goes_on = *kind == HistoryKind::Refused;
        let how = if goes_on { "goes on as" } else { "instead of" };
        what = format!("{what} {how} {} (generation {})", before.version, before.generation);
    }
    Some(what)
}

/// `/p/libshop.so 3f2a91c04e1d`
fn file(entry: &HistoryEntry) -> Option<String> {
    let file = entry.file.as_ref()?;
    Some(match &entry.hash {
        Some(hash) => format!("{file} {}", hash.chars().take(OF_HASH).collect::<String>()),
        None => file.clone(),
    })
}

fn by(HistoryBy { event, from, kind }: &HistoryBy) -> Option<String> {
    Some(match (&**kind, event, from) {
        ("" | "host", ..) => return None,
        ("start", ..) => "as the host started".to_owned(),
        ("configuration", ..) => "by a change of the configuration file".to_owned(),
        ("folder", ..) => "by a change in its folder".to_owned(),
        ("retry", ..) => "by a retry of the host".to_owned(),
        ("probation", ..) => "by the host's probation of it".to_owned(),
        ("program", ..) => "by the program around the host".to_owned(),
        (_, Some(event), Some(from)) => format!("by {event} of {from}"),
        (_, Some(event), None) => format!("by {event}"),
        (kind, None, _) => format!("by {kind}"),
    })
}

fn remarks(history: &History) -> Vec<String> {
    let History { entries, file, matching, unwritten } = history;
    let mut remarks = Vec::new();
    match matching.saturating_sub(entries.len()) {
        0 if entries.is_empty() => remarks.push("nothing of that is remembered".to_owned()),
        0 => {}
        more => remarks.push(format!("{more} before them are not shown: see --count")),
    }
    match (file, unwritten) {
        (None, _) => {
            remarks.push("this history ends with the host, which keeps no state".to_owned())
        }
        (Some(_), 0) => {}
        (Some(file), number) => {
            remarks
                .push(format!("{number} of the history are not in {file}, which was not written"));
        }
    }
    remarks
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entries() -> Vec<HistoryEntry> {
        serde_json::from_value(json!([
            {"at": 1_795_905_000.5, "kind": "started", "by": {"kind": "host"}, "version": "0.1.0", "process": 77,
             "reason": "the host has started"},
            {"at": 1_795_905_067.5, "kind": "live", "name": "shop", "version": "0.2.0", "generation": 7,
             "before": {"version": "0.1.0", "generation": 6}, "file": "/srv/plugins/libshop.so",
             "hash": "3f2a91c04e1db6", "process": 4711, "reason": "replaced by a new generation",
             "by": {"kind": "request", "event": "module:reload", "from": "uid=1000 pid=99"}},
            {"at": 1_795_905_068.0, "kind": "refused", "name": "shop", "before": {"version": "0.2.0", "generation": 7},
             "file": "/srv/plugins/libshop.so", "reason": "/srv/plugins/libshop.so is refused: it is\u{1b}[31m torn", "by": {"kind": "folder"}},
            {"at": 1_795_905_069.0, "kind": "secret_read", "reason": "of a later host", "by": {"kind": "nobody"}},
        ]))
        .expect("entries as the host sends them")
    }

    #[test]
    fn a_pipe_gets_a_line_each() {
        let lines: Vec<String> = entries().iter().map(|entry| told(entry, None)).collect();
        assert_eq!(
            lines,
            [
                "2026-11-28T22:30:00Z started: ksi 0.1.0 (process 77): the host has started",
                "2026-11-28T22:31:07Z live: shop 0.2.0 (generation 7, process 4711) instead of 0.1.0 (generation 6), \
                 /srv/plugins/libshop.so 3f2a91c04e1d: replaced by a new generation; by module:reload of uid=1000 pid=99",
                "2026-11-28T22:31:08Z refused: shop goes on as 0.2.0 (generation 7), /srv/plugins/libshop.so: \
                 it is\\u{1b}[31m torn; by a change in its folder",
                "2026-11-28T22:31:09Z secret_read: of a later host; by nobody",
            ]
        );
    }

    #[test]
    fn a_terminal_of_80_columns_gets_paragraphs() {
        for entry in entries() {
            let text = told(&entry, Some(80));
            assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        }
        assert_eq!(
            told(&entries()[1], Some(80)),
            "2026-11-28T22:31:07Z live: shop 0.2.0 (generation 7, process 4711) instead of\n    \
             0.1.0 (generation 6), /srv/plugins/libshop.so 3f2a91c04e1d: replaced by a\n    \
             new generation; by module:reload of uid=1000 pid=99"
        );
    }

    #[test]
    fn what_is_not_shown_or_not_kept_is_told() {
        let file = Some("/s/history.jsonl".to_owned());
        let of = |matching, unwritten| History {
            entries: entries(),
            file: file.clone(),
            matching,
            unwritten,
        };
        assert!(remarks(&of(4, 0)).is_empty());
        assert_eq!(
            remarks(&of(9, 2)),
            [
                "5 before them are not shown: see --count",
                "2 of the history are not in /s/history.jsonl, which was not written"
            ]
        );
        assert_eq!(
            remarks(&History::default()),
            [
                "nothing of that is remembered",
                "this history ends with the host, which keeps no state"
            ]
        );
    }
}
