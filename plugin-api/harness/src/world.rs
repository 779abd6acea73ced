//! The host of the plugins under test: a host's own router, whose work the thread of the test does.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    panic::resume_unwind,
    pin::pin,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use ksi_abi::{Pattern, Value};
use ksi_kernel::{
    event::EventRef,
    executor::in_place::InPlace,
    kernel::{Kernel, KernelLimits},
    lock::Lock,
    router::{
        Router,
        emit::RouterLimits,
        taps::{Watch, Watched},
    },
    session::{Session, SessionLimits},
    value::Keeper,
};
use ksi_plugin_api::Result;

use super::{
    generation::{Generation, Live},
    other::Played,
    stand_in::{FailedTest, STAND_IN, StandIn},
};

/// So many polls without coming to rest are taken for a loop.
const MAX_POLLS: usize = 1_000_000;

/// How many resources each plugin may have. As in a host.
#[cfg(unix)]
const KEPT_RESOURCES: usize = 64;

/// What a test records is not bounded, and its time is no host's.
pub(super) const UNBOUNDED: usize = usize::MAX / 2;

/// Everything that the host of a plugin knows.
pub(super) struct World {
    pub(super) plugin: &'static str,
    pub(super) in_place: InPlace,
    router: Arc<Router>,
    /// That of all stand-ins.
    pub(super) stand_ins: Arc<Session>,
    /// What the host keeps for plugins.
    #[cfg(unix)]
    pub(super) kept: Arc<ksi_kept::KeptResources>,
    /// What passes, to be recorded.
    passing: Lock<Watch>,
    /// What a stand-in has panicked with, on its way to the test.
    pub(super) failed: FailedTest,
    pub(super) state: Lock<State>,
}

#[derive(Default)]
pub(super) struct State {
    /// `None` until there is one, while an exclusive one is replaced, and from the end on.
    pub(super) live: Option<Live>,
    pub(super) retired: bool,
    /// Further plugins.
    pub(super) beside: Vec<Live>,
    /// A replacement goes on.
    pub(super) replacing: bool,
    /// Generations that were replaced, and have not ended.
    pub(super) leaving: Vec<Arc<Generation>>,
    pub(super) handled_by: Vec<Arc<StandIn>>,
    /// Plugins that the test plays, by their names.
    pub(super) others: BTreeMap<String, Arc<Played>>,
    pub(super) background_panics: Vec<String>,
    pub(super) emitted: Vec<EventRef>,
    /// When somebody goes on who waits for time, and a number for each of them.
    pub(super) alarms: BTreeSet<(Duration, u64)>,
    /// What the test attaches to the events that it emits.
    pub(super) attributes: Vec<(String, String)>,
    numbers: u64,
}

impl State {
    /// A number that was not given before.
    pub(super) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }
}

/// The tasks wake one another without end.
pub(super) struct Restless;

impl World {
    pub(super) fn new(plugin: &'static str) -> Result<Arc<Self>> {
        let router = RouterLimits { subscriber_bytes: UNBOUNDED, ..RouterLimits::default() };
        let limits =
            KernelLimits { workers: 0, blocking_threads: 0, waiting_bytes: UNBOUNDED, router };
        let (Kernel { router }, in_place) = Kernel::in_place(limits)?;
        let every_event = [Pattern::parse("**")?];
        Ok(Arc::new(World {
            plugin,
            in_place,
            stand_ins: session(STAND_IN, 1, &router),
            #[cfg(unix)]
            kept: ksi_kept::KeptResources::new(KEPT_RESOURCES),
            passing: Lock::new(router.watch(&every_event, UNBOUNDED)),
            router,
            failed: Arc::default(),
            state: Lock::default(),
        }))
    }

    pub(super) fn router(&self) -> &Arc<Router> {
        &self.router
    }

    /// What stands for the library of a plugin.
    pub(super) fn keeper(&self) -> Arc<dyn Keeper> {
        Arc::new(ThisBinary(Arc::downgrade(self.router())))
    }

    /// A number that was not given before.
    pub(super) fn number(&self) -> u64 {
        self.state.lock().number()
    }

    /// A generation of the plugin for what it is called with when its own has ended.
    pub(super) fn last_session(&self) -> Arc<Session> {
        session(self.plugin, self.number(), self.router())
    }

    /// What `work` gives, if it does within `limit` by the clock of the harness.
    pub(super) async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let timed = {
            let _inside = self.router.runtime().enter();
            tokio::time::timeout(limit, work)
        };
        timed.await.ok()
    }

    /// Runs what can run without time passing.
    ///
    /// # Panics
    /// When a stand-in has panicked.
    pub(super) fn settle(&self) -> Result<(), Restless> {
        let calm = self.in_place.settle(MAX_POLLS, || self.look());
        // A thread of the plugin may have emitted something too.
        self.look();
        if calm { Ok(()) } else { Err(Restless) }
    }

    /// Records what the plugin has emitted, and fails the test for a stand-in.
    fn look(&self) {
        let mut passing = self.passing.lock();
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(Watched::Event(event))) = pin!(passing.next()).poll(&mut cx) {
            if event.source() == self.plugin {
                self.state.lock().emitted.push(event);
            }
        }
        drop(passing);
        let failed = self.failed.lock().take();
        if let Some(panic) = failed {
            resume_unwind(panic);
        }
    }

    /// When somebody next goes on who waits for time: the plugin, or one that the test plays.
    pub(super) fn plugin_waits_until(&self) -> Option<Duration> {
        self.state.lock().alarms.first().map(|(at, _)| *at)
    }

    /// From now on the plugin gets no event, and what it still does is given up.
    pub(super) fn retire(&self) {
        let mut state = self.state.lock();
        state.retired = true;
        let live = state.live.as_ref().map(|live| live.generation.clone());
        let generations: Vec<_> = state.leaving.iter().cloned().chain(live).collect();
        drop(state);
        generations.iter().for_each(|generation| generation.detach());
        self.router().withdraw(self.plugin);
        for generation in &generations {
            generation.session.cancel_calls();
            self.in_place.as_worker(|| generation.session.end_tasks());
        }
    }
}

fn session(plugin: &str, generation: u64, router: &Arc<Router>) -> Arc<Session> {
    Session::new(plugin.into(), generation, router.clone(), SessionLimits::default(), false)
}

/// What stands for the library of a plugin, which is this binary: it has values dropped where the
/// plugin runs.
struct ThisBinary(Weak<Router>);

impl Keeper for ThisBinary {
    fn drop_later(self: Arc<Self>, value: Value) {
        match self.0.upgrade() {
            Some(router) => router.spawn_detached(async move { drop(value) }),
            None => drop(value),
        }
    }
}

/// Notes that somebody waits for time.
pub(super) struct Alarm {
    world: Arc<World>,
    at: (Duration, u64),
}

impl Alarm {
    pub(super) fn new(world: &Arc<World>, after: Duration) -> Self {
        let now = world.in_place.now();
        let mut state = world.state.lock();
        let at = (now.saturating_add(after), state.number());
        state.alarms.insert(at);
        Alarm { world: world.clone(), at }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.world.state.lock().alarms.remove(&self.at);
    }
}
