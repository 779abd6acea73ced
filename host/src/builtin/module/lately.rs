//! How a plugin does lately: how many calls a second, how long they take, and what failed last.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Instant, UNIX_EPOCH},
};

use ksi_kernel::{
    call::{HandlerInfo, recorder::latency::LatencySummary, tally::Counts},
    router::recorded::RecordedFailures,
};
use ksi_wire::module::{LastFailure, Lately};

use crate::{builtin::calls::latency, core::Core, plugin::supervisor::registry::Registry};

/// What is known of all plugins, looked up once.
pub(super) struct AllLately<'a> {
    core: &'a Core,
    now: Instant,
    latencies: HashMap<Arc<str>, LatencySummary>,
    failures: HashMap<Arc<str>, RecordedFailures>,
}

impl<'a> AllLately<'a> {
    pub(super) fn of(core: &'a Core, registry: &Registry) -> Self {
        let router = &core.router;
        let latencies = router.latencies(|info: &HandlerInfo| {
            let live = registry.plugins.get(&*info.plugin)?;
            (live.info.number == info.generation()).then(|| info.plugin.clone())
        });
        let mut failures: HashMap<Arc<str>, RecordedFailures> = HashMap::new();
        // The last seen are the first.
        for failure in router.recorded_failures() {
            if let Some(last) = failure.recent.last() {
                failures.entry(last.plugin.clone()).or_insert(failure);
            }
        }
        AllLately { core, now: Instant::now(), latencies, failures }
    }

    /// Of a plugin with these counts.
    pub(super) fn of_plugin(&self, name: &str, counts: &Counts) -> Lately {
        let rate = self.core.rates.of(name, counts, self.now);
        Lately {
            calls_per_second: rate.map(|rate| rate.calls),
            failed_per_second: rate.map(|rate| rate.failed),
            last_failure: self.failures.get(name).and_then(last_failure),
            latency: self.latencies.get(name).and_then(latency),
        }
    }
}

fn last_failure(failure: &RecordedFailures) -> Option<LastFailure> {
    let last = failure.recent.last()?;
    Some(LastFailure {
        at: failure.last.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
        code: failure.code.clone(),
        count: failure.count,
        event: last.name.to_string(),
        generation: last.generation,
        handler: last.handler.to_string(),
        message: last.message.clone(),
        root_id: last.root.to_string(),
    })
}
