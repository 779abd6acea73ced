//! A call that never got where it was to run, because nobody was there any more: it leaves the
//! generation that it was for, which it must not hold up, and is called anew.

use std::{future::Future, pin::Pin, sync::Arc};

use super::{HandlerInfo, accounted::Accounted, outcome::CallOutcome};

/// How a call goes on.
type Further = Pin<Box<dyn Future<Output = CallOutcome> + Send>>;

/// A call that was not delivered, as whoever was to deliver it gives it back.
pub struct Undelivered(Box<dyn FnOnce(UnfinishedCall) -> Further + Send>);

impl Undelivered {
    /// This is what the call goes on with, up to its one end: mostly
    /// [`Router::call_again`](crate::router::Router::call_again).
    pub fn new<F>(further: impl FnOnce(UnfinishedCall) -> F + Send + 'static) -> Self
    where
        F: Future<Output = CallOutcome> + Send + 'static,
    {
        Undelivered(Box::new(|call| Box::pin(further(call))))
    }

    pub(super) fn goes_on(self, call: UnfinishedCall) -> Further {
        (self.0)(call)
    }
}

/// A call that has begun, has not ended, and runs nowhere. Dropped, it counts as rejected.
pub struct UnfinishedCall(Accounted);

impl UnfinishedCall {
    pub(super) fn new(accounted: Accounted) -> Self {
        UnfinishedCall(accounted)
    }

    /// Whose it is, of the generation that it was for.
    pub fn handler(&self) -> &Arc<HandlerInfo> {
        &self.0.info
    }

    /// It gets nowhere, and ends so.
    pub fn end(mut self, how: CallOutcome) -> CallOutcome {
        self.0.end(&how);
        how
    }

    /// It has begun anew, and counts there.
    pub(crate) fn moved(mut self) {
        self.0.info.counts.moved();
        self.0.ended = true;
    }
}
