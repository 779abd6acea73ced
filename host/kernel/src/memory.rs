//! Bytes that wait in the host's queues, counted in one place.
//!
//! A count of events or of clients bounds nothing when each may have megabytes. So whatever waits
//! for somebody has a [`Charge`] on an [`Account`], and all accounts together are one [`Budget`].
//! Where somebody can be told no, an account has a limit of its own and refuses. Where nobody can,
//! because an emitter never waits for those who look on and a client's bytes have come already, the
//! budget is kept by giving up accounts: first the one with the most bytes for the longest time
//! without progress, which is a subscriber or a client that does not read, or sends half a line and
//! no more. Progress is that something is taken from what waits, that a part of it is written, or
//! that more of a line is read.
//!
//! What several accounts share, as subscribers share an event, counts as what each of them has, and
//! once in the budget.
//!
//! Knows neither events nor clients. A charge is a few additions, and nothing is locked unless the
//! budget is exceeded.

use std::{
    sync::{
        Arc, MutexGuard, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use crate::lock::Lock;

/// All bytes that may wait.
pub struct Budget {
    limit: usize,
    used: AtomicUsize,
    begin: Instant,
    /// What can be given up. Those that are gone are swept out whenever the number has doubled.
    accounts: Lock<Accounts>,
    given_up: AtomicU64,
}

#[derive(Default)]
struct Accounts {
    list: Vec<Weak<Account>>,
    sweep_at: usize,
}

/// Waiting longer than this makes nobody more of a burden, in milliseconds: else little that has
/// waited for a day would be given up before much that is stuck since a minute.
const LONGEST: u64 = 60_000;

/// What one subscriber, one client or one queue holds.
pub struct Account {
    budget: Arc<Budget>,
    bytes: AtomicUsize,
    /// Since when there was no progress with what it holds, in milliseconds of the budget's life.
    since: AtomicU64,
    /// What [`try_charge`](Account::try_charge) goes up to.
    limit: usize,
    over: AtomicBool,
    /// Lets go of what is held, soon. `None` for what cannot be given up.
    give_up: Option<Box<dyn Fn() + Send + Sync>>,
}

/// Bytes that wait, until this is dropped.
pub struct Charge {
    account: Arc<Account>,
    bytes: usize,
}

/// Bytes that several accounts hold together, counted once until this is dropped.
pub(crate) struct Shared {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(limit: usize) -> Arc<Budget> {
        Arc::new(Budget {
            limit,
            used: AtomicUsize::new(0),
            begin: Instant::now(),
            accounts: Lock::default(),
            given_up: AtomicU64::new(0),
        })
    }

    /// An account of something that can be given up. `give_up` is called at most once, and must not
    /// charge anything.
    pub fn account(self: &Arc<Self>, give_up: impl Fn() + Send + Sync + 'static) -> Arc<Account> {
        let account = self.open(usize::MAX, Some(Box::new(give_up)));
        let mut accounts = self.accounts();
        if accounts.list.len() >= accounts.sweep_at {
            accounts.list.retain(|account| account.strong_count() > 0);
            accounts.sweep_at = 2 * accounts.list.len() + 64;
        }
        accounts.list.push(Arc::downgrade(&account));
        account
    }

    /// An account with a limit of its own, of something that refuses.
    pub(crate) fn limited(self: &Arc<Self>, limit: usize) -> Arc<Account> {
        self.open(limit, None)
    }

    fn open(
        self: &Arc<Self>,
        limit: usize,
        give_up: Option<Box<dyn Fn() + Send + Sync>>,
    ) -> Arc<Account> {
        Arc::new(Account {
            budget: self.clone(),
            bytes: AtomicUsize::new(0),
            since: AtomicU64::new(0),
            limit,
            over: AtomicBool::new(false),
            give_up,
        })
    }

    /// Bytes that may wait.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes that wait now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// How often something was given up to keep the limit.
    pub fn given_up(&self) -> u64 {
        self.given_up.load(Ordering::Relaxed)
    }

    /// Whether the limit is kept, after something was given up for it where that was needed.
    fn is_kept(&self) -> bool {
        self.used() <= self.limit || self.make_room()
    }

    /// Gives up accounts until all else is within the limit; whether it is then.
    #[cold]
    fn make_room(&self) -> bool {
        loop {
            let Some(victim) = self.victim() else { return true };
            let Ok(victim) = victim else { return false };
            self.given_up.fetch_add(1, Ordering::Relaxed);
            victim.give_up.iter().for_each(|give_up| give_up());
        }
    }

    /// The next one to give up; `None` if the limit is kept, an error if nothing can be given up
    /// for it.
    fn victim(&self) -> Option<Result<Arc<Account>, ()>> {
        let accounts = self.accounts();
        let live: Vec<_> = accounts.list.iter().filter_map(Weak::upgrade).collect();
        // What was given up before may take a moment to go.
        let (going, staying): (Vec<_>, Vec<_>) = live.into_iter().partition(|it| it.is_over());
        let going: usize = going.iter().map(|it| it.bytes()).sum();
        if self.used().saturating_sub(going) <= self.limit {
            return None;
        }
        let now = self.now();
        let most = staying.into_iter().max_by_key(|account| account.weight(now));
        let victim = most.filter(|most| most.bytes() > 0).ok_or(());
        if let Ok(victim) = &victim {
            victim.over.store(true, Ordering::Release);
        }
        Some(victim)
    }

    /// Counts what several accounts hold together, until it is dropped.
    pub(crate) fn share(self: &Arc<Self>, bytes: usize) -> Shared {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        self.is_kept();
        Shared { budget: self.clone(), bytes }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn accounts(&self) -> MutexGuard<'_, Accounts> {
        self.accounts.lock()
    }
}

impl Account {
    /// Adds what has come and can't be refused. Others, or this account itself, are given up if it
    /// is too much.
    pub fn charge(self: &Arc<Self>, bytes: usize) -> Charge {
        let charge = self.added(bytes);
        self.budget.is_kept();
        charge
    }

    /// Adds what may be refused: what is beyond the limit of this account, unless it holds nothing
    /// else, and what is beyond the budget when nothing more can be given up.
    pub(crate) fn try_charge(self: &Arc<Self>, bytes: usize) -> Option<Charge> {
        let charge = self.added(bytes);
        let held = self.bytes();
        let within = held <= self.limit || held == bytes;
        (within && self.budget.is_kept()).then_some(charge)
    }

    fn added(self: &Arc<Self>, bytes: usize) -> Charge {
        self.add(bytes);
        Charge { account: self.clone(), bytes }
    }

    fn add(&self, bytes: usize) {
        self.hold(bytes);
        self.budget.used.fetch_add(bytes, Ordering::Relaxed);
    }

    fn take(&self, bytes: usize) {
        self.let_go(bytes);
        self.budget.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Adds to what it holds of something that is [shared](Shared).
    pub(crate) fn hold(&self, bytes: usize) {
        // Only what can be given up is ever asked how long it has held what it holds.
        if self.bytes.fetch_add(bytes, Ordering::Relaxed) == 0 && self.give_up.is_some() {
            self.since.store(self.budget.now(), Ordering::Relaxed);
        }
    }

    /// Takes from it.
    pub(crate) fn let_go(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.progressed();
    }

    /// Somebody is at work with what it holds.
    pub fn progressed(&self) {
        if self.give_up.is_some() {
            self.since.store(self.budget.now(), Ordering::Relaxed);
        }
    }

    /// How much it weighs that this account holds what it holds, and how long it has done so
    /// without progress.
    fn weight(&self, now: u64) -> u128 {
        let held_for = now.saturating_sub(self.since.load(Ordering::Relaxed)).min(LONGEST);
        self.bytes() as u128 * (u128::from(held_for) + 1)
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// What it may hold, if it has a limit of its own.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// It was given up.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }
}

impl Charge {
    /// Adds to what waits, or takes from it. Either way somebody is at work with it.
    pub fn set(&mut self, bytes: usize) {
        let before = std::mem::replace(&mut self.bytes, bytes);
        if bytes > 0 {
            self.account.progressed();
        }
        if bytes == before {
            return;
        }
        if bytes > before {
            self.account.add(bytes - before);
            self.account.budget.is_kept();
        } else {
            self.account.take(before - bytes);
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.take(self.bytes);
    }
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Account").field(&self.bytes()).finish()
    }
}

impl std::fmt::Debug for Charge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Charge").field(&self.bytes).finish()
    }
}

#[cfg(test)]
mod tests;
