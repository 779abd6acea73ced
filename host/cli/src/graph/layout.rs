//! Where things stand in a drawing of a graph: in columns from left to right, so that one sees an
//! event go from whoever emits it to whoever handles it.
//!
//! Which column something stands in follows from what it is, so nothing is ranked and no edge is
//! turned round; what is left is the order within a column. Each is ordered by where its
//! neighbours stand, to and fro a few times, and by name where that says nothing: the same graph is
//! drawn the same way. Every graph has such a drawing, with circles or without.

use std::collections::{BTreeMap, BTreeSet};

use super::super::flow::{Flow, of_kind};

/// From left to right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Column {
    Emitters,
    Events,
    /// With a `*`: between the events that they take, and their handlers.
    Patterns,
    Handlers,
}

/// How often the columns are ordered by one another.
const ROUNDS: usize = 8;

/// A node in its column. A plugin that emits and handles stands in two.
pub(super) type Place<'a> = (Column, &'a str);

/// What leads from one column to one further to the right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) from: Place<'a>,
    pub(super) to: Place<'a>,
    /// How often that was seen; that a pattern takes an event is known without.
    pub(super) count: Option<u64>,
    pub(super) failed: u64,
}

/// The columns with what stands in them from top to bottom, and the lines between them.
#[derive(Debug, Default)]
pub(super) struct Layout<'a> {
    pub(super) columns: BTreeMap<Column, Vec<&'a str>>,
    pub(super) lines: Vec<Line<'a>>,
}

pub(super) fn layout(flow: &Flow) -> Layout<'_> {
    let of_event = |id: &str| if id.contains('*') { Column::Patterns } else { Column::Events };
    let emits = of_kind(&flow.graph, "emits").map(|edge| Line {
        from: (Column::Emitters, &*edge.from),
        to: (of_event(&edge.to), &*edge.to),
        count: Some(edge.count),
        failed: 0,
    });
    let matches = flow.matches.iter().map(|(event, pattern)| Line {
        from: (Column::Events, &**event),
        to: (Column::Patterns, &**pattern),
        count: None,
        failed: 0,
    });
    let handles = of_kind(&flow.graph, "handles").map(|edge| Line {
        from: (of_event(&edge.from), &*edge.from),
        to: (Column::Handlers, &*edge.to),
        count: Some(edge.count),
        failed: edge.failed,
    });
    let lines: Vec<Line<'_>> = emits.chain(matches).chain(handles).collect();
    let mut places: BTreeSet<Place<'_>> =
        lines.iter().flat_map(|line| [line.from, line.to]).collect();
    let linked: BTreeSet<&str> = places.iter().map(|(_, id)| *id).collect();
    let plugins = flow.graph.nodes.iter().filter(|node| node.kind == "plugin");
    let alone = plugins.filter(|node| !linked.contains(&*node.id));
    places.extend(alone.map(|node| (Column::Emitters, &*node.id)));
    let mut columns: BTreeMap<Column, Vec<&str>> = BTreeMap::new();
    for (column, id) in places {
        columns.entry(column).or_default().push(id);
    }
    order(&mut columns, &lines);
    Layout { columns, lines }
}

/// Orders each column by the mean place of its neighbours: in the columns before it, then in those
/// behind it, and so on.
fn order<'a>(columns: &mut BTreeMap<Column, Vec<&'a str>>, lines: &[Line<'a>]) {
    let mut before: BTreeMap<Place<'a>, Vec<Place<'a>>> = BTreeMap::new();
    let mut behind = before.clone();
    for line in lines {
        before.entry(line.to).or_default().push(line.from);
        behind.entry(line.from).or_default().push(line.to);
    }
    let all: Vec<Column> = columns.keys().copied().collect();
    for round in 0..ROUNDS {
        let (neighbours, turn): (_, Vec<Column>) = match round % 2 {
            0 => (&before, all.clone()),
            _ => (&behind, all.iter().rev().copied().collect()),
        };
        for column in turn {
            // As a share of its column, since columns are of different length.
            let heights: BTreeMap<Place<'a>, f64> = columns
                .iter()
                .flat_map(|(column, ids)| {
                    let share = |at: usize| (at as f64 + 0.5) / ids.len() as f64;
                    ids.iter().enumerate().map(move |(at, id)| ((*column, *id), share(at)))
                })
                .collect();
            let Some(ids) = columns.get_mut(&column) else { continue };
            let wanted = |id: &'a str| {
                let near = neighbours.get(&(column, id)).map(Vec::as_slice).unwrap_or_default();
                let near: Vec<f64> =
                    near.iter().filter_map(|it| heights.get(it).copied()).collect();
                match near.is_empty() {
                    true => heights.get(&(column, id)).copied().unwrap_or_default(),
                    false => near.iter().sum::<f64>() / near.len() as f64,
                }
            };
            let mut keyed: Vec<(f64, &str)> = ids.iter().map(|id| (wanted(id), *id)).collect();
            keyed.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(b.1)));
            *ids = keyed.into_iter().map(|(_, id)| id).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use ksi_wire::router::{Edge, Graph, Node};

    use super::*;

    fn flow(plugins: &[&str], edges: &[(&str, &str, &'static str)]) -> Flow {
        let node = |id: &&str| Node { id: (*id).to_owned(), kind: "plugin".into(), failed: 0 };
        let edges = edges.iter().map(|(from, to, kind)| Edge {
            from: (*from).to_owned(),
            to: (*to).to_owned(),
            kind: (*kind).into(),
            ..Edge::default()
        });
        let graph = Graph { nodes: plugins.iter().map(node).collect(), edges: edges.collect() };
        Flow::of(graph, true)
    }

    #[test]
    fn everything_stands_in_the_column_of_what_it_is_and_lines_go_to_the_right() {
        let edges = [
            ("a", "x:one", "emits"),
            ("x:*", "b", "handles"),
            ("b", "y:two", "emits"),
            ("y:two", "a", "handles"),
        ];
        let flow = flow(&["a", "b", "alone"], &edges);
        let layout = layout(&flow);
        assert_eq!(layout.columns[&Column::Emitters], ["a", "alone", "b"]);
        assert_eq!(layout.columns[&Column::Events], ["x:one", "y:two"]);
        assert_eq!(layout.columns[&Column::Patterns], ["x:*"]);
        assert_eq!(layout.columns[&Column::Handlers].len(), 2);
        assert_eq!(layout.lines.len(), 5);
        assert!(layout.lines.iter().all(|line| line.from.0 < line.to.0));
    }

    #[test]
    fn neighbours_stand_side_by_side_where_that_crosses_no_lines() {
        let names: Vec<[String; 3]> = (0..20)
            .map(|n| {
                [format!("p{n:02}"), format!("e:{:02}", 19 - n), format!("h{:02}", n * 7 % 20)]
            })
            .collect();
        let edges: Vec<_> = names
            .iter()
            .flat_map(|[from, event, to]| {
                [(&**from, &**event, "emits"), (&**event, &**to, "handles")]
            })
            .collect();
        let flow = flow(&[], &edges);
        let layout = layout(&flow);
        let at = |(column, id): Place<'_>| {
            layout.columns[&column].iter().position(|it| *it == id).expect("it stands there")
        };
        assert!(layout.lines.iter().all(|line| at(line.from) == at(line.to)), "{layout:?}");
    }
}
