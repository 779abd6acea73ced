//! Hands a plugin's state from its live generation to the next.
//!
//! The events of the plugin are held, those that are inside end, the old instance gives a snapshot
//! and the new one restores it. Whoever commits then swaps the routes and lets the events go on to
//! the new generation ([`Held::commit`]). Whatever fails before that, the gate opens again and the
//! old generation goes on with all that waited: nothing has happened.

mod error;

use std::{
    future::Future,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use ksi_kernel::{
    call::gate::{Gate, GateHold},
    executor::workers::Workers,
    router::Router,
};
use tokio::time::timeout;

pub use error::HandOverError;
pub(in crate::plugin) use error::not_aside;
use error::overfull;

use super::policy::Policy;
use crate::plugin::{
    instance::{
        generation::is_down,
        info::{GenerationInfo, Timings},
        live::LiveInstance,
        services::HostServices,
    },
    state::snapshot::{self, Snapshot, StateError, TransferStep, Transferred},
};

/// What cancelled calls get to end. A call that does not return from a poll cannot be ended.
pub(in crate::plugin) const PATIENCE: Duration = Duration::from_secs(2);
/// What a snapshot and a restore get at least, however long the calls took to end.
const LEAST: Duration = Duration::from_secs(1);

/// The generation that gives its state away. It is not held: a host that stops must be able to let
/// it go meanwhile.
pub(crate) struct Predecessor {
    pub(crate) info: Arc<GenerationInfo>,
    pub(crate) services: Arc<HostServices>,
    pub(crate) live: Weak<dyn LiveInstance>,
}

impl Predecessor {
    /// Whether what its instance runs in is gone, and another instance is not there yet.
    pub(in crate::plugin) fn is_down(&self) -> bool {
        is_down(&self.live)
    }

    /// Its calls that have not ended hold the hand-over up.
    pub(in crate::plugin) fn busy(&self, after: Duration) -> HandOverError {
        HandOverError::Busy { calls: self.info.running(), after }
    }

    /// Has those calls end at their next await.
    pub(in crate::plugin) fn cancel_calls(&self) {
        tracing::warn!(
            plugin = %self.info.plugin, generation = self.info.number,
            "cancelling calls that hold up the hand-over of its state: {}", self.info.running()
        );
        self.services.session().cancel_present_calls();
    }

    /// Takes a snapshot of what it has now.
    pub(crate) async fn snapshot(
        &self,
        workers: &Workers,
        version: u32,
        limit: Duration,
    ) -> Result<Snapshot, StateError> {
        match self.live.upgrade() {
            Some(live) => snapshot::snapshot(workers, live, version, limit).await,
            None => Err(StateError::gone()),
        }
    }
}

/// What is to be handed over.
pub(crate) enum Wanted {
    /// A snapshot of this version.
    Version(u32),
    /// Not what the predecessor has now, but another snapshot; or nothing. Its calls are not waited
    /// for beyond the deadline.
    Instead {
        state: Option<Snapshot>,
        /// For people and programs: what that is.
        how: &'static str,
        /// What is kept of that which the predecessor has now. `None` for a predecessor that is
        /// bad: it is not asked.
        aside: Option<SetAsideRequest>,
    },
}

impl Wanted {
    /// Whether nothing is given up that could be kept aside.
    pub(in crate::plugin) fn requires_aside(&self) -> bool {
        matches!(self, Wanted::Instead { aside: Some(SetAsideRequest { required: true, .. }), .. })
    }
}

/// A snapshot that is taken to be kept aside.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SetAsideRequest {
    pub(crate) version: u32,
    /// Without it, nothing is given up, unless the predecessor itself fails to give one.
    pub(crate) required: bool,
}

/// State that is given up.
pub(crate) struct GivenUp {
    pub(crate) taken: Result<Snapshot, StateError>,
    /// It has to be on the disk before.
    pub(crate) required: bool,
}

/// Hands state over, for one plugin at a time, or for those that change as one: others that hold
/// their events could wait for each other.
pub(crate) struct HandOver {
    router: Arc<Router>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// A plugin's events, held until what they wait for is there. When this is dropped, the old
/// generation gets them.
pub(crate) struct Held {
    hold: GateHold,
    policy: Policy,
    started: Instant,
    timings: Timings,
    _turn: Arc<tokio::sync::OwnedMutexGuard<()>>,
}

/// State that has arrived, with the plugin's events still held.
pub(crate) struct HandedOver {
    pub(crate) held: Held,
    /// What was taken over.
    pub(crate) snapshot: Option<Snapshot>,
    /// What was given up for it, if that was asked for.
    pub(crate) aside: Option<GivenUp>,
}

impl Held {
    fn begin(hold: GateHold, policy: Policy, turn: Arc<tokio::sync::OwnedMutexGuard<()>>) -> Self {
        let (started, timings) = (Instant::now(), Timings::default());
        Held { hold, policy, started, timings, _turn: turn }
    }

    /// Right after the swap: lets the events go on. How long each step took.
    pub(crate) fn commit(self) -> Timings {
        let Held { hold, started, mut timings, .. } = self;
        hold.moved();
        timings.note("hold", started.elapsed());
        timings
    }

    /// Notes how long a step took.
    pub(in crate::plugin) fn note(&mut self, step: &'static str, since: Instant) {
        self.timings.note(step, since.elapsed());
    }

    /// What is left until the deadline of the hold, and what each step gets at least.
    pub(in crate::plugin) fn rest(&self) -> Duration {
        self.policy.hold.saturating_sub(self.started.elapsed()).max(LEAST)
    }

    /// Does what is to be done while events wait, unless as many wait as may before it is done.
    pub(in crate::plugin) async fn while_waiting<T>(
        &self,
        step: &str,
        work: impl Future<Output = T>,
    ) -> Result<T, HandOverError> {
        let done = self.hold.while_waiting(work).await;
        done.map_err(|full| overfull(step.to_owned(), full))
    }

    /// Waits until as many events wait as may before `step`.
    pub(in crate::plugin) async fn full(&self, step: &str) -> HandOverError {
        overfull(step.to_owned(), self.hold.full().await)
    }

    /// Waits for the calls that are inside, as the policy says.
    pub(in crate::plugin) async fn quiet(
        &mut self,
        predecessor: &Predecessor,
        bad: bool,
    ) -> Result<(), HandOverError> {
        let quiet = self.calls_end(predecessor, bad).await;
        self.timings.note("quiet", self.started.elapsed());
        quiet
    }

    async fn calls_end(&self, predecessor: &Predecessor, bad: bool) -> Result<(), HandOverError> {
        let Held { hold, policy, .. } = self;
        let full =
            |full| overfull(format!("its calls had ended: {}", predecessor.info.running()), full);
        if let Ok(quiet) = timeout(policy.hold, hold.quiet()).await {
            return quiet.map_err(full);
        }
        if policy.keep_calls && !bad {
            return Err(predecessor.busy(policy.hold));
        }
        predecessor.cancel_calls();
        match timeout(PATIENCE, hold.quiet()).await {
            Ok(quiet) => quiet.map_err(full),
            Err(_) => Err(predecessor.busy(policy.hold)),
        }
    }
}

impl HandOver {
    pub(crate) fn new(router: Arc<Router>) -> Self {
        HandOver { router, turn: Arc::default() }
    }

    /// Holds a plugin's events from here on.
    pub(in crate::plugin) async fn hold(&self, gate: &Arc<Gate>, policy: Policy) -> Held {
        let turn = Arc::new(self.turn.clone().lock_owned().await);
        Held::begin(gate.hold(), policy, turn)
    }

    /// Holds the events of several plugins from here on, which end their calls together.
    pub(in crate::plugin) async fn hold_together(
        &self,
        gates: &[(Arc<Gate>, Policy)],
    ) -> Vec<Held> {
        let turn = Arc::new(self.turn.clone().lock_owned().await);
        let (gates, mut policies): (Vec<_>, Vec<_>) = gates.iter().cloned().unzip();
        // All wait for the calls of all.
        let hold = policies.iter().map(|policy| policy.hold).max().unwrap_or_default();
        policies.iter_mut().for_each(|policy: &mut Policy| policy.hold = hold);
        let holds = Gate::hold_together(&gates).into_iter().zip(policies);
        holds.map(|(hold, policy)| Held::begin(hold, policy, turn.clone())).collect()
    }

    /// From the first held event to the restored state. `None` when the predecessor holds no
    /// events, as it keeps no state.
    pub(crate) async fn run(
        &self,
        predecessor: &Predecessor,
        new: &Arc<dyn LiveInstance>,
        wanted: Wanted,
        policy: Policy,
    ) -> Result<Option<HandedOver>, HandOverError> {
        let Some(gate) = predecessor.services.session().gate() else { return Ok(None) };
        let held = self.hold(gate, policy).await;
        self.run_held(held, predecessor, new, wanted).await.map(Some)
    }

    /// The same with the predecessor's events held by now.
    pub(in crate::plugin) async fn run_held(
        &self,
        mut held: Held,
        predecessor: &Predecessor,
        new: &Arc<dyn LiveInstance>,
        wanted: Wanted,
    ) -> Result<HandedOver, HandOverError> {
        // However many events wait for somebody who is bad, going on with it is no better.
        let bad = matches!(wanted, Wanted::Instead { .. });
        let required = wanted.requires_aside();
        let quiet = held.quiet(predecessor, bad).await;
        let workers = self.router.workers();
        let mut aside = None;
        let snapshot = match wanted {
            Wanted::Version(version) => {
                quiet?;
                let gone = StateError::Snapshot { reason: "the plugin is gone".to_owned() };
                let live = predecessor.live.upgrade().ok_or(HandOverError::Snapshot(gone))?;
                let (new, rest, progress) = (new.clone(), held.rest(), TransferStep::default());
                let transfer =
                    snapshot::transfer(workers, live, new, version, rest, progress.clone());
                let transferred = held.hold.while_waiting(transfer).await.map_err(|full| {
                    let step = match progress.is_restoring() {
                        true => "its snapshot was restored",
                        false => "its snapshot was taken",
                    };
                    overfull(step.to_owned(), full)
                })?;
                let Transferred { snapshot, taking, restoring } =
                    transferred.map_err(|error| match progress.is_restoring() {
                        true => HandOverError::Restore(error),
                        false => HandOverError::Snapshot(error),
                    })?;
                held.timings.note("snapshot", taking);
                held.timings.note("restore", restoring);
                Some(snapshot)
            }
            // Whatever it still does: it is given up, unless what it has is to be kept first.
            Wanted::Instead { state, aside: wanted, .. } => {
                if required {
                    quiet.map_err(|error| not_aside(required, error))?;
                }
                if let Some(SetAsideRequest { version, required }) = wanted {
                    let taken = predecessor.snapshot(workers, version, held.rest());
                    let taken = held.while_waiting("its snapshot was taken", taken).await;
                    let taken = taken.map_err(|error| not_aside(required, error))?;
                    aside = Some(GivenUp { taken, required });
                }
                if let Some(snapshot) = &state {
                    let began = Instant::now();
                    let restore =
                        snapshot::restore(workers, new.clone(), snapshot.clone(), held.rest());
                    restore.await.map_err(HandOverError::Restore)?;
                    held.note("restore", began);
                }
                state
            }
        };
        Ok(HandedOver { held, snapshot, aside })
    }
}
