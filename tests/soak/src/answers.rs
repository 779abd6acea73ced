//! Judging one answer, and the answers inside it: the number, and the version that gave it.

use std::time::{Duration, Instant};

use crate::{
    ledger::{Fault, Ledger},
    roles::Role,
    versions::Seen,
    wire::Answer,
};

/// How a request ended that is accounted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum As {
    /// As it was asked for.
    Asked,
    /// With the failure of a version that is bad on purpose.
    BadVersion,
    /// With a process that was killed.
    Killed,
}

/// What an answer comes to: how it ended, or what is wrong with it.
pub(crate) type Judged<T = As> = Result<T, (Fault, String)>;

/// The request that was asked, and when.
pub(crate) struct At<'a> {
    pub(crate) number: u64,
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    pub(crate) took: Duration,
    pub(crate) ledger: &'a Ledger,
}

impl At<'_> {
    /// Whether an answer has the number that was asked, from a version that may give it.
    pub(crate) fn check(&self, role: Role, answer: &Answer) -> Judged<Seen> {
        if answer.number != self.number {
            return Err((Fault::Wrong, format!("it was asked number {}", self.number)));
        }
        let seen = self.ledger.versions.answered(
            role,
            answer.version,
            self.began,
            self.ended,
            &self.ledger.kills,
        );
        seen.map_err(|text| (Fault::Wrong, text))
    }

    /// Whether a process of this plugin was killed while the request was under way.
    fn was_killed(&self, role: Role) -> bool {
        self.ledger.kills.explain(role, self.began, self.ended)
    }

    /// The same of the answer that a plugin got in turn, if it got one.
    pub(crate) fn inner<'b>(
        &self,
        answer: &'b Answer,
        role: Role,
    ) -> Judged<(As, Option<&'b Answer>)> {
        match (&answer.inner, &answer.trouble) {
            (Some(inner), None) => self.check(role, inner).map(|_| (As::Asked, Some(&**inner))),
            (None, Some(trouble)) if explains(trouble, self.ledger) => Ok((As::BadVersion, None)),
            (None, Some(trouble)) if crashed(trouble) && self.was_killed(role) => {
                Ok((As::Killed, None))
            }
            _ => Err((Fault::Unexplained, "it has no answer of whom it asked in turn".to_owned())),
        }
    }
}

/// Whether a plugin was told that the process of whom it asked has ended.
fn crashed(trouble: &str) -> bool {
    trouble.starts_with("crashed: ")
}

/// Whether a failure comes from a version that fails on purpose: its text names it.
pub(crate) fn explains(message: &str, ledger: &Ledger) -> bool {
    let number = message.rsplit_once("version ").and_then(|(_, rest)| rest.split(',').next());
    number.and_then(|number| number.parse().ok()).is_some_and(|it| ledger.versions.may_fail(it))
}
