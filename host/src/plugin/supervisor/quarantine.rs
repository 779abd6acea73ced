//! Bytes that the host does not run again by itself, remembered over restarts: those that it died
//! of, and those that it went back from.
//!
//! What an earlier host left in its crash journal is judged here. Code that was at work on the very
//! thread that died is guilty. Where no thread told (the process was killed, or a thread of the
//! plugin's own died), whoever was at work is suspected: a suspect is tried in a process of its
//! own, and quarantined if the next death finds it at work again. Beside somebody who is guilty,
//! nobody else is suspected. A host that ends in order forgets its suspects, and so does a death
//! that does not find them at work.
//!
//! This module knows neither files nor plugins beyond their names and kinds: it is told what to
//! remember.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::MutexGuard,
    time::{SystemTime, UNIX_EPOCH},
};

use ksi_kernel::lock::Lock;
use serde::{Deserialize, Serialize};

use crate::{
    crash::{About, CrashReport},
    plugin::file::kind::FileKind,
};

const NAME: &str = "quarantine.json";
/// How many are remembered; beyond it, the oldest are forgotten.
const REMEMBERED: usize = 256;
/// A longer file is not one of this module's.
const LONGEST: u64 = 4 << 20;
/// How long a reason may be.
const LONGEST_REASON: usize = 2048;

/// What is remembered of a file's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QuarantineEntry {
    /// In hexadecimal.
    pub(crate) hash: String,
    /// Where they were, as text.
    pub(crate) file: String,
    pub(crate) plugin: String,
    pub(crate) version: String,
    pub(crate) reason: String,
    pub(crate) verdict: Judged,
    /// The version that the host went back to, if its bytes are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) good: Option<Good>,
    /// Seconds since 1970.
    at: u64,
}

/// A version that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Good {
    /// In hexadecimal.
    pub(crate) hash: String,
    pub(crate) version: String,
    /// What it was copied from; a file like that of the entry if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<GoodFile>,
}

/// What a version that is kept was copied from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GoodFile {
    /// As text.
    pub(crate) path: String,
    pub(crate) kind: FileKind,
}

/// What is thought of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Judged {
    /// A host died while they were at work, and may have died of something else.
    Suspected,
    /// A host died of them.
    Died,
    /// A host went back from them: after so many retries, and by itself or not. Only in their own
    /// file.
    RolledBack { attempts: u32, automatic: bool },
}

/// What is remembered, and where. Nothing is written for a host without a folder for it.
#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    path: Option<PathBuf>,
    entries: Lock<Vec<QuarantineEntry>>,
}

impl Quarantine {
    /// What is remembered in a folder, which is there.
    pub(crate) fn open(dir: &Path) -> Self {
        let path = dir.join(NAME);
        let entries = match read(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                tracing::error!(
                    "{} is not read, so nothing is quarantined: {error}",
                    path.display()
                );
                Vec::new()
            }
        };
        Quarantine { path: Some(path), entries: Lock::new(entries) }
    }

    /// Judges what an earlier host left behind, and gives what is new.
    pub(crate) fn judge(&self, left: &CrashReport) -> Vec<QuarantineEntry> {
        let is_told = left.notes.iter().any(|(_, mark)| mark.is_some());
        let mut entries = self.lock();
        let judged = left.notes.iter().filter_map(|(about, mark)| {
            let before = entries
                .iter()
                .any(|entry| entry.hash == about.hash && entry.verdict == Judged::Suspected);
            let verdict = match mark {
                Some(CrashReport::ANOTHER) => return None,
                Some(_) => Judged::Died,
                None if is_told => return None,
                None if before => Judged::Died,
                None => Judged::Suspected,
            };
            Some(QuarantineEntry::of(about, *mark, verdict))
        });
        let judged: Vec<QuarantineEntry> = judged.collect();
        let before = entries.len();
        // A suspect that was not at work at this death has been at work in vain, or not at all.
        entries.retain(|entry| {
            entry.verdict != Judged::Suspected
                || left.notes.iter().any(|(about, _)| about.hash == entry.hash)
        });
        let acquitted = before - entries.len();
        for entry in &judged {
            put(&mut entries, entry.clone());
        }
        if acquitted > 0 || !judged.is_empty() {
            self.write(&entries);
        }
        judged
    }

    /// What is remembered of these bytes in this file.
    pub(crate) fn of(&self, file: &Path, hash: &str) -> Option<QuarantineEntry> {
        let entries = self.lock();
        entries.iter().find(|entry| entry.is_of(file, hash)).cloned()
    }

    /// A host went back from a version.
    pub(crate) fn rolled_back(&self, about: About, reason: &str, attempts: u32, automatic: bool) {
        let verdict = Judged::RolledBack { attempts, automatic };
        let mut entry = QuarantineEntry::of(&about, None, verdict);
        entry.reason = shortened(reason);
        let mut entries = self.lock();
        put(&mut entries, entry);
        self.write(&entries);
    }

    /// What the host went back to from these bytes is kept.
    pub(crate) fn went_back_to(&self, hash: &str, good: Good) {
        let mut entries = self.lock();
        let Some(entry) = entries.iter_mut().find(|entry| entry.hash == hash) else { return };
        entry.good = Some(good);
        self.write(&entries);
    }

    /// What is kept for these bytes of this file. What has become bad as well is passed over for
    /// what the host went back to from that.
    pub(crate) fn good_for(&self, file: &Path, hash: &str) -> Option<Good> {
        let entries = self.lock();
        let quarantined = |hash: &str| {
            let mut of = entries.iter().filter(|entry| entry.is_of(file, hash));
            of.find(|entry| entry.verdict != Judged::Suspected)
        };
        let mut good = quarantined(hash)?.good.as_ref()?;
        // Each entry is passed at most once, also where they lead in a circle.
        for _ in 0..entries.len() {
            let Some(bad) = quarantined(&good.hash) else { return Some(good.clone()) };
            good = bad.good.as_ref()?;
        }
        None
    }

    /// What is kept, the latest first.
    pub(crate) fn goods(&self) -> Vec<Good> {
        let entries = self.lock();
        let mut goods: Vec<Good> = Vec::new();
        for good in entries.iter().rev().filter_map(|entry| entry.good.as_ref()) {
            if goods.iter().all(|other| other.hash != good.hash) {
                goods.push(good.clone());
            }
        }
        goods
    }

    /// These are not kept any more.
    pub(crate) fn gave_up(&self, goods: &[String]) {
        let mut entries = self.lock();
        let mut changed = false;
        for entry in entries.iter_mut() {
            if entry.good.as_ref().is_some_and(|good| goods.contains(&good.hash)) {
                entry.good = None;
                changed = true;
            }
        }
        if changed {
            self.write(&entries);
        }
    }

    /// Where it is remembered, if it is.
    pub(crate) fn folder(&self) -> Option<&Path> {
        self.path.as_deref()?.parent()
    }

    /// Somebody asks for these bytes: whatever they did is forgotten.
    pub(crate) fn lift(&self, hash: &str) {
        self.keep(|entry| entry.hash != hash);
    }

    /// The file is another one, is gone, or its version has stood its probation: that there was a
    /// way back is forgotten.
    pub(crate) fn forget_rollback(&self, file: &Path) {
        let file = file.to_string_lossy();
        self.keep(|entry| {
            entry.file != file || !matches!(entry.verdict, Judged::RolledBack { .. })
        });
    }

    /// The host ends in order.
    pub(crate) fn forget_suspects(&self) {
        self.keep(|entry| entry.verdict != Judged::Suspected);
    }

    fn keep(&self, which: impl Fn(&QuarantineEntry) -> bool) {
        let mut entries = self.lock();
        let before = entries.len();
        entries.retain(which);
        if entries.len() < before {
            self.write(&entries);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<QuarantineEntry>> {
        self.entries.lock()
    }

    /// In the place of the file, whole. Under the lock, so that no write overtakes another.
    fn write(&self, entries: &[QuarantineEntry]) {
        let Some(path) = &self.path else { return };
        let written = || -> io::Result<()> {
            let folder = path.parent().unwrap_or(Path::new("."));
            let mut draft = tempfile::NamedTempFile::new_in(folder)?;
            draft.write_all(&serde_json::to_vec_pretty(entries)?)?;
            draft.as_file().sync_data()?;
            draft.persist(path)?;
            Ok(())
        };
        if let Err(error) = written() {
            tracing::error!("{} is not written: {error}", path.display());
        }
    }
}

impl QuarantineEntry {
    fn of(about: &About, mark: Option<u8>, verdict: Judged) -> Self {
        let About { hash, file, plugin, version, step } = about.clone();
        let how = match (mark, verdict) {
            (Some(CrashReport::EXIT), _) => {
                "the host before this one was ended by exit()".to_owned()
            }
            (Some(signal), _) => format!("the host before this one died of {}", name_of(signal)),
            (None, Judged::Died) => "two hosts in a row ended without a word".to_owned(),
            (None, _) => "the host before this one ended without a word".to_owned(),
        };
        let reason = shortened(&format!("{how} in {step}"));
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        QuarantineEntry { hash, file, plugin, version, reason, verdict, good: None, at }
    }

    fn is_of(&self, file: &Path, hash: &str) -> bool {
        let anywhere = !matches!(self.verdict, Judged::RolledBack { .. });
        self.hash == hash && (anywhere || self.file == file.to_string_lossy())
    }
}

/// One entry for the same bytes, the latest. What was good instead of them still is.
fn put(entries: &mut Vec<QuarantineEntry>, mut new: QuarantineEntry) {
    let before = entries.iter().find(|entry| entry.hash == new.hash);
    new.good = new.good.or_else(|| before?.good.clone());
    entries.retain(|entry| entry.hash != new.hash);
    entries.push(new);
    let excess = entries.len().saturating_sub(REMEMBERED);
    entries.drain(..excess);
}

fn read(path: &Path) -> io::Result<Vec<QuarantineEntry>> {
    if fs::metadata(path)?.len() > LONGEST {
        return Err(io::Error::other("it is far too long"));
    }
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

fn shortened(reason: &str) -> String {
    reason[..reason.floor_char_boundary(LONGEST_REASON)].to_owned()
}

fn name_of(signal: u8) -> String {
    match i32::from(signal) {
        libc::SIGSEGV => "SIGSEGV".to_owned(),
        libc::SIGBUS => "SIGBUS".to_owned(),
        libc::SIGFPE => "SIGFPE".to_owned(),
        libc::SIGILL => "SIGILL".to_owned(),
        libc::SIGABRT => "SIGABRT".to_owned(),
        other => format!("signal {other}"),
    }
}

#[cfg(test)]
mod tests;
