//! Why a file could not be copied.

use std::fs::FileType;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::PrivateDirError;

/// The step at which a private copy failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// There is no thread to copy it on.
    #[error("{} was not copied: no thread can be started for it: {source}", path.display())]
    NoThread {
        /// The file that was to be copied.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },

    /// Nothing is there any more.
    #[error("{} is not there: the path is wrong, or the file was removed or renamed before it could be read", path.display())]
    Vanished {
        /// The file that was to be copied.
        path: PathBuf,
    },

    /// A symbolic link to nothing.
    #[error(
        "{} is a symbolic link to {}, which does not exist: point it at the library or remove it",
        path.display(), target.display()
    )]
    BrokenLink {
        /// The link.
        path: PathBuf,
        /// What the link holds.
        target: PathBuf,
    },

    /// Symbolic links that lead nowhere but to each other.
    #[error(
        "{} is a symbolic link that leads back to itself: point it at the library or remove it",
        path.display()
    )]
    LinkLoop {
        /// The file that was to be copied.
        path: PathBuf,
    },

    /// The host's user may not read it.
    #[error(
        "{} may not be read by the user that the host runs as: check its mode and owner, and those \
         of the folders above it", path.display()
    )]
    PermissionDenied {
        /// The file that was to be copied.
        path: PathBuf,
    },

    /// Not a file with content.
    #[error("{} is {found}, not a regular file: if it is in a plugin folder, move it out", path.display())]
    NotRegular {
        /// What was to be copied.
        path: PathBuf,
        /// What it is, with its article.
        found: &'static str,
    },

    /// Too big to be a plugin.
    #[error(
        "{} has {found} bytes, and {limit} are allowed (limits.plugin_bytes): build the plugin with \
         strip = \"debuginfo\" or without debug = true, or raise the limit", path.display()
    )]
    TooLarge {
        /// The file that was to be copied.
        path: PathBuf,
        /// Its length.
        found: u64,
        /// The largest length that is allowed.
        limit: u64,
    },

    /// A folder that is a plugin has a link.
    #[error("{} is a link, and a folder that is a plugin has none: put the file itself there", path.display())]
    Link {
        /// The link.
        path: PathBuf,
    },

    /// A folder has too many files to be a plugin.
    #[error("{} has more than {limit} files and folders: is it a plugin?", path.display())]
    TooManyFiles {
        /// The folder.
        path: PathBuf,
        /// The most that are allowed.
        limit: usize,
    },

    /// Any other failure to open the source.
    #[error("{} cannot be opened: {source}", path.display())]
    Open {
        /// The file that was to be copied.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },

    /// The source was opened, but could not be read to its end.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// The file that was to be copied.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },

    /// The source was written to or replaced meanwhile; it should settle again.
    #[error(
        "{} changed while it was copied: it is taken up again when it stands still", path.display()
    )]
    ChangedWhileCopying {
        /// The file that was to be copied.
        path: PathBuf,
    },

    /// There is no place for copies any more, and none can be made.
    #[error("the host's private folder is gone, and no other can be made: {0}")]
    NoDir(#[source] PrivateDirError),

    /// The host is stopping, and copies nothing any more.
    #[error("the host is stopping and copies nothing any more")]
    Closed,

    /// The copy was made, and is gone again.
    #[error(
        "the private copy {} was removed by somebody else before it was loaded: it is made anew. Keep cleaners out of that \
         folder, or name another one (host.private_dir)", path.display()
    )]
    Cleaned {
        /// The copy.
        path: PathBuf,
    },

    /// The new file could not be made.
    #[error(
        "the private copy {} cannot be created: {source}; see to room in that folder, or name another one \
         (host.private_dir)", path.display()
    )]
    Create {
        /// The new file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },

    /// The new file could not be filled.
    #[error(
        "the private copy {} cannot be written: {source}; see to room in that folder, or name another one \
         (host.private_dir)", path.display()
    )]
    Write {
        /// The new file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl CopyError {
    /// Whether the same file may be copied at another time, without anything being done to it.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            // These are about the host's own folder and threads, and not about the file.
            CopyError::NoThread { .. }
            | CopyError::NoDir(_)
            | CopyError::Cleaned { .. }
            | CopyError::Create { .. }
            | CopyError::Write { .. } => true,
            CopyError::Open { source, .. } | CopyError::Read { source, .. } => passes(source),
            CopyError::Closed
            | CopyError::Vanished { .. }
            | CopyError::BrokenLink { .. }
            | CopyError::LinkLoop { .. }
            | CopyError::PermissionDenied { .. }
            | CopyError::NotRegular { .. }
            | CopyError::TooLarge { .. }
            | CopyError::Link { .. }
            | CopyError::TooManyFiles { .. }
            | CopyError::ChangedWhileCopying { .. } => false,
        }
    }

    /// The failure to open `path`, told apart as far as an operator can do something about it.
    pub(super) fn open(path: &Path, source: io::Error) -> CopyError {
        let path = path.to_owned();
        if source.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
            return CopyError::LinkLoop { path };
        }
        match source.kind() {
            io::ErrorKind::NotFound => match std::fs::read_link(&path) {
                Ok(target) => CopyError::BrokenLink { path, target },
                Err(_) => CopyError::Vanished { path },
            },
            io::ErrorKind::PermissionDenied => CopyError::PermissionDenied { path },
            _ => CopyError::Open { path, source },
        }
    }

    pub(super) fn not_regular(path: &Path, kind: FileType) -> CopyError {
        let found = if kind.is_dir() {
            "a directory"
        } else if kind.is_fifo() {
            "a named pipe"
        } else if kind.is_socket() {
            "a socket"
        } else {
            "a device"
        };
        CopyError::NotRegular { path: path.to_owned(), found }
    }
}

/// Whether a file that cannot be opened or read for this may be well: the process or the system is
/// short of something, or a disk elsewhere does not answer.
fn passes(error: &io::Error) -> bool {
    use rustix::io::Errno;
    const PASSING: [Errno; 10] = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOMEM,
        Errno::NOBUFS,
        Errno::AGAIN,
        Errno::BUSY,
        Errno::INTR,
        Errno::IO,
        Errno::STALE,
        Errno::TIMEDOUT,
    ];
    Errno::from_io_error(error).is_some_and(|error| PASSING.contains(&error))
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn a_quota_that_is_used_up_passes_like_a_disk_that_is_full() {
        for errno in [Errno::NOSPC, Errno::DQUOT] {
            let path = || PathBuf::from("a.so");
            let source = || io::Error::from(errno);
            assert!(CopyError::Create { path: path(), source: source() }.may_pass(), "{errno:?}");
            assert!(CopyError::Write { path: path(), source: source() }.may_pass(), "{errno:?}");
        }
        assert!(!CopyError::Vanished { path: PathBuf::from("a.so") }.may_pass());
    }
}
