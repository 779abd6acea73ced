//! The commit point of a deployment, [`Router::swap`](ksi_kernel::router::Router::swap), with all
//! that must not come between, and what is done behind it.
//!
//! One generation goes live, or several of different plugins by one swap.

use std::{path::PathBuf, sync::Arc, time::Instant};

use ksi_kernel::{call::gate::Gate, session::DeclaredRoutes};

use super::{
    super::{
        Deployed, SetAsideResult, Supervisor,
        checkpoint::Checkpoint,
        deployed,
        origin::{Arrived, Origin, Ready},
        registry::LiveGeneration,
    },
    contracts::Passed,
    installed::Told,
};
use crate::{
    plugin::{
        instance::{
            generation::Generation, info::GenerationInfo, live::LiveInstance,
            services::HostServices,
        },
        lifecycle::hand_over::Predecessor,
    },
    sync::keyed_lock::LockGuard,
};

/// A generation with its state, in place of the live one.
pub(super) struct Change {
    pub(super) file: PathBuf,
    pub(super) origin: Origin,
    pub(super) ready: Ready,
    pub(super) arrived: Arrived,
    /// The live generation of its plugin.
    pub(super) predecessor: Option<Predecessor>,
    /// What is live from its file.
    pub(super) before: Option<LiveGeneration>,
    pub(super) passed: Option<Passed>,
    /// Of its plugin.
    pub(super) lock: LockGuard,
}

/// A generation that is live, and that the registry does not know yet.
struct Swapped {
    file: PathBuf,
    origin: Origin,
    generation: Generation,
    arrived: Arrived,
    before: Option<LiveGeneration>,
    passed: Option<Passed>,
    lock: LockGuard,
    began: Instant,
}

/// A generation that the registry knows, whose plugin is not told of yet.
struct Known {
    file: PathBuf,
    origin: Origin,
    info: Arc<GenerationInfo>,
    replaced: Option<Arc<GenerationInfo>>,
    before: Option<LiveGeneration>,
    how: &'static str,
    aside: Option<SetAsideResult>,
    /// What it replaced lived in the process of the host.
    was_here: bool,
}

/// What leads to an instance, for the swap.
type Attaching = (Arc<HostServices>, DeclaredRoutes, Arc<dyn LiveInstance>);

impl Supervisor {
    /// Has a generation go live.
    pub(super) async fn commit(self: &Arc<Self>, change: Change) -> Deployed {
        let (swapped, attaching, gate) = before_the_swap(change);
        HostServices::attach_all(vec![attaching]);
        let known = self.make_known(after_the_swap(swapped, gate));
        let live = self.settle_in(known).await;
        self.wake_waiting();
        live
    }

    /// Has generations of different plugins go live by one swap.
    pub(super) async fn commit_together(self: &Arc<Self>, changes: Vec<Change>) -> Vec<Deployed> {
        let (mut attaching, mut swapped) = (Vec::new(), Vec::new());
        for change in changes {
            let (next, attach, gate) = before_the_swap(change);
            attaching.push(attach);
            swapped.push((next, gate));
        }
        HostServices::attach_all(attaching);
        let swapped: Vec<Swapped> =
            swapped.into_iter().map(|(swapped, gate)| after_the_swap(swapped, gate)).collect();
        // All of them are known, and their locks free, before anybody else's lock is waited for.
        let known: Vec<Known> = swapped.into_iter().map(|it| self.make_known(it)).collect();
        let mut live = Vec::with_capacity(known.len());
        for known in known {
            live.push(self.settle_in(known).await);
        }
        self.wake_waiting();
        live
    }

    /// Has the registry know a new generation, and lets the one before go.
    fn make_known(self: &Arc<Self>, swapped: Swapped) -> Known {
        let Swapped { file, origin, generation, arrived, before, mut passed, lock, began } =
            swapped;
        let info = generation.info.clone();
        let name = &info.plugin;
        let Arrived { snapshot, restored, notice, aside, how, held: _ } = arrived;
        let notices = passed.as_mut().map(|passed| std::mem::take(&mut passed.notices));
        let notices = notices.unwrap_or_default();
        for notice in &notices {
            tracing::warn!(plugin = %name, generation = info.number, "{notice}");
        }
        let was_here = self.lives_here(name);
        let replaced = self.install(name, generation, &origin, (snapshot, notices));
        // Others are compared with what is live from here on.
        drop(passed);
        if let Some(plugin) = self.registry().plugins.get_mut(name) {
            plugin.checkpoint = restored.clone().map(|it| Checkpoint::at_first(it, began));
        }
        self.keep_checkpoints(&info);
        self.look_after_process(&info);
        if let Some(snapshot) = restored {
            self.keep_restored(&info, snapshot);
        }
        if let Some(plugin) = self.registry().plugins.get_mut(name) {
            plugin.state_notice = notice;
        }
        drop(lock);
        Known { file, origin, info, replaced, before, how, aside, was_here }
    }

    /// Has everybody else know of it.
    async fn settle_in(self: &Arc<Self>, known: Known) -> Deployed {
        let Known { file, origin, info, replaced, before, how, aside, was_here } = known;
        // The file was another plugin before: that one has no file any more.
        if let Some((before, number)) = before.filter(|(before, _)| *before != info.plugin) {
            // It may have been replaced from another file meanwhile.
            let _ = self
                .take_out(&before, Some(number), origin.by(), "its file is another plugin now")
                .await;
        }
        let told = Told { origin: &origin, replaced: replaced.as_deref(), was_here };
        self.tell(&info, &told, how, aside.as_ref());
        match (origin, replaced) {
            (Origin::File(_) | Origin::KeptGood(_), Some(_)) => self.watch_over(&info),
            (Origin::File(_), None) => self.forget_retry(&file),
            (Origin::KeptGood(_), None) | (Origin::Earlier(_) | Origin::Chosen(_), _) => {}
        }
        Deployed { aside, ..deployed(&info) }
    }
}

fn before_the_swap(change: Change) -> (Swapped, Attaching, Option<Arc<Gate>>) {
    let Change { file, origin, ready, arrived, predecessor, before, passed, lock } = change;
    let Ready { generation, live, declared } = ready;
    if let Some(predecessor) = &predecessor {
        // What it subscribed to at run time goes with the swap, and nothing may be added after it.
        predecessor.services.detach();
    }
    let gate = predecessor.and_then(|it| it.services.session().gate().cloned());
    let attaching = (generation.services.clone(), declared, live);
    let began = Instant::now();
    let swapped = Swapped { file, origin, generation, arrived, before, passed, lock, began };
    (swapped, attaching, gate)
}

fn after_the_swap(mut swapped: Swapped, gate: Option<Arc<Gate>>) -> Swapped {
    match (swapped.arrived.held.take(), gate) {
        // It is noted once, here.
        (Some(held), _) => drop(swapped.generation.info.hand_over.set(held.commit())),
        // Calls that its process does not get go to the new one as well.
        (None, Some(gate)) => gate.hold().moved(),
        (None, None) => {}
    }
    swapped
}
