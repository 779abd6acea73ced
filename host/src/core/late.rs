//! Whoever serves several requests one after another in one task, and has to answer the one that
//! does not return.
//!
//! A request that is [answered](Core::answered) has a task of its own, which costs more than most
//! handlers do. For those that are served in place nothing is kept but who is to be told, for as
//! long as that task is polled.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Weak},
    time::Duration,
};

use ksi_kernel::{
    executor::apart::{Late, Waits, waited_for},
    report::Report,
    router::progress::Progress,
};

use super::Core;

/// Told of a call that is late.
pub(crate) struct OnLate(Arc<dyn Waits>);

struct Told<F>(F);

impl<F: Fn(&Late<'_>) + Send + Sync> Waits for Told<F> {
    fn give_up(&self, late: &Late<'_>) {
        (self.0)(late);
    }
}

impl OnLate {
    /// `told` is called on the watchdog's thread, and must not block.
    pub(crate) fn new(told: impl Fn(&Late<'_>) + Send + Sync + 'static) -> Self {
        OnLate(Arc::new(Told(told)))
    }

    /// Polls a future with this being told of the calls in it.
    pub(crate) fn while_polled<'a, F: Future>(
        &self,
        future: Pin<&'a mut F>,
    ) -> impl Future<Output = F::Output> + Unpin + use<'a, F> {
        let waits: Weak<dyn Waits> = Arc::downgrade(&self.0);
        waited_for(waits, future)
    }
}

impl Core {
    /// What is known of an event whose handlers were called in place, and one of them has not
    /// returned in `after`.
    pub(crate) fn late_report(&self, event: &str, after: Duration) -> Report {
        self.router.late_report(event, after, &Progress::default())
    }
}
