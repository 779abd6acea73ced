//! A session as it is reached through the boundary of plugins: the forms of `ksi-abi` for what it
//! gives. For whoever stands between a session and a library, and for nobody else.

use ksi_abi::{
    Buffer, Counted, EmitOptions, EventHandle, Refusal, ReplyEnd, ReportHandle, Value,
    host::{WaitEnd, WatchStep},
};

use crate::{
    event::Event,
    router::plugin_report::PluginReport,
    session::{Link, Passed},
};

/// Through the boundary.
pub struct Boundary;

impl Link for Boundary {
    type Options<'a> = &'a EmitOptions<'a>;
    type Report = ReportHandle;
    type Reply = ReplyEnd;

    #[inline]
    fn report(report: PluginReport) -> ReportHandle {
        ReportHandle::new(report)
    }

    #[inline]
    fn value(value: Value) -> ReplyEnd {
        ReplyEnd::Value(value)
    }

    #[inline]
    fn bytes(bytes: Buffer) -> ReplyEnd {
        ReplyEnd::Bytes(bytes)
    }

    #[inline]
    fn other(report: ReportHandle) -> ReplyEnd {
        ReplyEnd::Report(report)
    }
}

/// How a wait ended.
pub fn waited(ended: Result<Option<Counted<Event>>, Refusal>) -> WaitEnd {
    match ended {
        Ok(Some(event)) => WaitEnd::Event(EventHandle::new(event)),
        Ok(None) => WaitEnd::TimedOut,
        Err(refusal) => WaitEnd::Refused(refusal),
    }
}

/// What a watch shows.
pub fn passed(next: Option<Passed>) -> WatchStep {
    match next {
        Some(Passed::Event(event)) => WatchStep::Event(EventHandle::new(event)),
        Some(Passed::Missed(missed)) => WatchStep::Missed(missed),
        None => WatchStep::Ended,
    }
}
