//! Room for the replies of requests that are in service.
//!
//! A reply that has come must be kept until its client reads it, and a handler that is at work
//! cannot be stopped for a client that does not read. So what such replies may take is bounded
//! before their handlers are called: by what the event was replied to with lately. As long as a
//! connection knows nothing of an event, its requests count with [`UNKNOWN`] each.
//!
//! Handlers that take long are not waited for: what ends them may be what the client asks for next.
//! What they reply with in the end is bounded with all that waits in the host.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use ksi_kernel::lock::Lock;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// Bytes of a reply to an event that was not replied to on this connection.
const UNKNOWN: usize = 256 * 1024;
/// Events whose replies a connection remembers.
const REMEMBERED: usize = 16;
/// The unit of what is reserved, in bytes.
const UNIT: usize = 1024;
/// For how long a request waits for room, at the most.
const PATIENCE: Duration = Duration::from_millis(500);

/// What the requests of a connection may be replied to with, while they are in service.
pub(super) struct ReplyRoom {
    /// Made anew when it was waited for in vain.
    room: Lock<Arc<Semaphore>>,
    most: u32,
    timers: Handle,
    /// How large the replies to an event were lately, in units, the last event first.
    sizes: Lock<VecDeque<(String, u32)>>,
}

impl ReplyRoom {
    /// For so many bytes. One reply always has room. Waits with these timers.
    pub(super) fn new(bytes: usize, timers: Handle) -> Self {
        let most = units(bytes).min(u32::MAX >> 3);
        ReplyRoom { room: Lock::new(all(most)), most, timers, sizes: Lock::default() }
    }

    /// What a reply to the event is likely to take, in units.
    pub(super) fn expected(&self, event: &str) -> u32 {
        let sizes = self.sizes.lock();
        let known = sizes.iter().find(|(name, _)| name == event);
        known.map_or_else(|| units(UNKNOWN), |(_, size)| *size).min(self.most)
    }

    /// The event was replied to with so many bytes. Smaller replies count by and by.
    pub(super) fn replied(&self, event: &str, bytes: usize) {
        let size = units(bytes);
        let mut sizes = self.sizes.lock();
        if let Some((_, known)) = sizes.iter_mut().find(|(name, _)| name == event) {
            *known = size.max(*known - *known / 4);
        } else {
            sizes.truncate(REMEMBERED - 1);
            sizes.push_front((event.to_owned(), size));
        }
    }

    /// Whether there is as much room.
    pub(super) fn has(&self, units: u32) -> bool {
        self.room.lock().available_permits() >= units as usize
    }

    /// Waits until there is as much room. It stays: requests take it one after another.
    pub(super) async fn until(&self, units: u32) {
        let room = self.room.lock().clone();
        let in_time = {
            let _inside = self.timers.enter();
            timeout(PATIENCE, room.acquire_many(units))
        };
        if in_time.await.is_err() {
            *self.room.lock() = all(self.most);
        }
    }

    /// Takes room that is known to be there.
    pub(super) fn reserve(&self, units: u32) -> Option<OwnedSemaphorePermit> {
        self.room.lock().clone().try_acquire_many_owned(units).ok()
    }
}

fn all(units: u32) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(units as usize))
}

/// At least one.
fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn room() -> ReplyRoom {
        ReplyRoom::new(16 << 20, Handle::current())
    }

    /// How many requests of the event are taken on at a time.
    fn taken_on(room: &ReplyRoom, event: &str) -> usize {
        let units = room.expected(event);
        let next = || room.has(units).then(|| room.reserve(units).unwrap());
        std::iter::from_fn(next).collect::<Vec<_>>().len()
    }

    #[tokio::test]
    async fn as_many_are_taken_on_as_there_is_room_for_replies_like_the_last_ones() {
        let room = room();
        assert_eq!(taken_on(&room, "a:b"), 64, "nothing is known of it");
        room.replied("a:b", 1 << 20);
        assert_eq!(taken_on(&room, "a:b"), 16);
        room.replied("a:b", 10);
        assert_eq!(taken_on(&room, "a:b"), 21, "one small reply does not make them all small");
        (0..50).for_each(|_| room.replied("a:b", 10));
        assert!(taken_on(&room, "a:b") > 1000);
        room.replied("a:b", 100 << 20);
        assert_eq!(taken_on(&room, "a:b"), 1, "one is always taken on");
        assert_eq!(taken_on(&room, "c:d"), 64);
        (0..100).for_each(|number| room.replied(&format!("a:{number}"), 10));
        assert_eq!(room.sizes.lock().len(), REMEMBERED);
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_take_long_keep_the_next_one_waiting_for_a_moment_alone() {
        let room = room();
        let units = room.expected("a:b");
        let before: Vec<_> = std::iter::from_fn(|| room.reserve(units)).collect();
        assert_eq!((before.len(), room.has(units)), (64, false));
        let began = tokio::time::Instant::now();
        room.until(units).await;
        assert!(began.elapsed() >= PATIENCE && room.has(units));
        drop(before);
        assert_eq!(taken_on(&room, "a:b"), 64);
    }
}
