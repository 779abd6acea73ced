//! What the process of a plugin does: it says that it is there, limits itself, opens the library,
//! makes an instance, and runs its calls until the host says that it is over, or is gone.
//!
//! The plugin has the host that any plugin has ([`host`]), over the socket. It never knows that it
//! is in a process of its own.
//!
//! Promises that this process ends when the socket does, and that what it is asked is answered,
//! whatever a handler does ([`reader`]), as long as the plugin leaves its threads alone. Knows
//! nothing of the router, of other plugins, and of the host's own process.

mod asked;
mod calls;
mod event;
mod host;
mod job;
mod log;
mod outbox;
mod reader;
mod report;
mod tasks;
#[cfg(test)]
mod tests;
mod watches;

use std::{
    ffi::OsString,
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    path::PathBuf,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use ksi_abi::{CallEnd, Description, HostRef, ModuleRef};
use ksi_worker_protocol::{
    FromWorker, Inbox, Log, Payload, ProtocolError,
    life::{Hello, Open},
    transport,
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::Signal,
};
use tokio::runtime::Runtime;

use self::{
    host::WorkerHost,
    job::{Job, Life},
    outbox::WayOut,
    reader::{End, TurnReader},
};
use crate::{
    plugin::instance::library::{self, PluginLibrary},
    system::sandbox::{SandboxSpec, hint, limit_this_process},
};

/// Threads on which calls go on that have waited for something.
const THREADS: usize = 2;

/// A plugin that is open.
struct OpenedPlugin {
    module: ModuleRef,
    description: Description,
    /// Stays open for as long as the process is there.
    _library: Option<PluginLibrary>,
}

/// How a plugin is opened.
type Opens = fn(&Open) -> Result<OpenedPlugin, String>;

/// Is the process of a plugin, to its end; the status with which it is to exit.
pub(crate) fn answer(exit: fn(i32) -> !) -> i32 {
    let socket = match private_socket() {
        Ok(socket) => socket,
        Err(error) => return failed(&format!("the host's socket cannot be had: {error}")),
    };
    let host = HostProcess::of(&socket);
    if host.is_gone() {
        return failed("the host is gone");
    }
    // A status, and with it all that the plugin has started.
    fn end(end: &End, exit: fn(i32) -> !) {
        if let End::Protocol(error) = end {
            failed(&format!("the host says what makes no sense: {error}"));
        }
        if rustix::process::getpgrp() == rustix::process::getpid() {
            let _ = rustix::process::kill_current_process_group(Signal::KILL);
        }
        exit(1)
    }
    EXIT.get_or_init(|| exit);
    let on_end = |it: &End| {
        if let Some(exit) = EXIT.get() {
            end(it, *exit);
        }
    };
    match run(socket, host, open_library, on_end) {
        Ok(()) => 0,
        Err(reason) => failed(&reason),
    }
}

/// How this process exits.
static EXIT: std::sync::OnceLock<fn(i32) -> !> = std::sync::OnceLock::new();

/// For whoever reads this process's standard error.
fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(io::stderr(), "ksi worker: {text}");
}

fn failed(reason: &str) -> i32 {
    say(reason);
    1
}

/// The socket to the host, away from the standard input that the plugin may read.
fn private_socket() -> io::Result<OwnedFd> {
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(socket)
}

/// From here on this process is killed with its whole group when its host is gone, whatever the
/// plugin does with the threads that read, and whoever else holds the host's end of the socket.
/// (`PR_SET_PDEATHSIG` would not do: it ends this process alone, and leaves what it has started.)
///
/// # Errors
/// The system gives no thread or no descriptor.
fn end_with_host(socket: impl AsFd, host: HostProcess) -> io::Result<()> {
    let socket = socket.as_fd().try_clone_to_owned()?;
    let watch = move || {
        // Bytes that wait to be read are none of its business.
        let mut ended = vec![PollFd::new(&socket, END)];
        ended.extend(host.0.as_ref().map(|host| PollFd::new(host, PollFlags::IN)));
        while !matches!(poll(&mut ended, None), Ok(1..)) {}
        if rustix::process::getpgrp() == rustix::process::getpid() {
            let _ = rustix::process::kill_current_process_group(Signal::KILL);
        }
        // Where it may signal nobody.
        if let Some(exit) = EXIT.get() {
            exit(1)
        }
    };
    thread::Builder::new().name("ksi-end".to_owned()).stack_size(WATCH_STACK).spawn(watch)?;
    Ok(())
}

/// The process that has started this one, where it can be watched: by a descriptor that tells when
/// it has ended.
struct HostProcess(Option<OwnedFd>);

impl HostProcess {
    /// It has made the socket. Before this process is limited, which may take the call away.
    #[cfg(target_os = "linux")]
    fn of(socket: impl AsFd) -> Self {
        use rustix::{
            net::sockopt::socket_peercred,
            process::{PidfdFlags, getppid, pidfd_open},
        };
        let Ok(maker) = socket_peercred(socket) else { return HostProcess(None) };
        // Of another name space of processes, or started by somebody in between: then the socket
        // alone tells.
        let is_parent = || getppid() == Some(maker.pid);
        let watched = is_parent().then(|| pidfd_open(maker.pid, PidfdFlags::empty()).ok());
        // Its number is nobody else's as long as it is this one's parent.
        HostProcess(watched.flatten().filter(|_| is_parent()))
    }

    #[cfg(not(target_os = "linux"))]
    fn of(_: impl AsFd) -> Self {
        HostProcess(None)
    }

    #[cfg(test)]
    fn of_nobody() -> Self {
        HostProcess(None)
    }

    /// Whether it has ended.
    fn is_gone(&self) -> bool {
        let Some(host) = &self.0 else { return false };
        let now = rustix::event::Timespec::default();
        matches!(poll(&mut [PollFd::new(host, PollFlags::IN)], Some(&now)), Ok(1..))
    }
}

/// What says that the other end is gone.
#[cfg(target_os = "linux")]
const END: PollFlags = PollFlags::RDHUP;
#[cfg(not(target_os = "linux"))]
const END: PollFlags = PollFlags::HUP;

/// A thread that only waits.
const WATCH_STACK: usize = 64 << 10;

fn open_library(open: &Open) -> Result<OpenedPlugin, String> {
    let refused = |reason: String| format!("{reason}{}", hint(&open.sandbox, &reason));
    let library = PluginLibrary::open(&path_of(open), &open.header);
    let library = library.map_err(|error| refused(error.to_string()))?;
    let description = library.describe()?;
    Ok(OpenedPlugin { module: library.module, description, _library: Some(library) })
}

/// The whole life of a worker, on this thread and others. Files and system calls are limited while
/// this is the only one.
fn run(socket: OwnedFd, host: HostProcess, opens: Opens, on_end: fn(&End)) -> Result<(), String> {
    let (out, mut inbox) = (WayOut::new(socket), Inbox::new());
    let hello = Hello::of(std::process::id()).to_json();
    let put = |frame: FromWorker<'_>, id: u64| out.put_now(frame, id).map_err(|it| it.to_string());
    put(FromWorker::Hello(Payload::Bytes(&hello)), 0)?;
    let Some((id, open)) = first(&out, &mut inbox).map_err(|error| error.to_string())? else {
        return Ok(());
    };
    let refused = |code: &str, reason: &str| {
        let message = Payload::from(reason);
        let _ = put(FromWorker::Failed { keeps: false, code, message }, id);
        Err(reason.to_owned())
    };
    let unlimited = match limit_this_process(&open.sandbox, &path_of(&open)) {
        Ok(missing) => missing,
        Err(reason) => return refused("sandbox", &reason),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("ksi-worker")
        .enable_time()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return refused("no_threads", &format!("no thread can be started: {error}")),
    };
    if let Err(error) = end_with_host(out.socket(), host) {
        return refused(
            "no_threads",
            &format!("the end of the host cannot be waited for: {error}"),
        );
    }
    inbox.set_limit(open.limits.frame);
    let (sender, life) = mpsc::channel();
    let handle = runtime.handle().clone();
    let host = WorkerHost::new(open.clone(), out, inbox, handle, sender, on_end);
    let sandbox = open.sandbox.clone();
    let mut worker = InstanceLife { host: host.clone(), runtime, plugin: None, sandbox, unlimited };
    if let Err(error) = TurnReader::start(&host) {
        let reason = format!("no thread can be started: {error}");
        worker.fails(id, "no_threads", &reason);
        return Err(reason);
    }
    worker.open(id, &open, opens);
    let ended = worker.live(&life);
    host.reader.end();
    worker.runtime.shutdown_background();
    ended
}

/// Waits for the host to say what is to be opened; none if it says nothing more.
fn first(out: &WayOut, inbox: &mut Inbox) -> Result<Option<(u64, Open)>, ProtocolError> {
    loop {
        while let Some(frame) = inbox.next()? {
            let id = frame.id;
            match Job::of(frame)? {
                Job::Life(Life::Open { id, open }) => return Ok(Some((id, *open))),
                Job::Life(Life::Shutdown { .. }) => return Ok(None),
                Job::Ping => out.put_now(FromWorker::Pong, id)?,
                // Nothing else makes sense yet.
                _ => {}
            }
        }
        match transport::receive(out.socket(), inbox) {
            Ok(1..) => {}
            Ok(0) | Err(_) => return Ok(None),
        }
    }
}

/// Where the copy is that it opens.
fn path_of(open: &Open) -> PathBuf {
    OsString::from_vec(open.path.clone()).into()
}

/// The instance's life, on a thread that may block.
struct InstanceLife {
    host: Arc<WorkerHost>,
    runtime: Runtime,
    plugin: Option<OpenedPlugin>,
    /// What this process may have and reach.
    sandbox: SandboxSpec,
    /// What this system has no limits for: told once there is a log to tell it in.
    unlimited: Vec<String>,
}

impl InstanceLife {
    fn open(&mut self, id: u64, open: &Open, opens: Opens) {
        match opens(open) {
            Ok(plugin) => {
                let opened = serde_json::to_vec(&plugin.description).unwrap_or_default();
                self.plugin = Some(plugin);
                if let Err(error) =
                    self.host.out.put_now(FromWorker::Opened(Payload::Bytes(&opened)), id)
                {
                    self.fails(id, "too_large", &format!("its description: {error}"));
                }
            }
            Err(reason) => self.fails(id, "load", &reason),
        }
    }

    /// Takes one step after the other, until the last.
    fn live(&mut self, life: &mpsc::Receiver<Life>) -> Result<(), String> {
        loop {
            match life.recv() {
                Ok(Life::Create { id, config }) => self.create(id, &config),
                Ok(Life::Detach { id }) => {
                    self.detach();
                    let _ = self.host.out.put_now(FromWorker::NoReply { keeps: false }, id);
                }
                Ok(Life::Shutdown { id }) => {
                    self.detach();
                    self.drop_instance();
                    let _ = self.host.out.put_now(FromWorker::Bye, id);
                    return Ok(());
                }
                Ok(Life::Open { id, .. }) => {
                    self.fails(id, "open", "a process of a plugin opens one file alone");
                }
                Ok(Life::Over(End::Closed)) | Err(_) => return Ok(()),
                Ok(Life::Over(End::Protocol(error))) => return Err(error.to_string()),
            }
        }
    }

    fn create(&self, id: u64, config: &[u8]) {
        let Some(plugin) = &self.plugin else {
            return self.fails(id, "load", "no library is open in this process");
        };
        if self.host.instance().is_some() {
            return self.fails(id, "instance", "this process has an instance already");
        }
        self.unlimited.iter().for_each(|unlimited| self.warns(unlimited));
        let host = HostRef::new(self.host.clone());
        match self.runtime.block_on(library::create(plugin.module, host, config)) {
            Ok(instance) => {
                // It may be another one than when it began.
                instance.log_level_changed();
                let _none = self.host.set_instance(Some(instance));
                let _ = self.host.out.put_now(FromWorker::Created, id);
            }
            Err(CallEnd::Failed(failure)) => {
                let (code, message) = failure.to_texts();
                let message = format!("{message}{}", hint(&self.sandbox, &message));
                self.fails(id, &code, &message);
            }
            Err(CallEnd::Panicked(message)) => {
                let message = Payload::Bytes(&message);
                let _ = self.host.out.put_now(FromWorker::Panicked { keeps: false, message }, id);
            }
            Err(_) => self.fails(id, "instance", "it gave an answer that makes no sense"),
        }
    }

    fn detach(&self) {
        self.host.watches.close();
        self.runtime.block_on(self.host.tasks.close());
    }

    /// Ends what is left of calls, and drops the instance once nothing uses it.
    fn drop_instance(&self) {
        let Some(instance) = self.host.set_instance(None) else { return };
        loop {
            self.runtime.block_on(self.host.calls.end());
            if Arc::strong_count(&instance) == 1 {
                return drop(instance);
            }
            // One that was about to begin, or was just dropped elsewhere.
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn warns(&self, message: &str) {
        const WARN: u8 = 2;
        let target = "ksi_sandbox";
        let line = Log { call: 0, span: 0, level: WARN, target, fields: "", message };
        let _ = self.host.out.put_now(FromWorker::Log(line), 0);
    }

    fn fails(&self, id: u64, code: &str, message: &str) {
        let message = Payload::from(message);
        let failed = FromWorker::Failed { keeps: false, code, message };
        let _ = self.host.out.put_now(failed, id);
    }
}
