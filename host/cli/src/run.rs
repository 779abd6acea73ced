//! `ksi run`: a host on folders of plugins, until it is told to stop.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ksi_host::{
    ChildEntry, ClaimedSocket, Config, Environment, Host, LockHolder, LogLevels, Origin,
    SocketError, SocketPath, StopHandle, StopStage, StoredDescriptor,
};
use tokio::sync::Notify;

use super::args::{Common, Run};
use super::exit::CommandFailure;
use super::logging::Logging;
use super::pid_file::PidFile;
use super::service::{Given, GivenSocket, ServiceManager};
use super::state_folder::{self, Home};
use super::{logging, signals};

/// Where plugins are when nobody says where.
const DEFAULT_FOLDER: &str = "ksi-plugins";

/// How a service manager shows a host that is well.
const READY: &str = "ready";

/// Threads beside the runtime's: for signals, and for the line that the host is ready.
const OTHER_THREADS: usize = 2;

/// How long threads that never came back may hold up the end of the process.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// Where clients find a host.
pub(crate) enum Socket {
    /// It is to be taken.
    Path(SocketPath),
    /// Whoever has started this process has bound it.
    Given(GivenSocket),
}

impl Socket {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Socket::Path(path) => path.path(),
            Socket::Given(given) => &given.path,
        }
    }

    /// Looks whether a host can have this socket, before work is put into one. That two hosts
    /// cannot win it at once is seen to where it is bound.
    pub(crate) fn look(&self) -> Result<(), CommandFailure> {
        let Socket::Path(socket) = self else { return Ok(()) };
        socket.prepare()?;
        match UnixStream::connect(socket.path()) {
            Ok(_) => {
                let path = socket.path().to_owned();
                // Who was forked from a host has the socket as well, and answers nobody.
                let holder = LockHolder::of(&LockHolder::file_beside(&path));
                Err(match holder {
                    Some(holder) if holder.is_left_behind() => {
                        CommandFailure::LeftBehind { path, holder }
                    }
                    holder => CommandFailure::AlreadyRunning { path, holder },
                })
            }
            Err(_) => Ok(()),
        }
    }

    fn claim(self) -> Result<ClaimedSocket, SocketError> {
        match self {
            Socket::Path(path) => ClaimedSocket::take(path.path()),
            Socket::Given(GivenSocket { listener, .. }) => ClaimedSocket::given(listener),
        }
    }
}

/// The configuration file that a host is started with.
pub(crate) struct Held {
    pub(crate) path: PathBuf,
    /// What it says.
    pub(crate) held: Config,
    /// Whether it is read again when it has changed.
    pub(crate) follow: bool,
}

/// What SIGHUP asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HangUp {
    Stop,
    /// To read the configuration file again.
    Reload,
}

impl HangUp {
    /// A service manager sends it for a reload. Where there is a terminal, it tells that this is
    /// gone, and without a file there is nothing to read.
    fn of_service(has_file: bool) -> Self {
        let on_terminal = io::stdin().is_terminal() || io::stderr().is_terminal();
        match has_file && !on_terminal {
            true => HangUp::Reload,
            false => HangUp::Stop,
        }
    }
}

pub(crate) fn run(
    entry: ChildEntry,
    common: &Common,
    args: Run,
    given: Given,
    log: &Logging,
) -> Result<(), CommandFailure> {
    let mut config = common.configuration()?;
    log.settle(&config.log);
    let follow = !args.no_follow_config;
    let held = common.held(&config).map(|(path, held)| Held { path, held, follow });
    let hang_up = HangUp::of_service(held.is_some());
    let Given { socket: given, stored } = given;
    let socket = match given {
        Some(given) => Socket::Given(given),
        None => Socket::Path(common.socket_path(&config)),
    };
    socket.look()?;
    note_socket(&mut config, &socket, common);
    let default = Home::of_process().folder_for(socket.path())?;
    state_folder::settle(&mut config, args.kept_state, default)?;
    state_folder::settle_recovery(&mut config, socket.path());
    for plugin in &args.isolate {
        let refused = |problem| CommandFailure::Usage(format!("--isolate {plugin}: {problem}"));
        config.isolation.isolate(plugin).map_err(refused)?;
        let key = match plugin.as_str() {
            "all" => "isolation.default".to_owned(),
            plugin => format!("isolation.plugins.{plugin}.mode"),
        };
        config.said_by(&key, option("--isolate"));
    }
    if args.pid_file.is_some() {
        config.said_by("host.pid_file", option("--pid-file"));
        config.pid_file = args.pid_file;
    }
    if !args.plugins.is_empty() {
        config.said_by("host.plugin_dirs", option("--plugins"));
        config.plugin_dirs = args.plugins;
    }
    if config.plugin_dirs.is_empty() {
        std::fs::create_dir_all(DEFAULT_FOLDER).map_err(CommandFailure::host(
            "cannot make the folder ./ksi-plugins; name another with --plugins",
        ))?;
        config.said_by("host.plugin_dirs", Origin::Default);
        config.plugin_dirs = vec![DEFAULT_FOLDER.into()];
    }
    serve(entry, config, held, (socket, stored), hang_up, log)
}

/// Notes which socket it is, and who has said so, for whoever asks for the settings.
fn note_socket(config: &mut Config, socket: &Socket, common: &Common) {
    let environment = Environment::of_process();
    let is_set = |variable: &Option<OsString>| variable.as_ref().is_some_and(|it| !it.is_empty());
    let variable = |name: &str| Origin::Environment { variable: name.to_owned() };
    let said = match socket {
        Socket::Given(_) => Some(variable("LISTEN_FDS")),
        Socket::Path(_) if common.socket.is_some() => Some(option("--socket")),
        Socket::Path(_) if is_set(&environment.ksi_socket) => Some(variable("KSI_SOCKET")),
        Socket::Path(_) if config.socket.is_some() => None,
        Socket::Path(_) if is_set(&environment.xdg_runtime_dir) => {
            Some(variable("XDG_RUNTIME_DIR"))
        }
        Socket::Path(_) => Some(Origin::Default),
    };
    config.socket = Some(socket.path().to_owned());
    said.into_iter().for_each(|said| config.said_by("host.socket", said));
}

fn option(name: &str) -> Origin {
    Origin::CommandLine { option: name.to_owned() }
}

/// Runs a host until a signal or a client stops it.
pub(crate) fn serve(
    entry: ChildEntry,
    config: Config,
    held: Option<Held>,
    (socket, stored): (Socket, Vec<StoredDescriptor>),
    hang_up: HangUp,
    log: &Logging,
) -> Result<(), CommandFailure> {
    socket.look()?;
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    // It panics if it gets no threads.
    ksi_host::check_threads(workers + OTHER_THREADS)
        .map_err(CommandFailure::host("cannot start the host's threads"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .thread_name("ksi-host")
        .build()
        .map_err(CommandFailure::host("cannot start the host's threads"))?;
    let last_words = ksi_host::last_words()
        .map_err(CommandFailure::host("cannot listen for the signals that a process dies of"))?;
    let until = until_stopped(entry, config, held, (socket, stored), hang_up, &log.levels);
    let ended = runtime.block_on(until);
    runtime.shutdown_timeout(LAST_WAIT);
    drop(last_words);
    ended
}

async fn until_stopped(
    entry: ChildEntry,
    config: Config,
    held: Option<Held>,
    (socket, stored): (Socket, Vec<StoredDescriptor>),
    hang_up: HangUp,
    levels: &LogLevels,
) -> Result<(), CommandFailure> {
    let (stop, reload) = (StopHandle::new(), Arc::new(Notify::new()));
    let reloads = (hang_up == HangUp::Reload).then(|| reload.clone());
    signals::listen(stop.clone(), reloads)
        .map_err(CommandFailure::host("cannot listen for signals"))?;
    let manager = ServiceManager::of_process();
    manager.status("loading plugins");
    let (folders, pid_file) = (config.plugin_dirs.clone(), config.pid_file.clone());
    // Of two hosts, the second finds out before it loads anything.
    let socket =
        socket.claim().map_err(CommandFailure::host("the host cannot open its control socket"))?;
    let pid_file = pid_file.map(PidFile::write).transpose();
    let pid_file = pid_file
        .map_err(CommandFailure::host("the file for the process's number cannot be written"))?;
    let mut host = Host::builder(entry).config(config).log_levels(levels).stopped_by(&stop);
    if let Some(Held { path, held, follow }) = held {
        host = host.config_file(path, held);
        if follow {
            host = host.follow_config_file();
        }
    }
    if let Some(store) = manager.descriptor_store() {
        host = host.descriptor_store(store, stored);
    }
    let starting = host.prepare().map_err(CommandFailure::host("the host cannot start"))?;
    // Clients can ask how far it is, and stop it, whatever a plugin does meanwhile.
    let control = starting.serve_on(socket);
    let host = starting.load().await;
    // One that was asked to stop meanwhile is not ready.
    if stop.stage() == StopStage::Running {
        announce(control.path(), &folders);
        manager.ready(READY);
    }
    let served = async {
        until_asked_to_stop(&host, &reload, &manager).await;
        manager.stopping();
        host.shutdown().await;
    };
    tokio::select! {
        () = served => {}
        () = manager.keep_watched(&host) => {}
        () = kept(pid_file.as_ref()) => {}
    }
    // Clients watch the host go down over the socket, and `ksi stop` takes its end for the host's.
    control.close().await;
    let unkept = host.unkept_state().into_iter().map(|it| (it.plugin, it.reason));
    match unkept.collect::<Vec<_>>() {
        all_well if all_well.is_empty() => Ok(()),
        unkept => Err(CommandFailure::StateNotKept(unkept)),
    }
}

/// Reads the configuration again whenever somebody asks for it.
async fn until_asked_to_stop(host: &Host, reload: &Notify, manager: &ServiceManager) {
    loop {
        tokio::select! {
            biased;
            () = host.wait_stopped() => return,
            () = reload.notified() => {}
        }
        manager.reloading();
        let status = tokio::select! {
            biased;
            () = host.wait_stopped() => return,
            // What became of it is in the log.
            reloaded = host.reload_config() => match reloaded {
                Ok(_) => READY,
                Err(_) => "ready, with the configuration before: the file cannot be used; see the log",
            },
        };
        manager.ready(status);
    }
}

async fn kept(pid_file: Option<&PidFile>) {
    match pid_file {
        Some(pid_file) => pid_file.keep().await,
        None => std::future::pending().await,
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
