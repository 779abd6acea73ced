//! A generation: one loaded version of a plugin, from its file to its instance.

use std::sync::{Arc, Weak};

use ksi_abi::Instance;
use tokio::sync::oneshot;

use super::{
    host_api::HostApiShim, info::GenerationInfo, library::PluginLibrary, live::LiveInstance,
};
use crate::plugin::file::copy::PrivateCopy;

/// A generation with all that it holds. The order of the fields is the order in which they may go: the way to the host
/// (the plugin's references to it are counted), the library, then the file that it is mapped from.
pub(crate) struct Generation {
    pub(crate) info: Arc<GenerationInfo>,
    pub(crate) shim: Arc<HostApiShim>,
    /// The ways to the host of further instances that were made of its library. It is needed until they are gone, too.
    pub(crate) others: Vec<Weak<HostApiShim>>,
    /// The instance for whoever asks it for its state, without keeping it.
    pub(crate) live: Weak<LiveInstance>,
    /// The instance, once no route and no call uses it any more; `None` when it was never made.
    pub(crate) unused: Option<oneshot::Receiver<Instance>>,
    pub(crate) library: PluginLibrary,
    /// Shared with those who may go back to it.
    pub(crate) copy: Arc<PrivateCopy>,
}
