use std::{
    fs::OpenOptions,
    io::{self, BufRead, BufReader, Write},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::*;
use crate::plugin::state::store::{
    StateDir,
    tests::{Dir, LIMIT, NAME, broken, file_of, numbered, state},
};

/// A name, the files that are found, and what is loaded then.
type Situation = (&'static str, Vec<(SnapshotPlace, Vec<u8>)>, Option<&'static [u8]>);

/// Every way in which a process, a disk or somebody may leave the files of a plugin.
fn situations() -> Vec<Situation> {
    use SnapshotPlace::{Broken, New, Previous, Snapshot};
    let good = |place, bytes: &[u8]| (place, file_of(NAME, bytes));
    let bad = |place| (place, broken(b"bad"));
    let torn = || (New, file_of(NAME, b"torn")[..40].to_vec());
    vec![
        ("nothing", vec![], None),
        ("only a torn new one", vec![torn()], None),
        ("a first one that was not renamed", vec![good(New, b"new")], Some(b"new")),
        ("one", vec![good(Snapshot, b"cur")], Some(b"cur")),
        ("two", vec![good(Snapshot, b"cur"), good(Previous, b"old")], Some(b"cur")),
        (
            "ended while writing",
            vec![good(Snapshot, b"cur"), good(Previous, b"old"), torn()],
            Some(b"cur"),
        ),
        ("ended before the renames", vec![good(Snapshot, b"cur"), good(New, b"new")], Some(b"cur")),
        (
            "ended between the renames",
            vec![good(New, b"new"), good(Previous, b"old")],
            Some(b"new"),
        ),
        ("the newest removed", vec![good(Previous, b"old")], Some(b"old")),
        ("the newest removed, torn", vec![good(Previous, b"old"), torn()], Some(b"old")),
        ("the newest damaged", vec![bad(Snapshot), good(Previous, b"old")], Some(b"old")),
        (
            "damaged, ended while writing",
            vec![bad(Snapshot), torn(), good(Previous, b"old"), bad(Broken)],
            Some(b"old"),
        ),
        (
            "damaged, ended before the renames",
            vec![bad(Snapshot), good(New, b"new"), good(Previous, b"old")],
            Some(b"new"),
        ),
        (
            "damaged, ended between the renames",
            vec![bad(Broken), good(New, b"new"), bad(Previous)],
            Some(b"new"),
        ),
        ("the previous damaged", vec![good(Snapshot, b"cur"), bad(Previous)], Some(b"cur")),
    ]
}

#[test]
fn a_stop_between_any_two_steps_leaves_the_last_complete_snapshot() {
    let next = state(b"next");
    let mut stops = 0;
    for (situation, files, before) in situations() {
        let prepared = || {
            let dir = Dir::new();
            files.iter().for_each(|(place, content)| dir.put(*place, content));
            let found = dir.own.load(NAME).unwrap().map(|it| it.bytes);
            assert_eq!(found.as_deref(), before, "{situation}");
            dir
        };
        let steps = prepared().store_until(&next, usize::MAX);
        for count in 0..=steps.len() {
            let written = count > 0 && steps[count - 1] == StoreStep::WriteNew;
            let whole = file_of(NAME, next.bytes).len();
            let lengths = if written { 0..=whole } else { whole..=whole };
            for length in lengths.rev().step_by(5) {
                let dir = prepared();
                dir.store_until(&next, count);
                if written {
                    // Stopped in the middle of writing, at this byte.
                    let new =
                        OpenOptions::new().write(true).open(dir.path(SnapshotPlace::New)).unwrap();
                    new.set_len(length as u64).unwrap();
                }
                stops += 1;
                let stop = format!("{situation}: {length} bytes, {:?}", &steps[..count]);
                drop(dir.own);
                let dir = Dir {
                    own: StateDir::open(dir.folder.path().join("state"), LIMIT).unwrap(),
                    ..dir
                };
                let found = dir.own.load(NAME).unwrap().map(|it| it.bytes);
                let is_next = found.as_deref() == Some(next.bytes);
                assert!(is_next || found.as_deref() == before, "{stop}: {found:?}");
                assert!(is_next || count < steps.len(), "{stop}: {found:?}");

                // The next host goes on from there, and what it stops at is no older.
                let after = state(b"after");
                for count in 0..=dir.store_until(&after, 0).len() {
                    dir.store_until(&after, count);
                    let later = dir.own.load(NAME).unwrap().map(|it| it.bytes);
                    let known = [found.as_deref(), Some(next.bytes), Some(after.bytes)];
                    assert!(known.contains(&later.as_deref()), "{stop}, {count}: {later:?}");
                    assert!(later.is_some() || found.is_none(), "{stop}, {count}");
                }
                dir.store(b"after");
                assert_eq!(dir.loaded(), (b"after".to_vec(), "counter.snapshot".to_owned(), None));
                assert_eq!(dir.content(SnapshotPlace::New), None, "{stop}");
            }
        }
    }
    assert!(stops > 500, "{stops}");
}

#[test]
fn the_last_complete_snapshot_survives_however_often_a_process_stops() {
    // Each process stops at another step, in an order that meets all pairs and many triples of
    // them.
    let dir = Dir::new();
    dir.store(b"0");
    let mut newest = 0;
    for number in 1..2000_u32 {
        let bytes = number.to_string();
        let count = (number.wrapping_mul(2_654_435_761) >> 16) as usize % 9;
        dir.store_until(&state(bytes.as_bytes()), count);
        if number % 7 == 0 {
            // Not complete: stopped in the middle of writing.
            if let Some(new) = dir.content(SnapshotPlace::New)
                && dir.content(SnapshotPlace::Snapshot).is_some()
            {
                dir.put(SnapshotPlace::New, &new[..new.len() / 2]);
            }
        }
        let (found, _, fallback) = dir.loaded();
        let found: u32 = String::from_utf8(found).unwrap().parse().unwrap();
        assert!((newest..=number).contains(&found), "{found} after {newest}");
        assert_eq!(fallback, None);
        newest = found;
    }
    assert!(newest > 1900, "{newest}");
}

const CHILD: &str = "KSI_TEST_STATE_DIR";

#[test]
#[ignore = "the process that the next test kills"]
fn a_process_that_stores_until_it_is_killed() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let dir = StateDir::open(dir.into(), LIMIT).unwrap();
    let first = dir
        .load(NAME)
        .unwrap()
        .map_or(0, |it| u64::from_le_bytes(*it.bytes[..8].as_array().unwrap()));
    for number in first + 1.. {
        dir.store(NAME, &state(&numbered(number))).unwrap();
        let mut out = io::stdout().lock();
        writeln!(out, "\nstored {number}").and_then(|()| out.flush()).unwrap();
    }
}

#[test]
fn a_killed_process_leaves_the_last_snapshot_that_it_stored() {
    let folder = tempfile::tempdir().unwrap();
    let module = module_path!().split_once("::").unwrap().1;
    for kill in 0..40_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture"])
            .arg(format!("{module}::a_process_that_stores_until_it_is_killed"))
            .env(CHILD, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .filter_map(|line| line.unwrap().strip_prefix("stored ")?.parse::<u64>().ok());
        let mut stored = lines.nth(usize::try_from(kill % 4).unwrap()).expect("the child stores");
        let heard = Instant::now();
        while heard.elapsed() < Duration::from_micros(kill * 73) {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        stored = lines.last().unwrap_or(stored);

        let dir = StateDir::open(folder.path().to_owned(), LIMIT).unwrap();
        let kept = dir.load(NAME).unwrap().unwrap();
        let whole = [stored, stored + 1].map(numbered).contains(&kept.bytes);
        assert!(whole && kept.fallback.is_none(), "{stored}: {:?}", kept.path);
    }
}
