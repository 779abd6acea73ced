//! The words in which `ksi list` and `ksi inspect` say what the host tells of a plugin.
//!
//! Anything may be missing: an older host knows less, and a file that never became a plugin has
//! little more than a name and an error.

use std::time::{Duration, SystemTime};

use ksi_wire::Counts;
use ksi_wire::module::{
    ConfigRefused, Inspect, LastFailure, Lately, ModuleState, NotKept, Overview, Persisted,
    Previous, Quarantined, Residence, Trial,
};

use super::table::Tone;
use super::text::milliseconds;

pub(crate) fn state(plugin: &Overview) -> String {
    let unkept = plugin.state_not_kept.as_ref().map(|_| "state not kept");
    let marks = [plugin.on_probation.then_some("probation"), unkept];
    let marks: Vec<&str> = marks.into_iter().flatten().collect();
    match marks.is_empty() {
        true => plugin.state.as_str().to_owned(),
        false => format!("{} ({})", plugin.state.as_str(), marks.join(", ")),
    }
}

pub(crate) fn tone(plugin: &Overview) -> Tone {
    match plugin.state {
        _ if plugin.state_not_kept.is_some() => Tone::Bad,
        ModuleState::Live if plugin.on_probation => Tone::Doubtful,
        ModuleState::Live => Tone::Good,
        ModuleState::Refused | ModuleState::Quarantined => Tone::Bad,
        ModuleState::Restarting => Tone::Bad,
        ModuleState::Replacing
        | ModuleState::Draining
        | ModuleState::Unloaded
        | ModuleState::Waiting => Tone::Doubtful,
        ModuleState::Other(_) => Tone::Usual,
    }
}

/// The last error and when its file is tried again, unless the quarantine says the same.
/// That it has not taken its configuration, for as long as it has not.
pub(crate) fn config_refused(plugin: &Overview, now: SystemTime) -> Option<String> {
    let refused = plugin.config_refused.as_ref()?;
    let ConfigRefused { code, reason, since } = refused;
    let ago = ago(*since, now).map(|ago| format!(", {ago}")).unwrap_or_default();
    Some(format!("goes on with the configuration before: {reason} [{code}]{ago}"))
}

pub(crate) fn last_error(plugin: &Overview) -> Option<String> {
    let said = plugin.quarantined.as_ref().and_then(|it| it.reason.as_ref());
    let error = plugin.last_error.as_ref().filter(|error| Some(*error) != said)?;
    // Of a refused configuration it is said otherwise.
    if plugin.config_refused.as_ref().is_some_and(|refused| refused.reason == *error) {
        return None;
    }
    let code = plugin.code.as_ref().map(|code| format!(" [{code}]")).unwrap_or_default();
    let error = format!("{error}{code}");
    // What is quarantined, or waits for another plugin, has words of its own for it.
    Some(match (plugin.retry_in_ms, &plugin.state) {
        _ if plugin.quarantined.is_some() => error,
        (Some(ms), _) => format!("{error}; tried again in {}", seconds(ms.div_ceil(1000))),
        (None, ModuleState::Refused) if plugin.duplicate_of.is_some() => {
            format!("{error}; tried again when that one goes")
        }
        (None, ModuleState::Refused) => {
            format!("{error}; not tried again until it changes or `ksi {}`", ask(plugin))
        }
        (None, _) => error,
    })
}

/// `version 0.2.0: it panics; 2 attempts, the next in 12s`
pub(crate) fn quarantined(plugin: &Overview) -> Option<String> {
    let Quarantined { version, reason, attempts, retry_in_ms, .. } = plugin.quarantined.as_ref()?;
    let version = version.as_ref().map(|it| format!("version {it}: ")).unwrap_or_default();
    let reason = reason.as_deref().unwrap_or("for a reason that the host does not tell");
    let attempts = several((*attempts).into(), "attempt");
    let next = match retry_in_ms {
        Some(ms) => format!("the next in {}", seconds(ms.div_ceil(1000))),
        None => format!("none until its file changes or `ksi {}`", ask(plugin)),
    };
    Some(format!("{version}{reason}; {attempts}, {next}"))
}

/// `not kept since 5m ago: the disk is full; 3 attempts failed`
pub(crate) fn not_kept(plugin: &Overview, now: SystemTime) -> Option<String> {
    let NotKept { reason, since, times } = plugin.state_not_kept.as_ref()?;
    let since = ago(*since, now).map(|ago| format!(" since {ago}")).unwrap_or_default();
    Some(format!("not kept{since}: {reason}; {} failed", several(*times, "attempt")))
}

/// What has the host try its file again.
fn ask(plugin: &Overview) -> String {
    match (&plugin.file, plugin.generation) {
        (Some(file), None) => format!("load {file}"),
        _ => format!("reload {}", plugin.name),
    }
}

/// `unsure: its initialize fails in a trial`, or `passed`.
pub(crate) fn trial(plugin: &Inspect) -> Option<String> {
    let Trial { result, reason } = plugin.trial.as_ref()?;
    let with = |reason: &String| format!("{result}: {reason}");
    Some(reason.as_ref().map_or_else(|| result.clone().into_owned(), with))
}

pub(crate) fn missing(plugin: &Overview) -> Option<String> {
    let missing = plugin.missing.join(", ");
    (!missing.is_empty()).then(|| format!("nobody handles {missing}, which it requires"))
}

pub(crate) fn held(plugin: &Overview) -> Option<String> {
    let wait = if plugin.held == 1 { "waits" } else { "wait" };
    let events = several(plugin.held as u64, "event");
    (plugin.held > 0).then(|| format!("{events} {wait} for the hand-over of its state"))
}

/// How often its replacement failed when it had no instance any more.
pub(crate) fn reinstated(plugin: &Overview) -> Option<String> {
    let times = several(plugin.reinstated, "time");
    (plugin.reinstated > 0).then(|| format!("{times}, when a replacement failed"))
}

/// `asks for a process of its own, and has none: the operator has it live in the host's`
pub(crate) fn not_isolated(plugin: &Overview) -> Option<String> {
    let reason = plugin.not_isolated.as_ref()?;
    Some(format!("asks for a process of its own, and has none: {reason}"))
}

/// `process 4711, 5.4 MiB, ran 12ms, restarted 2 times`
pub(crate) fn residence(plugin: &Overview) -> Option<String> {
    let Residence::Process(process) = &plugin.residence else {
        return not_isolated(plugin).map(|asks| format!("the host's process; {asks}"));
    };
    let mut told = vec![format!("process {}", process.pid)];
    told.extend(process.resident_kib.map(|kib| size(kib * 1024)));
    let ran = process.cpu_ms.map(Duration::from_millis);
    told.extend(ran.map(|ran| format!("ran {}", humantime::format_duration(ran))));
    if process.restarts > 0 {
        told.push(format!("restarted {}", several(process.restarts, "time")));
    }
    if process.late_calls > 0 {
        told.push(format!("{} ended late", several(process.late_calls, "call")));
    }
    told.extend(process.ended.clone());
    Some(told.join(", "))
}

/// `812 B, taken 3s ago, after 120 calls`
pub(crate) fn checkpoint(plugin: &Overview, now: SystemTime) -> Option<String> {
    let Residence::Process(process) = &plugin.residence else { return None };
    let checkpoint = process.checkpoint.as_ref()?;
    let age = ago(checkpoint.taken, now).map(|ago| format!(", taken {ago}")).unwrap_or_default();
    Some(format!("{}{age}, after {}", size(checkpoint.bytes), several(checkpoint.calls, "call")))
}

/// `127.0.0.1:0 (127.0.0.1:41233), port`
pub(crate) fn kept_resources(plugin: &Inspect) -> Option<String> {
    let kept = plugin.kept_resources.iter().map(|kept| match &kept.address {
        Some(address) if *address != kept.name => format!("{} ({address})", kept.name),
        _ => kept.name.clone(),
    });
    let kept = kept.collect::<Vec<_>>().join(", ");
    (!kept.is_empty()).then_some(kept)
}

/// `has handlers for SIGUSR1, SIGINT (so has the host); asks to ignore SIGPIPE`
pub(crate) fn signals(plugin: &Overview) -> Option<String> {
    let named = |ignored: bool, title: &str| {
        let of = plugin.signals.iter().filter(|it| it.ignored == ignored);
        let names = of.map(|it| match it.host_too {
            true if ignored => format!("{} (the host handles it)", it.signal),
            true => format!("{} (so has the host)", it.signal),
            false => it.signal.clone(),
        });
        let names = names.collect::<Vec<_>>().join(", ");
        (!names.is_empty()).then(|| format!("{title} {names}"))
    };
    let all = [named(false, "has handlers for"), named(true, "asks to ignore")];
    let all = all.into_iter().flatten().collect::<Vec<_>>().join("; ");
    (!all.is_empty()).then_some(all)
}

pub(crate) fn rollbacks(plugin: &Overview) -> Option<String> {
    let (rollbacks, reloads) =
        (several(plugin.rollbacks, "rollback"), several(plugin.reloads, "reload"));
    (plugin.rollbacks > 0).then(|| format!("{rollbacks}, {reloads}"))
}

pub(crate) fn replaced(plugin: &Overview) -> Option<String> {
    rollbacks(plugin).or_else(|| (plugin.reloads > 0).then(|| several(plugin.reloads, "reload")))
}

/// `0.1.0 (generation 2), 0.0.9 (generation 1)`
pub(crate) fn previous(plugin: &Overview) -> String {
    let words = plugin.previous.iter().map(|Previous { version, generation }| {
        format!("{} (generation {generation})", version.as_deref().unwrap_or("?"))
    });
    words.collect::<Vec<_>>().join(", ")
}

/// The older generations by what became of them: `3 unmapped, 1 pinned`.
pub(crate) fn old(plugin: &Overview) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    if plugin.earlier_unmapped > 0 {
        counts.push(("unmapped", plugin.earlier_unmapped));
    }
    for generation in &plugin.retired {
        match counts.iter_mut().find(|(state, _)| *state == generation.state.as_str()) {
            Some((_, count)) => *count += 1,
            None => counts.push((generation.state.as_str(), 1)),
        }
    }
    let words = counts.iter().map(|(state, count)| format!("{count} {state}"));
    words.collect::<Vec<_>>().join(", ")
}

/// `version 2, 4.1 KiB, written 12s ago`
pub(crate) fn persisted(snapshot: &Persisted, now: SystemTime) -> String {
    let age = ago(snapshot.written, now).map(|ago| format!(", written {ago}")).unwrap_or_default();
    format!("version {}, {}{age}", snapshot.version, size(snapshot.bytes))
}

/// Calls that ended in no answer for a reason somebody should look into.
pub(crate) fn unwell(counts: &Counts) -> u64 {
    counts.failed + counts.panicked + counts.crashed + counts.timed_out + counts.rejected
}

/// Every event that was accepted ends in one of these; whoever reads this can add them up.
pub(crate) fn equation(counts: &Counts) -> String {
    let Counts { accepted, replied, no_reply, failed, panicked, timed_out, rejected, .. } = counts;
    let Counts { crashed, in_flight, .. } = counts;
    // Only a plugin in a process of its own can have any.
    let crashed = match crashed {
        0 => String::new(),
        crashed => format!(" + {crashed} crashed"),
    };
    format!(
        "{accepted} accepted = {replied} replied + {no_reply} no reply + {failed} failed \
         + {panicked} panicked{crashed} + {timed_out} timed out + {rejected} rejected \
         + {in_flight} in flight"
    )
}

/// `12.5 calls a second, 0.1 of them unwell; half take no longer than 0.2 ms, 99 of 100 than 1.9 ms`
pub(crate) fn lately(lately: &Lately) -> Option<String> {
    let unwell = lately.failed_per_second.filter(|failed| *failed > 0.0);
    let unwell = unwell.map(|failed| format!(", {} of them unwell", rate(failed)));
    let calls = lately
        .calls_per_second
        .map(|calls| format!("{} calls a second{}", rate(calls), unwell.unwrap_or_default()));
    let times = lately.latency.map(|latency| {
        format!(
            "half take no longer than {}, 99 of 100 than {}, the longest {}",
            milliseconds(latency.p50_ms),
            milliseconds(latency.p99_ms),
            milliseconds(latency.max_ms)
        )
    });
    let all: Vec<String> = calls.into_iter().chain(times).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

/// `12s ago, stock.reserve with order:place: sku 4711: 0 left [out_of_stock], 12 such; ksi trace evt_1a2b`
pub(crate) fn last_failure(lately: &Lately, now: SystemTime) -> Option<String> {
    let LastFailure { at, code, count, event, generation, handler, message, root_id } =
        lately.last_failure.as_ref()?;
    let when = ago(*at, now).unwrap_or_else(|| "at an unknown time".to_owned());
    let such = if *count > 1 { format!(", {count} such") } else { String::new() };
    Some(format!(
        "{when}, {handler} (generation {generation}) with {event}: {message} [{code}]{such}; ksi trace {root_id}"
    ))
}

/// In a second: `0.2`, `12.5`, `1200`.
pub(crate) fn rate(rate: f64) -> String {
    match rate {
        rate if rate < 99.95 => format!("{rate:.1}"),
        rate => format!("{rate:.0}"),
    }
}

/// `12s ago` or `just now`, of seconds since 1970.
pub(crate) fn ago(at: f64, now: SystemTime) -> Option<String> {
    let since = Duration::try_from_secs_f64(at).ok()?;
    let at = SystemTime::UNIX_EPOCH.checked_add(since)?;
    // A clock that was set back makes it the future.
    let age = now.duration_since(at).unwrap_or_default();
    Some(match age.as_secs() {
        0 => "just now".to_owned(),
        age => format!("{} ago", seconds(age)),
    })
}

fn several(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn seconds(seconds: u64) -> String {
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}

pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / unit as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests;
