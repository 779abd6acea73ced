//! What the program asks the emitting plugin to do, and what comes of it.

use ksi_plugin_api::prelude::*;

/// How an event gets to its handlers.
#[payload]
#[derive(Copy, PartialEq, Eq)]
pub enum Lane {
    /// Plain data of a type that emitter and handlers share.
    Shared,
    /// Letters of a type that they share.
    SharedLetters,
    /// Letters of a type that the emitter has a definition of its own of: only JSON goes from one
    /// to the other.
    Json,
}

/// To which handlers.
#[payload]
#[derive(Copy, PartialEq, Eq)]
pub enum Route {
    /// One that the plugin declares; the one reply is requested.
    Request,
    /// One that subscribed to a pattern.
    Pattern,
    /// So many that subscribed at run time, one of [`FAN_OUT`](crate::FAN_OUT); all replies are
    /// taken from the report.
    Emit(u32),
}

/// `bench:run`: emit again and again, and check every reply.
#[event("bench:run")]
#[derive(Copy, PartialEq, Eq)]
pub struct Run {
    /// How.
    pub lane: Lane,
    /// To whom.
    pub route: Route,
    /// Whether each handler has to be polled twice.
    pub pending: bool,
    /// The longest it may take, looked at every `batch` rounds; 0 for as long as the rounds take.
    pub nanos: u64,
    /// The most rounds.
    pub rounds: u64,
    /// See `nanos`.
    pub batch: u64,
    /// Begin when so many runs, of those that were ever to meet, are there. 0: at once.
    pub meet: u32,
}

/// What a run came to.
#[payload]
#[derive(Copy, PartialEq, Eq)]
pub struct Ran {
    /// Emitted events.
    pub rounds: u64,
    /// Replies that were right.
    pub right: u64,
    /// How long it took.
    pub nanos: u64,
}

impl Run {
    /// Runs for a while.
    pub fn timed(lane: Lane, route: Route, pending: bool, nanos: u64) -> Self {
        let batch = match route {
            Route::Emit(handlers) => 64 / u64::from(handlers).max(1),
            Route::Request | Route::Pattern => 64,
        };
        Run { lane, route, pending, nanos, rounds: u64::MAX, batch: batch.max(1), meet: 0 }
    }

    /// Runs for so many rounds.
    pub fn rounds(lane: Lane, route: Route, rounds: u64) -> Self {
        Run { lane, route, pending: false, nanos: 0, rounds, batch: u64::MAX, meet: 0 }
    }

    /// How many handlers each event has.
    pub fn handlers(&self) -> u64 {
        match self.route {
            Route::Emit(handlers) => handlers.into(),
            Route::Request | Route::Pattern => 1,
        }
    }
}

impl Ran {
    /// Nanoseconds a round, if each had so many replies and all were right.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    pub fn nanos_a_round(&self, replies: u64) -> Option<f64> {
        let well = self.rounds > 0 && self.right == self.rounds * replies;
        well.then(|| self.nanos as f64 / self.rounds as f64)
    }
}
