//! Which versions of the protocol understand each other.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The version that is written here.
pub const VERSION: Version = Version { major: 1, minor: 1 };

/// A version of the protocol.
///
/// Sides of the same `major` understand each other, and the one with the higher `minor` sends
/// nothing that the other one does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Changes with what an older side would take for something else.
    pub major: u16,
    /// Changes with what an older side would not know.
    pub minor: u16,
}

impl Version {
    /// Whether a worker that speaks this knows LIVE.
    pub fn knows_live(self) -> bool {
        self.minor >= 1
    }

    /// Whether a side that speaks this understands one that speaks that.
    pub fn understands(self, theirs: Version) -> bool {
        self.major == theirs.major
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}
