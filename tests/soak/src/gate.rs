//! The gate that every request passes: clients can be halted and let go on, and whoever halts them
//! knows when nothing of theirs is under way.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::sync::{Notify, watch};

/// What clients may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    Run,
    Halt,
    Over,
}

pub(crate) struct Gate {
    flow: watch::Sender<Flow>,
    under_way: AtomicUsize,
    none_under_way: Notify,
}

/// A request that is under way, until it is dropped.
pub(crate) struct UnderWay(Arc<Gate>);

impl Gate {
    /// Halted at first.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Gate {
            flow: watch::Sender::new(Flow::Halt),
            under_way: AtomicUsize::new(0),
            none_under_way: Notify::new(),
        })
    }

    /// Waits until a request may begin. `None`: no more, ever.
    pub(crate) async fn pass(self: &Arc<Self>) -> Option<UnderWay> {
        loop {
            match self.try_pass() {
                Ok(under_way) => return Some(under_way),
                Err(Flow::Over) => return None,
                Err(_) => {
                    // The sender lives as long as this gate, so there is no other end.
                    let _ = self.flow.subscribe().wait_for(|flow| *flow != Flow::Halt).await;
                }
            }
        }
    }

    /// Begins a request, or says what the clients are to do instead.
    pub(crate) fn try_pass(self: &Arc<Self>) -> Result<UnderWay, Flow> {
        // Counted before the look, so that whoever halts either is seen here or sees this.
        self.under_way.fetch_add(1, SeqCst);
        let under_way = UnderWay(self.clone());
        let flow = *self.flow.borrow();
        match flow {
            Flow::Run => Ok(under_way),
            other => Err(other),
        }
    }

    pub(crate) fn open(&self) {
        self.flow.send_replace(Flow::Run);
    }

    /// Lets no request begin, and waits until none is under way, but no longer than the limit: one
    /// that is lost is under way for ever. Tells whether none is.
    pub(crate) async fn halt(&self, flow: Flow, limit: Duration) -> bool {
        self.flow.send_replace(flow);
        let halted = async {
            loop {
                let mut none = std::pin::pin!(self.none_under_way.notified());
                none.as_mut().enable();
                if self.under_way.load(SeqCst) == 0 {
                    return;
                }
                none.await;
            }
        };
        tokio::time::timeout(limit, halted).await.is_ok()
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if self.0.under_way.fetch_sub(1, SeqCst) == 1 {
            self.0.none_under_way.notify_waiters();
        }
    }
}
