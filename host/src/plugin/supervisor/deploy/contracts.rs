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
    /// The live generation of its plugin.
    pub(super) before: Option<&'a Predecessor>,
}

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
        let live: Vec<Arc<GenerationInfo>> = {
            let registry = self.registry();
            let live = registry.plugins.values().filter_map(|plugin| plugin.live.as_ref());
            live.map(|live| live.info.clone()).collect()
        };
        // What is about to be live counts in place of what it replaces.
        let mut parties: BTreeMap<&str, Party<'_>> = BTreeMap::new();
        let live = live.iter().map(|info| (&info.manifest, &info.description));
        let soon = coming.values().map(|promised| (&promised.manifest, &promised.description));
        let these = candidates.iter().map(|it| (&it.promised.manifest, &it.promised.description));
        for (manifest, description) in live.chain(soon).chain(these) {
            parties.insert(&manifest.name, Party { manifest, description });
        }
        let mut notices = Vec::new();
        for (place, Judged { candidate, promised, origin, before }) in candidates.iter().enumerate()
        {
            let name = &*promised.manifest.name;
            let others: Vec<Party<'_>> = parties
                .iter()
                .filter(|(other, _)| **other != name)
                .map(|(_, party)| *party)
                .collect();
            let before = before
                .map(|it| Party { manifest: &it.info.manifest, description: &it.info.description });
            let own = Party { manifest: &promised.manifest, description: &promised.description };
            let Findings { refused, mut warned, with } =
                judge(own, before, &others, &self.contracts.policies);
            if !refused.is_empty() && is_held_to_them(origin) {
                let error = DeployError::Contract {
                    file: candidate.file.clone(),
                    plugin: name.into(),
                    version: promised.manifest.version.clone(),
                    broken: refused,
                    with,
                };
                return Err(Box::new((place, error)));
            }
            warned.extend(refused);
            notices.push(warned);
        }
        let passed = candidates.iter().zip(notices).map(|(judged, notices)| {
            let plugin: Arc<str> = judged.promised.manifest.name.as_str().into();
            (plugin, judged.promised.clone(), notices)
        });
        let passed: Vec<_> = passed.collect();
        Ok(passed
            .into_iter()
            .map(|(plugin, promised, notices)| {
                coming.insert(plugin.clone(), promised);
                Passed { plugin, coming: self.contracts.coming.clone(), notices }
            })
            .collect())
    }

    /// Looks again at the files that were refused for what a plugin sends or takes: it does not any
    /// more.
    pub(in crate::plugin::supervisor) fn wake_refused_for(&self, name: &str) {
        let files = {
            let registry = self.registry();
            let refused = registry.refused_for.iter();
            let with = refused.filter(|(_, with)| with.iter().any(|with| **with == *name));
            with.map(|(file, _)| file.clone()).collect()
        };
        self.settle_again(files);
    }
}

/// Whether it is refused for what it breaks. A version that the host goes back to by itself takes
/// the place of one that does worse, and live state that somebody has chosen changes no contract.
fn is_held_to_them(origin: &Origin) -> bool {
    match origin {
        Origin::File | Origin::KeptGood => true,
        Origin::Earlier(back) => !back.automatic() && !back.force(),
        Origin::Chosen(_) => false,
    }
}
