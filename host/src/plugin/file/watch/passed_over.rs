//! Folders among the plugins that are none, although modules lie in them: nobody looks at those,
//! which whoever has put them there may not expect.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use crate::plugin::file::kind::FileKind;

/// How much of a folder is looked at: one with data may have any number of files.
const LOOKED_AT: usize = 256;
/// How many of them are remembered.
const REMEMBERED: usize = 1_024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct PassedOver {
    /// Those that were looked at, when they were last changed.
    looked_at: BTreeMap<PathBuf, SystemTime>,
}

impl PassedOver {
    /// The names of those in `folder` that were not told before. One that is watched itself is
    /// none.
    pub(super) fn new_in(&mut self, folder: &Path, watched: &[PathBuf]) -> Vec<String> {
        let mut found = Vec::new();
        let Ok(entries) = fs::read_dir(folder) else { return found };
        let mut there = BTreeMap::new();
        for entry in entries.flatten().filter(|it| it.file_type().is_ok_and(|it| it.is_dir())) {
            let path = folder.join(entry.file_name());
            let Ok(changed) = entry.metadata().and_then(|it| it.modified()) else { continue };
            if watched.contains(&path) || there.len() >= REMEMBERED {
                continue;
            }
            let before = self.looked_at.get(&path);
            if before != Some(&changed) && has_modules(&path) {
                found.push(entry.file_name().to_string_lossy().into_owned());
            }
            there.insert(path, changed);
        }
        self.looked_at = there;
        found.sort_unstable();
        found
    }
}

/// Whether it is taken for no plugin, and a file in it would be one.
fn has_modules(folder: &Path) -> bool {
    let is_passed_over = FileKind::by_name(folder) == Some(FileKind::Folder)
        && FileKind::of_candidate(folder).is_none();
    let is_module = |name: &Path| FileKind::by_name(name) == Some(FileKind::Python);
    is_passed_over
        && fs::read_dir(folder).is_ok_and(|entries| {
            entries.flatten().take(LOOKED_AT).any(|it| is_module(Path::new(&it.file_name())))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_with_modules_that_are_no_plugins_are_told_once_each_time_they_change() {
        let folder = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for (file, text) in [
            ("core/state.py", ""),
            ("watched/a.py", ""),
            ("plugin/a.py", ""),
            ("plugin/pyproject.toml", "[tool.ksi]"),
            (".hidden/a.py", ""),
            ("__pycache__/a.py", ""),
            ("lib/libq.so", ""),
            ("data/a.txt", ""),
            ("a.py", ""),
        ] {
            write(file, text);
        }
        let mut passed_over = PassedOver::default();
        let mut new = || passed_over.new_in(folder.path(), &[folder.path().join("watched")]);
        assert_eq!(new(), ["core"]);
        assert_eq!(new(), [""; 0]);
        write("data/b.py", "");
        assert_eq!(new(), ["data"]);
        fs::remove_dir_all(folder.path().join("core")).unwrap();
        assert_eq!(new(), [""; 0]);
        write("core/state.py", "");
        assert_eq!(new(), ["core"]);
    }
}
