//! `config:*`: the configuration while the host runs.

use std::sync::Arc;

use ksi_kernel::router::host_handler::Failure;
use ksi_wire::config::{Reconfigured, Refused, Reloaded, Setting, Shown};
use ksi_wire::module::HistoryBy;

use super::{Nothing, handle, handle_change};
use crate::{
    catalog::Described,
    config::Origin,
    core::{
        Core,
        settings::{ReconfiguredOutcome, ReloadConfigError, effective::EffectiveSetting},
    },
    plugin::{announce::shown, supervisor::configure::RefusedConfig},
    text::causes::with_causes,
};

pub(super) fn register(core: &Arc<Core>) {
    let reload = Described::new(
        "config:reload",
        "Reads the configuration file again, and applies what can be while the host runs.",
    );
    handle_change(core, reload, reload_config);
    let show = Described::new(
        "config:show",
        "Every value that is in effect, and where it comes from. What looks like a secret is masked.",
    );
    handle(core, show, show_config);
}

async fn show_config(core: Arc<Core>, _: Nothing) -> Result<Shown, Failure> {
    let effective = core.settings.effective();
    let settings = effective.settings.into_iter().map(|setting| {
        let EffectiveSetting { key, value, origin, is_masked, in_file } = setting;
        let (from, by, line) = match origin {
            Origin::Default => ("default", None, None),
            Origin::File { line } => ("file", None, line),
            Origin::CommandLine { option } => ("command_line", Some(option), None),
            Origin::Environment { variable } => ("environment", Some(variable), None),
            Origin::Program => ("program", None, None),
        };
        let line = line.map(|line| line as u64);
        Setting { by, from: from.into(), in_file, key, line, masked: is_masked, value }
    });
    let settings = settings.collect();
    let file = effective.file.as_deref().map(shown);
    let refused = core.supervisor.refused_configs().into_iter().map(|(name, refused)| {
        let RefusedConfig { code, reason, since: _ } = refused;
        Refused { code, name: name.to_string(), reason }
    });
    let refused = refused.collect();
    Ok(Shown { file, file_error: effective.file_error, refused, settings })
}

async fn reload_config(core: Arc<Core>, by: HistoryBy, _: Nothing) -> Result<Reloaded, Failure> {
    let reloaded = core.reload_config(&by).await.map_err(|error| {
        let code = match error {
            ReloadConfigError::NoFile => "no_config_file",
            ReloadConfigError::Config(_) => "invalid_config",
            ReloadConfigError::Stopping => "stopping",
            ReloadConfigError::Panicked(_) => "host_panicked",
        };
        Failure::new(code, with_causes(&error))
    })?;
    let plugins = reloaded.plugins.into_iter().map(|plugin| {
        let (status, generation, code, reason) = match plugin.outcome {
            ReconfiguredOutcome::Taken { generation } => ("taken", Some(generation), None, None),
            ReconfiguredOutcome::Reloaded { generation } => {
                ("reloaded", Some(generation), None, None)
            }
            ReconfiguredOutcome::NotLive { reason } => ("not_live", None, None, Some(reason)),
            ReconfiguredOutcome::Refused { code, reason } => {
                ("refused", None, Some(code), Some(Some(reason)))
            }
        };
        Reconfigured { code, generation, name: plugin.plugin, reason, status: status.into() }
    });
    Ok(Reloaded {
        plugins: plugins.collect(),
        applied: reloaded.applied,
        file: shown(&reloaded.file),
        needs_restart: reloaded.needs_restart,
        status: "reloaded".into(),
    })
}
