//! Files that did not work, and when each is tried again.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::plugin::{instance::info::GenerationInfo, lifecycle::error::DeployError};

/// How many files are remembered; beyond it, the first by path are forgotten.
const REMEMBERED: usize = 1_024;

/// How often and when files are tried again.
#[derive(Debug, Clone)]
pub(crate) struct RetryPolicy {
    /// The wait before the first retry; it doubles each time.
    pub(crate) first: Duration,
    /// The longest wait.
    pub(crate) longest: Duration,
    /// How many retries there are.
    pub(crate) attempts: u32,
    /// The wait before the first retry of a file that was rolled back from.
    pub(crate) after_rollback: Duration,
}

impl RetryPolicy {
    /// When to try again after `attempts` retries, if at all.
    pub(super) fn wait(&self, attempts: u32, quarantined: bool) -> Option<Duration> {
        let first = if quarantined { self.after_rollback } else { self.first };
        let wait = first.saturating_mul(2_u32.saturating_pow(attempts.min(31)));
        (attempts < self.attempts).then(|| wait.min(self.longest.max(first)))
    }
}

/// Why a file is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::plugin::supervisor) enum DeployReason {
    /// It was there at the start.
    Found,
    /// It is new, or has changed.
    Changed,
    /// Somebody asks for it.
    Asked,
    /// It did not work before.
    Retried,
}

impl DeployReason {
    /// Whether it is looked at because it lies in a folder.
    pub(super) fn is_folder(self) -> bool {
        matches!(self, DeployReason::Found | DeployReason::Changed)
    }
}

/// What is remembered of a file that did not work.
#[derive(Debug)]
pub(crate) struct RetryEntry {
    /// Of its bytes; `None` if they could not be read yet.
    pub(super) hash: Option<blake3::Hash>,
    /// `None` as long as it is only being tried.
    pub(crate) failure: Option<LastFailure>,
    /// When it is looked at again, whatever is known of its bytes.
    pub(super) look: Option<Relook>,
}

/// A file that is to be looked at again.
#[derive(Debug)]
pub(super) struct Relook {
    /// Times that it has been looked at again.
    attempts: u32,
    due: Option<Instant>,
}

/// Why it did not work, and when it is tried again.
#[derive(Debug)]
pub(crate) struct LastFailure {
    pub(crate) version: Option<String>,
    pub(crate) reason: String,
    /// Retries that there have been.
    pub(crate) attempts: u32,
    pub(crate) due: Option<Instant>,
    /// Whether its folder loads it again.
    pub(crate) quarantined: bool,
}

/// What is tried again, by file.
#[derive(Debug, Default)]
pub(crate) struct RetrySchedule(pub(super) BTreeMap<PathBuf, RetryEntry>);

impl RetrySchedule {
    /// The host goes back from a version: its file is not loaded again until it changes, it is due,
    /// or somebody asks.
    pub(in crate::plugin::supervisor) fn quarantine(
        &mut self,
        bad: &GenerationInfo,
        reason: &str,
        automatic: bool,
        recovery: &RetryPolicy,
    ) {
        let known = self.0.get(&bad.file).filter(|known| known.hash == Some(bad.hash));
        let failure = known.and_then(|known| known.failure.as_ref());
        let attempts = failure.map_or(0, |failure| failure.attempts + 1);
        // Whoever went back by hand does not want it to come again by itself.
        let wait = recovery.wait(attempts, true).filter(|_| automatic);
        let failure = LastFailure {
            version: Some(bad.manifest.version.clone()),
            reason: reason.to_owned(),
            attempts,
            due: wait.map(|wait| Instant::now() + wait),
            quarantined: true,
        };
        let entry = RetryEntry { hash: Some(bad.hash), failure: Some(failure), look: None };
        self.put(&bad.file, entry);
    }

    /// Why these bytes of a file are quarantined, if they are.
    pub(in crate::plugin::supervisor) fn quarantined(
        &self,
        file: &Path,
        hash: blake3::Hash,
    ) -> Option<&LastFailure> {
        let known = self.0.get(file).filter(|known| known.hash == Some(hash))?;
        known.failure.as_ref().filter(|failure| failure.quarantined)
    }

    /// A file is about to be tried. Whether it is to be: what is tried again must be what was tried
    /// before.
    pub(in crate::plugin::supervisor) fn begin(
        &mut self,
        file: &Path,
        hash: blake3::Hash,
        why: DeployReason,
    ) -> Result<bool, DeployError> {
        if let Some(unread) = self.0.get_mut(file).filter(|known| known.hash.is_none())
            && why == DeployReason::Retried
        {
            // What was tried before is whatever lay there.
            unread.hash = Some(hash);
        }
        let known =
            self.0.get(file).filter(|known| known.hash == Some(hash) && why != DeployReason::Asked);
        let failure = known.and_then(|known| known.failure.as_ref());
        if let Some(failure) = failure.filter(|failure| failure.quarantined && why.is_folder()) {
            let reason = failure.reason.clone();
            return Err(DeployError::Quarantined { file: file.to_owned(), reason });
        }
        let as_before = known.is_some();
        if !as_before {
            self.put(file, RetryEntry { hash: Some(hash), failure: None, look: None });
        }
        Ok(as_before || why != DeployReason::Retried)
    }

    /// Whether these are the bytes that are known of a file.
    pub(super) fn knows(&self, file: &Path, hash: blake3::Hash) -> bool {
        self.of(file).is_some_and(|(known, _)| known == Some(hash))
    }

    /// Whether these are other bytes than those that are known of a file. Of one that could not be
    /// read, none are.
    pub(super) fn is_another(&self, file: &Path, hash: blake3::Hash) -> bool {
        self.of(file).is_some_and(|(known, _)| known.is_some_and(|known| known != hash))
    }

    /// Why a file is looked at now, if it is due since then.
    pub(super) fn due(&self, file: &Path, since: Instant) -> Option<DeployReason> {
        let entry = self.0.get(file)?;
        if entry.look.as_ref().is_some_and(|look| look.due == Some(since)) {
            return Some(DeployReason::Found);
        }
        let failure = entry.failure.as_ref();
        failure.filter(|failure| failure.due == Some(since)).map(|_| DeployReason::Retried)
    }

    /// A file has changed: it is looked at again as often as any.
    pub(super) fn changed(&mut self, file: &Path) {
        if let Some(entry) = self.0.get_mut(file) {
            entry.look = None;
        }
    }

    pub(super) fn put(&mut self, file: &Path, mut entry: RetryEntry) {
        if let Some(known) = self.0.get_mut(file).filter(|known| known.hash == entry.hash) {
            entry.look = entry.look.or(known.look.take());
        }
        self.0.insert(file.to_owned(), entry);
        if self.0.len() > REMEMBERED {
            self.0.pop_first();
        }
    }

    /// It has worked, or is gone.
    pub(in crate::plugin::supervisor) fn forget(&mut self, file: &Path) {
        self.0.remove(file);
    }

    /// It is not tried again by itself.
    pub(in crate::plugin::supervisor) fn give_up(&mut self, file: &Path) {
        self.changed(file);
        if let Some(failure) = self.0.get_mut(file).and_then(|entry| entry.failure.as_mut()) {
            failure.due = None;
        }
    }

    /// What did not work with this file.
    pub(crate) fn of(&self, file: &Path) -> Option<(Option<blake3::Hash>, &LastFailure)> {
        let entry = self.0.get(file)?;
        Some((entry.hash, entry.failure.as_ref()?))
    }

    /// It did not work, and never will with these bytes.
    pub(super) fn failed_for_good(&mut self, file: &Path, reason: &str) {
        let failure = self.0.get_mut(file).and_then(|entry| entry.failure.as_mut());
        match failure.filter(|failure| failure.quarantined) {
            Some(failure) => {
                failure.reason = reason.to_owned();
                failure.due = None;
            }
            None => self.forget(file),
        }
    }

    /// It is refused for what another plugin sends or takes, so it is tried again when that one
    /// changes, as often as it would have been. One that is quarantined is not looked at then: when
    /// it is to be tried again.
    pub(super) fn refused(
        &mut self,
        file: &Path,
        reason: &str,
        recovery: &RetryPolicy,
    ) -> Option<Instant> {
        let known = self.of(file);
        if known.is_some_and(|(_, failure)| failure.quarantined) {
            return self.failed(file, reason, recovery);
        }
        self.give_up(file);
        None
    }

    /// It did not work. When it is to be tried again.
    pub(super) fn failed(
        &mut self,
        file: &Path,
        reason: &str,
        recovery: &RetryPolicy,
    ) -> Option<Instant> {
        if !self.0.contains_key(file) {
            // It did not come to its bytes.
            self.put(file, RetryEntry { hash: None, failure: None, look: None });
        }
        let entry = self.0.get_mut(file)?;
        let now = Instant::now();
        let stands = entry
            .failure
            .as_ref()
            .is_some_and(|failure| failure.quarantined && failure.due.is_none_or(|due| due > now));
        if stands {
            // These bytes were not to be tried, so what went wrong says nothing of them.
            let attempts = entry.look.as_ref().map_or(0, |before| before.attempts + 1);
            let due = recovery.wait(attempts, false).map(|wait| now + wait);
            entry.look = Some(Relook { attempts, due });
            return due;
        }
        let attempts = entry.failure.as_ref().map_or(0, |before| before.attempts + 1);
        let quarantined = entry.failure.as_ref().is_some_and(|before| before.quarantined);
        let due = recovery.wait(attempts, quarantined).map(|wait| now + wait);
        let version = entry.failure.take().and_then(|before| before.version);
        let reason = reason.to_owned();
        entry.failure = Some(LastFailure { version, reason, attempts, due, quarantined });
        due
    }
}
