//! Accepting clients, up to a number of them, and ending with all of them answered.

use std::io::{self, Write};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ksi_kernel::lock::Lock;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, sleep, timeout};

use super::claim::Claim;
use super::connection::{Access, Shared};
use super::push_lines::PushLines;
use super::{SocketLimits, connection, reply, unix_now};
use crate::clients::Peer;
use crate::core::Core;

/// How long clients have to take the replies that are due when the socket closes.
const GRACE: Duration = Duration::from_secs(2);
/// After how long without a word a client gives way when not even a place for management is left.
const MANAGEMENT_IDLE: Duration = Duration::from_secs(1);
/// How long nobody is accepted after that failed: most likely this process is out of descriptors.
const PAUSE: Duration = Duration::from_millis(250);

/// How often somebody looks whether clients find the socket.
const LOOK: Duration = Duration::from_secs(1);

/// A socket that listens, for as long as its path is claimed.
pub(super) struct Listening {
    pub(super) listener: UnixListener,
    pub(super) claim: Weak<Lock<Claim>>,
}

impl Listening {
    /// Listens on a new socket, if somebody has removed the file of this one.
    fn restore(&mut self) {
        let Some(claim) = self.claim.upgrade() else { return };
        let restored = claim.lock().restore();
        if let Some(listener) = restored {
            self.listener = listener;
        }
    }
}

/// Serves clients until `stopping` says so.
pub(super) async fn run(
    mut listening: Listening,
    core: Arc<Core>,
    limits: SocketLimits,
    mut stopping: watch::Receiver<bool>,
) {
    let mut clients = JoinSet::new();
    let patterns = Arc::new(Semaphore::new(limits.subscribed_patterns));
    let push_lines = Arc::<PushLines>::default();
    let stop = stopping.clone();
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let accepted = tokio::select! {
            // In this order, so that a client that has left makes room before the next is counted.
            biased;
            _ = stopping.wait_for(|stop| *stop) => break,
            Some(_) = clients.join_next() => continue,
            accepted = listening.listener.accept() => accepted,
            // When nobody waits at the socket that may have lost its file.
            _ = look.tick() => {
                listening.restore();
                continue;
            }
        };
        match accepted {
            Ok((client, _)) if let Some(place) = place(clients.len(), &limits, &core) => {
                let peer = peer(&client);
                let client = match for_workers(client, &core) {
                    Ok(client) => client,
                    Err(error) => {
                        tracing::warn!(%error, "serving a client of the control socket failed");
                        continue;
                    }
                };
                let (limits, stop, timers) = (limits.clone(), stop.clone(), Handle::current());
                let (patterns, push_lines) = (patterns.clone(), push_lines.clone());
                let shared = Shared { limits, stopping: stop, timers, patterns, push_lines };
                let served = connection::serve(client, peer, place, core.clone(), shared);
                // When this one is dropped, the other one is, there.
                clients.spawn(core.spawn(served).fallible());
            }
            Ok((client, _)) => refuse(client, limits.connections),
            Err(error) => {
                tracing::warn!(%error, "accepting a client of the control socket failed");
                sleep(PAUSE).await;
            }
        }
    }
    drop(listening);
    let all_served = async { while clients.join_next().await.is_some() {} };
    if timeout(GRACE, all_served).await.is_err() {
        tracing::warn!(clients = clients.len(), "cut off clients that did not take their replies");
        clients.shutdown().await;
    }
}

/// Which place there is for one more client, if any.
fn place(taken: usize, limits: &SocketLimits, core: &Core) -> Option<Access> {
    let all = limits.connections + limits.management_connections;
    if taken < limits.connections {
        Some(Access::Any)
    } else if taken < all && core.clients().end_idle(unix_now(), limits.idle) {
        // Its own is free in a moment.
        Some(Access::Any)
    } else if taken < all {
        Some(Access::Management)
    } else {
        // The next one finds a place, if anybody lets go of his.
        core.clients().end_idle(unix_now(), limits.idle.min(MANAGEMENT_IDLE));
        None
    }
}

fn peer(client: &UnixStream) -> Peer {
    client.peer_cred().map_or_else(
        |_| Peer::default(),
        |peer| Peer { process: peer.pid(), user: Some(peer.uid()) },
    )
}

/// The same client for a task on the dispatch workers, which wait for its requests themselves.
fn for_workers(client: UnixStream, core: &Core) -> io::Result<UnixStream> {
    let client = client.into_std()?;
    let _inside = core.io().enter();
    UnixStream::from_std(client)
}

/// Tells a client that there are too many. Its socket's buffer is empty, so the line fits without
/// waiting; if it does not, the client sees the end alone.
fn refuse(client: UnixStream, limit: usize) {
    if let Ok(mut client) = client.into_std() {
        let _ = client.write_all(&reply::too_many_clients(limit));
    }
}
