//! A generation: one loaded version of a plugin, from its file to its instance.

use std::sync::{Arc, Weak};

use super::{
    body::Unused, host_api::HostApiShim, info::GenerationInfo, live::LiveInstance,
    residence::Residence,
};
use crate::plugin::file::copy::PrivateCopy;

/// A generation with all that it holds. The order of the fields is the order in which they may go:
/// the way to the host (the plugin's references to it are counted), the residence, then the file
/// that it is made of.
pub(crate) struct Generation {
    pub(crate) info: Arc<GenerationInfo>,
    pub(crate) shim: Arc<HostApiShim>,
    /// The ways to the host of further instances that were made in its residence. It is needed
    /// until they are gone, too.
    pub(crate) others: Vec<Weak<HostApiShim>>,
    /// The instance for whoever asks it for its state, without keeping it.
    pub(crate) live: Weak<dyn LiveInstance>,
    /// The instance, once no route and no call uses it any more; `None` when it was never made.
    pub(crate) unused: Option<Unused>,
    pub(crate) residence: Box<dyn Residence>,
    /// Shared with those who may go back to it.
    pub(crate) copy: Arc<PrivateCopy>,
}

impl Generation {
    /// References of the plugin to the host, and its values that others have: as long as there are
    /// any, its residence is needed. The one that this holds is not counted.
    pub(crate) fn references(&self) -> usize {
        let others: usize = self.others.iter().map(Weak::strong_count).sum();
        (Arc::strong_count(&self.shim) + others).saturating_sub(1)
    }
}
