//! Tells when the source of plugins changes: bursts as one change, and nothing for what builds and
//! editors leave behind.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, MetadataKind, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::DevError;
use super::packages::{Workspace, is_output};

/// Saving all files of an editor, or a checkout, comes as many changes with little between them.
const QUIET: Duration = Duration::from_millis(100);
/// A source that never comes to rest is built all the same.
const LONGEST_BURST: Duration = Duration::from_secs(2);

pub(super) struct Sources {
    watcher: RecommendedWatcher,
    scope: Arc<RwLock<Scope>>,
    signal: Arc<Signal>,
    changes: Receiver<()>,
    watched: BTreeSet<Watched>,
}

/// One or more files changed.
pub(super) struct Change {
    /// A Cargo.toml was among them.
    pub(super) of_a_manifest: bool,
}

/// Which paths count.
#[derive(Default)]
struct Scope {
    /// The folders of packages.
    sources: BTreeSet<PathBuf>,
    /// The folders of workspaces, where only Cargo.toml counts.
    roots: BTreeSet<PathBuf>,
    /// What cargo writes.
    outputs: BTreeSet<PathBuf>,
}

/// From the watcher's thread to ours. One pending change stands for all that come before it is
/// seen.
struct Signal {
    changed: SyncSender<()>,
    manifest: AtomicBool,
}

/// A folder to be watched, and whether with all that is below it.
type Watched = (PathBuf, bool);

impl Sources {
    /// Watches the sources of all plugins.
    pub(super) fn watch(workspaces: &[Workspace]) -> Result<Self, DevError> {
        let (changed, changes) = sync_channel(1);
        let signal = Arc::new(Signal { changed, manifest: AtomicBool::new(false) });
        let scope = Arc::new(RwLock::new(Scope::default()));
        let (told, seen) = (signal.clone(), scope.clone());
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            told.note(event, &seen.read().unwrap_or_else(|poisoned| poisoned.into_inner()));
        })
        .map_err(|source| DevError::Watch { folder: PathBuf::from("."), source })?;
        let mut sources = Self { watcher, scope, signal, changes, watched: BTreeSet::new() };
        sources.follow(workspaces)?;
        Ok(sources)
    }

    /// Watches the sources of these plugins from now on, and no others.
    pub(super) fn follow(&mut self, workspaces: &[Workspace]) -> Result<(), DevError> {
        let scope = Scope::of(workspaces);
        let wanted = scope.folders();
        for (folder, below) in wanted.difference(&self.watched) {
            let mode = if *below { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive };
            match self.watcher.watch(folder, mode) {
                Ok(()) => (),
                // Gone since it was listed; its parent tells when it comes back.
                Err(error) if matches!(error.kind, notify::ErrorKind::PathNotFound) => (),
                Err(source) => return Err(DevError::Watch { folder: folder.clone(), source }),
            }
        }
        for (folder, _) in self.watched.difference(&wanted) {
            // A folder that is gone is watched no more by itself.
            let _ = self.watcher.unwatch(folder);
        }
        self.watched = wanted;
        *self.scope.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = scope;
        Ok(())
    }

    /// Waits for a change and until it has come to rest.
    pub(super) fn next_change(&mut self) -> Option<Change> {
        self.changes.recv().ok()?;
        let end = Instant::now() + LONGEST_BURST;
        while Instant::now() < end && self.changes.recv_timeout(QUIET).is_ok() {}
        Some(Change { of_a_manifest: self.signal.manifest.swap(false, Ordering::AcqRel) })
    }
}

impl Signal {
    fn note(&self, event: notify::Result<notify::Event>, scope: &Scope) {
        // The watcher lost events: anything may have changed.
        let Ok(event) = event else { return self.tell(true) };
        if event.need_rescan() {
            return self.tell(true);
        }
        if is_change(&event.kind) && event.paths.iter().any(|path| scope.counts(path)) {
            self.tell(event.paths.iter().any(|path| is_manifest(path) || path.is_dir()));
        }
    }

    fn tell(&self, manifest: bool) {
        if manifest {
            self.manifest.store(true, Ordering::Release);
        }
        // Full means that a change is pending already.
        let _ = self.changed.try_send(());
    }
}

impl Scope {
    fn of(workspaces: &[Workspace]) -> Self {
        let mut scope = Self::default();
        for workspace in workspaces {
            scope.roots.insert(workspace.root.clone());
            scope.outputs.insert(workspace.target.clone());
            scope.sources.extend(workspace.plugins.iter().flat_map(|it| it.sources.clone()));
        }
        scope
    }

    /// A package's folder is watched by itself and by what is in it, because the target folder of
    /// thousands of files is often in it too.
    fn folders(&self) -> BTreeSet<Watched> {
        let mut folders: BTreeSet<Watched> =
            self.roots.iter().map(|root| (root.clone(), false)).collect();
        for source in &self.sources {
            folders.insert((source.clone(), false));
            for entry in std::fs::read_dir(source).into_iter().flatten().flatten() {
                let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if is_folder
                    && !is_output(&entry.file_name())
                    && !self.outputs.contains(&entry.path())
                {
                    folders.insert((entry.path(), true));
                }
            }
        }
        folders
    }

    fn counts(&self, path: &Path) -> bool {
        // Cargo writes the lock file at the first build, and what is built by then is by that.
        let of_root = |path: &Path| path.parent().is_some_and(|it| self.roots.contains(it));
        let is_lock = path.file_name().is_some_and(|name| name == "Cargo.lock") && of_root(path);
        if is_lock || self.outputs.iter().any(|output| path.starts_with(output)) {
            return false;
        }
        let within = |folder: &PathBuf| {
            let below = path.strip_prefix(folder).ok()?;
            // Of the folder's own names the ones that lead to it do not count: it may well lie
            // below a dot-folder.
            Some(!below.iter().any(is_output) && !below.file_name().is_some_and(is_editors))
        };
        let is_source = self.sources.iter().any(|folder| within(folder) == Some(true));
        (is_manifest(path) && of_root(path)) || (is_source && !is_our_output(path))
    }
}

/// What changes a file's content or name. Reading changes nothing, and a build reads everything;
/// times and modes change when git or an editor touches what stays the same.
fn is_change(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        EventKind::Modify(ModifyKind::Metadata(kind)) => *kind == MetadataKind::WriteTime,
        _ => true,
    }
}

fn is_manifest(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "Cargo.toml")
}

/// Files that editors write beside the one being edited: backups, swap files, and vim's test
/// whether it may write; and logs, as that which `tee` makes of what is told of each build.
fn is_editors(name: &std::ffi::OsStr) -> bool {
    const ENDS: [&[u8]; 4] = [b"~", b".swp", b".tmp", b".log"];
    let name = name.as_encoded_bytes();
    name == b"4913" || ENDS.iter().any(|end| name.ends_with(end))
}

/// Whether what we and cargo tell goes into this file: each build would lead to the next one.
fn is_our_output(path: &Path) -> bool {
    let Ok(file) = rustix::fs::stat(path) else { return false };
    let own =
        [rustix::fs::fstat(rustix::stdio::stdout()), rustix::fs::fstat(rustix::stdio::stderr())];
    own.into_iter().flatten().any(|own| (own.st_dev, own.st_ino) == (file.st_dev, file.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> Scope {
        Scope {
            sources: ["/w/.cache/plugins/one", "/w/common", "/w/alone"].map(PathBuf::from).into(),
            roots: ["/w", "/w/alone"].map(PathBuf::from).into(),
            outputs: BTreeSet::from(["/w/common/out".into()]),
        }
    }

    #[test]
    fn source_counts_wherever_its_package_lies() {
        for path in [
            "/w/.cache/plugins/one/src/lib.rs",
            "/w/common/Cargo.toml",
            "/w/common/src/a/b.rs",
            "/w/Cargo.toml",
        ] {
            assert!(scope().counts(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn what_builds_and_editors_write_does_not_count() {
        for path in [
            "/w/README.md",
            "/w/Cargo.lock",
            "/w/alone/Cargo.lock",
            "/w/common/dev.log",
            "/w/other/src/lib.rs",
            "/w/common/target/debug/x.d",
            "/w/common/out/debug/x.d",
            "/w/common/.git/index",
            "/w/common/src/.lib.rs.swp",
            "/w/common/src/lib.rs~",
            "/w/common/src/4913",
        ] {
            assert!(!scope().counts(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn reading_is_no_change() {
        assert!(!is_change(&EventKind::Access(AccessKind::Open(AccessMode::Read))));
        assert!(!is_change(&EventKind::Access(AccessKind::Close(AccessMode::Read))));
        assert!(is_change(&EventKind::Access(AccessKind::Close(AccessMode::Write))));
        assert!(is_change(&EventKind::Modify(ModifyKind::Any)));
    }

    #[test]
    fn a_saved_file_is_a_change_and_a_manifest_is_told_apart() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().canonicalize().expect("a folder");
        let package = root.join("one");
        std::fs::create_dir_all(package.join("src")).expect("a folder");
        let plugin = super::super::packages::Plugin {
            id: cargo_metadata::PackageId { repr: "one".into() },
            name: "one".into(),
            file: "libone.so".into(),
            sources: BTreeSet::from([package.clone()]),
        };
        let workspace = Workspace {
            root: root.clone(),
            target: root.join("target"),
            plugins: vec![plugin],
            overlooked: Vec::new(),
        };
        let mut sources = Sources::watch(&[workspace]).expect("a watch");

        std::fs::write(package.join("src/lib.rs"), "// new").expect("a file");
        assert!(!sources.next_change().expect("a change").of_a_manifest);
        std::fs::write(package.join("Cargo.toml"), "# new").expect("a file");
        // On a slow machine the end of the first burst may come as a change of its own.
        while !sources.next_change().expect("a change").of_a_manifest {}
    }
}
