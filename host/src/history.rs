//! What has become of plugins, remembered over restarts: for whoever asks what has changed since
//! yesterday, and who did it.
//!
//! What is remembered is in memory, up to a bound in bytes; beyond it the oldest is forgotten. A
//! host that keeps state has it in a [`file`](mod@file) as well, and begins with what an earlier
//! host has left there. Whoever notes something waits for no file: one thread at a time writes what
//! is new, and ends. What could not be written is counted, told once, and written with whatever is
//! noted next.
//!
//! At a start, and when a file is tried again, what is as it was last remembered is not noted once
//! more: a host that is started again and again does not push out why.
//!
//! Knows no plugins: it is told what to remember, in the words of [`ksi_wire`].

mod file;

use std::{
    borrow::Cow,
    collections::VecDeque,
    io,
    path::Path,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use ksi_wire::module::{AskHistory, History as Answer, HistoryBy, HistoryEntry, HistoryKind};
use tokio::sync::watch;

use self::file::HistoryFile;
use crate::{sync::Lock, system::low_priority};

/// What is in memory at the most, in bytes.
const BYTES: usize = 2 << 20;
/// How long a text of an entry may be, in bytes.
const LONGEST_TEXT: usize = 2_048;
/// How many entries are given if nobody says how many.
const USUAL: usize = 100;
/// How many bytes are written at once, and one entry at least.
const BATCH: usize = 64 << 10;

/// It lay in a folder when the host started.
pub(crate) const START: HistoryBy = by("start");
/// Its file has changed.
pub(crate) const FOLDER: HistoryBy = by("folder");
/// The configuration file has changed.
pub(crate) const CONFIGURATION: HistoryBy = by("configuration");
/// The program around the host asked for it.
pub(crate) const PROGRAM: HistoryBy = by("program");
/// The host tries it again.
pub(crate) const RETRY: HistoryBy = by("retry");
/// The host has judged by calls.
pub(crate) const PROBATION: HistoryBy = by("probation");
/// The host, because of something else.
pub(crate) const HOST: HistoryBy = by("host");

const fn by(kind: &'static str) -> HistoryBy {
    HistoryBy { event: None, from: None, kind: Cow::Borrowed(kind) }
}

/// An event has asked for it, which came from somebody.
pub(crate) fn request(event: &str, from: String) -> HistoryBy {
    HistoryBy { event: Some(event.to_owned()), from: Some(from), ..by("request") }
}

/// What is remembered.
pub(crate) struct History {
    remembered: Lock<Remembered>,
    file: Option<HistoryFile>,
    /// Whether a thread is writing. Changed under the lock of `remembered`.
    writing: watch::Sender<bool>,
}

#[derive(Default)]
struct Remembered {
    /// The oldest first.
    entries: VecDeque<(HistoryEntry, usize)>,
    /// Of all of them.
    bytes: usize,
    /// How many there have been.
    noted: u64,
    /// So many of them are in the file, or were forgotten before they were.
    settled: u64,
    /// How many were forgotten before they were written.
    lost: u64,
    /// It was told that the file cannot be written.
    is_told: bool,
}

impl History {
    /// What ends with the host.
    pub(crate) fn in_memory() -> Arc<Self> {
        Arc::new(History::new(None, Remembered::default()))
    }

    /// What is kept in a folder, which is there and this host's alone.
    pub(crate) fn open(folder: &Path) -> Arc<Self> {
        let file = HistoryFile::in_folder(folder);
        let mut remembered = Remembered::default();
        match file.read() {
            Ok(entries) => entries.into_iter().for_each(|entry| remembered.add(entry)),
            Err(error) => {
                tracing::error!("{} is not read: {error}", file.path().display());
            }
        }
        remembered.settled = remembered.noted;
        Arc::new(History::new(Some(file), remembered))
    }

    fn new(file: Option<HistoryFile>, remembered: Remembered) -> Self {
        History { remembered: Lock::new(remembered), file, writing: watch::Sender::new(false) }
    }

    /// The host has begun.
    pub(crate) fn host_started(self: &Arc<Self>) {
        let in_order = {
            let remembered = self.remembered.lock();
            let mut last = remembered.entries.iter().rev().map(|(entry, _)| &entry.kind);
            let last = last.find(|it| matches!(it, HistoryKind::Started | HistoryKind::Stopped));
            last.is_none_or(|it| *it == HistoryKind::Stopped)
        };
        let reason = match in_order {
            true => "the host has started",
            false => "the host has started; the one before it did not stop in order",
        };
        self.note(of_host(HistoryKind::Started, reason));
    }

    /// The host has ended in order. Returns when all is in the file that is going to be.
    pub(crate) async fn host_stopped(self: &Arc<Self>) {
        self.note(of_host(HistoryKind::Stopped, "the host has stopped in order"));
        // The sender is this value's own, so it does not end.
        let _ = self.writing.subscribe().wait_for(|writing| !writing).await;
    }

    /// Remembers something that happens now.
    pub(crate) fn note(self: &Arc<Self>, mut entry: HistoryEntry) {
        entry.at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        shorten(&mut entry);
        let mut remembered = self.remembered.lock();
        if !remembered.is_news(&entry) {
            return;
        }
        remembered.add(entry);
        let Some(file) = &self.file else {
            remembered.settled = remembered.noted;
            return;
        };
        if self.writing.send_replace(true) {
            return;
        }
        drop(remembered);
        let history = self.clone();
        if let Err(error) = low_priority::begin("ksi-history", move || history.write()) {
            self.writing.send_replace(false);
            self.is_not_written(file, &error);
        }
    }

    /// The newest entries of those that are asked for.
    pub(crate) fn newest(&self, ask: &AskHistory) -> Answer {
        let remembered = self.remembered.lock();
        let all = remembered.entries.iter().map(|(entry, _)| entry);
        let mut entries: Vec<HistoryEntry> =
            all.filter(|it| is_asked_for(it, ask)).cloned().collect();
        let matching = entries.len();
        entries.drain(..matching.saturating_sub(ask.limit.unwrap_or(USUAL)));
        Answer {
            entries,
            file: self.file.as_ref().map(|file| file.path().to_string_lossy().into_owned()),
            matching,
            unwritten: remembered.unwritten(),
        }
    }

    /// Writes what is not in the file yet. On a thread of its own, one at a time.
    fn write(&self) {
        let Some(file) = &self.file else { return };
        loop {
            let (lines, settled) = {
                let remembered = self.remembered.lock();
                let (lines, settled) = remembered.pending();
                if lines.is_empty() {
                    self.writing.send_replace(false);
                    return;
                }
                (lines, settled)
            };
            match file.append(&lines) {
                Ok(()) => {
                    let mut remembered = self.remembered.lock();
                    remembered.settled = remembered.settled.max(settled);
                    if std::mem::take(&mut remembered.is_told) {
                        tracing::info!("{} is written again", file.path().display());
                    }
                }
                Err(error) => {
                    let _remembered = self.remembered.lock();
                    self.writing.send_replace(false);
                    drop(_remembered);
                    return self.is_not_written(file, &error);
                }
            }
        }
    }

    /// Told once, until it is written again.
    fn is_not_written(&self, file: &HistoryFile, error: &io::Error) {
        let told = std::mem::replace(&mut self.remembered.lock().is_told, true);
        if !told {
            tracing::error!(
                "{} cannot be written, so what becomes of plugins is remembered in memory alone until it can: {error}",
                file.path().display()
            );
        }
    }
}

impl Remembered {
    fn add(&mut self, entry: HistoryEntry) {
        let bytes = size_of::<(HistoryEntry, usize)>() + line_of(&entry).len();
        self.entries.push_back((entry, bytes));
        self.bytes += bytes;
        self.noted += 1;
        while self.bytes > BYTES {
            let first = self.noted - self.entries.len() as u64;
            let Some((_, bytes)) = self.entries.pop_front() else { break };
            self.bytes -= bytes;
            if first >= self.settled {
                self.settled = first + 1;
                self.lost += 1;
            }
        }
    }

    /// Whether something is not what is remembered of its file already.
    fn is_news(&self, entry: &HistoryEntry) -> bool {
        if !matches!(&*entry.by.kind, "start" | "retry") || entry.file.is_none() {
            return true;
        }
        let of_file = self.entries.iter().rev().map(|(it, _)| it).find(|it| {
            let of_process = [HistoryKind::Died, HistoryKind::Restarted, HistoryKind::Isolated];
            it.file == entry.file && !of_process.contains(&it.kind)
        });
        of_file.is_none_or(|last| {
            let what = |it: &HistoryEntry| {
                let HistoryEntry { kind, name, version, hash, .. } = it.clone();
                (kind, name, version, hash)
            };
            let differs = entry.kind != HistoryKind::Live && last.reason != entry.reason;
            what(last) != what(entry) || differs
        })
    }

    /// How many are in no file because that could not be written.
    fn unwritten(&self) -> u64 {
        // What a thread is just writing is as good as there.
        let waiting = if self.is_told { self.noted - self.settled } else { 0 };
        self.lost + waiting
    }

    /// The lines that are to be written next, and how many are settled when they are.
    fn pending(&self) -> (Vec<u8>, u64) {
        let first = self.noted - self.entries.len() as u64;
        let skipped = usize::try_from(self.settled.saturating_sub(first)).unwrap_or(usize::MAX);
        let (mut lines, mut settled) = (Vec::new(), self.settled);
        for (entry, _) in self.entries.iter().skip(skipped) {
            if lines.len() > BATCH {
                break;
            }
            lines.extend(line_of(entry));
            settled += 1;
        }
        (lines, settled)
    }
}

/// With the end of its line.
fn line_of(entry: &HistoryEntry) -> Vec<u8> {
    // Only a map with keys that are no texts could fail.
    let mut line = serde_json::to_vec(entry).unwrap_or_default();
    line.push(b'\n');
    line
}

fn of_host(kind: HistoryKind, reason: &str) -> HistoryEntry {
    HistoryEntry {
        by: HOST,
        kind,
        process: Some(std::process::id()),
        reason: reason.to_owned(),
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        ..HistoryEntry::default()
    }
}

fn is_asked_for(entry: &HistoryEntry, ask: &AskHistory) -> bool {
    let AskHistory { kinds, limit: _, module_name, since } = ask;
    let is_named = |name: &str| {
        let file = entry.file.as_deref().map(Path::new);
        entry.name.as_deref() == Some(name)
            || file.is_some_and(|file| {
                file == Path::new(name) || file.file_name().is_some_and(|it| it == name)
            })
    };
    (kinds.is_empty() || kinds.contains(&entry.kind))
        && module_name.as_deref().is_none_or(is_named)
        && since.is_none_or(|since| entry.at >= since)
}

fn shorten(entry: &mut HistoryEntry) {
    let texts = [Some(&mut entry.reason), entry.by.from.as_mut(), entry.by.event.as_mut()];
    for text in texts.into_iter().flatten() {
        text.truncate(text.floor_char_boundary(LONGEST_TEXT));
    }
}

#[cfg(test)]
mod tests;
