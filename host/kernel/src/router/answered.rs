//! An answer for whoever waits for an event of which one handler does not return.

use std::{future::Future, sync::Arc, time::Duration};

use super::{Router, progress::Progress, table::Called};
use crate::{executor::apart::apart, report::Report};

impl Router {
    /// Runs a future in a task of its own on the workers, in which an event of this name is
    /// emitted; what it gives, or `instead` of it once a handler has not returned within its
    /// timeout, with what is known by then. `None` if the host ends.
    pub async fn answered<T: Send + 'static>(
        self: &Arc<Self>,
        event: &str,
        progress: Arc<Progress>,
        polled: impl Future<Output = T> + Send + 'static,
        instead: impl Fn(Report) -> T + Send + Sync + 'static,
    ) -> Option<T> {
        let (router, event) = (self.clone(), event.to_owned());
        let instead = move |after| instead(router.late_report(&event, after, &progress));
        apart(self.workers(), polled, instead).await.ok()
    }

    /// What is known of an event of this name, one of whose handlers has not returned in `after`.
    pub fn late_report(&self, event: &str, after: Duration, progress: &Progress) -> Report {
        let called = || Called::from(self.table.load().targets(event)).handlers;
        Report::from(progress.given_up(after, called))
    }
}
