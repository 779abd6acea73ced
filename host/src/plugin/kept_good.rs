//! The version that the host went back to, kept on the disk beside the quarantine of the one that it went back from.
//!
//! After a rollback the plugin's file holds the bad version. The good one would be in the host's private folder alone, and
//! the next host would start without the plugin. So its bytes are kept, and are what the next host starts for that file, as
//! long as the file is quarantined. They are taken by their hash, which the quarantine has.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    aside,
    deploy_error::DeployError,
    generation::Facts,
    quarantine::Good,
    supervisor::{Deployed, Supervisor},
    transaction::{Origin, Prepared},
};

/// Below the folder of the quarantine.
const FOLDER: &str = "good";
/// How many versions are kept, and how many bytes of them; beyond it, the earliest are given up.
const COUNT: usize = 16;
const BYTES: u64 = 512 << 20;

impl Supervisor {
    /// Keeps the live version of a plugin for as long as the one that the host went back from is quarantined.
    pub(super) async fn keep_good(&self, bad: &Facts) {
        let Some(folder) = self.good_folder() else { return };
        let live = {
            let registry = self.registry();
            let live = registry.plugins.get(&bad.plugin).and_then(|plugin| plugin.live.as_ref());
            live.map(|live| (live.facts.clone(), live.copy.clone()))
        };
        let Some((facts, copy)) = live else { return };
        let (hash, version) = (facts.hash.to_hex().to_string(), facts.manifest.version.clone());
        let path = place(&folder, &hash);
        let saved = move || {
            fs::create_dir_all(&folder)?;
            copy.save(&path)
        };
        match aside::done("ksi-keep-good", saved).await.and_then(|saved| saved) {
            Ok(()) => {
                self.quarantine.went_back_to(bad.hash.to_hex().as_str(), Good { hash, version });
                self.sweep_good();
            }
            Err(error) => tracing::warn!(
                plugin = %bad.plugin, version,
                "the version that the host went back to is not kept, so the next host will start without it: {error}"
            ),
        }
    }

    /// Starts what is kept for a file that is quarantined, if something is and nothing is live of the file.
    pub(super) async fn start_kept_good(self: &Arc<Self>, file: &Path) {
        let bad = self.registry().setbacks.of(file).and_then(|(hash, _)| hash);
        let entry = bad.and_then(|bad| self.quarantine.of(file, bad.to_hex().as_str()));
        let Some((entry, good)) = entry.and_then(|entry| Some((entry.clone(), entry.good?))) else {
            return;
        };
        match self.deploy_kept_good(file, &good).await {
            Ok(started) => tracing::error!(
                plugin = %started.plugin, file = %file.display(),
                "the file holds version {}, which is quarantined: version {}, which was kept, is started instead of it",
                entry.version, good.version
            ),
            Err(DeployError::Stopping) => {}
            Err(error) => tracing::error!(
                file = %file.display(),
                "version {}, which was kept for this file, is not started: {}",
                good.version, crate::with_causes(&error)
            ),
        }
    }

    async fn deploy_kept_good(
        self: &Arc<Self>,
        file: &Path,
        good: &Good,
    ) -> Result<Deployed, DeployError> {
        let folder = self.good_folder().unwrap_or_default();
        let path = place(&folder, &good.hash);
        let copied = self.preparation.copy_for(&path, file).await?;
        if copied.copy.hash().to_hex().as_str() != good.hash {
            return Err(DeployError::NotAsKept { path });
        }
        let examined = self.preparation.examine(copied)?;
        let trial = self.trial(&examined).await;
        let candidate = self.preparation.probe(examined, trial).await?;
        self.finish(Prepared::Candidate(Box::new(candidate)), Origin::KeptGood).await
    }

    /// Removes what no quarantine needs any more, and what is too much.
    pub(super) fn sweep_good(&self) {
        let Some(folder) = self.good_folder() else { return };
        if let Err(error) = sweep(&folder, &self.quarantine.goods()) {
            tracing::debug!(folder = %folder.display(), %error, "what was kept is not looked through");
        }
    }

    fn good_folder(&self) -> Option<PathBuf> {
        Some(self.quarantine.folder()?.join(FOLDER))
    }
}

fn place(folder: &Path, hash: &str) -> PathBuf {
    folder.join(format!("{hash}.so"))
}

/// Keeps the files of these hashes, the latest first, up to the limits.
fn sweep(folder: &Path, wanted: &[String]) -> io::Result<()> {
    let (mut count, mut bytes) = (0, 0);
    let kept = wanted.iter().filter_map(|hash| {
        let path = place(folder, hash);
        count += 1;
        bytes += fs::metadata(&path).ok()?.len();
        (count <= COUNT && bytes <= BYTES).then_some(path)
    });
    let kept: Vec<PathBuf> = kept.collect();
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if !kept.contains(&path) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_quarantine_needs_goes_and_the_latest_stay_up_to_the_limits() {
        let folder = tempfile::tempdir().unwrap();
        let file = |hash: &str, bytes: u64| {
            fs::File::create(place(folder.path(), hash)).unwrap().set_len(bytes).unwrap();
        };
        file("forgotten", 1);
        file("huge", BYTES);
        let many: Vec<String> = (0..COUNT + 3).map(|number| number.to_string()).collect();
        many.iter().for_each(|hash| file(hash, 1));
        let is_there = |hash: &str| place(folder.path(), hash).exists();
        sweep(folder.path(), &[&many[..2], &["huge".to_owned()]].concat()).unwrap();
        assert!(is_there("0") && is_there("1") && !is_there("2"));
        assert!(!is_there("huge") && !is_there("forgotten"));
        many.iter().for_each(|hash| file(hash, 1));
        sweep(folder.path(), &many).unwrap();
        assert!(is_there("0") && is_there(&many[COUNT - 1]) && !is_there(&many[COUNT]));
        sweep(&folder.path().join("none"), &many).unwrap();
    }
}
