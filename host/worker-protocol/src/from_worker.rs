//! What a worker sends to its host.

use std::os::fd::OwnedFd;

use crate::{
    Attributes, Batch, Frame, Kind, Payload, ProtocolError, ReplyForm, Texts,
    fields::Write,
    inbox::Body,
    kind::{BLOCKING, KEEPS, Sender},
};

/// A frame of a worker. See `docs/worker-protocol.md` for what each is for, and whose number
/// stands in its head.
#[derive(Debug)]
pub enum FromWorker<'a> {
    /// The worker is there: JSON of a [`life::Hello`](crate::life::Hello).
    Hello(Payload<'a>),
    /// The file is open: what it says of itself, as JSON.
    Opened(Payload<'a>),
    /// The instance is made.
    Created,
    /// The instance is dropped, and the process ends.
    Bye,
    /// A call ended with this reply.
    Reply {
        /// Its context is kept.
        keeps: bool,
        /// As JSON; of a snapshot, as the plugin has it.
        reply: Payload<'a>,
    },
    /// A call ended well.
    NoReply {
        /// Its context is kept.
        keeps: bool,
    },
    /// A call, an opening or a making of an instance ended with an error.
    Failed {
        /// The context of the call is kept.
        keeps: bool,
        /// For programs.
        code: &'a str,
        /// For people.
        message: Payload<'a>,
    },
    /// The same with a panic.
    Panicked {
        /// The context of the call is kept.
        keeps: bool,
        /// What it says.
        message: Payload<'a>,
    },
    /// The context of this call, which is over, is kept no longer.
    Release,
    /// Nobody waits any more for what this number asked for.
    Cancel,
    /// Emit an event.
    Emit(Emit<'a>),
    /// Call a handler for each event that matches, under this number.
    Subscribe(Subscribe<'a>),
    /// Do so no longer.
    Unsubscribe,
    /// Wait for an event.
    Wait {
        /// In nanoseconds.
        timeout: u64,
        /// What it is called.
        pattern: &'a str,
    },
    /// Show events that pass, under this number.
    Watch(Watch<'a>),
    /// Show no more.
    Unwatch,
    /// A line of the log.
    Log(Log<'a>),
    /// A span is opened, under this number.
    Span(Span<'a>),
    /// It is closed.
    SpanEnd,
    /// Give the socket that listens there, bound at the first time.
    Listen {
        /// Where.
        address: &'a str,
    },
    /// Keep a descriptor, in place of one of that name.
    Keep {
        /// By which it is found again.
        name: &'a str,
        /// What is kept.
        descriptor: OwnedFd,
    },
    /// Give the one of that name.
    Kept {
        /// Its name.
        name: &'a str,
    },
    /// Keep the one of that name no longer.
    StopKeeping {
        /// Its name.
        name: &'a str,
    },
    /// The process is there.
    Pong,
    /// What it takes: JSON of a [`life::Stats`](crate::life::Stats).
    Stats(Payload<'a>),
}

/// An event that a worker emits.
#[derive(Debug)]
pub struct Emit<'a> {
    /// What is to become of it.
    pub how: EmitHow,
    /// In which form its replies are of use.
    pub form: ReplyForm,
    /// The call in which it is emitted, by its number: the event of that call is its parent. 0 for
    /// none.
    pub call: u64,
    /// What its handlers may take in all, in nanoseconds; 0 for no such limit.
    pub timeout: u64,
    /// How many events lie before it that the host does not know.
    pub depth: u32,
    /// Its name.
    pub name: &'a str,
    /// What is attached to it.
    pub attributes: Attributes<'a>,
    /// What it carries, as JSON.
    pub payload: Payload<'a>,
}

/// What is to become of an emitted event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum EmitHow {
    /// Its report is awaited.
    Emit = 0,
    /// One reply is.
    Request = 1,
    /// Nothing is: it goes into the queue. Only a refusal comes back.
    Send = 2,
}

/// A subscription that is made at run time.
#[derive(Debug)]
pub struct Subscribe<'a> {
    /// The number of the handler that is called.
    pub handler: u64,
    /// Higher ones are called first.
    pub priority: i32,
    /// What a call may take, in nanoseconds; 0 stands for what the host has.
    pub timeout: u64,
    /// The handler is called on a thread that it may block.
    pub blocking: bool,
    /// What it is called for.
    pub pattern: &'a str,
}

/// Events that somebody looks on at.
#[derive(Debug)]
pub struct Watch<'a> {
    /// How many may wait to be looked at.
    pub capacity: u64,
    /// Which they are.
    pub patterns: Texts<'a>,
}

/// A line of the log.
#[derive(Debug)]
pub struct Log<'a> {
    /// The call that it belongs to, by its number; 0 for none.
    pub call: u64,
    /// The span that it belongs to, by its number; 0 for none.
    pub span: u64,
    /// 1 error, 2 warn, 3 info, 4 debug, 5 trace.
    pub level: u8,
    /// Where in the plugin it comes from.
    pub target: &'a str,
    /// Further fields as `name=value`, separated by spaces.
    pub fields: &'a str,
    /// The message.
    pub message: &'a str,
}

/// A span.
#[derive(Debug)]
pub struct Span<'a> {
    /// The call that it belongs to, by its number; 0 for none.
    pub call: u64,
    /// The span in which it lies, by its number; 0 for none.
    pub parent: u64,
    /// As in [`Log`].
    pub level: u8,
    /// Where in the plugin it comes from.
    pub target: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its fields as `name=value`, separated by spaces.
    pub fields: &'a str,
}

impl<'a> Emit<'a> {
    #[inline]
    fn read(body: &mut Body<'a>) -> Result<Self, ProtocolError> {
        let fields = &mut body.fields;
        let how = match fields.u8("way")? {
            0 => EmitHow::Emit,
            1 => EmitHow::Request,
            2 => EmitHow::Send,
            how => return Err(fields.unknown("way", how)),
        };
        Ok(Emit {
            how,
            form: ReplyForm::read(fields)?,
            call: fields.u64("call")?,
            timeout: fields.u64("timeout")?,
            depth: fields.u32("depth")?,
            name: fields.text("name")?,
            attributes: Attributes::read(fields)?,
            payload: body.payload()?,
        })
    }
}

impl<'a> FromWorker<'a> {
    /// Reads a frame.
    ///
    /// # Errors
    /// What is wrong with it.
    #[inline]
    pub fn read(frame: Frame<'a>) -> Result<Self, ProtocolError> {
        let (kind, mut body) = frame.open(Sender::Worker)?;
        let read = match kind {
            Kind::Reply => FromWorker::Reply { keeps: body.flag(KEEPS), reply: body.payload()? },
            Kind::NoReply => FromWorker::NoReply { keeps: body.flag(KEEPS) },
            Kind::Emit => FromWorker::Emit(Emit::read(&mut body)?),
            Kind::Failed => FromWorker::Failed {
                keeps: body.flag(KEEPS),
                code: body.fields.text("code")?,
                message: body.payload()?,
            },
            Kind::Panicked => {
                FromWorker::Panicked { keeps: body.flag(KEEPS), message: body.payload()? }
            }
            Kind::Release => FromWorker::Release,
            Kind::Cancel => FromWorker::Cancel,
            Kind::Hello => FromWorker::Hello(body.payload()?),
            Kind::Opened => FromWorker::Opened(body.payload()?),
            Kind::Created => FromWorker::Created,
            Kind::Bye => FromWorker::Bye,
            Kind::Subscribe => FromWorker::Subscribe(Subscribe {
                blocking: body.flag(BLOCKING),
                handler: body.fields.u64("handler")?,
                priority: body.fields.u32("priority")?.cast_signed(),
                timeout: body.fields.u64("timeout")?,
                pattern: body.fields.text("pattern")?,
            }),
            Kind::Unsubscribe => FromWorker::Unsubscribe,
            Kind::Wait => FromWorker::Wait {
                timeout: body.fields.u64("timeout")?,
                pattern: body.fields.text("pattern")?,
            },
            Kind::Watch => FromWorker::Watch(Watch {
                capacity: body.fields.u64("capacity")?,
                patterns: Texts::read(&mut body.fields, 1, "patterns")?,
            }),
            Kind::Unwatch => FromWorker::Unwatch,
            Kind::Log => FromWorker::Log(Log {
                call: body.fields.u64("call")?,
                span: body.fields.u64("span")?,
                level: body.fields.u8("level")?,
                target: body.fields.text("target")?,
                fields: body.fields.text("fields")?,
                message: body.fields.text("message")?,
            }),
            Kind::Span => FromWorker::Span(Span {
                call: body.fields.u64("call")?,
                parent: body.fields.u64("parent")?,
                level: body.fields.u8("level")?,
                target: body.fields.text("target")?,
                name: body.fields.text("name")?,
                fields: body.fields.text("fields")?,
            }),
            Kind::SpanEnd => FromWorker::SpanEnd,
            Kind::Listen => FromWorker::Listen { address: body.fields.text("address")? },
            Kind::Keep => {
                FromWorker::Keep { name: body.fields.text("name")?, descriptor: body.descriptor()? }
            }
            Kind::Kept => FromWorker::Kept { name: body.fields.text("name")? },
            Kind::StopKeeping => FromWorker::StopKeeping { name: body.fields.text("name")? },
            Kind::Pong => FromWorker::Pong,
            Kind::Stats => FromWorker::Stats(body.payload()?),
            // A worker sends none of the others.
            kind => {
                return Err(ProtocolError::UnknownKind { kind: kind as u8, from: "worker" });
            }
        };
        body.end(read)
    }

    /// Writes it behind what is in a batch. Nothing is written when that fails.
    ///
    /// # Errors
    /// [`ProtocolError::TooLong`].
    #[inline]
    pub fn put(self, id: u64, to: &mut Batch) -> Result<(), ProtocolError> {
        let none = |_: &mut Vec<u8>| {};
        let kept = |keeps: bool| if keeps { KEEPS } else { 0 };
        let plain = |kind, to: &mut Batch| to.put(kind, 0, id, none, Payload::NONE, None);
        let named = |kind, text: &str, to: &mut Batch| {
            to.put(kind, 0, id, |to| to.text(text), Payload::NONE, None)
        };
        match self {
            FromWorker::Reply { keeps, reply } => {
                to.put(Kind::Reply, kept(keeps), id, none, reply, None)
            }
            FromWorker::NoReply { keeps } => {
                to.put(Kind::NoReply, kept(keeps), id, none, Payload::NONE, None)
            }
            FromWorker::Emit(emit) => {
                let Emit { how, form, call, timeout, depth, name, attributes, payload } = emit;
                let write = |to: &mut Vec<u8>| {
                    to.u8(how as u8);
                    to.u8(form as u8);
                    to.u64(call);
                    to.u64(timeout);
                    to.u32(depth);
                    to.text(name);
                    attributes.write(to);
                };
                to.put(Kind::Emit, 0, id, write, payload, None)
            }
            FromWorker::Failed { keeps, code, message } => {
                to.put(Kind::Failed, kept(keeps), id, |to| to.text(code), message, None)
            }
            FromWorker::Panicked { keeps, message } => {
                to.put(Kind::Panicked, kept(keeps), id, none, message, None)
            }
            FromWorker::Hello(hello) => to.put(Kind::Hello, 0, id, none, hello, None),
            FromWorker::Opened(opened) => to.put(Kind::Opened, 0, id, none, opened, None),
            FromWorker::Stats(stats) => to.put(Kind::Stats, 0, id, none, stats, None),
            FromWorker::Subscribe(subscribe) => {
                let Subscribe { handler, priority, timeout, blocking, pattern } = subscribe;
                let write = |to: &mut Vec<u8>| {
                    to.u64(handler);
                    to.u32(priority.cast_unsigned());
                    to.u64(timeout);
                    to.text(pattern);
                };
                let flags = if blocking { BLOCKING } else { 0 };
                to.put(Kind::Subscribe, flags, id, write, Payload::NONE, None)
            }
            FromWorker::Wait { timeout, pattern } => {
                let write = |to: &mut Vec<u8>| {
                    to.u64(timeout);
                    to.text(pattern);
                };
                to.put(Kind::Wait, 0, id, write, Payload::NONE, None)
            }
            FromWorker::Watch(Watch { capacity, patterns }) => {
                let write = |to: &mut Vec<u8>| {
                    to.u64(capacity);
                    patterns.write(to);
                };
                to.put(Kind::Watch, 0, id, write, Payload::NONE, None)
            }
            FromWorker::Log(Log { call, span, level, target, fields, message }) => {
                let write = |to: &mut Vec<u8>| {
                    to.u64(call);
                    to.u64(span);
                    to.u8(level);
                    to.text(target);
                    to.text(fields);
                    to.text(message);
                };
                to.put(Kind::Log, 0, id, write, Payload::NONE, None)
            }
            FromWorker::Span(Span { call, parent, level, target, name, fields }) => {
                let write = |to: &mut Vec<u8>| {
                    to.u64(call);
                    to.u64(parent);
                    to.u8(level);
                    to.text(target);
                    to.text(name);
                    to.text(fields);
                };
                to.put(Kind::Span, 0, id, write, Payload::NONE, None)
            }
            FromWorker::Keep { name, descriptor } => {
                let write = |to: &mut Vec<u8>| to.text(name);
                to.put(Kind::Keep, 0, id, write, Payload::NONE, Some(descriptor))
            }
            FromWorker::Listen { address } => named(Kind::Listen, address, to),
            FromWorker::Kept { name } => named(Kind::Kept, name, to),
            FromWorker::StopKeeping { name } => named(Kind::StopKeeping, name, to),
            FromWorker::Created => plain(Kind::Created, to),
            FromWorker::Bye => plain(Kind::Bye, to),
            FromWorker::Release => plain(Kind::Release, to),
            FromWorker::Cancel => plain(Kind::Cancel, to),
            FromWorker::Unsubscribe => plain(Kind::Unsubscribe, to),
            FromWorker::Unwatch => plain(Kind::Unwatch, to),
            FromWorker::SpanEnd => plain(Kind::SpanEnd, to),
            FromWorker::Pong => plain(Kind::Pong, to),
        }
    }
}
