//! Which plugins' state is not kept, and why: for the list, for health, for the exit code, and told
//! when it begins and ends.

use std::{
    collections::BTreeMap,
    sync::{Arc, MutexGuard},
    time::SystemTime,
};

use ksi_kernel::lock::Lock;

use super::persistence::PersistError;
use crate::plugin::{announce::Announcer, instance::info::GenerationInfo};

/// How many plugins are remembered; beyond it, the first by name are forgotten.
const REMEMBERED: usize = 1_024;

/// Why a plugin's state is not kept as it is now. What was kept before is there still.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) reason: String,
    /// Of the first failure after the last success.
    pub(crate) since: SystemTime,
    /// How often it has failed since.
    pub(crate) times: u64,
}

/// The plugins with trouble, by name.
pub(crate) struct Troubles {
    announcer: Announcer,
    now: Lock<BTreeMap<Arc<str>, Trouble>>,
}

impl Troubles {
    pub(super) fn new(announcer: Announcer) -> Self {
        Troubles { announcer, now: Lock::default() }
    }

    pub(crate) fn of(&self, plugin: &str) -> Option<Trouble> {
        self.lock().get(plugin).cloned()
    }

    pub(crate) fn all(&self) -> Vec<(Arc<str>, Trouble)> {
        self.lock().iter().map(|(plugin, trouble)| (plugin.clone(), trouble.clone())).collect()
    }

    /// What was kept of a plugin was chosen or given up by hand.
    pub(crate) fn forget(&self, plugin: &str) {
        self.lock().remove(plugin);
    }

    /// The state of a generation was kept.
    pub(super) fn kept(&self, info: &GenerationInfo) {
        let before = self.lock().remove(&info.plugin);
        if let Some(before) = before {
            tracing::info!(
                plugin = %info.plugin, generation = info.number,
                "its state is kept again, after {} failures", before.times
            );
            self.announcer.state_kept(info, before.times);
        }
    }

    /// It was not, and there is no further attempt if that was the `last`.
    pub(super) fn not_kept(&self, info: &GenerationInfo, error: &PersistError, last: bool) {
        let which = if last { "its last state" } else { "its state" };
        tracing::error!(
            plugin = %info.plugin, generation = info.number,
            "{which} is not kept, and an earlier snapshot stays the newest: {error}"
        );
        let reason = error.to_string();
        let news = {
            let mut now = self.lock();
            let trouble = now.entry(info.plugin.clone()).or_insert_with(|| Trouble {
                reason: String::new(),
                since: SystemTime::now(),
                times: 0,
            });
            let news = last || trouble.reason != reason;
            trouble.reason.clone_from(&reason);
            trouble.times += 1;
            if now.len() > REMEMBERED {
                now.pop_first();
            }
            news
        };
        // The same at every interval is told once.
        if news {
            self.announcer.state_not_kept(info, &reason, last);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Trouble>> {
        self.now.lock()
    }
}
