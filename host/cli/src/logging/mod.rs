//! Where logs of the host and its plugins go: standard error, filtered by `KSI_LOG`, by a way on
//! which nobody waits.

use std::io::{self, IsTerminal};
use std::panic::PanicHookInfo;
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::exit::CommandFailure;
use super::output;
use fields::Harmless;
use queue::Queue;

mod fields;
mod queue;
mod repeats;

const VARIABLE: &str = "KSI_LOG";

/// How long the end of the process may wait for whoever reads the last lines.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// Runs a command that owns a host, which logs from `default` on unless KSI_LOG says something
/// else. What it has to say on standard error, why it ends and panics
/// too, goes one way, on which nobody waits.
pub(crate) fn during(
    default: LevelFilter,
    command: impl FnOnce() -> Result<(), CommandFailure>,
) -> Result<(), CommandFailure> {
    let filter = filter(default)?;
    let colours =
        io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
    let queue = Queue::to_standard_error().map_err(CommandFailure::host("cannot begin to log"))?;
    let lines = queue.clone();
    tracing_subscriber::fmt()
        .with_writer(move || lines.clone())
        // It would tell them with a macro that panics where standard error is closed.
        .log_internal_errors(false)
        .with_ansi(colours)
        .fmt_fields(Harmless)
        .with_env_filter(filter)
        .try_init()
        .map_err(|source| CommandFailure::Host { what: "cannot begin to log", source })?;
    let lines = queue.clone();
    std::panic::set_hook(Box::new(move |panic| lines.put(told(panic).as_bytes())));
    let ended = command().map_err(|failure| {
        for line in failure.lines() {
            queue.put(output::error_line(&line, colours).as_bytes());
        }
        CommandFailure::Logged(Box::new(failure))
    });
    queue.flush(LAST_WAIT);
    ended
}

/// Writes a line to standard output without waiting for whoever reads it.
pub(crate) fn announce(line: String) {
    let print = move || {
        use io::Write;
        let mut out = io::stdout().lock();
        // A host goes on when nobody reads it.
        let _ = writeln!(out, "{}", output::plain(&line)).and_then(|()| out.flush());
    };
    if let Err(error) = std::thread::Builder::new().name("ksi-announce".into()).spawn(print) {
        tracing::warn!(%error, "there is no thread to write to standard output on");
    }
}

fn told(panic: &PanicHookInfo<'_>) -> String {
    let thread = std::thread::current();
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let message = output::paragraph(panic.payload_as_str().unwrap_or("a value that is no text"));
    let trace = match std::backtrace::Backtrace::capture() {
        trace if trace.status() == std::backtrace::BacktraceStatus::Captured => format!("{trace}"),
        _ => String::new(),
    };
    let name = thread.name().unwrap_or("without a name");
    format!("\nthread '{name}' panicked at {place}:\n{message}\n{trace}")
}

fn filter(default: LevelFilter) -> Result<EnvFilter, CommandFailure> {
    let filter = EnvFilter::builder()
        .with_default_directive(default.into())
        .with_env_var(VARIABLE)
        .try_from_env();
    match filter {
        Ok(filter) => Ok(filter),
        Err(_) if std::env::var_os(VARIABLE).is_none_or(|value| value.is_empty()) => {
            Ok(EnvFilter::new(default.to_string()))
        }
        Err(error) => Err(CommandFailure::Usage(format!(
            "{VARIABLE} is no log filter such as `info` or `warn,ksi_plugin=debug`: {error}"
        ))),
    }
}
