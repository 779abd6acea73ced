//! An instance in a process of its own.

use std::{sync::Arc, task::Context, time::Duration};

use ksi_abi::{Counted, ReplyForm};
use ksi_kernel::{call::Started, event::Event, report::OutcomeKind, value::Keeper};
use ksi_worker_protocol::{FromHost, Payload, Restore};

use super::{link::Link, process::Processes};
use crate::plugin::instance::{
    body::{Answer, Body, Unused},
    live::{FirstCalls, Live, LiveInstance},
};

/// An instance in a process. Dropping it waits until the process is gone, because what it holds
/// may be wanted by the next one.
pub(crate) struct WorkerBody {
    link: Arc<Link>,
    processes: Arc<Processes>,
    /// The handlers that may block their thread, by number.
    blocking: Arc<[bool]>,
    /// What it gets to end by itself.
    shutdown: Duration,
}

impl WorkerBody {
    pub(crate) fn new(
        link: Arc<Link>,
        processes: Arc<Processes>,
        blocking: Arc<[bool]>,
        shutdown: Duration,
    ) -> Self {
        WorkerBody { link, processes, blocking, shutdown }
    }

    fn may_block(&self, handler: u64) -> bool {
        let declared = usize::try_from(handler).ok().and_then(|index| self.blocking.get(index));
        declared.copied().unwrap_or_else(|| self.link.may_block(handler))
    }
}

impl Body for WorkerBody {
    fn start(
        &self,
        handler: u64,
        event: Counted<Event>,
        form: &ReplyForm,
        _: &mut Context<'_>,
    ) -> Started {
        let blocking = self.may_block(handler);
        Started::Elsewhere(Box::pin(self.link.clone().call(handler, blocking, event, *form)))
    }

    fn snapshot(&self, version: u32) -> Answer<'_> {
        Box::pin(async move {
            // To the host they have ended, and what they do is to be in the snapshot.
            self.link.late_calls_end().await;
            self.link.ask(|id, to| FromHost::Snapshot { version }.put(id, to)).await.into()
        })
    }

    fn restore<'a>(&'a self, version: u32, bytes: &'a [u8]) -> Answer<'a> {
        Box::pin(async move {
            let restore = || Restore { version, state: Payload::Bytes(bytes) };
            self.link.ask(|id, to| FromHost::Restore(restore()).put(id, to)).await.into()
        })
    }

    fn read_back<'a>(&'a self, version: u32, bytes: &'a [u8]) -> Answer<'a> {
        Box::pin(async move {
            let restore = || Restore { version, state: Payload::Bytes(bytes) };
            self.link.ask(|id, to| FromHost::ReadBack(restore()).put(id, to)).await.into()
        })
    }

    fn goes_live(&self) {
        self.link.goes_live();
    }

    fn end_tasks(&self) -> Answer<'_> {
        Box::pin(async move {
            let ended = self.link.ask(|id, to| FromHost::Detach.put(id, to));
            // Whoever hangs is ended with its process.
            let ended = self.processes.in_time(self.shutdown, ended).await;
            ended.map_or(OutcomeKind::NoReply, OutcomeKind::from)
        })
    }

    fn is_there(&self) -> bool {
        self.link.death().is_none()
    }

    fn keeper(&self) -> Option<Arc<dyn Keeper>> {
        None
    }

    fn into_live(self: Box<Self>, first_calls: FirstCalls) -> (Arc<dyn LiveInstance>, Unused) {
        let (live, unused) = Live::new(*self, first_calls);
        (live, unused)
    }
}

impl Drop for WorkerBody {
    fn drop(&mut self) {
        if self.link.death().is_none() {
            self.link.tell(FromHost::Shutdown);
        }
        self.processes.wait_for(self.link.process(), self.shutdown);
    }
}
