//! How often an emit allocates, counted by a program of its own with libraries that count too:
//! counting takes time, and here everything else is timed.

use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::{
    builds::Counting,
    error::BenchError,
    row::{Bar, Row},
};

/// What that program tells.
#[derive(Debug, Deserialize)]
struct Counted {
    typed: Sum,
    typed_with_strings: Sum,
    json: Sum,
    api: Sum,
    boxed: Sum,
    boxed_with_strings: Sum,
    serde_json: Sum,
}

/// Allocations an event, in the host and in both plugins together.
#[derive(Debug, Deserialize)]
struct Sum {
    all: f64,
}

pub(crate) fn rows() -> Result<Vec<Row>, BenchError> {
    let counting = Counting::get()?;
    let mut program = Command::new(&counting.program);
    program.arg("--emitter").arg(&counting.emitter);
    program.arg("--handlers").arg(&counting.handlers);
    program.stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = program.output().map_err(|error| BenchError::Program(error.to_string()))?;
    if !output.status.success() {
        return Err(BenchError::Program(format!("the count ended with {}", output.status)));
    }
    let counted: Counted = serde_json::from_slice(&output.stdout)?;
    let row = |what: &str, figure| Row::counted(format!("allocations, {what}"), figure, "an event");
    Ok(vec![
        row("request, typed, 1 handler, ready", counted.typed.all)
            .against("a boxed future", counted.boxed.all)
            .bar(Some(Bar::AtMost(2.0))),
        row("request, typed, with strings", counted.typed_with_strings.all)
            .against("a boxed future", counted.boxed_with_strings.all),
        row("request, JSON, 137 bytes both ways", counted.json.all)
            .against("serde_json alone", counted.serde_json.all),
        row("Host::emit, JSON, 137 bytes both ways", counted.api.all)
            .against("serde_json alone", counted.serde_json.all),
    ])
}
