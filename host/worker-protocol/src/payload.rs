//! What stands at the end of a body, or in a memory file in its place.

use std::borrow::Cow;

use crate::{MemoryFile, ProtocolError};

/// Bytes at the end of a frame: an event's JSON, a reply, a snapshot, a message.
#[derive(Debug)]
pub enum Payload<'a> {
    /// In the frame. Whoever sends more than [`IN_FILE_FROM`](crate::IN_FILE_FROM) of them sends a
    /// memory file, without doing anything for it.
    Bytes(&'a [u8]),
    /// Beside it.
    File(MemoryFile),
}

impl<'a> Payload<'a> {
    pub(crate) const NONE: Payload<'static> = Payload::Bytes(&[]);

    /// How many bytes there are.
    pub fn len(&self) -> u64 {
        match self {
            Payload::Bytes(bytes) => bytes.len() as u64,
            Payload::File(file) => file.length(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, from wherever they are, if they are no more than `limit`.
    ///
    /// # Errors
    /// [`ProtocolError::TooLong`], and those of [`MemoryFile::read`].
    pub fn into_bytes(self, limit: u64) -> Result<Cow<'a, [u8]>, ProtocolError> {
        match self {
            Payload::Bytes(bytes) if bytes.len() as u64 > limit => {
                let length = bytes.len() as u64;
                Err(ProtocolError::TooLong { frame: "with a payload", length, limit })
            }
            Payload::Bytes(bytes) => Ok(Cow::Borrowed(bytes)),
            Payload::File(file) => file.read(limit).map(Cow::Owned),
        }
    }

    /// The same as text, with what is no UTF-8 replaced.
    ///
    /// # Errors
    /// As in [`into_bytes`](Self::into_bytes).
    pub fn into_text(self, limit: u64) -> Result<String, ProtocolError> {
        Ok(match self.into_bytes(limit)? {
            Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Cow::Owned(bytes) => String::from_utf8(bytes)
                .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
        })
    }
}

impl<'a> From<&'a [u8]> for Payload<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Payload::Bytes(bytes)
    }
}

impl<'a> From<&'a str> for Payload<'a> {
    fn from(text: &'a str) -> Self {
        Payload::Bytes(text.as_bytes())
    }
}
