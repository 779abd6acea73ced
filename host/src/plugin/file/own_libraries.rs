//! A plugin's own libraries: those that it needs and that lie beside its file, where `$ORIGIN`
//! leads.
//!
//! What is mapped is a private copy of the plugin, and `$ORIGIN` leads from that; so they are
//! copied as well, to where it leads then: into the folder of that copy, which goes with it. Nobody
//! writes to those, so that a library which is overwritten while it is mapped ends no host; and a
//! version that is gone back to has those that it had.
//!
//! What this can't do: the loader takes a library that is in memory for any other of that name.
//! Another one is not loaded before that is gone, and whoever needs it is told so.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
    sync::MutexGuard,
};

use super::{
    copy::{CopyError, PrivateCopy, PrivateDir, SourceFile},
    manifest::Linkage,
};
use crate::sync::Lock;
use crate::system::proc_fs;

/// More than any plugin has.
const MOST: usize = 64;

/// Where libraries lie that were brought along, so that one with the same bytes need not be there
/// twice.
#[derive(Default)]
pub(in crate::plugin) struct OwnLibraries(Lock<HashMap<PathBuf, blake3::Hash>>);

/// An object, where it lies in truth, and where below the folder of the copy.
struct OwnObject {
    linkage: Linkage,
    folder: PathBuf,
    copied_to: PathBuf,
}

impl OwnLibraries {
    /// Whether a plugin may have any.
    pub(in crate::plugin) fn may_have(linkage: &Linkage) -> bool {
        linkage.run_path.iter().any(|folder| below_origin(folder).is_some())
    }

    /// Copies the libraries of the plugin that was copied from `file` to beside that copy, unless
    /// it has brought those that it had before. What somebody should know.
    ///
    /// # Errors
    /// One can't be copied.
    pub(in crate::plugin) fn bring<E: From<CopyError>>(
        &self,
        dir: &PrivateDir,
        copy: &mut PrivateCopy,
        file: &Path,
        linkage: &Linkage,
        open: impl Fn(&Path) -> Result<SourceFile, E>,
    ) -> Result<Vec<String>, E> {
        let mut notices = Vec::new();
        if !copy.has_folder() {
            dir.give_folder(copy)?;
            self.copy_from(dir, copy, file, linkage, open, &mut notices)?;
        }
        let brought = copy.brought();
        self.placed().extend(brought.iter().cloned());
        let maps = fs::read("/proc/self/maps").unwrap_or_default();
        let maps = String::from_utf8_lossy(&maps);
        let others = brought.iter().filter(|(at, _)| another_is_mapped(&maps, at));
        notices.extend(others.map(|(at, _)| {
            let name = at.file_name().unwrap_or_default().to_string_lossy();
            format!(
                "{name}, which it needs, is in memory already, with another content, from an earlier generation or another \
                 plugin: the system's loader takes that in place of its own. Reload the plugin once whoever uses that has \
                 left memory, restart the host, or give each version of the library a name of its own"
            )
        }));
        Ok(notices)
    }

    fn copy_from<E: From<CopyError>>(
        &self,
        dir: &PrivateDir,
        copy: &PrivateCopy,
        file: &Path,
        linkage: &Linkage,
        open: impl Fn(&Path) -> Result<SourceFile, E>,
        notices: &mut Vec<String>,
    ) -> Result<(), E> {
        let folder = file.parent().unwrap_or(Path::new("/")).to_owned();
        let copied_to = PathBuf::new();
        let mut objects = vec![OwnObject { linkage: linkage.clone(), folder, copied_to }];
        let mut brought = Vec::new();
        while let Some(object) = objects.pop() {
            for (name, below) in object.candidates() {
                let (from, at) = (object.folder.join(&below), object.copied_to.join(&below));
                if !from.join(name).is_file() || brought.contains(&at.join(name)) {
                    continue;
                }
                if !below.components().all(|part| matches!(part, Component::Normal(_))) {
                    notices.push(format!(
                        "{name}, which it needs, lies in {}, where `$ORIGIN` of its private copy does not lead: put it \
                         beside the plugin or below, as in `$ORIGIN/lib`",
                        from.display()
                    ));
                    continue;
                }
                let (from, at) = (from.join(name), at.join(name));
                if brought.len() >= MOST || copy.is_taken(&at) {
                    notices.push(format!(
                        "{} is not copied: too many, or its name is taken",
                        from.display()
                    ));
                    continue;
                }
                let content = dir.bring(copy, &open(&from)?, &at, |hash| self.known(hash))?;
                objects.push(OwnObject {
                    linkage: Linkage::of(&content),
                    folder: from.parent().unwrap_or(Path::new("/")).to_owned(),
                    copied_to: at.parent().unwrap_or(Path::new("")).to_owned(),
                });
                brought.push(at);
            }
        }
        Ok(())
    }

    /// Where one with these bytes lies.
    fn known(&self, hash: blake3::Hash) -> Option<PathBuf> {
        let placed = self.placed();
        placed.iter().find(|(_, other)| **other == hash).map(|(at, _)| at.clone())
    }

    /// Those that are still there.
    fn placed(&self) -> MutexGuard<'_, HashMap<PathBuf, blake3::Hash>> {
        let mut placed = self.0.lock();
        placed.retain(|at, _| at.exists());
        placed
    }
}

impl OwnObject {
    /// Each library that it needs, with each folder below its own that the loader looks for it in.
    fn candidates(&self) -> impl Iterator<Item = (&str, PathBuf)> {
        let plain = |name: &&String| !name.contains('/') && !name.starts_with('.');
        let folders = self.linkage.run_path.iter().filter_map(|folder| below_origin(folder));
        let folders: Vec<PathBuf> = folders.collect();
        let needed = self.linkage.needed.iter().filter(plain);
        needed.flat_map(move |name| folders.clone().into_iter().map(move |it| (name.as_str(), it)))
    }
}

/// `lib` for `$ORIGIN/lib`.
fn below_origin(folder: &str) -> Option<PathBuf> {
    let below = folder.strip_prefix("$ORIGIN").or_else(|| folder.strip_prefix("${ORIGIN}"))?;
    (below.is_empty() || below.starts_with('/')).then(|| {
        let parts = Path::new(below).components();
        parts.filter(|part| !matches!(part, Component::RootDir | Component::CurDir)).collect()
    })
}

/// Whether another file of this name is mapped.
fn another_is_mapped(maps: &str, at: &Path) -> bool {
    let (Some(name), Ok(now)) = (at.file_name(), fs::metadata(at)) else { return false };
    proc_fs::code(maps).any(|line| {
        // Address, rights, offset, device, inode, path.
        let inode = line.split_whitespace().nth(4).and_then(|inode| inode.parse::<u64>().ok());
        let path = line.find('/').map(|begin| &line[begin..]).unwrap_or_default();
        let path = Path::new(path.strip_suffix(" (deleted)").unwrap_or(path));
        path.file_name() == Some(name) && inode.is_some_and(|inode| inode != now.ino())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_origin_leads_is_told_from_other_folders() {
        let below = |folder| below_origin(folder).map(|it| it.to_string_lossy().into_owned());
        for (folder, expected) in [
            ("$ORIGIN", Some("")),
            ("${ORIGIN}/lib", Some("lib")),
            ("$ORIGIN/./a//b/", Some("a/b")),
            ("$ORIGIN/../lib", Some("../lib")),
            ("$ORIGINAL", None),
            ("/usr/lib", None),
        ] {
            assert_eq!(below(folder).as_deref(), expected, "{folder}");
        }
    }
}
