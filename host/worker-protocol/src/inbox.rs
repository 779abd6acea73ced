//! Where bytes and descriptors come in, and whole frames are taken off.

use std::{collections::VecDeque, os::fd::OwnedFd};

use crate::{
    FRAME_LIMIT, HEAD, Kind, MemoryFile, Payload, ProtocolError,
    fields::Fields,
    kind::{PAYLOAD_IN_FILE, Sender},
};

/// What an inbox has at the least, and again when a large frame is gone.
const ROOM: usize = 64 << 10;
/// With less room than that behind what is there, it is moved to the front.
const LITTLE_ROOM: usize = 8 << 10;
/// Descriptors that wait for their frames. One read gives those of one `sendmsg` at the most.
const DESCRIPTORS: usize = 8;

/// Bytes that came in and are no whole frame yet, with the descriptors that came along.
pub struct Inbox {
    /// What there is lies between `start` and `end`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    descriptors: VecDeque<OwnedFd>,
    /// How many came beyond those that may wait.
    stray: usize,
    lost: bool,
    limit: u32,
}

impl Default for Inbox {
    fn default() -> Self {
        Inbox::new()
    }
}

impl Inbox {
    /// For frames whose bodies have no more than [`FRAME_LIMIT`] bytes.
    pub fn new() -> Self {
        Inbox::with_limit(FRAME_LIMIT)
    }

    /// For frames whose bodies have no more than so many bytes.
    pub fn with_limit(limit: u32) -> Self {
        let (buffer, descriptors) = (Vec::new(), VecDeque::new());
        Inbox { buffer, start: 0, end: 0, descriptors, stray: 0, lost: false, limit }
    }

    /// From here on the bodies of frames have no more than so many bytes.
    pub fn set_limit(&mut self, limit: u32) {
        self.limit = limit;
    }

    /// Where the next bytes go. Never empty once [`next`](Self::next) has given all whole frames.
    pub fn room(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.buffer.len() > ROOM {
                self.buffer = Vec::new();
            }
        }
        if self.start > 0 && self.buffer.len() - self.end < LITTLE_ROOM {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.buffer.len() {
            // It grows with what is there, and not with what a length announces.
            let most = HEAD.saturating_add(self.limit as usize);
            let length = self.buffer.len().saturating_mul(2).clamp(ROOM.min(most), most);
            self.buffer.reserve_exact(length - self.buffer.len());
            self.buffer.resize(length, 0);
        }
        &mut self.buffer[self.end..]
    }

    /// So many bytes were written to the front of the [`room`](Self::room).
    pub fn filled(&mut self, count: usize) {
        self.end = self.end.saturating_add(count).min(self.buffer.len());
    }

    /// One descriptor came with these bytes.
    pub fn came_along(&mut self, descriptor: OwnedFd) {
        match self.descriptors.len() < DESCRIPTORS {
            true => self.descriptors.push_back(descriptor),
            false => self.stray += 1,
        }
    }

    /// The system has dropped descriptors that were to come with these bytes.
    pub fn lost_descriptors(&mut self) {
        self.lost = true;
    }

    /// Bytes that it has reserved.
    pub fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    /// The next frame, once all of it is there.
    ///
    /// # Errors
    /// The head is none, or the descriptors are not those that it announces. What comes behind
    /// that is nothing that can be read.
    #[inline]
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Frame<'_>>, ProtocolError> {
        if self.lost {
            return Err(ProtocolError::DescriptorsLost);
        }
        let have = &self.buffer[self.start..self.end];
        let Some((head, rest)) = have.split_first_chunk::<HEAD>() else {
            let stray = self.stray + if have.is_empty() { self.descriptors.len() } else { 0 };
            return match stray {
                0 => Ok(None),
                count => Err(ProtocolError::StrayDescriptors { count }),
            };
        };
        let [l0, l1, l2, l3, kind, flags, d0, d1, id @ ..] = *head;
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        let announced = usize::from(u16::from_le_bytes([d0, d1]));
        if length > self.limit {
            let (length, limit) = (u64::from(length), u64::from(self.limit));
            return Err(ProtocolError::TooLong { frame: name_of(kind), length, limit });
        }
        if announced > 1 {
            let frame = name_of(kind);
            return Err(ProtocolError::Descriptors { frame, found: announced, expected: 1 });
        }
        let Some(body) = rest.get(..length as usize) else { return Ok(None) };
        let descriptor = match announced {
            0 => None,
            _ => match self.descriptors.pop_front() {
                Some(descriptor) => Some(descriptor),
                None => return Err(ProtocolError::DescriptorsMissing { announced, found: 0 }),
            },
        };
        self.start += HEAD + body.len();
        Ok(Some(Frame { id: u64::from_le_bytes(id), kind, flags, descriptor, body }))
    }
}

/// For people, of a kind that need not be known.
fn name_of(kind: u8) -> &'static str {
    Kind::of(kind).map_or("of an unknown kind", Kind::name)
}

/// A whole frame, whose body is not read yet.
#[derive(Debug)]
pub struct Frame<'a> {
    /// What it is about: a number of whoever began that.
    pub id: u64,
    kind: u8,
    flags: u8,
    descriptor: Option<OwnedFd>,
    body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// What it is, if that is known.
    pub fn kind(&self) -> Option<Kind> {
        Kind::of(self.kind)
    }

    /// What is in it, if such frames come from there.
    #[inline]
    pub(crate) fn open(self, from: Sender) -> Result<(Kind, Body<'a>), ProtocolError> {
        let Frame { kind: number, flags, descriptor, body, .. } = self;
        match Kind::of(number) {
            Some(kind) if kind.sender() == from || kind.sender() == Sender::Both => {
                let fields = Fields::new(kind.name(), body);
                Ok((kind, Body { fields, flags, known: 0, descriptor }))
            }
            _ => {
                let from = if from == Sender::Host { "host" } else { "worker" };
                Err(ProtocolError::UnknownKind { kind: number, from })
            }
        }
    }
}

/// The body of a frame while it is read. What is not asked for must not be there.
pub(crate) struct Body<'a> {
    pub(crate) fields: Fields<'a>,
    flags: u8,
    /// The flags that frames of this kind may have.
    known: u8,
    descriptor: Option<OwnedFd>,
}

impl<'a> Body<'a> {
    #[inline]
    pub(crate) fn flag(&mut self, flag: u8) -> bool {
        self.known |= flag;
        self.flags & flag != 0
    }

    #[inline]
    pub(crate) fn payload(&mut self) -> Result<Payload<'a>, ProtocolError> {
        if !self.flag(PAYLOAD_IN_FILE) {
            return Ok(Payload::Bytes(self.fields.rest()));
        }
        let length = self.fields.u64("length of the payload")?;
        Ok(Payload::File(MemoryFile { descriptor: self.descriptor()?, length }))
    }

    pub(crate) fn descriptor(&mut self) -> Result<OwnedFd, ProtocolError> {
        let frame = self.fields.frame;
        self.descriptor.take().ok_or(ProtocolError::Descriptors { frame, found: 0, expected: 1 })
    }

    /// Nothing of it is left.
    #[inline]
    pub(crate) fn end<T>(self, read: T) -> Result<T, ProtocolError> {
        let frame = self.fields.frame;
        self.fields.end()?;
        if self.flags & !self.known != 0 {
            return Err(ProtocolError::Flags { frame, flags: self.flags });
        }
        match self.descriptor {
            None => Ok(read),
            Some(_) => Err(ProtocolError::Descriptors { frame, found: 1, expected: 0 }),
        }
    }
}
