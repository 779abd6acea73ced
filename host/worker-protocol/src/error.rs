//! What is wrong with what came in, in words for people.

use std::fmt;

use crate::Version;

/// What the other side sent, or is to be sent, is nothing of this protocol. Whoever reads it lets
/// the other side go, with this text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The body of a frame is longer than one may be.
    TooLong {
        /// The frame, by its name or number.
        frame: &'static str,
        /// Bytes of its body.
        length: u64,
        /// What it may have.
        limit: u64,
    },
    /// No frame has this number, or none that this side sends.
    UnknownKind {
        /// The number.
        kind: u8,
        /// Who sent it.
        from: &'static str,
    },
    /// It has flags that frames of its kind do not have.
    Flags {
        /// The frame.
        frame: &'static str,
        /// All its flags.
        flags: u8,
    },
    /// The body ends before this field does.
    Truncated {
        /// The frame.
        frame: &'static str,
        /// The field.
        field: &'static str,
    },
    /// The body goes on behind its last field.
    Overlong {
        /// The frame.
        frame: &'static str,
        /// How many bytes are left.
        left: usize,
    },
    /// A text is not UTF-8.
    NotText {
        /// The frame.
        frame: &'static str,
        /// The field.
        field: &'static str,
    },
    /// A number stands for nothing.
    Unknown {
        /// The frame.
        frame: &'static str,
        /// The field.
        field: &'static str,
        /// The number.
        value: u64,
    },
    /// A frame comes with more or fewer descriptors than those of its kind do.
    Descriptors {
        /// The frame.
        frame: &'static str,
        /// How many come with it.
        found: usize,
        /// How many it has.
        expected: usize,
    },
    /// The descriptors that a frame announces did not come with it.
    DescriptorsMissing {
        /// How many it announces.
        announced: usize,
        /// How many came.
        found: usize,
    },
    /// Descriptors came that belong to no frame.
    StrayDescriptors {
        /// How many.
        count: usize,
    },
    /// The system has dropped descriptors on their way.
    DescriptorsLost,
    /// The JSON of a rare frame is none, or lacks something.
    Json {
        /// The frame.
        frame: &'static str,
        /// What the parser says.
        reason: String,
    },
    /// The two sides speak other versions of this protocol.
    Version {
        /// What this side speaks.
        ours: Version,
        /// What the other one does.
        theirs: Version,
    },
    /// A descriptor is no memory file that can be read, or is another than was announced.
    MemoryFile {
        /// What is wrong with it.
        reason: String,
    },
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { frame, length, limit } => {
                write!(f, "a frame {frame} has {length} bytes, and may have {limit}")
            }
            Self::UnknownKind { kind, from } => {
                write!(f, "a {from} sends no frames of kind {kind}")
            }
            Self::Flags { frame, flags } => {
                write!(f, "a frame {frame} has the flags {flags:#04x}, which it cannot have")
            }
            Self::Truncated { frame, field } => {
                write!(f, "a frame {frame} ends within its {field}")
            }
            Self::Overlong { frame, left } => {
                write!(f, "a frame {frame} has {left} bytes too many")
            }
            Self::NotText { frame, field } => {
                write!(f, "the {field} of a frame {frame} is no UTF-8")
            }
            Self::Unknown { frame, field, value } => {
                write!(f, "the {field} of a frame {frame} is {value}, which stands for nothing")
            }
            Self::Descriptors { frame, found, expected } => write!(
                f,
                "a frame {frame} comes with {found} descriptors, and such a one has {expected}"
            ),
            Self::DescriptorsMissing { announced, found } => write!(
                f,
                "a frame announces {announced} descriptors, and {found} came with it: they go in \
                 the same sendmsg as its first byte"
            ),
            Self::StrayDescriptors { count } => {
                write!(f, "{count} descriptors came that belong to no frame")
            }
            Self::DescriptorsLost => f.write_str(
                "descriptors were lost on their way: more came at once than a frame may have, or \
                 this process may open no more",
            ),
            Self::Json { frame, reason } => {
                write!(f, "the JSON of a frame {frame} cannot be read: {reason}")
            }
            Self::Version { ours, theirs } => write!(
                f,
                "this side speaks version {ours} of the worker protocol, and the other one \
                 {theirs}: both need the same number before the dot"
            ),
            Self::MemoryFile { reason } => write!(f, "a payload in a memory file: {reason}"),
        }
    }
}

impl std::error::Error for ProtocolError {}
