//! The control socket: clients on this machine send events and watch them, one JSON object a line.
//!
//! In reading order: [`claim`] takes the path, so that one host at most serves it, and [`restore`]
//! makes its file again; [`server`] accepts clients; [`connection`] reads from one of them, with
//! [`lines`] at its reading end and [`writer`] at its writing end; [`serving`] has its requests
//! handled ([`work`] is what one line asks for, [`quick`] which events are served in place, and
//! [`reply_room`] how many of the others at a time), [`turn`] says for how long at a time, and
//! [`in_place`] who answers one whose call does not return; [`request`] and [`reply`] are the wire
//! format; [`monitor`] pushes events to a connection that asked for them, as lines of
//! [`push_lines`].
//!
//! Invariants:
//! - This layer knows events and the inside of a host, for what it says of clients; plugins, files
//!   and routing are not its business.
//! - A client holds up nobody but itself. Everything kept for one is bounded by [`SocketLimits`].
//! - A request that was read is served to its end, whatever becomes of its client.

mod claim;
mod connection;
mod in_place;
mod lines;
mod monitor;
mod push_lines;
mod quick;
mod reply;
mod reply_room;
mod request;
mod restore;
mod server;
mod serving;
mod turn;
mod work;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ksi_kernel::lock::Lock;
use tokio::net::UnixListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use claim::SocketError;
pub(crate) use monitor::described;

use crate::core::Core;
use claim::Claim;
use server::Listening;

/// How much one client, and all of them together, may ask of the host. A limit of 0 counts as 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SocketLimits {
    /// The longest line that is read, in bytes, without its line end. A longer one is answered with
    /// an error line.
    pub line_bytes: usize,
    /// Clients connected at once. For one more, one that is idle gives way; if there is none, it
    /// gets a place for management.
    pub connections: usize,
    /// Clients beyond those, which may ask for the host's own events alone. One more is told so and
    /// disconnected.
    pub management_connections: usize,
    /// For how long nothing must have been heard of a client that gives way.
    pub idle: Duration,
    /// Requests of one connection that are served at once. At the limit the connection is not read
    /// until one of them is answered. A request counts once, and once more for each 64 KiB it has.
    pub requests_per_connection: usize,
    /// Events that may wait for one subscriber. With one more it is dropped.
    pub subscriber_queue: usize,
    /// Bytes of lines that may wait to be written to one client, and as many of replies that are
    /// expected of its requests in service. At the limit its requests wait; one line may always
    /// wait, however long it is.
    pub unread_bytes: usize,
    /// Patterns that all clients together may be subscribed to.
    pub subscribed_patterns: usize,
}

/// A control socket that is being served.
///
/// Clients are accepted by a task on the tokio runtime it was bound on and served on the host's
/// dispatch workers, until [`close`](ControlSocket::close) or until it is dropped. Dropping it cuts
/// the clients off where they are; their requests still end.
#[must_use = "clients are cut off when it is dropped"]
pub struct ControlSocket {
    path: PathBuf,
    /// Shared with the server, which makes the socket file again if somebody removes it.
    claim: Arc<Lock<Claim>>,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
}

/// The path of a control socket, taken before there is a host to serve it: no other host can have
/// it from here on.
///
/// Clients that connect wait until [`Host::serve_on`](crate::Host::serve_on) serves them. Dropping
/// it cuts them off and removes the socket.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("ksi.sock");
/// let claimed = ksi_host::ClaimedSocket::take(&path)?; // or another host is running on it
/// let host = ksi_host::Host::builder(ksi_host::ChildEntry::none()).start().await?; // loads plugins
/// let control = host.serve_on(claimed);
/// # control.close().await;
/// # host.shutdown().await;
/// # Ok(())
/// # })
/// # }
/// ```
#[must_use = "it is given up when it is dropped"]
pub struct ClaimedSocket {
    claim: Claim,
    listener: UnixListener,
}

impl ClaimedSocket {
    /// Takes `path`, readable and writable for this user alone. To be called inside a tokio
    /// runtime.
    ///
    /// A socket that nobody serves any more is replaced. A missing folder is made, for this user
    /// alone.
    ///
    /// # Errors
    /// When another host has the path, when something there is not a socket (it is left alone), and
    /// when a step of the binding fails.
    pub fn take(path: impl AsRef<Path>) -> Result<ClaimedSocket, SocketError> {
        Handle::try_current().map_err(|_| SocketError::NoRuntime)?;
        let (claim, listener) = Claim::take(path.as_ref())?;
        Ok(ClaimedSocket { claim, listener })
    }

    /// A socket that somebody else has bound and listens on, as a service manager does. Its file
    /// stays when it is closed, and who may connect is up to whoever has bound it. To be called
    /// inside a tokio runtime.
    ///
    /// # Errors
    /// It has no path, or the system does not let it be served.
    pub fn given(listener: std::os::unix::net::UnixListener) -> Result<ClaimedSocket, SocketError> {
        Handle::try_current().map_err(|_| SocketError::NoRuntime)?;
        let (claim, listener) = Claim::given(listener)?;
        Ok(ClaimedSocket { claim, listener })
    }

    /// Whether somebody else has bound it, and it stays when the host ends.
    pub(crate) fn is_given(&self) -> bool {
        self.claim.is_given()
    }

    /// Where clients find the socket.
    pub fn path(&self) -> &Path {
        self.claim.path()
    }
}

impl ControlSocket {
    /// Starts to serve the clients of a socket, those who wait already first. To be called inside a
    /// tokio runtime.
    pub(crate) fn serve(
        core: Arc<Core>,
        socket: ClaimedSocket,
        limits: SocketLimits,
    ) -> ControlSocket {
        let ClaimedSocket { claim, listener } = socket;
        let (stop, stopping) = watch::channel(false);
        let (path, claim) = (claim.path().to_owned(), Arc::new(Lock::new(claim)));
        let listening = Listening { listener, claim: Arc::downgrade(&claim) };
        let served = server::run(listening, core, limits.within_reason(), stopping);
        ControlSocket { path, claim, stop, server: tokio::spawn(served) }
    }

    /// Where clients find the socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Stops to accept clients and requests, writes the replies that are due (for two seconds at
    /// most), and removes the socket file if it is still this one.
    pub async fn close(mut self) {
        self.remove_socket();
        self.stop.send_replace(true);
        if let Err(error) = (&mut self.server).await {
            tracing::error!(%error, "the control socket's task ended badly");
        }
    }

    fn remove_socket(&self) {
        self.claim.lock().remove_socket();
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        self.remove_socket();
        self.server.abort();
    }
}

impl SocketLimits {
    /// The limits, kept to what semaphores and channels accept.
    fn within_reason(self) -> SocketLimits {
        const MOST: usize = 1 << 20;
        SocketLimits {
            line_bytes: self.line_bytes.max(1),
            connections: self.connections.clamp(1, MOST),
            management_connections: self.management_connections.clamp(1, MOST),
            idle: self.idle,
            requests_per_connection: self.requests_per_connection.clamp(1, MOST),
            subscriber_queue: self.subscriber_queue.clamp(1, MOST),
            unread_bytes: self.unread_bytes.max(1),
            subscribed_patterns: self.subscribed_patterns.clamp(1, MOST),
        }
    }
}

/// Seconds since the Unix epoch, as lines carry them.
fn unix_now() -> f64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0.0, |elapsed| elapsed.as_secs_f64())
}
