//! Where logs of the host and its plugins go: standard error, filtered by `KSI_LOG`.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::exit::Failure;

const VARIABLE: &str = "KSI_LOG";

/// Begins to log. To be called once, before anything is worth a line.
pub(crate) fn start() -> Result<(), Failure> {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .with_env_var(VARIABLE)
        .try_from_env();
    let filter = match filter {
        Ok(filter) => filter,
        Err(_) if std::env::var_os(VARIABLE).is_none_or(|value| value.is_empty()) => {
            EnvFilter::new("info")
        }
        Err(error) => {
            return Err(Failure::Usage(format!(
                "{VARIABLE} is no log filter such as `info` or `warn,ksi_plugin=debug`: {error}"
            )));
        }
    };
    let colours = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .with_env_filter(filter)
        .try_init()
        .map_err(|source| Failure::Host { what: "cannot begin to log", source })
}
