//! How a generation goes: its calls end, it is shut down, and its library leaves memory.
//!
//! In this order, because each step relies on the one before: no route leads to it any more (the
//! swap saw to that); the calls in flight end; its tasks are dropped, its shutdown handlers run and
//! its instance is dropped, all on dispatch workers; its signal handlers are taken out; the workers
//! are exchanged and the old threads joined, because their thread-locals may hold the library;
//! nothing of the plugin refers to the host any more; nothing else in the process needs the library
//! ([`leftovers`](crate::plugin::instance::leftovers)); dlclose; and a look into the memory map.

mod exchange;
mod vacate;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_task::Task;
use ksi_kernel::{event::Payload, router::Router};
use tokio::{
    sync::watch,
    time::{sleep, sleep_until, timeout},
};

use super::{
    directed,
    policy::Policies,
    retired::{Retired, RetiredState},
};
use crate::{
    plugin::{
        announce::Announcer,
        instance::{
            body::{Body, Unused},
            generation::Generation,
            info::{GenerationInfo, SHUTDOWN_EVENT},
            services::HostServices,
        },
        state::persistence::Persistence,
    },
    sync::task_tracker::Tracked,
};

/// After this long in one step of its end, a generation counts as pinned, with what it waits for as
/// the cause.
const PATIENCE: Duration = Duration::from_secs(2);
/// What the last snapshot gets, and the file that it goes to.
const LAST_SNAPSHOT: Duration = Duration::from_secs(15);

/// Lets generations go.
pub(crate) struct Retirer {
    announcer: Announcer,
    router: Arc<Router>,
    policies: Policies,
    shutdown: Duration,
    persistence: Option<Arc<Persistence>>,
    /// Set when the host stops: until when calls are waited for then.
    ending: watch::Sender<Option<Instant>>,
    /// Makes retirements that run at the same time share one exchange of the workers.
    turn: tokio::sync::Mutex<()>,
}

/// What becomes of the state of a generation at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FinalState {
    /// It is kept for the next start.
    Keep,
    /// Another generation has it, or there never was any.
    HandedOver,
}

/// A generation whose instance is gone.
pub(crate) struct Quiet(Generation);

impl Retirer {
    /// `shutdown` is what each shutdown handler gets.
    pub(crate) fn new(
        router: Arc<Router>,
        policies: Policies,
        shutdown: Duration,
        persistence: Option<Arc<Persistence>>,
        announcer: Announcer,
    ) -> Self {
        Retirer {
            announcer,
            router,
            policies,
            shutdown,
            persistence,
            ending: watch::Sender::new(None),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// The host stops: no call is waited for beyond `until`, and those that were let go on beyond
    /// their own drain timeout are not any more. Otherwise the host would have ended before the
    /// state of their plugin is kept. It may be said once more, with an earlier moment.
    pub(crate) fn end_all(&self, until: Instant) {
        self.ending.send_replace(Some(until));
    }

    /// Waits until the host stops.
    async fn ending(&self) {
        // The sender lives in `self`, so there is no other end.
        let _ = self.ending.subscribe().wait_for(Option::is_some).await;
    }

    /// Waits until the host stops and waits for no call any more.
    async fn ended(&self) {
        let mut ending = self.ending.subscribe();
        loop {
            let until = *ending.borrow_and_update();
            let ended = async {
                match until {
                    Some(until) => sleep_until(until.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = ended => return,
                _ = ending.changed() => {}
            }
        }
    }

    /// A generation stays in memory for now.
    fn pin(&self, info: &GenerationInfo, retired: &Retired, cause: String) {
        tracing::warn!(
            plugin = %info.plugin, generation = info.number,
            "its library stays in memory for now: {cause}"
        );
        self.announcer.pinned(info, &cause);
        retired.set(RetiredState::Pinned(cause));
    }

    /// The first half: until the instance is dropped. No route may lead to the generation any more.
    /// With a `final_state`, its state is kept for the next start, which waits for that to be
    /// dropped. One that never was live is not told that it goes: it might write its empty state
    /// where the live generation has its own.
    pub(crate) async fn quiesce(
        &self,
        mut generation: Generation,
        retired: &Retired,
        final_state: Option<Tracked>,
        was_live: bool,
    ) -> Quiet {
        let (info, began) = (generation.info.clone(), Instant::now());
        let mut instance = match generation.unused.take() {
            Some(unused) => self.drained(&info, &generation, unused, retired).await,
            // Its `initialize` did not succeed; tasks that it started may be there all the same.
            None => None,
        };
        retired.note("drain", began);
        if let (Some(_), Some(persistence)) = (&final_state, &self.persistence)
            && let Some(last) = instance.take()
        {
            let mut keeping = std::pin::pin!(persistence.keep_last(&self.router, &info, last));
            instance = match timeout(LAST_SNAPSHOT, &mut keeping).await {
                Ok(instance) => Some(instance),
                Err(_) => {
                    let cause = "its snapshot does not return, and cannot be ended from outside";
                    self.pin(&info, retired, cause.to_owned());
                    Some(keeping.await)
                }
            };
        }
        // Whoever starts next need not wait for its shutdown, which may never return.
        drop(final_state);
        self.shut_down(&info, &generation, instance, retired, was_live).await;
        Quiet(generation)
    }

    /// Waits for the calls in flight. What becomes of those that outlast the drain timeout is the
    /// policy's.
    async fn drained(
        &self,
        info: &GenerationInfo,
        generation: &Generation,
        mut unused: Unused,
        retired: &Retired,
    ) -> Option<Box<dyn Body>> {
        let policy = (self.policies)(&info.plugin);
        tokio::select! {
            biased;
            instance = &mut unused => return instance.ok(),
            () = sleep(policy.drain) => {}
            () = self.ended() => {}
        }
        if policy.keep_calls && self.ending.borrow().is_none() {
            let cause = format!("calls in flight are let go on: {}", info.running());
            self.pin(info, retired, cause);
            tokio::select! {
                instance = &mut unused => return instance.ok(),
                () = self.ending() => {}
            }
        }
        tracing::warn!(
            plugin = %info.plugin, generation = info.number,
            "cancelling calls that have not ended within the drain timeout: {}", info.running()
        );
        generation.services.session().cancel_calls();
        if let Ok(instance) = timeout(PATIENCE, &mut unused).await {
            return instance.ok();
        }
        let cause =
            format!("a call does not return, and cannot be ended from outside: {}", info.running());
        self.pin(info, retired, cause);
        unused.await.ok()
    }

    /// Ends the tasks, runs the shutdown handlers if it was live, and drops the instance.
    pub(crate) fn release(
        &self,
        info: &Arc<GenerationInfo>,
        services: &Arc<HostServices>,
        instance: Option<Box<dyn Body>>,
        was_live: bool,
    ) -> Task<()> {
        let (info, services) = (info.clone(), services.clone());
        let (router, limit) = (self.router.clone(), self.shutdown);
        // On threads that may block: a plugin's own runtime waits for its tasks when it is dropped.
        self.router.workers().spawn_life_cycle(async move {
            services.session().end_tasks();
            let Some(instance) = instance else { return };
            instance.end_tasks().await;
            // What it ran in may be gone.
            let is_told = was_live && instance.is_there();
            for handler in info.at_shutdown().filter(|_| is_told) {
                let event = (SHUTDOWN_EVENT, Payload::from_json_bytes(b"{}".to_vec()));
                let result = directed::call(&*instance, handler, event, limit, &router).await;
                if !result.is_ok() {
                    tracing::warn!(
                        plugin = %info.plugin, generation = info.number,
                        "its handler of {SHUTDOWN_EVENT} did not end well: {}", result.message()
                    );
                }
            }
            services.session().end_tasks();
            drop(instance);
        })
    }

    /// How long a [`release`](Self::release) takes at the most, if it returns.
    pub(crate) fn release_limit(&self, info: &GenerationInfo) -> Duration {
        let handlers = u32::try_from(info.at_shutdown().count()).unwrap_or(u32::MAX);
        self.shutdown.saturating_mul(handlers.max(1)) + PATIENCE
    }

    async fn shut_down(
        &self,
        info: &Arc<GenerationInfo>,
        generation: &Generation,
        instance: Option<Box<dyn Body>>,
        retired: &Retired,
        was_live: bool,
    ) {
        let mut task = self.release(info, &generation.services, instance, was_live);
        if timeout(self.release_limit(info), &mut task).await.is_err() {
            self.pin(
                info,
                retired,
                "its shutdown does not return, and cannot be ended from outside".into(),
            );
            task.await;
        }
    }
}
