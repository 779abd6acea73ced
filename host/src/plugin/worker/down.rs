//! That the process of an instance has ended, for whoever follows up on it.

use std::sync::{Arc, Weak};

use super::link::{Link, Next};
use crate::plugin::instance::{residence::ProcessEnd, services::HostServices};

/// A process has ended in which an instance of a generation was.
#[derive(Debug, Clone)]
pub(crate) struct Down {
    /// What the instance had of the host.
    pub(crate) services: Weak<HostServices>,
    pub(crate) plugin: Arc<str>,
    pub(crate) generation: u64,
    pub(crate) end: ProcessEnd,
    /// For the calls that it never got.
    pub(super) calls: Weak<Link>,
}

impl Down {
    /// The same, told by somebody who has found it ended, and has no hold of its calls.
    pub(crate) fn found(
        services: Weak<HostServices>,
        plugin: Arc<str>,
        generation: u64,
        end: ProcessEnd,
    ) -> Self {
        Down { services, plugin, generation, end, calls: Weak::new() }
    }

    /// Calls that it never got go to the plugin's gate.
    pub(crate) fn calls_wait_at_gate(&self) {
        self.calls_go(Next::Gate);
    }

    /// Calls that it never got are refused for this reason.
    pub(crate) fn calls_are_refused(&self, reason: &str) {
        self.calls_go(Next::Nowhere(reason.into()));
    }

    fn calls_go(&self, next: Next) {
        if let Some(link) = self.calls.upgrade() {
            link.is_followed_by(next);
        }
    }
}
