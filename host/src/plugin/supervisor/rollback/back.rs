//! An earlier version that the host goes back to, as those see it who deploy it.

use ksi_wire::module::HistoryBy;

use super::{Cost, instead::Instead};
use crate::plugin::{state::snapshot::Snapshot, supervisor::registry::Earlier};

/// Who wants to go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::plugin::supervisor) enum Asked {
    /// Somebody; with `force` also if that gives up state.
    ByHand { force: bool },
    /// The host itself, and only from this generation.
    Automatic { from: u64 },
}

/// An earlier version that the host goes back to, and why.
pub(in crate::plugin::supervisor) struct Return {
    pub(super) earlier: Earlier,
    /// The generation that it takes the place of.
    pub(super) bad: u64,
    pub(super) reason: String,
    /// Who wants it.
    pub(super) by: HistoryBy,
    pub(super) automatic: bool,
    /// Whoever asked wants it whatever it breaks.
    pub(super) force: bool,
    /// What the earlier version gets if it does not get the state of the bad one.
    pub(super) instead: Option<Instead>,
    /// It does not, although it could read it.
    pub(super) takes_instead: bool,
    /// The bad version is asked for a snapshot of what it has, to be kept aside.
    pub(super) asks_the_bad_one: bool,
    pub(super) cost: Option<Cost>,
    /// What people call the newest snapshot of the bad version, where that was set aside.
    pub(super) aside: Option<String>,
}

impl Return {
    pub(in crate::plugin::supervisor) fn number(&self) -> u64 {
        self.earlier.info.number
    }

    pub(in crate::plugin::supervisor) fn bad(&self) -> u64 {
        self.bad
    }

    /// What the earlier version gets if it does not get the state of the bad one.
    pub(in crate::plugin::supervisor) fn state(&self) -> Option<&Snapshot> {
        self.instead.as_ref()?.state.as_ref()
    }

    pub(in crate::plugin::supervisor) fn takes_instead(&self) -> bool {
        self.takes_instead
    }

    /// Whether the earlier version gets other state than the bad one has.
    pub(in crate::plugin::supervisor) fn gives_up_the_present(&self) -> bool {
        self.cost.is_some()
    }

    /// What programs are told where the state comes from, if it is not known from how it went.
    pub(in crate::plugin::supervisor) fn how(&self) -> Option<&'static str> {
        self.instead.as_ref().filter(|_| self.gives_up_the_present())?.how()
    }

    pub(in crate::plugin::supervisor) fn asks_the_bad_one(&self) -> bool {
        self.asks_the_bad_one
    }

    pub(in crate::plugin::supervisor) fn by(&self) -> &HistoryBy {
        &self.by
    }

    pub(in crate::plugin::supervisor) fn reason(&self) -> &str {
        &self.reason
    }

    pub(in crate::plugin::supervisor) fn automatic(&self) -> bool {
        self.automatic
    }

    pub(in crate::plugin::supervisor) fn force(&self) -> bool {
        self.force
    }

    pub(in crate::plugin::supervisor) fn cost(&self) -> Option<&Cost> {
        self.cost.as_ref()
    }

    pub(in crate::plugin::supervisor) fn aside(&self) -> Option<&str> {
        self.aside.as_deref()
    }
}
