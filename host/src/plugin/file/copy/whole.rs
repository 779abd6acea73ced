//! A copy of a whole folder: the copy of the file that makes it a plugin, in a folder with all
//! others.

use std::{fs, io, path::Path};

use super::{Content, CopyError, PrivateCopy, PrivateDir, SourceFile, source::Seen, tree};
use crate::plugin::file::{
    kind::{FileKind, Original},
    project,
};

impl PrivateDir {
    /// Copies a folder, if all of its files together have at most this many bytes, and each passes
    /// this check. It may lie elsewhere than what it is a copy `of`.
    ///
    /// # Errors
    /// As for a [copy](PrivateDir::copy) of a file; or the folder has a link, or too many files.
    pub(crate) fn copy_folder<E: From<CopyError>>(
        &self,
        folder: &Path,
        of: &Original,
        limit: u64,
        check: impl Fn(&Path, &SourceFile) -> Result<(), E>,
    ) -> Result<(PrivateCopy, Content), E> {
        let open = |path: &Path, left: u64| {
            let source = SourceFile::open(path, left)?;
            check(path, &source)?;
            Ok::<_, E>(source)
        };
        let files = tree::files(folder)?;
        let project = open(&folder.join(project::FILE), project::LONGEST)?;
        let (mut copy, content) = self.copy(&project, of)?;
        self.give_folder(&mut copy)?;
        let (mut bytes, mut seen) = (0, vec![project.seen()]);
        for file in &files {
            let source = open(&folder.join(file), limit)?;
            bytes += source.len();
            if bytes > limit {
                let path = folder.to_owned();
                return Err(CopyError::TooLarge { path, found: bytes, limit }.into());
            }
            self.bring(&copy, &source, file, |_| None)?;
            copy.pack()?;
            seen.push(source.seen());
        }
        // Of what was written meanwhile some is copied as it was before.
        if tree::files(folder)? != files || !seen.iter().all(Seen::is_there) {
            return Err(CopyError::ChangedWhileCopying { path: folder.to_owned() }.into());
        }
        copy.is_whole();
        Ok((copy, content))
    }
}

impl PrivateCopy {
    /// All that was to be brought is there: the copy of a folder is told apart by all of it.
    pub(super) fn is_whole(&mut self) {
        if self.kind() == FileKind::Folder {
            self.hash = self.hash_of_all();
        }
    }

    /// What is to be run: the file, or the folder that is copied as a whole.
    pub(crate) fn content_path(&self) -> &Path {
        match (self.kind(), self.path().parent()) {
            (FileKind::Folder, Some(folder)) => folder,
            _ => self.path(),
        }
    }

    /// Writes a folder to `to`, whole or not at all, in place of one that is there.
    pub(super) fn save_folder(&self, to: &Path) -> io::Result<()> {
        let draft = tempfile::tempdir_in(to.parent().unwrap_or(Path::new(".")))?;
        self.write_brought(draft.path())?;
        match fs::remove_dir_all(to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::rename(draft.path(), to)?;
        // It is not where it would be removed from.
        let _ = draft.keep();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::plugin::file::copy::Places;

    fn copied(dir: &PrivateDir, folder: &Path, limit: u64) -> Result<PrivateCopy, CopyError> {
        let of = Original::of(folder);
        Ok(dir.copy_folder(folder, &of, limit, |_, _| Ok::<_, CopyError>(()))?.0)
    }

    fn private(above: &Path) -> PrivateDir {
        let named = Some(above.to_owned());
        PrivateDir::create(Places { named, runtime: None, temporary: "/".into() }).unwrap()
    }

    #[test]
    fn a_folder_that_is_written_while_it_is_copied_is_no_copy() {
        let (folder, above) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let stock = folder.path().join("stock");
        fs::create_dir(&stock).unwrap();
        for file in ["a.py", "b.py", "pyproject.toml"] {
            fs::write(stock.join(file), "one").unwrap();
        }
        let dir = private(above.path());
        for first in ["a.py", "pyproject.toml"] {
            // The first one was copied when the last one is.
            let written = |path: &Path, _: &SourceFile| {
                if path.ends_with("b.py") {
                    fs::write(stock.join(first), "other").unwrap();
                }
                Ok::<_, CopyError>(())
            };
            let torn = dir.copy_folder(&stock, &Original::of(&stock), 1 << 20, written);
            assert!(matches!(torn, Err(CopyError::ChangedWhileCopying { .. })), "{first}");
        }
    }

    #[test]
    fn a_folder_is_copied_as_a_whole_and_told_apart_by_all_of_it() {
        let (folder, above) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let stock = folder.path().join("stock");
        fs::create_dir_all(stock.join("a/b")).unwrap();
        fs::write(stock.join("pyproject.toml"), "[tool.ksi]").unwrap();
        fs::write(stock.join("a/b/c.py"), "one").unwrap();
        let dir = private(above.path());
        let first = copied(&dir, &stock, 1 << 20).unwrap();
        let there = first.content_path().to_owned();
        assert_eq!(fs::read_to_string(there.join("a/b/c.py")).unwrap(), "one");
        assert_eq!(fs::read_to_string(there.join("pyproject.toml")).unwrap(), "[tool.ksi]");
        let (again, _) = dir.copy_again(&first, 1 << 20).unwrap();
        assert_eq!(again.hash(), first.hash(), "a copy of the copy");
        fs::write(stock.join("a/b/c.py"), "two").unwrap();
        // A cleaner has been there.
        fs::remove_dir_all(&there).unwrap();
        let (once_more, _) = dir.copy_again(&first, 1 << 20).unwrap();
        assert_eq!(once_more.hash(), first.hash());
        assert_eq!(fs::read_to_string(once_more.content_path().join("a/b/c.py")).unwrap(), "one");
        let second = copied(&dir, &stock, 1 << 20).unwrap();
        assert_ne!(second.hash(), first.hash());
        assert_eq!(fs::read_to_string(again.content_path().join("a/b/c.py")).unwrap(), "one");
        assert!(matches!(copied(&dir, &stock, 12), Err(CopyError::TooLarge { found: 13, .. })));
        drop((first, again, second));
        assert!(!there.exists());
    }

    #[test]
    fn a_saved_folder_has_all_that_it_had_and_is_as_good_as_the_first() {
        let (folder, above) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let stock = folder.path().join("stock");
        fs::create_dir_all(stock.join("a/b")).unwrap();
        fs::write(stock.join("pyproject.toml"), "[tool.ksi]").unwrap();
        fs::write(stock.join("a/b/c.py"), "one").unwrap();
        let dir = private(above.path());
        let first = copied(&dir, &stock, 1 << 20).unwrap();
        assert_eq!(first.bytes().unwrap(), 13);
        let kept = folder.path().join("kept");
        // What lies there already is replaced.
        for _ in 0..2 {
            first.save(&kept).unwrap();
            fs::write(kept.join("more.py"), "").unwrap();
        }
        first.save(&kept).unwrap();
        fs::remove_dir_all(&stock).unwrap();
        let of = first.original();
        let again = dir.copy_folder(&kept, of, 1 << 20, |_, _| Ok::<_, CopyError>(())).unwrap().0;
        assert_eq!((again.hash(), again.original()), (first.hash(), of));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left there");
    }
}
