//! What can be said on the command line.

use std::{path::PathBuf, time::Duration};

use clap::Parser;

/// Replaces plugins under load, over and over, and judges what came of it.
///
/// It ends with status 1 when a figure does not reach its bar, and with status 2 when it could not
/// run to its end.
#[derive(Debug, Parser)]
#[command(name = "ksi-soak", version)]
pub(crate) struct Options {
    /// How many files to put in place of a plugin's while the load runs, bad ones included.
    #[arg(long, default_value_t = 3_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) reloads: u32,

    /// How many clients, over the three kinds: inside a plugin, in the embedding program, on the
    /// socket.
    #[arg(long, default_value_t = 16, value_name = "C", value_parser = clap::value_parser!(u32).range(3..=256))]
    pub(crate) clients: u32,

    /// Begin no further reload after so many seconds; what was done until then is judged.
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,

    /// Write every figure to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// A library of ksi-soak-plugin that is built already; may be given twice. Without it, cargo
    /// builds two.
    #[arg(long, value_name = "FILE")]
    pub(crate) library: Vec<PathBuf>,

    /// Where the plugins live, in place of the host's process.
    #[arg(long, value_name = "WHERE", value_parser = ["process"])]
    isolate: Option<String>,

    /// Kill the process of a plugin (SIGKILL) about so often while reloads go as fast as they can:
    /// at random times, of a random plugin, on its way up and down as well.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, requires = "isolate")]
    pub(crate) kill_every: Option<Duration>,

    /// What the random choices begin with, to have them again.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,

    /// The program that tries files before they are loaded, such as `ksi`. Without it this one
    /// does, which it cannot under valgrind.
    #[arg(long, value_name = "FILE")]
    pub(crate) probe: Option<PathBuf>,
}

impl Options {
    /// Whether all plugins have processes of their own.
    pub(crate) fn is_isolated(&self) -> bool {
        self.isolate.is_some()
    }

    /// How long the whole run may take.
    pub(crate) fn limit(&self) -> Option<Duration> {
        self.seconds.map(Duration::from_secs)
    }
}
