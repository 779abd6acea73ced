//! Whether a candidate keeps its contracts with the plugins that are live, and with those that are
//! about to be.
//!
//! Candidates are compared one after the other, and one that has passed counts as its plugin's
//! version until it is live or has failed: of two that do not understand each other, the first is
//! taken.

use std::{collections::BTreeMap, sync::Arc};

use ksi_abi::Description;
use ksi_kernel::lock::Lock;

use super::super::{Supervisor, origin::Origin};
use crate::plugin::{
    file::manifest::Manifest,
    instance::info::GenerationInfo,
    lifecycle::{
        contracts::{ContractPolicies, Findings, Party, judge},
        error::DeployError,
        hand_over::Predecessor,
        prepare::Candidate,
    },
};

/// Who has agreed with whom, and what the operator says of it.
pub(in crate::plugin::supervisor) struct Agreement {
    policies: ContractPolicies,
    /// By plugin: what has passed, and is not live yet.
    coming: Arc<Lock<BTreeMap<Arc<str>, Arc<Promised>>>>,
}

/// What a candidate sends and takes.
pub(super) struct Promised {
    manifest: Manifest,
    description: Description,
}

/// A candidate that has passed, until this is dropped.
pub(in crate::plugin::supervisor) struct Passed {
    plugin: Arc<str>,
    coming: Arc<Lock<BTreeMap<Arc<str>, Arc<Promised>>>>,
    /// What somebody should know of what it breaks.
    pub(in crate::plugin::supervisor) notices: Vec<String>,
}

impl Drop for Passed {
    fn drop(&mut self) {
        self.coming.lock().remove(&self.plugin);
    }
}

impl Agreement {
    pub(in crate::plugin::supervisor) fn new(policies: ContractPolicies) -> Self {
        Agreement { policies, coming: Arc::default() }
    }
}

/// A candidate that is compared.
pub(super) struct Judged<'a> {
    pub(super) candidate: &'a Candidate,
    pub(super) promised: Arc<Promised>,
    pub(super) origin: &'a Origin,
    /// What it takes the place of.
    pub(super) before: Option<Party<'a>>,
}

/// A live generation.
pub(super) fn live_party(live: &Predecessor) -> Party<'_> {
    Party { manifest: &live.info.manifest, description: &live.info.description }
}

impl Promised {
    pub(super) fn party(&self) -> Party<'_> {
        Party { manifest: &self.manifest, description: &self.description }
    }
}

/// What somebody should know of what a candidate breaks, or that it must not go live for it.
type Compared = Result<Vec<String>, DeployError>;

impl Supervisor {
    /// What a candidate sends and takes. It may be open from here on.
    pub(super) async fn promise(
        &self,
        candidate: &mut Candidate,
    ) -> Result<Arc<Promised>, DeployError> {
        self.activation.described(candidate).await?;
        let description = candidate.description.clone().unwrap_or_default();
        Ok(Arc::new(Promised { manifest: candidate.manifest.clone(), description }))
    }

    /// Compares candidates that are to go live as one with all others, and with each other. Under
    /// their plugins' locks; nothing of them has changed.
    ///
    /// # Errors
    /// Which of them does not keep a contract, and why.
    pub(super) fn agree(
        &self,
        candidates: &[Judged<'_>],
    ) -> Result<Vec<Passed>, Box<(usize, DeployError)>> {
        let mut coming = self.contracts.coming.lock();
        let mut notices = Vec::new();
        for (place, compared) in self.compared(candidates, &coming).into_iter().enumerate() {
            notices.push(compared.map_err(|error| Box::new((place, error)))?);
        }
        let passed = candidates.iter().zip(notices).map(|(judged, notices)| {
            let plugin: Arc<str> = judged.promised.manifest.name.as_str().into();
            coming.insert(plugin.clone(), judged.promised.clone());
            Passed { plugin, coming: self.contracts.coming.clone(), notices }
        });
        Ok(passed.collect())
    }

    /// The same for candidates that do not go live. Nobody else is compared with them.
    pub(super) fn compare(&self, candidates: &[Judged<'_>]) -> Vec<Compared> {
        // Nor does anybody who goes live wait for it.
        let coming = self.contracts.coming.lock().clone();
        self.compared(candidates, &coming)
    }

    /// What has passed by this name, and is not live.
    pub(super) fn promised(&self, name: &str) -> Option<Arc<Promised>> {
        self.contracts.coming.lock().get(name).cloned()
    }

    fn compared(
        &self,
        candidates: &[Judged<'_>],
        coming: &BTreeMap<Arc<str>, Arc<Promised>>,
    ) -> Vec<Compared> {
        let live: Vec<Arc<GenerationInfo>> = {
            let registry = self.registry();
            let live = registry.plugins.values().filter_map(|plugin| plugin.live.as_ref());
            live.map(|live| live.info.clone()).collect()
        };
        // What is about to be live counts beside what it replaces: that may go on after all.
        let live = live
            .iter()
            .map(|info| Party { manifest: &info.manifest, description: &info.description });
        let soon = coming.values().map(|promised| promised.party());
        let is_of_these =
            |name: &str| candidates.iter().any(|it| it.promised.manifest.name == name);
        let others = live.chain(soon).filter(|other| !is_of_these(&other.manifest.name));
        let these = candidates.iter().map(|it| it.promised.party());
        let parties: Vec<Party<'_>> = others.chain(these).collect();
        let compared = candidates.iter().map(|Judged { candidate, promised, origin, before }| {
            let name = &*promised.manifest.name;
            let others: Vec<Party<'_>> =
                parties.iter().filter(|other| other.manifest.name != name).copied().collect();
            let Findings { refused, mut warned, with } =
                judge(promised.party(), *before, &others, &self.contracts.policies);
            if !refused.is_empty() && is_held_to_them(origin) {
                return Err(DeployError::Contract {
                    file: candidate.file.clone(),
                    plugin: name.into(),
                    version: promised.manifest.version.clone(),
                    broken: refused,
                    with,
                });
            }
            warned.extend(refused);
            Ok(warned)
        });
        compared.collect()
    }

    /// Looks again at the files that were refused for what a plugin sends or takes: it does not any
    /// more.
    pub(in crate::plugin::supervisor) fn wake_refused_for(&self, name: &str) {
        self.wake_refused(|with| with.iter().any(|with| **with == *name));
    }

    /// Looks again at all of them: the operator has another policy.
    pub(crate) fn contracts_are_judged_anew(&self) {
        self.wake_refused(|_| true);
    }

    fn wake_refused(&self, is_woken: impl Fn(&[Arc<str>]) -> bool) {
        let files = {
            let registry = self.registry();
            let woken = registry.refused_for.iter().filter(|(_, with)| is_woken(with));
            woken.map(|(file, _)| file.clone()).collect()
        };
        self.settle_again(files);
    }
}

/// Whether it is refused for what it breaks. A version that the host goes back to by itself takes
/// the place of one that does worse, and live state that somebody has chosen changes no contract.
fn is_held_to_them(origin: &Origin) -> bool {
    match origin {
        Origin::File(_) | Origin::KeptGood(_) => true,
        Origin::Earlier(back) => !back.automatic() && !back.force(),
        Origin::Chosen(_) => false,
    }
}
