//! Measures what events cost, beside what the same would cost without a host, in one run and in one
//! table.
//!
//! `cargo run --release -p ksi-bench`
//!
//! It is a host like any other, with real libraries: a plugin that emits, and one with handlers.
//! Every figure and the limit that it is held against are measured by turns, in short windows, and
//! the ratio of the two is shown with what it is in the windows; where these differ too much,
//! nothing is judged. Whatever answers wrongly ends the program. In reading order: what is loaded
//! ([`builds`], [`library`], [`stage`]), how it is measured ([`series`]) and, beside the limits of
//! `ksi-bench-events`, against what ([`actor`]), the rows ([`dispatch`], [`allocations`],
//! [`growth`], [`threads`], [`socket`], [`start`], [`isolation`], [`python`]), and the table
//! ([`row`], [`report`]).
//!
//! `cargo run --release -p ksi-bench -- --count` counts instructions in place of times ([`count`]),
//! and is the same everywhere.

mod actor;
mod allocations;
mod builds;
mod count;
mod dispatch;
mod error;
mod growth;
mod isolation;
mod library;
mod options;
mod python;
mod report;
mod row;
mod series;
mod socket;
mod stage;
mod start;
mod threads;

use std::{process::ExitCode, time::Instant};

use clap::Parser;
use ksi_host::ChildEntry;
use tokio::runtime::{Builder, Runtime};

use crate::{
    builds::Builds,
    error::BenchError,
    options::{Options, Rows},
    row::Row,
};

fn main() -> ExitCode {
    // This program is started again to try a plugin file before it is loaded.
    let entry = ksi_host::answer_probe();
    let options = Options::parse();
    let done = match (&options.start_in, &options.drive) {
        (Some(folder), _) => start::measure_here(entry, folder),
        (_, Some(told)) => count::drive(told),
        _ if options.count => return exit(count::count()),
        _ => bench(entry, &options),
    };
    exit(done.map(|()| true))
}

/// Whether all is as it must be.
fn exit(done: Result<bool, BenchError>) -> ExitCode {
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("ksi-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(entry: ChildEntry, options: &Options) -> Result<(), BenchError> {
    let builds = Builds::get(entry)?;
    let began = Instant::now();
    let rows = runtime()?.block_on(measure(options, &builds))?;
    let seconds = began.elapsed().as_secs_f64();
    println!("{}", report::table(&rows));
    if let Some(uneven) = report::uneven(&rows) {
        println!("{uneven}");
    }
    println!("{}, {seconds:.0} s", report::machine());
    match &options.json {
        Some(path) => report::write(path, &report::json(&rows, seconds)),
        None => Ok(()),
    }
}

async fn measure(options: &Options, builds: &Builds) -> Result<Vec<Row>, BenchError> {
    let mut rows = Vec::new();
    for part in options.rows() {
        eprintln!("measuring: {part}");
        rows.extend(match part {
            Rows::Dispatch => dispatch::rows(builds).await?,
            Rows::Allocations => allocations::rows()?,
            Rows::Growth => growth::rows(builds).await?,
            Rows::Threads => threads::rows(builds).await?,
            Rows::Socket => socket::rows(builds).await?,
            Rows::Start => start::rows(builds).await?,
            Rows::Isolation => isolation::rows(builds).await?,
            Rows::Python => python::rows(builds).await?,
        });
    }
    Ok(rows)
}

/// As many threads as the host has dispatch workers. What is measured runs on them, or on those.
fn runtime() -> Result<Runtime, BenchError> {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(BenchError::Runtime)
}
