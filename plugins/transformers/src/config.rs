//! The plugin's configuration.

use std::path::PathBuf;

use ksi_plugin_api::prelude::*;

use crate::{definition::Values, transformer::Limits};

#[payload]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Files, and folders with `*.yaml` and `*.yml` files in them and below. What is relative is
    /// looked for from the folder of the plugin's own file on.
    paths: Vec<String>,
    /// `text`, as KSI has it, or `native`: what becomes of a mapping that is just `{{field}}`.
    values: String,
    /// How many bytes a transformer may make of one event.
    max_bytes: usize,
    /// How many events a transformer with `foreach` may make of one.
    max_items: usize,
    /// How many answers may be awaited for `response_route`, over all transformers.
    max_pending: usize,
    /// For how many seconds an answer is awaited.
    response_timeout_seconds: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            paths: vec!["transformers".to_owned()],
            values: "text".to_owned(),
            max_bytes: 10 << 20,
            max_items: 1000,
            max_pending: 4096,
            response_timeout_seconds: 600,
        }
    }
}

/// The same, as it is used.
pub(crate) struct Settings {
    pub(crate) paths: Vec<PathBuf>,
    /// The folder that is looked into when none is configured need not be there.
    pub(crate) may_lack: bool,
    pub(crate) values: Values,
    pub(crate) limits: Limits,
    pub(crate) max_pending: usize,
    pub(crate) response_timeout: std::time::Duration,
}

impl Settings {
    pub(crate) fn new(ctx: &Context, config: Config) -> Result<Settings> {
        let values = match config.values.as_str() {
            "text" => Values::Text,
            "native" => Values::Native,
            other => {
                let message = format!("values is to be \"text\" or \"native\", not {other:?}");
                return Err(Error::new("invalid_config", message));
            }
        };
        let may_lack = config.paths == Config::default().paths;
        let own = ctx.file().and_then(|file| file.parent().map(PathBuf::from));
        let from_own = |path: &String| match &own {
            Some(folder) => folder.join(path),
            None => PathBuf::from(path),
        };
        Ok(Settings {
            paths: config.paths.iter().map(from_own).collect(),
            may_lack,
            values,
            limits: Limits { bytes: config.max_bytes, items: config.max_items },
            max_pending: config.max_pending,
            response_timeout: std::time::Duration::from_secs(config.response_timeout_seconds),
        })
    }
}
