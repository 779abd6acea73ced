//! What a generation looks on at.
//!
//! A watch is no route: its events go on whether or not it reads. It ends with the generation, and
//! is counted with the subscriptions that are made at run time.

use std::{future::Future, sync::Arc};

use ksi_abi::{
    EventHandle, Refusal, RefusalCode,
    host::{WatchStep, watch_patterns},
};
use tokio::sync::Mutex;

use super::Session;
use crate::router::taps::{Watch, WatchEnd, Watched};

/// A watch of a generation. Dropping it ends it.
pub struct SessionWatch {
    /// Somebody awaits what comes next with it.
    watch: Mutex<Watch>,
    number: u64,
    session: Arc<Session>,
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

    /// What passes next.
    pub fn next(self: &Arc<Self>) -> impl Future<Output = WatchStep> + Send + use<> {
        let this = self.clone();
        async move {
            match this.watch.lock().await.next().await {
                Some(Watched::Event(event)) => {
                    WatchStep::Event(EventHandle::new(event.counted().clone()))
                }
                Some(Watched::Missed(missed)) if missed > 0 => WatchStep::Missed(missed),
                Some(Watched::Missed(_)) | None => WatchStep::Ended,
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
