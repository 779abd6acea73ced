//! The same for what an author of plugins does.

use std::path::PathBuf;

use clap::ValueEnum;

use super::{KeptState, Logged};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
In a workspace the crate becomes one of its members, and has ksi-plugin-api from where the others have it. Elsewhere it
stands alone: ksi-plugin-api is on no registry yet, so Cargo.toml names the folder of the checkout that built this ksi, or
that of --api, and Cargo.lock begins with the versions there. It does not build any more where that folder is gone.

Examples:
  ksi new greeter
  ksi new plugins/gate --template service")]
pub(crate) struct New {
    /// Where the crate is to be; the last part is the plugin's name
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
    /// What it begins as
    #[arg(long, value_enum, default_value_t = Template::Basic)]
    pub(crate) template: Template,
    /// The folder plugin-api of a checkout of ksi [default: as the help says below]
    #[arg(long, value_name = "DIR")]
    pub(crate) api: Option<PathBuf>,
}

/// What a plugin begins as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Template {
    /// One handler of one typed event
    Basic,
    /// State that the next version goes on with, and that of the version before
    Stateful,
    /// A runtime of its own, and a listening socket that survives its replacement
    Service,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
A package is left out that says so in its Cargo.toml:
  [package.metadata.ksi]
  dev = false

While a build fails, what was built last stays live.

The state of plugins is kept in ksi/state in the target folder, so that `cargo clean` begins anew. With --plugins, it is
kept where `ksi run` keeps it.

Examples:
  ksi dev                     all plugins of the workspace around the current folder
  ksi dev plugins ../hello    those below these folders")]
pub(crate) struct Dev {
    /// Where to look for plugin packages, at any depth [default: this workspace]
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// The folder that built plugins are put into [default: ksi/plugins in the target folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) plugins: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) logged: Logged,
    #[command(flatten)]
    pub(crate) kept_state: KeptState,
    /// Build with optimizations
    #[arg(long)]
    pub(crate) release: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each file goes through all that a host does with one before it is a plugin: who could have written it, what it is by its
bytes, the libraries that it needs, and its opening and a trial of its `initialize` in a process of its own, with the
configuration of --config and without state. A module of Python is described and opened. None of them is started.
Several files, and those of a folder, are checked as one host would start them, one after the other: a plugin is of one
file, what it requires another one or the host handles, and it keeps its contracts with the others. What a plugin only
subscribes to when it runs is not seen.

With --against, a host is thought of that has the plugins of a folder, and with --live one that runs is asked: whether it
would take the files as one change in place of what it has, with its configuration, its policy of contracts, and the state
of the live plugins in the trial. Nothing in it changes. It is asked about files, and not about folders of them.

Exit codes: 0 a host takes all of them, 1 it refuses one or more, 2 not used as it should be or nothing was checked.

Examples:
  ksi check target/release/libgreeter.so
  ksi check plugins --config ksi.toml --json
  ksi check target/release/libgreeter.so --against plugins
  ksi check target/release/libgreeter.so --live")]
pub(crate) struct Check {
    /// Files of plugins, and folders of them
    #[arg(value_name = "FILE-or-FOLDER", required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// Compare with the plugins of this folder, and the versions there which they replace
    #[arg(long, value_name = "FOLDER")]
    pub(crate) against: Vec<PathBuf>,
    /// Ask the host that runs
    #[arg(long, conflicts_with = "against")]
    pub(crate) live: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}
