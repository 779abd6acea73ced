//! Reports of emitted events.

use crate::{
    ProtocolError,
    fields::{Fields, Write},
};

/// How a call ended, by the number that plugins are told. One that this side does not know is not
/// well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutcomeKind(pub u8);

impl OutcomeKind {
    /// With a reply.
    pub const REPLIED: OutcomeKind = OutcomeKind(0);
    /// Well, without a reply.
    pub const NO_REPLY: OutcomeKind = OutcomeKind(1);
    /// With an error.
    pub const FAILED: OutcomeKind = OutcomeKind(2);
    /// With a panic.
    pub const PANICKED: OutcomeKind = OutcomeKind(3);
    /// It took too long.
    pub const TIMED_OUT: OutcomeKind = OutcomeKind(4);
    /// It was not started.
    pub const REJECTED: OutcomeKind = OutcomeKind(5);
    /// The process of its plugin ended before it did.
    pub const CRASHED: OutcomeKind = OutcomeKind(6);
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
        Ok(Outcome {
            kind: OutcomeKind(fields.u8("kind of an outcome")?),
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
    to.u8(outcome.kind.0);
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
