//! What the host says of each plugin, and of each file that is none.

use std::{
    path::Path,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use ksi_kernel::call::tally::Counts;
use ksi_wire::module::{
    self, ModuleState, NotKept, Overview, Persisted, Previous, Quarantined, RefusedFile, Signal,
};

use super::lately::AllLately;
use crate::{
    builtin::counts,
    core::Core,
    plugin::{
        announce::{shown, shown_timings},
        instance::residence::ProcessInfo,
        lifecycle::{
            requirements,
            retired::{Retired, RetiredState},
        },
        supervisor::registry::{self, Earlier, Plugin, Registry},
    },
};

/// A file that did not become a plugin.
pub(super) fn refused_file(
    registry: &Registry,
    file: &Path,
    why: &registry::RefusedFile,
) -> RefusedFile {
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned());
    let missing = registry.waiting.get(file);
    let quarantined = quarantined(registry, file);
    let state = match missing {
        Some(_) => ModuleState::Waiting,
        None if quarantined.is_none() => ModuleState::Refused,
        None => ModuleState::Quarantined,
    };
    RefusedFile {
        code: Some(why.code.to_owned()),
        duplicate_of: why.duplicate_of.as_deref().map(str::to_owned),
        file: shown(file),
        last_error: why.reason.clone(),
        missing: missing.cloned().unwrap_or_default(),
        name: name.unwrap_or_default(),
        quarantined,
        retry_in_ms: retry_in(registry, file),
        state,
        ..RefusedFile::default()
    }
}

/// What is known of a plugin.
pub(super) fn overview(
    lately: &AllLately<'_>,
    core: &Core,
    registry: &Registry,
    name: &str,
    plugin: &Plugin,
) -> Overview {
    let (inner, info) = (core, &plugin.info);
    // Looked at once: the last of them may be unmapped meanwhile.
    let old: Vec<_> = plugin.retired.iter().map(|old| retired(old)).collect();
    let lingering = old.iter().any(|old| old.state == module::RetiredState::Draining);
    let state = match &plugin.live {
        Some(_) if plugin.released => ModuleState::Replacing,
        // Another process may have been started, and not be ready.
        Some(live) if live.is_down() => ModuleState::Restarting,
        Some(_) => ModuleState::Live,
        None if lingering => ModuleState::Draining,
        None => ModuleState::Unloaded,
    };
    let handlers = info.manifest.handlers.iter();
    let mut events: Vec<String> =
        handlers.flat_map(|handler| handler.subscriptions.iter().cloned()).collect();
    events.sort_unstable();
    events.dedup();
    let mut sum = Counts::default();
    inner.router.counts_of(name).into_iter().for_each(|(_, own)| sum += own);
    let live = plugin.live.as_ref();
    let held = live.and_then(|live| live.services.session().gate()).map(|gate| gate.waiting());
    let signals = live.map(|live| live.residence.signals()).unwrap_or_default().into_iter();
    let signals = signals.map(|handled| {
        let (signal, ignored, host_too) = handled.into_parts();
        Signal { host_too, ignored, signal }
    });
    let config_refused = plugin.config_refused.as_ref().map(|refused| module::ConfigRefused {
        code: refused.code.clone(),
        reason: refused.reason.clone(),
        since: since_the_epoch(refused.since),
    });
    Overview {
        code: None,
        config_refused,
        counts: counts(sum),
        duplicate_of: None,
        earlier_unmapped: plugin.earlier_unmapped,
        events,
        exclusive: inner.supervisor.is_exclusive(&info.manifest),
        file: Some(shown(&info.file)),
        generation: Some(info.number),
        held: held.unwrap_or(0),
        keeps_state: info.writes(),
        last_error: plugin.last_error.clone(),
        lately: lately.of_plugin(name, &sum),
        missing: requirements::missing(&info.manifest, &[], &inner.router.subscribers()),
        name: name.to_owned(),
        notices: info.manifest.notices.iter().chain(&plugin.contract_notices).cloned().collect(),
        not_isolated: not_isolated(core, plugin),
        on_probation: plugin.compared_with(info.number).is_some(),
        persisted: persisted(core, name),
        previous: plugin.previous.iter().map(previous).collect(),
        quarantined: quarantined(registry, &info.file),
        reinstated: plugin.reinstated,
        reloads: plugin.reloads,
        requires: info.manifest.requires.clone(),
        residence: residence(plugin),
        retired: old,
        retry_in_ms: retry_in(registry, &info.file),
        rollbacks: plugin.rollbacks,
        signals: signals.collect(),
        state,
        state_not_kept: not_kept(core, name),
        state_notice: plugin.state_notice.clone(),
        version: Some(info.manifest.version.clone()),
    }
}

/// Where the live generation of a plugin lives.
fn residence(plugin: &Plugin) -> module::Residence {
    let process = plugin.live.as_ref().and_then(|live| live.residence.process());
    let Some(ProcessInfo { pid, resident_kib, cpu, late, ended }) = process else {
        return module::Residence::Host;
    };
    let checkpoint = plugin.checkpoint.as_ref().map(|checkpoint| module::Checkpoint {
        bytes: checkpoint.snapshot.bytes.as_json().len() as u64,
        calls: checkpoint.calls,
        taken: since_the_epoch(checkpoint.taken),
    });
    module::Residence::Process(module::Process {
        checkpoint,
        cpu_ms: cpu.map(|cpu| u64::try_from(cpu.as_millis()).unwrap_or(u64::MAX)),
        ended: ended.map(|end| end.why),
        late_calls: late,
        pid,
        resident_kib,
        restarts: plugin.restarts,
    })
}

/// Why the live generation of a plugin has no process, although it asks for one.
fn not_isolated(core: &Core, plugin: &Plugin) -> Option<String> {
    plugin.live.as_ref().filter(|live| live.residence.is_here())?;
    core.supervisor.activation.isolation.why_not(&plugin.info.manifest)
}

fn previous(earlier: &Earlier) -> Previous {
    let info = &earlier.info;
    Previous { generation: info.number, version: Some(info.manifest.version.clone()) }
}

/// A generation that is not live any more.
fn retired(old: &Retired) -> module::Retired {
    let (state, cause) = match old.state() {
        RetiredState::Draining => (module::RetiredState::Draining, None),
        RetiredState::Unmapped => (module::RetiredState::Unmapped, None),
        RetiredState::Pinned(cause) => (module::RetiredState::Pinned, Some(cause)),
    };
    module::Retired {
        cause,
        generation: old.generation,
        resident_kib: old.resident_kib(),
        state,
        timings_ms: shown_timings(&old.timings()),
        version: Some(old.version.clone()),
    }
}

/// What is kept on disk of a plugin's state.
fn persisted(core: &Core, name: &str) -> Option<Persisted> {
    let kept = core.supervisor.persistence.as_ref()?.kept(name)?;
    let written = since_the_epoch(kept.written);
    Some(Persisted { bytes: kept.bytes, version: kept.version, written })
}

/// In seconds.
fn since_the_epoch(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Why the state of a plugin is not kept as it is.
fn not_kept(core: &Core, name: &str) -> Option<NotKept> {
    let trouble = core.supervisor.persistence.as_ref()?.troubles.of(name)?;
    let since = since_the_epoch(trouble.since);
    Some(NotKept { reason: trouble.reason, since, times: trouble.times })
}

fn quarantined(registry: &Registry, file: &Path) -> Option<Quarantined> {
    let (hash, failure) = registry.retries.of(file)?;
    failure.quarantined.then(|| Quarantined {
        attempts: failure.attempts,
        hash: hash.map(|hash| hash.to_hex().to_string()),
        reason: Some(failure.reason.clone()),
        retry_in_ms: retry_in(registry, file),
        version: failure.version.clone(),
    })
}

/// In how many milliseconds a file is tried again.
fn retry_in(registry: &Registry, file: &Path) -> Option<u64> {
    let due = registry.retries.of(file)?.1.due?;
    u64::try_from(due.saturating_duration_since(Instant::now()).as_millis()).ok()
}
