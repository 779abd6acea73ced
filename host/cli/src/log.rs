//! `ksi log`: what the host writes of the log, and changes of that.

use std::collections::BTreeMap;

use ksi_host::LogLevel;
use ksi_wire::system::{Log, LogInEffect};
use serde_json::value::RawValue;

use super::args::{Common, Log as Args};
use super::client::SOON;
use super::exit::CommandFailure;
use super::list::understood;
use super::output;
use super::table::{Column, Table, Tone};

pub(crate) fn log(common: &Common, args: Args) -> Result<(), CommandFailure> {
    let set = args.set.iter().map(|text| asked(text)).collect::<Result<BTreeMap<_, _>, _>>()?;
    let ask = Log { reset: args.reset, set };
    let answer: Box<RawValue> = common.client()?.ask("system:log", &ask, SOON)?;
    if args.json {
        return output::json(answer.get());
    }
    let LogInEffect { levels, unknown } = understood(&answer)?;
    let mut table = Table::new(&[
        Column::Text("PLUGIN OR TARGET"),
        Column::Text("LEVEL"),
        Column::Text("FROM"),
    ]);
    for level in &levels {
        let from = match &*level.from {
            "asked" => "ksi log",
            "environment" => "KSI_LOG",
            "file" => "the configuration",
            other => other,
        };
        let name = output::plain(&level.name);
        table.row([(&*name, Tone::Usual), (&level.level, Tone::Usual), (from, Tone::Usual)]);
    }
    output::text(&table.render())?;
    for name in unknown {
        output::remark(&format!(
            "no plugin named {name} is live; lines with the target {name} are meant"
        ));
    }
    Ok(())
}

/// `state=debug`, or a level alone, for all that has none of its own.
fn asked(text: &str) -> Result<(String, String), CommandFailure> {
    let (name, level) = text.split_once('=').unwrap_or(("*", text));
    match level.parse::<LogLevel>() {
        Ok(level) => Ok((name.to_owned(), level.to_string())),
        Err(error) => Err(CommandFailure::Usage(format!(
            "{text:?} does not say what is to be logged, as `state=debug` does: {error}"
        ))),
    }
}
