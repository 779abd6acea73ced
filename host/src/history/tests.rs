use std::{fs, os::unix::fs::PermissionsExt};

use super::{file::LONGEST, *};

fn entry(kind: HistoryKind, by: HistoryBy, file: &str, reason: &str) -> HistoryEntry {
    HistoryEntry {
        by,
        file: Some(file.to_owned()),
        hash: Some("ab".to_owned()),
        kind,
        reason: reason.to_owned(),
        ..HistoryEntry::default()
    }
}

fn live(reason: &str) -> HistoryEntry {
    entry(HistoryKind::Live, FOLDER, "/p/liba.so", reason)
}

fn reasons(history: &History) -> Vec<String> {
    let all = AskHistory { limit: Some(usize::MAX), ..AskHistory::default() };
    history.newest(&all).entries.into_iter().map(|it| it.reason).collect()
}

async fn written(history: &Arc<History>) {
    let _ = history.writing.subscribe().wait_for(|writing| !writing).await;
}

#[tokio::test]
async fn what_one_host_has_noted_the_next_one_knows() {
    let dir = tempfile::tempdir().unwrap();
    let history = History::open(dir.path());
    history.host_started();
    history.note(live("one"));
    history.host_stopped().await;
    assert_eq!(history.newest(&AskHistory::default()).unwritten, 0);
    let mode = fs::metadata(dir.path().join("history.jsonl")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let next = History::open(dir.path());
    next.host_started();
    next.note(live("two"));
    written(&next).await;
    let expected = [
        "the host has started",
        "one",
        "the host has stopped in order",
        "the host has started",
        "two",
    ];
    assert_eq!(reasons(&next), expected);
    let after_a_death = History::open(dir.path());
    after_a_death.host_started();
    assert!(reasons(&after_a_death).last().unwrap().contains("did not stop in order"));
}

#[tokio::test]
async fn a_torn_last_line_is_passed_over_and_what_comes_after_it_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let history = History::open(dir.path());
    history.note(live("one"));
    history.note(live("two"));
    written(&history).await;
    let path = dir.path().join("history.jsonl");
    let whole = fs::read(&path).unwrap();
    let second = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    // A process may end, and the power fail, after any byte of it.
    for end in second..whole.len() - 1 {
        fs::write(&path, &whole[..end]).unwrap();
        let next = History::open(dir.path());
        assert_eq!(reasons(&next), ["one"], "after {end} bytes");
        if end % 16 == 0 {
            next.note(live("three"));
            written(&next).await;
            assert_eq!(reasons(&History::open(dir.path())), ["one", "three"], "after {end} bytes");
        }
    }
}

#[tokio::test]
async fn the_files_are_bounded_and_the_newest_is_always_there() {
    let dir = tempfile::tempdir().unwrap();
    let history = History::open(dir.path());
    let long = "x".repeat(2_000);
    for number in 0..2_000 {
        history.note(live(&format!("{number} {long}")));
        if number % 20 == 0 {
            written(&history).await;
        }
    }
    written(&history).await;
    assert_eq!(history.newest(&AskHistory::default()).unwritten, 0);
    let lengths = ["history.jsonl", "history.1.jsonl"]
        .map(|name| fs::metadata(dir.path().join(name)).unwrap().len());
    assert!(lengths.iter().all(|length| *length <= LONGEST), "{lengths:?}");
    let of = |history: &History| -> Vec<u32> {
        let numbers = reasons(history);
        numbers.iter().map(|it| it.split(' ').next().unwrap().parse().unwrap()).collect()
    };
    for numbers in [of(&history), of(&History::open(dir.path()))] {
        let first = *numbers.first().unwrap();
        assert!(first > 0, "none was forgotten");
        assert_eq!(numbers, (first..2_000).collect::<Vec<_>>());
        // One file's worth at the least.
        assert!(numbers.len() as u64 * 2_000 > LONGEST / 2, "{} are left", numbers.len());
    }
    assert!(history.remembered.lock().bytes <= BYTES);
}

#[tokio::test]
async fn what_cannot_be_written_is_counted_and_written_later() {
    let dir = tempfile::tempdir().unwrap();
    // In its place lies what is no file.
    let path = dir.path().join("history.jsonl");
    fs::create_dir(&path).unwrap();
    let history = History::open(dir.path());
    history.note(live("one"));
    written(&history).await;
    history.note(live("two"));
    written(&history).await;
    assert_eq!(history.newest(&AskHistory::default()).unwritten, 2);
    assert!(history.remembered.lock().is_told);
    assert_eq!(reasons(&history), ["one", "two"]);

    fs::remove_dir(&path).unwrap();
    history.note(live("three"));
    written(&history).await;
    assert_eq!(history.newest(&AskHistory::default()).unwritten, 0);
    assert!(!history.remembered.lock().is_told);
    assert_eq!(reasons(&History::open(dir.path())), ["one", "two", "three"]);
}

#[test]
fn what_is_forgotten_before_it_was_written_stays_counted() {
    let mut remembered = Remembered::default();
    let long = "x".repeat(LONGEST_TEXT);
    (0..BYTES / LONGEST_TEXT + 10).for_each(|_| remembered.add(live(&long)));
    assert!(remembered.lost > 0 && remembered.bytes <= BYTES);
    remembered.is_told = true;
    assert_eq!(remembered.unwritten(), remembered.noted);
    let (lines, settled) = remembered.pending();
    let number = lines.iter().filter(|byte| **byte == b'\n').count() as u64;
    assert_eq!(settled, remembered.lost + number);
}

#[test]
fn at_a_start_what_is_as_it_was_is_not_noted_once_more() {
    let history = History::in_memory();
    let refused = |by, file: &str, reason| entry(HistoryKind::Refused, by, file, reason);
    history.note(refused(START, "/p/bad.so", "no library"));
    for by in [START, RETRY] {
        history.note(refused(by, "/p/bad.so", "no library"));
    }
    assert_eq!(reasons(&history), ["no library"]);
    // Somebody has put it there, or asked for it.
    history.note(refused(FOLDER, "/p/bad.so", "no library"));
    history.note(refused(request("module:load", "uid=7".to_owned()), "/p/bad.so", "no library"));
    history.note(refused(START, "/p/bad.so", "torn"));
    history.note(refused(START, "/p/other.so", "torn"));
    assert_eq!(reasons(&history).len(), 5);

    history.note(live("replaced"));
    history.note(entry(HistoryKind::Died, HOST, "/p/liba.so", "it aborted"));
    history.note(entry(HistoryKind::Live, START, "/p/liba.so", "loaded"));
    let newer = HistoryEntry { hash: Some("cd".to_owned()), ..live("loaded") };
    history.note(HistoryEntry { by: START, ..newer });
    assert_eq!(reasons(&history)[5..], ["replaced", "it aborted", "loaded"]);
}

#[test]
fn the_newest_of_what_is_asked_for_is_given() {
    let history = History::in_memory();
    for number in 0..USUAL + 5 {
        history.note(live(&number.to_string()));
    }
    let of_plugin = HistoryEntry { name: Some("shop".to_owned()), ..live("of shop") };
    history.note(HistoryEntry { kind: HistoryKind::Unloaded, ..of_plugin });
    let asked = |ask: AskHistory| {
        let Answer { entries, matching, file, .. } = history.newest(&ask);
        assert_eq!(file, None);
        (entries.len(), matching, entries.last().map(|it| it.reason.clone()).unwrap_or_default())
    };
    let all = AskHistory::default();
    assert_eq!(asked(all.clone()), (USUAL, USUAL + 6, "of shop".to_owned()));
    let of = |name: &str| AskHistory { module_name: Some(name.to_owned()), ..all.clone() };
    assert_eq!(asked(of("shop")), (1, 1, "of shop".to_owned()));
    // As `ksi list` names what is no plugin.
    for name in ["liba.so", "/p/liba.so"] {
        assert_eq!(
            asked(AskHistory { limit: Some(2), ..of(name) }),
            (2, USUAL + 6, "of shop".to_owned())
        );
    }
    assert_eq!(asked(of("a.so")).0, 0);
    let kinds = vec![HistoryKind::Unloaded, HistoryKind::Died];
    assert_eq!(asked(AskHistory { kinds, ..all.clone() }).0, 1);
    assert_eq!(asked(AskHistory { since: Some(f64::MAX), ..all }).0, 0);
}

#[test]
fn what_a_later_host_has_written_is_read_as_far_as_it_is_known() {
    let line = r#"{"at":1.5,"kind":"secret_read","by":{"kind":"request","token":"t"},"reason":"r","more":[1]}"#;
    let entry: HistoryEntry = serde_json::from_str(line).unwrap();
    assert_eq!(entry.kind.as_str(), "secret_read");
    assert_eq!((entry.at, &*entry.reason, &*entry.by.kind), (1.5, "r", "request"));
}
