//! `module:*`: the plugins, in KSI's word for them.

mod exchanges;
mod lately;
mod overview;
mod schemas;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use ksi_kernel::{call::tally::Counts, router::host_handler::Failure};
use ksi_wire::module::{
    AskHistory, Changed, CheckedFiles, ConfigTaken, Entry, Events, Handler, History, HistoryBy,
    Inspect, KeptResource, List, Load, Lost, Named, Rollback, Subscriber, Trial,
};
use serde_json::Value;

use self::{
    lately::AllLately,
    overview::{overview, refused_file},
};
use super::{Nothing, counts, handle, handle_change, sorted};
use crate::{
    catalog::{self, Described},
    core::{Core, settings::Reread},
    plugin::{
        announce::{shown, shown_timings},
        instance::info::{GenerationInfo, Tried},
        lifecycle::error::DeployError,
        supervisor::{Deployed, SetAsideResult},
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
    let schemas = Described::new("module:schemas", "What events carry, by JSON Schema.").takes(
        "event",
        "str",
        false,
        "Of this event alone",
    );
    handle(core, schemas, schemas::schemas);
    let load =
        Described::new("module:load", "Loads a plugin file, or replaces the plugin that it is.")
            .takes("path", "str", true, "The file")
            .takes(
                "with",
                "list",
                false,
                "Further files, all of which go live by one swap, or none does",
            );
    handle_change(core, load, load_file);
    let check =
        Described::new("module:check", "What would become of a plugin file, if it were loaded.")
            .takes("path", "str", true, "The file")
            .takes("with", "list", false, "Further files, which would go live by the same swap");
    handle_change(core, check, check_files);
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
    let history = Described::new(
        "module:history",
        "What has become of plugins, the newest last, over restarts of the host.",
    );
    let history = history
        .takes("module_name", "str", false, "Only of this plugin, or of this file")
        .takes(
            "kinds",
            "list",
            false,
            "Only of these: \"live\", \"refused\", \"rolled_back\" and so on",
        )
        .takes("since", "float", false, "None from before that, in seconds since 1970")
        .takes("limit", "int", false, "How many at the most; 100 if it is not said");
    handle(core, history, what_has_become);
}

async fn list(core: Arc<Core>, _: Nothing) -> Result<List<Entry>, Failure> {
    let registry = core.supervisor.registry();
    let plugins = registry.plugins.iter();
    let lately = AllLately::of(&core, &registry);
    let plugins = plugins.map(|(name, plugin)| overview(&lately, &core, &registry, name, plugin));
    let mut modules: Vec<Entry> = plugins.map(|it| Entry::Plugin(Box::new(it))).collect();
    let refused = registry.refused.iter();
    modules.extend(
        refused.map(|(file, why)| Entry::File(Box::new(refused_file(&registry, file, why)))),
    );
    drop(registry);
    Ok(List { count: modules.len(), modules })
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
        overview: overview(&AllLately::of(&core, &registry), &core, &registry, name, plugin),
        background_tasks: session.map(|session| session.task_count()),
        emits: info.manifest.emits.clone(),
        emits_schemas: emits_schemas(info),
        exchanges: exchanges::exchanges(&core.router.subscribers(), &registry, name),
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

async fn load_file(core: Arc<Core>, by: HistoryBy, ask: Load) -> Result<Changed, Failure> {
    let Load { path, with } = ask;
    if with.is_empty() {
        return done("loaded", core.supervisor.load(&path, &by).await);
    }
    let files: Vec<PathBuf> = [path].into_iter().chain(with).collect();
    let all = core.supervisor.load_together(&files, &by).await.map_err(failure)?;
    let mut all = all.into_iter().map(|deployed| done("loaded", Ok(deployed)));
    let first = all.next().transpose()?.unwrap_or_default();
    Ok(Changed { with: all.collect::<Result<_, _>>()?, ..first })
}

async fn check_files(core: Arc<Core>, _: HistoryBy, ask: Load) -> Result<CheckedFiles, Failure> {
    let files = [ask.path].into_iter().chain(ask.with).collect();
    let checked = core.supervisor.check_beside_live(files).await.map_err(failure)?;
    Ok(checked.into_iter().collect())
}

async fn reload(core: Arc<Core>, by: HistoryBy, ask: Named) -> Result<Changed, Failure> {
    let (config, deployed) = core.reload_with_its_config(&ask.module_name, &by).await;
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

async fn unload(core: Arc<Core>, by: HistoryBy, ask: Named) -> Result<Changed, Failure> {
    let mut done = done("unloaded", core.supervisor.unload(&ask.module_name, &by).await)?;
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

async fn what_has_become(core: Arc<Core>, ask: AskHistory) -> Result<History, Failure> {
    Ok(core.history.newest(&ask))
}

async fn rollback(core: Arc<Core>, by: HistoryBy, ask: Rollback) -> Result<Changed, Failure> {
    done("rolled_back", core.supervisor.rollback(&ask.module_name, ask.force, &by).await)
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
    Failure::new(error.code(), with_causes(&error))
}
