//! What a service manager gives a host and is told by it, in systemd's protocol: readiness,
//! reloads, the end, a watchdog that means something, and a socket that the manager has bound.
//!
//! Where there is no service manager, nothing here does anything. What cannot be told is a warning
//! and no more: a host does its work whether or not somebody listens.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::PathBuf;
use std::time::Duration;

use ksi_host::{DescriptorStore, Host, StoredDescriptor};
use rustix::net::{SendFlags, SocketAddrUnix, sendto};
use rustix::time::{ClockId, clock_gettime};

use super::exit::CommandFailure;

mod store;

/// How long a service manager that does not read may hold up the host.
const PATIENCE: Duration = Duration::from_secs(1);

/// A control socket that was bound by somebody else, and where clients find it.
#[derive(Debug)]
pub(crate) struct GivenSocket {
    pub(crate) listener: UnixListener,
    pub(crate) path: PathBuf,
}

/// What this process was started with.
#[derive(Debug, Default)]
pub(crate) struct Given {
    /// To be served.
    pub(crate) socket: Option<GivenSocket>,
    /// Of plugins, kept since an earlier host.
    pub(crate) stored: Vec<StoredDescriptor>,
}

/// Takes what this process was started with, if it was (`LISTEN_FDS`, `LISTEN_FDNAMES`). Changes
/// the environment, so it has to be called while there is one thread.
pub(crate) fn given() -> Result<Given, CommandFailure> {
    let names = store::names();
    let mut given = listenfd::ListenFd::from_env();
    let (mut stored, mut sockets) = (Vec::new(), Vec::new());
    for index in 0..given.len() {
        match names.get(index).filter(|name| store::is_stored(name)) {
            Some(name) => stored.extend(store::take(&mut given, index, name)),
            None => sockets.push(index),
        }
    }
    let socket = match sockets[..] {
        [] => None,
        [index] => given_socket(&mut given, index)?,
        _ => {
            let several = sockets.len();
            return Err(CommandFailure::Usage(format!(
                "{several} sockets were given by activation, and a host serves one: give it one ListenStream="
            )));
        }
    };
    Ok(Given { socket, stored })
}

fn given_socket(
    given: &mut listenfd::ListenFd,
    index: usize,
) -> Result<Option<GivenSocket>, CommandFailure> {
    let unusable = "the socket that was given by activation cannot be served";
    let listener = given.take_unix_listener(index).map_err(CommandFailure::host(unusable))?;
    let Some(listener) = listener else { return Ok(None) };
    let address = listener.local_addr().map_err(CommandFailure::host(unusable))?;
    match address.as_pathname() {
        Some(path) => Ok(Some(GivenSocket { path: path.to_owned(), listener })),
        None => Err(CommandFailure::Usage(
            "the socket that was given by activation has no path, by which clients would find it: \
             say ListenStream=/some/path"
                .to_owned(),
        )),
    }
}

/// Whoever has started this process and wants to know how it is, if anybody does.
#[derive(Debug, Default)]
pub(crate) struct ServiceManager {
    told: Option<(UnixDatagram, SocketAddrUnix)>,
    /// It ends this process if it is not told within this time that all is well.
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// As the environment says (`NOTIFY_SOCKET`, `WATCHDOG_USEC`).
    pub(crate) fn of_process() -> Self {
        let Some(address) = env::var_os("NOTIFY_SOCKET").filter(|it| !it.is_empty()) else {
            return Self::default();
        };
        match connect(&address) {
            Ok(told) => {
                let number = |name| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
                let is_ours =
                    number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
                let watchdog = number("WATCHDOG_USEC").filter(|micros| *micros > 0 && is_ours);
                let watchdog = watchdog.map(Duration::from_micros);
                Self { told: Some(told), watchdog }
            }
            Err(error) => {
                tracing::warn!(
                    "the service manager is told nothing: NOTIFY_SOCKET is {}: {error}",
                    address.display()
                );
                Self::default()
            }
        }
    }

    /// What keeps descriptors beyond this process, if the manager does (`FDSTORE`).
    pub(crate) fn descriptor_store(&self) -> Option<Box<dyn DescriptorStore>> {
        let (socket, manager) = self.told.as_ref().filter(|_| store::is_there())?;
        let socket = socket.try_clone().inspect_err(|error| {
            tracing::warn!("what plugins keep ends with this host: {error}");
        });
        Some(Box::new(store::Store { socket: socket.ok()?, manager: manager.clone() }))
    }

    /// The host serves clients; also after a reload.
    pub(crate) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// The configuration is being read again.
    pub(crate) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.tell(&format!(
            "RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=reading the configuration again"
        ));
    }

    /// The host has begun to stop.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=stopping");
    }

    /// What it does, in words.
    pub(crate) fn status(&self, status: &str) {
        self.tell(&format!("STATUS={status}"));
    }

    /// Tells that all is well, twice in the time that the service manager waits, whenever the
    /// dispatch workers answer; never returns. A host whose workers do not is not well, although
    /// its process is there.
    pub(crate) async fn keep_watched(&self, host: &Host) {
        let Some(limit) = self.watchdog else { return std::future::pending().await };
        let mut ticks = tokio::time::interval(limit / 2);
        loop {
            ticks.tick().await;
            match tokio::time::timeout(limit / 2, host.responds()).await {
                Ok(()) => self.tell("WATCHDOG=1"),
                Err(_) => tracing::error!(
                    "no dispatch worker has answered within {:?}: the service manager is not told that all is well",
                    limit / 2
                ),
            }
        }
    }

    fn tell(&self, text: &str) {
        let Some((socket, manager)) = &self.told else { return };
        let flags = SendFlags::NOSIGNAL;
        if let Err(error) = sendto(socket, text.as_bytes(), flags, manager).map_err(io::Error::from)
        {
            let what = text.split('\n').next().unwrap_or_default();
            tracing::warn!("the service manager could not be told {what}: {error}");
        }
    }
}

fn connect(address: &OsStr) -> io::Result<(UnixDatagram, SocketAddrUnix)> {
    let manager = match address.as_bytes() {
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => SocketAddrUnix::new_abstract_name(name)?,
        [b'/', ..] => SocketAddrUnix::new(address)?,
        _ => {
            let reason = "expected a path or, behind an @, an abstract name";
            return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
        }
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok((socket, manager))
}
