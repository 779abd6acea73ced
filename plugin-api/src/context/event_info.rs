//! What a plugin is told of an event.

use std::{fmt, time::Duration};

use ksi_abi::EventHandle;
use serde::de::DeserializeOwned;

use crate::{
    error::{Error, Result},
    payload,
};

/// The event of a call.
#[derive(Clone, Copy)]
pub struct EventInfo<'a> {
    pub(super) handle: &'a EventHandle,
}

impl<'a> EventInfo<'a> {
    /// Its name; useful to a handler of several names or of a pattern.
    pub fn name(&self) -> &'a str {
        self.handle.view().name.as_str()
    }

    /// Its number, unique in this host.
    pub fn id(&self) -> u64 {
        self.handle.view().id
    }

    /// The event in whose handler it was emitted.
    pub fn parent(&self) -> Option<u64> {
        Some(self.handle.view().parent).filter(|&parent| parent != 0)
    }

    /// The first event of the chain; itself, when it is the first.
    pub fn root(&self) -> u64 {
        self.handle.view().root
    }

    /// How many events lie between it and the first one.
    pub fn depth(&self) -> u32 {
        self.handle.view().depth
    }

    /// The plugin that emitted it; empty for the host itself and its clients.
    pub fn source(&self) -> &'a str {
        self.handle.view().source.as_str()
    }

    /// When it was emitted, since the Unix epoch.
    pub fn timestamp(&self) -> Duration {
        Duration::from_nanos(self.handle.view().timestamp)
    }

    /// What a client attached to it, or to the event it came from: `_correlation_id`, `_agent_id`,
    /// `_client_id`.
    pub fn attribute(&self, key: &str) -> Option<&'a str> {
        self.handle.attribute(key)
    }
}

impl fmt::Debug for EventInfo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventInfo").field("name", &self.name()).field("id", &self.id()).finish()
    }
}

/// An event that [`Context::wait_for`](crate::Context::wait_for) caught, or a
/// [`Watch`](crate::Watch) saw.
pub struct Received {
    handle: EventHandle,
}

impl Received {
    pub(crate) fn new(handle: EventHandle) -> Self {
        Received { handle }
    }

    /// What the event is.
    pub fn info(&self) -> EventInfo<'_> {
        EventInfo { handle: &self.handle }
    }

    /// Its payload, decoded as `T`: any type that implements serde's `Deserialize`, such as an
    /// event or a `#[payload]`, and `Value` for whatever came. Where the type is not plain from
    /// what follows, name it: `received.data::<Built>()?`. Each call decodes anew.
    ///
    /// # Errors
    /// `invalid_payload`, with the path inside it.
    pub fn data<T: DeserializeOwned>(&self) -> Result<T> {
        let payload = self.handle.payload();
        payload::decode_lent(payload.map_err(|(code, message)| Error::new(code, message))?)
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Received").field(&self.info()).finish()
    }
}
