//! Which generations are on their way out, for those who wait for them.

use std::{collections::BTreeMap, sync::Arc};

use ksi_kernel::lock::Lock;

use crate::{
    plugin::instance::info::GenerationInfo,
    sync::task_tracker::{TaskTracker, Tracked},
};

/// Generations on their way out.
pub(in crate::plugin) struct Departures {
    /// All of them.
    pub(in crate::plugin) retirements: TaskTracker,
    /// Those whose instance is not gone.
    pub(in crate::plugin) drains: TaskTracker,
    /// Of each plugin, those whose state is being kept for the next start.
    final_states: OfPlugins,
    /// Whose they are; some of them may be kept by now.
    of_final_states: Lock<Vec<Arc<GenerationInfo>>>,
    /// Of each plugin, those whose instance is not gone.
    instances: OfPlugins,
}

/// What is on its way, by plugin.
#[derive(Default)]
struct OfPlugins(Lock<BTreeMap<Arc<str>, TaskTracker>>);

impl OfPlugins {
    fn begin(&self, plugin: &Arc<str>) -> Tracked {
        let mut trackers = self.0.lock();
        trackers.retain(|_, tracker| !tracker.is_empty());
        trackers.entry(plugin.clone()).or_insert_with(TaskTracker::new).begin()
    }

    fn is_empty(&self, plugin: &str) -> bool {
        let trackers = self.0.lock();
        trackers.get(plugin).is_none_or(TaskTracker::is_empty)
    }

    async fn wait(&self, plugin: &str) {
        let tracker = {
            let trackers = self.0.lock();
            trackers.get(plugin).cloned()
        };
        if let Some(tracker) = tracker {
            tracker.wait().await;
        }
    }
}

impl Departures {
    pub(in crate::plugin) fn new() -> Self {
        Departures {
            retirements: TaskTracker::new(),
            drains: TaskTracker::new(),
            final_states: OfPlugins::default(),
            of_final_states: Lock::default(),
            instances: OfPlugins::default(),
        }
    }

    /// The state of a generation is being kept, until the result is dropped.
    pub(in crate::plugin) fn begin_final_state(&self, info: &Arc<GenerationInfo>) -> Tracked {
        let mut of_final_states = self.of_final_states.lock();
        of_final_states.retain(|info| !self.final_states.is_empty(&info.plugin));
        of_final_states.push(info.clone());
        self.final_states.begin(&info.plugin)
    }

    /// The generations whose state is still to be kept.
    pub(in crate::plugin) fn pending_final_states(&self) -> Vec<Arc<GenerationInfo>> {
        let of_final_states = self.of_final_states.lock();
        let pending =
            of_final_states.iter().filter(|info| !self.final_states.is_empty(&info.plugin));
        pending.cloned().collect()
    }

    /// Waits until the state of every earlier generation of a plugin is kept.
    pub(in crate::plugin) async fn final_state_is_kept(&self, plugin: &str) {
        self.final_states.wait(plugin).await;
    }

    /// An instance of a plugin is on its way out, until the result is dropped.
    pub(in crate::plugin) fn begin_instance(&self, plugin: &Arc<str>) -> Tracked {
        self.instances.begin(plugin)
    }

    /// Whether every instance of a plugin is gone, but for a live one.
    pub(in crate::plugin) fn are_instances_gone(&self, plugin: &str) -> bool {
        self.instances.is_empty(plugin)
    }

    /// Waits until every instance of a plugin is gone, but for a live one.
    pub(in crate::plugin) async fn instances_are_gone(&self, plugin: &str) {
        self.instances.wait(plugin).await;
    }
}
