//! What can be said on the command line.

use std::{fmt, path::PathBuf};

use clap::{Parser, ValueEnum};

/// Measures what events cost, beside what the same would cost without a host.
///
/// A bar that is missed is shown in the table, and is no failure. It ends with status 1 when
/// something could not be measured, or answered wrongly, or with `--count` is above its bound.
#[derive(Debug, Parser)]
#[command(name = "ksi-bench", version)]
pub(crate) struct Options {
    /// Write every row to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Measure these alone.
    #[arg(long, value_name = "ROWS", value_enum, value_delimiter = ',')]
    only: Vec<Rows>,

    /// Count instructions under valgrind in place of measuring times, and hold them to the bounds
    /// in tests/bench/bounds.toml.
    #[arg(long, conflicts_with_all = ["json", "only"])]
    pub(crate) count: bool,

    /// Start a host with the plugins of this folder, tell how long that took and what is resident
    /// then, and end.
    #[arg(long, value_name = "FOLDER", hide = true)]
    pub(crate) start_in: Option<PathBuf>,

    /// Start a host under valgrind, emit so many events, and end.
    #[arg(long, value_name = "JSON", hide = true)]
    pub(crate) drive: Option<String>,
}

/// Rows that are measured together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rows {
    Dispatch,
    Allocations,
    Growth,
    Threads,
    Socket,
    Start,
    Isolation,
    /// Needs a `python3`.
    Python,
}

impl Options {
    /// What is to be measured.
    pub(crate) fn rows(&self) -> Vec<Rows> {
        let wanted = |rows: &Rows| self.only.is_empty() || self.only.contains(rows);
        Rows::value_variants().iter().copied().filter(wanted).collect()
    }
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.to_possible_value();
        f.write_str(name.as_ref().map_or("", |name| name.get_name()))
    }
}
