//! What became of an event: one outcome per handler.

use std::{sync::Arc, time::Duration};

use crate::event::Payload;

/// How one handler's call ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The plugin that was called; empty for the host itself.
    pub plugin: Arc<str>,
    /// Its handler.
    pub handler: Arc<str>,
    /// How it ended.
    pub result: OutcomeKind,
}

/// The ways in which a call ends.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum OutcomeKind {
    /// With this reply.
    Replied(Payload),
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
    /// It took longer than it may. It was cancelled at its next await; one that does not get there
    /// goes on, and counts as timed out when it ends.
    TimedOut {
        /// What it was given.
        after: Duration,
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

    /// A code for programs; of a failure its own, which its author chooses freely: that a process
    /// was lost is [`Crashed`](Self::Crashed) alone, and not whatever has this code.
    pub fn code(&self) -> &str {
        match self {
            OutcomeKind::Replied(_) => "replied",
            OutcomeKind::NoReply => "no_reply",
            OutcomeKind::Failed { code, .. } => code,
            OutcomeKind::Panicked { .. } => "panicked",
            OutcomeKind::Crashed { .. } => "crashed",
            OutcomeKind::TimedOut { .. } => "timed_out",
            OutcomeKind::Rejected { .. } => "rejected",
        }
    }

    /// A message for people; empty when all is well.
    pub fn message(&self) -> String {
        match self {
            OutcomeKind::Replied(_) | OutcomeKind::NoReply => String::new(),
            OutcomeKind::Failed { message, .. } => message.clone(),
            OutcomeKind::Panicked { message } => format!("the handler panicked: {message}"),
            OutcomeKind::Crashed { message } => message.clone(),
            OutcomeKind::TimedOut { after } if after.is_zero() => {
                "no time was left for the handler".to_owned()
            }
            OutcomeKind::TimedOut { after } => {
                format!("the handler did not finish within {}", humantime::format_duration(*after))
            }
            OutcomeKind::Rejected { reason } => reason.clone(),
        }
    }
}

/// Every outcome of one emitted event, in the router's order: priority, then plugin name, then
/// order of declaration.
#[derive(Debug, Clone, Default)]
pub struct Report {
    outcomes: Vec<Outcome>,
    /// Whether the event was refused before any handler was looked for; the one outcome says why.
    refused: bool,
}

impl Report {
    pub(crate) fn new(outcomes: Vec<Outcome>) -> Self {
        Report { outcomes, refused: false }
    }

    /// The report of an event that was not accepted.
    pub(crate) fn refused(reason: String) -> Self {
        let result = OutcomeKind::Rejected { reason };
        let outcome = Outcome { plugin: "".into(), handler: "".into(), result };
        Report { outcomes: vec![outcome], refused: true }
    }

    /// Every outcome.
    pub fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    /// Just the replies.
    pub fn replies(&self) -> impl Iterator<Item = &Payload> {
        self.outcomes.iter().filter_map(|outcome| match &outcome.result {
            OutcomeKind::Replied(payload) => Some(payload),
            _ => None,
        })
    }

    /// Whether somebody handled the event, and every handler ended well. For an event that need not
    /// have a handler, ask for the first [`error`](Self::error).
    pub fn is_ok(&self) -> bool {
        !self.unhandled() && self.error().is_none()
    }

    /// The first outcome that is not well.
    pub fn error(&self) -> Option<&Outcome> {
        self.outcomes.iter().find(|outcome| !outcome.result.is_ok())
    }

    /// Whether nobody handles the event.
    pub fn unhandled(&self) -> bool {
        self.outcomes.is_empty()
    }

    /// Whether the event was not accepted: too large, too deep, or the host is stopping.
    pub fn was_refused(&self) -> bool {
        self.refused
    }
}

/// The report of an event that was not let in, with a code for programs.
pub fn not_let_in(code: &str, message: &str) -> Report {
    let result = OutcomeKind::Failed { code: code.to_owned(), message: message.to_owned() };
    let outcome = Outcome { plugin: "".into(), handler: "".into(), result };
    Report { outcomes: vec![outcome], refused: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_nobody_handled_is_not_ok() {
        let outcome = |result| Outcome { plugin: "p".into(), handler: "h".into(), result };
        assert!(!Report::default().is_ok());
        assert!(Report::default().error().is_none());
        assert!(Report::new(vec![outcome(OutcomeKind::NoReply)]).is_ok());
        let bad = OutcomeKind::Panicked { message: "no".into() };
        assert!(!Report::new(vec![outcome(OutcomeKind::NoReply), outcome(bad)]).is_ok());
        assert!(!Report::refused("too deep".into()).is_ok());
    }
}
