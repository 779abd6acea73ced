//! `ksi events`: every event that somebody handles, and who.

use std::collections::BTreeMap;

use ksi_wire::module::{Events, Subscriber};
use serde_json::json;
use serde_json::value::RawValue;

use super::args::{Common, Printed as Args};
use super::client::SOON;
use super::exit::CommandFailure;
use super::list::understood;
use super::output;
use super::table::{Column, Table, Tone};

pub(crate) fn events(common: &Common, args: Args) -> Result<(), CommandFailure> {
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
}
