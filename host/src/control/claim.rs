//! Taking the socket's path: one host at most serves it, and nobody but its user reaches it.
//!
//! Three things make that hold.
//! - A lock on a file beside the socket, held as long as the socket lives. Of two hosts that start
//!   in the same moment one gets it; the kernel releases it when a host dies. Only under it is a
//!   stale socket removed, so nobody's fresh socket is. The lock file stays, because removing it
//!   would let two hosts hold locks on two files of one name.
//! - A connection attempt. It also finds a live daemon that knows nothing of the lock file.
//! - The mode is set on the socket before it gets its name: Linux creates the file with the mode
//!   that the descriptor has, so there is no instant in which the file is open to others. Other
//!   systems refuse that; there the mode is set after binding and before listening, and a socket
//!   that does not listen yet accepts nobody.

use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::mem::Discriminant;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};

use futures_util::FutureExt;
use tokio::net::{UnixListener, UnixSocket};

use super::restore::stranger_in_folder;
use crate::system::lock_holder::LockHolder;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// Why a control socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// `bind` was called outside a tokio runtime.
    #[error("the control socket needs a tokio runtime: bind it from inside one")]
    NoRuntime,
    /// Another host has the path.
    #[error("{}: {}, or give this one another path with --socket", path.display(), in_use(.holder.as_ref()))]
    InUse {
        /// The socket's path.
        path: PathBuf,
        /// Who has it, as far as the system tells.
        holder: Option<LockHolder>,
    },
    /// Something that is no socket stands at the path.
    #[error(
        "{}: expected a socket or nothing there, found {found}; it was left alone, \
         so move it away or choose another path with --socket", path.display()
    )]
    NotASocket {
        /// The socket's path.
        path: PathBuf,
        /// What stands there.
        found: &'static str,
    },
    /// The folder of the socket could not be made.
    #[error("{}: making this folder for the control socket failed: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The lock file beside the socket could not be opened or locked.
    #[error("{}: locking this file, which keeps a second host away, failed: {source}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It could not be found out what stands at the path, or whether somebody serves it.
    #[error("{}: finding out whether a host serves this socket failed: {source}", path.display())]
    Inspect {
        /// The socket's path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A socket that nobody serves could not be removed.
    #[error("{}: nobody serves this socket, and removing it failed: {source}", path.display())]
    RemoveStale {
        /// The socket's path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A socket that somebody else has bound cannot be served.
    #[error("serving the socket that this process was started with failed: {source}")]
    Given {
        /// Why.
        source: io::Error,
    },
    /// The socket was removed, and its folder is not what it was.
    #[error(
        "{}: the folder of this socket {stranger}, which it did not when the host started; put that right, or restart the \
         host with another path (--socket)", path.display()
    )]
    NotTrusted {
        /// The socket's path.
        path: PathBuf,
        /// Who else may write there.
        stranger: String,
    },
    /// Binding or listening failed.
    #[error(
        "{}: opening a socket at this path ({} bytes; systems allow about 100) failed: {source}",
        path.display(), path.as_os_str().len()
    )]
    Open {
        /// The socket's path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn in_use(holder: Option<&LockHolder>) -> String {
    match holder {
        Some(holder) if holder.is_left_behind() => holder.to_string(),
        Some(holder) => format!(
            "another host serves this socket already, or is just starting on it ({holder}); stop that one with `ksi stop`"
        ),
        None => "another host serves this socket already, or is just starting on it; stop that one with `ksi stop`"
            .to_owned(),
    }
}

/// The right to serve a path. Dropping it removes the socket file, if it is still the one made
/// here.
pub(super) struct Claim {
    pub(super) path: PathBuf,
    /// Device and inode of the socket file made here, until it is removed for good.
    pub(super) file: Option<(u64, u64)>,
    /// Whether others could put something into the socket's folder when it was taken.
    pub(super) open_to_others: bool,
    /// Why it is not made again, if that was told: the kind, and the text.
    pub(super) told: Option<(Discriminant<SocketError>, String)>,
    /// Last, so that the lock outlives the removal of the file. Whoever gives a socket sees to it
    /// that one host has it.
    pub(super) lock: Option<File>,
}

impl Claim {
    /// Must run inside a tokio runtime, as every tokio socket must.
    pub(super) fn take(path: &Path) -> Result<(Claim, UnixListener), SocketError> {
        make_folder(path)?;
        let lock = lock_beside(path, true)?;
        remove_stale(path)?;
        let open = |source: io::Error| match source.kind() {
            ErrorKind::AddrInUse => SocketError::InUse { path: path.to_owned(), holder: None },
            _ => SocketError::Open { path: path.to_owned(), source },
        };
        let (listener, file) = open_private(path).map_err(open)?;
        let (path, file) = (path.to_owned(), Some(identity(&file)));
        let open_to_others = stranger_in_folder(&path).is_some();
        Ok((Claim { path, file, open_to_others, told: None, lock: Some(lock) }, listener))
    }

    /// For a socket that somebody else has bound, and goes on to listen on: its file is not this
    /// host's.
    pub(super) fn given(listener: StdListener) -> Result<(Claim, UnixListener), SocketError> {
        let unusable = |source| SocketError::Given { source };
        let address = listener.local_addr().map_err(unusable)?;
        let path = address.as_pathname().ok_or_else(|| {
            let reason = "it has no path by which clients would find it";
            unusable(io::Error::new(ErrorKind::InvalidInput, reason))
        })?;
        let path = path.to_owned();
        let claim = Claim { path, file: None, open_to_others: false, told: None, lock: None };
        listener.set_nonblocking(true).map_err(unusable)?;
        Ok((claim, UnixListener::from_std(listener).map_err(unusable)?))
    }

    /// Whether the socket is somebody else's, and stays when this host ends.
    pub(super) fn is_given(&self) -> bool {
        self.lock.is_none()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn is_in_place(&self) -> bool {
        let found = std::fs::symlink_metadata(&self.path);
        found.is_ok_and(|found| self.file == Some(identity(&found)))
    }

    /// Removes the socket file, unless another one stands in its place.
    pub(super) fn remove_socket(&mut self) {
        let is_in_place = self.is_in_place();
        if self.file.take().is_some()
            && is_in_place
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(socket = %self.path.display(), %error, "removing the socket file failed");
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.remove_socket();
    }
}

pub(super) fn make_folder(path: &Path) -> Result<(), SocketError> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else {
        return Ok(());
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|source| SocketError::Folder { path: folder.to_owned(), source })
}

pub(super) fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

pub(super) fn lock_path(path: &Path) -> PathBuf {
    LockHolder::file_beside(path)
}

/// Takes the lock, so that one host has the socket. With `names_holder`, who has it is found for
/// the message.
pub(super) fn lock_beside(path: &Path, names_holder: bool) -> Result<File, SocketError> {
    let lock_path = lock_path(path);
    let opened =
        OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(&lock_path);
    let source = match opened {
        Ok(file) => match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                let holder = names_holder.then(|| LockHolder::of(&lock_path)).flatten();
                return Err(SocketError::InUse { path: path.to_owned(), holder });
            }
            Err(TryLockError::Error(source)) => source,
        },
        Err(source) => source,
    };
    Err(SocketError::Lock { path: lock_path, source })
}

/// Makes room at `path`: nothing there, or a socket that refuses connections, which is removed.
pub(super) fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let inspect = |source| SocketError::Inspect { path: path.to_owned(), source };
    let found = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(inspect(error)),
        Ok(found) => found.file_type(),
    };
    if !found.is_socket() {
        let found = match found {
            _ if found.is_dir() => "a folder",
            _ if found.is_symlink() => "a symbolic link",
            _ if found.is_file() => "a file",
            _ => "something else",
        };
        return Err(SocketError::NotASocket { path: path.to_owned(), found });
    }
    if is_served(path).map_err(inspect)? {
        return Err(SocketError::InUse { path: path.to_owned(), holder: None });
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(SocketError::RemoveStale { path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

/// Whether somebody listens there.
///
/// The kernel decides that in the `connect` call itself, which the first poll makes; so one poll is
/// enough, and a host that is stuck with a full backlog cannot hold this one up.
fn is_served(path: &Path) -> io::Result<bool> {
    match UnixSocket::new_stream()?.connect(path).now_or_never() {
        None | Some(Ok(_)) => Ok(true),
        Some(Err(error)) => match error.kind() {
            ErrorKind::ConnectionRefused | ErrorKind::NotFound => Ok(false),
            ErrorKind::WouldBlock => Ok(true),
            _ => Err(error),
        },
    }
}

/// Listens at `path` with mode 0600 from the first instant (see the top of this file).
pub(super) fn open_private(path: &Path) -> io::Result<(UnixListener, Metadata)> {
    let socket = UnixSocket::new_stream()?;
    // An error only means that this system knows the second way alone.
    let _ = rustix::fs::fchmod(&socket, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR);
    socket.bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    let file = std::fs::symlink_metadata(path)?;
    Ok((socket.listen(BACKLOG)?, file))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_served_path_is_in_use_and_free_again_after() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/daemon.sock");
        let (claim, listener) = Claim::take(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        let second = Claim::take(&path).err().unwrap();
        assert!(matches!(second, SocketError::InUse { path: named, .. } if named == path));
        drop((claim, listener));
        assert!(!path.exists());
        Claim::take(&path).unwrap();
    }

    #[tokio::test]
    async fn a_live_daemon_without_the_lock_file_is_seen_and_its_socket_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("daemon.sock");
        let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(matches!(Claim::take(&path), Err(SocketError::InUse { .. })));
        assert!(std::os::unix::net::UnixStream::connect(&path).is_ok());
        drop(other);
        Claim::take(&path).unwrap();
    }

    #[tokio::test]
    async fn what_is_no_socket_is_named_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("daemon.sock");
        std::fs::write(&path, "notes").unwrap();
        let error = Claim::take(&path).err().unwrap().to_string();
        assert!(error.contains("daemon.sock") && error.contains("found a file"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "notes");
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("nowhere", &path).unwrap();
        assert!(matches!(
            Claim::take(&path),
            Err(SocketError::NotASocket { found: "a symbolic link", .. })
        ));
    }

    #[tokio::test]
    async fn a_socket_that_took_its_place_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("daemon.sock");
        let (claim, _listener) = Claim::take(&path).unwrap();
        // Moved, not removed: a freed inode number could be given to the next file.
        std::fs::rename(&path, folder.path().join("moved")).unwrap();
        let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop(claim);
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_path_too_long_says_how_long_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x".repeat(120));
        let error = Claim::take(&path).err().unwrap();
        assert!(matches!(error, SocketError::Open { .. }));
        assert!(error.to_string().contains(&format!("({} bytes", path.as_os_str().len())));
    }
}
