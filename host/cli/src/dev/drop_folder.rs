//! The folder that built plugins are put into. A file comes into it whole, by a rename, and only
//! when it is another one than before, so that the host sees exactly the changes there are.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::DevError;
use super::packages::Workspace;

/// Held as long as a folder of our own is in use.
const LOCK: &str = ".lock";

pub(super) struct DropFolder {
    path: PathBuf,
    /// The names of the files that were put into it, and may be taken out again.
    put: BTreeSet<String>,
    _lock: Option<File>,
}

impl DropFolder {
    /// A folder that somebody named: other files in it are none of our business.
    pub(super) fn shared(path: PathBuf) -> Result<Self, DevError> {
        std::fs::create_dir_all(&path)
            .map_err(|source| DevError::Drop { path: path.clone(), source })?;
        Ok(Self { path, put: BTreeSet::new(), _lock: None })
    }

    /// A folder of our own. Plugins of an earlier time that are not among these packages are taken
    /// out; those of packages that do not compile just now stay.
    pub(super) fn own(path: PathBuf, workspaces: &[Workspace]) -> Result<Self, DevError> {
        let mut folder = Self::shared(path)?;
        folder.lock()?;
        let keep: Vec<&str> = workspaces
            .iter()
            .flat_map(|it| &it.plugins)
            .map(|plugin| plugin.file.as_str())
            .collect();
        folder
            .keep_only(&keep)
            .map_err(|source| DevError::Drop { path: folder.path.clone(), source })?;
        Ok(folder)
    }

    /// Another `ksi dev` would take our plugins out of the folder, and its host would load them.
    fn lock(&mut self) -> Result<(), DevError> {
        let path = self.path.join(LOCK);
        let failed = |source| DevError::Drop { path: path.clone(), source };
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => self._lock = Some(file),
            Err(TryLockError::WouldBlock) => return Err(DevError::InUse(self.path.clone())),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts a built file into the folder. Says whether it is another one than before.
    pub(super) fn put(&mut self, artifact: &Path) -> Result<bool, DevError> {
        let put = self.try_put(artifact);
        if let (Ok(_), Some(name)) = (&put, artifact.file_name()) {
            self.put.insert(name.to_string_lossy().into_owned());
        }
        put.map_err(|source| DevError::Drop { path: artifact.to_owned(), source })
    }

    /// Takes out a file that was put into the folder, so that the host unloads its plugin. Says
    /// whether there was one.
    pub(super) fn take_out(&mut self, name: &str) -> Result<bool, DevError> {
        if !self.put.contains(name) {
            return Ok(false);
        }
        let path = self.path.join(name);
        match std::fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(DevError::TakeOut { path, source }),
        }
        Ok(self.put.remove(name))
    }

    fn try_put(&self, artifact: &Path) -> io::Result<bool> {
        let name = artifact.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
        let bytes = std::fs::read(artifact)?;
        let place = self.path.join(name);
        if std::fs::read(&place).is_ok_and(|before| before == bytes) {
            return Ok(false);
        }
        // Named so that no host takes the half-written file for a plugin.
        let draft = self.path.join(format!(".{}.new", name.to_string_lossy()));
        std::fs::write(&draft, bytes)?;
        std::fs::rename(&draft, &place)?;
        Ok(true)
    }

    fn keep_only(&self, names: &[&str]) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name();
            let is_file = entry.file_type()?.is_file();
            if is_file && name != LOCK && !names.iter().any(|keep| *keep == name) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).expect("a folder").flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_goes_in_whole_and_only_when_it_is_another() {
        let built = tempfile::tempdir().expect("a folder");
        let target = tempfile::tempdir().expect("a folder");
        let artifact = built.path().join("libone.so");
        let mut folder =
            DropFolder::shared(target.path().join("ksi/plugins")).expect("a new folder");
        std::fs::write(&artifact, "first").expect("a file");
        assert!(folder.put(&artifact).expect("put"));
        assert!(!folder.put(&artifact).expect("the same"));
        std::fs::write(&artifact, "later").expect("a file");
        assert!(folder.put(&artifact).expect("put"));
        assert_eq!(std::fs::read(folder.path().join("libone.so")).expect("a file"), b"later");
        assert_eq!(names(folder.path()), ["libone.so"]);
    }

    #[test]
    fn only_what_was_put_into_the_folder_is_taken_out() {
        let built = tempfile::tempdir().expect("a folder");
        let target = tempfile::tempdir().expect("a folder");
        let artifact = built.path().join("libone.so");
        std::fs::write(&artifact, "").expect("a file");
        std::fs::write(target.path().join("libother.so"), "").expect("a file");
        let mut folder = DropFolder::shared(target.path().to_owned()).expect("a folder");
        folder.put(&artifact).expect("put");
        assert!(folder.take_out("libone.so").expect("taken out"));
        assert!(!folder.take_out("libone.so").expect("nothing to take out"));
        assert!(!folder.take_out("libother.so").expect("not ours"));
        assert_eq!(names(target.path()), ["libother.so"]);
    }

    #[test]
    fn a_file_that_is_gone_again_is_an_error_that_names_it() {
        let target = tempfile::tempdir().expect("a folder");
        let mut folder = DropFolder::shared(target.path().to_owned()).expect("a folder");
        let error = folder.put(Path::new("/nowhere/libone.so")).expect_err("no file").to_string();
        assert!(error.contains("/nowhere/libone.so"), "{error}");
    }

    #[test]
    fn our_own_folder_is_not_shared_with_another_run() {
        let target = tempfile::tempdir().expect("a folder");
        let first = DropFolder::own(target.path().to_owned(), &[]).expect("the first");
        let second = DropFolder::own(target.path().to_owned(), &[]).err().expect("in use");
        assert!(matches!(second, DevError::InUse(_)), "{second}");
        drop(first);
        DropFolder::own(target.path().to_owned(), &[]).expect("free again");
    }

    #[test]
    fn our_own_folder_forgets_what_is_not_built_any_more() {
        let target = tempfile::tempdir().expect("a folder");
        for name in ["libone.so", "libold.so", ".libone.so.new"] {
            std::fs::write(target.path().join(name), "").expect("a file");
        }
        let folder = DropFolder::shared(target.path().to_owned()).expect("a folder");
        folder.keep_only(&["libone.so", "libtwo.so"]).expect("cleaned");
        assert_eq!(names(target.path()), ["libone.so"]);
    }
}
