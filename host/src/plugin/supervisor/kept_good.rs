//! The version that the host went back to, kept on the disk beside the quarantine of the one that
//! it went back from.
//!
//! After a rollback the plugin's file holds the bad version. The good one would be in the host's
//! private folder alone, and the next host would start without the plugin. So its bytes are kept,
//! and are what the next host starts for that file, as long as the file is quarantined. They are
//! taken by their hash, which the quarantine has.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use ksi_wire::module::HistoryBy;

use super::{
    Supervisor,
    origin::{Origin, Prepared},
    quarantine::{Good, GoodFile, Quarantine, QuarantineEntry},
};
use crate::{
    plugin::{
        file::kind::{FileKind, Original},
        instance::info::GenerationInfo,
        lifecycle::error::DeployError,
    },
    sync::keyed_lock::LockKey,
    system::low_priority,
};

/// Below the folder of the quarantine.
const FOLDER: &str = "good";
/// How many versions are kept, and how many bytes of them; beyond it, the earliest are given up.
const COUNT: usize = 16;
const BYTES: u64 = 512 << 20;

/// What is kept in place of what a file holds.
pub(super) struct GoodVersion {
    /// The version in the file.
    bad: String,
    good: Good,
}

/// Lets nobody remove what somebody else is just keeping.
#[derive(Default)]
pub(in crate::plugin) struct Keeping(tokio::sync::Mutex<()>);

impl Keeping {
    /// Saves what the host went back to from the bytes with the hash `bad`, and remembers that it
    /// is there.
    async fn keep(
        &self,
        quarantine: &Quarantine,
        folder: &Path,
        bad: &str,
        good: Good,
        bytes: u64,
        save: impl Future<Output = io::Result<()>>,
    ) -> io::Result<()> {
        if bytes > BYTES {
            return Err(io::Error::other(format!(
                "it has {bytes} bytes, and no more than {BYTES} are kept of all versions together"
            )));
        }
        let _alone = self.0.lock().await;
        save.await?;
        quarantine.went_back_to(bad, good);
        swept(quarantine, folder);
        Ok(())
    }

    /// Removes what no quarantine needs any more, and what is too much.
    async fn sweep(&self, quarantine: &Quarantine, folder: &Path) {
        let _alone = self.0.lock().await;
        swept(quarantine, folder);
    }
}

fn swept(quarantine: &Quarantine, folder: &Path) {
    match sweep(folder, &quarantine.goods()) {
        Ok(given_up) => quarantine.gave_up(&given_up),
        Err(error) => {
            tracing::debug!(folder = %folder.display(), %error, "what was kept is not looked through");
        }
    }
}

impl Supervisor {
    /// Keeps the live version of a plugin for as long as the one that the host went back from is
    /// quarantined.
    pub(super) async fn keep_good(&self, bad: &GenerationInfo) {
        let Some(folder) = self.good_folder() else { return };
        let live = {
            let registry = self.registry();
            let live = registry.plugins.get(&bad.plugin).and_then(|plugin| plugin.live.as_ref());
            live.map(|live| (live.info.clone(), live.copy.clone()))
        };
        let Some((info, copy)) = live else { return };
        let version = info.manifest.version.clone();
        let original = copy.original();
        let file = original.path().to_string_lossy().into_owned();
        let good = Good {
            hash: info.hash.to_hex().to_string(),
            version: version.clone(),
            file: Some(GoodFile { path: file, kind: original.kind() }),
        };
        let bytes = copy.bytes().unwrap_or_default();
        let (made, path) = (folder.clone(), place(&folder, &good));
        let save = async move {
            let saved = move || {
                fs::create_dir_all(&made)?;
                copy.save(&path)
            };
            low_priority::done("ksi-keep-good", saved).await?
        };
        let bad_hash = bad.hash.to_hex();
        let kept = self.keeping.keep(&self.quarantine, &folder, &bad_hash, good, bytes, save).await;
        if let Err(error) = kept {
            tracing::warn!(
                plugin = %bad.plugin, version,
                "the version that the host went back to is not kept, so the next host will start without it: {error}"
            );
        }
    }

    /// Starts what is kept for a file that is quarantined, if something is and nothing is live of
    /// the file.
    pub(super) async fn start_kept_good(self: &Arc<Self>, file: &Path, by: &HistoryBy) {
        let _lock = self.locks.lock(LockKey::File(file.to_owned())).await;
        if self.ensure_running().is_ok()
            && self.registry().live_of(file).is_none()
            && let Some((stand_in, prepared)) = self.prepare_kept_good(file).await
        {
            self.start_stand_in(file, stand_in, prepared, by).await;
        }
    }

    /// What is kept for a file that is quarantined, as far as its candidate.
    pub(super) async fn prepare_kept_good(
        self: &Arc<Self>,
        file: &Path,
    ) -> Option<(GoodVersion, Result<Prepared, DeployError>)> {
        let bad = self.registry().retries.of(file).and_then(|(hash, _)| hash)?.to_hex();
        let QuarantineEntry { version: bad_version, good: first, .. } =
            self.quarantine.of(file, &bad)?;
        let Some(good) = self.quarantine.good_for(file, &bad) else {
            if let Some(first) = first {
                tracing::error!(
                    file = %file.display(),
                    "the file holds version {bad_version}, which is quarantined, and so is version {}, which was kept: \
                     nothing is started instead of it",
                    first.version
                );
            }
            return None;
        };
        let prepared = self.kept_candidate(file, &good).await;
        Some((GoodVersion { bad: bad_version, good }, prepared))
    }

    async fn kept_candidate(
        self: &Arc<Self>,
        file: &Path,
        good: &Good,
    ) -> Result<Prepared, DeployError> {
        let folder = self.good_folder().unwrap_or_default();
        let path = place(&folder, good);
        let original = match &good.file {
            Some(GoodFile { path, kind }) => Original::taken_for(*kind, path.as_ref()),
            None => Original::of(file),
        };
        let copied = self.preparation.copy_for(&path, original, file).await?;
        if copied.copy.hash().to_hex().as_str() != good.hash {
            return Err(DeployError::NotAsKept { path });
        }
        let examined = self.preparation.examine(copied).await?;
        let trial = self.trial(&examined).await;
        Ok(Prepared::Candidate(Box::new(self.preparation.probe(examined, trial).await?)))
    }

    /// Starts what is kept for a file. Under the file's lock.
    pub(super) async fn start_stand_in(
        self: &Arc<Self>,
        file: &Path,
        stand_in: GoodVersion,
        prepared: Result<Prepared, DeployError>,
        by: &HistoryBy,
    ) {
        let GoodVersion { bad, good } = stand_in;
        let started = match prepared {
            Ok(prepared) => self.finish(prepared, Origin::KeptGood(by.clone())).await,
            Err(error) => Err(error),
        };
        match started {
            Ok(started) => tracing::error!(
                plugin = %started.plugin, file = %file.display(),
                "the file holds version {bad}, which is quarantined: version {}, which was kept, is started instead of it",
                good.version
            ),
            Err(DeployError::Stopping) => {}
            Err(error) => {
                let hash = blake3::Hash::from_hex(&good.hash).ok();
                self.note_kept_good(file, (&good.version, hash), by, &error);
            }
        }
    }

    /// Removes what no quarantine needs any more, and what is too much.
    pub(super) async fn sweep_good(&self) {
        if let Some(folder) = self.good_folder() {
            self.keeping.sweep(&self.quarantine, &folder).await;
        }
    }

    fn good_folder(&self) -> Option<PathBuf> {
        Some(self.quarantine.folder()?.join(FOLDER))
    }
}

fn place(folder: &Path, good: &Good) -> PathBuf {
    let extension = match good.file.as_ref().map(|file| file.kind) {
        Some(FileKind::Folder) => "",
        Some(FileKind::Python) => ".py",
        Some(FileKind::Native) | None => ".so",
    };
    folder.join(format!("{}{extension}", good.hash))
}

/// Keeps these, the latest first, up to the limits. The hashes of those that it gives up for the
/// limits.
fn sweep(folder: &Path, wanted: &[Good]) -> io::Result<Vec<String>> {
    let (mut count, mut bytes) = (0, 0);
    let (mut kept, mut given_up) = (Vec::new(), Vec::new());
    for good in wanted {
        let path = place(folder, good);
        let Ok(found) = bytes_at(&path) else { continue };
        count += 1;
        bytes += found;
        match count <= COUNT && bytes <= BYTES {
            true => kept.push(path),
            false => given_up.push(good.hash.clone()),
        }
    }
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(given_up),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if !kept.contains(&path) {
            match path.is_dir() {
                true => fs::remove_dir_all(path)?,
                false => fs::remove_file(path)?,
            }
        }
    }
    Ok(given_up)
}

/// How many bytes a file has, or all files of a folder together.
fn bytes_at(path: &Path) -> io::Result<u64> {
    let found = fs::metadata(path)?;
    if !found.is_dir() {
        return Ok(found.len());
    }
    fs::read_dir(path)?.map(|entry| bytes_at(&entry?.path())).sum()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::crash::About;

    #[test]
    fn what_no_quarantine_needs_goes_and_the_latest_stay_up_to_the_limits() {
        let folder = tempfile::tempdir().unwrap();
        let file = |good: &Good, bytes: u64| {
            let mut path = place(folder.path(), good);
            if good.file.as_ref().is_some_and(|file| file.kind == FileKind::Folder) {
                fs::create_dir_all(path.join("src")).unwrap();
                path.push("src/a.py");
            }
            fs::File::create(path).unwrap().set_len(bytes).unwrap();
        };
        let library = |hash: &str| good(hash, None);
        let folder_of = |hash: &str| good(hash, Some(FileKind::Folder));
        file(&folder_of("forgotten"), 1);
        file(&folder_of("huge"), BYTES);
        let many: Vec<Good> = (0..COUNT + 3).map(|it| library(&it.to_string())).collect();
        let all = |which: &[Good]| -> Vec<String> {
            which.iter().map(|good| good.hash.clone()).collect()
        };
        many.iter().for_each(|it| file(it, 1));
        let is_there = |good: &Good| place(folder.path(), good).exists();
        let given_up = sweep(folder.path(), &[&many[..2], &[folder_of("huge")]].concat()).unwrap();
        assert_eq!(given_up, ["huge"]);
        assert!(is_there(&many[0]) && is_there(&many[1]) && !is_there(&many[2]));
        assert!(!is_there(&folder_of("huge")) && !is_there(&folder_of("forgotten")));
        many.iter().for_each(|it| file(it, 1));
        assert_eq!(sweep(folder.path(), &many).unwrap(), all(&many[COUNT..]));
        assert!(is_there(&many[0]) && is_there(&many[COUNT - 1]) && !is_there(&many[COUNT]));
        sweep(&folder.path().join("none"), &many).unwrap();
    }

    fn good(hash: &str, kind: Option<FileKind>) -> Good {
        let file = kind.map(|kind| GoodFile { path: "/p/a".to_owned(), kind });
        Good { hash: hash.to_owned(), version: "1.0.0".to_owned(), file }
    }

    fn quarantine_of_2() -> (tempfile::TempDir, Quarantine) {
        let dir = tempfile::tempdir().unwrap();
        let quarantine = Quarantine::open(dir.path());
        let about = About {
            hash: "2".to_owned(),
            file: "/p/a.so".to_owned(),
            plugin: "a".to_owned(),
            version: "2.0.0".to_owned(),
            step: String::new(),
        };
        quarantine.rolled_back(about, "it panics", 0, true);
        (dir, quarantine)
    }

    #[tokio::test]
    async fn what_is_just_being_kept_is_not_removed_by_somebody_who_clears_up() {
        let (dir, quarantine) = quarantine_of_2();
        let keeping = Keeping::default();
        let good = good("1", None);
        let path = place(dir.path(), &good);
        let save = async {
            fs::write(&path, "its bytes")?;
            // It is looked at once at least.
            let other = keeping.sweep(&quarantine, dir.path());
            let _ = tokio::time::timeout(Duration::ZERO, other).await;
            Ok(())
        };
        keeping.keep(&quarantine, dir.path(), "2", good.clone(), 9, save).await.unwrap();
        assert!(path.exists());
        assert_eq!(quarantine.good_for(Path::new("/p/a.so"), "2"), Some(good));
    }

    #[tokio::test]
    async fn what_is_too_large_to_be_kept_is_not_saved_and_not_said_to_be_there() {
        let (dir, quarantine) = quarantine_of_2();
        let good = good("1", None);
        let save = async { Err(io::Error::other("it is saved")) };
        let keeping = Keeping::default();
        let kept = keeping.keep(&quarantine, dir.path(), "2", good, BYTES + 1, save).await;
        assert!(kept.unwrap_err().to_string().contains("no more than 536870912 are kept"));
        assert_eq!(quarantine.good_for(Path::new("/p/a.so"), "2"), None);
    }
}
