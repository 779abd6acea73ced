//! What is in effect, value by value, with where each comes from.
//!
//! Nothing secret leaves this module: a value of a plugin's table that looks like one is masked.

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::Value;

use super::{KnownConfig, Settings};
use crate::config::{Config, Listed, Origin, listed};

/// In place of what is not shown.
const MASK: &str = "(masked)";

/// The configuration of a host.
pub(crate) struct Effective {
    /// The file that it was read from.
    pub(crate) file: Option<PathBuf>,
    /// Why that could not be used when it was last read.
    pub(crate) file_error: Option<String>,
    pub(crate) settings: Vec<EffectiveSetting>,
}

/// One value of it.
pub(crate) struct EffectiveSetting {
    /// As in `limits.workers`.
    pub(crate) key: String,
    /// Null where there is none.
    pub(crate) value: Value,
    pub(crate) origin: Origin,
    /// The value is not shown.
    pub(crate) is_masked: bool,
    /// What the file says otherwise, as far as the host has read it; null where it says nothing any
    /// more, and nothing is the default.
    pub(crate) in_file: Option<Value>,
}

impl Settings {
    pub(crate) fn effective(&self) -> Effective {
        let known = self.known().clone();
        let file_error = self.trouble();
        Effective { file: self.file.clone(), file_error, settings: effective(&known) }
    }
}

fn effective(known: &KnownConfig) -> Vec<EffectiveSetting> {
    let default = by_key(listed(&Config::default()));
    let held = by_key(listed(&known.held));
    let (mut newest, mut settings) = (by_key(listed(&known.newest)), Vec::new());
    let mut add = |key: String, value: Value, newest: Value| {
        let is_default = default.get(&key).unwrap_or(&Value::Null) == &value;
        let said = known.in_effect.origins.said(&key).cloned();
        let line = known.newest.origins.line(&key).filter(|_| newest == value);
        let origin = match (said, line) {
            (Some(said), _) => said,
            (None, Some(line)) => Origin::File { line: Some(line) },
            (None, None) if is_default => Origin::Default,
            (None, None) if known.held.origins.line(&key).is_some() => Origin::File { line: None },
            (None, None) => Origin::Program,
        };
        let in_file = (held.get(&key).unwrap_or(&Value::Null) != &newest).then_some(newest);
        let hide = |value: &Value| is_secret(&key, value);
        let is_masked = hide(&value);
        let masked = |value: Value| if hide(&value) { MASK.into() } else { value };
        let (value, in_file) = (masked(value), in_file.map(masked));
        settings.push(EffectiveSetting { key, value, origin, is_masked, in_file });
    };
    for (key, value) in listed(&known.in_effect) {
        let newest = newest.remove(&key).unwrap_or_default();
        add(key, value, newest);
    }
    // What a plugin has not taken, and tables that need a restart.
    newest.into_iter().for_each(|(key, newest)| add(key, Value::Null, newest));
    settings
}

fn by_key(listed: Listed) -> BTreeMap<String, Value> {
    listed.into_iter().collect()
}

/// Whether a value of a plugin's table is not for everybody's eyes, by the name of its key, or as a
/// URL with a password. One that is can be written otherwise.
fn is_secret(key: &str, value: &Value) -> bool {
    const NAMES: [&str; 10] = [
        "password",
        "passwd",
        "passphrase",
        "secret",
        "token",
        "api_key",
        "apikey",
        "access_key",
        "private_key",
        "credential",
    ];
    let is_text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    let has_password = |text: &str| {
        let behind = text.split_once("://").map(|(_, behind)| behind);
        let before = behind.and_then(|behind| behind.split(['/', '?']).next()?.rsplit_once('@'));
        before.is_some_and(|(user, _)| user.contains(':'))
    };
    let all = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    let Some(key) = key.strip_prefix("plugin.") else { return false };
    // Behind the plugin's name, which may be `token`.
    let key = key.split_once('.').map_or("", |(_, key)| key).to_lowercase().replace('-', "_");
    let is_named = NAMES.iter().any(|name| key.contains(name));
    all.iter().any(|value| is_text(value) && is_named)
        || all.iter().filter_map(Value::as_str).any(has_password)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    fn read(toml: &str) -> Config {
        Config::from_toml(toml, "/".as_ref()).unwrap()
    }

    fn known(held: &str, newest: &str, change: impl FnOnce(&mut Config)) -> Vec<EffectiveSetting> {
        let (held, newest) = (read(held), Arc::new(read(newest)));
        let mut in_effect = held.clone();
        change(&mut in_effect);
        effective(&KnownConfig { held, in_effect, newest })
    }

    fn of(all: &[EffectiveSetting], key: &str) -> (Value, Origin, Option<Value>) {
        let found = all.iter().find(|it| it.key == key).expect(key);
        (found.value.clone(), found.origin.clone(), found.in_file.clone())
    }

    #[test]
    fn each_value_has_where_it_comes_from_and_what_the_file_says_otherwise() {
        let held =
            "[limits]\nworkers = 3\nconnections = 256\nline_bytes = 2048\n[plugin.hello]\na = 1";
        let newest = "\n[limits]\nworkers = 3\nconnections = 7\n[plugin.hello]\na = 2\nb = 'x'";
        let all = known(held, newest, |config| {
            config.state.dir = Some("/s".into());
            config.said_by("state.dir", Origin::CommandLine { option: "--state".into() });
            config.pid_file = Some("/p".into());
        });
        let file = |line| Origin::File { line };
        assert_eq!(of(&all, "limits.workers"), (json!(3), file(Some(3)), None));
        let connections = (json!(256), Origin::Default, Some(json!(7)));
        assert_eq!(of(&all, "limits.connections"), connections);
        let default = json!(10 << 20);
        assert_eq!(of(&all, "limits.line_bytes"), (json!(2048), file(None), Some(default)));
        let state = Origin::CommandLine { option: "--state".into() };
        assert_eq!(of(&all, "state.dir"), (json!("/s"), state, None));
        assert_eq!(of(&all, "host.pid_file"), (json!("/p"), Origin::Program, None));
        assert_eq!(of(&all, "plugin.hello.a"), (json!(1), file(None), Some(json!(2))));
        let untaken = (Value::Null, Origin::Default, Some(json!("x")));
        assert_eq!(of(&all, "plugin.hello.b"), untaken);
    }

    #[test]
    fn what_looks_like_a_secret_in_a_plugin_s_table_is_masked_and_nothing_else() {
        let toml = "
            [plugin.token]
            api_key = 'k1'
            max_tokens = 7
            url = 'postgres://me:k2@host/db'
            urls = ['a', 'amqp://me:k3@host']
            plain = 'https://host/a@b:c'
            inner.auth-token = 'k4'
            empty_password = ''
        ";
        let all = known(toml, toml, |_| ());
        let value = |key: &str| of(&all, &format!("plugin.token.{key}")).0;
        for masked in ["api_key", "url", "urls", "inner.auth-token"] {
            assert_eq!(value(masked), MASK, "{masked}");
        }
        assert_eq!(value("max_tokens"), 7);
        assert_eq!(value("plain"), "https://host/a@b:c");
        assert_eq!(value("empty_password"), "");
        let changed = known("[plugin.a]\ntoken = 'k1'", "[plugin.a]\ntoken = 'k2'", |_| ());
        assert_eq!(of(&changed, "plugin.a.token").2, Some(json!(MASK)));
    }
}
