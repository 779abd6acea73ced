//! What an event carries, and what a handler replies, as JSON.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use ksi_abi::{Buffer, Encoding, json};
use serde::Serialize;

/// An encoded value that may be shared: a payload, or a reply.
#[derive(Clone)]
pub struct Payload(Arc<Buffer>);

impl Payload {
    /// From bytes that are JSON already. They are handed to plugins as they are.
    pub fn from_json_bytes(json: Vec<u8>) -> Self {
        Payload(Arc::new(Buffer::from(&*json)))
    }

    /// Encodes a value.
    ///
    /// # Errors
    /// The value cannot become JSON, a map with keys that are no strings for instance.
    pub fn encode(value: &(impl Serialize + ?Sized)) -> Result<Self, serde_json::Error> {
        Ok(Payload(Arc::new(json::encode(value)?)))
    }

    /// The encoded bytes.
    pub fn as_json(&self) -> &[u8] {
        &self.0
    }

    /// Decodes.
    ///
    /// # Errors
    /// The bytes are not a `T`.
    pub fn decode<T: serde::de::DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.0)
    }
}

impl Payload {
    /// What is in a buffer of somebody else.
    pub(crate) fn copied(buffer: &Buffer) -> Self {
        let copy = buffer.as_text().map_or_else(|| Buffer::from(&**buffer), Buffer::from);
        Payload(Arc::new(copy))
    }

    /// The bytes for a plugin.
    pub(crate) fn encoding(&self) -> Encoding<'_> {
        Encoding::of(&self.0)
    }

    /// `null`.
    pub(crate) fn nothing() -> &'static Payload {
        static NOTHING: OnceLock<Payload> = OnceLock::new();
        NOTHING.get_or_init(|| Payload::from_json_bytes(b"null".to_vec()))
    }
}

impl Payload {
    /// JSON in the host's own memory.
    pub(crate) fn of_buffer(buffer: Buffer) -> Self {
        Payload(Arc::new(buffer))
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}
