//! The processes of plugins that the run has killed, and what that explains.
//!
//! A call that a process had when it was killed ends as crashed. A plugin that counts goes on with
//! its last checkpoint, which `checkpoint = "on_change"` takes again and again, each time some
//! hundredths of a second after calls have ended: so what was acknowledged within that time may be
//! taken back, and nothing else.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::roles::{ROLES, Role};

/// How long after it was killed a process may take to be gone, and whoever waits for it to be told.
const AFTERMATH: Duration = Duration::from_secs(1);
/// Acknowledged longer before the kill than this, nothing may be taken back.
pub(crate) const TAKEN_BACK: Duration = Duration::from_secs(1);
/// Kills of a plugin that are remembered: more than there are in a time that anybody asks for.
const REMEMBERED: usize = 256;

#[derive(Default)]
pub(crate) struct Kills {
    of: [Mutex<VecDeque<Instant>>; ROLES],
    /// When a plugin last went back to the version before, and what became of its state.
    back: [Mutex<Option<(Instant, String)>>; ROLES],
    sent: AtomicU64,
    /// Requests that crashed with a process, or with what they asked in turn.
    crashed: AtomicU64,
    /// Sent requests of which nothing was told, and those of clients that were killed themselves.
    untold: AtomicU64,
    taken_back: AtomicU64,
    /// In microseconds.
    oldest: AtomicU64,
}

/// What kills have come to.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub(crate) struct Toll {
    pub(crate) kills: u64,
    pub(crate) crashed: u64,
    pub(crate) untold: u64,
    /// Acknowledged counts that were taken back, and how long before its kill the oldest of them
    /// was acknowledged.
    pub(crate) taken_back: u64,
    pub(crate) oldest_ms: f64,
}

impl Kills {
    /// To be called before the signal is sent.
    pub(crate) fn note(&self, role: Role) {
        self.sent.fetch_add(1, Relaxed);
        let mut of = self.of(role);
        if of.len() == REMEMBERED {
            of.pop_front();
        }
        of.push_back(Instant::now());
    }

    /// Whether what a process of this plugin had between then and then may have ended with it.
    pub(crate) fn explain(&self, role: Role, began: Instant, ended: Instant) -> bool {
        self.of(role).iter().any(|kill| *kill <= ended && *kill + AFTERMATH >= began)
    }

    /// Whether a kill may have taken back so many counts, of which the first was acknowledged then.
    pub(crate) fn may_take_back(&self, role: Role, acknowledged: Instant, counts: u64) -> bool {
        let old = |kill: &Instant| {
            // What was acknowledged after the kill was on its way to its reader before.
            (*kill + AFTERMATH >= acknowledged)
                .then(|| kill.saturating_duration_since(acknowledged))
        };
        let Some(old) = self.of(role).iter().filter_map(old).min() else { return false };
        self.taken_back.fetch_add(counts, Relaxed);
        self.oldest.fetch_max(u64::try_from(old.as_micros()).unwrap_or(u64::MAX), Relaxed);
        old <= TAKEN_BACK
    }

    /// The host has announced that a plugin went back to the version before, and what became of its
    /// state.
    pub(crate) fn note_back(&self, role: Role, state: &str) {
        *self.back(role) = Some((Instant::now(), state.to_owned()));
    }

    /// What may have to do with counts of a plugin that are wrong, for whoever has to find out:
    /// its kill that is nearest to when they were acknowledged, or to now, and when it last went
    /// back.
    pub(crate) fn near(&self, role: Role, acknowledged: Option<Instant>) -> String {
        let now = Instant::now();
        let (at, what) = acknowledged.map_or((now, "now"), |at| (at, "its acknowledgement"));
        let apart = |kill: &Instant| kill.max(&at).duration_since(*kill.min(&at));
        let kill = match self.of(role).iter().min_by_key(|kill| apart(kill)) {
            None => "it was never killed".to_owned(),
            Some(kill) => {
                let side = if *kill < at { "before" } else { "after" };
                format!(
                    "its nearest kill was {:?} {side} {what}, and {:?} ago",
                    apart(kill),
                    now.saturating_duration_since(*kill)
                )
            }
        };
        let back = match &*self.back(role) {
            None => "it never went back to a version before".to_owned(),
            Some((when, state)) => {
                format!("it last went back {:?} ago, with the state {state:?}", now - *when)
            }
        };
        format!("{kill}; {back}")
    }

    pub(crate) fn note_crashed(&self) {
        self.crashed.fetch_add(1, Relaxed);
    }

    pub(crate) fn note_untold(&self) {
        self.untold.fetch_add(1, Relaxed);
    }

    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 microseconds")]
    pub(crate) fn toll(&self) -> Toll {
        Toll {
            kills: self.sent.load(Relaxed),
            crashed: self.crashed.load(Relaxed),
            untold: self.untold.load(Relaxed),
            taken_back: self.taken_back.load(Relaxed),
            oldest_ms: self.oldest.load(Relaxed) as f64 / 1e3,
        }
    }

    fn of(&self, role: Role) -> MutexGuard<'_, VecDeque<Instant>> {
        self.of[role.index()].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn back(&self, role: Role) -> MutexGuard<'_, Option<(Instant, String)>> {
        self.back[role.index()].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_explains_what_went_on_around_it_and_takes_back_what_was_just_acknowledged() {
        let (kills, before) = (Kills::default(), Instant::now());
        let none = |role| !kills.explain(role, before, Instant::now());
        assert!(none(Role::Count) && !kills.may_take_back(Role::Count, before, 1));
        kills.note(Role::Count);
        let now = Instant::now();
        assert!(kills.explain(Role::Count, before, now) && kills.explain(Role::Count, now, now));
        assert!(none(Role::Heavy), "another plugin");
        assert!(!kills.explain(Role::Count, now + 2 * AFTERMATH, now + 3 * AFTERMATH), "later");
        assert!(kills.may_take_back(Role::Count, before, 2));
        if let Some(long_ago) = before.checked_sub(2 * TAKEN_BACK) {
            assert!(!kills.may_take_back(Role::Count, long_ago, 1));
        }
        assert_eq!((kills.toll().kills, kills.toll().taken_back > 1), (1, true));
    }

    #[test]
    fn what_may_have_to_do_with_a_wrong_count_is_told() {
        let (kills, before) = (Kills::default(), Instant::now());
        let none = kills.near(Role::Count, None);
        assert_eq!(none, "it was never killed; it never went back to a version before");
        kills.note(Role::Count);
        kills.note_back(Role::Count, "kept");
        let told = kills.near(Role::Count, Some(before));
        assert!(told.starts_with("its nearest kill was ") && told.contains(" after its"), "{told}");
        assert!(told.contains("it last went back ") && told.ends_with("state \"kept\""), "{told}");
        let told = kills.near(Role::Count, None);
        assert!(told.contains(" before now, and "), "{told}");
        assert_eq!(kills.near(Role::Heavy, None), none, "another plugin");
    }
}
