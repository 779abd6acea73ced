//! The host of a run, in this process: its folders, its plugins, its socket.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ksi_host::{ChildEntry, Config, ControlSocket, Host, HostBuilder};
use ksi_wire::module::{Inspect, List, ModuleState, Named, Overview};
use serde_json::json;

use crate::{
    announced::Announced,
    builds::Builds,
    clients::{Stage, emit},
    drafts::Drafts,
    error::SoakError,
    gate::Gate,
    ledger::Ledger,
    library::Defect,
    roles::{ROLES, Role},
    wire::Whole,
};

/// How much `heavy` keeps.
const HEAVY: usize = 1 << 20;

/// A host with all plugins live.
pub(crate) struct Running {
    pub(crate) stage: Stage,
    pub(crate) announced: Announced,
    pub(crate) drafts: Arc<Drafts>,
    /// What each plugin keeps beside its counts: how many entries, of how many bytes, and a number
    /// for all of them.
    pub(crate) entries: [(usize, usize, u64); ROLES],
    control: ControlSocket,
    dir: tempfile::TempDir,
}

impl Running {
    /// # Errors
    /// The host does not start, or one of the plugins is not live.
    pub(crate) async fn start(
        entry: ChildEntry,
        builds: Builds,
        ledger: Arc<Ledger>,
        toml: &str,
        probe: Option<&Path>,
    ) -> Result<Self, SoakError> {
        let dir =
            tempfile::Builder::new().prefix("ksi-soak-").tempdir().map_err(SoakError::Folder)?;
        let folder = dir.path().join("plugins");
        let templates = dir.path().join("templates");
        for folder in [&folder, &templates] {
            std::fs::create_dir(folder).map_err(SoakError::Folder)?;
        }
        let first = Role::ALL.map(|role| ledger.versions.begin(role, Defect::None));
        let drafts = Arc::new(Drafts::new(templates, builds)?);
        for role in Role::ALL {
            let path = folder.join(role.file());
            let written = drafts.write(&path, (role, 0), first[role.index()], Defect::None);
            written.map_err(|source| SoakError::File { path, source })?;
        }
        let mut config = Config::from_toml(toml, dir.path())?;
        // Where `mapped_libraries` looks for them.
        config.private_dir = Some(std::env::temp_dir());
        let host = Host::builder(entry).config(config);
        let host = probe.into_iter().fold(host, HostBuilder::probe_with).start().await?;
        let announced = Announced::follow(&host, &ledger)?;
        let control = host.serve(dir.path().join("s")).await?;
        let stage = Stage { host, ledger, gate: Gate::new() };
        let entries = Default::default();
        let mut running = Running { stage, announced, drafts, entries, control, dir };
        running.all_live().await?;
        for role in Role::ALL {
            let whole = running.read(role).await;
            running.entries[role.index()] = whole.map(|it| it.entries()).unwrap_or_default();
        }
        Ok(running)
    }

    async fn all_live(&self) -> Result<(), SoakError> {
        let modules = self.modules().await;
        for role in Role::ALL {
            let module = modules.iter().find(|module| module.name == role.name());
            if module.is_none_or(|module| module.state != ModuleState::Live) {
                let errors = modules.into_iter().filter_map(|module| module.last_error);
                return Err(SoakError::NotLive(role.name(), errors.collect::<Vec<_>>().join("; ")));
            }
        }
        Ok(())
    }

    /// What the host lists.
    pub(crate) async fn modules(&self) -> Vec<Overview> {
        let report = emit(&self.stage.host, "module:list", &json!({})).await;
        let listed = report.replies().next().and_then(|reply| reply.decode::<List>().ok());
        listed.unwrap_or_default().modules
    }

    /// Everything that a plugin keeps.
    pub(crate) async fn read(&self, role: Role) -> Option<Whole> {
        let report = emit(&self.stage.host, &role.event("read"), &json!({})).await;
        report.replies().next().and_then(|reply| reply.decode().ok())
    }

    /// What the host says of a plugin in full.
    pub(crate) async fn inspect(&self, role: Role) -> Inspect {
        let ask = Named { module_name: role.name().to_owned() };
        let report = emit(&self.stage.host, "module:inspect", &ask).await;
        report.replies().next().and_then(|reply| reply.decode().ok()).unwrap_or_default()
    }

    /// The watched folder.
    pub(crate) fn folder(&self) -> PathBuf {
        self.dir.path().join("plugins")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    /// Stops the host; the folders go with it.
    pub(crate) async fn stop(self) {
        self.control.close().await;
        self.stage.host.shutdown().await;
    }
}

/// With kills, each of a plugin's processes is followed by another one at once, however many there
/// were, and the state is kept as closely as that goes.
///
/// Versions are on probation for a short time, and `tokio`, where calls fail on purpose, is judged
/// leniently. What does not initialize is not tried again: how often a bad file is refused must be
/// known.
pub(crate) fn toml(inside: &[u64], isolated: bool, killed: bool) -> String {
    let mode = if isolated { "process" } else { "none" };
    let kills = match killed {
        true => "checkpoint = \"on_change\"\nintensity = 1000\nperiod = \"1ms\"\n",
        false => "",
    };
    format!(
        "[host]\nplugin_dirs = [\"plugins\"]\n\n\
         [timeouts]\ndrain = \"10s\"\n\n\
         [reload]\nprobation = \"5s\"\n\n\
         [reload.plugins.tokio]\nmargin = 0.5\nmin_calls = 200\n\n\
         [recovery]\nattempts = 0\n\n\
         [state]\ndir = \"state\"\ninterval = \"2s\"\n\n\
         [isolation]\ndefault = \"{mode}\"\n{kills}\n\
         [plugin.heavy]\nentries_bytes = {HEAVY}\n\n\
         [plugin.other]\ninside = {inside:?}\n"
    )
}

/// The hidden name beside a file.
pub(crate) fn draft_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.draft"))
}

/// Waits until a question has the right answer; tells whether it had within the limit.
pub(crate) async fn until<F: Future<Output = bool>>(limit: Duration, ask: impl Fn() -> F) -> bool {
    let asked = async {
        while !ask().await {
            // A pause between two questions, so that the one who is asked gets the processor.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(limit, asked).await.is_ok()
}
