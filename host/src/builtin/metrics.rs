//! `metrics:*`: how calls ended, by plugin, handler and host.

use std::{collections::BTreeMap, sync::Arc, sync::Weak, time::Duration};

use ksi_kernel::{
    call::tally::Counts,
    event::{self, Payload},
    router::host_handler::Failure,
};
use ksi_wire::metrics::{Metrics, PluginMetrics};

use super::{Nothing, counts, handle};
use crate::{catalog::Described, core::Core};

/// Emitted at an interval with what `metrics:get` replies, as long as somebody listens.
const REPORT: &str = "metrics:report";

pub(super) fn register(core: &Arc<Core>) {
    let get =
        "How calls ended: of the host, of each plugin and each handler, over all generations.";
    handle(core, Described::new("metrics:get", get), get_all);
    report_every(Arc::downgrade(core), core.config.metrics.interval);
}

async fn get_all(core: Arc<Core>, _: Nothing) -> Result<Metrics, Failure> {
    Ok(all(&core))
}

fn all(core: &Core) -> Metrics {
    let (router, registry) = (&core.router, core.supervisor.registry());
    let plugins: BTreeMap<String, PluginMetrics> = registry
        .plugins
        .iter()
        .map(|(name, plugin)| {
            let mut sum = Counts::default();
            let own = router.counts_of(name).into_iter().map(|(handler, own)| {
                sum += own;
                (handler.to_string(), counts(own))
            });
            let handlers = own.collect();
            let generation = plugin.info.number;
            (name.to_string(), PluginMetrics { counts: counts(sum), generation, handlers })
        })
        .collect();
    Metrics { host: counts(router.all_counts()), plugins }
}

fn report_every(core: Weak<Core>, interval: Duration) {
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(interval).await;
            let Some(core) = core.upgrade() else { return };
            let router = &core.router;
            if !router.is_handled(REPORT) && !router.is_watched(REPORT) {
                continue;
            }
            if let Ok(payload) = Payload::encode(&all(&core)) {
                let report = router.emit(event::of_host(REPORT, payload), None);
                router.spawn_detached(async move { drop(report.await) });
            }
        }
    });
}
