//! What requests and answers look like in JSON. The plugin has its own types for the same.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A request; whoever answers it repeats the number.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Ask {
    pub(crate) number: u64,
    pub(crate) lane: u64,
    pub(crate) micros: u64,
    pub(crate) to: Option<String>,
    pub(crate) via: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Answer {
    pub(crate) number: u64,
    pub(crate) version: u32,
    pub(crate) count: Option<u64>,
    pub(crate) previous: Option<u64>,
    pub(crate) inner: Option<Box<Answer>>,
    pub(crate) trouble: Option<String>,
}

/// How a request ended: one outcome for each handler that it reached.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) outcomes: Vec<Outcome>,
}

#[derive(Debug)]
pub(crate) enum Outcome {
    Replied(Answer),
    /// `no_reply`, `panicked`, `timed_out`, `rejected`, or a failure's own code.
    Other {
        code: String,
        message: String,
    },
}

impl Outcome {
    pub(crate) fn of_reply(reply: Result<Answer, serde_json::Error>) -> Self {
        match reply {
            Ok(answer) => Outcome::Replied(answer),
            Err(error) => {
                let message = format!("the reply is no answer: {error}");
                Outcome::Other { code: "unreadable".to_owned(), message }
            }
        }
    }
}

/// What `read` answers: everything that a plugin keeps.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Whole {
    pub(crate) lanes: BTreeMap<u64, Counted>,
    entries: usize,
    entries_bytes: usize,
    checksum: u64,
}

impl Whole {
    /// The entries beside the counts: how many, of how many bytes, and a number for all of them.
    pub(crate) fn entries(&self) -> (usize, usize, u64) {
        (self.entries, self.entries_bytes, self.checksum)
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Counted {
    pub(crate) count: u64,
    pub(crate) last: u64,
}

/// What a plugin tells of a request that was sent.
#[derive(Debug, Deserialize)]
pub(crate) struct Applied {
    pub(crate) answer: Answer,
}

/// What a client inside a plugin asks.
#[derive(Debug, Deserialize)]
pub(crate) struct Turn {
    pub(crate) lane: u64,
    pub(crate) ended: Option<Ended>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Ended {
    pub(crate) micros: u64,
    outcomes: Vec<Told>,
}

#[derive(Debug, Deserialize)]
struct Told {
    code: String,
    reply: Option<Value>,
    message: String,
}

impl Ended {
    pub(crate) fn into_ending(self) -> Ending {
        let outcome = |told: Told| match told.reply {
            Some(reply) => Outcome::of_reply(serde_json::from_value(reply)),
            None => Outcome::Other { code: told.code, message: told.message },
        };
        Ending { outcomes: self.outcomes.into_iter().map(outcome).collect() }
    }
}

/// The answer to a [`Turn`].
#[derive(Debug, Serialize)]
pub(crate) struct Next {
    pub(crate) over: bool,
    pub(crate) request: Option<NextRequest>,
}

#[derive(Debug, Serialize)]
pub(crate) struct NextRequest {
    pub(crate) event: String,
    pub(crate) data: Ask,
}
