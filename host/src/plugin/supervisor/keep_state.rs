//! When the state of live plugins is kept on the disk: at the operator's interval, and right after
//! it was restored or handed over.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use ksi_kernel::lock::Lock;

use super::Supervisor;
use crate::{
    plugin::{
        instance::{info::GenerationInfo, live::LiveInstance},
        state::{persistence::Persistence, snapshot::Snapshot},
    },
    sync::keyed_lock::LockKey,
};

impl Supervisor {
    /// Keeps the state of a live plugin as it is now, in the background.
    pub(super) fn keep_now(self: &Arc<Self>, name: &str) {
        let Some(persistence) = self.persistence.clone() else { return };
        let live = {
            let registry = self.registry();
            let live = registry.plugins.get(name).and_then(|plugin| plugin.live.as_ref());
            live.map(|generation| (generation.info.clone(), generation.live.clone()))
        };
        let (Some((info, live)), supervisor) = (live, self.clone()) else { return };
        self.thread.runtime().spawn(async move {
            let workers = supervisor.router.workers();
            let is_live = || supervisor.registry().is_live(&info.plugin, info.number);
            persistence.keep_live(workers, &info, &live, is_live).await;
        });
    }

    /// A live generation was restored from this snapshot: it is kept as the last good one, in the
    /// background.
    pub(super) fn keep_restored(self: &Arc<Self>, info: &Arc<GenerationInfo>, snapshot: Snapshot) {
        let Some(persistence) = self.persistence.clone() else { return };
        let (supervisor, info) = (self.clone(), info.clone());
        self.thread.runtime().spawn(async move {
            let _lock = persistence.locks.lock(LockKey::Plugin(info.plugin.clone())).await;
            // A later one was restored from something later.
            if !supervisor.registry().is_live(&info.plugin, info.number) {
                return;
            }
            let good =
                persistence.work(&info, snapshot, |dir, name, state| dir.store_good(name, state));
            if let Err(error) = good.await {
                tracing::error!(
                    plugin = %info.plugin, generation = info.number,
                    "what it was restored from is not kept beside the newest snapshots: {error}"
                );
            }
        });
    }

    /// Keeps the state of every live plugin, again and again until the host is gone.
    pub(crate) fn keep_state_every(self: &Arc<Self>, interval: Duration) {
        let Some(persistence) = self.persistence.clone() else { return };
        let supervisor = Arc::downgrade(self);
        self.thread.runtime().spawn(async move {
            // Generations that were asked for a snapshot and have not answered. One whose snapshot
            // never returns holds up no other, and is not asked again: each time would cost another
            // thread.
            let asked: Arc<Lock<BTreeMap<Arc<str>, u64>>> = Arc::default();
            loop {
                tokio::time::sleep(interval).await;
                let Some(supervisor) = supervisor.upgrade() else { return };
                for (info, live) in supervisor.to_keep(&asked) {
                    let (supervisor, persistence) = (supervisor.clone(), persistence.clone());
                    let asked = asked.clone();
                    tokio::spawn(async move {
                        if supervisor.keep(&persistence, &info, &live).await {
                            let answered = |plugin: &Arc<str>, number: &mut u64| {
                                *plugin == info.plugin && *number == info.number
                            };
                            asked.lock().retain(|plugin, number| !answered(plugin, number));
                        }
                    });
                }
            }
        });
    }

    /// The live generations but for those that were asked already; all of them are from here on.
    fn to_keep(
        &self,
        asked: &Lock<BTreeMap<Arc<str>, u64>>,
    ) -> Vec<(Arc<GenerationInfo>, Weak<dyn LiveInstance>)> {
        let registry = self.registry();
        let live = registry.plugins.values().filter_map(|plugin| plugin.live.as_ref());
        let live: Vec<_> = live.filter(|generation| generation.info.writes().is_some()).collect();
        let mut asked = asked.lock();
        asked.retain(|plugin, number| registry.is_live(plugin, *number));
        let new = live.into_iter().filter(|generation| {
            let info = &generation.info;
            asked.insert(info.plugin.clone(), info.number) != Some(info.number)
        });
        new.map(|generation| (generation.info.clone(), generation.live.clone())).collect()
    }

    /// Keeps what a generation has now. Whether it has answered.
    async fn keep(
        &self,
        persistence: &Persistence,
        info: &GenerationInfo,
        live: &Weak<dyn LiveInstance>,
    ) -> bool {
        let workers = self.router.workers();
        let is_live = || self.registry().is_live(&info.plugin, info.number);
        persistence.keep_live(workers, info, live, is_live).await
    }
}
