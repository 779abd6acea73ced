//! Requests that are answered in the order in which they came: those without a correlation id,
//! while one of them takes its time.

use std::{
    collections::VecDeque,
    sync::{Arc, MutexGuard},
};

use super::{Client, Slots};
use crate::control::{monitor::Monitor, reply, work::Work, writer::Batch};

/// What is served in order, with its slots.
pub(super) struct Ordered {
    work: Work<'static>,
    slots: Slots,
}

impl Client {
    /// Puts a request in line, behind the replies that there are.
    pub(super) fn serve_in_order(
        self: &Arc<Self>,
        work: Work<'static>,
        slots: u32,
        bytes: usize,
        before: &mut Batch,
    ) {
        let next = Ordered { work, slots: self.take(slots, bytes, 0) };
        let mut in_order = self.in_order();
        // No bound of its own: all that is in it holds a slot.
        if let Some(waiting) = &mut *in_order {
            waiting.push_back(next);
            return;
        }
        *in_order = Some(VecDeque::from([next]));
        drop(in_order);
        let (client, before) = (self.clone(), before.take());
        self.spawn(async move {
            client.send(before).await;
            client.serve_the_rest_in_order().await;
        });
    }

    pub(super) async fn serve_the_rest_in_order(&self) {
        while let Some(Ordered { work, slots }) = self.next_in_order() {
            let mut line = Vec::new();
            match work {
                Work::Malformed(malformed) => reply::malformed(&malformed, &mut line),
                Work::Request(request) if Monitor::is_for(&request) => {
                    self.monitor.answer(&request).await;
                }
                Work::Request(request) => {
                    let followed = !self.quick.is(&request.event);
                    if let Some(emitting) = self.emit(request, followed, &mut line) {
                        self.serve_to_the_end(emitting).await;
                    }
                }
            }
            self.send(line).await;
            drop(slots);
        }
    }

    /// The next one in line; after the last one, nothing is served in order any more.
    fn next_in_order(&self) -> Option<Ordered> {
        let mut in_order = self.in_order();
        let next = in_order.as_mut().and_then(VecDeque::pop_front);
        if next.is_none() {
            *in_order = None;
        }
        next
    }

    pub(super) fn in_order(&self) -> MutexGuard<'_, Option<VecDeque<Ordered>>> {
        self.in_order.lock()
    }
}
