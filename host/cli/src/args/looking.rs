//! The same for who looks at what a host does and did.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use ksi_wire::module::HistoryKind;

use super::duration;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
--dead lists the events that plugins have emitted, or declare that they emit, and that nobody handles; and what plugins handle
and nobody has emitted so far, no live plugin declares or requires, and the host does not tell either: a client may still send it.
What clients send and nobody handles is not told apart.")]
pub(crate) struct Events {
    /// Only where events lead nowhere, and what nobody emits
    #[arg(long)]
    pub(crate) dead: bool,
    /// Print the answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
What is declared and was not seen yet is dotted. Marked are what nobody handles and nobody emits, as `ksi events --dead` lists
it, calls that failed, and what may go round in a cycle. The host's own events are left out, save those that a plugin emits or
handles. JSON is the host's answer, with all of them and without marks.

Examples:
  ksi graph --output flow.svg
  ksi graph --format dot | dot -Tpng > flow.png")]
pub(crate) struct Graph {
    /// The kind of drawing [default: what the ending of --output says, else mermaid]
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,
    /// Write it to this file, in the format of its name: .svg, .dot, .mmd or .json
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Also the events of the host itself that no plugin emits or handles
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Mermaid,
    Dot,
    Svg,
    Json,
}

#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Show each refused file in a line of its own, however many there are
    #[arg(long)]
    pub(crate) all: bool,
    /// Print the host's answer as JSON, which has all of them
    #[arg(long, conflicts_with = "all")]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The host keeps this in its folder of state, over restarts: history.jsonl, and history.1.jsonl before it, of 1 MiB at the most
each. What was at a start as it had been before is not noted once more.

Examples:
  ksi history                            what has become of plugins lately
  ksi history shop --kind refused        which files did not become the next version of shop
  ksi history --last 1d --count 1000")]
pub(crate) struct History {
    /// Only of this plugin, or of the file with this path or name
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Only of the last so much time, as in `90m` or `1d`
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) last: Option<Duration>,
    /// Only of this kind: started, stopped, live, isolated, refused, rolled_back, not_rolled_back,
    /// quarantined, unloaded, died or restarted; may be given several times
    #[arg(long = "kind", value_name = "KIND", value_parser = kind)]
    pub(crate) kinds: Vec<HistoryKind>,
    /// The newest so many
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    pub(crate) count: usize,
    /// Print the host's answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

fn kind(text: &str) -> Result<HistoryKind, String> {
    let word = text.replace('-', "_");
    HistoryKind::KNOWN.into_iter().find(|kind| kind.as_str() == word).ok_or_else(|| {
        let known = HistoryKind::KNOWN;
        let words: Vec<&str> = known.iter().map(HistoryKind::as_str).collect();
        format!("it is none of {}", words.join(", "))
    })
}
