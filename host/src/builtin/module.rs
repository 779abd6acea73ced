//! `module:*`: the plugins, in KSI's word for them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Instant, UNIX_EPOCH},
};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    catalog::{self, Described},
    handle, handle_change,
};
use crate::{
    dispatch::tally::Counts,
    host::Host,
    plugin::{
        announce::shown,
        lifecycle::{
            error::DeployError,
            requirements,
            retired::{Retired, RetiredState},
        },
        supervisor::{
            Aside, Deployed,
            registry::{Plugin, Registry},
        },
    },
    router::{native::Failure, routes::Subscriber},
    settings::Reread,
    text::causes::with_causes,
};

pub(super) fn register(host: &Host) {
    handle(host, Described::new("module:list", "Every plugin, and every file that is none."), list);
    let named = |event, summary| {
        Described::new(event, summary).takes("module_name", "str", true, "The plugin's name")
    };
    handle(host, named("module:inspect", "One plugin in full."), inspect);
    handle(host, Described::new("module:events", "Who handles which event."), events);
    let load =
        Described::new("module:load", "Loads a plugin file, or replaces the plugin that it is.")
            .takes("path", "str", true, "The file");
    handle_change(host, load, load_file);
    let again = "Replaces a plugin by what its file holds now, with its configuration as the file of that has it now.";
    handle_change(host, named("module:reload", again), reload);
    handle_change(
        host,
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
    handle_change(host, back, rollback);
}

#[derive(Deserialize)]
struct Nothing {}

#[derive(Deserialize)]
struct Named {
    module_name: String,
}

async fn list(host: Host, _: Nothing) -> Result<Value, Failure> {
    let registry = host.inner().supervisor.registry();
    let mut modules: Vec<Value> = registry
        .plugins
        .iter()
        .map(|(name, plugin)| overview(&host, &registry, name, plugin))
        .collect();
    modules.extend(registry.refused.iter().map(|(file, refused)| {
        let name =
            file.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let missing = registry.waiting.get(file);
        let quarantined = quarantined(&registry, file);
        let state = match missing {
            Some(_) => "waiting",
            None if quarantined.is_null() => "refused",
            None => "quarantined",
        };
        json!({
            "name": name, "version": null, "generation": null, "state": state, "file": shown(file),
            "events": [], "counts": Counts::default(), "retired": [], "last_error": refused.reason,
            "missing": missing.cloned().unwrap_or_default(), "quarantined": quarantined,
            "retry_in_ms": retry_in(&registry, file), "duplicate_of": refused.duplicate_of,
        })
    }));
    drop(registry);
    Ok(json!({ "count": modules.len(), "modules": modules }))
}

fn overview(host: &Host, registry: &Registry, name: &str, plugin: &Plugin) -> Value {
    let facts = &plugin.facts;
    let lingering = plugin.retired.iter().any(|old| old.state() == RetiredState::Draining);
    let state = match plugin.live {
        Some(_) if plugin.released => "replacing",
        Some(_) => "live",
        None if lingering => "draining",
        None => "unloaded",
    };
    let mut events: Vec<&str> = facts
        .manifest
        .handlers
        .iter()
        .flat_map(|handler| handler.subscriptions.iter().map(String::as_str))
        .collect();
    events.sort_unstable();
    events.dedup();
    let mut counts = Counts::default();
    host.inner().router.counts_of(name).into_iter().for_each(|(_, own)| counts += own);
    let held =
        plugin.live.as_ref().and_then(|live| live.shim.session().gate()).map(|gate| gate.waiting());
    let previous: Vec<Value> = plugin.previous.iter().map(|earlier| {
        json!({ "version": earlier.facts.manifest.version, "generation": earlier.facts.number })
    }).collect();
    let mut overview = json!({
        "name": name,
        "version": facts.manifest.version,
        "generation": facts.number,
        "state": state,
        "file": shown(&facts.file),
        "events": events,
        "counts": counts,
        "retired": plugin.retired.iter().map(|old| retired(old)).collect::<Vec<_>>(),
        "earlier_unmapped": plugin.earlier_unmapped,
        "last_error": plugin.last_error,
    });
    overview["exclusive"] = json!(host.inner().supervisor.is_exclusive(&facts.manifest));
    overview["keeps_state"] = json!(facts.writes());
    overview["persisted"] = persisted(host, name);
    overview["state_not_kept"] = not_kept(host, name);
    overview["notices"] = json!(facts.manifest.notices);
    overview["state_notice"] = json!(plugin.state_notice);
    overview["held"] = json!(held.unwrap_or(0));
    overview["requires"] = json!(facts.manifest.requires);
    overview["missing"] =
        json!(requirements::missing(&facts.manifest, &host.inner().router.subscribers()));
    overview["on_probation"] = json!(plugin.compared_with(facts.number).is_some());
    overview["reloads"] = json!(plugin.reloads);
    overview["rollbacks"] = json!(plugin.rollbacks);
    overview["reinstated"] = json!(plugin.reinstated);
    overview["signals"] =
        json!(plugin.live.as_ref().map(|live| live.library.signals()).unwrap_or_default());
    overview["previous"] = previous.into();
    overview["quarantined"] = quarantined(registry, &facts.file);
    overview["retry_in_ms"] = json!(retry_in(registry, &facts.file));
    overview
}

/// A generation that is not live any more.
fn retired(old: &Retired) -> Value {
    let (state, cause) = match old.state() {
        RetiredState::Draining => ("draining", None),
        RetiredState::Unmapped => ("unmapped", None),
        RetiredState::Pinned(cause) => ("pinned", Some(cause)),
    };
    let timings = old.timings().millis();
    json!({
        "generation": old.generation, "version": old.version, "state": state, "cause": cause, "timings_ms": timings,
        "resident_kib": old.resident_kib(),
    })
}

/// What is kept on disk of a plugin's state.
fn persisted(host: &Host, name: &str) -> Value {
    let kept = host.inner().supervisor.persistence.as_ref().and_then(|kept| kept.kept(name));
    kept.map_or(Value::Null, |kept| {
        let written = kept.written.duration_since(UNIX_EPOCH).unwrap_or_default();
        json!({ "version": kept.version, "bytes": kept.bytes, "written": written.as_secs_f64() })
    })
}

/// Why the state of a plugin is not kept as it is.
fn not_kept(host: &Host, name: &str) -> Value {
    let persistence = host.inner().supervisor.persistence.as_ref();
    let trouble = persistence.and_then(|persistence| persistence.troubles.of(name));
    trouble.map_or(Value::Null, |trouble| {
        let since = trouble.since.duration_since(UNIX_EPOCH).unwrap_or_default();
        json!({ "reason": trouble.reason, "since": since.as_secs_f64(), "times": trouble.times })
    })
}

fn quarantined(registry: &Registry, file: &Path) -> Value {
    match registry.setbacks.of(file) {
        Some((hash, failure)) if failure.quarantined => json!({
            "version": failure.version, "hash": hash.map(|hash| hash.to_hex().to_string()), "reason": failure.reason,
            "attempts": failure.attempts, "retry_in_ms": retry_in(registry, file),
        }),
        _ => Value::Null,
    }
}

/// In how many milliseconds a file is tried again.
fn retry_in(registry: &Registry, file: &Path) -> Option<u64> {
    let due = registry.setbacks.of(file)?.1.due?;
    u64::try_from(due.saturating_duration_since(Instant::now()).as_millis()).ok()
}

async fn inspect(host: Host, ask: Named) -> Result<Value, Failure> {
    let registry = host.inner().supervisor.registry();
    let Some((name, plugin)) = registry.plugins.get_key_value(ask.module_name.as_str()) else {
        return Err(failure(DeployError::NoSuchPlugin { plugin: ask.module_name }));
    };
    let facts = &plugin.facts;
    let counts: BTreeMap<Arc<str>, Counts> =
        host.inner().router.counts_of(name).into_iter().collect();
    let described = &facts.description.handlers;
    let handlers: Vec<Value> = facts
        .manifest
        .handlers
        .iter()
        .enumerate()
        .map(|(index, handler)| {
            let description = described.get(index);
            json!({
                "name": handler.name,
                "summary": description.map(|known| &known.summary),
                "subscriptions": handler.subscriptions,
                "priority": handler.priority,
                "timeout_ms": handler.timeout_ms,
                "blocking": handler.blocking,
                "counts": counts.get(handler.name.as_str()).copied().unwrap_or_default(),
                "parameters": description.map(|known| catalog::parameters(&known.payload)),
                "payload_schema": description.map(|known| &known.payload),
                "reply_schema": description.map(|known| &known.reply),
            })
        })
        .collect();
    let mut timings = facts.timings.millis();
    timings.extend(facts.hand_over.get().map(|timings| timings.millis()).unwrap_or_default());
    let tasks = plugin.live.as_ref().map(|live| live.shim.session().task_count());
    let mut whole = overview(&host, &registry, name, plugin);
    whole["manifest"] = json!(facts.manifest);
    whole["handlers"] = handlers.into();
    whole["emits"] = json!(facts.manifest.emits);
    whole["hash"] = json!(facts.hash.to_hex().as_str());
    whole["background_tasks"] = json!(tasks);
    let kept = host.inner().supervisor.activation.resources.names(name);
    let kept = kept.into_iter().map(|(name, address)| json!({ "name": name, "address": address }));
    whole["kept_resources"] = kept.collect::<Vec<_>>().into();
    whole["generation_counts"] = json!(facts.counts());
    whole["trial"] = json!(facts.tried);
    whole["timings_ms"] = json!(timings);
    Ok(whole)
}

async fn events(host: Host, _: Nothing) -> Result<Value, Failure> {
    let subscribers = host.inner().router.subscribers();
    let mut events: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for Subscriber { pattern, handler, priority } in subscribers.iter() {
        let (module, handler) = (handler.owner(), &*handler.handler);
        let handler = json!({ "module": module, "handler": handler, "priority": priority });
        events.entry(pattern.to_string()).or_default().push(handler);
    }
    let events: Map<String, Value> =
        events.into_iter().map(|(event, handlers)| (event, handlers.into())).collect();
    Ok(json!({ "events": events }))
}

#[derive(Deserialize)]
struct Load {
    path: PathBuf,
}

async fn load_file(host: Host, ask: Load) -> Result<Value, Failure> {
    done("loaded", host.inner().supervisor.load(&ask.path).await)
}

async fn reload(host: Host, ask: Named) -> Result<Value, Failure> {
    let (config, deployed) = host.reload_with_its_config(&ask.module_name).await;
    let mut done = done("reloaded", deployed)?;
    match config {
        Reread::AsBefore => {}
        Reread::Changed => done["config"] = "changed".into(),
        Reread::Invalid(error) => {
            done["config"] = "as_before".into();
            done["config_error"] = with_causes(&error).to_string().into();
        }
    }
    Ok(done)
}

async fn unload(host: Host, ask: Named) -> Result<Value, Failure> {
    let mut done = done("unloaded", host.inner().supervisor.unload(&ask.module_name).await)?;
    let (file, too_many) = {
        let registry = host.inner().supervisor.registry();
        let plugin = registry.plugins.get(&*ask.module_name);
        (plugin.map(|plugin| plugin.facts.file.clone()), registry.too_many(&ask.module_name))
    };
    // Whoever unloads a plugin to load it again is told that before he tries.
    if let Some(count) = too_many {
        done["still_in_memory"] = count.into();
    }
    // Nothing remembers that it was unloaded: what lies in a folder is what there is to be.
    if let Some(file) = file.filter(|file| is_in_a_folder(&host, file)) {
        done["stays_in_folder"] = shown(&file).into();
    }
    Ok(done)
}

/// Whether a host that starts finds this file.
fn is_in_a_folder(host: &Host, file: &Path) -> bool {
    let folder = file.parent().and_then(|folder| folder.canonicalize().ok());
    let mut folders = host.inner().config.plugin_dirs.iter();
    file.exists() && folders.any(|known| known.canonicalize().ok() == folder)
}

#[derive(Deserialize)]
struct Back {
    module_name: String,
    #[serde(default)]
    force: bool,
}

async fn rollback(host: Host, ask: Back) -> Result<Value, Failure> {
    done("rolled_back", host.inner().supervisor.rollback(&ask.module_name, ask.force).await)
}

fn done(status: &str, deployed: Result<Deployed, DeployError>) -> Result<Value, Failure> {
    let Deployed { plugin, version, generation, aside, lost } = deployed.map_err(failure)?;
    let mut done =
        json!({ "status": status, "name": *plugin, "version": version, "generation": generation });
    if let Some(lost) = lost {
        let (aside, not_aside) = told_aside(aside);
        done["cost"] = lost.to_string().into();
        done["lost"] = json!(lost);
        done["kept_aside"] = aside;
        done["not_kept_aside"] = not_aside;
    }
    Ok(done)
}

/// What people call the snapshot of what was given up, and why there is none.
pub(super) fn told_aside(aside: Option<Aside>) -> (Value, Value) {
    match aside {
        Some(Ok(which)) => (which.into(), Value::Null),
        Some(Err(reason)) => (Value::Null, reason.into()),
        None => (Value::Null, Value::Null),
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
