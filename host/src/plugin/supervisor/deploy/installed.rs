//! After the swap: what the registry knows of the new generation, and who is told of it.

use std::{sync::Arc, time::SystemTime};

use super::super::{
    SetAsideResult, Supervisor,
    origin::Origin,
    registry::{Earlier, OnProbation},
};
use crate::plugin::{
    announce::{LostState, NowLive, WentBack},
    instance::{generation::Generation, info::GenerationInfo},
    lifecycle::{retire::FinalState, retired::Retired},
    state::snapshot::Snapshot,
};

/// What is told of a new generation beside it.
pub(super) struct Told<'a> {
    pub(super) origin: &'a Origin,
    pub(super) replaced: Option<&'a GenerationInfo>,
    /// What it replaced lived in the process of the host.
    pub(super) was_here: bool,
}

impl Supervisor {
    /// Makes a generation the live one in the registry, with what somebody should know of its
    /// contracts, and lets the one before go. What is known of that one.
    pub(super) fn install(
        self: &Arc<Self>,
        name: &Arc<str>,
        generation: Generation,
        origin: &Origin,
        (handed_over, notices): (Option<Snapshot>, Vec<String>),
    ) -> Option<Arc<GenerationInfo>> {
        let mut locked = self.registry();
        let registry = &mut *locked;
        let old = registry.install(generation);
        let plugin = registry.plugins.get_mut(name)?;
        plugin.contract_notices = notices;
        let was_on_probation = plugin.probation.take();
        let old = old?;
        let retired = Retired::new(&old.info);
        plugin.remember(retired.clone());
        match origin {
            Origin::File(_) | Origin::KeptGood(_) => {
                plugin.reloads += 1;
                let same = plugin.info.hash == old.info.hash;
                // A version that was not trusted yet is nothing to be compared with.
                let untrusted = was_on_probation.filter(|on| on.generation == old.info.number);
                let before = match untrusted {
                    Some(on) => Some(on.before),
                    // The same code once more is no other version.
                    None => (!same).then(|| old.info.counts()),
                };
                let watched = !(self.policies)(name).probation.is_zero();
                let generation = plugin.info.number;
                plugin.probation =
                    before.filter(|_| watched).map(|before| OnProbation { generation, before });
                if !same {
                    plugin.previous.iter_mut().for_each(|earlier| earlier.state = None);
                    let (info, copy) = (old.info.clone(), old.copy.clone());
                    let (state, replaced) = (handed_over, SystemTime::now());
                    plugin.previous.push_front(Earlier { info, copy, state, replaced });
                    plugin.previous.truncate(self.kept_versions);
                }
            }
            // The same version goes on, watched or not, with what it can be gone back to.
            Origin::Chosen(_) => {
                plugin.reloads += 1;
                let generation = plugin.info.number;
                plugin.probation = was_on_probation
                    .filter(|on| on.generation == old.info.number)
                    .map(|on| OnProbation { generation, before: on.before });
                plugin.previous.iter_mut().for_each(|earlier| earlier.state = None);
            }
            Origin::Earlier(back) => {
                plugin.rollbacks += 1;
                plugin.previous.iter_mut().for_each(|earlier| earlier.state = None);
                plugin.previous.retain(|earlier| earlier.info.number != back.number());
                // Nobody sees the earlier version live, and the other one not quarantined.
                let (bad, reason) = (&old.info, back.reason());
                registry.retries.quarantine(bad, reason, back.automatic(), &self.recovery);
                let version = &bad.manifest.version;
                plugin.last_error = Some(format!("went back from version {version}: {reason}"));
            }
        }
        drop(locked);
        let info = old.info.clone();
        drop(self.let_go(old, retired, FinalState::HandedOver));
        Some(info)
    }

    /// Whether what is live of a plugin lives in the process of the host.
    pub(super) fn lives_here(&self, name: &str) -> bool {
        let registry = self.registry();
        let live = registry.plugins.get(name).and_then(|plugin| plugin.live.as_ref());
        live.is_some_and(|live| live.residence.is_here())
    }

    /// The process that a live plugin has of its own.
    pub(in crate::plugin::supervisor) fn process_of(&self, name: &str) -> Option<u32> {
        let registry = self.registry();
        let live = registry.plugins.get(name).and_then(|plugin| plugin.live.as_ref());
        live.and_then(|live| live.residence.process()).map(|process| process.pid)
    }

    /// Logs and announces a new generation.
    pub(super) fn tell(
        &self,
        info: &GenerationInfo,
        told: &Told<'_>,
        state: &str,
        aside: Option<&SetAsideResult>,
    ) {
        let Told { origin, replaced, was_here } = *told;
        let kept_aside = aside.and_then(|aside| aside.as_deref().ok());
        let reason = match (origin, replaced) {
            (Origin::Earlier(back), _) => back.reason(),
            (Origin::Chosen(_), _) => "restored from a kept snapshot",
            (Origin::File(_) | Origin::KeptGood(_), Some(_)) => "replaced by a new generation",
            (Origin::File(_) | Origin::KeptGood(_), None) => "loaded",
        };
        let told = match origin {
            Origin::Earlier(_) => format!("went back to an earlier version: {reason}"),
            Origin::File(_) | Origin::KeptGood(_) | Origin::Chosen(_) => reason.to_owned(),
        };
        tracing::info!(
            plugin = %info.plugin, version = %info.manifest.version, generation = info.number,
            file = %info.file.display(), "{told}"
        );
        if let Origin::Earlier(back) = origin
            && let Some(cost) = back.cost()
        {
            let kept = match (kept_aside.or(back.aside()), aside) {
                (Some(place), _) => format!("they are in the snapshot that is kept as {place}"),
                (None, Some(Err(why))) => format!("no snapshot has them: {why}"),
                (None, _) => "no snapshot has them".to_owned(),
            };
            tracing::error!(
                plugin = %info.plugin, generation = info.number,
                "going back has given up {cost}; {kept}"
            );
        }
        let process = self.process_of(&info.plugin);
        let live = NowLive {
            info,
            before: replaced,
            by: origin.by(),
            reason,
            process,
            is_isolated: was_here && process.is_some(),
        };
        match (origin, replaced) {
            (Origin::Earlier(back), _) => {
                let state = back.how().unwrap_or(state);
                let lost = back.cost().map(|cost| LostState {
                    calls: cost.calls,
                    seconds: cost.seconds,
                    because: &cost.because,
                    kept_aside: kept_aside.or(back.aside()),
                });
                let back = WentBack { automatic: back.automatic(), state, lost };
                self.announcer.rolled_back(&live, &back);
            }
            (Origin::Chosen(chosen), _) => {
                self.announcer.restored(&live, &chosen.which, kept_aside);
            }
            (Origin::File(_) | Origin::KeptGood(_), Some(_)) => {
                self.announcer.reloaded(&live, state);
            }
            (Origin::File(_) | Origin::KeptGood(_), None) => self.announcer.loaded(&live, state),
        }
    }
}
