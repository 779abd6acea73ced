//! A copy of a whole folder: the copy of the file that makes it a plugin, in a folder with all
//! others.

use std::path::Path;

use super::{Content, CopyError, PrivateCopy, PrivateDir, SourceFile, source::Seen, tree};
use crate::plugin::file::{kind::FileKind, project};

impl PrivateDir {
    /// Copies a folder, if all of its files together have at most this many bytes, and each passes
    /// this check.
    ///
    /// # Errors
    /// As for a [copy](PrivateDir::copy) of a file; or the folder has a link, or too many files.
    pub(crate) fn copy_folder<E: From<CopyError>>(
        &self,
        folder: &Path,
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
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let (mut copy, content) = self.copy(&project, &FileKind::Folder.label(&name))?;
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
        if self.kind == FileKind::Folder {
            self.hash = self.hash_of_all();
        }
    }

    /// What is to be run: the file, or the folder that is copied as a whole.
    pub(crate) fn content_path(&self) -> &Path {
        match (self.kind, self.path().parent()) {
            (FileKind::Folder, Some(folder)) => folder,
            _ => self.path(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::plugin::file::copy::Places;

    fn copied(dir: &PrivateDir, folder: &Path, limit: u64) -> Result<PrivateCopy, CopyError> {
        Ok(dir.copy_folder(folder, limit, |_, _| Ok::<_, CopyError>(()))?.0)
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
            let torn = dir.copy_folder(&stock, 1 << 20, written);
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
        let (again, _) = dir.copy_again(&first, 1 << 20, "stock").unwrap();
        assert_eq!(again.hash(), first.hash(), "a copy of the copy");
        fs::write(stock.join("a/b/c.py"), "two").unwrap();
        // A cleaner has been there.
        fs::remove_dir_all(&there).unwrap();
        let (once_more, _) = dir.copy_again(&first, 1 << 20, "stock").unwrap();
        assert_eq!(once_more.hash(), first.hash());
        assert_eq!(fs::read_to_string(once_more.content_path().join("a/b/c.py")).unwrap(), "one");
        let second = copied(&dir, &stock, 1 << 20).unwrap();
        assert_ne!(second.hash(), first.hash());
        assert_eq!(fs::read_to_string(again.content_path().join("a/b/c.py")).unwrap(), "one");
        assert!(matches!(copied(&dir, &stock, 12), Err(CopyError::TooLarge { found: 13, .. })));
        drop((first, again, second));
        assert!(!there.exists());
    }
}
