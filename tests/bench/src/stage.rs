//! A host with its plugins, and what is asked of it.

use std::path::{Path, PathBuf};

use ksi_bench_events::{Ran, Run};
use ksi_host::{ChildEntry, Config, Host, NewEvent, Payload, Report};
use ksi_wire::module::{List, Load, ModuleState};
use serde::{
    Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::json;

use crate::{
    builds::Builds,
    error::BenchError,
    library::Library,
    series::{Measure, measure},
};

/// One host, in this process.
pub(crate) struct Stage {
    pub(crate) host: Host,
    dir: tempfile::TempDir,
}

impl Stage {
    /// A host with the emitting plugin, the one with the handlers, which has events with up to so
    /// many, and so many others.
    ///
    /// # Errors
    /// It does not start, or a plugin is not live.
    pub(crate) async fn start(
        builds: &Builds,
        fan_out: u32,
        others: usize,
    ) -> Result<Self, BenchError> {
        let dir = folder()?;
        let plugins = dir.path().join("plugins");
        std::fs::create_dir(&plugins).map_err(BenchError::Folder)?;
        builds.emitter.write(&plugins.join("emitter.so"))?;
        builds.handlers.write(&plugins.join("handlers.so"))?;
        write_small(&builds.small, &plugins, others)?;
        let mut config = config(fan_out);
        config.plugin_dirs = vec![plugins];
        let host = Host::builder(builds.entry).config(config).start().await?;
        all_live(&host, others + 2).await?;
        Ok(Stage { host, dir })
    }

    /// The same with the handlers in a process of their own.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub(crate) async fn with_isolated_handlers(builds: &Builds) -> Result<Self, BenchError> {
        let dir = folder()?;
        let plugins = dir.path().join("plugins");
        std::fs::create_dir(&plugins).map_err(BenchError::Folder)?;
        builds.emitter.write(&plugins.join("emitter.so"))?;
        builds.handlers.write(&plugins.join("handlers.so"))?;
        let mut config = config(1);
        config.isolation.isolate("bench-handlers")?;
        config.plugin_dirs = vec![plugins];
        let host = Host::builder(builds.entry).config(config).start().await?;
        all_live(&host, 2).await?;
        Ok(Stage { host, dir })
    }

    /// A host with the plugin that keeps state alone, in a process of its own or not.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub(crate) async fn with_state(builds: &Builds, isolated: bool) -> Result<Self, BenchError> {
        let dir = folder()?;
        let plugins = dir.path().join("plugins");
        std::fs::create_dir(&plugins).map_err(BenchError::Folder)?;
        builds.state.write(&plugins.join("state.so"))?;
        let mut config = Config::default();
        if isolated {
            config.isolation.isolate("state")?;
        }
        config.plugin_dirs = vec![plugins];
        let host = Host::builder(builds.entry).config(config).start().await?;
        all_live(&host, 1).await?;
        Ok(Stage { host, dir })
    }

    /// A host with this module of Python alone.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub(crate) async fn with_module(
        builds: &Builds,
        file: &str,
        text: &str,
    ) -> Result<Self, BenchError> {
        let dir = folder()?;
        let plugins = dir.path().join("plugins");
        std::fs::create_dir(&plugins).map_err(BenchError::Folder)?;
        std::fs::write(plugins.join(file), text).map_err(BenchError::Folder)?;
        let mut config = config(1);
        config.plugin_dirs = vec![plugins];
        let host = Host::builder(builds.entry).config(config).start().await?;
        all_live(&host, 1).await?;
        Ok(Stage { host, dir })
    }

    /// The folder that it watches.
    pub(crate) fn plugins(&self) -> PathBuf {
        self.dir.path().join("plugins")
    }

    /// A host with the two plugins of these files, one loaded after the other: valgrind 3.19 fails
    /// when libraries are mapped and unmapped at the same time.
    ///
    /// # Errors
    /// It does not start, or a plugin is not live.
    pub(crate) async fn one_by_one(
        files: [&Path; 2],
        fan_out: u32,
        probe: &Path,
    ) -> Result<Self, BenchError> {
        let dir = folder()?;
        let host = Host::builder(ChildEntry::none())
            .config(config(fan_out))
            .probe_with(probe)
            .start()
            .await?;
        for path in files {
            let load = Load { path: path.to_owned(), with: Vec::new() };
            let _: IgnoredAny = ask(&host, "module:load", &load).await?;
        }
        all_live(&host, files.len()).await?;
        Ok(Stage { host, dir })
    }

    /// Where its socket may be.
    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Has the plugin emit.
    ///
    /// # Errors
    /// It cannot, or a reply is wrong.
    pub(crate) async fn run(&self, run: &Run) -> Result<Ran, BenchError> {
        let ran: Ran = ask(&self.host, "bench:run", run).await?;
        match ran.nanos_a_round(run.handlers()) {
            Some(_) => Ok(ran),
            None => Err(BenchError::Wrong(format!("{run:?} came to {ran:?}"))),
        }
    }

    /// Nanoseconds an emit from inside the plugin, as often as they are measured.
    pub(crate) fn inside(&self, run: Run) -> Measure<'_> {
        measure(move || async move {
            let ran = self.run(&run).await?;
            ran.nanos_a_round(run.handlers()).ok_or_else(|| BenchError::Wrong(format!("{run:?}")))
        })
    }

    /// Stops the host.
    pub(crate) async fn stop(self) {
        self.host.shutdown().await;
    }
}

fn folder() -> Result<tempfile::TempDir, BenchError> {
    tempfile::Builder::new().prefix("ksi-bench-").tempdir().map_err(BenchError::Folder)
}

fn config(fan_out: u32) -> Config {
    let mut config = Config::default();
    config.limits.subscriptions = 8_192;
    config.plugins.insert("bench-handlers".to_owned(), json!({ "fan_out": fan_out }));
    config
}

/// Writes so many plugins, all of the same code.
///
/// # Errors
/// A file cannot be written.
pub(crate) fn write_small(small: &Library, folder: &Path, count: usize) -> Result<(), BenchError> {
    (0..count).try_for_each(|number| {
        let name = format!("p{number:04}");
        small.renamed("hello", &name)?.write(&folder.join(format!("{name}.so")))
    })
}

/// # Errors
/// Not so many plugins are live.
pub(crate) async fn all_live(host: &Host, wanted: usize) -> Result<(), BenchError> {
    let List { modules, .. } = ask::<List>(host, "module:list", &json!({})).await?;
    let live = modules.iter().filter(|module| module.state == ModuleState::Live).count();
    if live == wanted {
        return Ok(());
    }
    let errors: Vec<_> =
        modules.into_iter().filter_map(|module| module.last_error).take(3).collect();
    Err(BenchError::NotLive { wanted, live, errors: errors.join("; ") })
}

/// The one reply to an event.
///
/// # Errors
/// There is none, or more than one.
pub(crate) async fn ask<R: DeserializeOwned>(
    host: &Host,
    event: &str,
    data: &impl Serialize,
) -> Result<R, BenchError> {
    let report = host.emit(NewEvent::new(event, Payload::encode(data)?)?).await;
    only(&report).map_err(|problem| BenchError::Event { event: event.to_owned(), problem })
}

fn only<R: DeserializeOwned>(report: &Report) -> Result<R, String> {
    if let Some(failed) = report.error() {
        return Err(format!("{}: {}", failed.result.code(), failed.result.message()));
    }
    let mut replies = report.replies();
    match (replies.next(), replies.next()) {
        (Some(reply), None) => reply.decode().map_err(|error| error.to_string()),
        _ => Err("it has no reply, or more than one".to_owned()),
    }
}
