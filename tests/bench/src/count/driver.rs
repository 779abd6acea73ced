//! What runs under valgrind: a host with both plugins, and so many events of one kind.
//!
//! All that it does beside them, the start and the end of the host first of all, it does for any
//! number of events alike, so that it is not in the difference between two runs.

use std::path::PathBuf;

use ksi_bench_events::{Lane, Route, Run, boxed};
use serde::{Deserialize, Serialize};

use crate::{error::BenchError, stage::Stage};

/// The most handlers that an event has here.
const FAN_OUT: u32 = 10;

/// A run of this program under valgrind, as it is told on its command line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Drive {
    pub(super) case: Case,
    pub(super) rounds: u64,
    pub(super) emitter: PathBuf,
    pub(super) handlers: PathBuf,
    /// This program: valgrind's own is what runs in the process.
    pub(super) probe: PathBuf,
}

/// What is counted. Its name is the name of its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Case {
    Request,
    RequestThatWaits,
    EmitToOne,
    EmitToTen,
    /// No host has a part in it: when this changes, it is the compiler or the machine.
    BoxedFuture,
}

impl Case {
    pub(super) const ALL: [Case; 5] = [
        Case::Request,
        Case::RequestThatWaits,
        Case::EmitToOne,
        Case::EmitToTen,
        Case::BoxedFuture,
    ];

    pub(super) fn what(self) -> &'static str {
        match self {
            Case::Request => "request, typed, 1 handler, ready",
            Case::RequestThatWaits => "request, typed, 1 handler, pending once",
            Case::EmitToOne => "emit, typed, 1 handler, ready",
            Case::EmitToTen => "emit, typed, 10 handlers, ready",
            Case::BoxedFuture => "a boxed future, without a host",
        }
    }

    /// Events of the short run. The long one has twice as many.
    pub(super) fn rounds(self) -> u64 {
        match self {
            Case::EmitToTen => 10_000,
            _ => 50_000,
        }
    }

    fn run(self, rounds: u64) -> Run {
        let (route, pending) = match self {
            Case::Request | Case::BoxedFuture => (Route::Request, false),
            Case::RequestThatWaits => (Route::Request, true),
            Case::EmitToOne => (Route::Emit(1), false),
            Case::EmitToTen => (Route::Emit(10), false),
        };
        Run { pending, ..Run::rounds(Lane::Shared, route, rounds) }
    }
}

/// # Errors
/// The command line is not what [`super::count`] writes, the host does not start, or a reply is
/// wrong.
pub(crate) fn drive(told: &str) -> Result<(), BenchError> {
    let Drive { case, rounds, emitter, handlers, probe } = serde_json::from_str(told)?;
    let run = case.run(rounds);
    crate::runtime()?.block_on(async {
        let stage = Stage::one_by_one([&handlers, &emitter], FAN_OUT, &probe).await?;
        let ran = match case {
            Case::BoxedFuture => tokio::spawn(boxed::numbers(run)).await?,
            _ => stage.run(&run).await?,
        };
        stage.stop().await;
        match ran.nanos_a_round(run.handlers()) {
            Some(_) => Ok(()),
            None => Err(BenchError::Wrong(format!("{run:?} came to {ran:?}"))),
        }
    })
}
