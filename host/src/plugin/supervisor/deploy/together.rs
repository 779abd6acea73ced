//! Several files as one change: all of them go live by one swap, or none does.
//!
//! It is for plugins that understand each other's new versions only: what each of them keeps of its
//! contracts is judged as if the others were live. Their events are held together, so that a call
//! of one that waits for another one ends.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use futures_util::future::try_join_all;
use ksi_wire::module::HistoryBy;
use tokio::sync::Barrier;

use super::{
    super::{
        Deployed, Supervisor,
        origin::{Arrived, Origin, Ready, StateSource},
        registry::LiveGeneration,
    },
    commit::Change,
    contracts::{Judged, Passed, live_party},
};
use crate::{
    plugin::{
        instance::{generation::Generation, live::LiveInstance},
        lifecycle::{
            activate::Leftover,
            error::DeployError,
            hand_over::{HandedOver, Predecessor, Wanted},
            prepare::Candidate,
        },
    },
    sync::keyed_lock::{LockGuard, LockKey},
};

/// How many files change as one at the most.
pub(crate) const MOST: usize = 16;

/// Which file it failed at, and why.
type Failed = Box<(PathBuf, DeployError)>;

/// One of the files, before anything of it is made.
struct Member {
    candidate: Candidate,
    predecessor: Option<Predecessor>,
    /// Of its plugin.
    lock: LockGuard,
}

/// What a member may become a generation with.
struct Admission {
    number: u64,
    before: Option<LiveGeneration>,
    source: StateSource,
    passed: Passed,
}

/// A member with an instance.
struct Initialized {
    file: PathBuf,
    generation: Generation,
    live: Arc<dyn LiveInstance>,
    predecessor: Option<Predecessor>,
    before: Option<LiveGeneration>,
    passed: Passed,
    lock: LockGuard,
}

impl Supervisor {
    /// Loads files, or replaces the plugins that they are, as one change.
    ///
    /// # Errors
    /// What is wrong with one of them. Then none of them goes live.
    pub(in crate::plugin::supervisor) async fn deploy_together(
        self: &Arc<Self>,
        files: &BTreeSet<PathBuf>,
        by: &HistoryBy,
    ) -> Result<Vec<Deployed>, Failed> {
        let at = |file: &Path| {
            let file = file.to_owned();
            move |error| Box::new((file, error))
        };
        let Some(first) = files.first() else { return Ok(Vec::new()) };
        if files.len() > MOST {
            return Err(Box::new((first.clone(), DeployError::TooManyTogether { most: MOST })));
        }
        // In one order, so that two who ask do not wait for each other.
        let mut locks = Vec::new();
        for file in files {
            locks.push(self.locks.lock(LockKey::File(file.clone())).await);
        }
        self.ensure_running().map_err(at(first))?;
        let _try = self.tries.begin();
        let mut candidates: Vec<Candidate> = Vec::new();
        for file in files {
            candidates.push(self.prepare_member(file).await.map_err(at(file))?);
        }
        candidates.sort_by(|a, b| a.manifest.name.cmp(&b.manifest.name));
        for pair in candidates.windows(2) {
            if let [one, other] = pair
                && one.manifest.name == other.manifest.name
            {
                let (file, plugin) = (other.file.clone(), name_of(other));
                let error = DeployError::SamePlugin { file: one.file.clone(), plugin };
                return Err(Box::new((file, error)));
            }
        }
        let _deploy = self.deploys.begin();
        let names: Vec<Arc<str>> = candidates.iter().map(name_of).collect();
        let live = self.go_live_together(candidates, by).await;
        names.iter().for_each(|name| self.wake_refused_for(name));
        live
    }

    /// Copies a file, reads what it is and lets it be tried. What is known of its earlier tries
    /// stays as it is until it goes live: another file may be what keeps it from that.
    async fn prepare_member(&self, file: &Path) -> Result<Candidate, DeployError> {
        let copied = self.preparation.copy(file, false).await?;
        let examined = self.preparation.examine(copied).await?;
        let trial = self.trial(&examined).await;
        self.preparation.probe(examined, trial).await
    }

    async fn go_live_together(
        self: &Arc<Self>,
        candidates: Vec<Candidate>,
        by: &HistoryBy,
    ) -> Result<Vec<Deployed>, Failed> {
        let mut members = Vec::new();
        for candidate in candidates {
            let lock = self.locks.lock(LockKey::Plugin(name_of(&candidate))).await;
            members.push(Member { candidate, predecessor: None, lock });
        }
        let admissions = match self.admit_together(&mut members, &Origin::File(by.clone())).await {
            Ok(admissions) => admissions,
            Err(failed) => {
                let (file, mut error) = *failed;
                for Member { candidate, .. } in members {
                    error = self.let_go_unused(candidate, error);
                }
                return Err(Box::new((file, error)));
            }
        };
        let (initialized, sources) = self.initialize_together(members, admissions).await?;
        let arrived = tokio::select! {
            biased;
            arrived = self.states_arrive(&initialized, sources) => arrived,
            () = self.stop.requested() => Err(Box::new((PathBuf::new(), DeployError::Stopping))),
        };
        let changes = self.all_ready(initialized, arrived, by)?;
        let tried: Vec<_> = changes
            .iter()
            .map(|change| (change.file.clone(), change.ready.generation.info.hash))
            .collect();
        let live = self.commit_together(changes).await;
        for (file, hash) in tried {
            // Somebody has asked for them.
            self.quarantine.lift(hash.to_hex().as_str());
            self.forget_retry(&file);
        }
        Ok(live)
    }

    /// An exclusive plugin goes before its next generation comes: there is no one swap.
    pub(super) fn changes_with_others(
        &self,
        candidate: &Candidate,
        predecessor: Option<&Predecessor>,
    ) -> Result<(), DeployError> {
        let is_exclusive = self.is_exclusive(&candidate.manifest)
            || predecessor.is_some_and(|it| self.is_exclusive(&it.info.manifest));
        match is_exclusive {
            true => Err(DeployError::ExclusiveTogether { plugin: name_of(candidate) }),
            false => Ok(()),
        }
    }

    /// Whether the candidates may become the next generations of their plugins, and what is needed
    /// for that.
    async fn admit_together(
        &self,
        members: &mut [Member],
        origin: &Origin,
    ) -> Result<Vec<Admission>, Failed> {
        let at = |candidate: &Candidate| {
            let file = candidate.file.clone();
            move |error| Box::new((file, error))
        };
        for Member { candidate, predecessor, .. } in &mut *members {
            let name = name_of(candidate);
            let ready = self.ready_to_be_judged(&name, candidate).await;
            *predecessor = ready.map_err(at(candidate))?;
            self.changes_with_others(candidate, predecessor.as_ref()).map_err(at(candidate))?;
        }
        let mut promises = Vec::new();
        for Member { candidate, .. } in &mut *members {
            promises.push(self.promise(candidate).await.map_err(at(candidate))?);
        }
        let manifests: Vec<_> = members.iter().map(|it| &it.candidate.manifest).collect();
        let mut numbers = Vec::new();
        for Member { candidate, .. } in &*members {
            let number = self.number(&name_of(candidate), candidate, origin, &manifests);
            numbers.push(number.map_err(at(candidate))?);
        }
        let judged: Vec<Judged<'_>> = members
            .iter()
            .zip(promises)
            .map(|(member, promised)| Judged {
                candidate: &member.candidate,
                promised,
                origin,
                before: member.predecessor.as_ref().map(live_party),
            })
            .collect();
        let started = Instant::now();
        let passed = self
            .agree(&judged)
            .map_err(|failed| Box::new((members[failed.0].candidate.file.clone(), failed.1)))?;
        let compared = started.elapsed();
        let mut admissions = Vec::new();
        for ((member, (number, before)), passed) in members.iter_mut().zip(numbers).zip(passed) {
            let Member { candidate, predecessor, .. } = member;
            candidate.timings.note("contracts", compared);
            let source = self.source(candidate, predecessor.as_ref(), origin).await;
            let source = source.map_err(at(candidate))?;
            admissions.push(Admission { number, before, source, passed });
        }
        Ok(admissions)
    }

    /// An instance of each, which nothing leads to yet.
    async fn initialize_together(
        self: &Arc<Self>,
        members: Vec<Member>,
        admissions: Vec<Admission>,
    ) -> Result<(Vec<Initialized>, Vec<StateSource>), Failed> {
        let (mut all, mut sources) = (Vec::new(), Vec::new());
        let mut rest = members.into_iter().zip(admissions);
        while let Some((member, admission)) = rest.next() {
            let Member { candidate, predecessor, lock } = member;
            let Admission { number, before, source, passed } = admission;
            let file = candidate.file.clone();
            let (limit, stopped) = (self.activation.init_timeout, self.stop.requested());
            match self.initialized(number, candidate, limit, stopped).await {
                Ok((generation, live)) => {
                    let file = file.clone();
                    all.push(Initialized {
                        file,
                        generation,
                        live,
                        predecessor,
                        before,
                        passed,
                        lock,
                    });
                    sources.push(source);
                }
                Err(mut error) => {
                    for (member, _) in rest {
                        error = self.let_go_unused(member.candidate, error);
                    }
                    return Err(self.let_go_initialized(all, Box::new((file, error))));
                }
            }
        }
        Ok((all, sources))
    }

    /// Restores the state of each, with the events of all held whose state comes from their live
    /// generations.
    async fn states_arrive(
        &self,
        all: &[Initialized],
        sources: Vec<StateSource>,
    ) -> Result<Vec<Arrived>, Failed> {
        let mut arrived = Vec::new();
        let mut handed_over = Vec::new();
        for (place, (member, source)) in all.iter().zip(sources).enumerate() {
            let Initialized { file, generation, live, predecessor, .. } = member;
            let gate = predecessor.as_ref().and_then(|it| it.services.session().gate().cloned());
            match (source, predecessor, gate) {
                (StateSource::Live(wanted), Some(predecessor), Some(gate)) => {
                    let policy = (self.policies)(&generation.info.plugin);
                    handed_over.push((place, predecessor, live, wanted, (gate, policy)));
                    arrived.push(Arrived::nothing("handed_over"));
                }
                (source, predecessor, _) => {
                    let state =
                        self.state_arrives(&generation.info, live, predecessor.as_ref(), source);
                    arrived.push(state.await.map_err(|error| Box::new((file.clone(), error)))?);
                }
            }
        }
        let gates: Vec<_> = handed_over.iter().map(|(.., gate)| gate.clone()).collect();
        if gates.is_empty() {
            return Ok(arrived);
        }
        let held = self.hand_over.hold_together(&gates).await;
        let all_arrived = &Barrier::new(held.len());
        let running = handed_over.into_iter().zip(held).map(async |(member, held)| {
            let (place, predecessor, live, wanted, _) = member;
            let how = match &wanted {
                Wanted::Version(_) => "handed_over",
                Wanted::Instead { how, .. } => *how,
            };
            let handed = self.hand_over.run_held(held, predecessor, live, wanted).await;
            let file = &all[place].file;
            let refused = |source| {
                let error = DeployError::HandOver { file: file.clone(), source };
                Box::new((file.clone(), error))
            };
            let HandedOver { held, snapshot, .. } = handed.map_err(refused)?;
            // Its own events wait for the states of the others too.
            let others =
                held.while_waiting("the states of the others had arrived", all_arrived.wait());
            others.await.map_err(refused)?;
            let restored = snapshot.clone();
            Ok::<_, Failed>((
                place,
                Arrived { held: Some(held), snapshot, restored, ..Arrived::nothing(how) },
            ))
        });
        for (place, state) in try_join_all(running).await? {
            arrived[place] = state;
        }
        Ok(arrived)
    }

    /// What can be swapped in; or else all of them are let go.
    fn all_ready(
        self: &Arc<Self>,
        all: Vec<Initialized>,
        arrived: Result<Vec<Arrived>, Failed>,
        by: &HistoryBy,
    ) -> Result<Vec<Change>, Failed> {
        let ready = arrived.and_then(|arrived| {
            let mut declared = Vec::new();
            for Initialized { file, generation, live, .. } in &all {
                let routes = self.activation.routes(generation, live);
                // The host may have begun to stop meanwhile.
                let routes = routes.and_then(|routes| self.ensure_running().map(|()| routes));
                declared.push(routes.map_err(|error| Box::new((file.clone(), error)))?);
            }
            Ok((arrived, declared))
        });
        let (arrived, declared) = match ready {
            Ok(ready) => ready,
            Err(failed) => return Err(self.let_go_initialized(all, failed)),
        };
        let all = all.into_iter().zip(arrived).zip(declared);
        let changes = all.map(|((member, arrived), declared)| {
            let Initialized { file, generation, live, predecessor, before, passed, lock } = member;
            Change {
                file,
                origin: Origin::File(by.clone()),
                ready: Ready { generation, live, declared },
                arrived,
                predecessor,
                before,
                passed: Some(passed),
                lock,
            }
        });
        Ok(changes.collect())
    }

    fn let_go_initialized(self: &Arc<Self>, all: Vec<Initialized>, failed: Failed) -> Failed {
        for Initialized { generation, live, .. } in all {
            drop(live);
            let name = generation.info.plugin.clone();
            self.let_go_leftover(&name, Leftover { generation, creating: None });
        }
        failed
    }
}

pub(super) fn name_of(candidate: &Candidate) -> Arc<str> {
    candidate.manifest.name.as_str().into()
}
