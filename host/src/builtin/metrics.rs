//! `metrics:*`: how calls ended, by plugin, handler and host.

use std::{collections::BTreeMap, sync::Weak, time::Duration};

use ksi_wire::metrics::{Metrics, Plugin};

use super::{Nothing, catalog::Described, counts, handle};
use crate::{
    dispatch::tally::Counts,
    event::{self, Payload},
    host::{Host, Inner},
    router::native::Failure,
};

/// Emitted at an interval with what `metrics:get` replies, as long as somebody listens.
const REPORT: &str = "metrics:report";

pub(super) fn register(host: &Host) {
    let get =
        "How calls ended: of the host, of each plugin and each handler, over all generations.";
    handle(host, Described::new("metrics:get", get), get_all);
    report_every(host.downgrade(), host.inner().config.metrics.interval);
}

async fn get_all(host: Host, _: Nothing) -> Result<Metrics, Failure> {
    Ok(all(&host))
}

fn all(host: &Host) -> Metrics {
    let (router, registry) = (&host.inner().router, host.inner().supervisor.registry());
    let plugins: BTreeMap<String, Plugin> = registry
        .plugins
        .iter()
        .map(|(name, plugin)| {
            let mut sum = Counts::default();
            let own = router.counts_of(name).into_iter().map(|(handler, own)| {
                sum += own;
                (handler.to_string(), counts(own))
            });
            let handlers = own.collect();
            let generation = plugin.facts.number;
            (name.to_string(), Plugin { counts: counts(sum), generation, handlers })
        })
        .collect();
    Metrics { host: counts(router.all_counts()), plugins }
}

fn report_every(host: Weak<Inner>, interval: Duration) {
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(interval).await;
            let Some(host) = host.upgrade().map(Host::from_inner) else { return };
            let router = &host.inner().router;
            if !router.is_handled(REPORT) && !router.is_watched(REPORT) {
                continue;
            }
            if let Ok(payload) = Payload::encode(&all(&host)) {
                let report = router.emit(event::of_host(REPORT, payload), None);
                router.spawn_detached(async move { drop(report.await) });
            }
        }
    });
}
