//! What goes through a deployment: where a generation comes from, and its state.

use std::sync::{Arc, OnceLock};

use ksi_kernel::session::DeclaredRoutes;
use ksi_wire::module::HistoryBy;

use super::{
    Deployed, SetAsideResult, deploy::contracts::Passed, registry::LiveGeneration, rollback::Return,
};
use crate::plugin::{
    instance::{generation::Generation, live::LiveInstance},
    lifecycle::{
        hand_over::{Held, Predecessor, Wanted},
        prepare::{Candidate, Examined},
    },
    state::{persistence::KeptSnapshot, snapshot::Snapshot},
};

/// A file is tried once.
pub(super) struct Attempt {
    /// Who had it done.
    pub(super) by: HistoryBy,
    /// Of the bytes that were tried, once they were read.
    hash: OnceLock<blake3::Hash>,
}

impl Attempt {
    pub(super) fn by(by: HistoryBy) -> Self {
        Attempt { by, hash: OnceLock::new() }
    }

    /// Of bytes that are known.
    pub(super) fn of(by: HistoryBy, hash: blake3::Hash) -> Self {
        Attempt { by, hash: hash.into() }
    }

    pub(super) fn is_of(&self, hash: blake3::Hash) {
        let _ = self.hash.set(hash);
    }

    pub(super) fn hash(&self) -> Option<blake3::Hash> {
        self.hash.get().copied()
    }
}

/// A file whose bytes were read.
pub(super) enum Found {
    New(Box<Examined>),
    /// The live generation has the same bytes.
    Unchanged(Deployed),
}

/// A file after all that can be done before anything changes.
pub(super) enum Prepared {
    Candidate(Box<Candidate>),
    /// The live generation has the same bytes.
    Unchanged(Deployed),
}

/// Where a generation comes from.
pub(super) enum Origin {
    /// What a file holds now, and who had it tried.
    File(HistoryBy),
    /// What was kept of the version before the one that the file holds, which is quarantined and
    /// stays so.
    KeptGood(HistoryBy),
    /// An earlier version that the host goes back to.
    Earlier(Return),
    /// The live version once more, with state that somebody has chosen.
    Chosen(Chosen),
}

/// Where the new generation's state comes from.
pub(super) enum StateSource {
    /// It keeps none, or there is none.
    Nowhere,
    /// The live generation.
    Live(Wanted),
    /// The last one that was kept on disk.
    Kept(KeptSnapshot),
    /// That of a generation that went without a successor.
    Orphaned(Snapshot),
}

/// State that somebody has chosen for a live plugin.
pub(super) struct Chosen {
    pub(super) state: Snapshot,
    /// What people call it.
    pub(super) which: String,
    /// The generation that has other state.
    pub(super) instead_of: u64,
    /// Who has chosen.
    pub(super) by: HistoryBy,
}

impl Origin {
    /// Who had it done.
    pub(super) fn by(&self) -> &HistoryBy {
        match self {
            Origin::File(by) | Origin::KeptGood(by) => by,
            Origin::Earlier(back) => back.by(),
            Origin::Chosen(chosen) => &chosen.by,
        }
    }

    /// The generation that must be live still.
    pub(super) fn replaces(&self) -> Option<u64> {
        match self {
            Origin::File(_) | Origin::KeptGood(_) => None,
            Origin::Earlier(back) => Some(back.bad()),
            Origin::Chosen(chosen) => Some(chosen.instead_of),
        }
    }

    /// Whether state that is given up has to be on the disk first: somebody who asked can see to it
    /// that it can be.
    pub(super) fn keeps_aside(&self) -> bool {
        match self {
            Origin::File(_) | Origin::KeptGood(_) => false,
            Origin::Earlier(back) => !back.automatic(),
            Origin::Chosen(_) => true,
        }
    }
}

/// What a candidate becomes a generation with.
pub(super) struct Admitted {
    pub(super) number: u64,
    /// What is live from its file.
    pub(super) before: Option<LiveGeneration>,
    /// The live generation of the same plugin.
    pub(super) predecessor: Option<Predecessor>,
    pub(super) source: StateSource,
    /// What it sends and takes, as others are compared with it from here on.
    pub(super) passed: Option<Passed>,
}

/// State that has arrived in a new generation.
pub(super) struct Arrived {
    /// The events that wait for the swap.
    pub(super) held: Option<Held>,
    /// What was taken over from the live generation, or in place of what that had.
    pub(in crate::plugin) snapshot: Option<Snapshot>,
    /// What the new one was restored from.
    pub(super) restored: Option<Snapshot>,
    /// What somebody should know of that.
    pub(in crate::plugin) notice: Option<String>,
    /// Where that is which was given up.
    pub(super) aside: Option<SetAsideResult>,
    /// For people and programs.
    pub(super) how: &'static str,
}

/// A generation that can be swapped in.
pub(super) struct Ready {
    pub(super) generation: Generation,
    pub(super) live: Arc<dyn LiveInstance>,
    pub(super) declared: DeclaredRoutes,
}

impl Arrived {
    pub(super) fn nothing(how: &'static str) -> Self {
        Arrived { held: None, snapshot: None, restored: None, notice: None, aside: None, how }
    }
}
