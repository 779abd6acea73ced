//! Lets generations go in the background, and tells what became of them.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::Supervisor;
use crate::{
    plugin::{
        instance::{generation::Generation, live::FirstCalls},
        lifecycle::{
            activate::Leftover,
            error::DeployError,
            prepare::Candidate,
            retire::FinalState,
            retired::{Retired, RetiredState},
        },
    },
    sync::task_tracker::Tracked,
};

/// A generation's way out, as far as others wait for it.
struct OnItsWay {
    quiet: oneshot::Sender<()>,
    drain: Option<Tracked>,
    instance: Tracked,
    final_state: Option<Tracked>,
    retirement: Tracked,
}

impl Supervisor {
    /// Lets a generation go. What is returned resolves when its instance is gone.
    pub(super) fn let_go(
        self: &Arc<Self>,
        generation: Generation,
        retired: Arc<Retired>,
        final_state: FinalState,
    ) -> oneshot::Receiver<()> {
        let (quiet, is_quiet) = oneshot::channel();
        let on_its_way = OnItsWay {
            quiet,
            drain: Some(self.departures.drains.begin()),
            instance: self.departures.begin_instance(&generation.info.plugin),
            final_state: (final_state == FinalState::Keep)
                .then(|| self.departures.begin_final_state(&generation.info)),
            retirement: self.departures.retirements.begin(),
        };
        let supervisor = self.clone();
        self.thread.runtime().spawn(async move {
            supervisor.retire(generation, &retired, on_its_way, true).await;
        });
        is_quiet
    }

    /// Lets a generation go that was never live; if its `initialize` has not ended, once it has.
    pub(super) fn let_go_leftover(self: &Arc<Self>, name: &Arc<str>, leftover: Leftover) {
        let Leftover { mut generation, creating } = leftover;
        // Its watches end, and nothing new is begun for it, so that whatever of it waits for events
        // can end.
        generation.services.detach();
        let retired = Retired::new(&generation.info);
        self.registry().remember(name, retired.clone());
        let on_its_way = self.never_live(name);
        let supervisor = self.clone();
        self.thread.runtime().spawn(async move {
            // Its future is dropped at its next await. If it ended just now, its instance goes the
            // usual way.
            if let Some(creating) = creating
                && let Some(Ok(instance)) = creating.cancel().await
            {
                let first_calls = FirstCalls { info: generation.info.clone(), journal: None };
                let (live, unused) = instance.into_live(first_calls);
                drop(live);
                generation.unused = Some(unused);
            }
            supervisor.retire(generation, &retired, on_its_way, false).await;
        });
    }

    /// Vacates the residence of a candidate that does not become a generation for this reason, if
    /// it was opened before its turn.
    pub(super) fn let_go_unused(
        self: &Arc<Self>,
        candidate: Candidate,
        reason: DeployError,
    ) -> DeployError {
        self.let_go_untaken(candidate);
        reason
    }

    /// Vacates the residence of a candidate that does not become a generation, if it was opened.
    pub(super) fn let_go_untaken(self: &Arc<Self>, mut candidate: Candidate) {
        if let Some(residence) = candidate.residence.take() {
            let name: Arc<str> = candidate.manifest.name.as_str().into();
            let number = self.registry().take_generation(&name);
            self.let_go_leftover(&name, self.activation.unused(number, candidate, residence));
        }
    }

    /// Vacates the residence of a candidate that was only looked at, if it was opened. Its plugin
    /// has no generation more by that: nothing is numbered, remembered and announced, but of one
    /// that lies in this process, and may stay in memory.
    pub(super) fn let_go_checked(self: &Arc<Self>, mut candidate: Candidate) {
        let Some(residence) = candidate.residence.take_if(|it| !it.is_here()) else {
            return self.let_go_untaken(candidate);
        };
        let name: Arc<str> = candidate.manifest.name.as_str().into();
        let Leftover { generation, .. } = self.activation.unused(0, candidate, residence);
        let retired = Retired::new(&generation.info);
        let (supervisor, on_its_way) = (self.clone(), self.never_live(&name));
        self.thread.runtime().spawn(async move {
            supervisor.vacate(generation, &retired, on_its_way, false).await;
        });
    }

    /// Of what never was live no call is waited for, and no state: a host that stops does not wait
    /// for its end.
    fn never_live(&self, name: &Arc<str>) -> OnItsWay {
        let (quiet, _) = oneshot::channel();
        OnItsWay {
            quiet,
            drain: None,
            instance: self.departures.begin_instance(name),
            final_state: None,
            retirement: self.departures.retirements.begin(),
        }
    }

    async fn retire(
        &self,
        generation: Generation,
        retired: &Retired,
        on_its_way: OnItsWay,
        was_live: bool,
    ) {
        let info = generation.info.clone();
        let _retirement = self.vacate(generation, retired, on_its_way, was_live).await;
        let cause = match retired.state() {
            RetiredState::Pinned(cause) => Some(cause),
            _ => None,
        };
        let unmapped = cause.is_none();
        tracing::debug!(plugin = %info.plugin, generation = info.number, unmapped, "retired");
        self.announcer.retired(&info, cause.as_deref(), &retired.timings());
    }

    /// Ends an instance, and vacates its residence. The retirement goes on until it is dropped.
    async fn vacate(
        &self,
        generation: Generation,
        retired: &Retired,
        on_its_way: OnItsWay,
        was_live: bool,
    ) -> Tracked {
        let OnItsWay { quiet, drain, instance, final_state, retirement } = on_its_way;
        let quieted = self.retirer.quiesce(generation, retired, final_state, was_live).await;
        // Only a host that stops waits for this.
        let _ = quiet.send(());
        drop((drain, instance));
        self.retirer.close(quieted, retired).await;
        retirement
    }
}
