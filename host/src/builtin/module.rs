//! `module:*`: the plugins, in KSI's word for them.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Instant, UNIX_EPOCH},
};

use ksi_kernel::{call::tally::Counts, router::host_handler::Failure};
use ksi_wire::module::{
    self, Changed, ConfigTaken, Entry, Events, Handler, Inspect, KeptResource, List, Load, Lost,
    ModuleState, Named, NotKept, Overview, Persisted, Previous, Quarantined, RefusedFile, Rollback,
    Signal, Subscriber, Trial,
};
use serde_json::Value;

use super::{Nothing, counts, handle, handle_change, sorted};
use crate::{
    catalog::{self, Described},
    core::{Core, settings::Reread},
    plugin::{
        announce::{shown, shown_timings},
        instance::{
            info::{GenerationInfo, Tried},
            residence::ProcessInfo,
        },
        lifecycle::{
            error::DeployError,
            requirements,
            retired::{Retired, RetiredState},
        },
        supervisor::{
            Deployed, SetAsideResult,
            registry::{self, Earlier, Plugin, Registry},
        },
    },
    text::causes::with_causes,
};

pub(super) fn register(core: &Arc<Core>) {
    handle(core, Described::new("module:list", "Every plugin, and every file that is none."), list);
    let named = |event, summary| {
        Described::new(event, summary).takes("module_name", "str", true, "The plugin's name")
    };
    handle(core, named("module:inspect", "One plugin in full."), inspect);
    handle(core, Described::new("module:events", "Who handles which event."), events);
    let load =
        Described::new("module:load", "Loads a plugin file, or replaces the plugin that it is.")
            .takes("path", "str", true, "The file");
    handle_change(core, load, load_file);
    let again = "Replaces a plugin by what its file holds now, with its configuration as the file of that has it now.";
    handle_change(core, named("module:reload", again), reload);
    handle_change(
        core,
        named(
            "module:unload",
            "Unloads a plugin, until its file changes or the host starts again.",
        ),
        unload,
    );
    let back = "Goes back to the version before the live one, with the plugin's state.";
    let back = named("module:rollback", back).takes(
        "force",
        "bool",
        false,
        "Also if that gives up what the live version has done to its state",
    );
    handle_change(core, back, rollback);
}

async fn list(core: Arc<Core>, _: Nothing) -> Result<List<Entry>, Failure> {
    let registry = core.supervisor.registry();
    let plugins = registry.plugins.iter();
    let plugins = plugins.map(|(name, plugin)| overview(&core, &registry, name, plugin));
    let mut modules: Vec<Entry> = plugins.map(|it| Entry::Plugin(Box::new(it))).collect();
    let refused = registry.refused.iter();
    modules.extend(
        refused.map(|(file, why)| Entry::File(Box::new(refused_file(&registry, file, why)))),
    );
    drop(registry);
    Ok(List { count: modules.len(), modules })
}

fn refused_file(registry: &Registry, file: &Path, why: &registry::RefusedFile) -> RefusedFile {
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned());
    let missing = registry.waiting.get(file);
    let quarantined = quarantined(registry, file);
    let state = match missing {
        Some(_) => ModuleState::Waiting,
        None if quarantined.is_none() => ModuleState::Refused,
        None => ModuleState::Quarantined,
    };
    RefusedFile {
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

fn overview(core: &Core, registry: &Registry, name: &str, plugin: &Plugin) -> Overview {
    let (inner, info) = (core, &plugin.info);
    let lingering = plugin.retired.iter().any(|old| old.state() == RetiredState::Draining);
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
    Overview {
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
        missing: requirements::missing(&info.manifest, &inner.router.subscribers()),
        name: name.to_owned(),
        notices: info.manifest.notices.clone(),
        not_isolated: not_isolated(core, plugin),
        on_probation: plugin.compared_with(info.number).is_some(),
        persisted: persisted(core, name),
        previous: plugin.previous.iter().map(previous).collect(),
        quarantined: quarantined(registry, &info.file),
        reinstated: plugin.reinstated,
        reloads: plugin.reloads,
        requires: info.manifest.requires.clone(),
        residence: residence(plugin),
        retired: plugin.retired.iter().map(|old| retired(old)).collect(),
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
    module::Residence::Process(module::Process {
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
    let written = kept.written.duration_since(UNIX_EPOCH).unwrap_or_default();
    Some(Persisted { bytes: kept.bytes, version: kept.version, written: written.as_secs_f64() })
}

/// Why the state of a plugin is not kept as it is.
fn not_kept(core: &Core, name: &str) -> Option<NotKept> {
    let trouble = core.supervisor.persistence.as_ref()?.troubles.of(name)?;
    let since = trouble.since.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
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

async fn inspect(core: Arc<Core>, ask: Named) -> Result<Value, Failure> {
    let registry = core.supervisor.registry();
    let Some((name, plugin)) = registry.plugins.get_key_value(ask.module_name.as_str()) else {
        return Err(failure(DeployError::NoSuchPlugin { plugin: ask.module_name }));
    };
    let info = &plugin.info;
    let mut timings_ms = shown_timings(&info.timings);
    timings_ms.extend(info.hand_over.get().map(shown_timings).unwrap_or_default());
    let kept = core.supervisor.activation.resources.names(name).into_iter();
    let session = plugin.live.as_ref().map(|live| live.services.session());
    sorted(&Inspect {
        overview: overview(&core, &registry, name, plugin),
        background_tasks: session.map(|session| session.task_count()),
        emits: info.manifest.emits.clone(),
        emits_schemas: emits_schemas(info),
        generation_counts: Some(counts(info.counts())),
        handlers: handlers(&core, name, info),
        hash: info.hash.to_hex().to_string(),
        kept_resources: kept.map(|(name, address)| KeptResource { address, name }).collect(),
        manifest: sorted(&info.manifest)?,
        timings_ms,
        trial: Some(trial(&info.tried)),
        watches: session.map(|session| session.watched()).unwrap_or_default(),
    })
}

fn emits_schemas(info: &GenerationInfo) -> BTreeMap<String, Value> {
    let emits = info.description.emits.iter().filter(|known| !known.schema.is_null());
    emits.map(|known| (known.event.clone(), known.schema.clone())).collect()
}

fn handlers(core: &Core, name: &str, info: &GenerationInfo) -> Vec<Handler> {
    let all: BTreeMap<Arc<str>, Counts> = core.router.counts_of(name).into_iter().collect();
    let described = &info.description.handlers;
    let declared = info.manifest.handlers.iter().enumerate();
    let each = declared.map(|(index, handler)| {
        let description = described.get(index);
        Handler {
            blocking: handler.blocking,
            counts: Some(counts(all.get(handler.name.as_str()).copied().unwrap_or_default())),
            name: handler.name.clone(),
            parameters: description.map(|known| catalog::parameters(&known.payload)),
            payload_schema: description.map(|known| known.payload.clone()),
            priority: handler.priority,
            reply_schema: description.map(|known| known.reply.clone()),
            subscriptions: handler.subscriptions.clone(),
            summary: description.map(|known| known.summary.clone()),
            timeout_ms: handler.timeout_ms,
        }
    });
    each.collect()
}

fn trial(tried: &Tried) -> Trial {
    let (result, reason) = match tried {
        Tried::Passed => ("passed", None),
        Tried::Unsure(reason) => ("unsure", Some(reason.clone())),
        Tried::Skipped(reason) => ("skipped", Some(reason.clone())),
    };
    Trial { reason, result: result.into() }
}

async fn events(core: Arc<Core>, _: Nothing) -> Result<Events, Failure> {
    let subscribers = core.router.subscribers();
    let mut events: BTreeMap<String, Vec<Subscriber>> = BTreeMap::new();
    for subscriber in subscribers.iter() {
        let handler = subscriber.handler;
        events.entry(subscriber.pattern.to_string()).or_default().push(Subscriber {
            handler: handler.handler.to_string(),
            module: handler.owner().to_owned(),
            priority: subscriber.priority,
        });
    }
    Ok(Events { events })
}

async fn load_file(core: Arc<Core>, ask: Load) -> Result<Changed, Failure> {
    done("loaded", core.supervisor.load(&ask.path).await)
}

async fn reload(core: Arc<Core>, ask: Named) -> Result<Changed, Failure> {
    let (config, deployed) = core.reload_with_its_config(&ask.module_name).await;
    let done = done("reloaded", deployed)?;
    Ok(match config {
        Reread::AsBefore => done,
        Reread::Changed => Changed { config: Some(ConfigTaken::Changed), ..done },
        Reread::Invalid(error) => Changed {
            config: Some(ConfigTaken::AsBefore),
            config_error: Some(with_causes(&error).to_string()),
            ..done
        },
    })
}

async fn unload(core: Arc<Core>, ask: Named) -> Result<Changed, Failure> {
    let mut done = done("unloaded", core.supervisor.unload(&ask.module_name).await)?;
    let (file, too_many) = {
        let registry = core.supervisor.registry();
        let plugin = registry.plugins.get(&*ask.module_name);
        (plugin.map(|plugin| plugin.info.file.clone()), registry.too_many(&ask.module_name))
    };
    // Whoever unloads a plugin to load it again is told that before he tries.
    done.still_in_memory = too_many;
    // Nothing remembers that it was unloaded: what lies in a folder is what there is to be.
    let stays = file.filter(|file| is_in_a_folder(&core, file));
    done.stays_in_folder = stays.map(|file| shown(&file));
    Ok(done)
}

/// Whether a host that starts finds this file.
fn is_in_a_folder(core: &Core, file: &Path) -> bool {
    let folder = file.parent().and_then(|folder| folder.canonicalize().ok());
    let mut folders = core.config.plugin_dirs.iter();
    file.exists() && folders.any(|known| known.canonicalize().ok() == folder)
}

async fn rollback(core: Arc<Core>, ask: Rollback) -> Result<Changed, Failure> {
    done("rolled_back", core.supervisor.rollback(&ask.module_name, ask.force).await)
}

fn done(status: &'static str, deployed: Result<Deployed, DeployError>) -> Result<Changed, Failure> {
    let Deployed { plugin, version, generation, aside, lost } = deployed.map_err(failure)?;
    let done = Changed {
        generation,
        name: plugin.to_string(),
        status: status.into(),
        version,
        ..Changed::default()
    };
    let Some(lost) = lost else { return Ok(done) };
    let (kept_aside, not_kept_aside) = told_aside(aside);
    let cost = lost.to_string();
    let lost = Lost { because: lost.because, calls: lost.calls, seconds: lost.seconds };
    Ok(Changed {
        cost: Some(cost),
        kept_aside: Some(kept_aside),
        lost: Some(lost),
        not_kept_aside: Some(not_kept_aside),
        ..done
    })
}

/// What people call the snapshot of what was given up, and why there is none.
pub(super) fn told_aside(aside: Option<SetAsideResult>) -> (Option<String>, Option<String>) {
    match aside {
        Some(Ok(which)) => (Some(which), None),
        Some(Err(reason)) => (None, Some(reason)),
        None => (None, None),
    }
}

pub(super) fn failure(error: DeployError) -> Failure {
    let code = match &error {
        DeployError::NoSuchPlugin { .. } => "no_such_module",
        DeployError::NotLive { .. } => "not_live",
        DeployError::NothingBefore { .. } => "nothing_before",
        DeployError::LosesState { .. } => "loses_state",
        DeployError::Stopping => "stopping",
        DeployError::Panicked(_) => "host_panicked",
        DeployError::Init { .. } | DeployError::InitTimedOut { .. } => "init_failed",
        _ => "refused",
    };
    Failure::new(code, with_causes(&error))
}
