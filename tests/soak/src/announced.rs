//! What the host announces of its plugins, counted, and awaited by whoever caused it.

use std::{sync::Arc, time::Duration};

use ksi_host::{Host, NameError, Pattern, Watched};
use ksi_wire::module::announced::{
    self, LOAD_FAILED, RELOAD_FAILED, RELOADED, RETIRED, ROLLED_BACK, WORKER_DOWN, WORKER_RESTARTED,
};
use tokio::sync::watch;

use crate::{
    ledger::Ledger,
    roles::{ROLES, Role},
};

/// Announcements that may wait to be counted. A reload has two or three.
const QUEUE: usize = 1 << 14;

/// What was announced of one plugin.
#[derive(Debug, Clone, Default)]
pub(crate) struct Of {
    pub(crate) reloaded: u64,
    pub(crate) refused: u64,
    pub(crate) rolled_back: u64,
    pub(crate) unmapped: u64,
    /// Why the last generation is pinned that could not be unmapped, and how many there were.
    pub(crate) pinned: u64,
    pub(crate) pinned_by: Option<String>,
    /// Of the last refusal.
    pub(crate) reason: Option<String>,
    /// The generation of the last reload.
    pub(crate) generation: u64,
    /// The one that the last roll-back was from.
    pub(crate) back_from: u64,
    /// Of the last roll-back: what became of the state.
    pub(crate) state: Option<String>,
    /// Processes of live generations that have ended, and those that another one was started for.
    pub(crate) down: u64,
    pub(crate) restarted: u64,
}

/// What was announced of all plugins.
#[derive(Debug, Clone, Default)]
pub(crate) struct All {
    of: [Of; ROLES],
    /// Announcements that could not be kept up with: the counts are worth nothing then.
    pub(crate) missed: u64,
}

impl All {
    pub(crate) fn of(&self, role: Role) -> &Of {
        &self.of[role.index()]
    }

    /// Adds up over all plugins.
    pub(crate) fn sum(&self, count: impl Fn(&Of) -> u64) -> u64 {
        self.of.iter().map(count).sum()
    }

    /// Why generations are pinned, by plugin.
    pub(crate) fn pinned_by(&self) -> Vec<String> {
        let each = Role::ALL.into_iter().filter_map(|role| {
            let cause = self.of(role).pinned_by.as_ref()?;
            Some(format!("{}: {cause}", role.name()))
        });
        each.collect()
    }
}

/// The announcements so far.
#[derive(Clone)]
pub(crate) struct Announced(watch::Receiver<All>);

impl Announced {
    /// Counts from now on, until the host ends.
    pub(crate) fn follow(host: &Host, ledger: &Arc<Ledger>) -> Result<Self, NameError> {
        let ledger = ledger.clone();
        let mut watch = host.watch(&[Pattern::parse("module:*")?], QUEUE);
        let (sender, all) = watch::channel(All::default());
        tokio::spawn(async move {
            while let Some(watched) = watch.next().await {
                match watched {
                    Watched::Event(event) => {
                        let data = event.payload().decode().unwrap_or_default();
                        sender.send_if_modified(|all| all.note(event.name(), data, &ledger));
                    }
                    Watched::Missed(missed) => sender.send_modify(|all| all.missed = missed.max(1)),
                    other => unreachable!("{other:?} is new"),
                }
            }
        });
        Ok(Announced(all))
    }

    pub(crate) fn now(&self) -> All {
        self.0.borrow().clone()
    }

    /// Waits for the next announcement.
    pub(crate) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // The host has ended.
            std::future::pending().await
        }
    }

    /// Waits until the announcements are right; tells whether they are within the limit.
    pub(crate) async fn until(&self, limit: Duration, right: impl FnMut(&All) -> bool) -> bool {
        let mut all = self.0.clone();
        matches!(tokio::time::timeout(limit, all.wait_for(right)).await, Ok(Ok(_)))
    }
}

impl All {
    /// Tells whether anything was counted.
    fn note(&mut self, event: &str, data: announced::Announced, ledger: &Ledger) -> bool {
        let name = data.name.as_deref();
        let name = name.or_else(|| std::path::Path::new(&data.file).file_stem()?.to_str());
        let Some(role) = name.and_then(Role::of_name) else { return false };
        let of = &mut self.of[role.index()];
        match event {
            RELOADED => {
                of.reloaded += 1;
                of.generation = data.generation.unwrap_or_default();
            }
            RELOAD_FAILED | LOAD_FAILED => {
                of.refused += 1;
                of.reason = Some(data.reason);
            }
            ROLLED_BACK => {
                of.rolled_back += 1;
                ledger.kills.note_back(role, data.state.as_deref().unwrap_or("not told"));
                of.state = data.state;
                of.back_from = data.from_generation.flatten().unwrap_or_default();
                ledger.versions.went_back(role);
            }
            WORKER_DOWN => of.down += 1,
            WORKER_RESTARTED => of.restarted += 1,
            RETIRED if data.unmapped == Some(true) => of.unmapped += 1,
            RETIRED => {
                of.pinned += 1;
                of.pinned_by = data.cause.flatten();
            }
            _ => return false,
        }
        true
    }
}
