//! How a process ended, for people.

use std::{fmt, process::ExitStatus};

use crate::{plugin::instance::residence::ProcessEnd, text::printable::printable};

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Death {
    /// `None` if the system does not tell.
    status: Option<ExitStatus>,
    /// Why the host has killed it; empty if it has not.
    killed: String,
    /// What it wrote last to its standard error; may be empty.
    last_words: String,
}

impl Death {
    pub(super) fn new(status: Option<ExitStatus>, killed: String, last_words: String) -> Self {
        Death { status, killed, last_words }
    }

    /// Of one that nobody has watched to its end.
    pub(super) fn unknown() -> Self {
        Death::new(None, String::new(), String::new())
    }

    /// The same for those who follow up on it.
    pub(crate) fn end(&self) -> ProcessEnd {
        ProcessEnd { why: self.to_string(), by_its_will: self.is_success() }
    }

    /// Whether it ended by itself, and well.
    pub(crate) fn is_success(&self) -> bool {
        self.killed.is_empty() && self.status.is_some_and(|status| status.success())
    }
}

impl fmt::Display for Death {
    /// One line: `its process ended: signal: 11 (SIGSEGV); its last words: "..."`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&*self.killed, self.status) {
            ("", Some(status)) => write!(f, "its process ended: {status}")?,
            ("", None) => f.write_str("its process ended, and nobody knows how")?,
            (reason, _) => write!(f, "its process was killed by the host: {reason}")?,
        }
        match &*self.last_words {
            "" => Ok(()),
            words => write!(f, "; its last words: {}", printable(words)),
        }
    }
}
