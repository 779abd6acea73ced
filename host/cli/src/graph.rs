//! `ksi graph`: who emits and who handles which event, as a drawing in text.

use std::collections::BTreeMap;
use std::fmt::Write;

use ksi_wire::router::{Edge, Graph};
use serde_json::json;
use serde_json::value::RawValue;

use super::args::{Common, Format, Graph as Args};
use super::client::SOON;
use super::exit::CommandFailure;
use super::list::understood;
use super::output;

pub(crate) fn graph(common: &Common, args: Args) -> Result<(), CommandFailure> {
    let answer: Box<RawValue> = common.client()?.ask("router:graph", &json!({}), SOON)?;
    match args.format {
        Format::Json => output::json(answer.get()),
        Format::Mermaid => output::text(mermaid(&understood(&answer)?).trim_end()),
        Format::Dot => output::text(dot(&understood(&answer)?).trim_end()),
    }
}

/// Nodes by their ids with a short name each; an end of an edge that is no node gets one.
fn names(graph: &Graph) -> BTreeMap<&str, (String, &str)> {
    let declared = graph.nodes.iter().map(|node| (node.id.as_str(), &*node.kind));
    let mentioned = graph.edges.iter().flat_map(|edge| [edge.from.as_str(), edge.to.as_str()]);
    let mut kinds: BTreeMap<&str, &str> = mentioned.map(|id| (id, "")).collect();
    kinds.extend(declared);
    kinds.into_iter().enumerate().map(|(at, (id, kind))| (id, (format!("n{at}"), kind))).collect()
}

fn label(edge: &Edge) -> String {
    match edge.count {
        0 => edge.kind.clone().into_owned(),
        count => format!("{} {count}", edge.kind),
    }
}

fn mermaid(graph: &Graph) -> String {
    let text = |text: &str| {
        output::plain(text).replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;")
    };
    let names = names(graph);
    // Writing to a String cannot fail.
    let mut out = String::from("flowchart LR\n");
    for (id, (name, kind)) in &names {
        let (open, close) = match *kind {
            "event" => ("([", "])"),
            "host" => ("{{", "}}"),
            _ => ("[", "]"),
        };
        let _ = writeln!(out, "    {name}{open}\"{}\"{close}", text(id));
    }
    for edge in &graph.edges {
        let arrow = if edge.count == 0 { "-.->" } else { "-->" };
        let (from, to) = (&names[edge.from.as_str()].0, &names[edge.to.as_str()].0);
        let _ = writeln!(out, "    {from} {arrow}|\"{}\"| {to}", text(&label(edge)));
    }
    out
}

fn dot(graph: &Graph) -> String {
    let text = |text: &str| output::plain(text).replace('\\', "\\\\").replace('"', "\\\"");
    let names = names(graph);
    // Writing to a String cannot fail.
    let mut out = String::from("digraph ksi {\n    rankdir=LR;\n");
    for (id, (name, kind)) in &names {
        let shape = match *kind {
            "event" => "ellipse",
            "host" => "hexagon",
            _ => "box",
        };
        let _ = writeln!(out, "    {name} [label=\"{}\", shape={shape}];", text(id));
    }
    for edge in &graph.edges {
        let style = if edge.count == 0 { ", style=dotted" } else { "" };
        let (from, to) = (&names[edge.from.as_str()].0, &names[edge.to.as_str()].0);
        let _ = writeln!(out, "    {from} -> {to} [label=\"{}\"{style}];", text(&label(edge)));
    }
    out.push_str("}\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph() -> Graph {
        serde_json::from_value(json!({
            "nodes": [{"id": "hello", "kind": "plugin"}, {"id": "greet:done", "kind": "event"},
                      {"id": "host", "kind": "host"}],
            "edges": [{"from": "hello", "to": "greet:done", "kind": "emits", "count": 0, "declared": true},
                      {"from": "greet:done", "to": "log \"all\"", "kind": "handles", "count": 7, "declared": false}],
        }))
        .expect("a graph as the host sends it")
    }

    #[test]
    fn mermaid_quotes_labels_and_dots_what_was_not_seen() {
        assert_eq!(
            mermaid(&graph()),
            "flowchart LR\n    n0([\"greet:done\"])\n    n1[\"hello\"]\n    n2{{\"host\"}}\n\
             \x20   n3[\"log &quot;all&quot;\"]\n    n1 -.->|\"emits\"| n0\n    n0 -->|\"handles 7\"| n3\n"
        );
    }

    #[test]
    fn dot_quotes_labels_and_dots_what_was_not_seen() {
        assert_eq!(
            dot(&graph()),
            "digraph ksi {\n    rankdir=LR;\n    n0 [label=\"greet:done\", shape=ellipse];\n\
             \x20   n1 [label=\"hello\", shape=box];\n    n2 [label=\"host\", shape=hexagon];\n\
             \x20   n3 [label=\"log \\\"all\\\"\", shape=box];\n    n1 -> n0 [label=\"emits\", style=dotted];\n\
             \x20   n0 -> n3 [label=\"handles 7\"];\n}\n"
        );
    }

    #[test]
    fn an_empty_graph_is_still_a_drawing() {
        let empty = Graph::default();
        assert_eq!(mermaid(&empty), "flowchart LR\n");
        assert_eq!(dot(&empty), "digraph ksi {\n    rankdir=LR;\n}\n");
    }
}
