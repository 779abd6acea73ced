//! What a candidate is tried with in the child process before it counts, or why it is not tried.

use std::{path::PathBuf, time::Duration};

use super::super::Supervisor;
use crate::plugin::{
    file::manifest::Manifest,
    instance::configs::NoSecret,
    lifecycle::prepare::Examined,
    probe::trial::Trial,
    state::snapshot::{Snapshot, common_version},
};

/// What an `initialize` may wait in a trial, where nobody is there that it could wait for. Work
/// that keeps its thread busy is not bounded by it.
const TRIAL_WAIT: Duration = Duration::from_secs(2);
/// What a live generation's state gets for the copy that a candidate is tried with.
const TRIAL_SNAPSHOT: Duration = Duration::from_secs(2);

impl Supervisor {
    /// What a candidate is tried with, or why it is not tried.
    pub(in crate::plugin::supervisor) async fn trial(
        &self,
        examined: &Examined,
    ) -> Result<Trial, String> {
        self.is_tried(examined)?;
        let (snapshot, kept) = self.trial_snapshot(&examined.manifest).await.unzip();
        Ok(Trial { kept: kept.flatten(), ..self.trial_with(examined, snapshot).await? })
    }

    /// What a candidate is tried with that gets this state.
    pub(in crate::plugin::supervisor) async fn trial_with(
        &self,
        examined: &Examined,
        snapshot: Option<Snapshot>,
    ) -> Result<Trial, String> {
        let config = self.activation.configs.of(&examined.manifest.name).await;
        // It is told as an error when the host would give it that.
        let config = config.map_err(|NoSecret { key, source }| format!("`{key}`: {source}"))?;
        let limit = self.activation.init_timeout.min(TRIAL_WAIT);
        Ok(Trial { file: examined.file.clone(), config, limit, snapshot, kept: None })
    }

    /// Whether a candidate is tried, or why not.
    pub(in crate::plugin::supervisor) fn is_tried(
        &self,
        examined: &Examined,
    ) -> Result<(), String> {
        let manifest = &examined.manifest;
        let name = &*manifest.name;
        self.preparation.tries()?;
        if !manifest.trial {
            return Err("the plugin says so: #[plugin(trial = false)]".to_owned());
        }
        // Those that the host may have died of are tried all the same.
        if !(self.policies)(name).trial && !self.is_suspected(examined) {
            return Err(format!(
                "the configuration says so: reload.plugins.{name}.trial or reload.trial is false"
            ));
        }
        let predecessor = self.predecessor(name);
        if predecessor.is_some_and(|live| self.exclude_each_other(&live.info.manifest, manifest)) {
            return Err("it is exclusive, and a generation of it is live".to_owned());
        }
        // It would take what an instance that is on its way out still holds.
        if self.waits_for_instances(name, manifest) && !self.departures.are_instances_gone(name) {
            return Err("it is exclusive, and an earlier instance of it is not gone".to_owned());
        }
        Ok(())
    }

    /// A copy of the state that a candidate would get, if there is some, and its file if it is from
    /// the disk. What goes wrong here goes wrong again when it counts, and is told then.
    async fn trial_snapshot(&self, manifest: &Manifest) -> Option<(Snapshot, Option<PathBuf>)> {
        let restores = manifest.state.as_ref()?;
        if let Some(predecessor) = self.predecessor(&manifest.name) {
            if self.exclude_each_other(&predecessor.info.manifest, manifest) {
                // Its `initialize` would take what the live generation holds.
                return None;
            }
            if predecessor.is_down() {
                let kept = self.kept_last_for(&predecessor.info, &restores.restores).await?;
                return Some((kept, None));
            }
            let version = common_version(predecessor.info.manifest.state.as_ref()?, restores)?;
            let workers = self.router.workers();
            let snapshot = predecessor.snapshot(workers, version, TRIAL_SNAPSHOT).await.ok()?;
            return Some((snapshot, None));
        }
        if let Some(orphaned) = self.orphaned(&manifest.name) {
            return restores.restores.contains(&orphaned.version).then_some((orphaned, None));
        }
        let kept = self.persistence.as_ref()?.load(&manifest.name, &[]).await.ok()??;
        let kept = kept.for_version(&manifest.name, restores).ok()?;
        Some((kept.snapshot, Some(kept.path)))
    }
}
