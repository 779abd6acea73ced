//! Reports as a worker has them.

use ksi_abi::{
    Buffer, Encoding, OutcomeCode, OutcomeView, Refusal, RefusalCode, ReplyEnd, ReportHandle,
    ReportObject,
};
use ksi_worker_protocol::{Outcome, OutcomeKind, OutcomesBuf, ProtocolError};

/// What became of an event that was emitted here.
pub(super) struct WorkerReport(OutcomesBuf);

impl WorkerReport {
    pub(super) fn read(count: u32, outcomes: Vec<u8>) -> Result<Self, ProtocolError> {
        OutcomesBuf::new(count, outcomes).map(WorkerReport)
    }

    /// That of an event which was not accepted.
    pub(super) fn refused(refusal: &Refusal) -> Self {
        let (mut outcomes, message) = (OutcomesBuf::default(), refusal.text());
        outcomes.push(&Outcome {
            kind: OutcomeKind::REJECTED,
            refusal: refusal.code.number(),
            plugin: "",
            handler: "",
            code: "rejected",
            message: &message,
            reply: b"",
        });
        WorkerReport(outcomes)
    }

    pub(super) fn into_handle(self) -> ReportHandle {
        ReportHandle::new(self)
    }

    /// For somebody who wants one reply.
    pub(super) fn into_reply(self) -> ReplyEnd {
        let one = self.outcome_at(0).filter(|_| self.len() == 1);
        match one.filter(|it| it.kind == OutcomeKind::REPLIED).map(|it| Buffer::from(it.reply)) {
            Some(reply) => ReplyEnd::Bytes(reply),
            None => ReplyEnd::Report(self.into_handle()),
        }
    }

    fn outcome_at(&self, index: usize) -> Option<Outcome<'_>> {
        self.0.outcomes().iter().nth(index)
    }
}

impl ReportObject for WorkerReport {
    fn len(&self) -> usize {
        self.0.outcomes().len()
    }

    fn code(&self, index: usize) -> OutcomeCode {
        self.outcome_at(index).map_or(OutcomeCode::FAILED, |it| OutcomeCode::of(it.kind.0))
    }

    fn outcome(&self, index: usize) -> OutcomeView<'_> {
        let outcome = self.outcome_at(index);
        OutcomeView {
            kind: self.code(index),
            plugin: outcome.map_or("", |it| it.plugin).into(),
            handler: outcome.map_or("", |it| it.handler).into(),
            code: outcome.map_or("", |it| it.code).into(),
            refusal: RefusalCode::of(outcome.map_or(0, |it| it.refusal)),
            message: outcome.map_or("", |it| it.message).into(),
        }
    }

    fn reply(&self, index: usize) -> Result<Encoding<'_>, (&str, &str)> {
        Ok(match self.outcome_at(index).map(|it| it.reply) {
            None | Some([]) => Encoding::Text("null"),
            Some(reply) => Encoding::Bytes(reply),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_have_the_numbers_that_plugins_know() {
        let all = [
            (OutcomeKind::REPLIED, OutcomeCode::REPLIED),
            (OutcomeKind::NO_REPLY, OutcomeCode::NO_REPLY),
            (OutcomeKind::FAILED, OutcomeCode::FAILED),
            (OutcomeKind::PANICKED, OutcomeCode::PANICKED),
            (OutcomeKind::TIMED_OUT, OutcomeCode::TIMED_OUT),
            (OutcomeKind::REJECTED, OutcomeCode::REJECTED),
            (OutcomeKind::CRASHED, OutcomeCode::CRASHED),
        ];
        for (ours, theirs) in all {
            assert_eq!(OutcomeCode::of(ours.0), theirs);
        }
    }
}
