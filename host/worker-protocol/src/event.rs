//! Events as they go to a worker.

use crate::{
    Attributes, Payload, ProtocolError,
    fields::{Fields, Write},
    inbox::Body,
};

/// An event, as whoever handles it sees it. Its payload stands at the end of its frame.
#[derive(Debug)]
pub struct Event<'a> {
    /// Its number, unique in the host.
    pub id: u64,
    /// The event in whose handler it was emitted; 0 for none.
    pub parent: u64,
    /// The first event of the chain.
    pub root: u64,
    /// When it was emitted, in nanoseconds since the Unix epoch.
    pub timestamp: u64,
    /// How many events lie between it and the first one.
    pub depth: u32,
    /// Its name.
    pub name: &'a str,
    /// The plugin that emitted it; empty for the host itself.
    pub source: &'a str,
    /// What is attached to it.
    pub attributes: Attributes<'a>,
    /// What it carries, as JSON.
    pub payload: Payload<'a>,
}

impl<'a> Event<'a> {
    #[inline]
    pub(crate) fn read(body: &mut Body<'a>) -> Result<Self, ProtocolError> {
        let fields: &mut Fields<'a> = &mut body.fields;
        Ok(Event {
            id: fields.u64("id")?,
            parent: fields.u64("parent")?,
            root: fields.u64("root")?,
            timestamp: fields.u64("timestamp")?,
            depth: fields.u32("depth")?,
            name: fields.text("name")?,
            source: fields.text("source")?,
            attributes: Attributes::read(fields)?,
            payload: body.payload()?,
        })
    }

    /// All but the payload, which comes out.
    #[inline]
    pub(crate) fn write(self, to: &mut Vec<u8>) {
        to.u64(self.id);
        to.u64(self.parent);
        to.u64(self.root);
        to.u64(self.timestamp);
        to.u32(self.depth);
        to.text(self.name);
        to.text(self.source);
        self.attributes.write(to);
    }
}

/// A call of a handler.
#[derive(Debug)]
pub struct Call<'a> {
    /// The handler's number.
    pub handler: u64,
    /// In which form its reply is of use.
    pub form: ReplyForm,
    /// It is called on a thread that it may block.
    pub blocking: bool,
    /// What its caller has left for it, in nanoseconds; 0 if that is not said.
    pub nanoseconds_left: u64,
    /// What it is called for.
    pub event: Event<'a>,
}

/// In which form an emitter takes replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ReplyForm {
    /// As they come.
    Any = 0,
    /// As JSON.
    Json = 1,
}

impl ReplyForm {
    #[inline]
    pub(crate) fn read(fields: &mut Fields<'_>) -> Result<Self, ProtocolError> {
        match fields.u8("form of the reply")? {
            0 => Ok(ReplyForm::Any),
            1 => Ok(ReplyForm::Json),
            form => Err(fields.unknown("form of the reply", form)),
        }
    }
}
