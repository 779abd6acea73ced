//! The ledger: how many requests there were, and everything that was not as it must be.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use hdrhistogram::CreationError;

use crate::{kills::Kills, latency::Latency, versions::Versions};

/// How many faults of each kind are kept in words.
const TOLD: u64 = 10;

/// A way of being wrong. None may occur.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Accepted, and no outcome within a long time.
    Lost,
    /// More than one outcome.
    Twice,
    /// Another answer than the one that was asked for, or from a version that must not answer.
    Wrong,
    /// What a plugin keeps is not what was acknowledged.
    State,
    /// An outcome other than a reply, which nobody has caused on purpose.
    Unexplained,
}

const FAULTS: usize = 5;

/// Where a lane's requests come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    /// A task inside a plugin.
    Inside,
    /// The embedding program.
    Embedding,
    /// A connection to the socket.
    Socket,
}

pub(crate) struct Ledger {
    pub(crate) versions: Versions,
    pub(crate) latency: Latency,
    pub(crate) kills: Kills,
    /// By client.
    asked: [AtomicU64; 3],
    /// Ended as they should: with the answer, or with a failure that was asked for.
    answered: AtomicU64,
    /// Ended with the failure of a version that is bad on purpose, or with a process that was
    /// killed.
    explained: AtomicU64,
    faults: [AtomicU64; FAULTS],
    told: Mutex<Vec<String>>,
    started: Instant,
}

impl Ledger {
    pub(crate) fn new(versions: usize) -> Result<Self, CreationError> {
        Ok(Ledger {
            versions: Versions::new(versions),
            latency: Latency::new()?,
            kills: Kills::default(),
            asked: Default::default(),
            answered: AtomicU64::new(0),
            explained: AtomicU64::new(0),
            faults: Default::default(),
            told: Mutex::default(),
            started: Instant::now(),
        })
    }

    pub(crate) fn note_asked(&self, client: Client) {
        self.asked[client as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn note_answered(&self) {
        self.answered.fetch_add(1, Relaxed);
    }

    pub(crate) fn note_explained(&self) {
        self.explained.fetch_add(1, Relaxed);
    }

    pub(crate) fn fault(&self, fault: Fault, text: impl FnOnce() -> String) {
        if self.faults[fault as usize].fetch_add(1, Relaxed) < TOLD {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            let seconds = self.started.elapsed().as_secs_f64();
            let line = format!("at {seconds:.3} s, {fault:?}: {}", text());
            eprintln!("{line}");
            told.push(line);
        }
    }

    pub(crate) fn count(&self, fault: Fault) -> u64 {
        self.faults[fault as usize].load(Relaxed)
    }

    /// Asked, answered, and failed as a bad version does, or with a killed process.
    pub(crate) fn requests(&self) -> (u64, u64, u64) {
        (self.asked(), self.answered.load(Relaxed), self.explained.load(Relaxed))
    }

    /// Requests so far.
    pub(crate) fn asked(&self) -> u64 {
        self.asked_by().into_iter().sum()
    }

    /// By clients inside, in the embedding program, on the socket.
    pub(crate) fn asked_by(&self) -> [u64; 3] {
        self.asked.each_ref().map(|asked| asked.load(Relaxed))
    }

    /// The first faults, in words.
    pub(crate) fn told(&self) -> Vec<String> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
