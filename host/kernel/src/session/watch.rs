//! What a generation looks on at.
//!
//! A watch is no route: its events go on whether or not it reads. It ends with the generation, and
//! is counted with the subscriptions that are made at run time.

use std::{future::Future, sync::Arc, time::Duration};

use ksi_abi::{
    Counted, Refusal, RefusalCode,
    host::{self, watch_patterns},
};
use tokio::sync::Mutex;

use super::Session;
use crate::{
    event::Event,
    router::taps::{Watch, WatchEnd, Watched},
};

/// What a generation sees pass.
pub enum Passed {
    /// An event.
    Event(Counted<Event>),
    /// So many events did not fit, and nothing more comes.
    Missed(u64),
}

/// A watch of a generation. Dropping it ends it.
pub struct SessionWatch {
    /// Somebody awaits what comes next with it.
    watch: Mutex<Watch>,
    number: u64,
    session: Arc<Session>,
}

impl Session {
    /// Awaits the next event that matches; `None` if it does not come in time.
    pub fn wait_for(
        &self,
        pattern: &str,
        timeout: Duration,
    ) -> impl Future<Output = Result<Option<Counted<Event>>, Refusal>> + Send + use<> {
        let waiting = host::pattern(pattern)
            .map(|pattern| (self.router.watch(&[pattern], 1), self.sleep(timeout)));
        async move {
            let (mut watch, timer) = waiting?;
            tokio::select! {
                biased;
                seen = watch.next() => match seen {
                    Some(Watched::Event(event)) => Ok(Some(event.counted().clone())),
                    Some(Watched::Missed(_)) | None => {
                        let text = "too much waits in the host for the event to be kept";
                        Err(Refusal::new(RefusalCode::QUEUE_BYTES, text))
                    }
                },
                () = timer => Ok(None),
            }
        }
    }

    /// Waits. The timer belongs to the host's runtime, whoever polls it.
    pub fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send + use<> {
        let _inside = self.router.runtime().enter();
        tokio::time::sleep(duration)
    }

    /// Shows events to this generation that it does not handle, until it drops the watch or goes.
    pub fn watch(
        self: &Arc<Self>,
        patterns: &[&str],
        capacity: usize,
    ) -> Result<SessionWatch, Refusal> {
        SessionWatch::new(self, patterns, capacity)
    }

    /// The patterns of each watch that this generation has.
    pub fn watched(&self) -> Vec<String> {
        self.subscriptions().watches.values().map(|(_, patterns)| patterns.clone()).collect()
    }
}

impl SessionWatch {
    pub(super) fn new(
        session: &Arc<Session>,
        patterns: &[&str],
        capacity: usize,
    ) -> Result<Self, Refusal> {
        let parsed = watch_patterns(patterns)?;
        let mut subscriptions = session.subscriptions();
        let (held, limit) = (subscriptions.held(), session.limits.subscriptions);
        if subscriptions.is_over() {
            let text =
                format_args!("{} is being retired and cannot watch any more", session.plugin);
            return Err(Refusal::new(RefusalCode::RETIRING, text));
        }
        if held >= limit {
            let text = format_args!(
                "{} has {held} subscriptions and watches made at run time, and {limit} are allowed (limits.subscriptions)",
                session.plugin
            );
            return Err(Refusal::new(RefusalCode::TOO_MANY_WATCHES, text));
        }
        let watch = session.router.watch(&parsed, capacity.min(session.limits.watched_events));
        subscriptions.next += 1;
        let number = subscriptions.next;
        let told = (WatchEnd::of(&watch), patterns.join(", "));
        subscriptions.watches.insert(number, told);
        drop(subscriptions);
        Ok(SessionWatch { watch: Mutex::new(watch), number, session: session.clone() })
    }

    /// What passes next; `None` when nothing more comes.
    pub fn next(self: &Arc<Self>) -> impl Future<Output = Option<Passed>> + Send + use<> {
        let this = self.clone();
        async move {
            match this.watch.lock().await.next().await {
                Some(Watched::Event(event)) => Some(Passed::Event(event.counted().clone())),
                Some(Watched::Missed(missed)) if missed > 0 => Some(Passed::Missed(missed)),
                Some(Watched::Missed(_)) | None => None,
            }
        }
    }
}

impl Drop for SessionWatch {
    fn drop(&mut self) {
        let ended = self.session.subscriptions().watches.remove(&self.number);
        drop(ended);
    }
}
