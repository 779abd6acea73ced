//! Where a generation lives: it is asked to describe itself, makes instances there, and is vacated
//! at its end.
//!
//! Who replaces, retires and goes back does not know what it is: a library of this process, or
//! anything else that makes instances. What an instance has of the host is given to it as it is for
//! any ([`HostServices`]), and how the instance comes to that is its own. Its description is data,
//! which happens to be written down where the boundary is.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use ksi_abi::Description;

use super::{body::Body, configs::PluginConfig, services::HostServices, signals::Handled};

/// An instance on its way, or why there is none.
pub(crate) type Creation = Pin<Box<dyn Future<Output = Result<Box<dyn Body>, NotMade>> + Send>>;

/// Why there is no instance, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotMade {
    /// Its `initialize` did not give one, or what it ran in ended.
    Failed(String),
    /// The system does not start what it would run in: nothing of the plugin has run.
    NotStarted(String),
}

impl From<String> for NotMade {
    fn from(reason: String) -> Self {
        NotMade::Failed(reason)
    }
}

/// Where a generation lives; see the module. It is vacated only after all that was made in it is
/// gone: every instance, and every [reference](Residence::references).
pub(crate) trait Residence: Send + Sync + 'static {
    /// For people: from here on, what happens in it is that generation's.
    fn belongs_to(&self, plugin: &Arc<str>, generation: u64);

    /// Asks for the description. Where plugin code may run.
    fn describe(&self) -> Result<Description, String>;

    /// Makes an instance that has these services of the host. To be polled where plugin code may
    /// run.
    fn create(&self, config: PluginConfig, services: &Arc<HostServices>) -> Creation;

    /// References to the host of all instances that it ever made, and values of theirs that others
    /// have: as long as there are any, it is needed.
    fn references(&self) -> usize;

    /// Whether its code is in this process: then threads of the host may hold what is of it.
    fn is_here(&self) -> bool {
        true
    }

    /// The process that it is, if it is one.
    fn process(&self) -> Option<ProcessInfo> {
        None
    }

    /// The plugin's events wait from here on, because what its instance ran in is gone: calls that
    /// were not delivered wait with them.
    fn events_wait(&self) {}

    /// The signals of the process that it handles or wants ignored.
    fn signals(&self) -> Vec<Handled>;

    /// Its instances are gone: nothing outside is to call it any more.
    fn withdraw(&self);

    /// Tries to leave. It may run destructors, so it is called on a thread that ends right after.
    fn vacate(self: Box<Self>) -> Vacated;
}

/// The process that a residence is.
pub(crate) struct ProcessInfo {
    pub(crate) pid: u32,
    /// What it uses of the machine, if that is known.
    pub(crate) resident_kib: Option<u64>,
    pub(crate) cpu: Option<Duration>,
    /// Calls that ended in it when nobody waited for them any more.
    pub(crate) late: u64,
    /// How it ended, if it has.
    pub(crate) ended: Option<ProcessEnd>,
}

/// How a process has ended.
#[derive(Debug, Clone)]
pub(crate) struct ProcessEnd {
    /// For people.
    pub(crate) why: String,
    /// By itself, and well.
    pub(crate) by_its_will: bool,
}

/// What became of an attempt to vacate a residence.
pub(crate) enum Vacated {
    /// Nothing of it is left.
    Gone,
    /// Something needs it, each by name for people; it is as it was.
    Needed {
        /// What needs it.
        by: Vec<String>,
        /// To try again.
        residence: Box<dyn Residence>,
    },
    /// It was left, and is there all the same. To try once more may succeed later.
    Stays {
        /// For people.
        cause: String,
        /// To try again.
        residence: Box<dyn Residence>,
    },
}
