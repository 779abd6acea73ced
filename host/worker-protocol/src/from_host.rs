//! What a host sends to a worker.

use std::os::fd::OwnedFd;

use crate::{
    Batch, Call, Event, Frame, Kind, Payload, ProtocolError, ReplyForm,
    fields::Write,
    kind::{BLOCKING, Sender},
};

/// A frame of a host. See `docs/worker-protocol.md` for what each is for, and whose number stands
/// in its head.
#[derive(Debug)]
pub enum FromHost<'a> {
    /// Which file to open, and within which limits: JSON of a [`life::Open`](crate::life::Open).
    Open(Payload<'a>),
    /// Make an instance from this configuration, which is JSON.
    Create(Payload<'a>),
    /// The instance takes its place: events come to it from here on. For workers of 1.1 and later.
    Live,
    /// Tasks end, and nothing more is subscribed: the instance goes soon.
    Detach,
    /// Drop the instance, answer, and end.
    Shutdown,
    /// Call a handler.
    Call(Call<'a>),
    /// Nobody waits for the end of this call any more.
    Cancel,
    /// What became of an event: so many [`Outcomes`](crate::Outcomes).
    Report {
        /// How many there are.
        count: u32,
        /// They themselves.
        outcomes: Payload<'a>,
    },
    /// What the worker asked for is refused.
    Refused {
        /// As a number of the host's refusals.
        code: u32,
        /// For people.
        text: &'a str,
    },
    /// The event that was waited for; none if it did not come in time.
    Waited(Option<Event<'a>>),
    /// What a watch shows.
    Watched(Watched<'a>),
    /// The most detailed level that anybody listens to: 0 none, 1 error to 5 trace.
    Level(u8),
    /// The descriptor that was asked for.
    Descriptor(OwnedFd),
    /// It is done.
    Done,
    /// There is nothing of that name.
    Nothing,
    /// Take a snapshot of this version.
    Snapshot {
        /// The version.
        version: u32,
    },
    /// Restore a snapshot.
    Restore(Restore<'a>),
    /// Read one as it is restored, and change nothing.
    ReadBack(Restore<'a>),
    /// Is the process there?
    Ping,
}

/// A snapshot.
#[derive(Debug)]
pub struct Restore<'a> {
    /// Its version.
    pub version: u32,
    /// Its bytes.
    pub state: Payload<'a>,
}

/// What a watch shows.
#[derive(Debug)]
pub enum Watched<'a> {
    /// An event that has passed.
    Event(Event<'a>),
    /// So many did not fit, and nothing more comes.
    Missed(u64),
    /// Nothing more comes.
    Ended,
}

const EVENT: u8 = 0;
const TIMED_OUT: u8 = 1;
const MISSED: u8 = 1;
const ENDED: u8 = 2;

impl<'a> FromHost<'a> {
    /// Reads a frame.
    ///
    /// # Errors
    /// What is wrong with it.
    #[inline]
    pub fn read(frame: Frame<'a>) -> Result<Self, ProtocolError> {
        let (kind, mut body) = frame.open(Sender::Host)?;
        let read = match kind {
            Kind::Call => FromHost::Call(Call {
                blocking: body.flag(BLOCKING),
                handler: body.fields.u64("handler")?,
                form: ReplyForm::read(&mut body.fields)?,
                nanoseconds_left: body.fields.u64("time left")?,
                event: Event::read(&mut body)?,
            }),
            Kind::Report => FromHost::Report {
                count: body.fields.u32("number of outcomes")?,
                outcomes: body.payload()?,
            },
            Kind::Cancel => FromHost::Cancel,
            Kind::Open => FromHost::Open(body.payload()?),
            Kind::Create => FromHost::Create(body.payload()?),
            Kind::Live => FromHost::Live,
            Kind::Detach => FromHost::Detach,
            Kind::Shutdown => FromHost::Shutdown,
            Kind::Refused => FromHost::Refused {
                code: body.fields.u32("code")?,
                text: body.fields.text("text")?,
            },
            Kind::Waited => FromHost::Waited(match body.fields.u8("end")? {
                EVENT => Some(Event::read(&mut body)?),
                TIMED_OUT => None,
                end => return Err(body.fields.unknown("end", end)),
            }),
            Kind::Watched => FromHost::Watched(match body.fields.u8("step")? {
                EVENT => Watched::Event(Event::read(&mut body)?),
                MISSED => Watched::Missed(body.fields.u64("number of missed events")?),
                ENDED => Watched::Ended,
                step => return Err(body.fields.unknown("step", step)),
            }),
            Kind::Level => FromHost::Level(body.fields.u8("level")?),
            Kind::Descriptor => FromHost::Descriptor(body.descriptor()?),
            Kind::Done => FromHost::Done,
            Kind::Nothing => FromHost::Nothing,
            Kind::Snapshot => FromHost::Snapshot { version: body.fields.u32("version")? },
            Kind::Restore | Kind::ReadBack => {
                let version = body.fields.u32("version")?;
                let restore = Restore { version, state: body.payload()? };
                match kind {
                    Kind::Restore => FromHost::Restore(restore),
                    _ => FromHost::ReadBack(restore),
                }
            }
            Kind::Ping => FromHost::Ping,
            // A host sends none of the others.
            kind => {
                return Err(ProtocolError::UnknownKind { kind: kind as u8, from: "host" });
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
        match self {
            FromHost::Call(call) => {
                let Call { handler, form, blocking, nanoseconds_left, mut event } = call;
                let payload = std::mem::replace(&mut event.payload, Payload::NONE);
                let write = |to: &mut Vec<u8>| {
                    to.u64(handler);
                    to.u8(form as u8);
                    to.u64(nanoseconds_left);
                    event.write(to);
                };
                let flags = if blocking { BLOCKING } else { 0 };
                to.put(Kind::Call, flags, id, write, payload, None)
            }
            FromHost::Report { count, outcomes } => {
                to.put(Kind::Report, 0, id, |to| to.u32(count), outcomes, None)
            }
            FromHost::Open(open) => to.put(Kind::Open, 0, id, none, open, None),
            FromHost::Create(config) => to.put(Kind::Create, 0, id, none, config, None),
            FromHost::Refused { code, text } => {
                let write = |to: &mut Vec<u8>| {
                    to.u32(code);
                    to.text(text);
                };
                to.put(Kind::Refused, 0, id, write, Payload::NONE, None)
            }
            FromHost::Waited(Some(event)) => put_event(Kind::Waited, event, id, to),
            FromHost::Waited(None) => {
                to.put(Kind::Waited, 0, id, |to| to.u8(TIMED_OUT), Payload::NONE, None)
            }
            FromHost::Watched(Watched::Event(event)) => put_event(Kind::Watched, event, id, to),
            FromHost::Watched(step) => {
                let write = |to: &mut Vec<u8>| match step {
                    Watched::Missed(count) => {
                        to.u8(MISSED);
                        to.u64(count);
                    }
                    _ => to.u8(ENDED),
                };
                to.put(Kind::Watched, 0, id, write, Payload::NONE, None)
            }
            FromHost::Level(level) => {
                to.put(Kind::Level, 0, id, |to| to.u8(level), Payload::NONE, None)
            }
            FromHost::Descriptor(descriptor) => {
                to.put(Kind::Descriptor, 0, id, none, Payload::NONE, Some(descriptor))
            }
            FromHost::Snapshot { version } => {
                to.put(Kind::Snapshot, 0, id, |to| to.u32(version), Payload::NONE, None)
            }
            FromHost::Restore(Restore { version, state }) => {
                to.put(Kind::Restore, 0, id, |to| to.u32(version), state, None)
            }
            FromHost::ReadBack(Restore { version, state }) => {
                to.put(Kind::ReadBack, 0, id, |to| to.u32(version), state, None)
            }
            FromHost::Cancel => to.put(Kind::Cancel, 0, id, none, Payload::NONE, None),
            FromHost::Live => to.put(Kind::Live, 0, id, none, Payload::NONE, None),
            FromHost::Detach => to.put(Kind::Detach, 0, id, none, Payload::NONE, None),
            FromHost::Shutdown => to.put(Kind::Shutdown, 0, id, none, Payload::NONE, None),
            FromHost::Done => to.put(Kind::Done, 0, id, none, Payload::NONE, None),
            FromHost::Nothing => to.put(Kind::Nothing, 0, id, none, Payload::NONE, None),
            FromHost::Ping => to.put(Kind::Ping, 0, id, none, Payload::NONE, None),
        }
    }
}

fn put_event(
    kind: Kind,
    mut event: Event<'_>,
    id: u64,
    to: &mut Batch,
) -> Result<(), ProtocolError> {
    let payload = std::mem::replace(&mut event.payload, Payload::NONE);
    let write = |to: &mut Vec<u8>| {
        to.u8(EVENT);
        event.write(to);
    };
    to.put(kind, 0, id, write, payload, None)
}
