//! How the steps of scripted plugins end, and which have begun.

use std::{
    collections::{BTreeMap, VecDeque},
    future::Future,
    sync::{Arc, MutexGuard, OnceLock, atomic::AtomicBool},
    time::Duration,
};

use ksi_kernel::{lock::Lock, session::SessionWatch};
use tokio::{runtime::Handle, sync::watch};

use super::PATIENCE;

/// How a step ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::plugin::supervisor) enum Act {
    /// Well, which is what it does without a script.
    Well,
    /// With an error. A residence that is to be vacated stays.
    Fails,
    /// Without having begun: there is no process for it.
    CannotBegin,
    /// Once the test says how. A residence that is to be vacated is needed.
    Waits,
}

/// How steps end, and which have begun.
#[derive(Default)]
pub(in crate::plugin::supervisor) struct Script {
    acts: Lock<BTreeMap<String, VecDeque<Act>>>,
    begun: watch::Sender<Vec<(String, tokio::time::Instant)>>,
    ended: watch::Sender<BTreeMap<String, Act>>,
    /// Set when the test has taken too long.
    pub(super) late: watch::Sender<bool>,
    /// Whose clock tells when a step begins, also on threads that are not its own.
    pub(super) runtime: OnceLock<Handle>,
    /// What instances look at, by their versions.
    pub(in crate::plugin::supervisor) watches: Lock<BTreeMap<u32, Arc<SessionWatch>>>,
    /// Whether the process of the newest instance has ended, by version.
    pub(super) ended_processes: Lock<BTreeMap<u32, Arc<AtomicBool>>>,
}

impl Script {
    /// The next time that a step begins it ends so.
    pub(in crate::plugin::supervisor) fn next(&self, step: &str, act: Act) {
        self.acts().entry(step.to_owned()).or_default().push_back(act);
    }

    /// A step that waits ends.
    pub(in crate::plugin::supervisor) fn end(&self, step: &str, act: Act) {
        self.ended.send_modify(|ended| {
            ended.insert(step.to_owned(), act);
        });
    }

    /// Waits until a step has begun.
    pub(in crate::plugin::supervisor) async fn reached(&self, step: &str) {
        let mut begun = self.begun.subscribe();
        let reached = begun.wait_for(|begun| begun.iter().any(|(it, _)| it == step));
        let _ = self.unless_late(&format!("{step:?} has not begun"), reached).await;
    }

    /// All that have begun, in order.
    pub(in crate::plugin::supervisor) fn steps(&self) -> Vec<String> {
        self.begun.borrow().iter().map(|(step, _)| step.clone()).collect()
    }

    /// Waits until a step has begun so often.
    pub(in crate::plugin::supervisor) async fn reached_times(&self, step: &str, times: usize) {
        let mut begun = self.begun.subscribe();
        let often = |begun: &Vec<(String, tokio::time::Instant)>| {
            begun.iter().filter(|(it, _)| it == step).count() >= times
        };
        let reached = begun.wait_for(often);
        let _ = self.unless_late(&format!("{step:?} has not begun {times} times"), reached).await;
    }

    /// How often a step has begun.
    pub(in crate::plugin::supervisor) fn count(&self, step: &str) -> usize {
        self.begun.borrow().iter().filter(|(it, _)| it == step).count()
    }

    /// What passed on the clock between one time that a step began and the next.
    pub(in crate::plugin::supervisor) fn waits_before(&self, step: &str) -> Vec<Duration> {
        let begun = self.begun.borrow();
        let at: Vec<_> = begun.iter().filter(|(it, _)| it == step).map(|(_, at)| *at).collect();
        at.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    /// Waits for something that takes real time and none of the clock's. `not` says of what does
    /// not come to be in [`PATIENCE`].
    pub(in crate::plugin::supervisor) async fn unless_late<T>(
        &self,
        not: &str,
        what: impl Future<Output = T>,
    ) -> T {
        let mut late = self.late.subscribe();
        tokio::select! {
            biased;
            done = what => done,
            _ = late.wait_for(|late| *late) => {
                panic!("{not} within {PATIENCE:?}; begun were {:?}", self.steps())
            }
        }
    }

    pub(super) fn begin(&self, step: &str) -> Act {
        let _clock = self.runtime.get().map(Handle::enter);
        let now = tokio::time::Instant::now();
        self.begun.send_modify(|begun| begun.push((step.to_owned(), now)));
        self.acts().get_mut(step).and_then(VecDeque::pop_front).unwrap_or(Act::Well)
    }

    /// A step that may wait; whether it ends well.
    pub(super) async fn run(&self, step: &str) -> bool {
        self.ran(step).await == Act::Well
    }

    /// The same; how it ends.
    pub(super) async fn ran(&self, step: &str) -> Act {
        let mut act = self.begin(step);
        if act == Act::Waits {
            let mut ended = self.ended.subscribe();
            let told = ended.wait_for(|ended| ended.contains_key(step)).await;
            act = told.map_or(Act::Fails, |ended| ended[step]);
        }
        act
    }

    fn acts(&self) -> MutexGuard<'_, BTreeMap<String, VecDeque<Act>>> {
        self.acts.lock()
    }
}
