//! `system:log`: what is written of the log, and changes of that while the host runs.

use std::sync::Arc;

use ksi_kernel::router::host_handler::Failure;
use ksi_wire::system::{Log, LogInEffect, LogLevel};

use crate::{core::Core, log_levels::InvalidLogLevel};

pub(super) async fn log(core: Arc<Core>, ask: Log) -> Result<LogInEffect, Failure> {
    let set: Result<Vec<_>, InvalidLogLevel> =
        ask.set.into_iter().map(|(name, level)| Ok((name, level.parse()?))).collect();
    let set = set.map_err(failure)?;
    if ask.reset {
        core.levels.reset();
        tracing::info!("the log is as the configuration and the environment say again");
    }
    if !set.is_empty() {
        core.levels.ask_all(&set).map_err(failure)?;
        let told: Vec<String> = set.iter().map(|(name, level)| format!("{name}={level}")).collect();
        tracing::info!("the log has other levels, as somebody asked: {}", told.join(", "));
    }
    let live = core.supervisor.registry().last_started_first();
    let is_known = |name: &str| {
        name == crate::log_levels::ALL
            || crate::log_levels::is_of_process(name)
            || live.iter().any(|plugin| **plugin == *name)
    };
    let unknown = set.into_iter().map(|(name, _)| name).filter(|name| !is_known(name));
    let levels = core.levels.in_effect().into_iter().map(|it| LogLevel {
        from: it.from.into(),
        level: it.level.to_string(),
        name: it.name,
    });
    Ok(LogInEffect { levels: levels.collect(), unknown: unknown.collect() })
}

fn failure(error: InvalidLogLevel) -> Failure {
    let code = match error {
        InvalidLogLevel::OfSubscriber => "unsupported",
        InvalidLogLevel::TooMany { .. } => "too_many",
        InvalidLogLevel::Level { .. } | InvalidLogLevel::Name { .. } => "invalid_payload",
    };
    Failure::new(code, error)
}
