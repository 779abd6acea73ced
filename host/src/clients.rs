//! Who is connected: a list of clients for those who look, and a way to end them.
//!
//! Whoever serves clients enters each of them here. Knows neither sockets nor events.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{
        Arc, MutexGuard,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use ksi_kernel::lock::Lock;
use ksi_kernel::memory::Account;
use ksi_wire::system::Client;
use tokio::sync::{Notify, Semaphore};

/// All that are connected, by the order in which they came.
#[derive(Default)]
pub(crate) struct Clients {
    list: Lock<BTreeMap<u64, Arc<ClientEntry>>>,
    next: AtomicU64,
}

/// One of them, until this is dropped.
pub(crate) struct Connected {
    clients: Arc<Clients>,
    client: Arc<ClientEntry>,
}

/// What is known of one.
pub(crate) struct ClientEntry {
    number: u64,
    peer: Peer,
    /// In seconds since the Unix epoch.
    since: f64,
    /// When it was last heard of, in milliseconds since the Unix epoch.
    active: AtomicU64,
    requests: AtomicU64,
    subscriptions: AtomicUsize,
    /// Slots that its requests take while they are served.
    free: Arc<Semaphore>,
    slots: usize,
    account: Arc<Account>,
    ended: Lock<Option<Ended>>,
    over: AtomicBool,
    told: Notify,
}

/// The process at the other end, as the system knows it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Peer {
    pub(crate) process: Option<i32>,
    pub(crate) user: Option<u32>,
}

/// The attribute of an event that may change plugins or the host, by which whoever handles it knows
/// whose it is. Whoever serves clients sets it, whatever the client says.
pub(crate) const PEER: &str = "_peer";

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unknown = || "?".to_owned();
        let user = self.user.map_or_else(unknown, |user| user.to_string());
        let process = self.process.map_or_else(unknown, |process| process.to_string());
        write!(f, "uid={user} pid={process}")
    }
}

/// Why a client's connection is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Somebody asks for it.
    Asked,
    /// It was idle, and another one needed its place.
    Idle,
    /// Most of what waits in the host belongs to it.
    Greedy,
    /// A handler does not return to the task that reads its requests.
    Stuck,
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Ended::Asked => "somebody asked for it (system:disconnect)",
            Ended::Idle => {
                "it was idle, and another client needed its place (limits.connections, timeouts.idle)"
            }
            Ended::Greedy => {
                "most of what waited in the host for the longest time was its own (limits.waiting_bytes)"
            }
            Ended::Stuck => {
                "a handler that was called for it does not return, and no more requests can be read: connect again"
            }
        })
    }
}

impl Clients {
    /// Enters a client, with what its requests take and what its bytes are charged to.
    pub(crate) fn enter(
        self: &Arc<Self>,
        peer: Peer,
        now: f64,
        free: Arc<Semaphore>,
        account: impl FnOnce(std::sync::Weak<ClientEntry>) -> Arc<Account>,
    ) -> Connected {
        let number = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let client = Arc::new_cyclic(|client| ClientEntry {
            number,
            peer,
            since: now,
            active: AtomicU64::new(millis(now)),
            requests: AtomicU64::new(0),
            subscriptions: AtomicUsize::new(0),
            slots: free.available_permits(),
            free,
            account: account(client.clone()),
            ended: Lock::default(),
            over: AtomicBool::new(false),
            told: Notify::new(),
        });
        self.list().insert(number, client.clone());
        Connected { clients: self.clone(), client }
    }

    /// All of them, in the order in which they came.
    pub(crate) fn all(&self, now: f64) -> Vec<Client> {
        self.list().values().map(|client| client.told(now)).collect()
    }

    /// Ends a client's connection; whether there is one of this number.
    pub(crate) fn end(&self, number: u64) -> bool {
        let client = self.list().get(&number).cloned();
        client.is_some_and(|client| {
            client.end(Ended::Asked);
            true
        })
    }

    /// Ends the client that has been idle for the longest time, and at least so long; whether there
    /// is one.
    pub(crate) fn end_idle(&self, now: f64, at_least: Duration) -> bool {
        let longest = {
            let list = self.list();
            let idle = list.values().filter(|client| client.is_idle(now, at_least));
            idle.min_by_key(|client| client.active.load(Ordering::Relaxed)).cloned()
        };
        longest.is_some_and(|client| {
            client.end(Ended::Idle);
            true
        })
    }

    fn list(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<ClientEntry>>> {
        self.list.lock()
    }
}

impl ClientEntry {
    /// Its number, by which others name it.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The process at its other end.
    pub(crate) fn peer(&self) -> Peer {
        self.peer
    }

    /// Something was read of it: so many lines.
    pub(crate) fn heard(&self, now: f64, lines: u64) {
        self.active.store(millis(now), Ordering::Relaxed);
        self.requests.fetch_add(lines, Ordering::Relaxed);
    }

    /// How many subscriptions it has now.
    pub(crate) fn subscribed(&self, subscriptions: usize) {
        self.subscriptions.store(subscriptions, Ordering::Relaxed);
    }

    /// What its bytes are charged to.
    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Has its connection ended. The first reason counts.
    pub(crate) fn end(&self, why: Ended) {
        self.ended.lock().get_or_insert(why);
        self.over.store(true, Ordering::Release);
        self.told.notify_waiters();
    }

    /// Resolves when it is to be ended. For those who serve it.
    pub(crate) async fn ended(&self) -> Ended {
        loop {
            let mut told = pin!(self.told.notified());
            // From here on it is not missed.
            told.as_mut().enable();
            if let Some(why) = *self.ended.lock() {
                return why;
            }
            told.await;
        }
    }

    /// It waits for nothing, and nothing was heard of it for so long.
    fn is_idle(&self, now: f64, at_least: Duration) -> bool {
        self.subscriptions.load(Ordering::Relaxed) == 0
            && self.free.available_permits() == self.slots
            && !self.over.load(Ordering::Acquire)
            && self.idle(now) >= at_least.as_secs_f64()
    }

    /// In seconds.
    fn idle(&self, now: f64) -> f64 {
        let idle = millis(now).saturating_sub(self.active.load(Ordering::Relaxed));
        Duration::from_millis(idle).as_secs_f64()
    }

    /// As others see it.
    fn told(&self, now: f64) -> Client {
        Client {
            bytes: self.account.bytes(),
            id: self.number,
            idle: self.idle(now),
            pid: self.peer.process,
            requests: self.requests.load(Ordering::Relaxed),
            serving: self.slots.saturating_sub(self.free.available_permits()),
            since: self.since,
            subscriptions: self.subscriptions.load(Ordering::Relaxed),
            uid: self.peer.user,
        }
    }
}

impl std::ops::Deref for Connected {
    type Target = Arc<ClientEntry>;

    fn deref(&self) -> &Arc<ClientEntry> {
        &self.client
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.clients.list().remove(&self.client.number);
    }
}

/// Milliseconds since the Unix epoch.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn millis(seconds: f64) -> u64 {
    (seconds * 1e3) as u64
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use ksi_kernel::memory::Budget;

    fn enter(clients: &Arc<Clients>, now: f64) -> Connected {
        let budget = Budget::new(1000);
        let free = Arc::new(Semaphore::new(4));
        clients.enter(Peer::default(), now, free, |_| budget.account(|| {}))
    }

    #[test]
    fn the_one_that_has_been_idle_for_longest_gives_way_and_nobody_who_waits() {
        let clients = Arc::new(Clients::default());
        let [first, second, third] = [1.0, 2.0, 3.0].map(|now| enter(&clients, now));
        first.subscribed(1);
        let _served = third.free.clone().try_acquire_owned();
        let told = |client: &ClientEntry| client.ended().now_or_never();
        assert!(!clients.end_idle(10.0, Duration::from_secs(9)));
        assert!(clients.end_idle(11.5, Duration::from_secs(9)));
        assert_eq!([told(&first), told(&second), told(&third)], [None, Some(Ended::Idle), None]);
        assert!(!clients.end_idle(99.0, Duration::ZERO), "it has been told already");
        second.heard(50.0, 3);
        assert_eq!(clients.all(51.0)[1].idle, 1.0);
        drop(second);
        assert!(!clients.end(2), "it is gone");
        assert!(clients.end(3));
        assert_eq!(told(&third), Some(Ended::Asked));
    }
}
