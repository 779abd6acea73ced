//! `ksi schema`: what an event carries, by JSON Schema, and all of it as files.

use std::fmt::Write;

use ksi_wire::module::{AskSchemas, EventSchemas, Schemas};
use serde_json::Value;
use serde_json::value::RawValue;

use super::args::{Common, Schema as Args};
use super::client::SOON;
use super::exit::CommandFailure;
use super::list::understood;
use super::output;

mod asyncapi;
mod draft_07;
mod export;
mod role;

pub(crate) fn schema(common: &Common, args: Args) -> Result<(), CommandFailure> {
    let question = AskSchemas { event: args.event };
    let answer: Box<RawValue> = common.client()?.ask("module:schemas", &question, SOON)?;
    let Some(event) = question.event else {
        let Some(folder) = args.export else { return output::json(answer.get()) };
        let Schemas { events } = understood(&answer)?;
        let written = export::write(&folder, &events)?;
        return output::text(&format!("{written} files in {}", folder.display()));
    };
    let Schemas { events } = understood(&answer)?;
    let Some(of) = events.get(&event) else {
        let text = format!(
            "no live plugin emits, handles or requires {event}; `ksi events` lists what is handled"
        );
        output::error(&text);
        return Err(CommandFailure::Told);
    };
    match args.json {
        true => output::json(answer.get()),
        false => output::text(text(&event, of).trim_end()),
    }
}

/// An event's schemas, each below who says it.
fn text(event: &str, EventSchemas { emits, handles, requires }: &EventSchemas) -> String {
    let mut told = Told(String::new());
    for by in emits {
        told.line(&format!("emitted by {}", plugin(&by.module, by.version.as_deref())));
        told.schema("payload", by.payload_schema.as_ref());
    }
    for by in handles {
        let through = match by.subscription == event {
            true => String::new(),
            false => format!(", by {}", by.subscription),
        };
        let plugin = plugin(&by.module, by.version.as_deref());
        told.line(&format!("handled by {plugin} in `{}`{through}", by.handler));
        told.schema("payload", by.payload_schema.as_ref());
        told.schema("reply", by.reply_schema.as_ref());
    }
    for by in requires {
        told.line(&format!("required by {}", plugin(&by.module, by.version.as_deref())));
        told.schema("reads of the reply", by.reply_schema.as_ref());
    }
    told.0
}

fn plugin(name: &str, version: Option<&str>) -> String {
    version.map_or_else(|| name.to_owned(), |version| format!("{name} {version}"))
}

/// Text for a terminal.
struct Told(String);

impl Told {
    fn line(&mut self, line: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{}", output::plain(line));
    }

    fn schema(&mut self, what: &str, schema: Option<&Value>) {
        let Some(schema) = schema else {
            return self.line(&format!("  {what}: nothing is said of it"));
        };
        self.line(&format!("  {what}:"));
        // Text of JSON has no character that steers a terminal but in its strings.
        let pretty = format!("{schema:#}");
        pretty.lines().for_each(|line| self.line(&format!("    {line}")));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_side_stands_above_what_it_says() {
        let of: EventSchemas = serde_json::from_value(json!({
            "emits": [{"module": "shop", "version": "1.0.0", "payload_schema": {"type": "object"}}],
            "handles": [{"module": "stock", "version": "2.0.0", "handler": "note", "subscription": "order:*",
                         "payload_schema": true, "reply_schema": null}],
            "requires": [{"module": "bill", "version": "3.0.0"}],
        }))
        .expect("schemas as the host sends them");
        assert_eq!(
            text("order:placed", &of),
            "emitted by shop 1.0.0\n  payload:\n    {\n      \"type\": \"object\"\n    }\n\
             handled by stock 2.0.0 in `note`, by order:*\n  payload:\n    true\n  \
             reply: nothing is said of it\n\
             required by bill 3.0.0\n  reads of the reply: nothing is said of it\n"
        );
    }
}
