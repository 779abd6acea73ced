//! `ksi clients`: who is connected to a host, in a line each; or the end of some of them.

use std::time::Duration;

use ksi_wire::system::{Client, Clients, Disconnect, Disconnected};
use serde_json::json;
use serde_json::value::RawValue;

use super::args::{Clients as Args, Common};
use super::client::SOON;
use super::exit::CommandFailure;
use super::list::understood;
use super::output;
use super::table::{Column, Table, Tone};

pub(crate) fn clients(common: &Common, args: Args) -> Result<(), CommandFailure> {
    let mut client = common.client()?;
    if !args.end.is_empty() {
        return args.end.iter().try_for_each(|id| {
            client.ask::<Disconnected>("system:disconnect", &Disconnect { id: *id }, SOON)?;
            output::text(&format!("ended client {id}"))
        });
    }
    let answer: Box<RawValue> = client.ask("system:clients", &json!({}), SOON)?;
    if args.json {
        return output::json(answer.get());
    }
    let Clients { clients, limit, .. } = understood(&answer)?;
    output::text(&table(&clients).render())?;
    // This one is among them.
    output::text(&format!("{} of {limit} clients", clients.len()))
}

fn table(clients: &[Client]) -> Table {
    let mut table = Table::new(&[
        Column::Number("ID"),
        Column::Number("PID"),
        Column::Number("USER"),
        Column::Number("IDLE"),
        Column::Number("REQUESTS"),
        Column::Number("SERVING"),
        Column::Number("SUBSCRIPTIONS"),
        Column::Number("WAITING BYTES"),
    ]);
    for client in clients {
        let some = |number: Option<String>| number.unwrap_or_else(|| "-".into());
        let idle = Duration::try_from_secs_f64(client.idle.floor()).unwrap_or_default();
        let cells = [
            client.id.to_string(),
            some(client.pid.map(|pid| pid.to_string())),
            some(client.uid.map(|uid| uid.to_string())),
            humantime::format_duration(idle).to_string(),
            client.requests.to_string(),
            client.serving.to_string(),
            client.subscriptions.to_string(),
            client.bytes.to_string(),
        ];
        table.row(cells.into_iter().map(|cell| (cell, Tone::Usual)));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_a_line_and_what_the_system_does_not_know_is_a_dash() {
        let clients: Vec<Client> = serde_json::from_value(json!([
            {"id": 7, "pid": 41, "uid": 1000, "idle": 61.7, "requests": 3, "serving": 1,
             "subscriptions": 2, "bytes": 2048},
            {"id": 12, "pid": null, "uid": null, "idle": 0.2},
        ]))
        .expect("clients as the host sends them");
        assert_eq!(
            table(&clients).render(),
            "ID  PID  USER   IDLE  REQUESTS  SERVING  SUBSCRIPTIONS  WAITING BYTES\n \
             7   41  1000  1m 1s         3        1              2           2048\n\
             12    -     -     0s         0        0              0              0"
        );
    }
}
