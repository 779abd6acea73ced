//! `ksi trace`: calls that have ended. Those of one chain of events as a `tree`, failures with how
//! often there were any, or the last calls that are wanted.

mod tree;

use std::time::{Duration, SystemTime};

use ksi_host::{EventId, Pattern};
use ksi_wire::router::{AskCalls, AskFailures, Call, Calls, Failure, Failures};
use serde::Serialize;
use serde_json::value::RawValue;

use super::args::{Common, Trace};
use super::client::{Client, SOON};
use super::exit::CommandFailure;
use super::list::understood;
use super::output;
use super::plugin::ago;
use super::table::{Column, Table, Tone, terminal_width};
use super::text::milliseconds;

/// Calls of one chain that are shown.
const OF_CHAIN: usize = 10_000;

pub(crate) fn trace(common: &Common, args: Trace) -> Result<(), CommandFailure> {
    if let Some(id) = &args.id
        && EventId::parse(id).is_none()
    {
        let why = format!("`{id}` is no number of an event, as evt_1a2b is one");
        return Err(CommandFailure::Usage(why));
    }
    if let Some(pattern) = &args.event {
        let parsed = Pattern::parse(pattern);
        parsed.map_err(|error| CommandFailure::Usage(error.to_string()))?;
    }
    let mut client = common.client()?;
    let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
    let plugin = args.plugin.clone().map(|name| if name == "host" { String::new() } else { name });
    let (event, last_ms) = (args.event.clone(), args.last.map(ms));
    if args.id.is_none() && args.failed && args.slow.is_none() {
        let asked = AskFailures { event, last_ms, plugin };
        return failures(&mut client, &asked, args.json);
    }
    let limit = Some(if args.id.is_some() { OF_CHAIN } else { args.limit });
    let asked = AskCalls {
        at_least_ms: args.slow.map(ms),
        event,
        failed: args.failed,
        last_ms,
        limit,
        // What is asked of the host to look at it is not what somebody looks for.
        of_plugins: args.id.is_none() && args.plugin.is_none() && args.event.is_none(),
        plugin,
        root: args.id.clone(),
        ..AskCalls::default()
    };
    let Some(answer) = answer(&mut client, "router:calls", &asked, args.json)? else {
        return Ok(());
    };
    let Calls { calls, .. } = understood(&answer)?;
    if let Some(id) = &args.id {
        return match calls.is_empty() {
            true => {
                let why = "nothing is known of calls of it: it was not handled, or too many others came since ([recorder] in the configuration says how many are kept)";
                output::error(&format!("{id}: {why}"));
                Err(CommandFailure::Told)
            }
            false => output::text(&tree::rendered(&calls, terminal_width())),
        };
    }
    if calls.is_empty() {
        output::remark("no such calls");
        return Ok(());
    }
    output::text(&listed(&calls, SystemTime::now()).render())
}

/// The answer to a question; `None` when it was printed as it is.
fn answer(
    client: &mut Client,
    event: &str,
    asked: &impl Serialize,
    json: bool,
) -> Result<Option<Box<RawValue>>, CommandFailure> {
    let answer: Box<RawValue> = client.ask(event, asked, SOON)?;
    if json {
        output::json(answer.get())?;
        return Ok(None);
    }
    Ok(Some(answer))
}

fn failures(client: &mut Client, asked: &AskFailures, json: bool) -> Result<(), CommandFailure> {
    let Some(answer) = answer(client, "router:failures", asked, json)? else { return Ok(()) };
    let Failures { failures } = understood(&answer)?;
    if failures.is_empty() {
        output::remark("no failures are known");
        return Ok(());
    }
    output::text(&told(&failures, SystemTime::now()).render())
}

/// Failures, a line for all that are alike.
fn told(failures: &[Failure], now: SystemTime) -> Table {
    let mut table = Table::new(&[
        Column::Text("LAST"),
        Column::Number("COUNT"),
        Column::Number("LAST MINUTE"),
        Column::Text("EVENT"),
        Column::Text("HANDLER"),
        Column::Number("GEN"),
        Column::Text("CODE"),
        Column::Text("MESSAGE"),
        Column::Text("TRACE"),
    ]);
    for failure in failures {
        let Some(last) = failure.recent.last() else { continue };
        let usual = |text: String| (text, Tone::Usual);
        table.row([
            usual(ago(failure.last_us as f64 / 1e6, now).unwrap_or_else(|| "-".into())),
            usual(failure.count.to_string()),
            usual(failure.last_minute.to_string()),
            usual(event(last)),
            usual(handler(last)),
            usual(generation(last)),
            (code(last), Tone::Bad),
            usual(shortened(&last.message)),
            usual(last.root_id.clone()),
        ]);
    }
    table
}

/// Calls, a line each.
fn listed(calls: &[Call], now: SystemTime) -> Table {
    let mut table = Table::new(&[
        Column::Text("BEGAN"),
        Column::Text("EVENT"),
        Column::Text("HANDLER"),
        Column::Number("GEN"),
        Column::Text("OUTCOME"),
        Column::Number("TOOK"),
        Column::Number("WAITED"),
        Column::Text("TRACE"),
    ]);
    for call in calls {
        let usual = |text: String| (text, Tone::Usual);
        table.row([
            usual(when(call, now)),
            usual(event(call)),
            usual(handler(call)),
            usual(generation(call)),
            (code(call), if call.is_ok() { Tone::Usual } else { Tone::Bad }),
            usual(took(call)),
            usual(if call.waited_ms >= 0.1 { milliseconds(call.waited_ms) } else { "-".into() }),
            usual(call.root_id.clone()),
        ]);
    }
    table
}

fn when(call: &Call, now: SystemTime) -> String {
    let ended = call.begun_us as f64 / 1e6 + call.took_ms.unwrap_or_default() / 1e3;
    ago(ended, now).unwrap_or_else(|| "-".into())
}

fn event(call: &Call) -> String {
    if call.event.is_empty() { "?".to_owned() } else { call.event.clone() }
}

fn handler(call: &Call) -> String {
    match (&*call.plugin, &*call.handler) {
        (_, "") => "nobody".to_owned(),
        ("", handler) => format!("host.{handler}"),
        (plugin, handler) => format!("{plugin}.{handler}"),
    }
}

fn generation(call: &Call) -> String {
    if call.generation == 0 { "-".to_owned() } else { call.generation.to_string() }
}

/// A failure's own code; else how it ended.
fn code(call: &Call) -> String {
    match (call.is_ok(), &*call.code) {
        (true, _) | (false, "") => call.outcome.replace('_', " "),
        (false, code) => code.to_owned(),
    }
}

fn took(call: &Call) -> String {
    match call.took_ms {
        None => "-".to_owned(),
        Some(ms) if call.took_about => format!("~{}", milliseconds(ms)),
        Some(ms) => milliseconds(ms),
    }
}

/// A message in a table.
fn shortened(message: &str) -> String {
    const SHOWN: usize = 120;
    match message.char_indices().nth(SHOWN) {
        None => message.to_owned(),
        Some((end, _)) => format!("{}…", &message[..end]),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn call(plugin: &str, outcome: &'static str, took_ms: Option<f64>) -> Call {
        Call {
            begun_us: 100_000_000,
            event: "order:place".into(),
            event_id: "evt_2".into(),
            root_id: "evt_1".into(),
            generation: if plugin.is_empty() { 0 } else { 3 },
            handler: "place".into(),
            outcome: outcome.into(),
            plugin: plugin.into(),
            took_ms,
            ..Call::default()
        }
    }

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(113)
    }

    #[test]
    fn calls_have_a_line_each_and_a_time_that_was_not_measured_is_a_dash() {
        let about = Call { took_about: true, ..call("stock", "timed_out", Some(25.0)) };
        let waited = Call { waited_ms: 3.0, ..call("", "no_reply", None) };
        assert_eq!(
            listed(&[call("billing", "replied", Some(0.0021)), about, waited], now()).render(),
            "BEGAN    EVENT        HANDLER        GEN  OUTCOME        TOOK   WAITED  TRACE\n\
             12s ago  order:place  billing.place    3  replied        2 µs        -  evt_1\n\
             12s ago  order:place  stock.place      3  timed out  ~25.0 ms        -  evt_1\n\
             13s ago  order:place  host.place       -  no reply          -  3.00 ms  evt_1"
        );
    }

    #[test]
    fn failures_that_are_alike_have_a_line_with_their_count_and_the_last_of_them() {
        let last = Call {
            code: "out_of_stock".into(),
            message: "sku 4711: 0 left".into(),
            ..call("stock", "failed", Some(1.0))
        };
        let recent = vec![call("stock", "failed", None), last];
        let failure = Failure {
            count: 12,
            last_minute: 3,
            last_us: 101_000_000,
            recent,
            ..Failure::default()
        };
        assert_eq!(
            told(&[failure], now()).render(),
            "LAST     COUNT  LAST MINUTE  EVENT        HANDLER      GEN  CODE          MESSAGE           TRACE\n\
             12s ago     12            3  order:place  stock.place    3  out_of_stock  sku 4711: 0 left  evt_1"
        );
    }

    #[test]
    fn a_long_message_is_cut_where_a_character_ends() {
        assert_eq!(shortened("short"), "short");
        assert_eq!(shortened(&"ä".repeat(500)).chars().count(), 121);
    }
}
