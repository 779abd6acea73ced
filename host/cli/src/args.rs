//! What may be written on the command line, and the help for it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

mod author;
mod log;
mod looking;
mod operator;

pub(crate) use author::{Check, Dev, New, Template};
pub(crate) use log::{Explain, Log, Logged};
pub(crate) use looking::{Events, Format, Graph, History, List};
pub(crate) use operator::Trace;

/// A host for event plugins: load them, send them events, replace them while it runs.
///
/// `ksi run` and `ksi dev` start a host. All other commands speak to one over its control socket,
/// which is found through --socket, else KSI_SOCKET, else the configuration, else
/// $XDG_RUNTIME_DIR/ksi/daemon.sock, else a folder of your own below the temporary folder.
#[derive(Debug, Parser)]
#[command(name = "ksi", version, disable_help_subcommand = true, after_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 all well, 1 something failed, 2 not used as it should be, 3 no host there, 130 a signal too many.";

#[derive(Debug, clap::Args)]
pub(crate) struct Common {
    /// The host's control socket
    #[arg(long, global = true, value_name = "PATH", help_heading = "Common options")]
    pub(crate) socket: Option<PathBuf>,
    /// A configuration file in TOML
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "KSI_CONFIG",
        help_heading = "Common options"
    )]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a host on folders of plugins
    Run(Run),
    /// Make a plugin crate that builds, tests and loads as it is
    New(New),
    /// Build plugins from source, run a host on them, and replace them as their source changes
    Dev(Dev),
    /// Say whether a host would take files for plugins, and if not, why; no host is asked
    Check(Check),
    /// Send an event and print the replies, a line of JSON each
    Emit(Emit),
    /// List the plugins, and the files that were refused
    List(List),
    /// Describe a running plugin, or a plugin file without loading it
    Inspect(Inspect),
    /// List the events and who handles them
    Events(Events),
    /// Show what an event carries, by JSON Schema, or write the schemas of all events as files
    Schema(Schema),
    /// Print events as they happen
    Watch(Watch),
    /// Show calls that have ended: who called whom, how long it took, what failed and why
    Trace(Trace),
    /// Give two versions of a plugin the same events, and show where their answers differ
    Compare(Compare),
    /// Load a plugin file, from any folder
    Load(Load),
    /// Load a plugin's file anew, as if it had changed, with its configuration as that is now
    Reload(Named),
    /// Go back to the version of a plugin that was live before this one
    Rollback(Rollback),
    /// Unload a plugin until its file changes or the host starts again; the file stays where it is
    Unload(Named),
    /// Show what has become of plugins, over restarts of the host, and who did it
    History(History),
    /// List the clients of the host, or end some of them
    Clients(Clients),
    /// Show what the host logs, and change that while it runs
    Log(Log),
    /// Check a configuration file, show what is in effect, or have the host read its file again
    #[command(subcommand)]
    Config(ConfigCommand),
    /// See, choose or give up what is kept of the plugins' state
    #[command(subcommand)]
    State(StateCommand),
    /// Draw who emits and who handles which event, with the counts so far and what is wrong
    Graph(Graph),
    /// Say what a code means, what is mostly behind it, and what to do; no host is asked
    Explain(Explain),
    /// Stop the host and wait until it is gone
    Stop,
    /// Print what a shell runs to complete commands, plugins and events
    Completions(Completions),
    /// Write pages of the manual, one for each command
    Man(Man),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Plugins, events, snapshots and keys of the configuration are those of the running host, if it answers within 400 ms.

Examples:
  source <(ksi completions bash)                                          # in ~/.bashrc
  source <(ksi completions zsh)                                           # in ~/.zshrc, behind compinit
  ksi completions fish > ~/.config/fish/completions/ksi.fish")]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: Shell,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Shell::Bash => "bash",
            Shell::Zsh => "zsh",
            Shell::Fish => "fish",
        }
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  ksi man ~/.local/share/man/man1 && man ksi-run")]
pub(crate) struct Man {
    /// The folder, which is made if it is not there
    pub(crate) dir: PathBuf,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without --plugins and without folders in the configuration, plugins are taken from ./ksi-plugins.
The state of plugins is kept in --state, else where the configuration says, else in a folder of this socket's own
below $XDG_STATE_HOME/ksi or ~/.local/state/ksi.
SIGTERM, SIGINT, SIGQUIT, SIGHUP and `ksi stop` let calls finish and shut the plugins down; each further one goes on to the
next stage of that: cancel calls, keep state and wait for nobody, end at once. With --config and without a terminal, SIGHUP
reads the configuration again.
KSI_LOG sets what is logged to standard error, as in KSI_LOG=debug or, for a plugin and all plugins,
KSI_LOG=warn,state=trace,ksi_plugin=info. `ksi log` changes it while the host runs.

Example:
  ksi run --plugins ./plugins --socket ./ksi.sock")]
pub(crate) struct Run {
    /// A folder of plugins, loaded and watched; may be given several times
    #[arg(long, value_name = "DIR")]
    pub(crate) plugins: Vec<PathBuf>,
    /// A file to write the process's number to while the host runs; KSI's own command line needs
    /// ksi_daemon.pid beside the socket
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// Have this plugin live in a process of its own, whatever the configuration says; `all` for
    /// every plugin; may be given several times
    #[arg(long, value_name = "NAME")]
    pub(crate) isolate: Vec<String>,
    /// Read the configuration file again when somebody asks for it, and not when it has changed
    #[arg(long)]
    pub(crate) no_follow_config: bool,
    #[command(flatten)]
    pub(crate) logged: Logged,
    #[command(flatten)]
    pub(crate) kept_state: KeptState,
}

/// Of `ksi run` and `ksi dev`.
#[derive(Debug, clap::Args)]
pub(crate) struct KeptState {
    /// The folder that the state of plugins is kept in, for this host alone
    #[arg(long, value_name = "DIR", conflicts_with = "no_state")]
    pub(crate) state: Option<PathBuf>,
    /// Let the state of plugins end with the host
    #[arg(long)]
    pub(crate) no_state: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Failures are printed to standard error, and the exit code is 1 when some handler failed or none was there.

Examples:
  ksi emit greet:request '{\"name\": \"you\"}'
  jq -c .request job.json | ksi emit job:run -")]
pub(crate) struct Emit {
    /// The event's name
    pub(crate) event: String,
    /// The payload, or `-` to read it from standard input
    #[arg(value_name = "JSON", default_value = "{}", allow_negative_numbers = true)]
    pub(crate) payload: String,
    /// How long to wait for the replies
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Printed {
    /// Print the host's answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
A file is described from its bytes: none of its code runs, and no host is needed. What has a `/` in it, ends in .so
or is a file is taken as one.

Examples:
  ksi inspect hello
  ksi inspect target/debug/libhello.so")]
pub(crate) struct Inspect {
    /// A plugin's name, or a file
    #[arg(value_name = "NAME-or-FILE")]
    pub(crate) what: String,
    /// Print the description as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The schemas are those of the live plugins. --export writes a file for each event and role (order~placed.sent.json, .taken, .replied,
.read) and asyncapi.json, which has all of them as a document of AsyncAPI 3. Other files of the folder stay.

Examples:
  ksi schema order:placed
  ksi schema --export schemas")]
pub(crate) struct Schema {
    /// The event's name
    #[arg(required_unless_present_any = ["export", "json"])]
    pub(crate) event: Option<String>,
    /// Write the schemas of all events into this folder
    #[arg(long, value_name = "DIR", conflicts_with_all = ["event", "json"])]
    pub(crate) export: Option<PathBuf>,
    /// Print the host's answer as JSON; without an event, that of all
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
In a pattern, `*` stands for one segment of a name and `**` for any number; `*` alone is every event.
Each line has the time (UTC), the event, who emitted it, and its payload. Ends with the host, or with ctrl-c.

Example:
  ksi watch 'state:*' system:ready")]
pub(crate) struct Watch {
    /// The events to print
    #[arg(value_name = "PATTERN", default_value = "*")]
    pub(crate) patterns: Vec<String>,
    /// Print each event as the JSON that the host sent
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each of the two is alone in a host inside this command, in a process of its own, and begins with a copy of the same state.
The events are those of a running host (--live) or of a file that `ksi watch --json` has written (--recorded). No event of
either reaches that host. Replies, errors and emitted events are compared by path: reply/items/0/id, error/code,
emit/state:changed/0/key. What a plugin asks of others is answered by plugins that are named with --with, or by nobody.

Exit codes: 0 they do the same, 1 they do not, or something failed, 2 not used as it should be or nothing was compared,
3 no host there.

Examples:
  ksi watch --json 'state:*' > events
  ksi compare plugins/libstate.so target/release/libstate.so --recorded events
  ksi compare state new/libstate.so --event 'state:*' --live 5m --ignore '**/timestamp'")]
#[command(group(clap::ArgGroup::new("given").required(true).args(["live", "recorded"])))]
pub(crate) struct Compare {
    /// The old version: a file, or the name of a plugin of the running host, whose file and newest
    /// kept state are taken
    pub(crate) old: String,
    /// The new version's file
    #[arg(value_name = "NEW")]
    pub(crate) new: PathBuf,
    /// Only these events, as patterns; may be given several times [default: all that either
    /// handles]
    #[arg(long = "event", value_name = "PATTERN")]
    pub(crate) events: Vec<String>,
    /// Take the events that pass in the running host, for so long
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) live: Option<Duration>,
    /// Take the events of this file, or of standard input (`-`)
    #[arg(long, value_name = "FILE")]
    pub(crate) recorded: Option<PathBuf>,
    /// End after so many events
    #[arg(long, value_name = "EVENTS")]
    pub(crate) count: Option<u64>,
    /// A path where differences do not count, with all below it: `*` is one segment, `**` any
    /// number; may be given several times
    #[arg(long, value_name = "PATH")]
    pub(crate) ignore: Vec<String>,
    /// A plugin beside each of the two, to answer what they ask; may be given several times
    #[arg(long, value_name = "FILE")]
    pub(crate) with: Vec<PathBuf>,
    /// A kept snapshot that both begin with, as `ksi state list --json` names its file
    #[arg(long, value_name = "FILE", conflicts_with = "no_state")]
    pub(crate) state: Option<PathBuf>,
    /// Let both begin without state
    #[arg(long)]
    pub(crate) no_state: bool,
    /// Have both live in this process: what dies ends the comparison, and times are of the plugin
    /// alone
    #[arg(long)]
    pub(crate) in_process: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
A plugin that is live is replaced by what its own file holds: put the new one in place of that first. A host that follows
the folder refuses what it can't take by itself, and the live version goes on.

Several files go live as one change: all of them by one swap, or none. That is for plugins of which each new version
understands only the new versions of the others.

Examples:
  ksi load target/debug/libhello.so
  ksi load plugins/libshop.so plugins/libstock.so")]
pub(crate) struct Load {
    /// The plugin files
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Print the host's answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Named {
    /// The plugin's name, as `ksi list` shows it
    pub(crate) name: String,
    /// Print the host's answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The host goes back to its own copy of that version, with the state as it is. If that version cannot read it, the state is as
it was when that version was replaced: that gives up what was done since, so it is refused, with the cost, unless --force is
given. What is given up is kept aside: see `ksi state list`.
The file stays as it is, and is not loaded again until it changes or `ksi reload` asks for it. `ksi inspect` shows which
versions are kept.")]
pub(crate) struct Rollback {
    #[command(flatten)]
    pub(crate) named: Named,
    /// Also if that gives up what the live version has done to its state
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Subcommand)]
#[command(after_help = "\
A plugin's state is kept in --state of `ksi run`, a file for each snapshot, called:
  newest     what the plugin starts from next
  previous   the one before
  good       the last one that the plugin was restored from; newer ones do not push it out
  broken     what was the newest and is damaged
  aside-1..  what was given up for an older one, by a rollback, `ksi state restore` or a start")]
pub(crate) enum StateCommand {
    /// List what is kept, of all plugins or of one
    List(StateList),
    /// Print a snapshot [default: the newest]
    Show(StateOf),
    /// Let a plugin go on from a snapshot [default: good, else previous]; what it has now is kept
    /// aside
    Restore(StateOf),
    /// Remove a snapshot [default: all that the plugin would start from, so that it starts empty]
    Drop(StateOf),
}

#[derive(Debug, clap::Args)]
pub(crate) struct StateList {
    /// Only of this plugin
    pub(crate) name: Option<String>,
    /// Print the host's answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct StateOf {
    /// The plugin's name
    pub(crate) name: String,
    /// Which snapshot, as `ksi state list` calls it
    pub(crate) which: Option<String>,
    /// Print the host's answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say what is wrong in a configuration file, all of it, with its lines; no host is asked
    Check(CheckConfig),
    /// Show what is in effect in the running host, and where each value comes from
    Show(ShownConfig),
    /// Read the file again: plugins whose own tables have changed are reloaded with them, `reload`
    /// holds from now on, and what needs a restart is named
    Reload(Printed),
    /// Show where plugins live by the configuration file, and what they may have and reach there;
    /// no host is asked
    Isolation(ShownIsolation),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 the file is valid, 1 it is not, 2 there is none, or it cannot be read.

Example:
  ksi config check ksi.toml")]
pub(crate) struct CheckConfig {
    /// The file [default: that of --config or KSI_CONFIG]
    pub(crate) file: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
A value comes from a line of the file, an option of the command line, a variable of the environment, or is the default.
In plugins' tables, what looks like a secret by its name, and URLs with a password, are masked.

Examples:
  ksi config show --changed
  ksi config show limits plugin.hello")]
pub(crate) struct ShownConfig {
    /// Only these keys, and what is in these tables
    #[arg(value_name = "KEY")]
    pub(crate) keys: Vec<String>,
    /// Leave out what is as by default
    #[arg(long)]
    pub(crate) changed: bool,
    /// Print the host's answer as JSON, whole
    #[arg(long, conflicts_with_all = ["keys", "changed"])]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  ksi --config ksi.toml config isolation hello")]
pub(crate) struct ShownIsolation {
    /// These plugins [default: those that the file names, and what holds for all others]
    #[arg(value_name = "PLUGIN")]
    pub(crate) plugins: Vec<String>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ksi clients                 who is connected, and what waits for whom
  ksi clients --end 7 --end 9")]
pub(crate) struct Clients {
    /// End this client's connection; may be given several times
    #[arg(long, value_name = "ID")]
    pub(crate) end: Vec<u64>,
    /// Print JSON
    #[arg(long, conflicts_with = "end")]
    pub(crate) json: bool,
}

/// Thirty days at most: whoever waits longer does not read the answer.
fn duration(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);
    match humantime::parse_duration(text) {
        Ok(duration) if duration.is_zero() => Err("must be above zero".into()),
        Ok(duration) => Ok(duration.min(LONGEST)),
        Err(error) => Err(format!("{error}; write it as in `500ms` or `5s`")),
    }
}

#[cfg(test)]
mod tests;
