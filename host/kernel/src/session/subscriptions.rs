//! What a generation subscribes to while it runs.
//!
//! It comes and goes with the generation: nothing leads to an instance that is not live, and what
//! is asked for before that begins with it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, MutexGuard},
    time::Duration,
};

use ksi_abi::{Pattern, Refusal, RefusalCode, host};

use super::Session;
use crate::{
    call::{Callee, HandlerInfo},
    label::Label,
    router::{
        table::{Owner, Route},
        taps::WatchEnd,
        targets::NewTarget,
    },
    value::Keeper,
};

/// The name under which the calls of all run-time subscriptions of a plugin are counted.
const SUBSCRIPTIONS: &str = "run-time subscriptions";

/// How the handler of a subscription is called.
#[derive(Debug, Clone, Copy, Default)]
pub struct SubscribeOptions {
    /// Higher ones are called first.
    pub priority: i32,
    /// `None` for the host's default.
    pub timeout: Option<Duration>,
    /// Called on threads that may be blocked.
    pub blocking: bool,
}

#[derive(Default)]
pub(super) struct Subscriptions {
    pub(super) next: u64,
    pub(super) stage: Stage,
    /// Made while nothing led to the instance, and it may be that something will.
    pub(super) early: Vec<Subscription>,
    pub(super) infos: HashMap<u64, Arc<HandlerInfo>>,
    /// What ends each watch, and its patterns.
    pub(super) watches: BTreeMap<u64, (WatchEnd, String)>,
}

impl Subscriptions {
    /// What counts against the limit.
    pub(super) fn held(&self) -> usize {
        self.infos.len() + self.early.len() + self.watches.len()
    }

    /// It is being retired, and never live again.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }
}

/// Whether anything may lead to the instance.
#[derive(Default)]
pub(super) enum Stage {
    /// Not yet.
    #[default]
    Before,
    /// It may. The instance is held for as long as that: one that nothing leads to now, because it
    /// has no handler or has ended its subscriptions, may subscribe later, and has its state.
    Live(Arc<dyn Callee>),
    /// Not now: somebody else may come in its place, or it goes on.
    Suspended,
    /// Never again.
    Over,
}

pub(super) struct Subscription {
    number: u64,
    pattern: Pattern,
    handler: u64,
    options: SubscribeOptions,
}

impl Session {
    /// Has a handler of this generation called for every event that matches; the subscription's
    /// number.
    pub fn subscribe(
        &self,
        pattern: &str,
        handler: u64,
        options: SubscribeOptions,
        keeper: Option<&Arc<dyn Keeper>>,
    ) -> Result<u64, Refusal> {
        let pattern = host::pattern(pattern)?;
        let mut subscriptions = self.subscriptions();
        let (held, limit) = (subscriptions.held(), self.limits.subscriptions);
        if held >= limit {
            let text = format_args!(
                "{} has {held} subscriptions and watches made at run time, and {limit} are allowed (limits.subscriptions)",
                self.plugin
            );
            return Err(Refusal::new(RefusalCode::TOO_MANY_SUBSCRIPTIONS, text));
        }
        subscriptions.next += 1;
        let number = subscriptions.next;
        let new = Subscription { number, pattern, handler, options };
        let live = match &subscriptions.stage {
            Stage::Before | Stage::Suspended => {
                subscriptions.early.push(new);
                return Ok(number);
            }
            Stage::Live(callee) => Some(callee.clone()),
            Stage::Over => None,
        };
        let Some(callee) = live else {
            let text =
                format_args!("{} is being retired and cannot subscribe any more", self.plugin);
            return Err(Refusal::new(RefusalCode::RETIRING, text));
        };
        let (owner, routes) = self.route(&mut subscriptions, new, &callee, keeper);
        self.router.change(|table| table.with(owner, routes));
        Ok(number)
    }

    /// Ends a subscription; whether there was one.
    pub fn unsubscribe(&self, number: u64) -> bool {
        let mut subscriptions = self.subscriptions();
        let early = subscriptions.early.len();
        subscriptions.early.retain(|subscription| subscription.number != number);
        match subscriptions.infos.remove(&number) {
            Some(_) => {
                self.router.change(|table| table.with(self.owner(number), Vec::new()));
                true
            }
            None => early != subscriptions.early.len(),
        }
    }

    /// The instance is live: routes for what it has subscribed to when nothing led to it.
    pub(super) fn goes_live(
        &self,
        subscriptions: &mut Subscriptions,
        callee: &Arc<dyn Callee>,
        keeper: Option<&Arc<dyn Keeper>>,
    ) -> Vec<(Owner, Vec<Route>)> {
        subscriptions.stage = Stage::Live(callee.clone());
        let early = std::mem::take(&mut subscriptions.early);
        early.into_iter().map(|it| self.route(subscriptions, it, callee, keeper)).collect()
    }

    fn route(
        &self,
        subscriptions: &mut Subscriptions,
        new: Subscription,
        callee: &Arc<dyn Callee>,
        keeper: Option<&Arc<dyn Keeper>>,
    ) -> (Owner, Vec<Route>) {
        let Subscription { number, pattern, handler, options } = new;
        let target = self.router.target(NewTarget {
            plugin: self.plugin.clone(),
            generation: self.generation,
            handler: format!("subscription {number} ({pattern})").into(),
            label: Some(Label::new(&format!(
                "plugin {} (generation {}), subscription {number} to {pattern}",
                self.plugin, self.generation
            ))),
            counted_as: SUBSCRIPTIONS.into(),
            callee: callee.clone(),
            number: handler,
            priority: options.priority,
            // Behind the declared handlers.
            order: (1 << 32) + number,
            timeout: options.timeout,
            blocking: options.blocking,
            answers_alone: false,
            cancel: self.cancel.clone(),
            gate: self.gate.get().cloned(),
            keeper: keeper.cloned(),
        });
        subscriptions.infos.insert(number, target.info().clone());
        (self.owner(number), vec![Route { pattern, target }])
    }

    fn owner(&self, number: u64) -> Owner {
        Owner::Subscription { plugin: self.plugin.clone(), generation: self.generation, number }
    }

    pub(super) fn subscriptions(&self) -> MutexGuard<'_, Subscriptions> {
        self.subscriptions.lock()
    }
}
