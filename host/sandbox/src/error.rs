//! Why a process was not limited as it was wanted.

use std::{io, path::PathBuf};

use crate::Missing;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a process was not limited as it was wanted. Some of it may have been by then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// A setting that cannot be meant.
    #[error("`{setting}` {text}")]
    Wrong {
        /// Its name.
        setting: &'static str,
        /// What is wrong with it.
        text: String,
    },
    /// There is more than the calling thread, which would go on as it is.
    #[error(
        "the process has {threads} threads: limits are set by thread, so they must be set while there is one"
    )]
    Threads {
        /// How many there are.
        threads: u64,
    },
    /// The kernel did not give up rights for good.
    #[error("the process could not be kept from getting more rights by an exec")]
    NoNewPrivs {
        /// What it said.
        source: io::Error,
    },
    /// A resource could not be bounded.
    #[error("`{setting}` could not be set to {value}")]
    Resource {
        /// The setting.
        setting: &'static str,
        /// What was wanted.
        value: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The process takes more already than it is to have.
    #[error(
        "`{setting}` is {wanted}, and the process takes {taken} already: set it higher, by what it is to use"
    )]
    Taken {
        /// The setting.
        setting: &'static str,
        /// What was wanted.
        wanted: String,
        /// What there is.
        taken: String,
    },
    /// A file or folder that is to be reached is not there, or cannot be opened.
    #[error("{} of `{setting}` cannot be allowed: make it, or take it from the list", path.display())]
    Path {
        /// The list that it stands in.
        setting: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: Cause,
    },
    /// Landlock refused a step.
    #[error("files and ports could not be limited by landlock ({step})")]
    Landlock {
        /// What was done.
        step: &'static str,
        /// What was said.
        source: Cause,
    },
    /// Seccomp refused a step.
    #[error("system calls could not be limited by seccomp ({step})")]
    Seccomp {
        /// What was done.
        step: &'static str,
        /// What was said.
        source: Cause,
    },
    /// The kernel does not have all that is wanted, and `require` is set.
    #[error("`require` is set, and this system lacks what is wanted: {}", all(missing))]
    Missing {
        /// What it lacks.
        missing: Vec<Missing>,
    },
}

fn all(missing: &[Missing]) -> String {
    missing.iter().map(Missing::to_string).collect::<Vec<_>>().join("; ")
}
