use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    time::Duration,
};

use super::*;

pub(super) const LIMIT: u64 = 1 << 20;
pub(super) const NAME: &str = "counter";

pub(super) struct Dir {
    pub(super) folder: tempfile::TempDir,
    pub(super) own: StateDir,
}

impl Dir {
    pub(super) fn new() -> Dir {
        let folder = tempfile::tempdir().unwrap();
        let own = StateDir::open(folder.path().join("state"), LIMIT).unwrap();
        Dir { folder, own }
    }

    pub(super) fn path(&self, place: SnapshotPlace) -> PathBuf {
        self.own.path(NAME, place)
    }

    pub(super) fn content(&self, place: SnapshotPlace) -> Option<Vec<u8>> {
        fs::read(self.path(place)).ok()
    }

    pub(super) fn put(&self, place: SnapshotPlace, content: impl AsRef<[u8]>) {
        fs::write(self.path(place), content).unwrap();
    }

    pub(super) fn store(&self, bytes: &[u8]) -> Stored {
        self.own.store(NAME, &state(bytes)).unwrap()
    }

    /// What is loaded: the bytes, the name of their file, and why they are not the newest.
    pub(super) fn loaded(&self) -> (Vec<u8>, String, Option<String>) {
        let kept = self.own.load(NAME).unwrap().expect("a snapshot");
        let name = kept.path.file_name().unwrap().to_str().unwrap().to_owned();
        (kept.bytes, name, kept.fallback)
    }

    /// Stores `state` up to its step number `count`, as a process does that is ended there.
    pub(super) fn store_until(&self, new: &NewState<'_>, count: usize) -> Vec<StoreStep> {
        let header = SnapshotHeader::of(NAME, new, SystemTime::now());
        let (steps, _) = self.own.steps(NAME, &header).unwrap();
        for step in steps.iter().take(count) {
            self.own.perform(NAME, *step, &header, new.bytes).unwrap();
        }
        steps
    }
}

pub(super) fn state(bytes: &[u8]) -> NewState<'_> {
    NewState { version: 2, bytes, plugin_version: "0.3.1" }
}

/// A whole file with a snapshot.
pub(super) fn file_of(plugin: &str, bytes: &[u8]) -> Vec<u8> {
    let line = SnapshotHeader::of(plugin, &state(bytes), SystemTime::now()).line();
    [line.as_bytes(), bytes].concat()
}

pub(super) fn broken(bytes: &[u8]) -> Vec<u8> {
    let mut file = file_of(NAME, bytes);
    *file.last_mut().unwrap() ^= 1;
    file
}

#[test]
fn what_is_stored_is_loaded() {
    let dir = Dir::new();
    assert_eq!(dir.own.load(NAME).unwrap(), None);
    assert_eq!(dir.own.last(NAME), None);

    let Stored::Written { bytes: 13, written, version: 2 } = dir.store(b"{\"count\":207}") else {
        panic!("not written");
    };
    let kept = dir.own.load(NAME).unwrap().unwrap();
    let expected = KeptState {
        version: 2,
        bytes: b"{\"count\":207}".to_vec(),
        plugin_version: "0.3.1".to_owned(),
        written,
        path: dir.folder.path().join("state/counter.snapshot"),
        place: SnapshotPlace::Snapshot,
        fallback: None,
    };
    assert_eq!(kept, expected);
    assert!(written.elapsed().unwrap() < Duration::from_secs(60));
    assert_eq!(dir.own.last(NAME), Some(NewestSnapshot { version: 2, bytes: 13, written }));
    assert_eq!(dir.own.load("other").unwrap(), None);

    drop(dir.own);
    let again = StateDir::open(dir.folder.path().join("state"), LIMIT).unwrap();
    assert_eq!(again.last(NAME), None);
    assert_eq!(again.load(NAME).unwrap(), Some(expected));
    assert_eq!(again.last(NAME), Some(NewestSnapshot { version: 2, bytes: 13, written }));
}

#[test]
fn any_bytes_and_any_version_of_a_plugin_come_back_as_they_were() {
    let dir = Dir::new();
    let all: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    for bytes in [&b""[..], b"\n", b"\"}\n\0\xff", &all] {
        for plugin_version in ["", "\"\\\n\u{1}\u{fffd}ä", &"\u{1}".repeat(10_000)] {
            let new = NewState { version: u32::MAX, bytes, plugin_version };
            dir.own.store(NAME, &new).unwrap();
            let kept = dir.own.load(NAME).unwrap().unwrap();
            assert_eq!((kept.version, &kept.bytes[..]), (u32::MAX, bytes));
        }
    }
    let longest = "x".repeat(MAX_NAME);
    let plugin_version = &"\u{1}".repeat(10_000);
    dir.own.store(&longest, &NewState { version: 1, bytes: b"x", plugin_version }).unwrap();
    let kept = dir.own.load(&longest).unwrap().unwrap();
    assert!(plugin_version.starts_with(&kept.plugin_version) && kept.plugin_version.len() == 128);
}

#[test]
fn the_snapshot_before_is_kept_as_the_previous_one() {
    let dir = Dir::new();
    for bytes in [b"one", b"two", b"six"] {
        dir.store(bytes);
    }
    fs::remove_file(dir.path(SnapshotPlace::Snapshot)).unwrap();
    let (bytes, name, fallback) = dir.loaded();
    assert_eq!((&bytes[..], &name[..]), (&b"two"[..], "counter.previous"));
    assert!(fallback.unwrap().ends_with("counter.snapshot is not there"));
}

#[test]
fn a_snapshot_that_is_kept_already_is_not_written_again() {
    let dir = Dir::new();
    dir.store(b"one");
    dir.store(b"two");
    let inode = || fs::metadata(dir.path(SnapshotPlace::Snapshot)).unwrap().ino();
    let (before, last) = (inode(), dir.own.last(NAME));
    assert_eq!(dir.store(b"two"), Stored::Unchanged);
    assert_eq!((inode(), dir.own.last(NAME)), (before, last));
    assert!(dir.content(SnapshotPlace::Previous).unwrap().ends_with(b"one"));

    let other = NewState { version: 3, ..state(b"two") };
    assert!(matches!(dir.own.store(NAME, &other).unwrap(), Stored::Written { version: 3, .. }));
}

/// What the killed process holds as its state number `number`: no part of it is in another one.
pub(super) fn numbered(number: u64) -> Vec<u8> {
    let count = 20_000 + usize::try_from(number % 1000).unwrap() * 8;
    std::iter::repeat_n(number.to_le_bytes(), count).flatten().collect()
}

#[test]
fn a_damaged_snapshot_falls_back_to_the_previous_one_and_says_so() {
    let dir = Dir::new();
    dir.store(b"one");
    dir.store(b"two");
    let newest = dir.content(SnapshotPlace::Snapshot).unwrap();
    let previous = dir.content(SnapshotPlace::Previous).unwrap();
    for at in 0..newest.len() {
        let mut flipped = newest.clone();
        flipped[at] ^= 0x20;
        for damaged in [&flipped[..], &newest[..at]] {
            dir.put(SnapshotPlace::Snapshot, damaged);
            let (bytes, name, fallback) = dir.loaded();
            assert_eq!((&bytes[..], &name[..]), (&b"one"[..], "counter.previous"));
            let said = fallback.unwrap();
            assert!(said.contains("counter.snapshot is damaged: it"), "{said}");
        }
    }
    let damaged = dir.content(SnapshotPlace::Snapshot);
    dir.store(b"six");
    assert_eq!(dir.loaded(), (b"six".to_vec(), "counter.snapshot".to_owned(), None));
    assert_eq!(dir.content(SnapshotPlace::Broken), damaged);
    assert_eq!(dir.content(SnapshotPlace::Previous), Some(previous));
}

#[test]
fn with_nothing_complete_left_the_error_names_every_file() {
    let dir = Dir::new();
    dir.put(SnapshotPlace::Snapshot, broken(b"two"));
    dir.put(SnapshotPlace::Previous, &file_of(NAME, b"one")[..50]);
    let error = dir.own.load(NAME).unwrap_err();
    let said = error.to_string();
    assert!(matches!(error, KeptStateError::NothingComplete { .. }), "{said}");
    for part in [
        "counter.snapshot (its",
        "counter.previous (its",
        "`ksi state drop counter` to start empty",
    ] {
        assert!(said.contains(part), "{said}");
    }
    for place in [SnapshotPlace::Snapshot, SnapshotPlace::Previous] {
        fs::rename(dir.path(place), dir.folder.path().join("away")).unwrap();
    }
    assert_eq!(dir.own.load(NAME).unwrap(), None);
}

#[test]
fn a_snapshot_over_the_limit_is_neither_stored_nor_loaded() {
    let dir = Dir::new();
    dir.store(b"one");
    let huge = vec![0; usize::try_from(LIMIT).unwrap() + 1];
    let error = dir.own.store(NAME, &state(&huge)).unwrap_err();
    assert!(matches!(error, KeptStateError::TooLargeToStore { limit: LIMIT, .. }), "{error}");
    assert_eq!(dir.loaded().0, b"one");

    dir.store(&huge[1..]);
    assert_eq!(dir.loaded().0.len() as u64, LIMIT);

    dir.put(SnapshotPlace::Snapshot, file_of(NAME, &huge));
    let error = dir.own.load(NAME).unwrap_err();
    assert!(matches!(error, KeptStateError::TooLarge { limit: LIMIT, .. }), "{error}");
    assert!(matches!(
        dir.own.store(NAME, &state(b"two")),
        Err(KeptStateError::TooLarge { limit: LIMIT, .. })
    ));
}

#[test]
fn what_is_complete_and_cannot_be_used_is_an_error_and_no_reason_to_fall_back() {
    let dir = Dir::new();
    dir.store(b"one");
    dir.store(b"two");

    dir.put(SnapshotPlace::Snapshot, file_of("other", b"two"));
    let error = dir.own.load(NAME).unwrap_err();
    assert!(matches!(error, KeptStateError::OfAnotherPlugin { .. }), "{error}");

    let line = String::from_utf8(file_of(NAME, b"")).unwrap();
    let line = line[..line.len() - 67].replacen(":1,", ":2,\"more\":[],", 1);
    let check = blake3::hash(line.as_bytes());
    dir.put(SnapshotPlace::Snapshot, format!("{line}{check}\"}}\nanything"));
    let error = dir.own.load(NAME).unwrap_err();
    assert!(matches!(error, KeptStateError::OtherFormat { found: 2, .. }), "{error}");
    let error = dir.own.store(NAME, &state(b"six")).unwrap_err();
    assert!(matches!(error, KeptStateError::OtherFormat { found: 2, .. }), "{error}");
    assert!(dir.content(SnapshotPlace::Previous).unwrap().ends_with(b"one"));
}

#[test]
fn only_names_of_plugins_become_names_of_files() {
    let dir = Dir::new();
    let long = "x".repeat(65);
    for name in ["", ".", "..", "a/b", "../up", "a.b", "a b", "ä", "a\0", "a\n", &long] {
        let stored = dir.own.store(name, &state(b"one")).unwrap_err();
        let loaded = dir.own.load(name).unwrap_err();
        assert!(matches!(stored, KeptStateError::Name { .. }), "{name:?}: {stored}");
        assert!(matches!(loaded, KeptStateError::Name { .. }), "{name:?}: {loaded}");
    }
    let entries = fs::read_dir(dir.folder.path().join("state")).unwrap();
    assert_eq!(entries.map(|it| it.unwrap().file_name()).collect::<Vec<_>>(), [".lock"]);
}

#[test]
fn links_and_pipes_are_not_taken_for_snapshots() {
    let dir = Dir::new();
    dir.store(b"one");
    dir.store(b"two");
    let target = dir.folder.path().join("target");
    fs::write(&target, file_of(NAME, b"linked")).unwrap();
    fs::remove_file(dir.path(SnapshotPlace::Snapshot)).unwrap();
    let refused = || {
        for error in
            [dir.own.load(NAME).unwrap_err(), dir.own.store(NAME, &state(b"six")).unwrap_err()]
        {
            assert!(matches!(error, KeptStateError::NotRegular { .. }), "{error}");
        }
        fs::remove_file(dir.path(SnapshotPlace::Snapshot))
            .or_else(|_| fs::remove_dir(dir.path(SnapshotPlace::Snapshot)))
            .unwrap();
    };
    symlink(&target, dir.path(SnapshotPlace::Snapshot)).unwrap();
    refused();
    fs::create_dir(dir.path(SnapshotPlace::Snapshot)).unwrap();
    refused();
    let pipe = dir.path(SnapshotPlace::Snapshot);
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
    refused();

    // What is written to is a new file, whatever has the name: nothing is written through a link.
    dir.store(b"one");
    let before = fs::read(&target).unwrap();
    symlink(&target, dir.path(SnapshotPlace::New)).unwrap();
    dir.store(b"two");
    symlink(&target, dir.path(SnapshotPlace::New)).unwrap();
    assert_eq!(dir.store(b"two"), Stored::Unchanged);
    assert_eq!(dir.content(SnapshotPlace::New), None);
    assert_eq!(fs::read(&target).unwrap(), before);
}

#[test]
fn a_store_that_fails_leaves_the_snapshot_before() {
    let dir = Dir::new();
    dir.store(b"one");
    let last = dir.own.last(NAME);
    fs::create_dir(dir.path(SnapshotPlace::New)).unwrap();
    let error = dir.own.store(NAME, &state(b"two")).unwrap_err();
    assert!(matches!(error, KeptStateError::RemoveNew { .. }), "{error}");
    fs::remove_dir(dir.path(SnapshotPlace::New)).unwrap();

    fs::create_dir(dir.path(SnapshotPlace::Previous)).unwrap();
    let error = dir.own.store(NAME, &state(b"two")).unwrap_err();
    assert!(matches!(error, KeptStateError::Rename { .. }), "{error}");
    assert!(error.to_string().contains("counter.previous"), "{error}");
    assert_eq!((&dir.loaded().0[..], dir.own.last(NAME)), (&b"one"[..], last));
    fs::remove_dir(dir.path(SnapshotPlace::Previous)).unwrap();
    dir.store(b"two");
    assert_eq!(dir.loaded().0, b"two");

    // The folder that is locked is the one that is used, also when its path is another one by now.
    let (path, moved) = (dir.folder.path().join("state"), dir.folder.path().join("moved"));
    fs::rename(&path, &moved).unwrap();
    fs::create_dir(&path).unwrap();
    dir.store(b"six");
    assert!(fs::read(moved.join("counter.snapshot")).unwrap().ends_with(b"six"));
    fs::remove_dir_all(&moved).unwrap();
    let error = dir.own.store(NAME, &state(b"two")).unwrap_err();
    assert!(matches!(error, KeptStateError::CreateNew { .. }), "{error}");
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
}

#[test]
fn stores_and_loads_at_the_same_time_meet_only_complete_snapshots() {
    let dir = Dir::new();
    dir.store(&numbered(0));
    std::thread::scope(|scope| {
        for start in [0, 1000] {
            let own = &dir.own;
            scope.spawn(move || {
                for number in start..start + 50 {
                    own.store(NAME, &state(&numbered(number))).unwrap();
                }
            });
        }
        for _ in 0..200 {
            let kept = dir.own.load(NAME).unwrap().unwrap();
            let number = u64::from_le_bytes(*kept.bytes[..8].as_array().unwrap());
            assert!(kept.bytes == numbered(number) && kept.fallback.is_none());
        }
    });
}
