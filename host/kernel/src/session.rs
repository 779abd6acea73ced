//! What one generation of a plugin may do towards the host, and what the host may do to that: it
//! emits and subscribes, its calls are counted, held and cancelled, and its tasks end with it.
//!
//! It promises that nothing leads to an instance that is not live, and that what a generation
//! subscribes to comes and goes with it. It knows the instance as something that can be called,
//! weakly. What keeps the library where the plugin's code lies is given to it call by call, and
//! never held by a session itself: whoever counts who needs a library does not count sessions.
//!
//! It knows no boundary that a generation may be behind. What it is given and gives is the kernel's
//! own; what it shares with `ksi-abi` is what the kernel itself works with, and no form of it is
//! made for a session: events are [`Counted`](ksi_abi::Counted), payloads bytes or values, refusals
//! have a code, and [`To`](ksi_abi::To) and [`Start`](ksi_abi::Start) are plain enums, which never
//! cross anything. In which form reports and replies go back is said by a [`Link`].

mod emit;
mod subscriptions;
mod tasks;
mod watch;

use std::{
    mem,
    sync::{Arc, OnceLock},
    time::Duration,
};

use ksi_abi::Pattern;

use crate::{
    call::{Callee, Cancel, HandlerInfo, gate::Gate},
    label::Label,
    lock::Lock,
    router::{
        Router,
        table::{Owner, Route},
        taps::WatchEnd,
        targets::NewTarget,
    },
    value::Keeper,
};
pub use emit::{Emitting, Link, Requesting};
pub use subscriptions::SubscribeOptions;
use subscriptions::{Stage, Subscriptions};
use tasks::BackgroundTasks;
pub use watch::{Passed, SessionWatch};

/// Bounds of what one plugin may have at a time.
#[derive(Debug, Clone)]
pub struct SessionLimits {
    /// Background tasks that run.
    pub background_tasks: usize,
    /// Subscriptions made at run time.
    pub subscriptions: usize,
    /// Events that wait for one watch.
    pub watched_events: usize,
    /// Events that wait while the plugin's state is handed over.
    pub held_events: usize,
    /// Their bytes.
    pub held_bytes: usize,
}

impl Default for SessionLimits {
    fn default() -> Self {
        SessionLimits {
            background_tasks: 1_024,
            subscriptions: 1_024,
            watched_events: 1_024,
            held_events: 4_096,
            held_bytes: 64 << 20,
        }
    }
}

/// A handler that a plugin declares, in the order of declaration.
pub struct HandlerSpec {
    /// Its name, under which its calls are counted over all generations.
    pub name: Arc<str>,
    /// What is told of it if the host dies of it.
    pub label: Label,
    /// The events that it is called for.
    pub patterns: Vec<Pattern>,
    /// Higher ones are called first.
    pub priority: i32,
    /// `None` for the host's default.
    pub timeout: Option<Duration>,
    /// Called on threads that may be blocked.
    pub blocking: bool,
}

/// An instance that is there and becomes live: see [`Session::attach_all`].
pub struct Attachment<'a> {
    /// Of its generation.
    pub session: &'a Session,
    /// The routes of its declared handlers.
    pub declared: DeclaredRoutes,
    /// The instance.
    pub callee: Arc<dyn Callee>,
    /// What keeps its library.
    pub keeper: Option<Arc<dyn Keeper>>,
}

/// The routes of a generation's declared handlers.
pub struct DeclaredRoutes {
    routes: Vec<Route>,
    handlers: Vec<Arc<HandlerInfo>>,
}

impl DeclaredRoutes {
    /// What is known of the handlers, in the order of declaration.
    pub fn handlers(&self) -> &[Arc<HandlerInfo>] {
        &self.handlers
    }
}

/// One generation of a plugin, as the router knows it.
pub struct Session {
    plugin: Arc<str>,
    generation: u64,
    router: Arc<Router>,
    limits: SessionLimits,
    cancel: Arc<Cancel>,
    /// Made at once, or when its events are held for the first time.
    gate: OnceLock<Arc<Gate>>,
    tasks: BackgroundTasks,
    subscriptions: Lock<Subscriptions>,
}

impl Session {
    /// A session of this generation; `gated` if its events can be held from the beginning.
    pub fn new(
        plugin: Arc<str>,
        generation: u64,
        router: Arc<Router>,
        limits: SessionLimits,
        gated: bool,
    ) -> Arc<Self> {
        let session = Session {
            plugin,
            generation,
            router,
            cancel: Arc::default(),
            gate: OnceLock::new(),
            tasks: BackgroundTasks::new(limits.background_tasks),
            subscriptions: Lock::default(),
            limits,
        };
        if gated {
            session.gate.get_or_init(|| session.new_gate());
        }
        Arc::new(session)
    }

    /// Whose it is.
    pub fn plugin(&self) -> &Arc<str> {
        &self.plugin
    }

    /// Which generation of it.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Where its events go.
    pub fn router(&self) -> &Arc<Router> {
        &self.router
    }

    /// The routes of declared handlers of an instance; `keeper` keeps its library for replies that
    /// are values, if it gives any.
    pub fn declared(
        &self,
        handlers: impl IntoIterator<Item = HandlerSpec>,
        callee: Arc<dyn Callee>,
        keeper: Option<&Arc<dyn Keeper>>,
    ) -> DeclaredRoutes {
        let (mut routes, mut infos) = (Vec::new(), Vec::new());
        for (order, handler) in (0..).zip(handlers) {
            let HandlerSpec { name, label, patterns, priority, timeout, blocking } = handler;
            let target = self.router.target(NewTarget {
                plugin: self.plugin.clone(),
                generation: self.generation,
                handler: name.clone(),
                label: Some(label),
                counted_as: name,
                callee: callee.clone(),
                number: order,
                priority,
                order,
                timeout,
                blocking,
                answers_alone: false,
                cancel: self.cancel.clone(),
                gate: self.gate.get().cloned(),
                keeper: keeper.cloned(),
            });
            infos.push(target.info().clone());
            let route = |pattern| Route { pattern, target: target.clone() };
            routes.extend(patterns.into_iter().map(route));
        }
        DeclaredRoutes { routes, handlers: infos }
    }

    /// The declared routes that the plugin has, to another instance of the same generation: they
    /// are counted as before.
    pub fn declared_again(
        &self,
        callee: Arc<dyn Callee>,
        keeper: Option<&Arc<dyn Keeper>>,
    ) -> DeclaredRoutes {
        let (cancel, gate) = (&self.cancel, self.gate.get());
        let routes = self.router.redeclared(&self.plugin, &callee, cancel, gate, keeper);
        DeclaredRoutes { routes, handlers: Vec::new() }
    }

    /// The instance is there and becomes live: its declared routes, and those that it subscribed to
    /// while it was initialized, take the place of those of the generation before. A task of it
    /// that subscribes meanwhile waits: before the swap, its route would stand beside those of the
    /// generation before, and an event would reach both.
    pub fn attach(
        &self,
        declared: DeclaredRoutes,
        callee: Arc<dyn Callee>,
        keeper: Option<&Arc<dyn Keeper>>,
    ) {
        let keeper = keeper.cloned();
        Session::attach_all(vec![Attachment { session: self, declared, callee, keeper }]);
    }

    /// The same for instances of several plugins of one host, by one change of its routes.
    pub fn attach_all(mut attached: Vec<Attachment<'_>>) {
        // Whoever has several at once takes them in this order.
        attached.sort_unstable_by(|a, b| a.session.plugin.cmp(&b.session.plugin));
        let Some(router) = attached.first().map(|first| first.session.router.clone()) else {
            return;
        };
        let (mut locks, mut plugins) = (Vec::new(), Vec::new());
        for Attachment { session, declared, callee, keeper } in attached {
            let mut subscriptions = session.subscriptions();
            let mut routes = session.goes_live(&mut subscriptions, &callee, keeper.as_ref());
            routes.push((Owner::Plugin(session.plugin.clone()), declared.routes));
            locks.push(subscriptions);
            plugins.push((&session.plugin, routes));
        }
        // The commit point.
        router.swap(plugins);
    }

    /// Ends every pending call of this generation at its present await, now and later.
    pub fn cancel_calls(&self) {
        self.cancel.cancel();
    }

    /// Ends the calls of this generation that have begun, and none that begins later.
    pub fn cancel_present_calls(&self) {
        self.cancel.cancel_present();
    }

    /// What the events of this generation pass through, if it has a gate.
    pub fn gate(&self) -> Option<&Arc<Gate>> {
        self.gate.get()
    }

    /// The same; it is put before the handlers of this live generation now, if there was none.
    /// Events that entered before it was there are not inside it.
    pub fn gate_now(&self) -> Arc<Gate> {
        // No route is added meanwhile.
        let _subscriptions = self.subscriptions();
        if let Some(gate) = self.gate.get() {
            return gate.clone();
        }
        let gate = self.gate.get_or_init(|| self.new_gate()).clone();
        self.router.put_behind(&self.plugin, &gate);
        gate
    }

    /// Nothing may lead to the instance for now. What it subscribes to meanwhile begins when it
    /// goes on, and what it watches passes as ever.
    pub fn suspend(&self) {
        let mut subscriptions = self.subscriptions();
        if matches!(subscriptions.stage, Stage::Live(_)) {
            let before = mem::replace(&mut subscriptions.stage, Stage::Suspended);
            // It may have been the last who held the instance.
            drop(subscriptions);
            drop(before);
        }
    }

    /// The instance goes on, if it was not detached meanwhile.
    pub fn resume(&self, callee: &Arc<dyn Callee>, keeper: Option<&Arc<dyn Keeper>>) {
        let mut subscriptions = self.subscriptions();
        if !matches!(subscriptions.stage, Stage::Suspended) {
            return;
        }
        for (owner, routes) in self.goes_live(&mut subscriptions, callee, keeper) {
            self.router.change(|table| table.with(owner, routes));
        }
    }

    /// No subscription is accepted any more. Called right before this generation loses its routes.
    pub fn detach(&self) {
        let mut subscriptions = self.subscriptions();
        let before = mem::replace(&mut subscriptions.stage, Stage::Over);
        subscriptions.early.clear();
        subscriptions.infos.clear();
        let ends: Vec<_> = subscriptions.watches.values().map(|(end, _)| end.clone()).collect();
        // Whoever is woken by it may drop his watch, and this may be the last who held the
        // instance.
        drop(subscriptions);
        drop(before);
        ends.iter().for_each(WatchEnd::close);
    }

    /// Drops all background tasks and refuses further ones. On a dispatch worker.
    pub fn end_tasks(&self) {
        self.tasks.close();
    }

    /// How many background tasks run.
    pub fn task_count(&self) -> usize {
        self.tasks.count()
    }

    fn new_gate(&self) -> Arc<Gate> {
        let SessionLimits { held_events, held_bytes, .. } = self.limits;
        Gate::new(held_events, self.router.budget().limited(held_bytes))
    }
}

#[cfg(test)]
mod tests;
