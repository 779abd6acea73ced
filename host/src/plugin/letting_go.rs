//! Lets generations go in the background, and tells what became of them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::json;
use tokio::sync::oneshot;

use super::{
    activate::Leftover,
    deploy_error::DeployError,
    generation::{Generation, LiveInstance},
    ongoing::{One, Ongoing},
    prepare::Candidate,
    retire::{Legacy, Retired, RetiredState},
    supervisor::Supervisor,
};

/// Generations on their way out.
pub(super) struct Leaving {
    /// All of them.
    pub(super) retirements: Ongoing,
    /// Those whose instance is not gone.
    pub(super) drains: Ongoing,
    /// Of each plugin, those whose state is being kept for the next start.
    legacies: Mutex<BTreeMap<Arc<str>, Ongoing>>,
}

impl Leaving {
    pub(super) fn new() -> Self {
        let legacies = Mutex::default();
        Leaving { retirements: Ongoing::new(), drains: Ongoing::new(), legacies }
    }

    fn begin_legacy(&self, plugin: &Arc<str>) -> One {
        let mut legacies = self.legacies.lock().unwrap_or_else(PoisonError::into_inner);
        legacies.retain(|_, ongoing| !ongoing.is_none());
        legacies.entry(plugin.clone()).or_insert_with(Ongoing::new).begin()
    }

    /// Whether no earlier generation of a plugin has state that is still to be kept.
    pub(super) fn legacies_are_kept(&self, plugin: &str) -> bool {
        let legacies = self.legacies.lock().unwrap_or_else(PoisonError::into_inner);
        legacies.get(plugin).is_none_or(Ongoing::is_none)
    }

    /// Waits until the state of every earlier generation of a plugin is kept.
    pub(super) async fn legacy_is_kept(&self, plugin: &str) {
        let ongoing = {
            let legacies = self.legacies.lock().unwrap_or_else(PoisonError::into_inner);
            legacies.get(plugin).cloned()
        };
        if let Some(ongoing) = ongoing {
            ongoing.none().await;
        }
    }
}

/// A generation's way out, as far as others wait for it.
struct OnItsWay {
    quiet: oneshot::Sender<()>,
    drain: One,
    legacy: Option<One>,
    retirement: One,
}

impl Supervisor {
    /// Lets a generation go. What is returned resolves when its instance is gone.
    pub(super) fn let_go(
        self: &Arc<Self>,
        generation: Generation,
        retired: Arc<Retired>,
        legacy: Legacy,
    ) -> oneshot::Receiver<()> {
        let (quiet, is_quiet) = oneshot::channel();
        let on_its_way = OnItsWay {
            quiet,
            drain: self.leaving.drains.begin(),
            legacy: (legacy == Legacy::Kept)
                .then(|| self.leaving.begin_legacy(&generation.facts.plugin)),
            retirement: self.leaving.retirements.begin(),
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
        let retired = Retired::new(&generation.facts);
        self.registry().remember(name, retired.clone());
        let (quiet, _) = oneshot::channel();
        let on_its_way = OnItsWay {
            quiet,
            drain: self.leaving.drains.begin(),
            legacy: None,
            retirement: self.leaving.retirements.begin(),
        };
        let supervisor = self.clone();
        self.thread.runtime().spawn(async move {
            // Its future is dropped at its next await. If it ended just now, its instance goes the usual way.
            if let Some(creating) = creating
                && let Some(Ok(instance)) = creating.cancel().await
            {
                let (live, unused) = LiveInstance::new(instance);
                drop(live);
                generation.unused = Some(unused);
            }
            supervisor.retire(generation, &retired, on_its_way, false).await;
        });
    }

    /// Closes the library of a candidate that does not become a generation for this reason, if it was opened before its
    /// turn.
    pub(super) fn let_go_unused(
        self: &Arc<Self>,
        name: &Arc<str>,
        mut candidate: Candidate,
        reason: DeployError,
    ) -> DeployError {
        if let Some(library) = candidate.library.take() {
            let number = self.registry().take_generation(name);
            self.let_go_leftover(name, self.activation.unused(number, candidate, library));
        }
        reason
    }

    async fn retire(
        &self,
        generation: Generation,
        retired: &Retired,
        on_its_way: OnItsWay,
        was_live: bool,
    ) {
        let OnItsWay { quiet, drain, legacy, retirement } = on_its_way;
        let facts = generation.facts.clone();
        let quieted = self.retirer.quiesce(generation, retired, legacy, was_live).await;
        // Only a host that stops waits for this.
        let _ = quiet.send(());
        drop(drain);
        self.retirer.close(quieted, retired).await;
        let (unmapped, cause) = match retired.state() {
            RetiredState::Pinned(cause) => (false, Some(cause)),
            _ => (true, None),
        };
        tracing::debug!(plugin = %facts.plugin, generation = facts.number, unmapped, "retired");
        let timings = retired.timings().millis();
        let more = json!({ "unmapped": unmapped, "cause": cause, "timings_ms": timings });
        self.announcer.generation("module:retired", &facts, "retired", more);
        drop(retirement);
    }
}
