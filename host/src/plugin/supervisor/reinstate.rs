//! What follows when the new version of an exclusive plugin has failed: an instance of the old one
//! is made again.
//!
//! The old version is known to start, so an `initialize` of it that fails has found something that
//! is not as it was: mostly that what the instance before held is not free yet, because threads of
//! its own let go of it a moment after the instance has. So it is tried a few times within a second
//! of its first failure, which is what each step of a hold gets at least. What does not end, and a
//! snapshot that it does not take, would be no different a moment later.
//!
//! Promises that every held event gets its outcome: from the instance that was made again, or as
//! rejected when the plugin is down. Does not know why the new version has failed.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::timeout;

use super::Supervisor;
use crate::{
    crash,
    history::HOST,
    plugin::{
        instance::{body::Body, info::GenerationInfo, live::FirstCalls, services::HostServices},
        lifecycle::{
            activate::{self, NotCreated},
            error::DeployError,
            hand_over::{Held, PATIENCE, Predecessor},
            retire::FinalState,
        },
        state::{
            persistence::LIMIT,
            snapshot::{self, Snapshot},
        },
    },
};

/// The wait before the second try; it doubles with each.
const FIRST: Duration = Duration::from_millis(50);
/// How long after the first one has failed another try begins at most.
const TRIES: Duration = Duration::from_secs(1);

/// Why there is no instance again.
pub(super) struct NotAgain {
    pub(super) reason: String,
    pub(super) kind: NotAgainKind,
}

/// What is to be thought of another try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotAgainKind {
    /// It may do better.
    MayPass,
    /// It would be no different.
    ForGood,
    /// It may do better: nothing of the plugin has run.
    NotStarted,
    /// This one was given up, and says nothing of it.
    GivenUp,
}

impl NotAgain {
    fn given_up() -> Self {
        NotAgain { reason: "it was given up".to_owned(), kind: NotAgainKind::GivenUp }
    }

    fn for_good(reason: &str) -> Self {
        NotAgain { reason: reason.to_owned(), kind: NotAgainKind::ForGood }
    }
}

impl Supervisor {
    /// The new version has failed: makes an instance of the old one again, which gets the held
    /// events. What is to be told.
    pub(super) async fn reinstate(
        self: &Arc<Self>,
        predecessor: &Predecessor,
        (own, state): (Option<Snapshot>, &'static str),
        held: Held,
        failed: DeployError,
    ) -> DeployError {
        let (info, source) = (&predecessor.info, Box::new(failed));
        tracing::error!(
            plugin = %info.plugin, generation = info.number,
            "making an instance of version {} again, because: {source}", info.manifest.version
        );
        if self.ensure_running().is_err() {
            // The host may end before there is an instance again.
            self.keep_state_of(info, own.clone()).await;
        }
        let version = info.manifest.version.clone();
        match self.again_in_time(predecessor, own.clone(), &held).await {
            Ok(()) => {
                held.commit();
                // It may have ended before it was live.
                self.look_after_process(info);
                DeployError::Reinstated { version, state, source }
            }
            Err(reason) => {
                self.is_down(info, own, held, &format!("{source}; {reason}")).await;
                DeployError::Down { plugin: info.plugin.clone(), version, reason, source }
            }
        }
    }

    /// Makes an instance again, and tries it a few times if its `initialize` fails: as long as no
    /// more events wait between two tries than may, and nobody wants the host to stop.
    async fn again_in_time(
        self: &Arc<Self>,
        predecessor: &Predecessor,
        own: Option<Snapshot>,
        held: &Held,
    ) -> Result<(), String> {
        let (mut wait, mut first) = (FIRST, None);
        loop {
            let again = self.again(predecessor, own.clone(), std::future::pending());
            let NotAgain { reason, kind } = match again.await {
                Ok(()) => {
                    let name = &predecessor.info.plugin;
                    if let Some(plugin) = self.registry().plugins.get_mut(name) {
                        plugin.reinstated += 1;
                    }
                    return Ok(());
                }
                Err(not_again) => not_again,
            };
            // Not from the start: the new version's instance may have taken long to go.
            let (deadline, why) =
                first.get_or_insert_with(|| (Instant::now() + TRIES, reason.clone()));
            let why = if *why == reason { reason } else { format!("{why}; then: {reason}") };
            let may_pass = matches!(kind, NotAgainKind::MayPass | NotAgainKind::NotStarted);
            if !may_pass || Instant::now() + wait > *deadline {
                return Err(why);
            }
            let info = &predecessor.info;
            tracing::warn!(
                plugin = %info.plugin, generation = info.number,
                "no instance of version {} was made; it is tried once more in {}: {why}",
                info.manifest.version, humantime::format_duration(wait)
            );
            let waited = async {
                tokio::select! {
                    () = tokio::time::sleep(wait) => true,
                    () = self.stop.requested() => false,
                }
            };
            match held.while_waiting("an instance was made again", waited).await {
                Ok(true) => wait *= 2,
                Ok(false) | Err(_) => return Err(why),
            }
        }
    }

    /// Makes an instance of a live generation again, in place of the one that was released, unless
    /// it is given up before that has its state.
    pub(super) async fn again(
        self: &Arc<Self>,
        predecessor: &Predecessor,
        own: Option<Snapshot>,
        given_up: impl Future<Output = ()>,
    ) -> Result<(), NotAgain> {
        let mut given_up = pin!(given_up);
        let (info, limit) = (&predecessor.info, self.activation.init_timeout);
        let name = &info.plugin;
        // Of one that is not exclusive, an earlier version may have calls that go on.
        if self.is_exclusive(&info.manifest)
            && timeout(PATIENCE, self.departures.instances_are_gone(name)).await.is_err()
        {
            return Err(NotAgain::for_good("another instance of it does not end"));
        }
        let services = self.activation.services(info.number, &info.manifest, &info.file);
        let creation = {
            let mut registry = self.registry();
            let plugin = registry.plugins.get_mut(name);
            let generation = plugin.and_then(|plugin| plugin.live.as_mut());
            let generation =
                generation.ok_or_else(|| NotAgain::for_good("the host has let it go"))?;
            activate::create(&*generation.residence, &info.config.lock(), &services)
        };
        // The version is trusted: what is told of it, if the host dies of it after all, is not
        // noted.
        let noted = crash::note(None, &info.about("its initialize".to_owned()));
        let instance = self.activation.instance(creation, limit, &mut given_up, noted);
        let instance = match instance.await {
            Ok(instance) => instance,
            Err(not_created) => return Err(self.not_again(info, &services, not_created)),
        };
        let first_calls = FirstCalls { info: info.clone(), journal: None };
        let (live, unused) = instance.into_live(first_calls);
        if let Some(own) = own {
            let restore = snapshot::restore(self.router.workers(), live.clone(), own, limit);
            let not_restored = tokio::select! {
                biased;
                restored = restore => {
                    restored.err().map(|error| NotAgain::for_good(&error.to_string()))
                }
                () = &mut given_up => Some(NotAgain::given_up()),
            };
            if let Some(not_again) = not_restored {
                drop(live);
                self.let_go_failed(info, &services, async { unused.await.ok() });
                return Err(not_again);
            }
        }
        let keeper = live.keeper();
        let declared = services.session().declared_again(live.clone(), keeper.as_ref());
        let mut unused = Some(unused);
        if let Some(plugin) = self.registry().plugins.get_mut(name)
            && let Some(generation) = &mut plugin.live
        {
            plugin.released = false;
            plugin.released_with = None;
            generation.services = services.clone();
            generation.live = Arc::downgrade(&live);
            generation.unused = unused.take();
        }
        if let Some(unused) = unused {
            drop((declared, live));
            self.let_go_failed(info, &services, async { unused.await.ok() });
            return Err(NotAgain::for_good("the host has let it go"));
        }
        services.attach(declared, live);
        Ok(())
    }

    /// Why an instance was not made again. What there is of it goes.
    fn not_again(
        self: &Arc<Self>,
        info: &Arc<GenerationInfo>,
        services: &Arc<HostServices>,
        not_created: NotCreated,
    ) -> NotAgain {
        match not_created {
            NotCreated::Undescribed(reason) | NotCreated::Failed(reason) => {
                self.let_go_failed(info, services, async { None });
                NotAgain { reason, kind: NotAgainKind::MayPass }
            }
            NotCreated::NotStarted(reason) => {
                self.let_go_failed(info, services, async { None });
                NotAgain { reason, kind: NotAgainKind::NotStarted }
            }
            NotCreated::GivenUp(creating) => {
                self.let_go_failed(info, services, async {
                    creating.cancel().await.and_then(Result::ok)
                });
                NotAgain::given_up()
            }
            NotCreated::TimedOut(creating) => {
                self.let_go_failed(info, services, async {
                    creating.cancel().await.and_then(Result::ok)
                });
                let limit = humantime::format_duration(self.activation.init_timeout);
                let reason = format!("its initialize did not end within {limit} (timeouts.init)");
                NotAgain { reason, kind: NotAgainKind::ForGood }
            }
        }
    }

    /// Lets go of an instance that was never live, once it is there.
    fn let_go_failed(
        self: &Arc<Self>,
        info: &Arc<GenerationInfo>,
        services: &Arc<HostServices>,
        instance: impl Future<Output = Option<Box<dyn Body>>> + Send + 'static,
    ) {
        services.detach();
        let leaving = self.departures.begin_instance(&info.plugin);
        let (supervisor, info, services) = (self.clone(), info.clone(), services.clone());
        self.thread.runtime().spawn(async move {
            let instance = instance.await;
            supervisor.retirer.release(&info, &services, instance, false).await;
            drop(leaving);
        });
    }

    /// There is no instance of a plugin any more, nor will there be one for now.
    async fn is_down(
        self: &Arc<Self>,
        info: &Arc<GenerationInfo>,
        own: Option<Snapshot>,
        held: Held,
        reason: &str,
    ) {
        let name = &info.plugin;
        tracing::error!(plugin = %name, generation = info.number, "it is not live any more: {reason}");
        self.keep_state_of(info, own.clone()).await;
        if let Some(plugin) = self.registry().plugins.get_mut(name) {
            plugin.released = false;
            plugin.released_with = None;
            plugin.orphaned = own;
        }
        let disconnected = self.disconnect(name, Some(info.number));
        // Its events find nobody, and are told so.
        held.commit();
        if let Ok((generation, retired)) = disconnected {
            drop(self.let_go(generation, retired, FinalState::HandedOver));
        }
        if let Some(plugin) = self.registry().plugins.get_mut(name) {
            plugin.last_error = Some(reason.to_owned());
        }
        self.announcer.unloaded(info, &HOST, reason);
    }

    /// Keeps the state of a released instance for the next start.
    pub(super) async fn keep_state_of(&self, info: &GenerationInfo, own: Option<Snapshot>) {
        if let Some(persistence) = &self.persistence {
            persistence.keep_released(info, own, LIMIT).await;
        }
    }
}
