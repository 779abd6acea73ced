//! The file of a socket that is served, made again when somebody has removed it.
//!
//! A cleaner may do that, or a command line that takes the socket for left over. Whoever is
//! connected notices nothing; it is who comes next that finds nobody. The lock file and the folder
//! are made again too, if they are gone. What somebody else has put in their place is left alone,
//! and so is a folder that others may put something into now.

use std::fs::File;
use std::mem::discriminant;
use std::path::Path;

use tokio::net::UnixListener;

use super::{
    SocketError,
    claim::{Claim, identity, lock_beside, lock_path, make_folder, open_private, remove_stale},
};
use crate::{
    system::ownership::{Stranger, stranger},
    with_causes,
};

impl Claim {
    /// Looks whether the socket file is still there, and makes another one if somebody has removed
    /// it: clients connect to that from then on, and nobody can any more to the one before.
    pub(super) fn restore(&mut self) -> Option<UnixListener> {
        if self.file.is_none() || self.is_in_place() {
            self.told = None;
            return None;
        }
        match self.make_again() {
            Ok(listener) => {
                tracing::warn!(
                    socket = %self.path.display(),
                    "somebody has removed the file of the control socket: it was made again"
                );
                Some(listener)
            }
            Err(error) => {
                let kind = discriminant(&error);
                if self.told.as_ref().is_none_or(|(told, _)| *told != kind) {
                    let text = with_causes(&error).to_string();
                    tracing::error!(
                        "clients do not find the control socket any more, and it cannot be made again: {text}"
                    );
                    self.told = Some((kind, text));
                }
                None
            }
        }
    }

    fn make_again(&mut self) -> Result<UnixListener, SocketError> {
        make_folder(&self.path)?;
        if let Some(stranger) = stranger_in_folder(&self.path).filter(|_| !self.open_to_others) {
            // It may be somebody else's who waits for clients: of a name in /tmp that all can
            // guess, for example.
            let (path, stranger) = (self.path.clone(), stranger.to_string());
            return Err(SocketError::NotTrusted { path, stranger });
        }
        let locked = |lock: &File| is_at(lock, &lock_path(&self.path));
        if !self.lock.as_ref().is_some_and(locked) {
            // Who has it is looked for in all processes, and so once, for the message.
            self.lock = Some(lock_beside(&self.path, self.told.is_none())?);
        }
        remove_stale(&self.path)?;
        let open = |source| SocketError::Open { path: self.path.clone(), source };
        let (listener, file) = open_private(&self.path).map_err(open)?;
        self.file = Some(identity(&file));
        Ok(listener)
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let found = std::fs::symlink_metadata(path);
    file.metadata().is_ok_and(|own| found.is_ok_and(|found| identity(&own) == identity(&found)))
}

/// Who else may put something into the folder of the socket.
pub(super) fn stranger_in_folder(path: &Path) -> Option<Stranger> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let found = std::fs::metadata(folder.unwrap_or(Path::new("."))).ok()?;
    stranger(&found, rustix::process::geteuid().as_raw())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    #[tokio::test]
    async fn a_socket_that_was_removed_is_made_again_with_its_folder_and_its_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/daemon.sock");
        let (mut claim, first) = Claim::take(&path).unwrap();
        assert!(claim.restore().is_none(), "it is there");
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
        let second = claim.restore().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(matches!(Claim::take(&path), Err(SocketError::InUse { .. })));
        let client = std::os::unix::net::UnixStream::connect(&path).unwrap();
        second.accept().await.unwrap();
        drop((first, second, client, claim));
        assert!(!path.exists());
        Claim::take(&path).unwrap();
    }

    #[tokio::test]
    async fn what_somebody_else_has_put_in_its_place_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("daemon.sock");
        let (mut claim, _listener) = Claim::take(&path).unwrap();
        std::fs::rename(&path, folder.path().join("moved")).unwrap();
        let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(claim.restore().is_none());
        assert!(std::os::unix::net::UnixStream::connect(&path).is_ok());
        drop(other);
        assert!(claim.restore().is_some(), "nobody serves it any more");
        claim.remove_socket();
        assert!(claim.restore().is_none(), "it is closed");
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn it_is_not_made_again_in_a_folder_that_has_become_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/daemon.sock");
        let (mut claim, _listener) = Claim::take(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let open = Permissions::from_mode(0o777);
        std::fs::set_permissions(path.parent().unwrap(), open).unwrap();
        assert!(claim.restore().is_none());
        let (_, told) = claim.told.as_ref().unwrap();
        assert!(told.contains("every user") && told.contains("--socket"), "{told}");
    }
}
