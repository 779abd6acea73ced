//! The routing table: a snapshot that emitters read without a lock, replaced as a whole.

use std::{cmp::Reverse, collections::HashMap, sync::Arc};

use ksi_plugin_api::Pattern;

use super::matcher::Matcher;
use crate::dispatch::call::{HandlerInfo, Target};

/// One subscription of a handler.
#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) pattern: Pattern,
    pub(crate) target: Arc<Target>,
}

/// The targets of a name, in the order in which they are called and reported.
#[derive(Default)]
pub(crate) struct Targets {
    pub(crate) list: Box<[Arc<Target>]>,
    /// The same handlers, for reports: it holds no generation.
    pub(crate) handlers: Arc<[Arc<HandlerInfo>]>,
}

/// The number of a name that somebody holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RouteId(pub(crate) u32);

/// Every route, and a way to find those of a name.
#[derive(Default)]
pub(crate) struct RoutingTable {
    /// By owner; see [`Owner`].
    routes: HashMap<Owner, Vec<Route>>,
    /// The targets of every name that somebody subscribes to exactly, patterns included and in the order of calling.
    ready: HashMap<Box<str>, Arc<Targets>>,
    matcher: Matcher<Arc<Route>>,
}

/// Whose routes they are: a plugin's declared ones, one that it subscribed at run time, or one of the host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    /// The declared routes of a plugin.
    Plugin(Arc<str>),
    /// A subscription made at run time: generation, then the subscription's number.
    Subscription { plugin: Arc<str>, generation: u64, number: u64 },
    /// A handler of the host or of the embedding program.
    Native(u64),
}

impl RoutingTable {
    /// The same table with the routes of `owner` replaced; none removes them.
    pub(crate) fn with(&self, owner: Owner, routes: Vec<Route>) -> Self {
        let mut all = self.routes.clone();
        match routes.is_empty() {
            true => all.remove(&owner),
            false => all.insert(owner, routes),
        };
        RoutingTable::build(all)
    }

    /// The same table with the routes of a plugin's generation in place of those of the one before.
    pub(crate) fn swapped(&self, plugin: &Arc<str>, routes: Vec<(Owner, Vec<Route>)>) -> Self {
        let mut all = self.routes.clone();
        all.retain(|owner, _| match owner {
            Owner::Plugin(known) | Owner::Subscription { plugin: known, .. } => known != plugin,
            Owner::Native(_) => true,
        });
        all.extend(routes);
        RoutingTable::build(all)
    }

    /// The same table without a plugin.
    pub(crate) fn without(&self, plugin: &str) -> Self {
        let mut all = self.routes.clone();
        all.retain(|owner, _| match owner {
            Owner::Plugin(known) | Owner::Subscription { plugin: known, .. } => **known != *plugin,
            Owner::Native(_) => true,
        });
        RoutingTable::build(all)
    }

    fn build(routes: HashMap<Owner, Vec<Route>>) -> Self {
        let mut matcher = Matcher::default();
        for route in routes.values().flatten() {
            matcher.insert(&route.pattern, Arc::new(route.clone()));
        }
        let names: Vec<Box<str>> = matcher.names().map(Box::from).collect();
        let ready = names.into_iter().map(|name| {
            let targets = in_order(matcher.find(&name));
            (name, targets)
        });
        RoutingTable { ready: ready.collect(), routes, matcher }
    }

    /// The targets of an event, in the order in which they are called and reported.
    pub(crate) fn targets(&self, name: &str) -> Arc<Targets> {
        match self.ready.get(name) {
            Some(targets) => targets.clone(),
            None => in_order(self.matcher.find(name)),
        }
    }

    /// The targets of a name that is known to the table, by its number or by itself.
    pub(crate) fn find(&self, _: Option<RouteId>, name: &str) -> Option<&Targets> {
        self.ready.get(name).map(|targets| &**targets)
    }

    /// Every route.
    pub(crate) fn routes(&self) -> impl Iterator<Item = &Route> {
        self.routes.values().flatten()
    }

    /// The names that somebody subscribes to exactly.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.ready.keys().map(|name| &**name)
    }
}

fn in_order(mut routes: Vec<Arc<Route>>) -> Arc<Targets> {
    fn rank(route: &Route) -> (Reverse<i32>, &str, u64) {
        let target = &route.target;
        (Reverse(target.priority), &target.info.plugin, target.order)
    }
    routes.sort_by(|a, b| rank(a).cmp(&rank(b)));
    // A handler that matches by two of its patterns is called once.
    let mut targets: Vec<Arc<Target>> = Vec::with_capacity(routes.len());
    for route in routes {
        if !targets.iter().any(|known| Arc::ptr_eq(known, &route.target)) {
            targets.push(route.target.clone());
        }
    }
    let handlers = targets.iter().map(|target| target.info.clone()).collect();
    Arc::new(Targets { list: targets.into(), handlers })
}
