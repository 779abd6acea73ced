//! Frames that go out together.

use std::{collections::VecDeque, os::fd::OwnedFd};

use crate::{
    FRAME_LIMIT, HEAD, IN_FILE_FROM, Kind, MemoryFile, Outcome, Payload, ProtocolError,
    fields::Write, kind::PAYLOAD_IN_FILE, report,
};

/// What an empty batch keeps of its memory.
const KEPT: usize = 256 << 10;

/// Frames, one behind the other, that were not sent yet. It is what waits for a socket that takes
/// no more, too.
pub struct Batch {
    bytes: Vec<u8>,
    /// So many of them are sent.
    sent: usize,
    /// Where frames begin that have a descriptor.
    descriptors: VecDeque<Along>,
    /// Bytes in the memory files among these.
    in_files: u64,
    limit: u32,
}

struct Along {
    at: usize,
    descriptor: OwnedFd,
    /// Of a memory file.
    length: u64,
}

impl Default for Batch {
    fn default() -> Self {
        Batch::new()
    }
}

impl Batch {
    /// For frames whose bodies have no more than [`FRAME_LIMIT`] bytes.
    pub fn new() -> Self {
        Batch::with_limit(FRAME_LIMIT)
    }

    /// For frames whose bodies have no more than so many bytes.
    pub fn with_limit(limit: u32) -> Self {
        Batch { bytes: Vec::new(), sent: 0, descriptors: VecDeque::new(), in_files: 0, limit }
    }

    /// From here on the bodies of frames have no more than so many bytes.
    pub fn set_limit(&mut self, limit: u32) {
        self.limit = limit;
    }

    /// Bytes that are to be sent, those in memory files included.
    pub fn waiting(&self) -> u64 {
        (self.bytes.len() - self.sent) as u64 + self.in_files
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }

    /// Takes over what another one has, behind what is here.
    pub fn append(&mut self, other: &mut Batch) {
        let by = self.bytes.len();
        let moved = other.descriptors.drain(..);
        self.descriptors.extend(moved.map(|it| Along { at: it.at - other.sent + by, ..it }));
        self.bytes.extend_from_slice(&other.bytes[other.sent..]);
        self.in_files += other.in_files;
        other.clear();
    }

    /// Forgets all that was not sent.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.descriptors.clear();
        (self.sent, self.in_files) = (0, 0);
        if self.bytes.capacity() > KEPT {
            self.bytes = Vec::new();
        }
    }

    /// A report of these outcomes, which are written where they go: see
    /// [`FromHost::Report`](crate::FromHost).
    ///
    /// # Errors
    /// As with any frame.
    pub fn report<'a>(
        &mut self,
        id: u64,
        outcomes: impl IntoIterator<Item = Outcome<'a>>,
    ) -> Result<(), ProtocolError> {
        let start = self.begin();
        self.bytes.u32(0);
        let (first, mut count) = (self.bytes.len(), 0_u32);
        for outcome in outcomes {
            report::write(&outcome, &mut self.bytes);
            count += 1;
        }
        self.bytes[first - 4..first].copy_from_slice(&count.to_le_bytes());
        let (mut flags, mut along) = (0, None);
        if self.bytes.len() - first > IN_FILE_FROM
            && let Ok(file) = MemoryFile::of(&self.bytes[first..])
        {
            self.bytes.truncate(first);
            self.bytes.u64(file.length);
            flags = PAYLOAD_IN_FILE;
            along = Some((file.descriptor, file.length));
        }
        self.finish(start, Kind::Report, flags, id, along)
    }

    /// A frame of these fields, and what comes behind them and along.
    #[inline]
    pub(crate) fn put(
        &mut self,
        kind: Kind,
        mut flags: u8,
        id: u64,
        write: impl FnOnce(&mut Vec<u8>),
        payload: Payload<'_>,
        descriptor: Option<OwnedFd>,
    ) -> Result<(), ProtocolError> {
        let start = self.begin();
        write(&mut self.bytes);
        let mut along = descriptor.map(|descriptor| (descriptor, 0));
        let payload = match payload {
            Payload::Bytes(bytes) if bytes.len() > IN_FILE_FROM => in_file(bytes),
            payload => payload,
        };
        match payload {
            // Otherwise it is too long for a frame, which is found out without a copy.
            Payload::Bytes(bytes) if bytes.len() <= self.limit as usize => {
                self.bytes.extend_from_slice(bytes);
            }
            Payload::Bytes(bytes) => {
                self.bytes.truncate(start);
                return Err(self.too_long(kind, bytes.len()));
            }
            Payload::File(MemoryFile { descriptor, length }) => {
                self.bytes.u64(length);
                flags |= PAYLOAD_IN_FILE;
                along = Some((descriptor, length));
            }
        }
        self.finish(start, kind, flags, id, along)
    }

    #[inline]
    fn begin(&mut self) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; HEAD]);
        start
    }

    #[inline]
    fn finish(
        &mut self,
        start: usize,
        kind: Kind,
        flags: u8,
        id: u64,
        along: Option<(OwnedFd, u64)>,
    ) -> Result<(), ProtocolError> {
        let length = self.bytes.len() - start - HEAD;
        let Some(announced) = u32::try_from(length).ok().filter(|it| *it <= self.limit) else {
            self.bytes.truncate(start);
            return Err(self.too_long(kind, length));
        };
        let descriptors = u16::from(along.is_some());
        let head = &mut self.bytes[start..start + HEAD];
        head[..4].copy_from_slice(&announced.to_le_bytes());
        head[4] = kind as u8;
        head[5] = flags;
        head[6..8].copy_from_slice(&descriptors.to_le_bytes());
        head[8..].copy_from_slice(&id.to_le_bytes());
        if let Some((descriptor, length)) = along {
            self.in_files += length;
            self.descriptors.push_back(Along { at: start, descriptor, length });
        }
        Ok(())
    }

    #[cold]
    fn too_long(&self, kind: Kind, length: usize) -> ProtocolError {
        let (length, limit) = (length as u64, u64::from(self.limit));
        ProtocolError::TooLong { frame: kind.name(), length, limit }
    }

    /// What goes next, in one piece: up to the next frame with a descriptor, and with that of its
    /// first byte.
    pub(crate) fn next_piece(&self) -> (&[u8], Option<&OwnedFd>) {
        let mut along = self.descriptors.iter();
        let mut next = along.next();
        let first = next.filter(|it| it.at == self.sent);
        if first.is_some() {
            next = along.next();
        }
        let end = next.map_or(self.bytes.len(), |it| it.at);
        (&self.bytes[self.sent..end], first.map(|it| &it.descriptor))
    }

    /// So many bytes of the next piece are sent, and with the first one what goes along.
    pub(crate) fn is_sent(&mut self, count: usize) {
        if count > 0 && self.descriptors.front().is_some_and(|it| it.at == self.sent) {
            let gone = self.descriptors.pop_front();
            self.in_files -= gone.map_or(0, |it| it.length);
        }
        self.sent += count;
        if self.is_empty() {
            self.clear();
        } else if self.sent > KEPT && self.sent > self.bytes.len() / 2 {
            self.bytes.drain(..self.sent);
            self.descriptors.iter_mut().for_each(|it| it.at -= self.sent);
            self.sent = 0;
        }
    }
}

/// In a memory file; if the system has none to give, as it is.
#[cold]
fn in_file(bytes: &[u8]) -> Payload<'_> {
    MemoryFile::of(bytes).map_or(Payload::Bytes(bytes), Payload::File)
}
