//! The fields of a body: numbers in little-endian, texts behind their length.

use crate::ProtocolError;

/// What of a body is not read yet.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    pub(crate) frame: &'static str,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    #[inline]
    pub(crate) fn new(frame: &'static str, body: &'a [u8]) -> Self {
        Fields { frame, rest: body }
    }

    #[inline]
    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], ProtocolError> {
        match self.rest.split_first_chunk::<N>() {
            Some((bytes, rest)) => {
                self.rest = rest;
                Ok(*bytes)
            }
            None => Err(self.truncated(field)),
        }
    }

    #[inline]
    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, ProtocolError> {
        self.array::<1>(field).map(|[byte]| byte)
    }

    #[inline]
    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, ProtocolError> {
        self.array(field).map(u32::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, ProtocolError> {
        self.array(field).map(u64::from_le_bytes)
    }

    #[inline]
    pub(crate) fn bytes(&mut self, field: &'static str) -> Result<&'a [u8], ProtocolError> {
        let length = self.u32(field)?;
        match usize::try_from(length).ok().and_then(|length| self.rest.split_at_checked(length)) {
            Some((bytes, rest)) => {
                self.rest = rest;
                Ok(bytes)
            }
            None => Err(self.truncated(field)),
        }
    }

    #[inline]
    pub(crate) fn text(&mut self, field: &'static str) -> Result<&'a str, ProtocolError> {
        let frame = self.frame;
        str::from_utf8(self.bytes(field)?).map_err(|_| ProtocolError::NotText { frame, field })
    }

    /// All that is left.
    #[inline]
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// What `read` takes of it, as it stands there.
    #[inline]
    pub(crate) fn taken(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<(), ProtocolError>,
    ) -> Result<&'a [u8], ProtocolError> {
        let all = self.rest;
        read(self)?;
        Ok(&all[..all.len() - self.rest.len()])
    }

    /// There is to be nothing more.
    #[inline]
    pub(crate) fn end(&self) -> Result<(), ProtocolError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(ProtocolError::Overlong { frame: self.frame, left }),
        }
    }

    #[cold]
    fn truncated(&self, field: &'static str) -> ProtocolError {
        ProtocolError::Truncated { frame: self.frame, field }
    }

    #[cold]
    pub(crate) fn unknown(&self, field: &'static str, value: impl Into<u64>) -> ProtocolError {
        ProtocolError::Unknown { frame: self.frame, field, value: value.into() }
    }
}

/// Writes fields behind one another.
pub(crate) trait Write {
    fn u8(&mut self, value: u8);
    fn u32(&mut self, value: u32);
    fn u64(&mut self, value: u64);
    fn bytes(&mut self, bytes: &[u8]);
    fn text(&mut self, text: &str);
}

impl Write for Vec<u8> {
    #[inline]
    fn u8(&mut self, value: u8) {
        self.push(value);
    }

    #[inline]
    fn u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    #[inline]
    fn u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        // What is longer does not fit into a frame, which is found out when it is finished.
        self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.extend_from_slice(bytes);
    }

    #[inline]
    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }
}
