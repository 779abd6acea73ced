//! Where logs of the host and its plugins go: standard error, filtered by `KSI_LOG`, as text or as
//! JSON, by a way on which nobody waits.

use std::io::{self, IsTerminal};
use std::panic::PanicHookInfo;
use std::time::Duration;

use ksi_host::{LogFormat, LogLevel, LogLevels};
use tracing::Level;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::exit::CommandFailure;
use super::output;
use form::Form;
use layer::Lines;
use line::Line;
use queue::Queue;

mod form;
mod layer;
mod line;
mod queue;
mod repeats;

const VARIABLE: &str = "KSI_LOG";

/// How long the end of the process may wait for whoever reads the last lines.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// What a command that logs may say of it.
pub(crate) struct Logging {
    form: Form,
    /// What the command line says, which wins.
    asked: Option<LogFormat>,
    /// What is written of it.
    pub(crate) levels: LogLevels,
}

impl Logging {
    /// The configuration is known from here on.
    pub(crate) fn settle(&self, config: &ksi_host::Log) {
        self.form.set(self.asked.unwrap_or(config.format));
        self.levels.configuration(config.level, &config.levels);
    }
}

/// Runs a command that owns a host, which logs from `default` on unless KSI_LOG says something
/// else, in the form that is asked for. What it has to say on standard error, why it ends and
/// panics too, goes one way, on which nobody waits.
pub(crate) fn during(
    default: LogLevel,
    asked: Option<LogFormat>,
    command: impl FnOnce(&Logging) -> Result<(), CommandFailure>,
) -> Result<(), CommandFailure> {
    let levels = LogLevels::new(default);
    of_environment(&levels)?;
    let colours =
        io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
    let form = Form::new(asked.unwrap_or_default(), colours);
    let queue = Queue::to_standard_error(form.clone())
        .map_err(CommandFailure::host("cannot begin to log"))?;
    let lines = Lines { queue: queue.clone(), form: form.clone(), levels: levels.clone() };
    tracing_subscriber::registry()
        .with(lines)
        .try_init()
        .map_err(CommandFailure::host("cannot begin to log"))?;
    let (lines, of_panics) = (queue.clone(), form.clone());
    std::panic::set_hook(Box::new(move |panic| {
        lines.put(told(panic, of_panics.format()).as_bytes());
    }));
    let ended = command(&Logging { form: form.clone(), asked, levels }).map_err(|failure| {
        for line in failure.lines() {
            let line = match form.format() {
                LogFormat::Json => {
                    Line::of_command(Level::ERROR, line).formed(LogFormat::Json, false)
                }
                _ => output::error_line(&line, colours),
            };
            queue.put(line.as_bytes());
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

fn told(panic: &PanicHookInfo<'_>, format: LogFormat) -> String {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("without a name");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let message = panic.payload_as_str().unwrap_or("a value that is no text");
    let trace = match std::backtrace::Backtrace::capture() {
        trace if trace.status() == std::backtrace::BacktraceStatus::Captured => format!("{trace}"),
        _ => String::new(),
    };
    match format {
        LogFormat::Json => Line::of_command(Level::ERROR, format!("panicked: {message}"))
            .with("thread", name)
            .with("place", place)
            .with("backtrace", trace)
            .formed(format, false),
        _ => {
            let message = output::paragraph(message);
            format!("\nthread '{name}' panicked at {place}:\n{message}\n{trace}")
        }
    }
}

fn of_environment(levels: &LogLevels) -> Result<(), CommandFailure> {
    let Some(value) = std::env::var_os(VARIABLE) else { return Ok(()) };
    let read = levels.environment(&value.to_string_lossy());
    read.map_err(|error| {
        CommandFailure::Usage(format!(
            "{VARIABLE} is no log filter such as `info` or `warn,state=debug`: {error}"
        ))
    })
}
