//! One frame of each kind, and ways to have their bytes.
#![allow(dead_code, clippy::unwrap_used)]

use std::{fs::File, io::Read, os::fd::OwnedFd};

use ksi_worker_protocol::{
    AttributesBuf, Batch, Call, Emit, EmitHow, Event, FromHost, FromWorker, Inbox, Log, Outcome,
    OutcomeKind, OutcomesBuf, Payload, ProtocolError, ReplyForm, Restore, Span, Subscribe,
    TextsBuf, Watch, Watched, transport,
};

pub(crate) fn null() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

/// 150 bytes of JSON.
pub(crate) const LETTER: &[u8] =
    b"{\"from\":\"anna\",\"to\":\"otto\",\"subject\":\"the garden\",\"lines\":[\"it \
rains\",\"come over when it stops\"],\"number\":1234567,\"read\":false,\"stamp\":0.85,\"x\":1}";

fn event(attributes: &AttributesBuf) -> Event<'_> {
    Event {
        id: 0x0102_0304_0506_0708,
        parent: 2,
        root: 3,
        timestamp: u64::MAX,
        depth: 5,
        name: "order:placed",
        source: "shop",
        attributes: attributes.attributes(),
        payload: Payload::Bytes(LETTER),
    }
}

pub(crate) const OUTCOMES: [Outcome<'static>; 2] = [
    Outcome {
        kind: OutcomeKind::REPLIED,
        refusal: 0,
        plugin: "shop",
        handler: "place",
        code: "",
        message: "",
        reply: LETTER,
    },
    Outcome {
        kind: OutcomeKind::CRASHED,
        refusal: 7,
        plugin: "bank",
        handler: "pay",
        code: "c",
        message: "ä",
        reply: b"",
    },
];

/// What is to be kept while frames borrow from it.
pub(crate) struct Lists {
    none: AttributesBuf,
    some: AttributesBuf,
    patterns: TextsBuf,
    outcomes: Vec<u8>,
}

impl Lists {
    pub(crate) fn new() -> Self {
        let some = [("_client_id", "7"), ("ä", "")].into_iter().collect();
        let patterns = ["order:*", "*"].into_iter().collect();
        // As they stand in a frame.
        let outcomes = {
            let mut batch = Batch::new();
            batch.report(1, OUTCOMES).unwrap();
            bytes_of(&mut batch)[16 + 4..].to_vec()
        };
        Lists { none: AttributesBuf::default(), some, patterns, outcomes }
    }

    pub(crate) fn of_host(&self) -> Vec<FromHost<'_>> {
        let call = |blocking, form, attributes| {
            let event = event(attributes);
            FromHost::Call(Call { handler: 9, form, blocking, nanoseconds_left: 10, event })
        };
        let restore = || Restore { version: 3, state: Payload::Bytes(b"[1]") };
        vec![
            FromHost::Open(Payload::Bytes(b"{}")),
            FromHost::Create(Payload::Bytes(b"{\"a\":1}")),
            FromHost::Live,
            FromHost::Detach,
            FromHost::Shutdown,
            call(false, ReplyForm::Json, &self.none),
            call(true, ReplyForm::Any, &self.some),
            FromHost::Cancel,
            FromHost::Report { count: 2, outcomes: Payload::Bytes(&self.outcomes) },
            FromHost::Refused { code: 3, text: "no" },
            FromHost::Waited(Some(event(&self.some))),
            FromHost::Waited(None),
            FromHost::Watched(Watched::Event(event(&self.none))),
            FromHost::Watched(Watched::Missed(8)),
            FromHost::Watched(Watched::Ended),
            FromHost::Level(4),
            FromHost::Descriptor(null()),
            FromHost::Done,
            FromHost::Nothing,
            FromHost::Snapshot { version: 1 },
            FromHost::Restore(restore()),
            FromHost::ReadBack(restore()),
            FromHost::Ping,
        ]
    }

    pub(crate) fn of_worker(&self) -> Vec<FromWorker<'_>> {
        let emit = |how, attributes| Emit {
            how,
            form: ReplyForm::Json,
            call: 4,
            timeout: 5,
            depth: 6,
            name: "a:b",
            attributes,
            payload: Payload::Bytes(LETTER),
        };
        let message = || Payload::Bytes("zu spät".as_bytes());
        let (capacity, patterns) = (64, self.patterns.texts());
        vec![
            FromWorker::Hello(Payload::Bytes(b"{}")),
            FromWorker::Opened(Payload::Bytes(b"[]")),
            FromWorker::Created,
            FromWorker::Bye,
            FromWorker::Reply { keeps: false, reply: Payload::Bytes(LETTER) },
            FromWorker::Reply { keeps: true, reply: Payload::Bytes(b"") },
            FromWorker::NoReply { keeps: true },
            FromWorker::Failed { keeps: false, code: "late", message: message() },
            FromWorker::Panicked { keeps: true, message: message() },
            FromWorker::Release,
            FromWorker::Cancel,
            FromWorker::Emit(emit(EmitHow::Emit, self.none.attributes())),
            FromWorker::Emit(emit(EmitHow::Request, self.some.attributes())),
            FromWorker::Emit(emit(EmitHow::Send, self.some.attributes())),
            FromWorker::Subscribe(Subscribe {
                handler: 1 << 32,
                priority: -5,
                timeout: 100,
                blocking: true,
                pattern: "a:*",
            }),
            FromWorker::Unsubscribe,
            FromWorker::Wait { timeout: 1, pattern: "a:b" },
            FromWorker::Watch(Watch { capacity, patterns }),
            FromWorker::Unwatch,
            FromWorker::Log(Log {
                call: 1,
                span: 2,
                level: 3,
                target: "a::b",
                fields: "n=1",
                message: "hello",
            }),
            FromWorker::Span(Span {
                call: 1,
                parent: 2,
                level: 3,
                target: "a::b",
                name: "walk",
                fields: "n=1",
            }),
            FromWorker::SpanEnd,
            FromWorker::Listen { address: "127.0.0.1:80" },
            FromWorker::Keep { name: "socket", descriptor: null() },
            FromWorker::Kept { name: "socket" },
            FromWorker::StopKeeping { name: "socket" },
            FromWorker::Pong,
            FromWorker::Stats(Payload::Bytes(b"{}")),
        ]
    }
}

/// The bytes of what is in a batch.
pub(crate) fn bytes_of(batch: &mut Batch) -> Vec<u8> {
    let (here, there) = transport::pair().unwrap();
    transport::send(&here, batch).unwrap();
    drop(here);
    let mut bytes = Vec::new();
    File::from(there).read_to_end(&mut bytes).unwrap();
    bytes
}

/// Takes all frames that these bytes hold, as either side would; what the first error is.
pub(crate) fn take(
    inbox: &mut Inbox,
    bytes: &[u8],
    mut each: impl FnMut(Result<FromHost<'_>, ProtocolError>, Result<FromWorker<'_>, ProtocolError>),
) -> Result<(), ProtocolError> {
    for side in [0, 1] {
        let mut at = 0;
        while at < bytes.len() {
            let room = inbox.room();
            let count = room.len().min(bytes.len() - at);
            room[..count].copy_from_slice(&bytes[at..at + count]);
            inbox.filled(count);
            at += count;
            while let Some(frame) = inbox.next()? {
                match side {
                    0 => each(FromHost::read(frame), Err(ProtocolError::DescriptorsLost)),
                    _ => each(Err(ProtocolError::DescriptorsLost), FromWorker::read(frame)),
                }
            }
        }
    }
    Ok(())
}

/// For comparing: a descriptor is another number at the other side.
pub(crate) fn told(frame: &impl std::fmt::Debug) -> String {
    let text = format!("{frame:?}");
    let mut parts = text.split("fd: ");
    let mut told = parts.next().unwrap().to_owned();
    for part in parts {
        told.push_str("fd: _");
        told.push_str(part.trim_start_matches(|it: char| it.is_ascii_digit()));
    }
    told
}

pub(crate) fn kept(outcomes: &[Outcome<'_>]) -> OutcomesBuf {
    let mut kept = OutcomesBuf::default();
    outcomes.iter().for_each(|it| kept.push(it));
    kept
}
