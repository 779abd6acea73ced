//! What the graph of events tells beside its edges: which pattern takes which event, where events
//! lead nowhere, what nobody emits, and who may go round in a circle.

use std::collections::{BTreeMap, BTreeSet};

use ksi_host::Pattern;
use ksi_wire::router::{Edge, Graph, Node};

/// The host in a graph.
const HOST: &str = "host";

/// A graph with what follows from it.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    pub(crate) graph: Graph,
    /// Events that are emitted, and patterns that take them by a `*`.
    pub(crate) matches: BTreeSet<(String, String)>,
    /// Events that are emitted, or declared to be, and that nobody handles.
    pub(crate) unhandled: BTreeSet<String>,
    /// Events and patterns that somebody handles, and that nobody has emitted or declares.
    pub(crate) unfed: BTreeSet<String>,
    /// Nodes from each of which a way leads to all others and back, sorted.
    pub(crate) cycles: Vec<Vec<String>>,
}

impl Flow {
    /// What a graph tells; without the host's own events, which no plugin emits or handles, unless
    /// `all` are wanted.
    pub(crate) fn of(graph: Graph, all: bool) -> Self {
        let emitted: BTreeSet<&str> = of_kind(&graph, "emits").map(|edge| &*edge.to).collect();
        let handled: BTreeSet<&str> = of_kind(&graph, "handles").map(|edge| &*edge.from).collect();
        let mut matches = BTreeSet::new();
        for pattern in handled.iter().filter(|it| it.contains('*')) {
            let Ok(parsed) = Pattern::parse(pattern) else { continue };
            let taken = emitted.iter().filter(|event| *event != pattern && parsed.matches(event));
            matches.extend(taken.map(|event| ((*event).to_owned(), (*pattern).to_owned())));
        }
        let lead_on: BTreeSet<&str> = matches.iter().map(|(event, _)| &**event).collect();
        let are_fed: BTreeSet<&str> = matches.iter().map(|(_, pattern)| &**pattern).collect();
        // What the host tells whoever wants to know, and what it is asked by clients, is as it is
        // to be.
        let by_others: BTreeSet<&str> = of_kind(&graph, "emits")
            .filter(|edge| edge.from != HOST)
            .map(|edge| &*edge.to)
            .collect();
        let for_others: BTreeSet<&str> = of_kind(&graph, "handles")
            .filter(|edge| edge.to != HOST)
            .map(|edge| &*edge.from)
            .collect();
        let nowhere = by_others.difference(&handled).filter(|it| !lead_on.contains(**it));
        let from_nobody = for_others.difference(&emitted).filter(|it| !are_fed.contains(**it));
        let owned = |it: &&str| (*it).to_owned();
        let (unhandled, unfed) = (nowhere.map(owned).collect(), from_nobody.map(owned).collect());
        let mut flow = Flow { graph, matches, unhandled, unfed, cycles: Vec::new() };
        if !all {
            flow.leave_out_the_hosts_own();
        }
        flow.cycles = flow.circles();
        flow
    }

    /// Whether an edge is on a way that leads back to where it begins.
    pub(crate) fn is_on_cycle(&self, from: &str, to: &str) -> bool {
        let has = |cycle: &[String], id: &str| cycle.binary_search_by(|it| (**it).cmp(id)).is_ok();
        self.cycles.iter().any(|cycle| has(cycle, from) && has(cycle, to))
    }

    /// Whether something is part of a cycle.
    pub(crate) fn is_in_cycle(&self, id: &str) -> bool {
        self.is_on_cycle(id, id)
    }

    /// Keeps what plugins emit or handle.
    fn leave_out_the_hosts_own(&mut self) {
        let of_plugins: BTreeSet<&str> = of_kind_of_node(&self.graph.nodes, "plugin").collect();
        let kept: BTreeSet<String> = self
            .graph
            .edges
            .iter()
            .filter_map(|edge| match &*edge.kind {
                "emits" => of_plugins.contains(&*edge.from).then(|| edge.to.clone()),
                _ => of_plugins.contains(&*edge.to).then(|| edge.from.clone()),
            })
            .collect();
        let event = |edge: &Edge| match &*edge.kind {
            "emits" => kept.contains(&edge.to),
            _ => kept.contains(&edge.from),
        };
        let mut edges = std::mem::take(&mut self.graph.edges);
        edges.retain(event);
        self.graph.nodes.retain(|node| match &*node.kind {
            "event" => kept.contains(&node.id),
            "host" => edges.iter().any(|edge| edge.from == node.id || edge.to == node.id),
            _ => true,
        });
        self.matches.retain(|(event, pattern)| kept.contains(event) && kept.contains(pattern));
        self.graph.edges = edges;
    }

    /// The strongly connected parts with more than one node, without the host and clients: what
    /// these do next does not follow from what they were told.
    fn circles(&self) -> Vec<Vec<String>> {
        let outside: BTreeSet<&str> = of_kind_of_node(&self.graph.nodes, "host").collect();
        let pairs = self.graph.edges.iter().map(|edge| (&*edge.from, &*edge.to));
        let pairs = pairs.chain(self.matches.iter().map(|(event, pattern)| (&**event, &**pattern)));
        let (mut on, mut back) = (BTreeMap::new(), BTreeMap::new());
        for (from, to) in
            pairs.filter(|(from, to)| !outside.contains(from) && !outside.contains(to))
        {
            on.entry(from).or_insert_with(Vec::new).push(to);
            on.entry(to).or_default();
            back.entry(to).or_insert_with(Vec::new).push(from);
        }
        // Kosaraju: in the reverse of the order in which they are left, along the edges backwards.
        let (mut seen, mut left) = (BTreeSet::new(), Vec::new());
        for start in on.keys() {
            walk(start, &on, &mut seen, &mut left);
        }
        let (mut seen, mut circles) = (BTreeSet::new(), Vec::new());
        for start in left.into_iter().rev() {
            let mut part = Vec::new();
            walk(start, &back, &mut seen, &mut part);
            if part.len() > 1 {
                part.sort_unstable();
                circles.push(part.into_iter().map(str::to_owned).collect());
            }
        }
        circles.sort();
        circles
    }
}

pub(crate) fn of_kind<'a>(graph: &'a Graph, kind: &'static str) -> impl Iterator<Item = &'a Edge> {
    graph.edges.iter().filter(move |edge| edge.kind == kind)
}

fn of_kind_of_node<'a>(nodes: &'a [Node], kind: &'static str) -> impl Iterator<Item = &'a str> {
    nodes.iter().filter(move |node| node.kind == kind).map(|node| &*node.id)
}

/// All that can be reached from a node and was not seen, in the order in which it is left. Without
/// recursion: a graph may be as deep as it is large.
fn walk<'a>(
    start: &'a str,
    edges: &BTreeMap<&'a str, Vec<&'a str>>,
    seen: &mut BTreeSet<&'a str>,
    left: &mut Vec<&'a str>,
) {
    if !seen.insert(start) {
        return;
    }
    let next = |node: &str| edges.get(node).map(Vec::as_slice).unwrap_or_default().iter();
    let mut on_the_way = vec![(start, next(start))];
    while let Some((node, rest)) = on_the_way.last_mut() {
        match rest.next() {
            Some(to) if seen.insert(to) => on_the_way.push((to, next(to))),
            Some(_) => {}
            None => {
                left.push(node);
                on_the_way.pop();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(from: &str, to: &str, kind: &'static str, count: u64) -> Edge {
        let (from, to) = (from.to_owned(), to.to_owned());
        Edge { count, declared: count == 0, from, kind: kind.into(), to, ..Edge::default() }
    }

    fn graph(plugins: &[&str], edges: &[(&str, &str, &'static str)]) -> Graph {
        let node =
            |id: &str, kind: &'static str| Node { id: id.to_owned(), kind: kind.into(), failed: 0 };
        let events: BTreeSet<&str> = edges
            .iter()
            .map(|(from, to, kind)| if *kind == "emits" { *to } else { *from })
            .collect();
        let nodes = plugins.iter().map(|id| node(id, "plugin"));
        let nodes = nodes.chain(events.into_iter().map(|id| node(id, "event")));
        let nodes = nodes.chain([node("client", "host"), node("host", "host")]);
        let edges = edges.iter().map(|(from, to, kind)| edge(from, to, kind, 1));
        Graph { nodes: nodes.collect(), edges: edges.collect() }
    }

    fn names(set: &BTreeSet<String>) -> Vec<&str> {
        set.iter().map(String::as_str).collect()
    }

    #[test]
    fn what_leads_nowhere_and_what_nobody_emits_is_told_and_the_hosts_own_is_not() {
        let edges = [
            ("a", "x:lost", "emits"),
            ("a", "x:taken", "emits"),
            ("a", "x:by:star", "emits"),
            ("x:by:*", "b", "handles"),
            ("x:taken", "b", "handles"),
            ("y:wanted", "b", "handles"),
            ("z:*", "b", "handles"),
            ("module:loaded", "b", "handles"),
            ("host", "module:loaded", "emits"),
            ("host", "module:retired", "emits"),
            ("client", "module:list", "emits"),
            ("module:list", "host", "handles"),
            ("module:load", "host", "handles"),
        ];
        for all in [false, true] {
            let flow = Flow::of(graph(&["a", "b"], &edges), all);
            assert_eq!(names(&flow.unhandled), ["x:lost"]);
            assert_eq!(names(&flow.unfed), ["y:wanted", "z:*"]);
            assert_eq!(flow.matches.len(), 1);
            assert!(flow.cycles.is_empty());
            let is_there = |id: &str| flow.graph.nodes.iter().any(|node| node.id == id);
            assert!(is_there("module:loaded") && is_there("host"));
            assert_eq!(is_there("module:list") && is_there("module:retired"), all);
            assert_eq!(is_there("client"), all);
        }
    }

    #[test]
    fn circles_are_found_also_through_patterns_and_through_no_client() {
        let edges = [
            ("a", "x:one", "emits"),
            ("x:*", "b", "handles"),
            ("b", "y:two", "emits"),
            ("y:two", "a", "handles"),
            ("c", "x:three", "emits"),
            ("d", "d:self", "emits"),
            ("d:self", "d", "handles"),
            ("client", "y:asked", "emits"),
            ("y:asked", "c", "handles"),
        ];
        let flow = Flow::of(graph(&["a", "b", "c", "d"], &edges), false);
        assert_eq!(flow.cycles, [&["a", "b", "x:*", "x:one", "y:two"][..], &["d", "d:self"]]);
        assert!(flow.is_on_cycle("x:one", "x:*") && flow.is_on_cycle("d", "d:self"));
        assert!(!flow.is_on_cycle("c", "x:three") && !flow.is_on_cycle("x:three", "x:*"));
        assert!(!flow.is_on_cycle("a", "d"));
    }

    #[test]
    fn a_chain_as_long_as_it_likes_is_walked() {
        let names: Vec<(String, String)> =
            (0..20_000).map(|n| (format!("p{n}"), format!("e:{n}"))).collect();
        let mut graph = Graph::default();
        for (n, (plugin, event)) in names.iter().enumerate() {
            graph.edges.push(edge(plugin, event, "emits", 1));
            let next = &names[(n + 1) % names.len()].0;
            graph.edges.push(edge(event, next, "handles", 1));
        }
        let flow = Flow::of(graph, true);
        assert_eq!(flow.cycles.iter().map(Vec::len).collect::<Vec<_>>(), [40_000]);
    }
}
