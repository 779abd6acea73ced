//! What kinds of files become plugins: the one place that tells one from the other.
//!
//! By its name, or because it is a folder: what it is indeed is found out when it is read.

use std::path::Path;

use super::project;

/// The extension of a module.
const PYTHON: &str = "py";
/// That of what a folder says of itself.
const PROJECT: &str = "toml";

/// What a file is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
        match FileKind::of_copy(path) {
            FileKind::Native if path.join(project::FILE).exists() => FileKind::Folder,
            kind => kind,
        }
    }

    /// The same for the name of a copy, which is always a file.
    pub(super) fn of_copy(name: &Path) -> Self {
        match name.extension() {
            Some(extension) if extension == PYTHON => FileKind::Python,
            Some(extension) if extension == PROJECT => FileKind::Folder,
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

    /// What the copy of something of this name is called after, so that its kind is told by that.
    pub(super) fn label(self, name: &str) -> String {
        match self {
            FileKind::Native | FileKind::Python => name.to_owned(),
            FileKind::Folder => format!("{name}.{PROJECT}"),
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
