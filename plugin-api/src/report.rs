//! What became of an emitted event.

use std::{any::TypeId, borrow::Cow, fmt};

use ksi_abi::{Encoding, Layout, OutcomeCode, OutcomeView, ReportHandle};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    error::{Error, ErrorKind, Refusal, Result},
    payload,
    types::AwaitedReply,
};

/// One outcome per handler that the event reached, in the router's order: priority, then plugin
/// name, then order of declaration.
pub struct Report {
    handle: ReportHandle,
    event: Cow<'static, str>,
}

/// How one handler's call ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The plugin that was called; empty for the host itself.
    pub plugin: String,
    /// Its handler.
    pub handler: String,
    /// How it ended.
    pub result: OutcomeKind,
}

/// The ways in which a call ends.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum OutcomeKind {
    /// With this reply.
    Replied(Value),
    /// Well, without a reply.
    NoReply,
    /// With an error.
    Failed {
        /// For programs.
        code: String,
        /// For people.
        message: String,
    },
    /// With a panic.
    Panicked {
        /// Message and place of the panic.
        message: String,
    },
    /// The process that the handler ran in ended before it did.
    Crashed {
        /// How it ended, and what it said last.
        message: String,
    },
    /// It took longer than it may.
    TimedOut {
        /// What it was given.
        message: String,
    },
    /// It was not run, or not to its end.
    Rejected {
        /// Why.
        reason: String,
    },
}

impl OutcomeKind {
    /// Replied, or well without a reply.
    pub fn is_ok(&self) -> bool {
        matches!(self, OutcomeKind::Replied(_) | OutcomeKind::NoReply)
    }
}

impl Report {
    pub(crate) fn new(handle: ReportHandle, event: Cow<'static, str>) -> Self {
        Report { handle, event }
    }

    /// Every outcome. No failure is left out.
    pub fn outcomes(&self) -> Vec<Outcome> {
        let outcomes = self.handle.outcomes().enumerate();
        outcomes.map(|(place, view)| outcome(&view, self.reply(place))).collect()
    }

    /// Just the replies.
    pub fn results(&self) -> Vec<Value> {
        self.replies()
            .filter_map(|place| payload::decode_lent(self.reply(place).ok()?).ok())
            .collect()
    }

    /// Just the replies, decoded.
    ///
    /// # Errors
    /// A reply that is not a `T`, with the path inside it.
    pub fn results_as<T: AwaitedReply>(&self) -> Result<Vec<T>> {
        let replies = self.replies().map(|place| match self.value(place) {
            Some(reply) => Ok(T::clone(reply)),
            None => payload::decode_lent(self.reply(place)?),
        });
        replies.collect()
    }

    /// Whether somebody handled the event, and no handler failed, panicked, crashed, timed out or
    /// was rejected.
    ///
    /// For an event that need not have a handler, ask [`failed`](Self::failed).
    pub fn is_ok(&self) -> bool {
        self.handled() && !self.failed()
    }

    /// Whether a handler failed, panicked, crashed, timed out or was rejected, or the event was
    /// refused.
    pub fn failed(&self) -> bool {
        !self.handle.codes().all(OutcomeCode::is_ok)
    }

    /// Why the event was not accepted, if it was not. No handler has seen it then.
    pub fn refusal(&self) -> Option<Refusal> {
        self.handle.outcomes().find_map(|view| Refusal::of(view.refusal))
    }

    /// Whether there was a handler at all.
    pub fn handled(&self) -> bool {
        !self.handle.is_empty()
    }

    /// The one reply of a request.
    pub(crate) fn into_reply<T: DeserializeOwned + Layout + Clone>(self) -> Result<T> {
        let mut replies = self.replies();
        let event = &self.event;
        match (replies.next(), replies.next()) {
            (Some(place), None) => match self.value(place) {
                Some(reply) => Ok(T::clone(reply)),
                None => decode_reply(event, self.reply(place)?),
            },
            (Some(_), Some(_)) => {
                let text =
                    format!("{event} got {} replies where one was wanted", replies.count() + 2);
                Err(Error::new("several_replies", text))
            }
            (None, _) => Err(match self.handle.outcomes().find(|view| !view.kind.is_ok()) {
                Some(view) => failure(event, &view),
                None if self.handled() => return nothing(event),
                None => Error::new("no_handler", format_args!("nobody handles {event}")),
            }),
        }
    }

    /// The places of the replies among all outcomes.
    fn replies(&self) -> impl Iterator<Item = usize> + use<'_> {
        let codes = self.handle.codes().enumerate();
        codes.filter(|(_, code)| *code == OutcomeCode::REPLIED).map(|(place, _)| place)
    }

    /// A reply as the value that the handler gave, if both mean the same by its type.
    fn value<T: Layout>(&self, place: usize) -> Option<&T> {
        self.handle.value(place)?.get()
    }

    fn reply(&self, place: usize) -> Result<Encoding<'_>> {
        self.handle.reply(place).map_err(|(code, message)| Error::new(code, message))
    }
}

/// The report of an event, which the harness has no context to emit.
pub fn report(handle: ReportHandle, event: &str) -> Report {
    Report::new(handle, event.to_owned().into())
}

/// The one reply of an event that the harness emitted.
///
/// # Errors
/// As [`Context::request`](crate::Context::request).
pub fn reply<T: AwaitedReply>(report: Report) -> Result<T> {
    report.into_reply()
}

/// What stands for a reply where there was none, if it is awaited as one that there need not be:
/// `()`, an `Option`, or any other type that reads `null`. A [`Value`] would do as well, but
/// whoever takes any reply wants one.
fn nothing<T: DeserializeOwned + 'static>(event: &str) -> Result<T> {
    let none = match TypeId::of::<T>() == TypeId::of::<Value>() {
        true => None,
        false => serde_json::from_str("null").ok(),
    };
    none.ok_or_else(|| Error::new("no_reply", format_args!("no handler of {event} replied")))
}

/// The reply to a request, which came encoded.
pub(crate) fn decode_reply<T: DeserializeOwned>(event: &str, reply: Encoding<'_>) -> Result<T> {
    payload::decode_lent(reply).map_err(|error| {
        let text = format!("the reply to {event} is not what was expected: {error}");
        Error::new("invalid_reply", text)
    })
}

fn failure(event: &str, view: &OutcomeView<'_>) -> Error {
    let (plugin, message) = (view.plugin, view.message);
    let (kind, code) = match view.kind {
        OutcomeCode::PANICKED => (ErrorKind::Panicked, "panicked"),
        OutcomeCode::CRASHED => (ErrorKind::Crashed, "crashed"),
        OutcomeCode::TIMED_OUT => (ErrorKind::TimedOut, "timed_out"),
        OutcomeCode::REJECTED => (ErrorKind::Rejected, "rejected"),
        _ => (ErrorKind::Failed, view.code.as_str()),
    };
    let error = match plugin.is_empty() {
        // The host itself, or nobody: it was not accepted.
        true => Error::ended(kind, code, format_args!("{event}: {message}")),
        false => Error::ended(kind, code, format_args!("{event}, handled by {plugin}: {message}")),
    };
    error.because(view.refusal)
}

fn outcome(view: &OutcomeView<'_>, reply: Result<Encoding<'_>>) -> Outcome {
    let message = || view.message.as_str().to_owned();
    let result = match view.kind {
        OutcomeCode::REPLIED => match reply.and_then(payload::decode_lent) {
            Ok(value) => OutcomeKind::Replied(value),
            Err(error) => {
                OutcomeKind::Failed { code: "invalid_reply".to_owned(), message: error.to_string() }
            }
        },
        OutcomeCode::NO_REPLY => OutcomeKind::NoReply,
        OutcomeCode::PANICKED => OutcomeKind::Panicked { message: message() },
        OutcomeCode::CRASHED => OutcomeKind::Crashed { message: message() },
        OutcomeCode::TIMED_OUT => OutcomeKind::TimedOut { message: message() },
        OutcomeCode::REJECTED => OutcomeKind::Rejected { reason: message() },
        // Failed, or in a way that only a newer host knows.
        _ => OutcomeKind::Failed { code: view.code.as_str().to_owned(), message: message() },
    };
    Outcome {
        plugin: view.plugin.as_str().to_owned(),
        handler: view.handler.as_str().to_owned(),
        result,
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Report")
            .field("event", &self.event)
            .field("outcomes", &self.outcomes())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use ksi_abi::{RefusalCode, ReportObject};

    use super::*;

    /// The report of one call that ended so.
    struct Ended(OutcomeCode, &'static str);

    impl ReportObject for Ended {
        fn len(&self) -> usize {
            1
        }

        fn code(&self, _: usize) -> OutcomeCode {
            self.0
        }

        fn outcome(&self, _: usize) -> OutcomeView<'_> {
            OutcomeView {
                kind: self.0,
                plugin: "shop".into(),
                handler: "sell".into(),
                code: self.1.into(),
                refusal: RefusalCode::NONE,
                message: "it is gone".into(),
            }
        }

        fn reply(&self, _: usize) -> Result<Encoding<'_>, (&str, &str)> {
            Ok(Encoding::Text("null"))
        }
    }

    #[test]
    fn an_outcome_that_only_a_newer_host_knows_is_a_failure_with_its_code_and_text() {
        let report = || report(ReportHandle::new(Ended(OutcomeCode::of(99), "moved")), "shop:sell");
        assert!(report().failed() && !report().is_ok());
        let failed = OutcomeKind::Failed { code: "moved".into(), message: "it is gone".into() };
        assert_eq!(report().outcomes()[0].result, failed);
        let error = report().into_reply::<u32>().expect_err("it failed");
        assert_eq!(error.code(), "moved");
        assert_eq!(error.message(), "shop:sell, handled by shop: it is gone");
    }

    #[test]
    fn a_lost_process_and_a_handlers_own_error_of_that_code_are_told_apart() {
        let error = |code| {
            let report = report(ReportHandle::new(Ended(code, "crashed")), "shop:sell");
            report.into_reply::<u32>().expect_err("it failed")
        };
        let (lost, own) = (error(OutcomeCode::CRASHED), error(OutcomeCode::FAILED));
        assert_eq!((lost.code(), own.code()), ("crashed", "crashed"));
        assert_eq!((lost.kind(), own.kind()), (ErrorKind::Crashed, ErrorKind::Failed));
    }
}
