//! Event names that an instance has had its host resolve.

use std::sync::OnceLock;

use ksi_abi::{HostRef, host::RouteRef};

use crate::event::EventSlot;

/// How many event types of a library have a place here. The others are emitted by name.
const PLACES: usize = 64;

/// By the number of the event type.
pub(crate) struct Routes([OnceLock<Option<RouteRef>>; PLACES]);

impl Default for Routes {
    fn default() -> Self {
        Routes([const { OnceLock::new() }; PLACES])
    }
}

impl Routes {
    /// The route of an event type, which the host is asked for once.
    #[inline]
    pub(crate) fn get(&self, slot: &EventSlot, name: &str, host: &HostRef) -> Option<&RouteRef> {
        let place = self.0.get(usize::try_from(slot.number()).ok()?)?;
        place.get_or_init(|| host.resolve(name)).as_ref()
    }
}
