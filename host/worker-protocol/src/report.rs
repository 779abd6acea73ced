//! Reports of emitted events.

use crate::{
    ProtocolError,
    fields::{Fields, Write},
};

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum OutcomeKind {
    /// With a reply.
    Replied = 0,
    /// Well, without a reply.
    NoReply = 1,
    /// With an error.
    Failed = 2,
    /// With a panic.
    Panicked = 3,
    /// It took too long.
    TimedOut = 4,
    /// It was not started.
    Rejected = 5,
    /// The process of its plugin ended before it did.
    Crashed = 6,
}

/// One outcome of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome<'a> {
    /// How the call ended.
    pub kind: OutcomeKind,
    /// Why the event was not accepted, as a number of the host's refusals; 0 if it was.
    pub refusal: u32,
    /// The plugin that was called; empty for the host itself.
    pub plugin: &'a str,
    /// Its handler.
    pub handler: &'a str,
    /// The code of a failure.
    pub code: &'a str,
    /// The message of whatever is not well.
    pub message: &'a str,
    /// The reply, as JSON; empty if there is none.
    pub reply: &'a [u8],
}

impl<'a> Outcome<'a> {
    fn read(fields: &mut Fields<'a>) -> Result<Self, ProtocolError> {
        let kind = match fields.u8("kind of an outcome")? {
            0 => OutcomeKind::Replied,
            1 => OutcomeKind::NoReply,
            2 => OutcomeKind::Failed,
            3 => OutcomeKind::Panicked,
            4 => OutcomeKind::TimedOut,
            5 => OutcomeKind::Rejected,
            6 => OutcomeKind::Crashed,
            kind => return Err(fields.unknown("kind of an outcome", kind)),
        };
        Ok(Outcome {
            kind,
            refusal: fields.u32("refusal")?,
            plugin: fields.text("plugin")?,
            handler: fields.text("handler")?,
            code: fields.text("code")?,
            message: fields.text("message")?,
            reply: fields.bytes("reply")?,
        })
    }
}

pub(crate) fn write(outcome: &Outcome<'_>, to: &mut Vec<u8>) {
    to.u8(outcome.kind as u8);
    to.u32(outcome.refusal);
    to.text(outcome.plugin);
    to.text(outcome.handler);
    to.text(outcome.code);
    to.text(outcome.message);
    to.bytes(outcome.reply);
}

/// The outcomes of a report, read where they stand.
#[derive(Debug, Clone, Copy)]
pub struct Outcomes<'a> {
    count: u32,
    /// Read once before.
    bytes: &'a [u8],
}

impl<'a> Outcomes<'a> {
    /// So many outcomes, which are all that is there.
    ///
    /// # Errors
    /// They are not.
    pub fn read(count: u32, bytes: &'a [u8]) -> Result<Self, ProtocolError> {
        let mut fields = Fields::new("REPORT", bytes);
        for _ in 0..count {
            Outcome::read(&mut fields)?;
        }
        fields.end()?;
        Ok(Outcomes { count, bytes })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Each of them, in the order of the report.
    pub fn iter(&self) -> impl Iterator<Item = Outcome<'a>> + use<'a> {
        let mut fields = Fields::new("REPORT", self.bytes);
        std::iter::from_fn(move || Outcome::read(&mut fields).ok())
    }
}

/// The outcomes of a report that is kept.
#[derive(Debug, Clone, Default)]
pub struct OutcomesBuf {
    count: u32,
    bytes: Vec<u8>,
}

impl OutcomesBuf {
    /// These, which are so many.
    ///
    /// # Errors
    /// As in [`Outcomes::read`].
    pub fn new(count: u32, bytes: Vec<u8>) -> Result<Self, ProtocolError> {
        Outcomes::read(count, &bytes)?;
        Ok(OutcomesBuf { count, bytes })
    }

    /// One more.
    pub fn push(&mut self, outcome: &Outcome<'_>) {
        self.count += 1;
        write(outcome, &mut self.bytes);
    }

    /// What is in it.
    pub fn outcomes(&self) -> Outcomes<'_> {
        Outcomes { count: self.count, bytes: &self.bytes }
    }
}
