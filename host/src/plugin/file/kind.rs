//! What kinds of files become plugins: the one place that tells one from the other.
//!
//! By its name, or because it is a folder: what it is indeed is found out when it is read.

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::project;

/// The extension of a module.
const PYTHON: &str = "py";
/// That of what a folder says of itself.
const PROJECT: &str = "toml";

/// What a file is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FileKind {
    /// A shared library of native code.
    Native,
    /// A module of Python.
    Python,
    /// A folder with modules of Python that are one plugin.
    Folder,
}

impl FileKind {
    /// What a file of this name is taken for, whoever names it.
    pub(crate) fn of(path: &Path) -> Self {
        match path.extension() {
            Some(extension) if extension == PYTHON => FileKind::Python,
            _ if path.join(project::FILE).exists() => FileKind::Folder,
            _ => FileKind::Native,
        }
    }

    /// What a file in a folder of plugins is; nothing if it is none of them. Hidden ones are not,
    /// so that a build can write to `.name.so` and rename it, nor modules that begin with `_`,
    /// which is how a module is put aside, nor folders that do not say so.
    pub(crate) fn of_candidate(path: &Path) -> Option<Self> {
        FileKind::by_name(path).filter(|kind| match kind {
            FileKind::Folder => project::is_project(path),
            FileKind::Native | FileKind::Python => true,
        })
    }

    /// What a file of this name in such a folder may be; a folder may be none.
    pub(crate) fn by_name(path: &Path) -> Option<Self> {
        let name = path.file_name()?.as_encoded_bytes();
        if name.starts_with(b".") || name == b"__pycache__" {
            return None;
        }
        match path.extension() {
            Some(extension) if extension == PYTHON => {
                (!name.starts_with(b"_")).then_some(FileKind::Python)
            }
            Some(extension) if extension == std::env::consts::DLL_EXTENSION => {
                Some(FileKind::Native)
            }
            _ => Some(FileKind::Folder),
        }
    }

    /// The extension of its copies.
    pub(super) fn extension(self) -> &'static str {
        match self {
            FileKind::Native => std::env::consts::DLL_EXTENSION,
            FileKind::Python => PYTHON,
            FileKind::Folder => PROJECT,
        }
    }

    /// The most bytes that one may have, where any file may have this many.
    pub(crate) fn longest(self, any: u64) -> u64 {
        match self {
            FileKind::Native | FileKind::Folder => any,
            FileKind::Python => any.min(project::LONGEST_SOURCE),
        }
    }
}

/// What a version was copied from first, and what that was taken for. Each copy of the copy has it
/// as well: by then, another kind of file may have taken its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Original {
    path: PathBuf,
    kind: FileKind,
}

impl Original {
    /// What lies there now.
    pub(crate) fn of(path: &Path) -> Self {
        Original::taken_for(FileKind::of(path), path)
    }

    /// What lay there, if anything does, and what it was taken for.
    pub(crate) fn taken_for(kind: FileKind, path: &Path) -> Self {
        Original { path: path.to_owned(), kind }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn kind(&self) -> FileKind {
        self.kind
    }

    /// Its name without what says of which kind it is: that of a plugin which has no other.
    pub(crate) fn stem(&self) -> Cow<'_, str> {
        let stem = match self.kind {
            FileKind::Folder => self.path.file_name(),
            FileKind::Native | FileKind::Python => self.path.file_stem(),
        };
        stem.unwrap_or_default().to_string_lossy()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_modules_are_candidates_and_what_is_hidden_or_put_aside_is_not() {
        let of = |name: &str| FileKind::of_candidate(name.as_ref());
        assert_eq!(of("/p/state_manager.py"), Some(FileKind::Python));
        assert_eq!(of(&format!("/p/liba{}", std::env::consts::DLL_SUFFIX)), Some(FileKind::Native));
        let others = ["_shared.py", ".x.py", ".liba.so", "__pycache__", "a.pyc", "README.md", "py"];
        for other in others {
            assert_eq!(of(&format!("/p/{other}")), None, "{other}");
        }
        let folder = tempfile::tempdir().unwrap();
        let stock = folder.path().join("stock");
        std::fs::create_dir(&stock).unwrap();
        assert_eq!(FileKind::of_candidate(&stock), None);
        std::fs::write(stock.join("pyproject.toml"), "[tool.ksi]").unwrap();
        assert_eq!(FileKind::of_candidate(&stock), Some(FileKind::Folder));
    }
}
