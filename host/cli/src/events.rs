//! `ksi events`: every event that somebody handles, and who; with `--dead`, where events lead
//! nowhere, and what nobody emits.

use std::collections::{BTreeMap, BTreeSet};

use ksi_wire::module::{Events, Subscriber};
use ksi_wire::router::{Edge, Graph};
use serde_json::json;
use serde_json::value::RawValue;

use super::args::{Common, Events as Args};
use super::client::SOON;
use super::exit::CommandFailure;
use super::flow::{Flow, of_kind};
use super::list::understood;
use super::output;
use super::table::{Column, Table, Tone};

pub(crate) fn events(common: &Common, args: Args) -> Result<(), CommandFailure> {
    if args.dead {
        let answer: Box<RawValue> = common.client()?.ask("router:graph", &json!({}), SOON)?;
        let flow = Flow::of(understood::<Graph>(&answer)?, true);
        return if args.json { output::json(&dead_as_json(&flow)) } else { dead(&flow) };
    }
    let answer: Box<RawValue> = common.client()?.ask("module:events", &json!({}), SOON)?;
    if args.json {
        return output::json(answer.get());
    }
    let Events { events } = understood(&answer)?;
    output::text(&table(&events).render())
}

fn table(events: &BTreeMap<String, Vec<Subscriber>>) -> Table {
    let mut table = Table::new(&[
        Column::Text("EVENT"),
        Column::Text("PLUGIN"),
        Column::Text("HANDLER"),
        Column::Number("PRIORITY"),
    ]);
    for (event, handlers) in events {
        for Subscriber { module, handler, priority } in handlers {
            let cells = [event.as_str(), module, handler, &priority.to_string()];
            table.row(cells.map(|cell| (cell, Tone::Usual)));
        }
    }
    table
}

fn dead(flow: &Flow) -> Result<(), CommandFailure> {
    let (unhandled, unfed) = dead_tables(flow);
    match unhandled {
        Some(table) => output::text(&table.render())?,
        None => output::remark("every event that plugins emit has a handler"),
    }
    if !flow.unhandled.is_empty() && !flow.unfed.is_empty() {
        output::text("")?;
    }
    match unfed {
        Some(table) => output::text(&table.render()),
        None => {
            output::remark("every event that plugins handle was emitted, or is declared");
            Ok(())
        }
    }
}

/// What is emitted and not handled, and the other way round; each if there is any.
fn dead_tables(flow: &Flow) -> (Option<Table>, Option<Table>) {
    let mut unhandled = Table::new(&[
        Column::Text("NOBODY HANDLES"),
        Column::Text("EMITTED BY"),
        Column::Number("SO FAR"),
    ]);
    for edge in emitters(flow) {
        let cells = [&*edge.to, &*edge.from, &edge.count.to_string()];
        unhandled.row(cells.map(|cell| (cell, Tone::Usual)));
    }
    let mut unfed = Table::new(&[Column::Text("NOBODY EMITS"), Column::Text("HANDLED BY")]);
    for event in &flow.unfed {
        let by = handlers(flow, event).into_iter().collect::<Vec<_>>().join(", ");
        unfed.row([(event.as_str(), Tone::Usual), (&by, Tone::Usual)]);
    }
    let any = |set: &BTreeSet<String>, table| (!set.is_empty()).then_some(table);
    (any(&flow.unhandled, unhandled), any(&flow.unfed, unfed))
}

fn emitters(flow: &Flow) -> Vec<&Edge> {
    let emitted = of_kind(&flow.graph, "emits").filter(|edge| flow.unhandled.contains(&edge.to));
    let mut emitted: Vec<&Edge> = emitted.collect();
    emitted.sort_by(|a, b| (&a.to, &a.from).cmp(&(&b.to, &b.from)));
    emitted
}

fn handlers<'a>(flow: &'a Flow, event: &str) -> BTreeSet<&'a str> {
    let handled = of_kind(&flow.graph, "handles").filter(|edge| edge.from == *event);
    handled.map(|edge| &*edge.to).collect()
}

fn dead_as_json(flow: &Flow) -> String {
    let mut unhandled: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for Edge { from, to, count, declared, .. } in emitters(flow) {
        let by = json!({"name": from, "count": count, "declared": declared});
        unhandled.entry(to).or_default().push(by);
    }
    let unhandled = unhandled.iter().map(|(event, by)| json!({"event": event, "emitted_by": by}));
    let unfed = flow.unfed.iter();
    let unfed = unfed.map(|event| json!({"event": event, "handled_by": handlers(flow, event)}));
    json!({"unhandled": unhandled.collect::<Vec<_>>(), "unfed": unfed.collect::<Vec<_>>()})
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_a_line_for_each_handler() {
        let events = serde_json::from_value(json!({
            "b:two": [{"module": "m", "handler": "h", "priority": 0}],
            "a:one": [{"module": "m", "handler": "h", "priority": 10}, {"module": "n", "handler": "i", "priority": -1}],
        }))
        .expect("events as the host sends them");
        assert_eq!(
            table(&events).render(),
            "EVENT  PLUGIN  HANDLER  PRIORITY\n\
             a:one  m       h              10\n\
             a:one  n       i              -1\n\
             b:two  m       h               0"
        );
    }

    #[test]
    fn what_is_dead_is_told_with_who_emits_or_handles_it() {
        let graph = serde_json::from_value(json!({
            "nodes": [{"id": "m", "kind": "plugin"}, {"id": "n", "kind": "plugin"}],
            "edges": [{"from": "m", "to": "a:lost", "kind": "emits", "count": 3, "declared": false},
                      {"from": "n", "to": "a:lost", "kind": "emits", "count": 0, "declared": true},
                      {"from": "b:wanted", "to": "m", "kind": "handles"},
                      {"from": "b:wanted", "to": "n", "kind": "handles"}],
        }))
        .expect("a graph as the host sends it");
        let flow = Flow::of(graph, true);
        let (unhandled, unfed) = dead_tables(&flow);
        let rendered = [unhandled, unfed].map(|table| table.expect("there is some").render());
        assert_eq!(
            rendered,
            [
                "NOBODY HANDLES  EMITTED BY  SO FAR\n\
                 a:lost          m                3\n\
                 a:lost          n                0",
                "NOBODY EMITS  HANDLED BY\n\
                 b:wanted      m, n",
            ]
        );
        let json: serde_json::Value = serde_json::from_str(&dead_as_json(&flow)).expect("JSON");
        assert_eq!(json["unhandled"][0]["emitted_by"][0]["count"], 3);
        assert_eq!(json["unfed"], json!([{"event": "b:wanted", "handled_by": ["m", "n"]}]));
        let nothing = dead_tables(&Flow::default());
        assert!(nothing.0.is_none() && nothing.1.is_none());
    }
}
