//! `router:calls`, `router:failures` and `router:latency`: what is known of calls that have ended.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ksi_abi::Pattern;
use ksi_kernel::{
    call::{
        HandlerInfo,
        recorder::{
            Cursor, Recorded,
            latency::{BOUNDS, LatencySummary},
        },
    },
    event::EventId,
    router::{
        host_handler::Failure,
        recorded::{CallQuery, RecordedCall},
    },
};
use ksi_wire::router::{
    AskCalls, AskFailures, Call, Calls, Failure as FailureKind, Failures, HandlerLatency,
    Latencies, Latency, Recorder,
};

use super::{Nothing, handle};
use crate::{catalog::Described, core::Core};

/// How many calls a reply has when nobody says, and at the most.
const USUAL: usize = 1_000;
const MOST: usize = 20_000;

pub(super) fn register(core: &Arc<Core>) {
    let calls = Described::new(
        "router:calls",
        "Calls that have ended, as far as they are kept: whose, when, how long and how they ended.",
    );
    let calls = calls
        .takes("root", "str", false, "Of this event, and of all others of its chain")
        .takes("failed", "bool", false, "That did not end well")
        .takes("at_least_ms", "float", false, "That took at least so many milliseconds")
        .takes("last_ms", "float", false, "That ended in the last so many milliseconds")
        .takes("event", "str", false, "Of events that match this pattern")
        .takes("of_plugins", "bool", false, "Not of the host's own handlers")
        .takes("plugin", "str", false, "Of this plugin")
        .takes("limit", "int", false, "No more than the last so many; 1000 by default")
        .takes("after", "str", false, "That ended after the reply that this cursor is of");
    handle(core, calls, all_calls);
    let failures = Described::new(
        "router:failures",
        "Calls that did not end well, by handler and code: how many, since when, and the last.",
    );
    let failures = failures
        .takes("last_ms", "float", false, "Of the last so many milliseconds")
        .takes("event", "str", false, "Of events that match this pattern")
        .takes("plugin", "str", false, "Of this plugin");
    handle(core, failures, all_failures);
    let latency = "How long the calls of each handler took, lately and since the start.";
    handle(core, Described::new("router:latency", latency), latencies);
}

async fn all_calls(core: Arc<Core>, asked: AskCalls) -> Result<Calls, Failure> {
    let router = &core.router;
    let limit = asked.limit.unwrap_or(USUAL).min(MOST);
    let mut cursor = Cursor::default();
    if let Some(after) = &asked.after {
        cursor = read_cursor(after)?;
        let (mut calls, mut missed) = router.recorded_since(&mut cursor);
        let beyond = calls.len().saturating_sub(limit);
        missed += calls.drain(..beyond).count() as u64;
        let calls = calls.into_iter().map(call).collect();
        return Ok(Calls { calls, cursor: written_cursor(&cursor), missed });
    }
    let root = asked.root.as_deref().map(|root| {
        let no_number = || {
            let why = format!("`{root}` is no number of an event, as evt_1a2b is one");
            Failure::new("invalid_payload", why)
        };
        EventId::parse(root).ok_or_else(no_number)
    });
    let mut query = CallQuery::default();
    // Whoever has the number of any event of a chain means all of it.
    query.root = root.transpose()?.map(|event| router.recorded_root(event).unwrap_or(event));
    query.failed = asked.failed;
    query.at_least = asked.at_least_ms.map(milliseconds).transpose()?;
    query.since = since(asked.last_ms)?;
    query.event = pattern(asked.event.as_deref())?;
    query.of_plugins = asked.of_plugins;
    query.plugin = asked.plugin;
    query.most = Some(limit);
    // Of what ends from here on nothing is missed by whoever goes on with this cursor.
    router.recorded_end(&mut cursor);
    let calls = router.recorded_calls(&query).into_iter().map(call).collect();
    Ok(Calls { calls, cursor: written_cursor(&cursor), missed: 0 })
}

async fn all_failures(core: Arc<Core>, asked: AskFailures) -> Result<Failures, Failure> {
    let (since, pattern) = (since(asked.last_ms)?, pattern(asked.event.as_deref())?);
    let is_wanted = |last: &RecordedCall| {
        asked.plugin.as_deref().is_none_or(|plugin| *last.plugin == *plugin)
            && pattern.as_ref().is_none_or(|pattern| pattern.matches(&last.name))
    };
    let kinds = core.router.recorded_failures().into_iter();
    let kinds = kinds.filter(|kind| since.is_none_or(|since| kind.last >= since));
    let kinds = kinds.filter(|kind| kind.recent.last().is_some_and(is_wanted));
    let failures = kinds.map(|kind| FailureKind {
        code: kind.code,
        count: kind.count,
        first_us: microseconds(kind.first),
        last_minute: kind.last_minute,
        last_us: microseconds(kind.last),
        recent: kind.recent.into_iter().map(call).collect(),
    });
    Ok(Failures { failures: failures.collect() })
}

async fn latencies(core: Arc<Core>, _: Nothing) -> Result<Latencies, Failure> {
    let router = &core.router;
    let live = live_generations(&core);
    let of = |info: &HandlerInfo| {
        let is_live = live.get(&*info.plugin).is_none_or(|live| *live == info.generation());
        is_live.then(|| (info.plugin.clone(), info.handler.clone()))
    };
    let lately = router.latencies(of);
    let handlers = router.handler_totals().into_iter().map(|totals| {
        let key = (totals.plugin, totals.handler);
        HandlerLatency {
            classes: totals.latency.classes.to_vec(),
            cpu_looks: totals.cpu_looks,
            cpu_seconds: totals.cpu.as_secs_f64(),
            latency: lately.get(&key).and_then(latency),
            sum: Duration::from_nanos(totals.latency.nanos).as_secs_f64(),
            plugin: key.0.to_string(),
            handler: key.1.to_string(),
        }
    });
    let mut handlers: Vec<HandlerLatency> = handlers.collect();
    handlers.sort_by(|a, b| (&a.plugin, &a.handler).cmp(&(&b.plugin, &b.handler)));
    let Recorded { calls, overwritten, dropped, failures_dropped, bytes, .. } = router.recorded();
    Ok(Latencies {
        bounds: BOUNDS.iter().map(|nanos| Duration::from_nanos(*nanos).as_secs_f64()).collect(),
        handlers,
        recorder: Recorder { bytes, calls, dropped, failures_dropped, overwritten },
    })
}

/// The generation of each plugin that is live.
fn live_generations(core: &Core) -> std::collections::HashMap<String, u64> {
    let registry = core.supervisor.registry();
    let live = registry.plugins.iter().filter(|(_, plugin)| plugin.live.is_some());
    live.map(|(name, plugin)| (name.to_string(), plugin.info.number)).collect()
}

/// As it goes out; `None` if there were no calls.
pub(super) fn latency(summary: &LatencySummary) -> Option<Latency> {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    (summary.calls > 0).then(|| Latency {
        calls: summary.calls,
        max_ms: ms(summary.max),
        p50_ms: ms(summary.p50),
        p99_ms: ms(summary.p99),
    })
}

pub(super) fn call(call: RecordedCall) -> Call {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    Call {
        begun_us: microseconds(call.begun),
        code: call.code,
        event: call.name.to_string(),
        event_id: call.event.to_string(),
        generation: call.generation,
        handler: call.handler.to_string(),
        message: call.message,
        outcome: call.outcome.map_or(Call::UNHANDLED, |how| how.as_str()).into(),
        parent_id: call.parent.map(|parent| parent.to_string()),
        plugin: call.plugin.to_string(),
        root_id: call.root.to_string(),
        sent: call.is_sent,
        source: call.source.to_string(),
        took_ms: call.took.map(ms),
        took_about: call.took.is_some() && !call.is_exact,
        waited_ms: ms(call.waited),
    }
}

fn microseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

fn milliseconds(ms: f64) -> Result<Duration, Failure> {
    Duration::try_from_secs_f64(ms / 1e3).map_err(|_| {
        Failure::new("invalid_payload", format_args!("{ms:e} is no time in milliseconds"))
    })
}

fn since(last_ms: Option<f64>) -> Result<Option<SystemTime>, Failure> {
    let last = last_ms.map(milliseconds).transpose()?;
    Ok(last.map(|last| SystemTime::now().checked_sub(last).unwrap_or(UNIX_EPOCH)))
}

fn pattern(text: Option<&str>) -> Result<Option<Pattern>, Failure> {
    let parsed = text.map(Pattern::parse).transpose();
    parsed.map_err(|error| Failure::new("invalid_payload", error))
}

fn written_cursor(cursor: &Cursor) -> String {
    let positions = cursor.positions().iter().map(|position| format!("{position:x}"));
    positions.collect::<Vec<_>>().join(".")
}

fn read_cursor(text: &str) -> Result<Cursor, Failure> {
    let positions: Result<Vec<u64>, _> =
        text.split('.').map(|position| u64::from_str_radix(position, 16)).collect();
    positions.map(Cursor::of).map_err(|_| {
        Failure::new("invalid_payload", "`after` is to be the `cursor` of an earlier reply")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_goes_out_and_comes_back() {
        let cursor = Cursor::of(vec![0, 7, u64::MAX]);
        assert_eq!(read_cursor(&written_cursor(&cursor)).unwrap(), cursor);
        assert!(read_cursor("evt_1").is_err() && read_cursor("").is_err());
    }
}
