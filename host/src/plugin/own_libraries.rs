//! A plugin's own libraries: those that it needs and that lie beside its file, where `$ORIGIN` leads.
//!
//! What is mapped is a private copy of the plugin, and `$ORIGIN` leads from that; so they are copied as well, to where it
//! leads then. Nobody else writes to those, so that a library which is overwritten while it is mapped ends no host.
//!
//! What this can't do: the loader takes a library that is in memory for any other of that name. A new one is not loaded
//! before the old one is gone, and whoever replaces it is told so.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use super::{manifest::Linkage, private_copy::CopyError, private_copy::Source, proc_fs};

/// More than any plugin has.
const MOST: usize = 64;

/// What was put where.
#[derive(Default)]
pub(super) struct OwnLibraries(Mutex<HashMap<PathBuf, blake3::Hash>>);

/// An object and where it lies, in truth and as a copy.
struct Object {
    linkage: Linkage,
    folder: PathBuf,
    copied_to: PathBuf,
}

impl OwnLibraries {
    /// Whether a plugin may have any.
    pub(super) fn may_have(linkage: &Linkage) -> bool {
        linkage.run_path.iter().any(|folder| below_origin(folder).is_some())
    }

    /// Copies the libraries of the plugin that was copied from `file` to beside that copy. What somebody should know.
    ///
    /// # Errors
    /// One can't be copied.
    pub(super) fn bring<E: From<CopyError>>(
        &self,
        file: &Path,
        linkage: &Linkage,
        copy: &Path,
        open: impl Fn(&Path) -> Result<Source, E>,
    ) -> Result<Vec<String>, E> {
        let (Some(folder), Some(copied_to)) = (file.parent(), copy.parent()) else {
            return Ok(Vec::new());
        };
        let mut placed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Those of a private folder that is gone.
        placed.retain(|at, _| at.exists());
        let (folder, copied_to) = (folder.to_owned(), copied_to.to_owned());
        let mut objects = vec![Object { linkage: linkage.clone(), folder, copied_to }];
        let (mut brought, mut notices) = (Vec::new(), Vec::new());
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
                let before = placed.get(&at).copied();
                if brought.len() >= MOST || (before.is_none() && at.exists()) {
                    notices.push(format!(
                        "{} is not copied: too many, or its name is taken",
                        from.display()
                    ));
                    continue;
                }
                let (hash, content) = open(&from)?.place(&at, before)?;
                placed.insert(at.clone(), hash);
                brought.push(at.clone());
                objects.push(Object {
                    linkage: Linkage::of(&content),
                    folder: from.parent().unwrap_or(Path::new("/")).to_owned(),
                    copied_to: at.parent().unwrap_or(Path::new("/")).to_owned(),
                });
            }
        }
        let maps = fs::read("/proc/self/maps").unwrap_or_default();
        let maps = String::from_utf8_lossy(&maps);
        notices.extend(brought.iter().filter(|at| another_is_mapped(&maps, at)).map(|at| {
            let name = at.file_name().unwrap_or_default().to_string_lossy();
            format!(
                "{name}, which it needs, has changed, and what it was before is still in memory: the system's loader takes \
                 that in place of the new one. Reload the plugin once its earlier generations have left memory, restart \
                 the host, or give each version of the library a name of its own"
            )
        }));
        Ok(notices)
    }
}

impl Object {
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

/// Whether a file that was at this place before is mapped.
fn another_is_mapped(maps: &str, at: &Path) -> bool {
    let (Some(path), Ok(now)) = (at.to_str(), fs::metadata(at)) else { return false };
    proc_fs::code(maps).any(|line| {
        let line = line.strip_suffix(" (deleted)").unwrap_or(line);
        // Address, rights, offset, device, inode, path.
        let inode = line.split_whitespace().nth(4).and_then(|inode| inode.parse::<u64>().ok());
        line.ends_with(path) && inode.is_some_and(|inode| inode != now.ino())
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
