//! Where a directory for private copies may lie: where the operator says, else in the folder that
//! the system gives this user for as long as he is logged in, which nobody cleans, else in the
//! folder for temporary files.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::dir::{OwnDir, PrivateDirError};

/// What is known of the surroundings. A value of its own, so that tests need not change the
/// environment.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// As configured.
    pub(crate) named: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`; empty or relative counts as not set.
    pub(crate) runtime: Option<OsString>,
    /// The folder for temporary files.
    pub(crate) temporary: PathBuf,
}

impl Places {
    pub(crate) fn of_process(named: Option<PathBuf>) -> Places {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR");
        Places { named, runtime, temporary: std::env::temp_dir() }
    }

    /// Creates a directory in the first place that there is. What the operator names is the only
    /// one then.
    ///
    /// # Errors
    /// Of the last place.
    pub(super) fn create(&self) -> Result<OwnDir, PrivateDirError> {
        if let Some(named) = &self.named {
            // If that fails, making the directory in it says why.
            let _ = DirBuilder::new().recursive(true).mode(0o700).create(named);
            return create_in(named);
        }
        if let Some(runtime) = self.runtime.as_deref().map(Path::new).filter(|it| is_own(it)) {
            match create_in(runtime) {
                Ok(dir) => return Ok(dir),
                Err(error) => tracing::debug!("{error}; taking the folder for temporary files"),
            }
        }
        create_in(&self.temporary)
    }
}

fn create_in(parent: &Path) -> Result<OwnDir, PrivateDirError> {
    if is_noexec(parent) {
        return Err(PrivateDirError::NoExec { parent: parent.to_owned() });
    }
    OwnDir::create_in(parent)
}

/// As the specification of `XDG_RUNTIME_DIR` has it: the user's own, and closed to all others.
fn is_own(folder: &Path) -> bool {
    let is_users = |found: fs::Metadata| {
        found.is_dir()
            && found.uid() == rustix::process::geteuid().as_raw()
            && found.mode() & 0o077 == 0
    };
    folder.is_absolute() && fs::metadata(folder).is_ok_and(is_users)
}

#[cfg(target_os = "linux")]
fn is_noexec(folder: &Path) -> bool {
    let found = rustix::fs::statvfs(folder);
    found.is_ok_and(|found| found.f_flag.contains(rustix::fs::StatVfsMountFlags::NOEXEC))
}

#[cfg(not(target_os = "linux"))]
fn is_noexec(_: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn folder(mode: u32) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
        folder
    }

    #[test]
    fn the_folder_of_the_users_session_comes_before_the_temporary_one_and_what_is_named_before_both()
     {
        let (runtime, temporary, above) = (folder(0o700), folder(0o700), folder(0o700));
        let mut places = Places {
            named: None,
            runtime: Some(runtime.path().into()),
            temporary: temporary.path().to_owned(),
        };
        let parent = |places: &Places| places.create().unwrap().path().parent().unwrap().to_owned();
        assert_eq!(parent(&places), runtime.path());
        places.runtime = None;
        assert_eq!(parent(&places), temporary.path());
        places.named = Some(above.path().join("made/by/the/host"));
        assert_eq!(Some(parent(&places)), places.named);
        places.named = Some("/dev/null".into());
        assert!(places.create().is_err(), "no other place is taken in its stead");
    }

    #[test]
    fn a_session_folder_that_is_not_the_users_own_is_not_taken() {
        let (open, temporary) = (folder(0o755), folder(0o700));
        for runtime in
            [open.path().as_os_str(), "relative".as_ref(), "".as_ref(), "/nowhere".as_ref()]
        {
            let runtime = Some(runtime.to_owned());
            let places = Places { named: None, runtime, temporary: temporary.path().to_owned() };
            assert!(places.create().unwrap().path().starts_with(temporary.path()));
        }
    }
}
