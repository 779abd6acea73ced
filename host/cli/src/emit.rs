//! `ksi emit`: one event, and what came of it.

use std::io::Read;

use serde_json::value::RawValue;

use super::args::{Common, Emit};
use super::exit::CommandFailure;
use super::output;

/// The host's own limit is far below; this one keeps an endless pipe from filling the memory.
const LONGEST_INPUT: u64 = 1 << 30;

pub(crate) fn emit(common: &Common, args: Emit) -> Result<(), CommandFailure> {
    let named = ksi_host::validate_event_name(&args.event);
    named.map_err(|error| CommandFailure::Usage(error.to_string()))?;
    let payload = payload(args.payload)?;
    let reply = common.client()?.request(&args.event, &payload, args.timeout)?;
    for result in &reply.results {
        output::json(result)?;
    }
    for failure in &reply.failures {
        output::error(failure);
    }
    if reply.failures.is_empty() { Ok(()) } else { Err(CommandFailure::Told) }
}

/// The payload is checked here, before there is a connection: a typing mistake is the user's own
/// affair.
fn payload(text: String) -> Result<Box<RawValue>, CommandFailure> {
    let (text, origin) = match text.as_str() {
        "-" => (read_input()?, "standard input"),
        _ => (text, "the payload"),
    };
    serde_json::from_str(&text)
        .map_err(|error| CommandFailure::Usage(format!("{origin} is not valid JSON: {error}")))
}

fn read_input() -> Result<String, CommandFailure> {
    let mut text = String::new();
    std::io::stdin().take(LONGEST_INPUT).read_to_string(&mut text).map_err(|error| {
        CommandFailure::Usage(format!("standard input cannot be read: {error}"))
    })?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_stays_as_it_was_written() {
        let text = r#"{"z": 1.10, "a": 123456789012345678901}"#;
        assert_eq!(payload(text.into()).expect("good JSON").get(), text);
    }

    #[test]
    fn a_payload_that_is_no_json_is_a_matter_of_use() {
        for text in ["", "{", "{'a':1}", "1 2"] {
            let failure = payload(text.into()).expect_err(text);
            assert!(matches!(failure, CommandFailure::Usage(_)), "{failure}");
        }
    }
}
