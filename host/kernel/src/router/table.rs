//! The routing table: a snapshot that emitters read without a lock, replaced as a whole.
//!
//! A table and the one that it was changed into share what is the same in them, so a change costs
//! what it touches: the routes that come and go, and the names that they match.

use std::{cmp::Reverse, collections::BTreeSet, sync::Arc};

use ksi_abi::Pattern;
use smallvec::SmallVec;

use super::{
    matcher::Tree,
    names::{HeldName, Names, RouteId},
    shared_map::SharedMap,
    slots::{Holder, NameSlot, Slots},
};
use crate::call::{HandlerInfo, Target};

/// Targets, each once, in the order in which they are called and reported.
pub(crate) type Targets = Arc<[Arc<Target>]>;

/// The handlers of a name: to be called, and for reports, which hold no generation.
#[derive(Clone, Default)]
pub(crate) struct Called {
    pub(crate) targets: Targets,
    pub(crate) handlers: Arc<[Arc<HandlerInfo>]>,
}

impl From<Targets> for Called {
    fn from(targets: Targets) -> Self {
        let handlers = targets.iter().map(|target| target.info().clone()).collect();
        Called { targets, handlers }
    }
}

/// One subscription of a handler. The routes of a target have one owner.
#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) pattern: Pattern,
    pub(crate) target: Arc<Target>,
}

/// Every route, and a way to find those of a name.
#[derive(Clone, Default)]
pub(crate) struct RoutingTable {
    /// By plugin, then by owner; see [`Owner::group`].
    routes: SharedMap<Arc<str>, SharedMap<Owner, Arc<[Route]>>>,
    /// The targets of every pattern that is not a name.
    patterns: Tree<Targets>,
    /// Numbers of names: of those that somebody subscribes to, and of those that the table was told
    /// of.
    numbers: SharedMap<Arc<str>, RouteId>,
    /// The same, for finding the names that a pattern matches.
    numbers_by_segment: Tree<RouteId>,
    slots: Slots,
    /// The same in every table that comes from this one.
    names: Arc<Names>,
    nobody: Targets,
    /// How often the targets of a name were put together, in this table and those it comes from.
    #[cfg(test)]
    recomputed: usize,
}

/// Whose routes they are: a plugin's declared ones, one that it subscribed at run time, or one of
/// the host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    /// The declared routes of a plugin.
    Plugin(Arc<str>),
    /// A subscription made at run time: generation, then the subscription's number.
    Subscription { plugin: Arc<str>, generation: u64, number: u64 },
    /// A handler of the host or of the embedding program.
    Host(u64),
}

impl Owner {
    /// The plugin; the host's own handlers stand under no name, which is no plugin's.
    fn group(&self) -> Arc<str> {
        match self {
            Owner::Plugin(plugin) | Owner::Subscription { plugin, .. } => plugin.clone(),
            Owner::Host(_) => Arc::default(),
        }
    }
}

impl RoutingTable {
    // ---- reading ----

    /// The targets of an event.
    pub(crate) fn targets(&self, name: &str) -> Targets {
        match self.known(name) {
            Some(called) => called.targets.clone(),
            None => self.put_together(name, None),
        }
    }

    /// The handlers of an event whose name is known; those of others are put together by
    /// [`RoutingTable::targets`].
    pub(crate) fn known(&self, name: &str) -> Option<&Called> {
        let slot = self.numbers.get(name).and_then(|id| self.slots.get(*id));
        slot.map(|slot| &slot.called)
    }

    /// Who sees an event that the host answers alone, without a part in the answer.
    pub(crate) fn onlookers(&self, name: &str) -> Targets {
        let slot = self.numbers.get(name).and_then(|id| self.slots.get(*id));
        slot.map_or_else(|| self.nobody.clone(), |slot| slot.onlookers.clone())
    }

    /// The handlers of an event whose name is held, found by its number. `None` if this table was
    /// not told of the name (see [`RoutingTable::with_names`]).
    #[inline]
    pub(crate) fn held(&self, name: &HeldName) -> Option<&Called> {
        // A number that was given back and out again may still stand for the name before.
        let slot = self.slots.get(name.id()).filter(|slot| Arc::ptr_eq(&slot.name, name.name()));
        slot.map(|slot| &slot.called)
    }

    /// Who gives numbers to names, for this table and all that come from it.
    pub(crate) fn interner(&self) -> &Arc<Names> {
        &self.names
    }

    /// Every route.
    pub(crate) fn routes(&self) -> impl Iterator<Item = &Route> {
        let owners = self.routes.iter().flat_map(|(_, owners)| owners.iter());
        owners.flat_map(|(_, routes)| routes.iter())
    }

    /// The names that somebody subscribes to exactly.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.slots.iter().filter(|slot| !slot.exact.is_empty()).map(|slot| &*slot.name)
    }

    // ---- changing ----

    /// The same table with the routes of `owner` replaced; none removes them.
    pub(crate) fn with(&self, owner: Owner, routes: Vec<Route>) -> Self {
        self.changed(|change| change.replace(owner, routes))
    }

    /// The same table with the routes of generations in place of those of the ones before, by
    /// plugin.
    pub(crate) fn swapped<'a>(
        &self,
        plugins: impl IntoIterator<Item = (&'a Arc<str>, Vec<(Owner, Vec<Route>)>)>,
    ) -> Self {
        self.changed(|change| {
            for (plugin, routes) in plugins {
                change.remove_group(plugin);
                routes.into_iter().for_each(|(owner, routes)| change.replace(owner, routes));
            }
        })
    }

    /// The routes of a plugin with other targets, each made once; without those of which `other`
    /// makes none.
    pub(crate) fn remade(
        &self,
        plugin: &str,
        mut other: impl FnMut(&Owner, &Target) -> Option<Target>,
    ) -> Vec<(Owner, Vec<Route>)> {
        let Some(owners) = self.routes.get(plugin) else { return Vec::new() };
        let remade = owners.iter().map(|(owner, routes)| {
            // A handler of several patterns has several routes to one target.
            let mut made: Vec<(&Arc<Target>, Option<Arc<Target>>)> = Vec::new();
            let routes = routes.iter().filter_map(|Route { pattern, target }| {
                let known = made.iter().find(|(of, _)| Arc::ptr_eq(of, target));
                let target = match known {
                    Some((_, known)) => known.clone(),
                    None => {
                        let new = other(owner, target).map(Arc::new);
                        made.push((target, new.clone()));
                        new
                    }
                };
                Some(Route { pattern: pattern.clone(), target: target? })
            });
            (owner.clone(), routes.collect())
        });
        remade.collect()
    }

    /// The same table without a plugin.
    pub(crate) fn without(&self, plugin: &str) -> Self {
        self.changed(|change| change.remove_group(plugin))
    }

    /// The same table with these names found by their numbers, too, as long as somebody holds them.
    pub(crate) fn with_names<'n>(
        &self,
        names: impl IntoIterator<Item = &'n Arc<HeldName>>,
    ) -> Self {
        self.changed(|change| names.into_iter().for_each(|held| change.know(held)))
    }

    fn changed(&self, change: impl FnOnce(&mut Change)) -> Self {
        let mut changing = Change { table: self.clone(), touched: BTreeSet::new() };
        changing.sweep();
        change(&mut changing);
        changing.done()
    }

    /// The targets of all patterns that `name` matches and those of the name itself.
    fn put_together(&self, name: &str, exact: Option<&Targets>) -> Targets {
        let mut found: SmallVec<[&Targets; 8]> = exact.into_iter().collect();
        self.patterns.matching(name, |targets| found.push(targets));
        match &found[..] {
            [] => self.nobody.clone(),
            [only] => (*only).clone(),
            several => {
                let mut all: Vec<&Arc<Target>> =
                    several.iter().copied().flat_map(|t| t.iter()).collect();
                all.sort_by_key(|target| rank(target));
                // A handler that matches by two of its patterns is called once.
                all.dedup_by(|a, b| Arc::ptr_eq(a, b));
                all.into_iter().cloned().collect()
            }
        }
    }
}

/// Those who answer an event, and those who only see it.
fn answering(targets: Targets, nobody: &Targets) -> (Targets, Targets) {
    if !targets.iter().any(|target| target.answers_alone) {
        return (targets, nobody.clone());
    }
    let (alone, others): (Vec<_>, Vec<_>) =
        targets.iter().cloned().partition(|target| target.answers_alone);
    (alone.into(), others.into())
}

/// What decides the order: priority, plugin, declaration. The rest only keeps apart what has the
/// same.
fn rank(target: &Arc<Target>) -> (Reverse<i32>, &str, u64, u64, usize) {
    let (info, address) = (target.info(), Arc::as_ptr(target).addr());
    (Reverse(target.priority), &info.plugin, target.order, info.key, address)
}

fn add(targets: &Targets, new: &Arc<Target>) -> Targets {
    match targets.binary_search_by_key(&rank(new), rank) {
        Ok(_) => targets.clone(),
        Err(at) => {
            let (before, after) = targets.split_at(at);
            before.iter().chain([new]).chain(after).cloned().collect()
        }
    }
}

fn take_out(targets: &Targets, old: &Arc<Target>) -> Targets {
    targets.iter().filter(|target| !Arc::ptr_eq(target, old)).cloned().collect()
}

/// A table that is being changed.
struct Change {
    table: RoutingTable,
    /// Names whose targets are put together at the end, each once.
    touched: BTreeSet<RouteId>,
}

impl Change {
    fn replace(&mut self, owner: Owner, routes: Vec<Route>) {
        let group = owner.group();
        let mut owners = self.table.routes.get(&group).cloned().unwrap_or_default();
        if let Some(old) = owners.remove(&owner) {
            old.iter().for_each(|route| self.remove(route));
        }
        if !routes.is_empty() {
            routes.iter().for_each(|route| self.add(route));
            owners.insert(owner, routes.into());
        }
        match owners.is_empty() {
            true => self.table.routes.remove(&group),
            false => self.table.routes.insert(group, owners),
        };
    }

    fn remove_group(&mut self, group: &str) {
        let owners = self.table.routes.remove(group).unwrap_or_default();
        owners.iter().flat_map(|(_, routes)| routes.iter()).for_each(|route| self.remove(route));
    }

    fn add(&mut self, route: &Route) {
        if !route.pattern.is_exact() {
            self.table.patterns.change_pattern(&route.pattern, |targets| {
                *targets = Some(add(targets.get_or_insert_default(), &route.target));
            });
            return self.touch(&route.pattern);
        }
        let held = self.table.names.hold(route.pattern.as_str());
        self.know(&held);
        self.touched.insert(held.id());
        if let Some(slot) = self.table.slots.get_mut(held.id()) {
            slot.exact = add(&slot.exact, &route.target);
            slot.holder = Holder::Subscription(held);
        }
    }

    fn remove(&mut self, route: &Route) {
        if !route.pattern.is_exact() {
            self.table.patterns.change_pattern(&route.pattern, |targets| {
                let rest = targets.take().map(|targets| take_out(&targets, &route.target));
                *targets = rest.filter(|rest| !rest.is_empty());
            });
            return self.touch(&route.pattern);
        }
        let Some(&id) = self.table.numbers.get(route.pattern.as_str()) else { return };
        self.touched.insert(id);
        if let Some(slot) = self.table.slots.get_mut(id) {
            slot.exact = take_out(&slot.exact, &route.target);
            if let (true, Holder::Subscription(held)) = (slot.exact.is_empty(), &slot.holder) {
                slot.holder = Holder::Others(Arc::downgrade(held));
            }
        }
    }

    /// Notes the names that a pattern matches.
    fn touch(&mut self, pattern: &Pattern) {
        let touched = &mut self.touched;
        self.table.numbers_by_segment.matched_by(pattern, |id| {
            touched.insert(*id);
        });
    }

    /// Makes a place for a name, if it has none.
    fn know(&mut self, held: &Arc<HeldName>) {
        if self.table.held(held).is_some() {
            return;
        }
        // Whose number that was, and which number the name had before: both are over.
        self.forget(held.id());
        if let Some(&before) = self.table.numbers.get(held.name()) {
            self.forget(before);
        }
        let (name, nobody) = (held.name().clone(), self.table.nobody.clone());
        let holder = Holder::Others(Arc::downgrade(held));
        self.table.numbers_by_segment.change_name(&name, |id| *id = Some(held.id()));
        self.table.numbers.insert(name.clone(), held.id());
        let onlookers = nobody.clone();
        let slot = NameSlot { name, called: Called::default(), onlookers, exact: nobody, holder };
        self.table.slots.put(held.id(), slot);
        self.touched.insert(held.id());
    }

    fn forget(&mut self, id: RouteId) {
        if let Some(slot) = self.table.slots.take(id) {
            self.table.numbers.remove(&slot.name);
            self.table.numbers_by_segment.change_name(&slot.name, |id| *id = None);
        }
    }

    /// Forgets the names that nobody holds any more, once they are the larger part.
    fn sweep(&mut self) {
        const SPARE: usize = 64;
        if self.table.slots.len() <= 2 * self.table.names.len() + SPARE {
            return;
        }
        let over = self.table.slots.iter().filter(|slot| slot.is_over());
        let over: Vec<Arc<str>> = over.map(|slot| slot.name.clone()).collect();
        for name in over {
            if let Some(&id) = self.table.numbers.get(&name) {
                self.forget(id);
            }
        }
    }

    fn done(mut self) -> RoutingTable {
        for id in std::mem::take(&mut self.touched) {
            let Some(slot) = self.table.slots.get(id) else { continue };
            if slot.is_over() {
                self.forget(id);
                continue;
            }
            let exact = (!slot.exact.is_empty()).then_some(&slot.exact);
            let targets = self.table.put_together(&slot.name, exact);
            let (called, onlookers) = answering(targets, &self.table.nobody);
            if let Some(slot) = self.table.slots.get_mut(id) {
                slot.called = called.into();
                slot.onlookers = onlookers;
            }
            #[cfg(test)]
            {
                self.table.recomputed += 1;
            }
        }
        self.table
    }
}

#[cfg(test)]
mod tests;
