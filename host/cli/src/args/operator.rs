//! The same for whoever looks at what a host does.

use std::time::Duration;

use super::duration;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without an ID, --failed tells of failures, those that are alike in one line; otherwise the last calls are listed that ended so.
The numbers of events are in these lists, in `ksi watch --json` and in the log. What a host keeps of calls that have ended is
bounded: the last ones, and for longer those of root events in which something failed or was slow ([recorder] in the configuration).
A time of `-` was not measured: the call ended at once, and others like it were measured in its place.

Examples:
  ksi trace evt_66a1f0c3b2e04
  ksi trace --failed --last 1m
  ksi trace --slow 100ms --event 'order:*'")]
pub(crate) struct Trace {
    /// The number of an event: print all calls of its chain as a tree
    #[arg(value_name = "ID", conflicts_with_all = ["failed", "slow", "event", "plugin", "last"])]
    pub(crate) id: Option<String>,
    /// Only what failed
    #[arg(long)]
    pub(crate) failed: bool,
    /// Only calls that took at least so long
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) slow: Option<Duration>,
    /// Only of events that match this pattern
    #[arg(long, value_name = "PATTERN")]
    pub(crate) event: Option<String>,
    /// Only of this plugin; `host` for the host's own handlers, which are left out otherwise
    #[arg(long, value_name = "NAME")]
    pub(crate) plugin: Option<String>,
    /// Only what ended in so long
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) last: Option<Duration>,
    /// No more than the last so many calls
    #[arg(long, value_name = "CALLS", default_value_t = 100)]
    pub(crate) limit: usize,
    /// Print the host's answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
}
