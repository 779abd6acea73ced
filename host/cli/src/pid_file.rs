//! The file that says which process a host is, for those who ask for one: KSI's own command line
//! takes a socket for left over, and removes it, if there is no `ksi_daemon.pid` beside it.
//!
//! It is written once the socket is this host's, made again when somebody removes it, and removed
//! when the host stops.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often somebody looks whether it is there.
const LOOK: Duration = Duration::from_secs(1);

/// Removed when this is dropped, if it still names this process.
pub(crate) struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes it whole, in place of whatever file was there.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn write(path: PathBuf) -> io::Result<PidFile> {
        // The current folder may be another one when it is removed.
        let path = std::path::absolute(path)?;
        write(&path)?;
        Ok(PidFile { path })
    }

    /// Has it there until this is dropped.
    pub(crate) async fn keep(&self) {
        let mut told = false;
        loop {
            tokio::time::sleep(LOOK).await;
            if fs::symlink_metadata(&self.path).is_ok() {
                continue;
            }
            match write(&self.path) {
                Ok(()) => told = false,
                Err(error) if !told => {
                    told = true;
                    tracing::warn!(
                        "{} is gone and cannot be written again: {error}",
                        self.path.display()
                    );
                }
                Err(_) => {}
            }
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if fs::read_to_string(&self.path).is_ok_and(|text| text == own())
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!("{} cannot be removed: {error}", self.path.display());
        }
    }
}

fn own() -> String {
    format!("{}\n", std::process::id())
}

fn write(path: &Path) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(own().as_bytes())?;
    file.as_file().set_permissions(Permissions::from_mode(0o644))?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_this_process_and_goes_unless_another_one_has_taken_its_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ksi_daemon.pid");
        fs::write(&path, "1\n").expect("a stale one");
        let file = PidFile::write(path.clone()).expect("it is written");
        let text = fs::read_to_string(&path).expect("a text");
        assert_eq!(text.trim().parse(), Ok(std::process::id()));
        drop(file);
        assert!(!path.exists());
        let file = PidFile::write(path.clone()).expect("it is written");
        fs::write(&path, "1\n").expect("that of another");
        drop(file);
        assert!(path.exists());
        assert_eq!(fs::read_dir(folder.path()).expect("a list").count(), 1);
    }
}
