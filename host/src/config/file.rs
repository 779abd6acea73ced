//! The configuration as it is written: TOML's tables, durations in words, paths relative to the
//! file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use toml::Spanned;
use toml::de::DeTable;

use super::{
    Config, Contracts, Isolation, Limits, Log, Metrics, Problem, Python, Recorder, Recovery,
    Reload, StateFiles, Timeouts, UntrustedPlugins, origin::Origins, range,
};
use crate::secrets::within;

pub(super) fn parse(text: &str, folder: &Path) -> Result<Config, Problem> {
    let file: File = toml::from_str(text).map_err(|source| Problem::Toml {
        suggestion: suggestion(source.message()),
        source: Box::new(source),
    })?;
    Ok(Config { origins: Origins::of_text(text), ..of_file(file, folder)? })
}

impl File {
    /// Of what was read of a text. The error knows its place, and not the text.
    pub(super) fn read(table: Spanned<DeTable<'_>>) -> Result<Self, toml::de::Error> {
        File::deserialize(toml::Deserializer::from(table))
    }
}

/// What a text was not read for, without its place.
pub(super) fn told(error: &toml::de::Error) -> String {
    match suggestion(error.message()) {
        Some(key) => format!("{}; did you mean `{key}`?", error.message()),
        None => error.message().to_owned(),
    }
}

/// What a file says, with paths that are relative to `folder`.
pub(super) fn of_file(file: File, folder: &Path) -> Result<Config, Problem> {
    let plugins = file.plugin.into_iter().map(|(name, table)| {
        let mut config = json(toml::Value::Table(table), &mut format!("plugin.{name}"))?;
        within(&mut config, folder);
        Ok((name, config))
    });
    no_empty_paths(&file.host)?;
    // An empty one is found by the check, which is why it is not made one with the folder before.
    file.python.check()?;
    file.state.check()?;
    file.recovery.check()?;
    let config = Config {
        plugin_dirs: file.host.plugin_dirs.iter().map(|dir| folder.join(dir)).collect(),
        socket: file.host.socket.map(|socket| folder.join(socket)),
        pid_file: file.host.pid_file.map(|file| folder.join(file)),
        private_dir: file.host.private_dir.map(|dir| folder.join(dir)),
        untrusted_plugins: file.host.untrusted_plugins,
        timeouts: file.timeouts,
        limits: file.limits,
        reload: file.reload,
        isolation: file.isolation.within(folder),
        python: file.python.within(folder),
        contracts: file.contracts,
        state: StateFiles { dir: file.state.dir.map(|dir| folder.join(dir)), ..file.state },
        recovery: Recovery { dir: file.recovery.dir.map(|dir| folder.join(dir)), ..file.recovery },
        log: file.log,
        metrics: file.metrics,
        recorder: file.recorder,
        plugins: plugins.collect::<Result<_, Problem>>()?,
        origins: Origins::default(),
    };
    config.check()?;
    Ok(config)
}

/// An empty path would be the folder of the file itself.
fn no_empty_paths(host: &HostTable) -> Result<(), Problem> {
    let sockets = host.socket.iter().map(|path| ("socket", path));
    let pid_file = host.pid_file.iter().map(|path| ("pid_file", path));
    let private = host.private_dir.iter().map(|path| ("private_dir", path));
    let mut paths = sockets
        .chain(pid_file)
        .chain(private)
        .chain(host.plugin_dirs.iter().map(|path| ("plugin_dirs", path)));
    match paths.find(|(_, path)| path.as_os_str().is_empty()) {
        Some((key, _)) => Err(range::outside("host", key, "\"\"", "a path")),
        None => Ok(()),
    }
}

/// The file as it is written; [`Config`] is what programs use.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    host: HostTable,
    timeouts: Timeouts,
    limits: Limits,
    reload: Reload,
    isolation: Isolation,
    python: Python,
    contracts: Contracts,
    state: StateFiles,
    recovery: Recovery,
    log: Log,
    metrics: Metrics,
    recorder: Recorder,
    plugin: BTreeMap<String, toml::Table>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct HostTable {
    plugin_dirs: Vec<PathBuf>,
    socket: Option<PathBuf>,
    pid_file: Option<PathBuf>,
    private_dir: Option<PathBuf>,
    untrusted_plugins: Option<UntrustedPlugins>,
}

/// A duration in words, such as `"500ms"` or `"5s"`.
pub(super) fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    humantime::parse_duration(&text).map_err(|error| {
        D::Error::custom(format!("`{text}` is no duration such as \"500ms\" or \"5s\": {error}"))
    })
}

/// A duration that need not be there.
pub(super) fn some_duration<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Duration>, D::Error> {
    duration(from).map(Some)
}

/// The known key nearest to an unknown one. The parser says both only in its message: ``unknown
/// field `hander`, expected one of `handler`, `probe` ``. A message of any other shape gives no
/// suggestion.
fn suggestion(message: &str) -> Option<String> {
    let mut quoted = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    let unknown = quoted.next()?;
    quoted
        .map(|known| (strsim::jaro_winkler(unknown, known), known))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known.to_owned())
}

/// TOML to JSON. `key` is the way to the value, for the message, and is as before on success.
fn json(value: toml::Value, key: &mut String) -> Result<serde_json::Value, Problem> {
    Ok(match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Boolean(bool) => bool.into(),
        // JSON has no dates; RFC 3339 is what TOML writes.
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Float(value) => serde_json::Number::from_f64(value)
            .ok_or_else(|| Problem::NotFinite { key: key.clone(), value })?
            .into(),
        toml::Value::Array(items) => {
            items.into_iter().map(|item| json(item, key)).collect::<Result<Vec<_>, _>>()?.into()
        }
        toml::Value::Table(table) => {
            let length = key.len();
            let mut object = serde_json::Map::new();
            for (name, value) in table {
                key.push('.');
                key.push_str(&name);
                object.insert(name, json(value, key)?);
                key.truncate(length);
            }
            object.into()
        }
    })
}
