//! A folder that is copied as a whole: which files it has.
//!
//! Hidden ones, and what interpreters leave there, are no part of it. A link is none either: it
//! could lead anywhere, and what lies there could change.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::CopyError;

/// The most files that one may have.
const MOST_FILES: usize = 4_000;

/// The files in a folder and below it, by their paths from there, sorted.
///
/// # Errors
/// It cannot be read, has a link, or too many files.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>, CopyError> {
    let (mut left, mut found) = (vec![PathBuf::new()], Vec::new());
    while let Some(below) = left.pop() {
        let path = folder.join(&below);
        let unreadable = |source| CopyError::Read { path: path.clone(), source };
        for entry in fs::read_dir(&path).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            if is_left_out(&entry.file_name()) {
                continue;
            }
            let (kind, at) =
                (entry.file_type().map_err(unreadable)?, below.join(entry.file_name()));
            if kind.is_dir() {
                left.push(at);
            } else if kind.is_file() {
                found.push(at);
            } else if kind.is_symlink() {
                return Err(CopyError::Link { path: folder.join(at) });
            }
            if found.len() + left.len() > MOST_FILES {
                let path = folder.to_owned();
                return Err(CopyError::TooManyFiles { path, limit: MOST_FILES });
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Whether a file or folder of this name is no part of the folder that it lies in.
pub(crate) fn is_left_out(name: &std::ffi::OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".") || name == "__pycache__"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_files_and_those_of_interpreters_are_left_out_and_links_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for file in ["b/c.py", "a.py", ".git/x", "b/__pycache__/c.pyc", "b/.x.py"] {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        assert_eq!(files(folder.path()).unwrap(), [Path::new("a.py"), Path::new("b/c.py")]);
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("b/out")).unwrap();
        let error = files(folder.path()).unwrap_err().to_string();
        assert!(error.contains("b/out"), "{error}");
    }
}
