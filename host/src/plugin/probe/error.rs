//! Why a probe found a plugin file unfit.

use std::{path::PathBuf, time::Duration};

use thiserror::Error;

use super::trial::TrialStep;

/// Why a probe found a plugin file unfit.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// There is no child.
    #[error("no probe of {path} could be started with {program}: {source}", path = .path.display(), program = .program.display())]
    Spawn {
        /// The private copy.
        path: PathBuf,
        /// The executable that was to answer.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The child says what is wrong.
    #[error("{reason}")]
    Refused {
        /// What it says.
        reason: String,
    },
    /// It does not restore the state that it would get, tried with a copy.
    #[error("tried in a probe process, {reason}")]
    Trial {
        /// What the child says.
        reason: String,
    },
    /// The child died.
    #[error("{what} it ended a probe process ({status}); {}", where_to_look(.what))]
    Died {
        /// What the child was doing.
        what: &'static str,
        /// How.
        status: String,
        /// Whether by SIGKILL, which comes from outside as a rule: from whoever ran out of memory,
        /// or was asked to.
        killed: bool,
    },
    /// The child hangs.
    #[error(
        "{what} it did not end within {} in a probe process; {}", humantime::format_duration(*.after), where_to_look(.what)
    )]
    TimedOut {
        /// What the child was doing.
        what: &'static str,
        /// What it was given.
        after: Duration,
    },
    /// The child says something else.
    #[error("a probe process gave no answer that can be understood; is {program} a host that answers probes?", program = .program.display())]
    Answer {
        /// The executable that was to answer.
        program: PathBuf,
    },
}

/// What somebody can do whose plugin has ended a probe, or held it up.
fn where_to_look(what: &str) -> &'static str {
    match what == TrialStep::Open.told() {
        true => {
            "what runs there are constructors of the library and of those that it needs: see what they do, with a debugger \
             and `dlopen`"
        }
        false => {
            "the plugin's own tests run the same code (`Harness`), and a debugger stops there; what cannot be tried apart \
             from the host is not with `trial = false` in [reload.plugins.NAME]"
        }
    }
}

impl ProbeError {
    /// Whether the same file may pass at another time.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            ProbeError::Spawn { .. } | ProbeError::TimedOut { .. } => true,
            ProbeError::Died { killed, .. } => *killed,
            _ => false,
        }
    }

    /// Whether it was the state that it got in which it failed.
    pub(crate) fn is_of_state(&self) -> bool {
        match self {
            ProbeError::Trial { .. } => true,
            ProbeError::Died { what, .. } | ProbeError::TimedOut { what, .. } => {
                *what == TrialStep::Restore.told()
            }
            _ => false,
        }
    }
}
