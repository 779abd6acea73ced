//! The packages that modules say they need, installed in folders of the host's own: one folder for
//! each set of them and each interpreter, which all modules share that need the same.
//!
//! A folder is made before anything of a replacement happens, whole or not at all, and not touched
//! any more: `install.rs` makes it, `kept.rs` says which are whole. Nothing is installed unless the
//! operator says by what. A folder that somebody has made by hand, by the command that is told, is
//! as good.

mod install;
mod kept;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Semaphore;

use self::kept::{Environment, InUse};
use super::{error::PythonError, interpreter::Interpreter};
use crate::{
    plugin::file::copy::PrivateDir,
    sync::keyed_lock::{KeyedLock, LockKey},
    system::low_priority,
};

/// How many sets are installed at a time.
const PLACES: usize = 4;

/// In the host's private folder.
const IN_PRIVATE: &str = "python-packages";

/// What installs packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Installer {
    Uv,
    Pip,
}

/// See the module.
pub(super) struct Environments {
    folder: Option<PathBuf>,
    installer: Option<Installer>,
    /// Each is made by one at a time,
    making: Arc<KeyedLock>,
    /// and so many are at a time.
    places: Semaphore,
    in_use: Arc<InUse>,
    /// Whether what other hosts have left was looked at.
    swept: AtomicBool,
    /// The host stops.
    ended: Arc<AtomicBool>,
}

impl Environments {
    /// In this folder, which need not be there; or else in the host's private folder, with which
    /// they go.
    pub(super) fn new(folder: Option<PathBuf>, installer: Option<Installer>) -> Self {
        let (making, places) = (Arc::default(), Semaphore::new(PLACES));
        let (in_use, swept, ended) = (Arc::default(), AtomicBool::default(), Arc::default());
        Environments { folder, installer, making, places, in_use, swept, ended }
    }

    /// Where the packages of this set lie, or are to; nothing if it is empty.
    ///
    /// # Errors
    /// There is no place for them.
    pub(super) fn folder_of(
        &self,
        dir: &PrivateDir,
        interpreter: &Interpreter,
        packages: &[String],
    ) -> Result<Option<PathBuf>, PythonError> {
        let mut packages: Vec<&str> = packages.iter().map(|it| it.trim()).collect();
        packages.sort_unstable();
        packages.dedup();
        if packages.is_empty() {
            return Ok(None);
        }
        let mut hasher = blake3::Hasher::new();
        for part in
            [&interpreter.version, &*interpreter.path.to_string_lossy()].into_iter().chain(packages)
        {
            hasher.update(blake3::hash(part.as_bytes()).as_bytes());
        }
        Ok(Some(self.root(dir)?.join(&hasher.finalize().to_hex()[..16])))
    }

    /// Sees to it that the packages of this set are there, for the module of this name, and stay
    /// for as long as what is given; nothing is if the set is empty.
    ///
    /// # Errors
    /// They are not, and are not to be installed, or cannot be.
    pub(super) async fn provide(
        &self,
        dir: &PrivateDir,
        interpreter: &Arc<Interpreter>,
        packages: &[String],
        plugin: &str,
    ) -> Result<Option<Arc<Environment>>, PythonError> {
        let Some(folder) = self.folder_of(dir, interpreter, packages)? else { return Ok(None) };
        if let Some(odd) = packages.iter().find(|it| is_odd(it)) {
            return Err(PythonError::NoPackage { name: odd.clone() });
        }
        let used = self.in_use.begin(&folder);
        if !self.swept.swap(true, Ordering::Relaxed) {
            let (root, in_use) = (self.root(dir)?, self.in_use.clone());
            // What fails here is only that some of it stays.
            let _ = low_priority::done("ksi-install", move || kept::sweep(&root, &in_use)).await;
        }
        if kept::is_complete(&folder) {
            return Ok(Some(used));
        }
        let Some(installer) = self.installer else {
            let command = install::by_hand(&interpreter.path, &folder, packages);
            return Err(PythonError::NotInstalled { packages: packages.to_vec(), command });
        };
        let _alone = self.making.lock(LockKey::File(folder.clone())).await;
        if kept::is_complete(&folder) {
            return Ok(Some(used));
        }
        // Never closed, so there is always a place to wait for.
        let _place = self.places.acquire().await;
        let (plugin, ended, root) = (plugin.to_owned(), self.ended.clone(), self.root(dir)?);
        let (program, packages) = (interpreter.path.clone(), packages.to_vec());
        let in_use = self.in_use.clone();
        let made = low_priority::done("ksi-install", move || {
            let filling = |folder: &Path| install::filling(installer, &program, folder, &packages);
            let made = install::make(&root, &folder, filling, &plugin, &ended);
            kept::sweep(&root, &in_use);
            made
        });
        let program = interpreter.path.clone();
        made.await.map_err(|source| PythonError::NotStarted { program, source })??;
        Ok(Some(used))
    }

    /// Whether this set has to be installed first, and will be.
    pub(super) fn installs(
        &self,
        dir: &PrivateDir,
        interpreter: &Interpreter,
        packages: &[String],
    ) -> bool {
        let folder = self.folder_of(dir, interpreter, packages).ok().flatten();
        self.installer.is_some() && folder.is_some_and(|folder| !kept::is_complete(&folder))
    }

    /// Ends what is being installed: the host stops.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    fn root(&self, dir: &PrivateDir) -> Result<PathBuf, PythonError> {
        match &self.folder {
            Some(folder) => Ok(folder.clone()),
            None => Ok(dir.folder(IN_PRIVATE)?),
        }
    }
}

/// What would be an option of the installer, or more than one package.
fn is_odd(package: &str) -> bool {
    package.trim().is_empty()
        || package.trim_start().starts_with('-')
        || package.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::plugin::file::copy::Places;

    fn interpreter(version: &str) -> Arc<Interpreter> {
        let (path, version) = ("/usr/bin/python3".into(), version.to_owned());
        Arc::new(Interpreter { path, version, folders: Vec::new() })
    }

    fn packages(all: &[&str]) -> Vec<String> {
        all.iter().map(|it| (*it).to_owned()).collect()
    }

    fn private(above: &Path) -> PrivateDir {
        let named = Some(above.to_owned());
        let places = Places { named, runtime: None, temporary: "/".into() };
        PrivateDir::create(places).unwrap()
    }

    #[test]
    fn the_same_set_for_the_same_interpreter_has_one_folder() {
        let above = tempfile::tempdir().unwrap();
        let (environments, dir) = (Environments::new(None, None), private(above.path()));
        let of = |version: &str, all: &[&str]| {
            environments.folder_of(&dir, &interpreter(version), &packages(all)).unwrap()
        };
        assert_eq!(of("3.12.1", &[]), None);
        assert!(of("3.12.1", &["a"]).unwrap().starts_with(above.path()));
        assert_eq!(of("3.12.1", &["a>=1", "b"]), of("3.12.1", &[" b", "a>=1", "b"]));
        assert_ne!(of("3.12.1", &["a"]), of("3.12.1", &["b"]));
        assert_ne!(of("3.12.1", &["a"]), of("3.13.0", &["a"]));
    }

    #[tokio::test]
    async fn without_an_installer_the_command_is_told_and_what_it_makes_is_used() {
        let (root, above) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let environments = Environments::new(Some(root.path().to_owned()), None);
        let dir = private(above.path());
        let (needed, interpreter) = (packages(&["structlog", "it's >=2"]), interpreter("3.12.1"));
        let told =
            environments.provide(&dir, &interpreter, &needed, "p").await.unwrap_err().to_string();
        let folder = environments.folder_of(&dir, &interpreter, &needed).unwrap().unwrap();
        let command = format!(
            r"/usr/bin/python3 -I -m pip install --no-input --disable-pip-version-check --upgrade --target {folder} -- structlog 'it'\''s >=2' && touch {folder}/.ksi-complete",
            folder = folder.display()
        );
        assert!(told.contains(&command), "{told}");
        // It was broken off.
        fs::create_dir(&folder).unwrap();
        environments.provide(&dir, &interpreter, &needed, "p").await.unwrap_err();
        fs::write(folder.join(".ksi-complete"), "").unwrap();
        environments.provide(&dir, &interpreter, &needed, "p").await.unwrap();
        let odd = packages(&["--index-url=http://x"]);
        let told =
            environments.provide(&dir, &interpreter, &odd, "p").await.unwrap_err().to_string();
        assert!(told.contains("--index-url"), "{told}");
    }
}
