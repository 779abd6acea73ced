//! What is done to routes, and what is asked of them, by those who know no routing table.

use std::sync::Arc;

use ksi_abi::Pattern;

use super::{
    Router,
    table::{Owner, Route, RoutingTable},
};
use crate::{
    call::{CallTarget, Callee, Cancel, HandlerInfo, Target, gate::Gate},
    event::NewEvent,
    value::Keeper,
};

/// The routes of a generation, by who owns them.
pub(crate) type OwnedRoutes = Vec<(Owner, Vec<Route>)>;

impl Router {
    /// Puts the routes of a plugin's generation in place of those of the one before. This is the
    /// commit point of every load and reload: an event emitted before it meets the old routes, one
    /// emitted after it the new ones.
    ///
    /// Of several plugins, all are replaced by one change: no event meets the new routes of one and
    /// the old ones of another.
    pub(crate) fn swap(&self, plugins: Vec<(&Arc<str>, OwnedRoutes)>) {
        self.change(|table| table.swapped(plugins));
    }

    /// Leaves a plugin without a route: the commit point of an unload.
    pub fn withdraw(&self, plugin: &str) {
        self.change(|table| table.without(plugin));
    }

    /// Leads the routes of a plugin to something else that can be called. They stay the same
    /// otherwise.
    pub fn redirect(&self, plugin: &Arc<str>, callee: Arc<dyn Callee>) {
        self.remake(plugin, |target| {
            let entry = CallTarget { callee: callee.clone(), ..target.entry.clone() };
            target.remade(target.gate.clone(), entry)
        });
    }

    /// Puts a gate before the handlers of a plugin.
    pub(crate) fn put_behind(&self, plugin: &Arc<str>, gate: &Arc<Gate>) {
        self.remake(plugin, |target| target.remade(Some(gate.clone()), target.entry.clone()));
    }

    /// The declared routes of a plugin, to another instance of it: they are counted as before.
    pub(crate) fn redeclared(
        &self,
        plugin: &str,
        callee: &Arc<dyn Callee>,
        cancel: &Arc<Cancel>,
        gate: Option<&Arc<Gate>>,
        keeper: Option<&Arc<dyn Keeper>>,
    ) -> Vec<Route> {
        let remade = self.table.load().remade(plugin, |owner, target| {
            let entry = CallTarget {
                callee: callee.clone(),
                cancel: cancel.clone(),
                keeper: keeper.cloned(),
                ..target.entry.clone()
            };
            let declared = matches!(owner, Owner::Plugin(_));
            declared.then(|| target.remade(gate.cloned(), entry))
        });
        remade.into_iter().flat_map(|(_, routes)| routes).collect()
    }

    fn remake(&self, plugin: &Arc<str>, other: impl Fn(&Target) -> Target) {
        self.change(|table| {
            table.swapped([(plugin, table.remade(plugin, |_, target| Some(other(target))))])
        });
    }

    /// Whether anybody handles events of this name.
    pub fn is_handled(&self, name: &str) -> bool {
        !self.table.load().targets(name).is_empty()
    }

    /// Whether events of this name are answered by the host alone.
    pub fn answers_alone(&self, name: &str) -> bool {
        self.table.load().targets(name).iter().any(|target| target.answers_alone)
    }

    /// What of an event's payload its handlers do not take, as far as they are checked: of each
    /// plugin and handler, a line for each place.
    pub fn violations(&self, event: &NewEvent) -> Vec<(Arc<str>, Arc<str>, Vec<String>)> {
        let targets = self.table.load().targets(&event.name);
        let checked = targets.iter().filter(|target| target.info().check.get().is_some());
        let mut checked = checked.peekable();
        if checked.peek().is_none() {
            return Vec::new();
        }
        // What is no JSON is told by whoever decodes it.
        let Ok(payload) = event.payload.decode::<serde_json::Value>() else { return Vec::new() };
        let each = checked.filter_map(|target| {
            let info = target.info();
            let violations = info.check.get()?.violations(&payload);
            let told = (info.plugin.clone(), info.handler.clone(), violations);
            (!told.2.is_empty()).then_some(told)
        });
        each.collect()
    }

    /// The names that somebody subscribes to exactly, in no order.
    pub fn event_names(&self) -> Vec<String> {
        self.table.load().names().map(str::to_owned).collect()
    }

    /// Who subscribes to what at this moment.
    pub fn subscribers(&self) -> Subscribers {
        Subscribers(self.table.load_full())
    }
}

/// Who subscribed to what at one moment. It keeps the generations that it knows from going: not to
/// be kept.
pub struct Subscribers(Arc<RoutingTable>);

/// One subscription of a handler.
pub struct Subscriber<'a> {
    /// The events that it is called for.
    pub pattern: &'a Pattern,
    /// Which handler it is.
    pub handler: &'a HandlerInfo,
    /// Higher ones are called first.
    pub priority: i32,
}

impl Subscribers {
    /// Every subscription; a handler of several patterns has several.
    pub fn iter(&self) -> impl Iterator<Item = Subscriber<'_>> {
        self.0.routes().map(|Route { pattern, target }| Subscriber {
            pattern,
            handler: target.info(),
            priority: target.priority,
        })
    }
}
