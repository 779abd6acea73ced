//! The same for the log, and for the codes in messages.

use clap::ValueEnum;

/// Of `ksi run` and `ksi dev`.
#[derive(Debug, clap::Args)]
pub(crate) struct Logged {
    /// The form of the log on standard error [default: as the configuration says, else human]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Levels are off, error, warn, info, debug and trace. A line goes by the level of the nearest module around its target, else by
that of its plugin, else by that of ksi_plugin, which is all plugins, else by that of all the rest. What is asked for here is
stronger than KSI_LOG, which is stronger than [log] of the configuration, and holds until --reset or the host's end.

Examples:
  ksi log                           what is in effect
  ksi log state=debug               of the plugin state
  ksi log ksi_host::plugin=trace    of a target
  ksi log warn                      of all that has no level of its own")]
pub(crate) struct Log {
    /// A plugin or a target with its new level, or the level of all the rest
    #[arg(value_name = "NAME=LEVEL")]
    pub(crate) set: Vec<String>,
    /// Forget all that was asked for before
    #[arg(long)]
    pub(crate) reset: bool,
    /// Print the host's answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
A code is the word in square brackets at the end of a message, `code` in JSON, or the exit code of a command.

Examples:
  ksi explain                       all codes
  ksi explain invalid_payload")]
pub(crate) struct Explain {
    /// The codes to explain
    #[arg(value_name = "CODE")]
    pub(crate) codes: Vec<String>,
    /// Print a JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// A line of text
    Human,
    /// A JSON object a line
    Json,
}

impl From<LogFormat> for ksi_host::LogFormat {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Human => Self::Human,
            LogFormat::Json => Self::Json,
        }
    }
}
