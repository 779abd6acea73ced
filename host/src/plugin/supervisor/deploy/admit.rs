//! Whether a candidate may become the next generation of its plugin. A check at load has its place
//! in [`CHECKS`].

use std::{path::Path, sync::Arc, time::Instant};

use ksi_kernel::router::routes::Subscribers;

use super::super::{
    Supervisor,
    origin::{Admitted, Origin},
    registry::{LiveGeneration, Registry},
};
use super::contracts::{Judged, live_party};
use crate::plugin::{
    file::manifest::Manifest,
    lifecycle::{error::DeployError, hand_over::Predecessor, prepare::Candidate, requirements},
};

/// A candidate on its way to become the next generation, and what it is judged by.
struct Candidacy<'a> {
    name: &'a Arc<str>,
    file: &'a Path,
    manifest: &'a Manifest,
    origin: &'a Origin,
    registry: &'a Registry,
    subscribers: &'a Subscribers,
    /// Of the candidates that are to go live with it.
    beside: &'a [&'a Manifest],
}

/// One condition that a candidate has to meet.
type Check = fn(&Candidacy<'_>) -> Result<(), DeployError>;

/// What a candidate has to pass before anything of its plugin changes, in this order. What can be
/// told from the bytes of the file alone is checked before, where they are read.
const CHECKS: &[Check] =
    &[replaces_what_is_live, is_from_the_only_file, few_are_in_memory, finds_what_it_requires];

/// What it is to replace may have been unloaded or replaced meanwhile, and whoever did that is not
/// to find an earlier version instead.
fn replaces_what_is_live(it: &Candidacy<'_>) -> Result<(), DeployError> {
    match it.origin.replaces() {
        Some(number) if !it.registry.is_live(it.name, number) => {
            Err(DeployError::NotLive { plugin: it.name.to_string() })
        }
        _ => Ok(()),
    }
}

/// A plugin is live from one file at a time.
fn is_from_the_only_file(it: &Candidacy<'_>) -> Result<(), DeployError> {
    let plugin = it.registry.plugins.get(it.name).filter(|plugin| plugin.live.is_some());
    let other = plugin.map(|plugin| &plugin.info.file);
    match other.filter(|other| **other != it.file && other.exists()) {
        Some(other) => Err(DeployError::Duplicate {
            file: it.file.to_owned(),
            plugin: it.name.clone(),
            other: other.clone(),
        }),
        None => Ok(()),
    }
}

/// Libraries that cannot be unmapped do not pile up.
fn few_are_in_memory(it: &Candidacy<'_>) -> Result<(), DeployError> {
    match it.registry.too_many(it.name) {
        Some(count) => Err(DeployError::TooManyPinned { plugin: it.name.clone(), count }),
        None => Ok(()),
    }
}

/// Somebody handles the events that it requires. What was live before is not refused: without it
/// there would be even less.
fn finds_what_it_requires(it: &Candidacy<'_>) -> Result<(), DeployError> {
    if !matches!(it.origin, Origin::File(_) | Origin::KeptGood(_)) {
        return Ok(());
    }
    match requirements::missing(it.manifest, it.beside, it.subscribers) {
        missing if missing.is_empty() => Ok(()),
        missing => {
            Err(DeployError::Missing { plugin: it.name.clone(), file: it.file.to_owned(), missing })
        }
    }
}

impl Supervisor {
    /// Whether a candidate may become the next generation of `name`, and what is needed for that.
    /// One whose state is not known before is open from here on.
    pub(super) async fn admit(
        &self,
        name: &Arc<str>,
        candidate: &mut Candidate,
        origin: &Origin,
    ) -> Result<Admitted, DeployError> {
        let (number, before) = self.number(name, candidate, origin, &[])?;
        let predecessor = self.ready_to_be_judged(name, candidate).await?;
        let promised = self.promise(candidate).await?;
        let replaced = predecessor.as_ref().map(live_party);
        let started = Instant::now();
        let passed = {
            let judged = Judged { candidate, promised, origin, before: replaced };
            let passed = self.agree(&[judged]).map_err(|failed| failed.1)?;
            passed.into_iter().next()
        };
        candidate.timings.note("contracts", started.elapsed());
        let source = self.source(candidate, predecessor.as_ref(), origin).await?;
        Ok(Admitted { number, before, predecessor, source, passed })
    }

    /// Has all that a candidate is judged by be known. The live generation of its plugin.
    pub(super) async fn ready_to_be_judged(
        &self,
        name: &Arc<str>,
        candidate: &mut Candidate,
    ) -> Result<Option<Predecessor>, DeployError> {
        let predecessor = self.predecessor(name);
        if predecessor.is_none() && self.waits_for_instances(name, &candidate.manifest) {
            self.instances_are_gone(name, &candidate.file).await?;
        }
        if candidate.manifest.built.is_known_once_open() && candidate.residence.is_none() {
            candidate.residence = Some(self.activation.open(candidate).await?);
        }
        Ok(predecessor)
    }

    /// The number of the next generation of `name`, if it passes all checks, and the plugin that
    /// the candidate's file is now. Nobody changes the registry in between.
    pub(super) fn number(
        &self,
        name: &Arc<str>,
        candidate: &Candidate,
        origin: &Origin,
        beside: &[&Manifest],
    ) -> Result<(u64, Option<LiveGeneration>), DeployError> {
        self.ensure_running()?;
        let mut registry = self.registry();
        self.is_admitted(name, &candidate.file, &candidate.manifest, origin, &registry, beside)?;
        Ok((registry.take_generation(name), registry.live_of(&candidate.file)))
    }

    /// Whether what a file holds passes all checks.
    pub(super) fn is_admitted(
        &self,
        name: &Arc<str>,
        file: &Path,
        manifest: &Manifest,
        origin: &Origin,
        registry: &Registry,
        beside: &[&Manifest],
    ) -> Result<(), DeployError> {
        let subscribers = &self.router.subscribers();
        let candidacy = Candidacy { name, file, manifest, origin, registry, subscribers, beside };
        CHECKS.iter().try_for_each(|check| check(&candidacy))
    }
}
