//! An event name as a plugin holds it that emits it often: with everything that an emit would have
//! to look up.

use std::sync::{Arc, OnceLock};

use super::names::HeldName;
use crate::{
    event::Emitter,
    executor::stripe::{Count, Striped},
};

/// A plugin's way to emit one event name.
pub struct Resolved {
    /// By which the routing table finds it.
    pub(crate) held: Arc<HeldName>,
    emitter: Emitter,
    /// How often it was emitted; shared with the statistics.
    pub(crate) emitted: Arc<Count>,
    /// The emitter once more for each dispatch worker: every event counts a reference to it, and
    /// workers that emit at the same time would meet at one count.
    own: Striped<OnceLock<Emitters>>,
}

/// What events of the name refer to.
pub(crate) struct Emitters {
    /// For those with a value: it keeps the plugin's library mapped.
    pub(crate) keeping: Arc<Emitter>,
    /// For those without.
    pub(crate) plain: Arc<Emitter>,
}

impl Resolved {
    pub(crate) fn new(held: Arc<HeldName>, emitter: Emitter, emitted: Arc<Count>) -> Self {
        Resolved { held, emitter, emitted, own: Striped::default() }
    }

    #[inline]
    pub(crate) fn emitters(&self) -> &Emitters {
        self.own.of_this_thread().get_or_init(|| Emitters {
            keeping: Arc::new(self.emitter.clone()),
            plain: Arc::new(Emitter { keeper: None, limit: 0, ..self.emitter.clone() }),
        })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.emitter.name
    }
}
