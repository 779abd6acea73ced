//! The host of a plugin under test: a host's own router, whose work the thread of the test does.

use std::{
    any::Any,
    collections::BTreeSet,
    panic::resume_unwind,
    path::PathBuf,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use ksi_abi::{Pattern, Refusal, RefusalCode, Value, validate_event_name};
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

use super::handlers::{Instance, StandIn};

/// So many polls without coming to rest are taken for a loop.
const MAX_POLLS: usize = 1_000_000;

/// What a test records is not bounded, and its time is no host's.
const UNBOUNDED: usize = usize::MAX / 2;

/// Everything that the host of one plugin knows.
pub(super) struct World {
    pub(super) plugin: &'static str,
    /// The plugin is only tried out, and reaches nobody.
    pub(super) trial: bool,
    /// Where the plugin is said to be.
    pub(super) file: Option<PathBuf>,
    pub(super) in_place: InPlace,
    pub(super) session: Arc<Session>,
    /// That of all stand-ins.
    pub(super) stand_ins: Arc<Session>,
    /// What passes, to be recorded.
    passing: Lock<Watch>,
    /// What a stand-in has panicked with, on its way to the test.
    pub(super) failed: Arc<Lock<Option<Box<dyn Any + Send>>>>,
    pub(super) state: Lock<State>,
}

#[derive(Default)]
pub(super) struct State {
    /// `None` until it is made, and from its retirement on.
    pub(super) instance: Option<Arc<Instance>>,
    pub(super) retired: bool,
    pub(super) handled_by: Vec<Arc<StandIn>>,
    pub(super) background_panics: Vec<String>,
    pub(super) emitted: Vec<EventRef>,
    /// When the plugin goes on that waits for time, and a number for each of them.
    pub(super) alarms: BTreeSet<(Duration, u64)>,
    /// What it has the host keep.
    #[cfg(unix)]
    pub(super) kept: std::collections::BTreeMap<String, std::os::fd::OwnedFd>,
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
    pub(super) fn new(
        plugin: &'static str,
        trial: bool,
        file: Option<PathBuf>,
    ) -> Result<Arc<Self>> {
        let router = RouterLimits { subscriber_bytes: UNBOUNDED, ..RouterLimits::default() };
        let limits =
            KernelLimits { workers: 0, blocking_threads: 0, waiting_bytes: UNBOUNDED, router };
        let (Kernel { router }, in_place) = Kernel::in_place(limits)?;
        let every_event = [Pattern::parse("**")?];
        Ok(Arc::new(World {
            plugin,
            trial,
            file,
            in_place,
            session: session(plugin, 1, &router),
            stand_ins: session(super::handlers::STAND_IN, 1, &router),
            passing: Lock::new(router.watch(&every_event, UNBOUNDED)),
            failed: Arc::default(),
            state: Lock::default(),
        }))
    }

    pub(super) fn router(&self) -> &Arc<Router> {
        self.session.router()
    }

    /// What stands for the library of the plugin, which is this binary.
    pub(super) fn keeper(&self) -> Arc<dyn Keeper> {
        Arc::new(ThisBinary(Arc::downgrade(self.router())))
    }

    /// A generation of the plugin for what it is called with when its own has ended.
    pub(super) fn last_session(&self) -> Arc<Session> {
        session(self.plugin, 2, self.router())
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

    /// Refuses what a plugin emits that is only tried out.
    pub(super) fn reaches_somebody(&self, event: &str) -> Result<(), Refusal> {
        if !self.trial {
            return Ok(());
        }
        validate_event_name(event)
            .map_err(|error| Refusal::new(RefusalCode::INVALID_NAME, error))?;
        let text = format_args!("{event} reaches nobody: the plugin is only tried out");
        Err(Refusal::new(RefusalCode::TRIAL, text))
    }

    /// When the plugin itself next waits for time.
    pub(super) fn plugin_waits_until(&self) -> Option<Duration> {
        self.state.lock().alarms.first().map(|(at, _)| *at)
    }

    /// From now on the plugin gets no event, and what it still does is given up.
    pub(super) fn retire(&self) {
        self.state.lock().retired = true;
        self.session.detach();
        self.router().withdraw(self.plugin);
        self.session.cancel_calls();
        self.in_place.as_worker(|| self.session.end_tasks());
    }
}

fn session(plugin: &str, generation: u64, router: &Arc<Router>) -> Arc<Session> {
    Session::new(plugin.into(), generation, router.clone(), SessionLimits::default(), false)
}

/// Has values dropped where the plugin runs.
struct ThisBinary(std::sync::Weak<Router>);

impl Keeper for ThisBinary {
    fn drop_later(self: Arc<Self>, value: Value) {
        match self.0.upgrade() {
            Some(router) => router.spawn_detached(async move { drop(value) }),
            None => drop(value),
        }
    }
}

/// Notes that the plugin waits for time.
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
