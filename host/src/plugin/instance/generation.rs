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
