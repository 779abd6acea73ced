//! `ksi graph`: who emits and who handles which event, as a drawing, with what is wrong marked.

mod layout;
mod svg;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::path::Path;

use ksi_wire::router::{Edge, Graph};
use serde_json::json;
use serde_json::value::RawValue;

use super::args::{Common, Format, Graph as Args};
use super::client::SOON;
use super::exit::CommandFailure;
use super::flow::Flow;
use super::list::understood;
use super::output;

pub(crate) fn graph(common: &Common, args: Args) -> Result<(), CommandFailure> {
    let format = format_of(&args)?;
    let answer: Box<RawValue> = common.client()?.ask("router:graph", &json!({}), SOON)?;
    let drawing = match format {
        Format::Json => answer.get().to_owned(),
        _ => {
            let flow = Flow::of(understood::<Graph>(&answer)?, args.all);
            match format {
                Format::Svg => svg::svg(&flow),
                Format::Dot => dot(&flow),
                Format::Mermaid | Format::Json => mermaid(&flow),
            }
        }
    };
    match (&args.output, format) {
        (Some(file), _) => {
            let written = std::fs::write(file, format!("{}\n", drawing.trim_end()));
            let at = |error| io::Error::other(format!("{}: {error}", file.display()));
            written.map_err(|error| CommandFailure::host("the drawing is not written")(at(error)))
        }
        (None, Format::Json) => output::json(&drawing),
        (None, _) => output::text(drawing.trim_end()),
    }
}

/// The one that is named, or that of the file.
fn format_of(args: &Args) -> Result<Format, CommandFailure> {
    let Some(file) = args.output.as_deref().filter(|_| args.format.is_none()) else {
        return Ok(args.format.unwrap_or(Format::Mermaid));
    };
    let ending = Path::new(file).extension().and_then(|ending| ending.to_str());
    match ending {
        Some("svg") => Ok(Format::Svg),
        Some("dot" | "gv") => Ok(Format::Dot),
        Some("mmd" | "mermaid") => Ok(Format::Mermaid),
        Some("json") => Ok(Format::Json),
        _ => Err(CommandFailure::Usage(format!(
            "{} does not say which drawing it is to be: end it in .svg, .dot, .mmd or .json, or say --format",
            file.display()
        ))),
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

/// What somebody should know of a node, in brackets behind its name.
fn remark(flow: &Flow, id: &str) -> &'static str {
    match (flow.unhandled.contains(id), flow.unfed.contains(id)) {
        (true, _) => " (nobody handles it)",
        (_, true) => " (nobody emits it)",
        (false, false) => "",
    }
}

/// `handles 7, 2 failed, cycle`
fn label(flow: &Flow, edge: &Edge) -> String {
    let mut label = edge.kind.clone().into_owned();
    // Writing to a String cannot fail.
    if edge.count > 0 {
        let _ = write!(label, " {}", edge.count);
    }
    if edge.failed > 0 {
        let _ = write!(label, ", {} failed", edge.failed);
    }
    if flow.is_on_cycle(&edge.from, &edge.to) {
        label.push_str(", cycle");
    }
    label
}

fn mermaid(flow: &Flow) -> String {
    let text = |text: &str| {
        output::plain(text).replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;")
    };
    let names = names(&flow.graph);
    // Writing to a String cannot fail.
    let mut out = String::from("flowchart LR\n");
    for (id, (name, kind)) in &names {
        let (open, close) = match *kind {
            "event" => ("([", "])"),
            "host" => ("{{", "}}"),
            _ => ("[", "]"),
        };
        let _ = writeln!(out, "    {name}{open}\"{}{}\"{close}", text(id), remark(flow, id));
    }
    for edge in &flow.graph.edges {
        let arrow = match edge.count {
            0 => "-.->",
            _ if flow.is_on_cycle(&edge.from, &edge.to) => "==>",
            _ => "-->",
        };
        let (from, to) = (&names[edge.from.as_str()].0, &names[edge.to.as_str()].0);
        let _ = writeln!(out, "    {from} {arrow}|\"{}\"| {to}", text(&label(flow, edge)));
    }
    for (from, to) in taken(flow, &names) {
        let _ = writeln!(out, "    {from} -.->|\"matches\"| {to}");
    }
    out
}

fn dot(flow: &Flow) -> String {
    let text = |text: &str| output::plain(text).replace('\\', "\\\\").replace('"', "\\\"");
    let names = names(&flow.graph);
    // Writing to a String cannot fail.
    let mut out = String::from("digraph ksi {\n    rankdir=LR;\n");
    for (id, (name, kind)) in &names {
        let shape = match *kind {
            "event" => "ellipse",
            "host" => "hexagon",
            _ => "box",
        };
        let remark = remark(flow, id);
        let style = if remark.is_empty() { "" } else { ", style=dashed" };
        let _ = writeln!(out, "    {name} [label=\"{}{remark}\", shape={shape}{style}];", text(id));
    }
    for edge in &flow.graph.edges {
        let style = match edge.count {
            0 => ", style=dotted",
            _ if flow.is_on_cycle(&edge.from, &edge.to) => ", style=bold",
            _ => "",
        };
        let colour = if edge.failed > 0 { ", color=red" } else { "" };
        let (from, to) = (&names[edge.from.as_str()].0, &names[edge.to.as_str()].0);
        let label = text(&label(flow, edge));
        let _ = writeln!(out, "    {from} -> {to} [label=\"{label}\"{style}{colour}];");
    }
    for (from, to) in taken(flow, &names) {
        let _ = writeln!(out, "    {from} -> {to} [label=\"matches\", style=dashed];");
    }
    out.push_str("}\n");
    out
}

/// Which event is taken by which pattern, by their short names.
fn taken<'a>(
    flow: &'a Flow,
    names: &'a BTreeMap<&str, (String, &str)>,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let short = |id: &str| names.get(id).map(|(name, _)| name.as_str());
    flow.matches.iter().filter_map(move |(event, pattern)| short(event).zip(short(pattern)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow() -> Flow {
        let graph = serde_json::from_value(json!({
            "nodes": [{"id": "hello", "kind": "plugin"}, {"id": "log", "kind": "plugin"},
                      {"id": "greet:done", "kind": "event"}, {"id": "greet:\"all\"", "kind": "event"}],
            "edges": [{"from": "hello", "to": "greet:done", "kind": "emits", "count": 0, "declared": true},
                      {"from": "greet:\"all\"", "to": "log", "kind": "handles", "count": 7, "failed": 2},
                      {"from": "log", "to": "greet:\"all\"", "kind": "emits", "count": 7}],
        }))
        .expect("a graph as the host sends it");
        Flow::of(graph, false)
    }

    #[test]
    fn mermaid_quotes_labels_and_marks_what_is_unseen_dead_failed_and_in_a_circle() {
        assert_eq!(
            mermaid(&flow()),
            "flowchart LR\n    n0([\"greet:&quot;all&quot;\"])\n    n1([\"greet:done (nobody handles it)\"])\n\
             \x20   n2[\"hello\"]\n    n3[\"log\"]\n    n2 -.->|\"emits\"| n1\n\
             \x20   n0 ==>|\"handles 7, 2 failed, cycle\"| n3\n    n3 ==>|\"emits 7, cycle\"| n0\n"
        );
    }

    #[test]
    fn dot_quotes_labels_and_marks_what_is_unseen_dead_failed_and_in_a_circle() {
        assert_eq!(
            dot(&flow()),
            "digraph ksi {\n    rankdir=LR;\n    n0 [label=\"greet:\\\"all\\\"\", shape=ellipse];\n\
             \x20   n1 [label=\"greet:done (nobody handles it)\", shape=ellipse, style=dashed];\n\
             \x20   n2 [label=\"hello\", shape=box];\n    n3 [label=\"log\", shape=box];\n\
             \x20   n2 -> n1 [label=\"emits\", style=dotted];\n\
             \x20   n0 -> n3 [label=\"handles 7, 2 failed, cycle\", style=bold, color=red];\n\
             \x20   n3 -> n0 [label=\"emits 7, cycle\", style=bold];\n}\n"
        );
    }

    #[test]
    fn an_empty_graph_is_still_a_drawing() {
        let empty = Flow::default();
        assert_eq!(mermaid(&empty), "flowchart LR\n");
        assert_eq!(dot(&empty), "digraph ksi {\n    rankdir=LR;\n}\n");
    }

    #[test]
    fn the_name_of_the_file_says_which_drawing_it_is_unless_somebody_does() {
        let of = |output: Option<&str>, format| {
            format_of(&Args { all: false, format, output: output.map(Into::into) }).ok()
        };
        for (name, format) in
            [("a.svg", Format::Svg), ("a.gv", Format::Dot), ("x/a.mmd", Format::Mermaid)]
        {
            assert_eq!(of(Some(name), None), Some(format));
            assert_eq!(of(Some(name), Some(Format::Json)), Some(Format::Json));
        }
        assert_eq!(of(None, None), Some(Format::Mermaid));
        assert_eq!((of(Some("a"), None), of(Some("a.png"), None)), (None, None));
    }
}
