//! `GET /metrics`: what the host counts, in the text format of Prometheus.
//!
//! The figures are the host's: they are asked for each time, and put down under the names that
//! Prometheus' conventions have for them.

use axum::{
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use ksi_plugin_api::{Context, Value, json, named};
use ksi_wire::{Counts, metrics::Metrics, system::Health};
use prometheus::{
    Encoder, GaugeVec, IntCounterVec, IntGaugeVec, Opts, Registry, TEXT_FORMAT, TextEncoder,
    core::Collector,
};

use crate::{answer::Refused, app::Shared, health};

/// What a host may be.
const STATUSES: [&str; 4] = ["starting", "healthy", "degraded", "stopping"];

pub(crate) async fn get(State(app): Shared) -> Response {
    match told(&app.ctx).await {
        Ok(text) => ([(CONTENT_TYPE, TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            let (code, message) = (error.code(), error.message());
            Refused::new(StatusCode::SERVICE_UNAVAILABLE, code, message).into_response()
        }
    }
}

async fn told(ctx: &Context) -> ksi_plugin_api::Result<Vec<u8>> {
    let metrics: Value = ctx.request(named("metrics:get", &json!({}))).await?;
    let families = Families::new()?;
    families.put_calls(&serde_json::from_value(metrics)?)?;
    families.put_host(&health::of_host(ctx).await?);
    let mut text = Vec::new();
    TextEncoder::new().encode(&families.registry.gather(), &mut text)?;
    Ok(text)
}

/// Everything that is told. Each has its labels in this order.
struct Families {
    registry: Registry,
    /// plugin, handler, outcome
    calls: IntCounterVec,
    /// plugin, handler
    in_flight: IntGaugeVec,
    /// plugin
    generation: IntGaugeVec,
    events: IntCounterVec,
    given_up: IntCounterVec,
    /// status
    status: IntGaugeVec,
    plugins: IntGaugeVec,
    state_not_kept: IntGaugeVec,
    waiting: IntGaugeVec,
    waiting_limit: IntGaugeVec,
    uptime: GaugeVec,
    /// version
    info: IntGaugeVec,
}

impl Families {
    fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str, labels: &[&str]| {
            known(&registry, IntCounterVec::new(Opts::new(name, help), labels)?)
        };
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            known(&registry, IntGaugeVec::new(Opts::new(name, help), labels)?)
        };
        let uptime = Opts::new("ksi_uptime_seconds", "Time since the host was started.");
        Ok(Families {
            calls: counter(
                "ksi_calls_total",
                "Calls of plugins' handlers that have ended, over all generations, by how they did.",
                &["plugin", "handler", "outcome"],
            )?,
            in_flight: gauge(
                "ksi_calls_in_flight",
                "Calls of plugins' handlers that have not ended.",
                &["plugin", "handler"],
            )?,
            generation: gauge(
                "ksi_plugin_generation",
                "The generation of a plugin that is live, or was last.",
                &["plugin"],
            )?,
            events: counter("ksi_events_total", "Events that the host has accepted.", &[])?,
            given_up: counter(
                "ksi_given_up_total",
                "Clients and watches that were given up because too much waited for them.",
                &[],
            )?,
            status: gauge(
                "ksi_status",
                "1 for what the host is, and 0 for the others.",
                &["status"],
            )?,
            plugins: gauge("ksi_plugins", "Plugins that are live.", &[])?,
            state_not_kept: gauge(
                "ksi_state_not_kept",
                "Plugins whose state is not on the disk as it is.",
                &[],
            )?,
            waiting: gauge("ksi_waiting_bytes", "What waits in the host to be taken.", &[])?,
            waiting_limit: gauge("ksi_waiting_limit_bytes", "What may wait in the host.", &[])?,
            uptime: known(&registry, GaugeVec::new(uptime, &[])?)?,
            info: gauge("ksi_info", "1, with the version of the host.", &["version"])?,
            registry,
        })
    }

    fn put_calls(&self, metrics: &Metrics) -> prometheus::Result<()> {
        for (plugin, metrics) in &metrics.plugins {
            let generation = self.generation.get_metric_with_label_values(&[plugin])?;
            generation.set(signed(metrics.generation));
            for (handler, counts) in &metrics.handlers {
                let in_flight = self.in_flight.get_metric_with_label_values(&[plugin, handler])?;
                in_flight.set(signed(counts.in_flight));
                for (outcome, count) in ended(counts) {
                    let labels = [plugin.as_str(), handler, outcome];
                    self.calls.get_metric_with_label_values(&labels)?.inc_by(count);
                }
            }
        }
        Ok(())
    }

    fn put_host(&self, health: &Health) {
        let none: &[&str] = &[];
        self.events.with_label_values(none).inc_by(health.events_emitted);
        self.given_up.with_label_values(none).inc_by(health.memory.given_up);
        for status in STATUSES {
            self.status.with_label_values(&[status]).set((*status == *health.status).into());
        }
        let sizes = [
            (&self.plugins, health.plugins),
            (&self.state_not_kept, health.state_not_kept.len()),
            (&self.waiting, health.memory.waiting_bytes),
            (&self.waiting_limit, health.memory.limit),
        ];
        for (gauge, size) in sizes {
            gauge.with_label_values(none).set(i64::try_from(size).unwrap_or(i64::MAX));
        }
        self.uptime.with_label_values(none).set(health.uptime);
        self.info.with_label_values(&[&*health.version]).set(1);
    }
}

fn known<C: Collector + Clone + 'static>(registry: &Registry, family: C) -> prometheus::Result<C> {
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The calls that have ended, by how.
fn ended(counts: &Counts) -> [(&'static str, u64); 7] {
    let Counts {
        accepted: _,
        crashed,
        failed,
        in_flight: _,
        no_reply,
        panicked,
        rejected,
        replied,
        timed_out,
    } = *counts;
    [
        ("crashed", crashed),
        ("failed", failed),
        ("no_reply", no_reply),
        ("panicked", panicked),
        ("rejected", rejected),
        ("replied", replied),
        ("timed_out", timed_out),
    ]
}
