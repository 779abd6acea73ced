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
mod tests {
    use super::*;

    /// An account, and whether it was told to give up.
    fn account(budget: &Arc<Budget>) -> (Arc<Account>, Arc<AtomicBool>) {
        let told = Arc::new(AtomicBool::new(false));
        let tell = told.clone();
        (budget.account(move || tell.store(true, Ordering::Relaxed)), told)
    }

    #[test]
    fn who_holds_the_most_is_given_up_and_nobody_else() {
        let budget = Budget::new(100);
        let (small, small_told) = account(&budget);
        let (large, large_told) = account(&budget);
        let _kept = small.charge(40);
        let let_go = large.charge(60);
        assert!(!large_told.load(Ordering::Relaxed), "it is just within the limit");
        let more = small.charge(1);
        assert!(large_told.load(Ordering::Relaxed) && large.is_over());
        // It has not let go yet, and that is known.
        let _more = (more, small.charge(50));
        assert!(!small_told.load(Ordering::Relaxed));
        assert_eq!((budget.used(), budget.given_up()), (151, 1));
        drop(let_go);
        assert_eq!(budget.used(), 91);
        let _too_much = small.charge(10);
        assert!(small_told.load(Ordering::Relaxed), "nobody else holds anything");
    }

    #[test]
    fn what_can_be_refused_is_refused_beyond_its_own_limit_and_beyond_all() {
        let budget = Budget::new(100);
        let queue = budget.limited(30);
        let one = queue.try_charge(50).expect("one is taken, however large it is");
        assert!(queue.try_charge(1).is_none());
        drop(one);
        let _first = queue.try_charge(20).expect("there is room");
        assert!(queue.try_charge(11).is_none());
        let _second = queue.try_charge(10).expect("there is just as much room");
        let (client, told) = account(&budget);
        let held = client.charge(60);
        let other = budget.limited(100);
        let _third = other.try_charge(20).expect("room is made for it");
        assert!(told.load(Ordering::Relaxed));
        drop(held);
        assert!(other.try_charge(51).is_none(), "nothing is left to be given up");
        assert_eq!(budget.used(), 50, "what is refused is not counted");
    }

    #[test]
    fn a_charge_may_grow_and_shrink() {
        let budget = Budget::new(100);
        let (client, told) = account(&budget);
        let mut charge = client.charge(10);
        for bytes in [90, 0, 40] {
            charge.set(bytes);
            assert_eq!((budget.used(), client.bytes()), (bytes, bytes));
        }
        charge.set(101);
        assert!(told.load(Ordering::Relaxed));
        drop(charge);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn who_has_held_it_for_long_is_given_up_before_who_has_more_of_it_since_just_now() {
        let budget = Budget::new(100);
        let (idle, idle_told) = account(&budget);
        let (busy, busy_told) = account(&budget);
        let _held = idle.charge(30);
        let begin = budget.now();
        while budget.now() < begin + 20 {
            std::thread::yield_now();
        }
        let _more = busy.charge(80);
        assert!(idle_told.load(Ordering::Relaxed) && !busy_told.load(Ordering::Relaxed));
    }

    #[test]
    fn who_makes_progress_is_given_up_after_who_does_not() {
        let budget = Budget::new(100);
        let (reading, reading_told) = account(&budget);
        let (writing, writing_told) = account(&budget);
        let (stalled, stalled_told) = account(&budget);
        let (mut read, _written) = (reading.charge(40), writing.charge(40));
        let _held = stalled.charge(15);
        let begin = budget.now();
        // So long that it is no matter if this thread does not run for a while after it.
        while budget.now() < begin + 500 {
            // As much as before: the buffer is that large already.
            read.set(40);
            writing.progressed();
        }
        let (_other, _more) = (account(&budget), reading.charge(6));
        assert!(stalled_told.load(Ordering::Relaxed));
        assert!(!reading_told.load(Ordering::Relaxed) && !writing_told.load(Ordering::Relaxed));
    }

    #[test]
    fn what_is_shared_counts_once() {
        let budget = Budget::new(100);
        let (one, one_told) = account(&budget);
        let (other, _) = account(&budget);
        let shared = budget.share(60);
        one.hold(60);
        other.hold(60);
        assert_eq!((budget.used(), one.bytes()), (60, 60));
        assert!(!one_told.load(Ordering::Relaxed));
        one.let_go(60);
        drop(shared);
        assert_eq!((budget.used(), one.bytes()), (0, 0));
    }

    #[test]
    fn accounts_that_are_gone_are_not_remembered() {
        let budget = Budget::new(100);
        for _ in 0..10_000 {
            drop(budget.account(|| {}));
        }
        assert!(budget.accounts().list.len() <= 128);
    }
}
