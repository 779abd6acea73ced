//! What the host of a plugin under test keeps for it, over all generations: by the code of a host.

use std::{collections::BTreeMap, os::fd::OwnedFd};

use ksi_abi::{Refusal, RefusalCode};
use ksi_kept::Address;
use ksi_plugin_api::Plugin;

use super::{Harness, Setup, generation::Generation};

impl<P: Plugin> Setup<P> {
    /// Something that an earlier generation has had the host keep: what the plugin gets by
    /// [`Context::kept`](ksi_plugin_api::Context::kept), or a listening socket by its address as it
    /// was given. [`Harness::replace`] hands on what there is without being told.
    pub fn kept(mut self, name: &str, descriptor: impl Into<OwnedFd>) -> Self {
        self.kept.insert(name.to_owned(), descriptor.into());
        self
    }
}

impl Harness {
    /// A duplicate of what the plugin has had the host keep by this name. There is nothing once it
    /// was shut down: the host keeps nothing of a plugin that it has unloaded, and the file of a
    /// Unix socket goes with that.
    pub fn kept(&self, name: &str) -> Option<OwnedFd> {
        self.world.kept.duplicate(self.world.plugin, name)
    }
}

impl Generation {
    /// What an earlier generation has left.
    pub(super) fn inherit(&self, all: BTreeMap<String, OwnedFd>) {
        all.into_iter().for_each(|(name, descriptor)| self.kept.inherit(&name, descriptor));
    }
}

/// Another socket, for somebody who is only tried out: the live generation may listen there.
pub(super) fn of_trial(address: &str) -> Result<OwnedFd, Refusal> {
    Address::parse(address)?.stand_in().map_err(|error| {
        let text = format_args!("{address} cannot be listened at: {error}");
        Refusal::new(RefusalCode::ADDRESS_UNAVAILABLE, text)
    })
}
