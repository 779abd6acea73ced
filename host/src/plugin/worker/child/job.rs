//! What the host wants, by itself: read from a frame, and done.

use std::{os::fd::OwnedFd, sync::Arc};

use ksi_worker_protocol::{
    Frame, FromHost, FromWorker, Payload, ProtocolError, Watched, life::Open,
};

use super::{
    calls::{self, InstanceWork},
    event::EventData,
    host::WorkerHost,
    reader::End,
    report::WorkerReport,
};

pub(super) enum Job {
    Work { work: InstanceWork, blocking: bool },
    Cancel,
    Answer(HostAnswer),
    Watched(WatchNext),
    Level(u8),
    Ping,
    Life(Life),
    Nothing,
}

/// What the plugin has asked for.
pub(super) enum HostAnswer {
    Report(WorkerReport),
    Refused { code: u32, text: String },
    Waited(Option<EventData>),
    Descriptor(OwnedFd),
    Done,
    Nothing,
}

/// The next that a watch shows.
pub(super) enum WatchNext {
    Event(EventData),
    Missed(u64),
    Ended,
}

/// A step of the instance's life, which has a thread of its own.
pub(super) enum Life {
    Open {
        id: u64,
        open: Box<Open>,
    },
    Create {
        id: u64,
        config: Vec<u8>,
    },
    Detach {
        id: u64,
    },
    Shutdown {
        id: u64,
    },
    /// Nothing more comes.
    Over(End),
}

impl Job {
    /// What a frame asks for. Nothing of it borrows from the frame.
    pub(super) fn of(frame: Frame<'_>) -> Result<Self, ProtocolError> {
        let id = frame.id;
        let of_state = |payload: Payload<'_>| Ok(payload.into_bytes(u64::MAX)?.into_owned());
        Ok(match FromHost::read(frame)? {
            FromHost::Call(call) => {
                let event = EventData::of(id, call.event)?;
                let work = InstanceWork::Call { handler: call.handler, event: Arc::new(event) };
                Job::Work { work, blocking: call.blocking }
            }
            FromHost::Snapshot { version } => {
                Job::Work { work: InstanceWork::Snapshot { version }, blocking: false }
            }
            FromHost::Restore(restore) => {
                let state = of_state(restore.state)?;
                let work = InstanceWork::Restore { version: restore.version, state };
                Job::Work { work, blocking: false }
            }
            FromHost::ReadBack(restore) => {
                let state = of_state(restore.state)?;
                let work = InstanceWork::ReadBack { version: restore.version, state };
                Job::Work { work, blocking: false }
            }
            FromHost::Cancel => Job::Cancel,
            FromHost::Report { count, outcomes } => {
                let outcomes = outcomes.into_bytes(u64::MAX)?.into_owned();
                Job::Answer(HostAnswer::Report(WorkerReport::read(count, outcomes)?))
            }
            FromHost::Refused { code, text } => {
                Job::Answer(HostAnswer::Refused { code, text: text.to_owned() })
            }
            FromHost::Waited(event) => {
                let event = event.map(|it| EventData::of(0, it)).transpose()?;
                Job::Answer(HostAnswer::Waited(event))
            }
            FromHost::Watched(step) => Job::Watched(match step {
                Watched::Event(event) => WatchNext::Event(EventData::of(0, event)?),
                Watched::Missed(count) => WatchNext::Missed(count),
                Watched::Ended => WatchNext::Ended,
            }),
            FromHost::Level(level) => Job::Level(level),
            FromHost::Descriptor(descriptor) => Job::Answer(HostAnswer::Descriptor(descriptor)),
            FromHost::Done => Job::Answer(HostAnswer::Done),
            FromHost::Nothing => Job::Answer(HostAnswer::Nothing),
            FromHost::Ping => Job::Ping,
            FromHost::Open(open) => {
                let open = Box::new(Open::read(&open.into_bytes(u64::MAX)?)?);
                Job::Life(Life::Open { id, open })
            }
            FromHost::Create(config) => Job::Life(Life::Create { id, config: of_state(config)? }),
            // Its tasks run from `initialize` on.
            FromHost::Live => Job::Nothing,
            FromHost::Detach => Job::Life(Life::Detach { id }),
            FromHost::Shutdown => Job::Life(Life::Shutdown { id }),
        })
    }

    /// Does it, up to where it waits for something.
    pub(super) fn run(self, host: &Arc<WorkerHost>, id: u64) {
        match self {
            Job::Work { work, blocking } => calls::begin(host, id, work, blocking),
            Job::Cancel => host.calls.cancel(id),
            Job::Answer(answer) => host.answered(id, answer),
            Job::Watched(step) => host.watches.show(id, step),
            Job::Level(level) => {
                host.set_level(level);
                if let Some(instance) = host.instance() {
                    instance.log_level_changed();
                }
            }
            Job::Ping => {
                let stats = host.stats().to_json();
                let _ = host.out.put(FromWorker::Stats(Payload::Bytes(&stats)), 0);
                let _ = host.out.put_now(FromWorker::Pong, id);
            }
            Job::Life(life) => host.live(life),
            Job::Nothing => {}
        }
    }
}
