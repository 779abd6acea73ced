//! A generation: one loaded version of a plugin, from its file to its instance.

use std::sync::{Arc, Weak};

use super::{
    body::Unused, info::GenerationInfo, live::LiveInstance, residence::Residence,
    services::HostServices,
};
use crate::plugin::file::copy::PrivateCopy;

/// A generation with all that it holds. The order of the fields is the order in which they may go:
/// what its instance has of the host, the residence, then the file that it is made of.
pub(crate) struct Generation {
    pub(crate) info: Arc<GenerationInfo>,
    pub(crate) services: Arc<HostServices>,
    /// The instance for whoever asks it for its state, without keeping it.
    pub(crate) live: Weak<dyn LiveInstance>,
    /// The instance, once no route and no call uses it any more; `None` when it was never made.
    pub(crate) unused: Option<Unused>,
    pub(crate) residence: Box<dyn Residence>,
    /// Shared with those who may go back to it.
    pub(crate) copy: Arc<PrivateCopy>,
}

/// Whether what an instance runs in is gone, and another instance is not there yet.
pub(in crate::plugin) fn is_down(live: &Weak<dyn LiveInstance>) -> bool {
    let live = live.upgrade();
    live.is_none_or(|live| live.body().is_some_and(|body| !body.is_there()))
}

impl Generation {
    /// Whether what its instance runs in is gone, and another instance is not there yet.
    pub(crate) fn is_down(&self) -> bool {
        is_down(&self.live)
    }
}
