use std::{fs, os::unix::fs::MetadataExt};

use super::*;
use crate::plugin::state::store::tests::{Dir, NAME, broken, file_of, state};

fn kept(dir: &Dir) -> Vec<String> {
    dir.own.list(Some(NAME)).unwrap().iter().map(|it| it.place.to_string()).collect()
}

fn bytes(dir: &Dir, place: SnapshotPlace) -> Vec<u8> {
    dir.own.load_from(NAME, place).unwrap().bytes
}

#[test]
fn the_one_that_a_plugin_was_restored_from_stays_however_many_newer_ones_come() {
    let dir = Dir::new();
    dir.store(b"restored");
    dir.own.store_good(NAME, &state(b"restored")).unwrap();
    let inode = |place| fs::metadata(dir.path(place)).unwrap().ino();
    assert_ne!(
        inode(SnapshotPlace::Good),
        inode(SnapshotPlace::Snapshot),
        "it is a copy of its own"
    );
    for bytes in [b"one", b"two", b"six"] {
        dir.store(bytes);
    }
    assert_eq!(bytes(&dir, SnapshotPlace::Good), b"restored");
    // And it is what is left when the newer ones are not there, or damaged.
    fs::remove_file(dir.path(SnapshotPlace::Snapshot)).unwrap();
    dir.put(SnapshotPlace::Previous, broken(b"two"));
    let (bytes_of, name, fallback) = dir.loaded();
    assert_eq!((&bytes_of[..], &name[..]), (&b"restored"[..], "counter.good"));
    assert!(fallback.unwrap().ends_with("counter.snapshot is not there"));

    // One that is no file yet is written.
    dir.own.store_good(NAME, &state(b"handed over")).unwrap();
    assert_eq!(bytes(&dir, SnapshotPlace::Good), b"handed over");
    let before = inode(SnapshotPlace::Good);
    dir.own.store_good(NAME, &state(b"handed over")).unwrap();
    assert_eq!(inode(SnapshotPlace::Good), before, "the same is not written again");
}

#[test]
fn what_was_tried_is_passed_over() {
    let dir = Dir::new();
    for bytes in [b"one", b"two", b"six"] {
        dir.store(bytes);
    }
    dir.own.store_good(NAME, &state(b"old")).unwrap();
    let beyond =
        |tried: &[SnapshotPlace]| dir.own.load_beyond(NAME, tried).unwrap().map(|it| it.bytes);
    assert_eq!(beyond(&[]).unwrap(), b"six");
    assert_eq!(beyond(&[SnapshotPlace::Snapshot]).unwrap(), b"two");
    assert_eq!(beyond(&[SnapshotPlace::Snapshot, SnapshotPlace::Previous]).unwrap(), b"old");
    assert_eq!(
        beyond(&[SnapshotPlace::Snapshot, SnapshotPlace::Previous, SnapshotPlace::Good]),
        None
    );
}

#[test]
fn what_is_set_aside_is_kept_and_nothing_is_started_from_it() {
    let dir = Dir::new();
    dir.store(b"one");
    dir.store(b"two");
    assert_eq!(
        dir.own.set_aside(NAME, SnapshotPlace::Snapshot).unwrap(),
        Some(SnapshotPlace::Aside(1))
    );
    assert_eq!(dir.own.last(NAME), None);
    assert_eq!(dir.own.store_aside(NAME, &state(b"live")).unwrap(), SnapshotPlace::Aside(2));
    assert_eq!(dir.own.set_aside(NAME, SnapshotPlace::Good).unwrap(), None);
    fs::create_dir(dir.path(SnapshotPlace::Broken)).unwrap();
    assert_eq!(
        dir.own.set_aside(NAME, SnapshotPlace::Broken).unwrap(),
        Some(SnapshotPlace::Aside(3))
    );
    fs::remove_dir(dir.path(SnapshotPlace::Aside(3))).unwrap();
    assert_eq!(kept(&dir), ["previous", "aside-1", "aside-2"]);
    assert_eq!(dir.loaded().0, b"one");
    assert_eq!(
        (bytes(&dir, SnapshotPlace::Aside(1)), bytes(&dir, SnapshotPlace::Aside(2))),
        (b"two".to_vec(), b"live".to_vec())
    );
    dir.store(b"six");
    dir.store(b"ten");
    assert_eq!(bytes(&dir, SnapshotPlace::Aside(1)), b"two");
    for _ in 0..20 {
        dir.own.store_aside(NAME, &state(b"more")).unwrap();
    }
    let aside = kept(&dir).into_iter().filter(|which| which.starts_with("aside")).count();
    assert_eq!(aside, MAX_ASIDE);
    assert_eq!(kept(&dir).last().unwrap(), "aside-22", "no number means two snapshots");
}

#[test]
fn a_list_shows_every_file_and_what_is_wrong_with_it() {
    let dir = Dir::new();
    dir.store(b"one");
    dir.store(b"two");
    dir.put(SnapshotPlace::Previous, broken(b"one"));
    dir.put(SnapshotPlace::Aside(3), file_of("other", b"x"));
    dir.put(SnapshotPlace::Beside, b"half");
    fs::write(dir.folder.path().join("state/notes.txt"), "not one").unwrap();
    fs::write(dir.folder.path().join("state/counter.aside-007"), "not one").unwrap();
    dir.own.store("another", &state(b"it")).unwrap();
    let list = dir.own.list(None).unwrap();
    let found: Vec<_> = list.iter().map(|it| (&*it.plugin, it.place, it.content.is_ok())).collect();
    let expected = [
        ("another", SnapshotPlace::Snapshot, true),
        (NAME, SnapshotPlace::Snapshot, true),
        (NAME, SnapshotPlace::Previous, false),
        (NAME, SnapshotPlace::Aside(3), false),
    ];
    assert_eq!(found, expected);
    assert!(list[2].content.as_ref().unwrap_err().contains("checksum"));
    let about = list[1].content.as_ref().unwrap();
    assert_eq!((about.version, &*about.plugin_version, about.bytes), (2, "0.3.1", 3));
}

#[test]
fn one_that_is_not_there_or_damaged_is_told_with_those_that_there_are() {
    let dir = Dir::new();
    dir.store(b"one");
    let error = dir.own.load_from(NAME, SnapshotPlace::Aside(1)).unwrap_err().to_string();
    assert!(error.contains("\"aside-1\"") && error.contains("there is newest"), "{error}");
    let error = dir.own.load_from("other", SnapshotPlace::Good).unwrap_err().to_string();
    assert!(error.contains("there is none of it"), "{error}");
    dir.put(SnapshotPlace::Snapshot, broken(b"one"));
    let error = dir.own.load_from(NAME, SnapshotPlace::Snapshot).unwrap_err().to_string();
    assert!(error.contains("counter.snapshot cannot be used"), "{error}");
    assert!(dir.own.remove(NAME, SnapshotPlace::Snapshot).unwrap());
    assert!(!dir.own.remove(NAME, SnapshotPlace::Snapshot).unwrap());
    assert!(dir.own.load("../x").is_err() && dir.own.remove("a/b", SnapshotPlace::Good).is_err());
    assert!(kept(&dir).is_empty());
}

#[test]
fn names_that_people_use_are_told_apart() {
    for which in ["newest", "previous", "good", "broken", "aside-1", "aside-12"] {
        let place: SnapshotPlace = which.parse().unwrap();
        assert_eq!(place.to_string(), which);
        assert_eq!(SnapshotPlace::of_file(&place.file_name(NAME)), Some((NAME, place)));
    }
    for which in ["", "snapshot", "aside", "aside-", "aside-01", "aside-+1", "beside", "../x"] {
        assert!(which.parse::<SnapshotPlace>().is_err(), "{which}");
    }
    for file in ["counter", "counter.", ".lock", "counter.newest", "a.b.snapshot", "x.txt"] {
        assert_eq!(SnapshotPlace::of_file(file), None, "{file}");
    }
}

#[test]
fn nothing_goes_for_a_copy_before_it_is_settled_that_it_stays() {
    let dir = Dir::new();
    dir.store(b"newest");
    for number in 1..=MAX_ASIDE {
        dir.own.store_aside(NAME, &state(format!("{number}").as_bytes())).unwrap();
    }
    let first = || dir.content(SnapshotPlace::Aside(1)).is_some();
    // As when going back fails.
    let copy = dir.own.copy_aside(NAME).unwrap();
    assert!(first());
    dir.own.settle_copy(NAME, copy, false).unwrap();
    assert!(first() && dir.content(copy).is_none());
    // As when the other version gives its own: one goes, and not two.
    let copy = dir.own.copy_aside(NAME).unwrap();
    dir.own.store_aside(NAME, &state(b"its own")).unwrap();
    assert!(!first() && dir.content(SnapshotPlace::Aside(2)).is_some());
    dir.own.settle_copy(NAME, copy, false).unwrap();
    assert_eq!(kept(&dir).len(), 1 + MAX_ASIDE);
    // As when it does not.
    let copy = dir.own.copy_aside(NAME).unwrap();
    dir.own.settle_copy(NAME, copy, true).unwrap();
    assert!(dir.content(SnapshotPlace::Aside(2)).is_none());
    assert_eq!(bytes(&dir, copy), b"newest");
    assert_eq!(kept(&dir).len(), 1 + MAX_ASIDE);
}

#[test]
fn another_one_becomes_the_newest_at_once_or_the_newest_stays_what_it_was() {
    let dir = Dir::new();
    dir.store(b"one");
    dir.store(b"two");
    // Nothing can be written where a folder has that name.
    fs::create_dir(dir.path(SnapshotPlace::New)).unwrap();
    assert!(dir.own.replace_newest(NAME, &state(b"old")).is_err());
    fs::remove_dir(dir.path(SnapshotPlace::New)).unwrap();
    fs::create_dir(dir.path(SnapshotPlace::Beside)).unwrap();
    assert!(dir.own.copy_aside(NAME).is_err());
    fs::remove_dir(dir.path(SnapshotPlace::Beside)).unwrap();
    assert_eq!(kept(&dir), ["newest", "previous"]);
    assert_eq!(bytes(&dir, SnapshotPlace::Snapshot), b"two");
    let before = dir.own.last(NAME);
    assert_eq!(dir.own.copy_aside(NAME).unwrap(), SnapshotPlace::Aside(1));
    assert_eq!(
        (bytes(&dir, SnapshotPlace::Snapshot), dir.own.last(NAME)),
        (b"two".to_vec(), before)
    );
    assert_eq!(bytes(&dir, SnapshotPlace::Aside(1)), b"two");
    let aside = dir.own.replace_newest(NAME, &state(b"older")).unwrap();
    assert_eq!(aside, Some(SnapshotPlace::Aside(2)));
    assert_eq!(bytes(&dir, SnapshotPlace::Snapshot), b"older");
    assert_eq!(
        (bytes(&dir, SnapshotPlace::Previous), bytes(&dir, SnapshotPlace::Aside(2))),
        (b"one".to_vec(), b"two".to_vec())
    );
    assert_eq!(dir.own.last(NAME).map(|kept| kept.bytes), Some(5));
}

#[test]
fn a_process_that_ends_while_another_one_becomes_the_newest_leaves_either_and_nothing_older() {
    let whole = |dir: &Dir, bytes: &[u8]| dir.put(SnapshotPlace::Snapshot, file_of(NAME, bytes));
    type Situation<'a> = (&'a str, &'a dyn Fn(&Dir), &'a [u8]);
    let situations: [Situation<'_>; 4] = [
        ("complete", &|dir| whole(dir, b"newest"), b"newest"),
        ("damaged", &|dir| dir.put(SnapshotPlace::Snapshot, broken(b"newest")), b"older"),
        ("not there", &|_| {}, b"older"),
        (
            "not renamed",
            &|dir| dir.put(SnapshotPlace::New, file_of(NAME, b"unfinished")),
            b"unfinished",
        ),
    ];
    for (situation, arrange, before) in situations {
        for count in 0..10 {
            let dir = Dir::new();
            dir.put(SnapshotPlace::Previous, file_of(NAME, b"older"));
            arrange(&dir);
            let (new, aside) = (state(b"chosen"), dir.own.next_aside(NAME).unwrap());
            let header = SnapshotHeader::of(NAME, &new, SystemTime::now());
            let steps = dir.own.replacing(NAME, aside).unwrap();
            for step in steps.iter().take(count) {
                dir.own.perform(NAME, *step, &header, new.bytes).unwrap();
            }
            let loaded = dir.loaded().0;
            let whole = loaded == b"chosen" || count < steps.len() && loaded == before;
            let loaded = String::from_utf8_lossy(&loaded);
            assert!(whole, "{situation}, {count} of {steps:?}: {loaded}");
            // And the next one goes on from there.
            dir.store(b"next");
            assert_eq!(dir.loaded().0, b"next", "{situation}, {count}");
        }
    }
}
