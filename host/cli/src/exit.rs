//! Everything a command can fail with, and the exit code that goes with it.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use ksi_host::{ConfigError, LockHolder, SocketPathError, with_causes};

use super::client::ClientError;

/// The exit code of a command that was ended by one signal more than it has ways to end in order.
pub(crate) const SIGNALLED_TOO_OFTEN: i32 = 130;

/// What each exit code means: what the manual and docs/running.md say.
pub(crate) const EXIT_CODES: &[(u8, &str)] = &[
    (0, "all well"),
    (
        1,
        "something failed: a handler, a plugin that was refused, a file with something wrong in it; or no handler was there",
    ),
    (2, "not used as it should be, or the configuration cannot be used"),
    (3, "no host there"),
    (130, "ended by one signal more than there are stages of a stop"),
];

#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandFailure {
    /// What failed has been printed already, as a handler's failure is while other replies go on.
    #[error("")]
    Told,
    /// The same, for what a command that owns a host has failed with.
    #[error("{0}")]
    Logged(Box<CommandFailure>),
    /// A child that had the command to itself has ended so, and has told why.
    #[error("")]
    Exited(u8),
    /// Whoever read our output has read enough.
    #[error("")]
    OutputClosed,
    #[error("cannot write to standard output: {0}")]
    Output(#[source] std::io::Error),
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    SocketPath(#[from] SocketPathError),
    #[error(transparent)]
    Client(ClientError),
    /// Plugins cannot be built from source here.
    #[error(transparent)]
    Dev(Box<dyn Error + Send + Sync>),
    /// The file says where the host is, and cannot be used.
    #[error("{}; with --socket PATH the configuration is not needed to ask a host", with_causes(.0))]
    NowhereToAsk(ConfigError),
    #[error("a host is running on {path} already{}: stop it with `ksi --socket {path} stop`, or name another place with --socket", in_process(.holder.as_ref()), path = .path.display())]
    AlreadyRunning { path: PathBuf, holder: Option<LockHolder> },
    /// Nobody serves it, and somebody has it.
    #[error("no host can have {}: {holder}", path.display())]
    LeftBehind { path: PathBuf, holder: LockHolder },
    /// Of the plugins of these names, with the reasons.
    #[error("stopped, but {}", unkept(.0))]
    StateNotKept(Vec<(String, String)>),
    #[error("{what}: {source}")]
    Host { what: &'static str, source: Box<dyn Error> },
}

impl From<ClientError> for CommandFailure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Path(error) => Self::SocketPath(error),
            error => Self::Client(error),
        }
    }
}

/// ` (process 4711)`, where the system tells.
fn in_process(holder: Option<&LockHolder>) -> String {
    holder.map_or_else(String::new, |holder| format!(" (process {})", holder.process))
}

/// `the last state of counter is not kept: the disk is full; what was kept before is there still`
fn unkept(plugins: &[(String, String)]) -> String {
    let each = plugins.iter().map(|(name, reason)| {
        format!(
            "the last state of {name} is not kept: {reason}; what was kept before is there still"
        )
    });
    each.collect::<Vec<_>>().join("; ")
}

impl CommandFailure {
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Logged(failure) => return failure.code(),
            Self::OutputClosed => 0,
            Self::Exited(code) => *code,
            Self::Usage(_)
            | Self::Config(_)
            | Self::NowhereToAsk(_)
            | Self::SocketPath(SocketPathError::TooLong { .. }) => 2,
            Self::Client(ClientError::NoHost { .. }) => 3,
            _ => 1,
        })
    }

    /// What there is to say of it, each on a line of its own.
    pub(crate) fn lines(&self) -> Vec<String> {
        match self {
            _ if self.is_told() => Vec::new(),
            Self::Client(ClientError::Answer(failures)) => failures.clone(),
            _ => vec![format!("{} [{}]", with_causes(self), self.error_code())],
        }
    }

    /// The code that `ksi explain` explains.
    fn error_code(&self) -> &'static str {
        match self {
            Self::Logged(failure) => failure.error_code(),
            Self::Output(_) | Self::OutputClosed => "output",
            Self::Usage(_) => "usage",
            Self::Config(_) | Self::NowhereToAsk(_) => "invalid_config",
            Self::SocketPath(_) | Self::Client(ClientError::Path(_)) => "socket_path",
            Self::Client(ClientError::NoHost { .. }) => "no_host",
            Self::Client(ClientError::Connect { .. }) => "cannot_connect",
            Self::Client(ClientError::Send { .. } | ClientError::Receive { .. }) => {
                "connection_broke"
            }
            Self::Client(ClientError::TimedOut { .. }) => "no_answer",
            Self::Client(ClientError::HungUp { .. }) => "hung_up",
            Self::Client(ClientError::Reply(_) | ClientError::Answer(_)) => "not_understood",
            Self::Dev(_) => "dev",
            Self::AlreadyRunning { .. } => "already_running",
            Self::LeftBehind { .. } => "left_behind",
            Self::StateNotKept(_) => "state_not_kept",
            Self::Host { .. } | Self::Told | Self::Exited(_) => "host_failed",
        }
    }

    /// Nothing is left to say about it.
    pub(crate) fn is_told(&self) -> bool {
        matches!(self, Self::Told | Self::Logged(_) | Self::Exited(_) | Self::OutputClosed)
    }

    /// To be used with `map_err` on a step of the host.
    pub(crate) fn host<E: Error + 'static>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Host { what, source: source.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_the_code_that_the_help_promises() {
        let code = |failure: CommandFailure| format!("{:?}", failure.code());
        let expect = |number: u8| format!("{:?}", ExitCode::from(number));
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let none = ClientError::NoHost { path: "/s".into(), source: refused };
        let gone = ClientError::HungUp { path: "/s".into() };
        assert_eq!(code(CommandFailure::OutputClosed), expect(0));
        assert_eq!(code(CommandFailure::Told), expect(1));
        assert_eq!(code(gone.into()), expect(1));
        assert_eq!(
            code(CommandFailure::AlreadyRunning { path: "/s".into(), holder: None }),
            expect(1)
        );
        assert_eq!(code(CommandFailure::Usage("no JSON".into())), expect(2));
        assert_eq!(code(none.into()), expect(3));
    }

    #[test]
    fn every_exit_code_is_in_the_docs_as_it_is_here_and_in_the_help() {
        let docs = include_str!("../../../docs/running.md");
        let rows: Vec<&str> = docs.lines().skip_while(|line| *line != "## Exit codes").collect();
        let rows = rows.iter().skip_while(|line| !line.starts_with("| `")).copied();
        let rows: Vec<&str> = rows.take_while(|line| line.starts_with('|')).collect();
        let expected = EXIT_CODES.iter().map(|(code, meaning)| format!("| `{code}` | {meaning} |"));
        assert_eq!(rows, expected.collect::<Vec<_>>());
        let known: Vec<i32> = EXIT_CODES.iter().map(|(code, _)| i32::from(*code)).collect();
        assert_eq!(known, [0, 1, 2, 3, SIGNALLED_TOO_OFTEN]);
        let help = <super::super::args::Args as clap::CommandFactory>::command().render_help();
        let help = help.to_string();
        let line = help.lines().find(|line| line.starts_with("Exit codes: ")).expect("exit codes");
        for code in known {
            assert!(line.contains(&format!("{code} ")), "{line}");
        }
    }
}
