//! `ksi dev`: from saved source to a live plugin.
//!
//! Packages are found, built by cargo and dropped into a folder that an ordinary host watches. From
//! there on it is the host that replaces plugins and says so; nothing here knows that one is
//! running.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use ksi_host::{ChildEntry, UntrustedPlugins};

use super::args::{Common, Dev};
use super::exit::CommandFailure;
use super::logging::Logging;
use super::run::{self, HangUp, Socket};
use super::state_folder::{self, Home};
use build::Cargo;
use drop_folder::DropFolder;
use packages::{NoLibrary, Workspace, discover};
use sources::Sources;

mod build;
mod drop_folder;
mod packages;
mod sources;

pub(crate) fn dev(
    entry: ChildEntry,
    common: &Common,
    args: Dev,
    log: &Logging,
) -> Result<(), CommandFailure> {
    let mut config = common.configuration()?;
    log.settle(&config.log);
    let held = common.held(&config).map(|(path, held)| run::Held { path, held, follow: true });
    let socket = Socket::Path(common.socket_path(&config));
    socket.look()?;
    let workspaces = discover(&args.paths)?;
    let (drop_folder, state) = match args.plugins {
        Some(folder) => {
            (DropFolder::shared(folder)?, Home::of_process().folder_for(socket.path())?)
        }
        None => {
            let ours = workspaces[0].target.join("ksi");
            (DropFolder::own(ours.join("plugins"), &workspaces)?, Some(ours.join("state")))
        }
    };
    state_folder::settle(&mut config, args.kept_state, state)?;
    state_folder::settle_recovery(&mut config, socket.path());
    // Whoever develops in a container is its superuser, on files of the user outside.
    config.untrusted_plugins.get_or_insert(UntrustedPlugins::Warn);
    config.plugin_dirs.insert(0, drop_folder.path().to_owned());

    tell_overlooked(&workspaces);

    // Watched before the first build, so that what is saved during it counts.
    let sources = Sources::watch(&workspaces)?;
    let cargo = Arc::new(Cargo::new(args.release));
    let mut workshop = Workshop { paths: args.paths, workspaces, sources, cargo, drop_folder };
    let cargo = workshop.cargo.clone();
    workshop.build();
    std::thread::Builder::new()
        .name("ksi-dev".into())
        .spawn(move || workshop.follow())
        .map_err(CommandFailure::host("cannot start the thread that rebuilds"))?;
    let ended = run::serve(entry, config, held, (socket, Vec::new()), HangUp::Stop, log);
    cargo.stop();
    ended
}

/// Why plugins cannot be built from source here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DevError {
    #[error(
        "no plugin packages {place}: a plugin's Cargo.toml says `crate-type = [\"cdylib\"]` under [lib]{}",
        overlooked.iter().map(|it| format!("\n{it}")).collect::<String>()
    )]
    NoPackages { place: String, overlooked: Vec<NoLibrary> },
    #[error("cargo does not understand the packages in {}: {source}", folder.display())]
    Metadata { folder: PathBuf, source: Box<cargo_metadata::Error> },
    #[error("{} cannot be searched for packages: {source}", folder.display())]
    Search { folder: PathBuf, source: io::Error },
    #[error("the packages {first} and {second} both build {file}: rename the [lib] of one")]
    SameFile { first: String, second: String, file: String },
    #[error("cargo cannot be run: {source}; is it installed and on the PATH?")]
    Cargo { source: io::Error },
    #[error("{} cannot be put into place: {source}", path.display())]
    Drop { path: PathBuf, source: io::Error },
    #[error("{} cannot be taken out of its folder: {source}", path.display())]
    TakeOut { path: PathBuf, source: io::Error },
    #[error(
        "another `ksi dev` puts its plugins into {}: end it, or name another folder with --plugins",
        .0.display()
    )]
    InUse(PathBuf),
    #[error("changes in {} cannot be watched: {source}", folder.display())]
    Watch { folder: PathBuf, source: notify::Error },
}

impl From<DevError> for CommandFailure {
    fn from(error: DevError) -> Self {
        CommandFailure::Dev(Box::new(error))
    }
}

/// All that a rebuild takes.
struct Workshop {
    paths: Vec<PathBuf>,
    workspaces: Vec<Workspace>,
    sources: Sources,
    cargo: Arc<Cargo>,
    drop_folder: DropFolder,
}

impl Workshop {
    /// Rebuilds after every change, for as long as there is a host.
    fn follow(mut self) {
        while let Some(change) = self.sources.next_change() {
            if change.of_a_manifest {
                self.look_again();
            }
            self.build();
        }
    }

    /// Every workspace is built as a whole: with the same packages named each time, cargo unifies
    /// features the same way, and compiles nothing but what the change touches.
    fn build(&mut self) {
        for workspace in &self.workspaces {
            let mut missing: Vec<&str> =
                workspace.plugins.iter().map(|it| it.name.as_str()).collect();
            let mut anew = Vec::new();
            let built = self.cargo.build(workspace, |plugin, artifact| {
                missing.retain(|name| *name != plugin.name);
                match self.drop_folder.put(artifact) {
                    Ok(true) => anew.push(plugin.name.as_str()),
                    Ok(false) => (),
                    Err(error) => tracing::error!("{error}"),
                }
            });
            // What becomes of it is the host's to tell. Said now and not as it happened, which
            // would have been in the middle of a line of cargo's.
            if !anew.is_empty() {
                tracing::debug!("built anew and put into place: {}", anew.join(", "));
            }
            match built {
                Ok(()) if missing.is_empty() && anew.is_empty() => {
                    tracing::info!("built; nothing differs from what was built before");
                }
                Ok(()) if missing.is_empty() => (),
                Ok(()) => tracing::warn!(
                    "not built: {}; what was live before stays live",
                    missing.join(", ")
                ),
                Err(error) => tracing::error!("{error}"),
            }
        }
    }

    /// The plugins there are now. A path that is gone has none.
    fn packages(&self) -> Result<Vec<Workspace>, DevError> {
        let there: Vec<PathBuf> = self.paths.iter().filter(|path| path.exists()).cloned().collect();
        if there.is_empty() && !self.paths.is_empty() {
            let place = "any more: all paths are gone".to_owned();
            return Err(DevError::NoPackages { place, overlooked: Vec::new() });
        }
        discover(&there)
    }

    /// A Cargo.toml changed: packages and what they depend on may be others now. The plugin of a
    /// package that is gone, or that builds another file now, is taken out of the folder.
    fn look_again(&mut self) {
        let before = files(&self.workspaces);
        let watched = self.packages().or_else(|error| match error {
            DevError::NoPackages { .. } => {
                tracing::warn!("{error}");
                let without = |it: &Workspace| Workspace { plugins: Vec::new(), ..it.clone() };
                Ok(self.workspaces.iter().map(without).collect())
            }
            other => Err(other),
        });
        let watched = watched.and_then(|workspaces| {
            self.sources.follow(&workspaces)?;
            tell_overlooked(&workspaces);
            self.workspaces = workspaces;
            Ok(())
        });
        if let Err(error) = watched {
            tracing::warn!("going on with the packages known so far: {error}");
        }
        for file in before.difference(&files(&self.workspaces)) {
            match self.drop_folder.take_out(file) {
                Ok(true) => tracing::info!("no package builds {file} any more: taken out"),
                Ok(false) => {}
                Err(error) => tracing::error!("{error}"),
            }
        }
    }
}

/// The files of all plugins.
fn files(workspaces: &[Workspace]) -> BTreeSet<String> {
    workspaces.iter().flat_map(|it| &it.plugins).map(|plugin| plugin.file.clone()).collect()
}

/// Somebody who forgot a line would wait for the plugin in vain.
fn tell_overlooked(workspaces: &[Workspace]) {
    for overlooked in workspaces.iter().flat_map(|it| &it.overlooked) {
        tracing::warn!("{overlooked}");
    }
}
