//! A graph as SVG, for a page or a viewer: no script, no font and nothing else from elsewhere, and
//! colours for light and dark surroundings.
//!
//! What is wrong is said by a word and a shape, and by a colour beside them.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::super::flow::Flow;
use super::super::output;
use super::layout::{Column, Layout, Line, Place, layout};

/// In pixels: a node, what is between two of them, and what is around all.
const HEIGHT: f64 = 34.0;
const PITCH: f64 = 44.0;
const GAP: f64 = 110.0;
const MARGIN: f64 = 24.0;
/// Above the columns: their titles.
const TOP: f64 = 64.0;
/// What a character of the names takes at the most, as their font has 12 pixels.
const CHARACTER: f64 = 7.4;
/// A longer name is cut; all of it is in the title of its node.
const LONGEST: usize = 48;

const STYLE: &str = "\
svg{--paper:#fff;--ink:#1b1f24;--soft:#57606a;--line:#8c959f;--node:#f6f8fa;--bad:#b3261e;--look:#8a5a00;\
background:var(--paper)}\
@media(prefers-color-scheme:dark){svg{--paper:#0d1117;--ink:#e6edf3;--soft:#9da7b1;--line:#6e7681;--node:#161b22;\
--bad:#ff8a80;--look:#e3b341}}\
text{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;fill:var(--ink)}\
.sub{font-size:10px;fill:var(--soft)}.title{font-size:14px;font-weight:600}\
.paper{fill:var(--paper)}.node{fill:var(--node);stroke:var(--line);stroke-width:1.2}\
.line{fill:none;stroke:var(--line)}.unseen{stroke-dasharray:2 4}.takes{stroke-dasharray:8 4}\
.cycle{stroke:var(--look)}.node.cycle{stroke-width:2.4}.failed{stroke:var(--bad)}\
.node.dead{fill:none;stroke:var(--look);stroke-dasharray:5 4;stroke-width:1.8}\
.mark{font-size:13px;font-weight:700;text-anchor:middle;paint-order:stroke;stroke:var(--paper);stroke-width:4px}\
.look{fill:var(--look)}.bad{fill:var(--bad)}";

/// Where the boxes of a column are, and how wide.
struct Boxes {
    left: f64,
    width: f64,
    top: f64,
}

/// What stands below a node's name, and how it is drawn.
#[derive(Default)]
struct Marks {
    words: Vec<String>,
    classes: Vec<&'static str>,
    /// The class of the words.
    tone: &'static str,
}

pub(super) fn svg(flow: &Flow) -> String {
    let layout = layout(flow);
    let failures = failures(flow);
    let rows = layout.columns.values().map(Vec::len).max().unwrap_or_default();
    let (mut boxes, mut right) = (BTreeMap::new(), MARGIN);
    for (column, ids) in &layout.columns {
        let places = ids.iter().map(|id| (*column, *id));
        let wide = places.map(|place| {
            let below = marks(flow, &failures, place).words.join(", ");
            let name = cut(place.1).chars().count() as f64 * CHARACTER;
            name.max(below.chars().count() as f64 * CHARACTER * 10.0 / 12.0)
        });
        let width = wide.fold(90.0, f64::max) + 20.0;
        let top = TOP + (rows - ids.len()) as f64 * PITCH / 2.0;
        boxes.insert(*column, Boxes { left: right, width, top });
        right += width + GAP;
    }
    let legend = legend(flow);
    let bottom = TOP + rows.max(1) as f64 * PITCH;
    let (width, height) =
        ((right - GAP + MARGIN).max(640.0), bottom + MARGIN + legend.len() as f64 * 18.0);
    // Writing to a String cannot fail.
    let mut out = String::new();
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" role=\"img\" aria-labelledby=\"title desc\">\n\
         <title id=\"title\">Events of a ksi host</title>\n<desc id=\"desc\">{}</desc>\n<style>{STYLE}</style>\n\
         <rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n\
         <text class=\"title\" x=\"{MARGIN}\" y=\"26\">Who emits and who handles which event</text>\n",
        text(&legend.join(". "))
    );
    let middles = middles(&layout, &boxes);
    for line in &layout.lines {
        draw_line(&mut out, flow, &middles, line);
    }
    for (column, ids) in &layout.columns {
        let Some(of_column) = boxes.get(column) else { continue };
        let title = match column {
            Column::Emitters => "emitted by",
            Column::Events => "events",
            Column::Patterns => "patterns",
            Column::Handlers => "handled by",
        };
        let _ = writeln!(
            out,
            "<text class=\"sub\" x=\"{:.1}\" y=\"{:.1}\">{title}</text>",
            of_column.left,
            TOP - 10.0
        );
        for (row, id) in ids.iter().enumerate() {
            let place = (*column, *id);
            draw_node(&mut out, of_column, row, place, &marks(flow, &failures, place));
        }
    }
    for (row, line) in legend.iter().enumerate() {
        let y = bottom + MARGIN + row as f64 * 18.0;
        let _ =
            writeln!(out, "<text class=\"sub\" x=\"{MARGIN}\" y=\"{y:.1}\">{}</text>", text(line));
    }
    out.push_str("</svg>\n");
    out
}

/// The middle of a node's left and right side.
struct Middle {
    left: f64,
    right: f64,
    y: f64,
}

fn middles<'a>(
    layout: &Layout<'a>,
    boxes: &BTreeMap<Column, Boxes>,
) -> BTreeMap<Place<'a>, Middle> {
    let mut middles = BTreeMap::new();
    for (column, ids) in &layout.columns {
        let Some(Boxes { left, width, top }) = boxes.get(column) else { continue };
        for (row, id) in ids.iter().enumerate() {
            let y = top + row as f64 * PITCH + HEIGHT / 2.0;
            middles.insert((*column, *id), Middle { left: *left, right: left + width, y });
        }
    }
    middles
}

/// How many calls of each plugin failed.
fn failures(flow: &Flow) -> BTreeMap<&str, u64> {
    flow.graph.nodes.iter().map(|node| (&*node.id, node.failed)).collect()
}

fn marks(flow: &Flow, failures: &BTreeMap<&str, u64>, (column, id): Place<'_>) -> Marks {
    let mut marks = Marks::default();
    let is_event = matches!(column, Column::Events | Column::Patterns);
    if flow.is_in_cycle(id) {
        marks.words.push("\u{21bb} cycle".to_owned());
        marks.classes.push("cycle");
        marks.tone = " look";
    }
    if is_event && flow.unhandled.contains(id) {
        marks.words.push("nobody handles it".to_owned());
        (marks.tone, marks.classes) = (" look", vec!["dead"]);
    }
    if is_event && flow.unfed.contains(id) {
        marks.words.push("nobody emits it".to_owned());
        (marks.tone, marks.classes) = (" look", vec!["dead"]);
    }
    let failed = failures.get(id).copied().unwrap_or_default();
    if column == Column::Handlers && failed > 0 {
        marks.words.push(format!("\u{2715} {failed} failed"));
        marks.classes.push("failed");
        marks.tone = " bad";
    }
    marks
}

fn draw_node(out: &mut String, column: &Boxes, row: usize, (of, id): Place<'_>, marks: &Marks) {
    let Boxes { left, width, top } = column;
    let y = top + row as f64 * PITCH;
    // Those who do something have corners.
    let round = if matches!(of, Column::Events | Column::Patterns) { HEIGHT / 2.0 } else { 3.0 };
    let classes: String = marks.classes.iter().map(|class| format!(" {class}")).collect();
    let baseline = if marks.words.is_empty() { y + 21.0 } else { y + 15.0 };
    let _ = writeln!(
        out,
        "<g><title>{}</title><rect class=\"node{classes}\" x=\"{left:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" \
         height=\"{HEIGHT}\" rx=\"{round}\"/><text x=\"{:.1}\" y=\"{baseline:.1}\">{}</text>{}</g>",
        text(id),
        left + 10.0,
        text(&cut(id)),
        match marks.words.is_empty() {
            true => String::new(),
            false => format!(
                "<text class=\"sub{}\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                marks.tone,
                left + 10.0,
                y + 28.0,
                text(&marks.words.join(", "))
            ),
        }
    );
}

fn draw_line(
    out: &mut String,
    flow: &Flow,
    middles: &BTreeMap<Place<'_>, Middle>,
    line: &Line<'_>,
) {
    let Some((from, to)) = middles.get(&line.from).zip(middles.get(&line.to)) else { return };
    let (x1, y1, x2, y2) = (from.right, from.y, to.left, to.y);
    let bend = (x2 - x1) / 2.0;
    let is_cycle = flow.is_on_cycle(line.from.1, line.to.1);
    let mut class = "line".to_owned();
    for (is, name) in [
        (line.count == Some(0), " unseen"),
        (line.count.is_none(), " takes"),
        (is_cycle, " cycle"),
        (line.failed > 0, " failed"),
    ] {
        class.push_str(if is { name } else { "" });
    }
    // Ten times as many are drawn by one more step, and a circle by one more at least.
    let count = line.count.unwrap_or_default();
    let width = (1.0 + (count as f64 + 1.0).log10() * 0.7).min(5.0) + f64::from(u8::from(is_cycle));
    let mut told = format!("{} \u{2192} {}", line.from.1, line.to.1);
    match line.count {
        None => told.push_str(": the pattern takes it"),
        Some(0) => told.push_str(": declared, not seen so far"),
        Some(count) => {
            let _ = write!(told, ": {count} so far");
        }
    }
    if line.failed > 0 {
        let _ = write!(told, ", {} failed", line.failed);
    }
    if is_cycle {
        told.push_str(", part of a cycle");
    }
    let _ = write!(
        out,
        "<g><title>{}</title><path class=\"{class}\" stroke-width=\"{width:.1}\" \
         d=\"M{x1:.1} {y1:.1}C{:.1} {y1:.1} {:.1} {y2:.1} {x2:.1} {y2:.1}\"/>",
        text(&told),
        x1 + bend,
        x2 - bend
    );
    let (x, y) = (x1 + bend, (y1 + y2) / 2.0 + 4.0);
    let mark = match (line.failed, is_cycle) {
        (0, true) => Some(("look", "\u{21bb}".to_owned())),
        (0, false) => None,
        (failed, _) => Some(("bad", format!("\u{2715} {failed}"))),
    };
    if let Some((tone, mark)) = mark {
        let _ = write!(out, "<text class=\"mark {tone}\" x=\"{x:.1}\" y=\"{y:.1}\">{mark}</text>");
    }
    out.push_str("</g>\n");
}

/// What there is to know in words, a line each.
fn legend(flow: &Flow) -> Vec<String> {
    let mut lines = vec![
        "dotted: declared, not seen so far; wider: more often; dashed line: a pattern takes it"
            .to_owned(),
    ];
    if flow.graph.nodes.iter().any(|node| node.failed > 0) {
        lines.push(
            "\u{2715} failed: calls that failed, panicked, crashed, timed out or were rejected"
                .to_owned(),
        );
    }
    if !flow.unhandled.is_empty() || !flow.unfed.is_empty() {
        lines.push(
            "hollow and dashed: nobody handles it, or nobody has emitted it so far".to_owned(),
        );
    }
    for cycle in &flow.cycles {
        const SHOWN: usize = 8;
        let more = cycle.len().saturating_sub(SHOWN);
        let mut line = format!("\u{21bb} cycle: {}", cycle[..cycle.len() - more].join(", "));
        if more > 0 {
            let _ = write!(line, " and {more} more");
        }
        lines.push(line);
    }
    lines
}

fn cut(name: &str) -> String {
    let name = output::plain(name);
    match name.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}\u{2026}", &name[..end]),
        None => name.into_owned(),
    }
}

/// As text of a document of XML, whatever it is.
fn text(text: &str) -> String {
    let mut out = String::new();
    for c in output::plain(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // No document may hold these, however they are written.
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests;
