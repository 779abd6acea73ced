//! `metrics:*`: how calls ended, by plugin, handler and host.

use std::{collections::BTreeMap, sync::Weak, time::Duration};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{catalog::Described, handle};
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

#[derive(Deserialize)]
struct Nothing {}

async fn get_all(host: Host, _: Nothing) -> Result<Value, Failure> {
    Ok(all(&host))
}

fn all(host: &Host) -> Value {
    let (router, registry) = (&host.inner().router, host.inner().supervisor.registry());
    let plugins: BTreeMap<&str, Value> = registry
        .plugins
        .iter()
        .map(|(name, plugin)| {
            let handlers: BTreeMap<_, _> = router.counts_of(name).into_iter().collect();
            let mut counts = Counts::default();
            handlers.values().for_each(|own| counts += *own);
            let generation = plugin.facts.number;
            (&**name, json!({ "counts": counts, "generation": generation, "handlers": handlers }))
        })
        .collect();
    json!({ "host": router.all_counts(), "plugins": plugins })
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
