//! An event name as a plugin holds it that emits it often: with everything that an emit would have to look up.

use std::sync::{Arc, OnceLock};

use super::names::HeldName;
use crate::{
    dispatch::stripe::{Count, Striped},
    event::{Emitter, Names},
};

/// A plugin's way to emit one event name.
pub(crate) struct Resolved {
    /// By which the routing table finds it.
    pub(crate) held: Arc<HeldName>,
    emitter: Emitter,
    /// How often it was emitted; shared with the statistics.
    pub(crate) emitted: Arc<Count>,
    /// The emitter once more for each dispatch worker: every event counts a reference to it, and workers that emit at the
    /// same time would meet at one count.
    own: Striped<OnceLock<Arc<Emitter>>>,
}

impl Resolved {
    pub(crate) fn new(held: Arc<HeldName>, emitter: Emitter, emitted: Arc<Count>) -> Self {
        Resolved { held, emitter, emitted, own: Striped::default() }
    }

    #[inline]
    pub(crate) fn emitter(&self) -> &Arc<Emitter> {
        self.own.of_this_thread().get_or_init(|| Arc::new(self.emitter.again()))
    }

    /// For an event that carries no value, which keeps no library.
    #[inline]
    pub(crate) fn names(&self) -> &Arc<Names> {
        &self.emitter().names
    }

    pub(crate) fn name(&self) -> &str {
        &self.emitter.names.name
    }
}
