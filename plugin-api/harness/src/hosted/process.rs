//! The host's process, and the folder that it has.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use ksi_plugin_api::{Error, Result};
use serde_json::{Value, json};

use super::connection::Connection;

/// How long a host may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long it may take to stop, before it is killed.
const STOPPED_WITHIN: Duration = Duration::from_secs(10);

/// What the host has, in a folder that goes with it.
pub(super) struct Files {
    folder: tempfile::TempDir,
    /// The plugin's library, where the host finds it.
    pub(super) library: PathBuf,
    pub(super) socket: PathBuf,
}

impl Files {
    /// Lays out a folder with these libraries and the configuration of one plugin.
    pub(super) fn new(
        plugin: &str,
        config: Option<Value>,
        library: &Path,
        beside: &[PathBuf],
    ) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("ksi-hosted-").tempdir()?;
        let plugins = folder.path().join("plugins");
        for own in [&plugins, &folder.path().join("tmp")] {
            fs::create_dir(own)?;
        }
        let put = |file: &Path| {
            let name = file.file_name().ok_or_else(|| not_there(file, "it names no file"))?;
            let place = plugins.join(name);
            fs::copy(file, &place).map_err(|error| not_there(file, error))?;
            Ok::<_, Error>(place)
        };
        beside.iter().try_for_each(|file| put(file).map(drop))?;
        let library = put(library)?;
        let tables =
            BTreeMap::from([("plugin", config.map(|config| BTreeMap::from([(plugin, config)])))]);
        let text = toml::to_string(&tables).map_err(|error| {
            Error::new("invalid_config", format_args!("it is nothing that TOML can say: {error}"))
        })?;
        fs::write(folder.path().join("ksi.toml"), text)?;
        let socket = folder.path().join("s");
        Ok(Files { folder, library, socket })
    }
}

/// A host that runs. It is stopped when this is dropped.
pub(super) struct HostProcess {
    process: Child,
    files: Files,
}

impl HostProcess {
    /// Starts it, and waits until it is ready.
    pub(super) fn start(files: Files) -> Result<Self> {
        let ksi = executable()?;
        let folder = files.folder.path();
        let mut command = Command::new(&ksi);
        command.args(["run", "--no-state", "--plugins"]).arg(folder.join("plugins"));
        command.arg("--socket").arg(&files.socket).arg("--config").arg(folder.join("ksi.toml"));
        command.env("TMPDIR", folder.join("tmp")).current_dir(folder).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(fs::File::create(folder.join("log"))?);
        let mut process = command.spawn().map_err(|error| {
            no_host(format_args!("{} cannot be started: {error}", ksi.display()))
        })?;
        let printed = process.stdout.take();
        let host = HostProcess { process, files };
        let (told, ready) = mpsc::channel();
        // Reads on, so that the host never writes into a pipe that nobody has.
        thread::spawn(move || {
            for line in printed.into_iter().flat_map(|printed| BufReader::new(printed).lines()) {
                let _ = told.send(line);
            }
        });
        match ready.recv_timeout(READY_WITHIN) {
            Ok(Ok(line)) if line.starts_with("ready ") => Ok(host),
            _ => Err(no_host(format_args!(
                "{} did not become ready; it has logged:\n{}",
                ksi.display(),
                host.log()
            ))),
        }
    }

    pub(super) fn files(&self) -> &Files {
        &self.files
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.files.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for HostProcess {
    fn drop(&mut self) {
        // In order, so that the plugin gets its `module:shutdown`; whatever fails, it is killed.
        let asked = Connection::to(&self.files.socket)
            .and_then(|mut host| host.ask::<Value>("system:shutdown_request", &json!({})));
        let until = Instant::now() + if asked.is_ok() { STOPPED_WITHIN } else { Duration::ZERO };
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The `ksi` that is to be run.
fn executable() -> Result<PathBuf> {
    if let Some(named) = env::var_os("KSI").filter(|named| !named.is_empty()) {
        return Ok(named.into());
    }
    let folders = env::var_os("PATH").unwrap_or_default();
    let mut files = env::split_paths(&folders).map(|folder| folder.join("ksi"));
    files.find(|file| file.is_file()).ok_or_else(|| {
        no_host(
            "there is no `ksi` on the path: install it, or say where it is by the environment variable KSI",
        )
    })
}

fn no_host(why: impl std::fmt::Display) -> Error {
    Error::new("no_host", why)
}

fn not_there(file: &Path, why: impl std::fmt::Display) -> Error {
    Error::new("no_library", format_args!("{}: {why}", file.display()))
}
