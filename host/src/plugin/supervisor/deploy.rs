//! The transaction: from a file to the live generation of a plugin, in place of the one before.
//!
//! It has one commit point, [`Router::swap`](crate::router::Router::swap) in [`Supervisor::finish`]. Before it, a
//! failure means that nothing happened: the live generation goes on, with all events that waited for its state.

use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::{
    Aside, Deployed, Supervisor, deployed,
    origin::{Admitted, Arrived, Origin, Prepared, Ready, Source},
    registry::{Earlier, LiveGeneration, OnProbation},
    retry::Why,
};
use crate::{
    plugin::{
        announce::WentBack,
        file::{
            copy::{CopyError, PrivateCopy},
            manifest::Manifest,
        },
        instance::{
            generation::Generation,
            info::{Facts, Timings},
            live::{FirstCalls, LiveInstance},
        },
        lifecycle::{
            activate::Leftover,
            error::DeployError,
            from_disk::{self, Restored},
            hand_over::{AsideOf, GivenUp, Giver, HandOverError, HandedOver, Wanted},
            prepare::{Candidate, Examined},
            requirements,
            retire::Legacy,
            retired::Retired,
        },
        probe::trial::Trial,
        state::snapshot::{self, Snapshot, StateError, common_version},
    },
    sync::keyed_lock::Turn,
};

/// What an `initialize` may wait in a trial, where nobody is there that it could wait for. Work that keeps its thread busy
/// is not bounded by it.
const TRIAL_WAIT: Duration = Duration::from_secs(2);
/// What a live generation's state gets for the copy that a candidate is tried with.
const TRIAL_SNAPSHOT: Duration = Duration::from_secs(2);
/// What it may take to write down the state that is given up, with the plugin's events held.
const ASIDE: Duration = Duration::from_secs(10);
/// What is waited for beyond the drain timeout until an earlier generation's state is kept.
const LEGACY: Duration = Duration::from_secs(20);

impl Supervisor {
    pub(super) async fn deploy(
        self: &Arc<Self>,
        file: &Path,
        why: Why,
    ) -> Result<Deployed, DeployError> {
        let _turn = self.turns.take(Turn::File(file.to_owned())).await;
        self.go_on()?;
        let _try = self.tries.begin();
        let prepared = self.prepare(file, why).await?;
        self.finish(prepared, Origin::File).await
    }

    /// Copies a file, reads what it is and lets it be tried. Several files at a time.
    pub(super) async fn prepare(
        self: &Arc<Self>,
        file: &Path,
        why: Why,
    ) -> Result<Prepared, DeployError> {
        let copied = self.preparation.copy(file, why == Why::Changed).await?;
        if why != Why::Asked
            && let Some(live) = self.unchanged(file, &copied.copy)
        {
            // Whatever lay there in between is gone.
            let mut registry = self.registry();
            registry.setbacks.forget(file);
            registry.wait_for(file, &[]);
            if let Some(plugin) = registry.plugins.get_mut(&live.plugin) {
                plugin.last_error = None;
            }
            drop(registry);
            self.quarantine.forget_rollback(file);
            return Ok(Prepared::Unchanged(live));
        }
        // Nobody has looked whether the new content stands still.
        if !self.begin_try(file, copied.copy.hash(), why)? {
            return Err(CopyError::ChangedWhileCopying { path: file.to_owned() }.into());
        }
        let examined = self.preparation.examine(copied)?;
        let trial = self.trial(&examined).await;
        Ok(Prepared::Candidate(Box::new(self.preparation.probe(examined, trial).await?)))
    }

    /// What is live from this file, if that has the same bytes.
    fn unchanged(&self, file: &Path, copy: &PrivateCopy) -> Option<Deployed> {
        let registry = self.registry();
        let plugin = registry.plugins.get(&registry.live_of(file)?.0)?;
        (plugin.facts.hash == copy.hash()).then(|| deployed(&plugin.facts))
    }

    /// What a candidate is tried with, or why it is not tried.
    pub(super) async fn trial(&self, examined: &Examined) -> Result<Trial, String> {
        self.is_tried(examined)?;
        let (snapshot, kept) = self.trial_snapshot(&examined.manifest).await.unzip();
        Ok(Trial { kept: kept.flatten(), ..self.trial_with(examined, snapshot) })
    }

    /// What a candidate is tried with that gets this state.
    pub(super) fn trial_with(&self, examined: &Examined, snapshot: Option<Snapshot>) -> Trial {
        let config = self.activation.configs.of(&examined.manifest.name).to_vec();
        let limit = self.activation.init_timeout.min(TRIAL_WAIT);
        Trial { file: examined.file.clone(), config, limit, snapshot, kept: None }
    }

    /// Whether a candidate is tried, or why not.
    pub(super) fn is_tried(&self, examined: &Examined) -> Result<(), String> {
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
        let giver = self.giver(name);
        if giver.is_some_and(|live| self.exclude_each_other(&live.facts.manifest, manifest)) {
            return Err("it is exclusive, and a generation of it is live".to_owned());
        }
        // It would take what an instance that is on its way out still holds.
        if self.waits_for_instances(name, manifest) && !self.leaving.are_instances_gone(name) {
            return Err("it is exclusive, and an earlier instance of it is not gone".to_owned());
        }
        Ok(())
    }

    /// A copy of the state that a candidate would get, if there is some, and its file if it is from the disk. What goes
    /// wrong here goes wrong again when it counts, and is told then.
    async fn trial_snapshot(&self, manifest: &Manifest) -> Option<(Snapshot, Option<PathBuf>)> {
        let restores = manifest.state.as_ref()?;
        if let Some(giver) = self.giver(&manifest.name) {
            if self.exclude_each_other(&giver.facts.manifest, manifest) {
                // Its `initialize` would take what the live generation holds.
                return None;
            }
            let version = common_version(giver.facts.manifest.state.as_ref()?, restores)?;
            let workers = self.router.workers();
            let snapshot = giver.snapshot(workers, version, TRIAL_SNAPSHOT).await.ok()?;
            return Some((snapshot, None));
        }
        if let Some(orphaned) = self.orphaned(&manifest.name) {
            return restores.restores.contains(&orphaned.version).then_some((orphaned, None));
        }
        let kept = self.persistence.as_ref()?.load(&manifest.name, &[]).await.ok()??;
        let kept = kept.for_version(&manifest.name, restores).ok()?;
        Some((kept.snapshot, Some(kept.path)))
    }

    /// The live generation of a plugin.
    fn giver(&self, name: &str) -> Option<Giver> {
        let registry = self.registry();
        let live = registry.plugins.get(name)?.live.as_ref()?;
        let (facts, shim) = (live.facts.clone(), live.shim.clone());
        Some(Giver { facts, shim, live: live.live.clone() })
    }

    /// From a candidate to the live generation: load, initialize, hand state over, swap; then the old one goes.
    pub(super) async fn finish(
        self: &Arc<Self>,
        prepared: Prepared,
        origin: Origin,
    ) -> Result<Deployed, DeployError> {
        let candidate = match prepared {
            Prepared::Candidate(candidate) => *candidate,
            Prepared::Unchanged(live) => return Ok(live),
        };
        let _transaction = self.transactions.begin();
        let name: Arc<str> = candidate.manifest.name.as_str().into();
        let turn = self.turns.take(Turn::Plugin(name.clone())).await;
        let admitted = match self.admit(&name, &candidate, &origin).await {
            Ok(admitted) => admitted,
            Err(error) => return Err(self.let_go_unused(candidate, error)),
        };
        let Admitted { number, before, giver, source } = admitted;
        let file = candidate.file.clone();

        let made = match &giver {
            Some(giver) if self.exclude_each_other(&giver.facts.manifest, &candidate.manifest) => {
                self.make_in_place_of(giver, number, candidate, source).await?
            }
            giver => self.make_beside(giver.as_ref(), number, candidate, source).await?,
        };
        let (Ready { generation, live, declared }, arrived) = made;
        let facts = generation.facts.clone();
        if let Some(giver) = &giver {
            // What it subscribed to at run time goes with the swap, and nothing may be added after it.
            giver.shim.detach();
        }
        // The commit point: `Router::swap`, with all that must not come between.
        generation.shim.attach(declared, live);
        drop(giver);
        let handed_over = arrived.snapshot;
        if let Some(held) = arrived.held {
            // It is noted once, here.
            let _ = facts.hand_over.set(held.commit());
        }

        let restored = arrived.restored;
        let predecessor = self.install(&name, generation, &origin, handed_over);
        if let Some(snapshot) = restored {
            self.keep_restored(&facts, snapshot);
        }
        if let Some(plugin) = self.registry().plugins.get_mut(&name) {
            plugin.state_notice = arrived.notice;
        }
        drop(turn);
        // The file was another plugin before: that one has no file any more.
        if let Some((before, number)) = before.filter(|(before, _)| *before != name) {
            // It may have been replaced from another file meanwhile.
            let _ = self.take_out(&before, Some(number), "its file is another plugin now").await;
        }
        self.tell(&facts, predecessor.as_deref(), &origin, arrived.how, arrived.aside.as_ref());
        match (origin, predecessor) {
            (Origin::File | Origin::KeptGood, Some(_)) => self.watch_over(&facts),
            (Origin::File, None) => self.forget_setback(&file),
            (Origin::KeptGood, None) | (Origin::Earlier(_) | Origin::Chosen(_), _) => {}
        }
        self.wake_waiting();
        Ok(Deployed { aside: arrived.aside, ..deployed(&facts) })
    }

    /// Makes the next generation while the live one, if there is one, goes on; events wait for the state alone.
    async fn make_beside(
        self: &Arc<Self>,
        giver: Option<&Giver>,
        number: u64,
        candidate: Candidate,
        source: Source,
    ) -> Result<(Ready, Arrived), DeployError> {
        let limit = self.activation.init_timeout;
        // A host that stops swaps nothing any more, so nobody needs what is not there yet.
        let stopped = self.stop.requested();
        let (generation, live) = self.initialized(number, candidate, limit, stopped).await?;
        // Events that are held for it go on to the generation that stays; what it reads from the disk stays there.
        let arrived = tokio::select! {
            biased;
            arrived = self.state_arrives(&generation.facts, &live, giver, source) => arrived,
            () = self.stop.requested() => Err(DeployError::Stopping),
        };
        self.ready(generation, live, arrived)
    }

    /// An instance of a candidate, which nothing leads to yet.
    pub(super) async fn initialized(
        self: &Arc<Self>,
        number: u64,
        candidate: Candidate,
        limit: Duration,
        given_up: impl Future<Output = ()>,
    ) -> Result<(Generation, Arc<LiveInstance>), DeployError> {
        let name: Arc<str> = candidate.manifest.name.as_str().into();
        match self.activation.initialize(number, candidate, limit, given_up).await {
            Ok((generation, instance)) => {
                let journal = self.activation.journal.clone();
                let first_calls = FirstCalls { facts: generation.facts.clone(), journal };
                let (live, unused) = LiveInstance::new(instance, first_calls);
                let weak = Arc::downgrade(&live);
                Ok((Generation { live: weak, unused: Some(unused), ..generation }, live))
            }
            Err(failed) => {
                if let Some(leftover) = failed.leftover {
                    self.let_go_leftover(&name, leftover);
                }
                Err(match failed.error {
                    // It was given up, and may be well.
                    DeployError::InitTimedOut { .. } if self.go_on().is_err() => {
                        DeployError::Stopping
                    }
                    error => error,
                })
            }
        }
    }

    /// What can be swapped in, once its state has arrived; or else it is let go.
    pub(super) fn ready<T>(
        self: &Arc<Self>,
        generation: Generation,
        live: Arc<LiveInstance>,
        arrived: Result<T, DeployError>,
    ) -> Result<(Ready, T), DeployError> {
        let ready = arrived.and_then(|arrived| {
            let declared = self.activation.routes(&generation, &live)?;
            // The host may have begun to stop meanwhile.
            self.go_on().map(|()| (arrived, declared))
        });
        match ready {
            Ok((arrived, declared)) => Ok((Ready { generation, live, declared }, arrived)),
            Err(error) => {
                drop(live);
                let name = generation.facts.plugin.clone();
                self.let_go_leftover(&name, Leftover { generation, creating: None });
                Err(error)
            }
        }
    }

    /// Whether a candidate may become the next generation of `name`, and what is needed for that.
    async fn admit(
        &self,
        name: &Arc<str>,
        candidate: &Candidate,
        origin: &Origin,
    ) -> Result<Admitted, DeployError> {
        self.go_on()?;
        let (number, before) = self.number(name, candidate, origin)?;
        let giver = self.giver(name);
        if giver.is_none() && self.waits_for_instances(name, &candidate.manifest) {
            self.instances_are_gone(name, &candidate.file).await?;
        }
        let source = self.source(candidate, giver.as_ref(), origin).await?;
        Ok(Admitted { number, before, giver, source })
    }

    /// The number of the next generation of `name`, and the plugin that the candidate's file is now.
    fn number(
        &self,
        name: &Arc<str>,
        candidate: &Candidate,
        origin: &Origin,
    ) -> Result<(u64, Option<LiveGeneration>), DeployError> {
        let file = || candidate.file.clone();
        let mut registry = self.registry();
        if let Some(number) = origin.replaces()
            && !registry.is_live(name, number)
        {
            // It was unloaded or replaced meanwhile, and whoever did that is not to find an earlier version instead.
            return Err(DeployError::NotLive { plugin: name.to_string() });
        }
        if let Some(plugin) = registry.plugins.get(name) {
            let other = &plugin.facts.file;
            if plugin.live.is_some() && *other != candidate.file && other.exists() {
                let other = other.clone();
                return Err(DeployError::Duplicate { file: file(), plugin: name.clone(), other });
            }
        }
        if let Some(count) = registry.too_many(name) {
            return Err(DeployError::TooManyPinned { plugin: name.clone(), count });
        }
        let missing = requirements::missing(&candidate.manifest, &self.router.subscribers());
        // What was live before is not refused: without it there would be even less.
        if !missing.is_empty() && matches!(origin, Origin::File | Origin::KeptGood) {
            return Err(DeployError::Missing { plugin: name.clone(), file: file(), missing });
        }
        Ok((registry.take_generation(name), registry.live_of(&candidate.file)))
    }

    /// Where the state of the next generation comes from.
    async fn source(
        &self,
        candidate: &Candidate,
        giver: Option<&Giver>,
        origin: &Origin,
    ) -> Result<Source, DeployError> {
        let restores = candidate.manifest.state.as_ref();
        let refused = |source| DeployError::HandOver { file: candidate.file.clone(), source };
        let Some(writes) = giver.and_then(|giver| giver.facts.manifest.state.as_ref()) else {
            let Some(restores) = restores else { return Ok(Source::Nowhere) };
            let name = &*candidate.manifest.name;
            if let Some(orphaned) = self.orphaned(name) {
                return match restores.restores.contains(&orphaned.version) {
                    true => Ok(Source::Orphaned(orphaned)),
                    false => Err(refused(HandOverError::NoCommonVersion {
                        writes: vec![orphaned.version],
                        restores: restores.restores.clone(),
                    })),
                };
            }
            let Some(persistence) = &self.persistence else { return Ok(Source::Nowhere) };
            self.legacy_is_kept(name)
                .await
                .map_err(|after| refused(HandOverError::Leaving { after }))?;
            let kept = persistence
                .load(name, &[])
                .await
                .and_then(|kept| kept.map(|kept| kept.for_version(name, restores)).transpose());
            let kept = kept.map_err(|source| DeployError::Persist {
                file: candidate.file.clone(),
                source: Box::new(source),
            })?;
            return Ok(kept.map_or(Source::Nowhere, Source::Kept));
        };
        let aside = || {
            let version = writes.writes.iter().copied().max()?;
            Some(AsideOf { version, required: origin.keeps_aside() })
        };
        let back = match origin {
            Origin::File | Origin::KeptGood => None,
            Origin::Earlier(back) => Some(back),
            Origin::Chosen(chosen) => {
                let (state, aside) = (Some(chosen.state.clone()), aside());
                return Ok(Source::Live(Wanted::Instead { state, aside }));
            }
        };
        let version = restores.and_then(|restores| common_version(writes, restores));
        let wanted = match (restores, version, back) {
            (None, _, None) => return Err(refused(HandOverError::NoState)),
            (None, _, Some(_)) => Wanted::Instead { state: None, aside: aside() },
            (Some(_), _, Some(back)) if back.takes_instead() => {
                let aside = aside().filter(|_| back.asks_the_bad_one());
                Wanted::Instead { state: back.state().cloned(), aside }
            }
            (Some(_), Some(version), _) => Wanted::Version(version),
            (Some(restores), None, back) => match back.filter(|it| it.gives_up_the_present()) {
                Some(back) => Wanted::Instead { state: back.state().cloned(), aside: aside() },
                None => {
                    let (writes, restores) = (writes.writes.clone(), restores.restores.clone());
                    return Err(refused(HandOverError::NoCommonVersion { writes, restores }));
                }
            },
        };
        Ok(Source::Live(wanted))
    }

    /// Waits until the state of every earlier generation of a plugin is kept; or else how long it has waited.
    pub(in crate::plugin) async fn legacy_is_kept(&self, name: &str) -> Result<(), Duration> {
        let patience = (self.policies)(name).drain + LEGACY;
        let kept = tokio::time::timeout(patience, self.leaving.legacy_is_kept(name));
        kept.await.map_err(|_| patience)
    }

    /// Restores the new generation's state, with the plugin's events held if it comes from the live generation.
    async fn state_arrives(
        &self,
        facts: &Facts,
        new: &Arc<LiveInstance>,
        giver: Option<&Giver>,
        source: Source,
    ) -> Result<Arrived, DeployError> {
        let refused = |source| DeployError::HandOver { file: facts.file.clone(), source };
        let policy = (self.policies)(&facts.plugin);
        match (source, giver) {
            (Source::Live(wanted), Some(giver)) => {
                let how = match &wanted {
                    Wanted::Version(_) => "handed_over",
                    Wanted::Instead { state: Some(_), .. } => "as_of_the_swap",
                    Wanted::Instead { state: None, .. } => "none",
                };
                let handed = self.hand_over.run(giver, new, wanted, policy).await;
                let Some(handed) = handed.map_err(refused)? else {
                    return Ok(Arrived::nothing(how));
                };
                let HandedOver { held, snapshot, aside } = handed;
                let aside = match aside {
                    Some(given_up) => {
                        Some(self.keep_aside(&giver.facts, given_up).await.map_err(refused)?)
                    }
                    None => None,
                };
                let restored = snapshot.clone();
                Ok(Arrived { held: Some(held), snapshot, restored, aside, ..Arrived::nothing(how) })
            }
            (Source::Kept(kept), _) => {
                let refused = |source| DeployError::Persist {
                    file: facts.file.clone(),
                    source: Box::new(source),
                };
                let Some(persistence) = &self.persistence else {
                    return Ok(Arrived::nothing("none"));
                };
                let began = Instant::now();
                let (workers, limit) = (self.router.workers(), self.activation.init_timeout);
                let restored =
                    from_disk::restore_kept(workers, limit, facts, new, persistence, kept).await;
                let Restored { snapshot, notice } = restored.map_err(refused)?;
                let mut timings = Timings::default();
                timings.note("restore", began.elapsed());
                let _ = facts.hand_over.set(timings);
                let how = if notice.is_some() { "older" } else { "kept" };
                Ok(Arrived { restored: Some(snapshot), notice, ..Arrived::nothing(how) })
            }
            (Source::Orphaned(snapshot), _) => {
                let workers = self.router.workers();
                let (limit, live) = (self.activation.init_timeout, new.clone());
                let began = Instant::now();
                let restored = snapshot::restore(workers, live, snapshot.clone(), limit).await;
                restored.map_err(|source| DeployError::Persist {
                    file: facts.file.clone(),
                    source: Box::new(source.into()),
                })?;
                let mut timings = Timings::default();
                timings.note("restore", began.elapsed());
                let _ = facts.hand_over.set(timings);
                Ok(Arrived { restored: Some(snapshot), ..Arrived::nothing("kept") })
            }
            (Source::Nowhere | Source::Live(_), _) => Ok(Arrived::nothing("none")),
        }
    }

    /// Keeps on the disk what the live generation is about to lose. Where it is then, or why it is nowhere.
    pub(super) async fn keep_aside(
        &self,
        giver: &Facts,
        given_up: GivenUp,
    ) -> Result<Aside, HandOverError> {
        let GivenUp { taken, required } = given_up;
        let snapshot = match taken {
            Ok(snapshot) => snapshot,
            // It may give one at another time.
            Err(error @ StateError::TimedOut { .. }) if required => {
                return Err(HandOverError::NotAside { reason: error.to_string() });
            }
            Err(error) => return Ok(Err(error.to_string())),
        };
        let Some(persistence) = &self.persistence else {
            let reason = "this host keeps no state on disk (`--state DIR`, state.dir)".to_owned();
            return match required {
                true => Err(HandOverError::NotAside { reason }),
                false => Ok(Err(reason)),
            };
        };
        let storing = persistence.store_aside(giver, snapshot);
        let stored = match tokio::time::timeout(ASIDE, storing).await {
            Ok(stored) => stored.map(|place| place.to_string()).map_err(|error| error.to_string()),
            Err(_) => Err(format!("it was not written within {ASIDE:?}")),
        };
        match stored {
            Err(reason) if required => Err(HandOverError::NotAside { reason }),
            stored => Ok(stored),
        }
    }

    /// Makes a generation the live one in the registry, and lets the one before go. What is known of that one.
    fn install(
        self: &Arc<Self>,
        name: &Arc<str>,
        generation: Generation,
        origin: &Origin,
        handed_over: Option<Snapshot>,
    ) -> Option<Arc<Facts>> {
        let mut registry = self.registry();
        let old = registry.install(generation);
        let plugin = registry.plugins.get_mut(name)?;
        let was_on_probation = plugin.probation.take();
        let old = old?;
        let retired = Retired::new(&old.facts);
        plugin.remember(retired.clone());
        match origin {
            Origin::File | Origin::KeptGood => {
                plugin.reloads += 1;
                let same = plugin.facts.hash == old.facts.hash;
                // A version that was not trusted yet is nothing to be compared with.
                let untrusted = was_on_probation.filter(|on| on.generation == old.facts.number);
                let before = match untrusted {
                    Some(on) => Some(on.before),
                    // The same code once more is no other version.
                    None => (!same).then(|| old.facts.counts()),
                };
                let watched = !(self.policies)(name).probation.is_zero();
                let generation = plugin.facts.number;
                plugin.probation =
                    before.filter(|_| watched).map(|before| OnProbation { generation, before });
                if !same {
                    plugin.previous.iter_mut().for_each(|earlier| earlier.state = None);
                    let (facts, copy) = (old.facts.clone(), old.copy.clone());
                    let (state, replaced) = (handed_over, SystemTime::now());
                    plugin.previous.push_front(Earlier { facts, copy, state, replaced });
                    plugin.previous.truncate(self.kept_versions);
                }
            }
            // The same version goes on, watched or not, with what it can be gone back to.
            Origin::Chosen(_) => {
                plugin.reloads += 1;
                let generation = plugin.facts.number;
                plugin.probation = was_on_probation
                    .filter(|on| on.generation == old.facts.number)
                    .map(|on| OnProbation { generation, before: on.before });
                plugin.previous.iter_mut().for_each(|earlier| earlier.state = None);
            }
            Origin::Earlier(back) => {
                plugin.rollbacks += 1;
                plugin.previous.iter_mut().for_each(|earlier| earlier.state = None);
                plugin.previous.retain(|earlier| earlier.facts.number != back.number());
            }
        }
        drop(registry);
        let facts = old.facts.clone();
        drop(self.let_go(old, retired, Legacy::Left));
        Some(facts)
    }

    /// Logs and announces a new generation.
    fn tell(
        &self,
        facts: &Facts,
        predecessor: Option<&Facts>,
        origin: &Origin,
        state: &str,
        aside: Option<&Aside>,
    ) {
        let kept_aside = aside.and_then(|aside| aside.as_deref().ok());
        let reason = match (origin, predecessor) {
            (Origin::Earlier(back), _) => back.reason(),
            (Origin::Chosen(_), _) => "restored from a kept snapshot",
            (Origin::File | Origin::KeptGood, Some(_)) => "replaced by a new generation",
            (Origin::File | Origin::KeptGood, None) => "loaded",
        };
        let told = match origin {
            Origin::Earlier(_) => format!("went back to an earlier version: {reason}"),
            Origin::File | Origin::KeptGood | Origin::Chosen(_) => reason.to_owned(),
        };
        tracing::info!(
            plugin = %facts.plugin, version = %facts.manifest.version, generation = facts.number,
            file = %facts.file.display(), "{told}"
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
                plugin = %facts.plugin, generation = facts.number,
                "going back has given up {cost}; {kept}"
            );
        }
        match (origin, predecessor) {
            (Origin::Earlier(back), from) => {
                let state = back.how().unwrap_or(state);
                let lost = back.cost().map(|cost| (cost, kept_aside.or(back.aside())));
                let back = WentBack { from, automatic: back.automatic(), state, lost };
                self.announcer.rolled_back(facts, reason, &back);
            }
            (Origin::Chosen(chosen), _) => {
                self.announcer.restored(facts, reason, &chosen.which, kept_aside);
            }
            (Origin::File | Origin::KeptGood, Some(_)) => {
                self.announcer.reloaded(facts, reason, state);
            }
            (Origin::File | Origin::KeptGood, None) => self.announcer.loaded(facts, reason, state),
        }
    }
}
