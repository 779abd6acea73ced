//! The crash journal: one file with a record of fixed size for each piece of code that runs for the
//! first time.
//!
//! A record is written before the code runs and cleared after it, a write to the page cache each
//! (about a microsecond): it outlives the process however that ends, and means nothing after a
//! power cut. Nothing is flushed to the disk. The layout, all of it readable with `strings`: a
//! magic; the last words of the host, if it had any; the records. A record is a byte that says
//! whether there is one, a byte for the signal that ended the host while this code ran, and JSON.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read},
    os::{
        fd::AsRawFd,
        unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use thiserror::Error;

use super::now::About;
use crate::system::lock_holder::{LockHolder, by};

const NAME: &str = "crashes";
pub(super) const MAGIC: &[u8] = b"KSI crash journal 1\n";
/// Where the last words stand, and how long they may be.
pub(super) const LAST_WORDS: u64 = 64;
const LONGEST_WORDS: usize = 1024;
const FIRST: u64 = 2048;
/// A bit of [`Journal::taken`] each. Code beyond it runs without a record.
const RECORDS: usize = 64;
const RECORD: usize = 2048;
const WHOLE: usize = FIRST as usize + RECORDS * RECORD;
/// What stands before a record that counts.
const NOTED: u8 = b'N';

/// How often the lock is tried, and the time between two tries: a host that was killed while it
/// started a child process shares its lock with that for a moment.
const TRIES: u32 = 15;
const BETWEEN: Duration = Duration::from_millis(20);

/// Why there is no crash journal.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The folder could not be made.
    #[error("the folder {} for the crash journal (recovery.dir) cannot be made: {source}", dir.display())]
    Create {
        /// The folder.
        dir: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file could not be opened, read or locked.
    #[error("the crash journal {} cannot be used: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another host has it.
    #[error(
        "the crash journal {} is in use{}. Or give each host a recovery.dir of its own",
        path.display(), by(.holder.as_ref())
    )]
    InUse {
        /// The file.
        path: PathBuf,
        /// Who has it, as far as the system tells.
        holder: Option<LockHolder>,
    },
}

/// The open file. One host alone has it.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    taken: AtomicU64,
}

/// Where a record stands, for a signal handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordPlace {
    index: u32,
    pub(super) file: i32,
}

impl RecordPlace {
    fn offset(self) -> u64 {
        FIRST + u64::from(self.index) * RECORD as u64
    }

    /// Where the signal is written.
    pub(super) fn mark(self) -> u64 {
        self.offset() + 1
    }
}

/// What a host that did not end in order has left behind.
#[derive(Debug, Default)]
pub(crate) struct CrashReport {
    /// What ran for the first time, and the signal that ended the host while it did;
    /// [`EXIT`](Self::EXIT) for an exit.
    pub(crate) notes: Vec<(About, Option<u8>)>,
    /// Its line on standard error.
    pub(crate) last_words: Option<String>,
}

impl CrashReport {
    /// In place of a signal.
    pub(crate) const EXIT: u8 = 255;
    /// In place of a signal: it was in a call of somebody else's, who has no note, that the host
    /// died.
    pub(crate) const ANOTHER: u8 = 254;
}

impl Journal {
    /// Opens the journal in a folder, which is made if it is not there. What an earlier host left
    /// stays in it until [`begin`](Self::begin).
    pub(crate) fn open(dir: &Path) -> Result<(Arc<Journal>, CrashReport), JournalError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|source| JournalError::Create { dir: dir.to_owned(), source })?;
        let path = dir.join(NAME);
        let failed = |source| JournalError::File { path: path.clone(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path).map_err(failed)?;
        match try_lock(&file) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = LockHolder::of(&path);
                return Err(JournalError::InUse { path, holder });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let mut bytes = Vec::new();
        Read::take(&mut file, WHOLE as u64).read_to_end(&mut bytes).map_err(failed)?;
        let left = read(&bytes);
        Ok((Arc::new(Journal { file, taken: AtomicU64::new(0) }), left))
    }

    /// Forgets what an earlier host left, and tells the last words of this one where to go.
    pub(crate) fn begin(&self) -> io::Result<()> {
        self.empty()?;
        #[cfg(target_os = "linux")]
        super::handler::write_to(self.file.as_raw_fd());
        Ok(())
    }

    /// Forgets what is noted: whatever is at work still, the host ends in order.
    pub(crate) fn empty(&self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.write_all_at(MAGIC, 0)
    }

    /// Writes a record, if there is room.
    pub(super) fn write(&self, about: &About) -> Option<RecordPlace> {
        let mut bytes = vec![NOTED, 0];
        serde_json::to_writer(&mut bytes, about).ok()?;
        bytes.push(0);
        if bytes.len() > RECORD {
            tracing::debug!(file = about.file, "too long to be noted in the crash journal");
            return None;
        }
        let mut index = RECORDS as u32;
        let _ = self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| {
            index = taken.trailing_ones();
            1_u64.checked_shl(index).map(|bit| taken | bit)
        });
        if index as usize >= RECORDS {
            return None;
        }
        let place = RecordPlace { index, file: self.file.as_raw_fd() };
        if let Err(error) = self.file.write_all_at(&bytes, place.offset()) {
            tracing::warn!(%error, "the crash journal cannot be written");
            self.release(place);
            return None;
        }
        Some(place)
    }

    /// Takes a record back.
    pub(super) fn clear(&self, place: RecordPlace) {
        if let Err(error) = self.file.write_all_at(&[0], place.offset()) {
            tracing::warn!(%error, "the crash journal cannot be written");
        }
        self.release(place);
    }

    fn release(&self, place: RecordPlace) {
        self.taken.fetch_and(!(1 << place.index), Ordering::AcqRel);
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        #[cfg(target_os = "linux")]
        super::handler::write_no_more_to(self.file.as_raw_fd());
    }
}

fn try_lock(file: &File) -> Result<(), TryLockError> {
    for _ in 1..TRIES {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => thread::sleep(BETWEEN),
            other => return other,
        }
    }
    file.try_lock()
}

/// Whatever the bytes are. What is no record counts as none.
fn read(bytes: &[u8]) -> CrashReport {
    if !bytes.starts_with(MAGIC) {
        return CrashReport::default();
    }
    let from = LAST_WORDS as usize;
    let words = bytes.get(from..).unwrap_or_default();
    let words = until_zero(&words[..words.len().min(LONGEST_WORDS)]);
    let words = String::from_utf8_lossy(words).trim().to_owned();
    let records = bytes.get(FIRST as usize..).unwrap_or_default().chunks(RECORD);
    let notes = records.filter_map(|record| match record {
        [NOTED, mark, json @ ..] => {
            let about = serde_json::from_slice(until_zero(json)).ok()?;
            Some((about, (*mark != 0).then_some(*mark)))
        }
        _ => None,
    });
    CrashReport { notes: notes.collect(), last_words: (!words.is_empty()).then_some(words) }
}

fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crash::note;

    fn about(step: &str) -> About {
        let [hash, file, plugin, version] = ["ab", "/p/a.so", "a", "1.0.0"].map(str::to_owned);
        About { hash, file, plugin, version, step: step.to_owned() }
    }

    fn left(dir: &Path) -> Vec<(String, Option<u8>)> {
        let (journal, left) = Journal::open(dir).unwrap();
        journal.begin().unwrap();
        left.notes.into_iter().map(|(about, mark)| (about.step, mark)).collect()
    }

    #[test]
    fn what_was_at_work_is_left_behind_and_what_had_come_back_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, nothing) = Journal::open(dir.path()).unwrap();
        assert!(nothing.notes.is_empty() && nothing.last_words.is_none());
        journal.begin().unwrap();
        let [one, two] = ["one", "two"].map(|step| note(Some(&journal), &about(step)));
        assert!(matches!(Journal::open(dir.path()), Err(JournalError::InUse { .. })));
        drop(one);
        let three = note(Some(&journal), &about("three"));
        std::mem::forget((two, three));
        // Whoever dies clears nothing.
        journal.file.unlock().unwrap();
        assert_eq!(left(dir.path()), [("three".to_owned(), None), ("two".to_owned(), None)]);
        journal.file.unlock().unwrap();
        assert!(left(dir.path()).is_empty());
    }

    #[test]
    fn there_is_a_bound_and_beyond_it_code_runs_without_a_note() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(dir.path()).unwrap();
        journal.begin().unwrap();
        let noted: Vec<_> = (0..RECORDS).map(|_| journal.write(&about("x")).unwrap()).collect();
        assert_eq!(journal.write(&about("one more")), None);
        journal.clear(noted[7]);
        assert!(journal.write(&about("again")).is_some());
        assert_eq!(journal.write(&about(&"x".repeat(RECORD))), None);
        assert_eq!(journal.file.metadata().unwrap().len() as usize / RECORD, RECORDS);
    }

    #[test]
    fn bytes_that_are_no_journal_are_read_as_nothing() {
        let records = [MAGIC, &[NOTED; WHOLE]].concat();
        for bytes in [b"", &b"x"[..], MAGIC, &[NOTED; 3 * RECORD], &records[..]] {
            assert!(read(bytes).notes.is_empty());
        }
    }
}
