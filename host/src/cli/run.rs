//! `ksi run`: a host on folders of plugins, until it is told to stop.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ksi_host::{ClaimedSocket, Config, Host, SocketPath, StopHandle, StopStage};

use super::args::{Common, Run};
use super::exit::Failure;
use super::state_folder::{self, Home};
use super::{logging, signals};

/// Where plugins are when nobody says where.
const DEFAULT_FOLDER: &str = "ksi-plugins";

/// How long threads that never came back may hold up the end of the process.
const LAST_WAIT: Duration = Duration::from_secs(1);

pub(crate) fn run(common: &Common, args: Run) -> Result<(), Failure> {
    let mut config = common.configuration()?;
    let held = common.held(&config);
    let socket = common.socket_path(&config);
    claim(&socket)?;
    let default = Home::of_process().folder_for(socket.path())?;
    state_folder::settle(&mut config, args.kept_state, default)?;
    state_folder::settle_recovery(&mut config, socket.path());
    if !args.plugins.is_empty() {
        config.plugin_dirs = args.plugins;
    }
    if config.plugin_dirs.is_empty() {
        std::fs::create_dir_all(DEFAULT_FOLDER).map_err(Failure::host(
            "cannot make the folder ./ksi-plugins; name another with --plugins",
        ))?;
        config.plugin_dirs = vec![DEFAULT_FOLDER.into()];
    }
    for folder in config.plugin_dirs.iter().filter(|folder| !folder.is_dir()) {
        tracing::warn!("the plugin folder {} is not there yet: waiting for it", folder.display());
    }
    serve(config, held, &socket)
}

/// Looks whether a host can have this socket, before work is put into one. That two hosts cannot win it at once is seen
/// to where it is bound.
pub(crate) fn claim(socket: &SocketPath) -> Result<(), Failure> {
    socket.prepare()?;
    match UnixStream::connect(socket.path()) {
        Ok(_) => Err(Failure::AlreadyRunning(socket.path().to_owned())),
        Err(_) => Ok(()),
    }
}

/// Runs a host until a signal or a client stops it.
pub(crate) fn serve(
    config: Config,
    held: Option<(PathBuf, Config)>,
    socket: &SocketPath,
) -> Result<(), Failure> {
    claim(socket)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("ksi-host")
        .build()
        .map_err(Failure::host("cannot start the host's threads"))?;
    let last_words = ksi_host::last_words()
        .map_err(Failure::host("cannot listen for the signals that a process dies of"))?;
    let ended = runtime.block_on(until_stopped(config, held, socket.path().to_owned()));
    runtime.shutdown_timeout(LAST_WAIT);
    drop(last_words);
    ended
}

async fn until_stopped(
    config: Config,
    held: Option<(PathBuf, Config)>,
    socket: PathBuf,
) -> Result<(), Failure> {
    let stop = StopHandle::new();
    signals::listen(stop.clone()).map_err(Failure::host("cannot listen for signals"))?;
    let folders = config.plugin_dirs.clone();
    // Of two hosts, the second finds out before it loads anything. Clients wait until plugins have started.
    let socket = ClaimedSocket::take(socket)
        .map_err(Failure::host("the host cannot open its control socket"))?;
    let mut host = Host::builder().config(config).stopped_by(&stop);
    if let Some((file, held)) = held {
        host = host.config_file(file, held);
    }
    let host = host.start().await;
    let host = host.map_err(Failure::host("the host cannot start"))?;
    let control = host.serve_on(socket);
    // One that was asked to stop meanwhile is not ready.
    if stop.stage() == StopStage::Running {
        announce(control.path(), &folders);
    }
    host.wait_stopped().await;
    host.shutdown().await;
    // Clients watch the host go down over the socket, and `ksi stop` takes its end for the host's.
    control.close().await;
    let unkept = host.unkept_state().into_iter().map(|it| (it.plugin, it.reason));
    match unkept.collect::<Vec<_>>() {
        all_well if all_well.is_empty() => Ok(()),
        unkept => Err(Failure::StateNotKept(unkept)),
    }
}

/// The line that scripts wait for.
fn announce(socket: &Path, folders: &[PathBuf]) {
    let folders: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
    logging::announce(format!(
        "ready on {}, with plugins from {}",
        socket.display(),
        folders.join(", ")
    ));
}
