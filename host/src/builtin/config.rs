//! `config:*`: the configuration while the host runs.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{catalog::Described, handle_change};
use crate::{
    host::Host,
    plugin::announce::shown,
    router::native::Failure,
    settings::{ReconfiguredOutcome, ReloadConfigError},
    text::causes::with_causes,
};

pub(super) fn register(host: &Host) {
    let reload = Described::new(
        "config:reload",
        "Reads the configuration file again, and applies what can be while the host runs.",
    );
    handle_change(host, reload, reload_config);
}

#[derive(Deserialize)]
struct Nothing {}

async fn reload_config(host: Host, _: Nothing) -> Result<Value, Failure> {
    let reloaded = host.reload_config().await.map_err(|error| {
        let code = match error {
            ReloadConfigError::NoFile => "no_config_file",
            ReloadConfigError::Config(_) => "invalid_config",
            ReloadConfigError::Stopping => "stopping",
            ReloadConfigError::Panicked(_) => "host_panicked",
        };
        Failure::new(code, with_causes(&error))
    })?;
    let plugins = reloaded.plugins.iter().map(|plugin| match &plugin.outcome {
        ReconfiguredOutcome::Reloaded { generation } => {
            json!({ "name": plugin.plugin, "status": "reloaded", "generation": generation })
        }
        ReconfiguredOutcome::NotLive { reason } => {
            json!({ "name": plugin.plugin, "status": "not_live", "reason": reason })
        }
        ReconfiguredOutcome::Refused { reason } => {
            json!({ "name": plugin.plugin, "status": "refused", "reason": reason })
        }
    });
    Ok(json!({
        "status": "reloaded",
        "file": shown(&reloaded.file),
        "applied": reloaded.applied,
        "needs_restart": reloaded.needs_restart,
        "plugins": plugins.collect::<Vec<_>>(),
    }))
}
