//! Deciding when a file has settled, from looks at it and from what the file system tells.
//!
//! No clock and no file system here: both come in as arguments.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::Change;
use super::look::{Look, Signature};
use super::news::Hint;

/// For how long a file must stand still that was not reported to be complete.
pub(super) const STILL: Duration = Duration::from_millis(50);
/// The same for a file that somebody is writing to, who is expected to close it: a linker that
/// fills a mapped file leaves no trace for longer than [`STILL`].
const STILL_WHILE_WRITTEN: Duration = if cfg!(any(target_os = "linux", target_os = "android")) {
    Duration::from_secs(1)
} else {
    STILL
};

/// What was last told of each file, and which files are on their way to something new.
#[derive(Debug, Default)]
pub(super) struct Settling {
    /// Absent files have no entry.
    told: HashMap<PathBuf, Look>,
    unsettled: HashMap<PathBuf, Unsettled>,
}

#[derive(Debug)]
struct Unsettled {
    look: Look,
    since: Instant,
    written: bool,
}

impl Unsettled {
    fn due(&self) -> Instant {
        // An empty file is one that is about to be written.
        let empty = matches!(self.look.signature, Signature::Present(file) if file.len == Some(0));
        self.since + if self.written || empty { STILL_WHILE_WRITTEN } else { STILL }
    }
}

impl Settling {
    /// Takes note of a file that the receiver learns of in another way.
    pub(super) fn accept(&mut self, path: PathBuf, look: Look) {
        self.told.insert(path, look);
    }

    /// Makes whatever is at `path` a change.
    pub(super) fn forget(&mut self, path: PathBuf) {
        self.told.insert(path, Look::forgotten());
    }

    /// Whether a file was told of or is on its way.
    pub(super) fn knows(&self, path: &Path) -> bool {
        self.told.contains_key(path) || self.unsettled.contains_key(path)
    }

    /// The files of `folder` that were told of or are on their way.
    pub(super) fn known_in(&self, folder: &Path) -> Vec<PathBuf> {
        let paths = self.told.keys().chain(self.unsettled.keys());
        paths.filter(|path| path.parent() == Some(folder)).cloned().collect()
    }

    /// Takes in a look at `path`; a file that is known to be complete settles at once.
    pub(super) fn observe(
        &mut self,
        path: PathBuf,
        look: Look,
        hint: Hint,
        now: Instant,
    ) -> Option<Change> {
        let told = self.told.get(&path);
        let same = match told {
            Some(told) => told.signature == look.signature,
            None => look.signature == Signature::Absent,
        };
        if hint == Hint::Complete && matches!(look.signature, Signature::Present(_)) {
            self.unsettled.remove(&path);
            let changed = !same || told.is_some_and(|told| look.may_differ_from(told));
            return changed.then(|| self.tell(path, look));
        }
        if same {
            self.unsettled.remove(&path);
            return None;
        }
        let written = hint == Hint::Written;
        self.unsettled
            .entry(path)
            .and_modify(|before| {
                let moved = before.look.signature != look.signature;
                if moved || written {
                    before.since = now;
                }
                before.written = written || (before.written && hint == Hint::Seen);
                before.look = look;
            })
            .or_insert(Unsettled { look, since: now, written });
        None
    }

    /// When the next file may have settled.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.unsettled.values().map(Unsettled::due).min()
    }

    /// Looks again at the files that were to stand still until `now`, and tells of those that did.
    pub(super) fn settle(&mut self, now: Instant, look_at: impl Fn(&Path) -> Look) -> Vec<Change> {
        let mut due: Vec<PathBuf> = self
            .unsettled
            .iter()
            .filter(|(_, unsettled)| unsettled.due() <= now)
            .map(|(path, _)| path.clone())
            .collect();
        due.sort_unstable();
        due.into_iter().filter_map(|path| self.settle_one(path, now, &look_at)).collect()
    }

    fn settle_one(
        &mut self,
        path: PathBuf,
        now: Instant,
        look_at: impl Fn(&Path) -> Look,
    ) -> Option<Change> {
        let look = look_at(&path);
        let stood_still =
            self.unsettled.get(&path).is_some_and(|before| before.look.signature == look.signature);
        if !stood_still {
            return self.observe(path, look, Hint::Seen, now);
        }
        self.unsettled.remove(&path);
        Some(self.tell(path, look))
    }

    fn tell(&mut self, path: PathBuf, look: Look) -> Change {
        if look.signature == Signature::Absent {
            self.told.remove(&path);
            Change::Removed(path)
        } else {
            self.told.insert(path.clone(), look);
            Change::Settled(path)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A file under [`Settling`], with a clock of the test's own.
    struct Clock {
        dir: tempfile::TempDir,
        settling: Settling,
        now: Instant,
    }

    impl Clock {
        fn new() -> Clock {
            let dir = tempfile::tempdir().unwrap();
            Clock { dir, settling: Settling::default(), now: Instant::now() }
        }

        fn file(&self) -> PathBuf {
            self.dir.path().join("a.so")
        }

        fn observe(&mut self, hint: Hint) -> Option<Change> {
            self.settling.observe(self.file(), Look::at(&self.file()), hint, self.now)
        }

        fn after(&mut self, time: Duration) -> Vec<Change> {
            self.now += time;
            self.settling.settle(self.now, Look::at)
        }
    }

    const ALMOST: Duration = STILL.saturating_sub(Duration::from_millis(1));
    const LITTLE: Duration = Duration::from_millis(1);

    #[test]
    fn a_growing_file_does_not_settle() {
        let mut clock = Clock::new();
        for length in 1..5 {
            fs::write(clock.file(), "x".repeat(length)).unwrap();
            assert_eq!(clock.observe(Hint::Seen), None);
            assert_eq!(clock.after(ALMOST), []);
        }
        fs::write(clock.file(), "grown unnoticed").unwrap();
        assert_eq!(clock.after(LITTLE), []);
        assert_eq!(clock.after(ALMOST), []);
        assert_eq!(clock.after(LITTLE), [Change::Settled(clock.file())]);
        assert_eq!(clock.settling.next_due(), None);
    }

    #[test]
    fn a_file_that_is_held_open_gets_more_time() {
        let mut clock = Clock::new();
        fs::write(clock.file(), "").unwrap();
        assert_eq!(clock.observe(Hint::Fresh), None);
        assert_eq!(clock.after(STILL), [], "an empty file is about to be written");
        fs::write(clock.file(), "half").unwrap();
        assert_eq!(clock.observe(Hint::Written), None);
        assert_eq!(clock.observe(Hint::Seen), None);
        assert_eq!(clock.after(STILL_WHILE_WRITTEN - LITTLE), []);
        assert_eq!(clock.after(LITTLE), [Change::Settled(clock.file())]);
    }

    #[test]
    fn the_same_write_is_told_once_and_a_later_one_again() {
        let mut clock = Clock::new();
        fs::write(clock.file(), "one").unwrap();
        // Until the write is so long ago that another would have left a later time.
        while Look::at(&clock.file()).may_differ_from(&Look::at(&clock.file())) {
            std::thread::yield_now();
        }
        assert_eq!(clock.observe(Hint::Complete), Some(Change::Settled(clock.file())));
        assert_eq!(clock.observe(Hint::Complete), None);
        let modified = fs::metadata(clock.file()).unwrap().modified().unwrap();
        fs::write(clock.file(), "two").unwrap();
        fs::File::open(clock.file()).unwrap().set_modified(modified).unwrap();
        assert_eq!(clock.observe(Hint::Complete), Some(Change::Settled(clock.file())));
        assert_eq!(clock.observe(Hint::Complete), Some(Change::Settled(clock.file())), "too fresh");
    }

    #[test]
    fn a_file_replaced_by_removal_and_creation_was_never_gone() {
        let mut clock = Clock::new();
        fs::write(clock.file(), "one").unwrap();
        assert_eq!(clock.observe(Hint::Complete), Some(Change::Settled(clock.file())));
        assert_eq!(clock.observe(Hint::Seen), None);
        fs::remove_file(clock.file()).unwrap();
        assert_eq!(clock.observe(Hint::Fresh), None);
        assert_eq!(clock.after(ALMOST), []);
        fs::write(clock.file(), "another").unwrap();
        assert_eq!(clock.observe(Hint::Complete), Some(Change::Settled(clock.file())));
        assert_eq!(clock.after(STILL_WHILE_WRITTEN), []);
    }
}
