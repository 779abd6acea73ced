//! What did not become a plugin: written down, announced, and tried again.
//!
//! A file whose plugin did not come up for a reason that may pass is retried, each time after a
//! longer wait. One that the host went back from is quarantined by the hash of its bytes: its
//! folder does not load it again until it changes, but it is retried as well, later. After the last
//! retry, only a change of the file or somebody who asks tries again. Where such a file cannot be
//! read, or what is kept for it does not start, that says nothing of the quarantined bytes: the
//! file is looked at again as its folder looks at it. A plugin that requires an event which nobody
//! handles waits until another plugin comes.

mod schedule;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use ksi_wire::module::HistoryBy;

pub(super) use schedule::DeployReason;
pub(crate) use schedule::{LastFailure, RetryEntry, RetryPolicy, RetrySchedule};

use super::{
    Deployed, Supervisor,
    origin::Attempt,
    quarantine::{Judged, QuarantineEntry},
    registry::RefusedFile,
};
use crate::{
    history::{PROBATION, RETRY},
    plugin::{
        file::copy::CopyError,
        instance::info::GenerationInfo,
        lifecycle::{error::DeployError, prepare::Examined, requirements::is_handled},
    },
    text::causes::with_causes,
};

impl Supervisor {
    /// A file is about to be tried. Whether it is to be: not if it is quarantined, and what is
    /// tried again must be what was tried before.
    pub(super) fn begin_try(
        self: &Arc<Self>,
        file: &Path,
        hash: blake3::Hash,
        why: DeployReason,
        by: &HistoryBy,
    ) -> Result<bool, DeployError> {
        if why == DeployReason::Changed {
            self.registry().retries.changed(file);
        }
        if why == DeployReason::Asked {
            self.quarantine.lift(hash.to_hex().as_str());
        } else if let Some(entry) = self.quarantine.of(file, hash.to_hex().as_str()) {
            self.stay_away(file, hash, (why, by), entry)?;
        }
        let (begun, is_another) = {
            let mut registry = self.registry();
            let is_another = registry.retries.is_another(file, hash);
            (registry.retries.begin(file, hash, why), is_another)
        };
        if is_another {
            self.quarantine.forget_rollback(file);
        }
        begun
    }

    /// It has worked, is another file, or is gone.
    pub(super) fn forget_retry(&self, file: &Path) {
        self.registry().retries.forget(file);
        self.quarantine.forget_rollback(file);
    }

    /// The host ends in order: whoever is at work still has not ended it.
    pub(crate) fn forget_notes(&self) -> Option<std::io::Result<()>> {
        self.activation.journal.as_ref().map(|journal| journal.empty())
    }

    /// Whether a host may have died of a candidate's bytes.
    pub(super) fn is_suspected(&self, examined: &Examined) -> bool {
        let known = self.quarantine.of(&examined.file, examined.copy.hash().to_hex().as_str());
        known.is_some_and(|entry| entry.verdict == Judged::Suspected)
    }

    /// Does not try bytes that are quarantined from an earlier host's time, and shows that where
    /// people look for it.
    fn stay_away(
        self: &Arc<Self>,
        file: &Path,
        hash: blake3::Hash,
        (why, by): (DeployReason, &HistoryBy),
        entry: QuarantineEntry,
    ) -> Result<(), DeployError> {
        let (attempts, due) = match entry.verdict {
            Judged::Suspected => return Ok(()),
            Judged::Died => (0, None),
            // This host knows it already, or it is its turn.
            Judged::RolledBack { .. } if self.registry().retries.knows(file, hash) => {
                return Ok(());
            }
            Judged::RolledBack { attempts, automatic } => {
                let wait = self.recovery.wait(attempts, true).filter(|_| automatic);
                (attempts, wait.map(|wait| Instant::now() + wait))
            }
        };
        let reason = entry.reason;
        {
            let version = Some(entry.version);
            let failure =
                LastFailure { version, reason: reason.clone(), attempts, due, quarantined: true };
            let mut registry = self.registry();
            let entry = RetryEntry { hash: Some(hash), failure: Some(failure), look: None };
            registry.retries.put(file, entry);
            let live = registry.live_of(file);
            match live.and_then(|(name, _)| registry.plugins.get_mut(&name)) {
                Some(plugin) => plugin.last_error = Some(reason.clone()),
                None => {
                    let (reason, code) = (reason.clone(), "quarantined");
                    let refused = RefusedFile { reason, code, ..RefusedFile::default() };
                    registry.refuse(file, refused);
                }
            }
        }
        if why.is_folder() {
            tracing::error!(file = %file.display(), "it is quarantined and stays so: {reason}");
            self.announcer.load_failed(file, Some(hash), by, &reason);
        }
        self.try_again(file, due);
        Err(DeployError::Quarantined { file: file.to_owned(), reason })
    }

    /// Writes down and announces why a file did not become live, and tries it again later if that
    /// may help.
    pub(super) fn note(
        self: &Arc<Self>,
        file: &Path,
        attempt: &Attempt,
        deployed: Result<Deployed, DeployError>,
    ) -> Result<Deployed, DeployError> {
        let error = match deployed {
            Ok(deployed) => return Ok(deployed),
            Err(error @ (DeployError::Stopping | DeployError::Quarantined { .. })) => {
                return Err(error);
            }
            Err(DeployError::Copy(error @ CopyError::ChangedWhileCopying { .. })) => {
                if let Some(watch) = &*self.watch() {
                    watch.settle_again(file.to_owned());
                }
                return Err(DeployError::Copy(error));
            }
            Err(error) => error,
        };
        let reason = with_causes(&error).to_string();
        let due = {
            let retries = &mut self.registry().retries;
            if error.may_pass() {
                retries.failed(file, &reason, &self.recovery)
            } else if matches!(error, DeployError::Contract { .. }) {
                retries.refused(file, &reason, &self.recovery)
            } else {
                retries.failed_for_good(file, &reason);
                None
            }
        };
        let code = error.code();
        tracing::error!(file = %file.display(), code, "{reason}{}", what_next(&error, due));
        let info = self.write_down(file, &error, &reason);
        self.try_again(file, due);
        match info {
            Some(info) => self.announcer.reload_failed(&info, attempt.hash(), &attempt.by, &reason),
            None => self.announcer.load_failed(file, attempt.hash(), &attempt.by, &reason),
        }
        Err(error)
    }

    /// The same for what was kept for a file that is quarantined, which the file stays.
    pub(super) fn note_kept_good(
        self: &Arc<Self>,
        file: &Path,
        (version, hash): (&str, Option<blake3::Hash>),
        by: &HistoryBy,
        error: &DeployError,
    ) {
        let reason = format!(
            "version {version}, which was kept for this file, is not started: {}",
            with_causes(error)
        );
        tracing::error!(file = %file.display(), "{reason}");
        self.write_down(file, error, &reason);
        if error.may_pass() {
            let due = self.registry().retries.failed(file, &reason, &self.recovery);
            self.try_again(file, due);
        }
        self.announcer.load_failed(file, hash, by, &reason);
    }

    /// Notes what became of a file, and if that is quarantined, starts what is kept for it.
    pub(super) async fn settle(
        self: &Arc<Self>,
        file: &Path,
        attempt: &Attempt,
        deployed: Result<Deployed, DeployError>,
    ) {
        // What went wrong is written down, logged and announced by then.
        if let Err(DeployError::Quarantined { .. }) = self.note(file, attempt, deployed) {
            self.start_kept_good(file, &attempt.by).await;
        }
    }

    /// Remembers the reason where people look for it. What is known of the plugin, if it is live
    /// from this file.
    fn write_down(
        &self,
        file: &Path,
        error: &DeployError,
        reason: &str,
    ) -> Option<Arc<GenerationInfo>> {
        let mut registry = self.registry();
        match error {
            DeployError::Contract { with, .. } => registry.refuse_for(file, with),
            _ => registry.refuse_for(file, &[]),
        }
        match error {
            DeployError::Missing { missing, .. } => registry.wait_for(file, missing),
            _ => registry.wait_for(file, &[]),
        }
        let live = registry.live_of(file);
        let plugin = live.and_then(|(name, _)| registry.plugins.get_mut(&name));
        let info = plugin.map(|plugin| {
            plugin.last_error = Some(reason.to_owned());
            plugin.info.clone()
        });
        // A path that somebody asked for and where nothing is needs no entry.
        if info.is_none() && std::fs::symlink_metadata(file).is_ok() {
            let duplicate_of = match error {
                DeployError::Duplicate { plugin, .. } => Some(plugin.clone()),
                _ => None,
            };
            let not_initialized = match error {
                DeployError::Init { plugin, .. } | DeployError::InitTimedOut { plugin, .. } => {
                    Some(plugin.clone())
                }
                _ => None,
            };
            let (reason, code) = (reason.to_owned(), error.code());
            let refused = RefusedFile { reason, code, duplicate_of, not_initialized };
            registry.refuse(file, refused);
        }
        info
    }

    /// Tries a file again when it is due, unless something else has become of it by then.
    fn try_again(self: &Arc<Self>, file: &Path, due: Option<Instant>) {
        let Some(due) = due else { return };
        let (supervisor, file) = (Arc::downgrade(self), file.to_owned());
        self.thread.runtime().spawn(async move {
            tokio::time::sleep_until(due.into()).await;
            let Some(supervisor) = supervisor.upgrade() else { return };
            let why = supervisor.registry().retries.due(&file, due);
            if let Some(why) = why {
                tracing::info!(file = %file.display(), "trying again");
                let attempt = Attempt::by(RETRY);
                let deployed = supervisor.deploy(&file, why, &attempt).await;
                supervisor.settle(&file, &attempt, deployed).await;
            }
        });
    }

    /// The host went back from a version, whose file is quarantined since: that is kept, announced,
    /// and the file is tried again when it is due.
    pub(super) fn tell_quarantine(
        self: &Arc<Self>,
        bad: &GenerationInfo,
        by: &HistoryBy,
        reason: &str,
        automatic: bool,
    ) {
        let (due, attempts) = {
            let registry = self.registry();
            let failure = registry.retries.quarantined(&bad.file, bad.hash);
            failure.map_or((None, 0), |failure| (failure.due, failure.attempts))
        };
        self.quarantine.rolled_back(bad.about(String::new()), reason, attempts, automatic);
        self.try_again(&bad.file, due);
        self.announcer.quarantined(bad, by, reason);
    }

    /// A version that does worse than the one before it stays, because the way back failed.
    pub(super) fn cannot_go_back(&self, bad: &GenerationInfo, reason: &str, error: &DeployError) {
        let text =
            format!("it should go back to the version before ({reason}), and cannot: {error}");
        {
            let mut registry = self.registry();
            let plugin = registry.plugins.get_mut(&bad.plugin);
            // Another version may have come meanwhile, which has nothing to do with it.
            let Some(plugin) = plugin.filter(|plugin| plugin.info.number == bad.number) else {
                return;
            };
            plugin.last_error = Some(text.clone());
            plugin.probation = None;
        }
        tracing::error!(plugin = %bad.plugin, generation = bad.number, "{text}");
        self.announcer.not_rolled_back(bad, &PROBATION, &text);
    }

    /// Tries the files again that wait for somebody who handles what they require.
    pub(crate) fn wake_waiting(&self) {
        let subscribers = self.router.subscribers();
        let waiting: Vec<PathBuf> = {
            let registry = self.registry();
            let waiting = registry.waiting.iter();
            waiting
                .filter(|(_, missing)| missing.iter().all(|event| is_handled(event, &subscribers)))
                .map(|(file, _)| file.clone())
                .collect()
        };
        if let Some(watch) = &*self.watch() {
            waiting.into_iter().for_each(|file| watch.settle_again(file));
        }
    }
}

/// What follows, behind the reason.
fn what_next(error: &DeployError, due: Option<Instant>) -> String {
    match due {
        Some(due) => {
            let rest = due.saturating_duration_since(Instant::now());
            // To the tenth: what has passed since it was due is of no interest.
            let tenths = u64::try_from(rest.as_millis().div_ceil(100)).unwrap_or(u64::MAX);
            let rest = Duration::from_millis(tenths.saturating_mul(100));
            format!("; it is tried again in {}", humantime::format_duration(rest))
        }
        // It says itself what it waits for.
        None if matches!(error, DeployError::Missing { .. }) => String::new(),
        None if let DeployError::Contract { with, .. } = error
            && !with.is_empty() =>
        {
            format!("; it is tried again when {} changes", with.join(" or "))
        }
        None if matches!(error, DeployError::Duplicate { .. }) => {
            "; it is tried again when that one goes".to_owned()
        }
        None => "; it is not tried again until it changes, or `ksi load` names it".to_owned(),
    }
}

#[cfg(test)]
mod tests;
