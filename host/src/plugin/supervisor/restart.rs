//! What follows when the process of a live plugin has ended: the same generation gets another one,
//! as a supervisor of Erlang/OTP restarts one of its children and no other (`one_for_one`).
//!
//! Events wait at the plugin's gate meanwhile, for as long as the operator lets them; beyond that
//! they are refused with the reason until there is an instance again. The state is what was kept
//! last. A version on probation is not started again: the one before it takes its place.
//!
//! Ends that come too often (`intensity` in a `period`) are the plugin's own doing, and it stays
//! down. Each further start waits twice as long as the one before.

mod ends;
mod waiting;

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

pub(crate) use ends::{Ends, RestartPolicies, RestartPolicy, RestartWhen};
use waiting::WaitingEvents;

use super::{
    Supervisor,
    reinstate::{NotAgain, NotAgainKind},
    rollback::Asked,
};
use crate::{
    history::{HOST, PROBATION},
    plugin::{
        instance::{info::GenerationInfo, residence::ProcessEnd, services::HostServices},
        lifecycle::{error::DeployError, hand_over::Predecessor, retire::FinalState},
        worker::down::Down,
    },
    sync::keyed_lock::LockKey,
};

/// What comes before another process is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// One has ended, or did not get ready.
    End,
    /// One was given up for somebody who waited.
    GivingWay,
    /// None could be started, and as often before. That is no end of the plugin's, so it is tried
    /// for as long as it takes.
    NotStarted(u32),
}

/// Why a call is not made that a process did not get before it ended, when no other comes.
const STOPPING: &str = "its process ended before it got the call, and the host is stopping";

impl Supervisor {
    /// Follows up on ends of processes, until the host is gone.
    pub(crate) fn follow_ends(self: &Arc<Self>, mut ends: mpsc::UnboundedReceiver<Down>) {
        let supervisor = Arc::downgrade(self);
        self.thread.runtime().spawn(async move {
            while let Some(down) = ends.recv().await {
                let Some(supervisor) = supervisor.upgrade() else { return };
                tokio::spawn(async move { supervisor.after_end(down).await });
            }
        });
    }

    /// What follows the end of one process.
    pub(super) async fn after_end(self: Arc<Self>, down: Down) {
        // Others end in the course of a replacement or of a stop, and whoever sees to that knows,
        // but for the calls that they never got.
        let Some(gone) = self.gone(&down.plugin, down.generation) else {
            if self.stop.is_requested() {
                down.calls_are_refused(STOPPING);
            } else if self.is_passed(&down) {
                down.calls_wait_at_gate();
            }
            return;
        };
        // Of a process that was not ready yet, whoever waits for it knows.
        if !std::ptr::eq(down.services.as_ptr(), Arc::as_ptr(&gone.services)) {
            return;
        }
        if self.is_seen_to(&gone) {
            return;
        }
        let supervisor = self.clone();
        supervisor.sees_to_end(&gone, &down.end).await;
        if let Some(plugin) = self.registry().plugins.get_mut(&gone.info.plugin)
            && plugin.restarting.as_ref().is_some_and(|seen| seen.ptr_eq(&mark_of(&gone)))
        {
            plugin.restarting = None;
        }
    }

    /// Whether there is another generation of its plugin by now, or none any more.
    fn is_passed(&self, down: &Down) -> bool {
        let registry = self.registry();
        registry.plugins.get(&down.plugin).is_some_and(|plugin| match &plugin.live {
            Some(_) => plugin.info.number > down.generation,
            None => plugin.info.number >= down.generation,
        })
    }

    /// Whether somebody sees to the end of this instance's process already; from here on somebody
    /// does.
    fn is_seen_to(&self, gone: &Predecessor) -> bool {
        let mut registry = self.registry();
        let Some(plugin) = registry.plugins.get_mut(&gone.info.plugin) else { return true };
        let mark = mark_of(gone);
        let before = plugin.restarting.replace(mark.clone());
        before.is_some_and(|before| before.ptr_eq(&mark))
    }

    /// A generation has become live: if its process has ended just before, that is seen to now.
    pub(super) fn look_after_process(self: &Arc<Self>, info: &GenerationInfo) {
        let Some(gone) = self.gone(&info.plugin, info.number) else { return };
        let ended = {
            let registry = self.registry();
            let live = registry.plugins.get(&info.plugin).and_then(|plugin| plugin.live.as_ref());
            live.and_then(|live| live.residence.process()?.ended)
        };
        if let Some(end) = ended {
            let (supervisor, plugin) = (self.clone(), info.plugin.clone());
            let services = Arc::downgrade(&gone.services);
            let down = Down::found(services, plugin, info.number, end);
            self.thread.runtime().spawn(async move { supervisor.after_end(down).await });
        }
    }

    async fn sees_to_end(self: &Arc<Self>, gone: &Predecessor, end: &ProcessEnd) {
        let mut waiting = WaitingEvents::of(self, gone);
        let info = gone.info.clone();
        tracing::error!(
            plugin = %info.plugin, generation = info.number, version = info.manifest.version,
            "{}", end.why
        );
        self.announcer.worker_down(&info, &end.why);
        // Whatever follows, what was taken last is on the disk.
        let checkpoint = {
            let registry = self.registry();
            registry.plugins.get(&info.plugin).and_then(|plugin| plugin.checkpoint.clone())
        };
        if let (Some(checkpoint), Some(persistence)) = (checkpoint, &self.persistence)
            && !persistence.knows_more_than(&info.plugin, checkpoint.snapshot.asked)
        {
            waiting.during(&end.why, self.keep_state_of(&info, Some(checkpoint.snapshot))).await;
        }
        if waiting.during(&end.why, self.goes_back_from(&info, end)).await {
            return;
        }
        let policy = (self.restarts)(&info.plugin);
        if policy.when == RestartWhen::Never
            || policy.when == RestartWhen::OnCrash && end.by_its_will
        {
            let reason = format!("{}, and it is not started again (isolation.restart)", end.why);
            return self.stays_down(gone, waiting, &reason).await;
        }
        self.restart(gone, waiting, &policy, end).await;
    }

    /// The live generation of a plugin, if it is this one, what it ran in is gone, and the host
    /// does not stop.
    fn gone(&self, plugin: &str, generation: u64) -> Option<Predecessor> {
        self.ensure_running().ok().and_then(|()| self.without_process(plugin, generation))
    }

    /// The same, also of a host that stops.
    fn without_process(&self, plugin: &str, generation: u64) -> Option<Predecessor> {
        let live = self.predecessor(plugin).filter(|live| live.info.number == generation)?;
        let released = self.registry().plugins.get(plugin)?.released;
        (live.is_down() && !released).then_some(live)
    }

    /// Goes back to the version before if this one is on probation. Whether that is there again.
    async fn goes_back_from(self: &Arc<Self>, info: &GenerationInfo, end: &ProcessEnd) -> bool {
        let on_probation = {
            let registry = self.registry();
            let plugin = registry.plugins.get(&info.plugin);
            plugin.is_some_and(|plugin| plugin.compared_with(info.number).is_some())
        };
        if !on_probation {
            return false;
        }
        let reason = end.why.clone();
        let asked = Asked::Automatic { from: info.number };
        match self.go_back(&info.plugin, asked, &PROBATION, &reason).await {
            Ok(_) => true,
            Err(
                DeployError::NotLive { .. }
                | DeployError::NoSuchPlugin { .. }
                | DeployError::Stopping,
            ) => true,
            Err(error) => {
                self.cannot_go_back(info, &reason, &error);
                false
            }
        }
    }

    /// Starts another process until it works, its plugin is another one, or it ends too often.
    async fn restart(
        self: &Arc<Self>,
        gone: &Predecessor,
        mut waiting: WaitingEvents<'_>,
        policy: &RestartPolicy,
        end: &ProcessEnd,
    ) {
        let (info, began) = (&gone.info, Instant::now());
        let mut why = end.why.clone();
        let mut after = After::End;
        loop {
            let wait = match after {
                After::End => self.one_more_end(&info.plugin, policy),
                After::GivingWay => Some(Duration::ZERO),
                After::NotStarted(times) => Some(policy.wait(times)),
            };
            let Some(wait) = wait else {
                let reason = format!(
                    "{why}; it has ended {} times within {} (isolation.intensity, \
                     isolation.period)",
                    policy.intensity + 1,
                    humantime::format_duration(policy.period)
                );
                return self.stays_down(gone, waiting, &reason).await;
            };
            waiting.during(&why, tokio::time::sleep(wait)).await;
            let lock = self.locks.lock(LockKey::Plugin(info.plugin.clone()));
            let lock = waiting.during(&why, lock).await;
            let Some(gone) = self.gone(&info.plugin, info.number) else {
                // Somebody has replaced or unloaded it meanwhile, or the host stops.
                return waiting.refuse(&why);
            };
            let state = match waiting.during(&why, self.state_kept_last(info)).await {
                Ok(state) => state,
                Err(reason) => {
                    drop(lock);
                    // To begin with nothing would take the place of what is there.
                    return self.stays_down(&gone, waiting, &format!("{why}; {reason}")).await;
                }
            };
            // Nothing of that process looks on, or is kept for it alone, any more.
            gone.services.detach();
            self.let_go_of_instance(info);
            // Once for each end: whoever waits has a version that may be better.
            let may_give_way = after != After::GivingWay;
            let given_up = async {
                tokio::select! {
                    () = lock.wanted(), if may_give_way => {}
                    () = self.stop.requested() => {}
                }
            };
            match waiting.during(&why, self.again(&gone, state, given_up)).await {
                Ok(()) => {
                    waiting.moved();
                    // It may have ended before it was live, which nobody else follows up on.
                    if let Some(gone) = self.gone(&info.plugin, info.number) {
                        if self.is_seen_to(&gone) {
                            return;
                        }
                        why = "its new process ended when it had just got ready".to_owned();
                        after = After::End;
                        waiting = WaitingEvents::since(began, self, &gone);
                        continue;
                    }
                    let restarts = self.is_restarted(info);
                    drop(lock);
                    tracing::info!(
                        plugin = %info.plugin, generation = info.number, restarts,
                        "it has another process, after {:?}", began.elapsed()
                    );
                    let process = self.process_of(&info.plugin);
                    self.announcer.worker_restarted(info, process, restarts, &why);
                    return;
                }
                Err(_) if self.stop.is_requested() => return waiting.refuse(&why),
                Err(NotAgain { kind: NotAgainKind::GivenUp, .. }) => after = After::GivingWay,
                Err(NotAgain { reason, kind }) => {
                    tracing::error!(
                        plugin = %info.plugin, generation = info.number,
                        "its new process does not get ready: {reason}"
                    );
                    why = reason;
                    after = match (kind, after) {
                        (NotAgainKind::NotStarted, After::NotStarted(times)) => {
                            After::NotStarted(times.saturating_add(1))
                        }
                        (NotAgainKind::NotStarted, _) => After::NotStarted(0),
                        _ => After::End,
                    };
                }
            }
            drop(lock);
        }
    }

    /// Notes that one more process of a plugin has ended: the wait before the next one is started,
    /// if there is to be one.
    fn one_more_end(&self, name: &str, policy: &RestartPolicy) -> Option<Duration> {
        let mut registry = self.registry();
        let plugin = registry.plugins.get_mut(name);
        plugin?.ends.add(Instant::now(), policy)
    }

    /// The instance whose process is gone is of no use to anybody.
    fn let_go_of_instance(self: &Arc<Self>, info: &GenerationInfo) {
        let unused = {
            let mut registry = self.registry();
            let plugin = registry.plugins.get_mut(&info.plugin);
            plugin.and_then(|plugin| plugin.live.as_mut()?.unused.take())
        };
        let Some(unused) = unused else { return };
        let workers = self.router.clone();
        self.thread.runtime().spawn(async move {
            if let Ok(instance) = unused.await {
                workers.workers().spawn_life_cycle(async move { drop(instance) }).await;
            }
        });
    }

    /// A plugin has an instance again; how often that was.
    fn is_restarted(&self, info: &GenerationInfo) -> u64 {
        let mut registry = self.registry();
        let Some(plugin) = registry.plugins.get_mut(&info.plugin) else { return 0 };
        plugin.restarts += 1;
        plugin.restarts
    }

    /// A plugin gets no further process for now.
    async fn stays_down(
        self: &Arc<Self>,
        gone: &Predecessor,
        mut waiting: WaitingEvents<'_>,
        reason: &str,
    ) {
        let info = &gone.info;
        waiting.for_somebody_else();
        let lock = self.locks.lock(LockKey::Plugin(info.plugin.clone()));
        let lock = waiting.during(reason, lock).await;
        if self.gone(&info.plugin, info.number).is_none() {
            return;
        }
        tracing::error!(
            plugin = %info.plugin, generation = info.number, "it is not live any more: {reason}"
        );
        let state = waiting.during(reason, self.state_kept_last(info)).await.ok().flatten();
        if state.is_some() {
            waiting.during(reason, self.keep_state_of(info, state.clone())).await;
        }
        if let Some(plugin) = self.registry().plugins.get_mut(&info.plugin) {
            plugin.orphaned = state;
        }
        if let Ok((generation, retired)) = self.disconnect(&info.plugin, Some(info.number)) {
            // Those that found the process gone are told so, and those that wait find nobody.
            generation.residence.withdraw();
            drop(self.let_go(generation, retired, FinalState::HandedOver));
        }
        waiting.moved();
        if let Some(plugin) = self.registry().plugins.get_mut(&info.plugin) {
            plugin.last_error = Some(reason.to_owned());
        }
        drop(lock);
        self.announcer.unloaded(info, &HOST, reason);
    }
}

/// Tells one instance of a generation from another, also when it is gone.
fn mark_of(gone: &Predecessor) -> Weak<HostServices> {
    Arc::downgrade(&gone.services)
}
