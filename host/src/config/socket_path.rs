//! Where the control socket is: host and clients ask the same question and must come to the same
//! answer.
//!
//! In order: the flag, `KSI_SOCKET`, the configuration, `$XDG_RUNTIME_DIR/ksi/daemon.sock`, and at
//! last a folder of the user's own below the temporary folder. That last place is shared with
//! everybody else on the machine, so it is only trusted when it is a real folder, owned by the user
//! and closed to all others. Nothing here binds or connects.

use std::ffi::OsString;
use std::fs::{DirBuilder, Metadata};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What of the process's surroundings decides the path. A value of its own, so that tests need not
/// change the environment that all threads share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// `KSI_SOCKET`; empty counts as not set.
    pub ksi_socket: Option<OsString>,
    /// `XDG_RUNTIME_DIR`; empty or relative counts as not set.
    pub xdg_runtime_dir: Option<OsString>,
    /// The folder for temporary files.
    pub temporary: PathBuf,
    /// The user whose files this process makes.
    pub user: u32,
}

impl Environment {
    /// The surroundings of this process.
    pub fn of_process() -> Self {
        Self {
            ksi_socket: std::env::var_os("KSI_SOCKET"),
            xdg_runtime_dir: std::env::var_os("XDG_RUNTIME_DIR"),
            temporary: std::env::temp_dir(),
            user: rustix::process::geteuid().as_raw(),
        }
    }
}

/// The path of a control socket, and how far its folder can be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketPath {
    path: PathBuf,
    trust: PathTrust,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PathTrust {
    /// Somebody named the path, or the system gave this user the folder.
    Given,
    /// The folder has a name that anybody on the machine can guess and make first.
    Guessable { user: u32 },
}

impl SocketPath {
    /// Chooses by what was named (`--socket`), what is configured, and the environment. Touches no
    /// file.
    pub fn choose(named: Option<&Path>, configured: Option<&Path>, from: &Environment) -> Self {
        let given = |path: &Path| Self { path: path.to_owned(), trust: PathTrust::Given };
        let set =
            |value: &Option<OsString>| value.clone().filter(|it| !it.is_empty()).map(PathBuf::from);
        if let Some(path) = named {
            return given(path);
        }
        if let Some(path) = set(&from.ksi_socket) {
            return given(&path);
        }
        if let Some(path) = configured {
            return given(path);
        }
        match set(&from.xdg_runtime_dir).filter(|folder| folder.is_absolute()) {
            Some(folder) => given(&folder.join("ksi/daemon.sock")),
            None => Self {
                path: from.temporary.join(format!("ksi-{}/daemon.sock", from.user)),
                trust: PathTrust::Guessable { user: from.user },
            },
        }
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What a host does before it binds: makes the folder of the socket (mode 0700 where it is new)
    /// and looks whether it can be trusted.
    ///
    /// # Errors
    /// The path is too long for a socket, the folder cannot be made, or it is not the user's own.
    pub fn prepare(&self) -> Result<(), SocketPathError> {
        self.fits()?;
        let folder = self.folder();
        let make = |source| SocketPathError::Make { folder: folder.to_owned(), source };
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        match builder.recursive(self.trust == PathTrust::Given).create(folder) {
            // What is there is looked at next.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => (),
            made => made.map_err(make)?,
        }
        self.is_private()
    }

    /// What a client does before it connects: looks whether the folder can be trusted, if there is
    /// one.
    ///
    /// # Errors
    /// The path is too long for a socket, or the folder is there and not the user's own.
    pub fn check(&self) -> Result<(), SocketPathError> {
        self.fits()?;
        match self.is_private() {
            Err(SocketPathError::Look { source, .. }) if source.kind() == ErrorKind::NotFound => {
                Ok(())
            }
            checked => checked,
        }
    }

    fn is_private(&self) -> Result<(), SocketPathError> {
        match self.trust {
            PathTrust::Given => Ok(()),
            PathTrust::Guessable { user } => is_private(self.folder(), user),
        }
    }

    fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        }
    }

    fn fits(&self) -> Result<(), SocketPathError> {
        match self.path.as_os_str().as_bytes().len() {
            length if length > LONGEST_PATH => {
                Err(SocketPathError::TooLong { path: self.path.clone(), length })
            }
            _ => Ok(()),
        }
    }
}

/// Why a socket's path cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketPathError {
    /// The system has room for so many bytes in the address of a socket.
    #[error("the socket path {} has {length} bytes, and the system allows {LONGEST_PATH}: choose a shorter one with --socket", path.display())]
    TooLong {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
    /// The socket's folder could not be made.
    #[error("the folder {} for the socket cannot be made: {source}", folder.display())]
    Make {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The socket's folder could not be looked at.
    #[error("the folder {} of the socket cannot be looked at: {source}", folder.display())]
    Look {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Somebody else could have put something into the socket's folder.
    #[error(
        "the folder {} for the socket {problem}, so it cannot be trusted: remove it, or name another place with --socket",
        folder.display()
    )]
    NotPrivate {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

/// `sun_path` less its closing zero: 108 bytes on Linux, 104 on the BSDs and macOS.
const LONGEST_PATH: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

fn is_private(folder: &Path, user: u32) -> Result<(), SocketPathError> {
    // Not `metadata`: a symbolic link of somebody else's to a folder of ours must not pass.
    let found = std::fs::symlink_metadata(folder)
        .map_err(|source| SocketPathError::Look { folder: folder.to_owned(), source })?;
    match distrust(&found, user) {
        Some(problem) => Err(SocketPathError::NotPrivate { folder: folder.to_owned(), problem }),
        None => Ok(()),
    }
}

fn distrust(found: &Metadata, user: u32) -> Option<String> {
    if found.is_symlink() {
        Some("is a symbolic link".into())
    } else if !found.is_dir() {
        Some("is no folder".into())
    } else if found.uid() != user {
        Some(format!("belongs to user {} and not to user {user}", found.uid()))
    } else if found.mode() & 0o077 != 0 {
        Some(format!("is open to others (mode {:04o})", found.mode() & 0o7777))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn environment(temporary: &Path) -> Environment {
        Environment {
            ksi_socket: None,
            xdg_runtime_dir: None,
            temporary: temporary.to_owned(),
            user: rustix::process::geteuid().as_raw(),
        }
    }

    fn guessable(temporary: &Path) -> SocketPath {
        SocketPath::choose(None, None, &environment(temporary))
    }

    #[test]
    fn each_place_comes_before_the_next() {
        let mut from = environment(Path::new("/tmp"));
        from.user = 7;
        from.ksi_socket = Some("/e".into());
        from.xdg_runtime_dir = Some("/run/user/7".into());
        let (flag, file) = (Some(Path::new("/f")), Some(Path::new("/c")));
        let chosen = |flag, file, from: &_| SocketPath::choose(flag, file, from).path().to_owned();

        assert_eq!(chosen(flag, file, &from), Path::new("/f"));
        assert_eq!(chosen(None, file, &from), Path::new("/e"));
        from.ksi_socket = Some("".into());
        assert_eq!(chosen(None, file, &from), Path::new("/c"));
        assert_eq!(chosen(None, None, &from), Path::new("/run/user/7/ksi/daemon.sock"));
        from.xdg_runtime_dir = Some("run".into());
        assert_eq!(chosen(None, None, &from), Path::new("/tmp/ksi-7/daemon.sock"));
    }

    #[test]
    fn a_new_folder_below_the_temporary_one_is_closed_to_others() {
        let temporary = tempfile::tempdir().expect("a folder");
        let socket = guessable(temporary.path());
        socket.check().expect("nothing there is nothing to distrust");
        socket.prepare().expect("a new folder");
        socket.prepare().expect("the folder of before");
        socket.check().expect("the same to a client");
        let mode = std::fs::metadata(socket.folder()).expect("the folder").mode();
        assert_eq!(mode & 0o7777, 0o700);
    }

    #[test]
    fn an_open_folder_is_not_trusted() {
        let temporary = tempfile::tempdir().expect("a folder");
        let socket = guessable(temporary.path());
        std::fs::create_dir(socket.folder()).expect("a folder");
        std::fs::set_permissions(socket.folder(), Permissions::from_mode(0o755)).expect("a mode");
        let error = socket.prepare().expect_err("an open folder").to_string();
        assert!(error.contains("open to others (mode 0755)"), "{error}");
        assert!(socket.check().is_err());
    }

    #[test]
    fn a_link_to_a_good_folder_is_not_trusted() {
        let temporary = tempfile::tempdir().expect("a folder");
        let target = tempfile::tempdir().expect("a folder");
        std::fs::set_permissions(target.path(), Permissions::from_mode(0o700)).expect("a mode");
        let socket = guessable(temporary.path());
        std::os::unix::fs::symlink(target.path(), socket.folder()).expect("a link");
        let error = socket.prepare().expect_err("a link").to_string();
        assert!(error.contains("symbolic link"), "{error}");
    }

    #[test]
    fn a_file_in_its_place_is_not_trusted() {
        let temporary = tempfile::tempdir().expect("a folder");
        let socket = guessable(temporary.path());
        std::fs::write(socket.folder(), "").expect("a file");
        let error = socket.prepare().expect_err("a file").to_string();
        assert!(error.contains("is no folder"), "{error}");
    }

    #[test]
    fn a_folder_of_another_user_is_not_trusted() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).expect("a mode");
        let found = std::fs::symlink_metadata(folder.path()).expect("the folder");
        assert_eq!(distrust(&found, found.uid()), None);
        let problem = distrust(&found, found.uid() + 1).expect("somebody else's");
        assert!(problem.contains("belongs to user"), "{problem}");
    }

    #[test]
    fn a_path_that_was_named_gets_its_folders() {
        let temporary = tempfile::tempdir().expect("a folder");
        let path = temporary.path().join("var/run/daemon.sock");
        let socket = SocketPath::choose(Some(&path), None, &environment(temporary.path()));
        socket.prepare().expect("new folders");
        assert!(temporary.path().join("var/run").is_dir());
        SocketPath::choose(Some(Path::new("s")), None, &environment(temporary.path()))
            .prepare()
            .expect("the current folder is there");
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_refused_in_our_words() {
        let path = PathBuf::from(format!("/{}", "x".repeat(LONGEST_PATH)));
        let socket = SocketPath::choose(Some(&path), None, &environment(Path::new("/tmp")));
        let error = socket.check().expect_err("a long path").to_string();
        assert!(error.contains("has 108 bytes") || error.contains("has 104 bytes"), "{error}");
    }
}
