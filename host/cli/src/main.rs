//! `ksi`: the command line. `run` and `dev` own a host; every other command is a client that sends
//! events to one over its control socket and knows nothing of what is inside it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use ksi_host::{ChildEntry, Config, Environment, LogLevel, SocketPath};

use self::args::{Args, Command, Common, ConfigCommand};
use self::client::Client;
use self::exit::CommandFailure;

mod allocator;
mod args;
// Commands that own a host.
mod check;
mod compare;
mod dev;
mod logging;
mod reaper;
mod run;
mod service;
mod signals;
mod state_folder;
// Commands that need none.
mod complete;
mod explain;
mod man;
mod new;
// Commands that speak to one.
mod clients;
mod configuration;
mod emit;
mod events;
mod graph;
mod history;
mod inspect;
mod isolation;
mod list;
mod log;
mod replace;
mod schema;
mod state;
mod stop;
mod trace;
mod watch;
// What those are made of.
mod client;
mod exit;
mod flow;
mod lines;
mod output;
mod pid_file;
mod plugin;
mod progress;
mod reply;
mod table;
mod text;

/// What a host logs, unless somebody says something else.
const LOG: LogLevel = LogLevel::Info;

/// Does what the arguments say. The only place that turns a failure into an exit code.
fn main() -> ExitCode {
    // The host starts this very executable to try a plugin file in; that child goes no further.
    let entry = ksi_host::answer_probe();
    if complete::answer() {
        return ExitCode::SUCCESS;
    }
    allocator::settle();
    let Args { common, command } = Args::parse();
    match dispatch(entry, &common, command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.lines().iter().for_each(|line| output::error(line));
            failure.code()
        }
    }
}

fn dispatch(entry: ChildEntry, common: &Common, command: Command) -> Result<(), CommandFailure> {
    match command {
        Command::Run(args) => {
            if let Some(code) = reaper::run_in_child() {
                return if code == 0 { Ok(()) } else { Err(CommandFailure::Exited(code)) };
            }
            let given = service::given()?;
            let format = args.logged.log_format.map(Into::into);
            logging::during(LOG, format, |log| run::run(entry, common, args, given, log))
        }
        Command::New(args) => new::new(args),
        Command::Explain(args) => explain::explain(&args),
        Command::Dev(args) => {
            let format = args.logged.log_format.map(Into::into);
            logging::during(LOG, format, |log| dev::dev(entry, common, args, log))
        }
        Command::Emit(args) => emit::emit(common, args),
        Command::List(args) => list::list(common, args),
        Command::Inspect(args) => inspect::inspect(common, args),
        Command::Events(args) => events::events(common, args),
        Command::Schema(args) => schema::schema(common, args),
        Command::Watch(args) => watch::watch(common, args),
        Command::Trace(args) => trace::trace(common, args),
        Command::Compare(args) => {
            logging::during(LogLevel::Error, None, |_| compare::compare(entry, common, &args))
        }
        Command::Check(args) => {
            logging::during(LogLevel::Error, None, |_| check::check(entry, common, &args))
        }
        Command::Load(args) => replace::load(common, args),
        Command::Reload(args) => replace::reload(common, args),
        Command::Rollback(args) => replace::rollback(common, args),
        Command::Unload(args) => replace::unload(common, args),
        Command::History(args) => history::history(common, args),
        Command::Clients(args) => clients::clients(common, args),
        Command::Log(args) => log::log(common, args),
        Command::Config(ConfigCommand::Check(args)) => configuration::check(common, args),
        Command::Config(ConfigCommand::Show(args)) => configuration::show(common, args),
        Command::Config(ConfigCommand::Reload(args)) => configuration::reload(common, args),
        Command::Config(ConfigCommand::Isolation(args)) => isolation::isolation(common, args),
        Command::State(args) => state::state(common, args),
        Command::Graph(args) => graph::graph(common, args),
        Command::Stop => stop::stop(common),
        Command::Completions(args) => complete::completions(&args),
        Command::Man(args) => man::man(&args),
    }
}

impl Common {
    fn configuration(&self) -> Result<Config, CommandFailure> {
        Ok(self.config.as_deref().map(Config::from_file).transpose()?.unwrap_or_default())
    }

    /// The configuration file and what it holds, before a command changes anything in it.
    fn held(&self, config: &Config) -> Option<(PathBuf, Config)> {
        self.config.clone().map(|file| (file, config.clone()))
    }

    fn socket_path(&self, config: &Config) -> SocketPath {
        let environment = Environment::of_process();
        SocketPath::choose(self.socket.as_deref(), config.socket.as_deref(), &environment)
    }

    fn client(&self) -> Result<Client, CommandFailure> {
        // Whoever says where the host is can ask it, whatever its configuration file has become.
        let is_known = self.socket.is_some() || Environment::of_process().ksi_socket.is_some();
        let config = match is_known {
            true => Config::default(),
            false => self.configuration().map_err(|failure| match failure {
                CommandFailure::Config(error) => CommandFailure::NowhereToAsk(error),
                failure => failure,
            })?,
        };
        Ok(Client::connect(&self.socket_path(&config))?)
    }
}
