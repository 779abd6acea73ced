//! `ksi config show`: what is in effect in the running host, and where each value comes from.

use std::path::Path;

use ksi_wire::config::{Refused, Setting, Shown};
use serde_json::{Value, json, value::RawValue};

use crate::args::{Common, ShownConfig};
use crate::client::PATIENT;
use crate::exit::CommandFailure;
use crate::list::understood;
use crate::output;
use crate::table::{Column, Table, Tone};

pub(crate) fn show(common: &Common, args: ShownConfig) -> Result<(), CommandFailure> {
    let answer: Box<RawValue> = common.client()?.ask("config:show", &json!({}), PATIENT)?;
    if args.json {
        return output::json(answer.get());
    }
    let Shown { file, file_error, refused, settings } = understood(&answer)?;
    let shown: Vec<&Setting> = settings.iter().filter(|it| is_asked_for(it, &args)).collect();
    if shown.is_empty() && !args.keys.is_empty() {
        let keys = args.keys.join(", ");
        let none = format!("there is no key that is, or begins with, {keys}");
        return Err(CommandFailure::Usage(none));
    }
    output::text(&output::plain(&match &file {
        Some(file) => format!("configured by {file}"),
        None => "this host was started without a configuration file".to_owned(),
    }))?;
    if let Some(error) = &file_error {
        output::text(&output::plain(&format!("as it is now it cannot be used: {error}")))?;
    }
    let columns = [Column::Text("KEY"), Column::Text("VALUE"), Column::Text("FROM")];
    let mut table = Table::new(&columns);
    for setting in &shown {
        table.row([
            (setting.key.clone(), Tone::Usual),
            (told(&setting.value), Tone::Usual),
            (from(setting, file.as_deref()), tone(setting)),
        ]);
    }
    output::text(&table.render())?;
    for setting in shown.iter().filter(|it| it.in_file.is_some()) {
        output::text(&output::plain(&otherwise(setting)))?;
    }
    for Refused { code, name, reason } in refused {
        let line = format!("{name} goes on with the configuration before: {reason} [{code}]");
        output::text(&output::plain(&line))?;
    }
    Ok(())
}

/// A key, or what is below a table.
fn is_asked_for(setting: &Setting, args: &ShownConfig) -> bool {
    let is_meant = |key: &String| match setting.key.strip_prefix(key.as_str()) {
        Some(rest) => rest.is_empty() || rest.starts_with('.'),
        None => false,
    };
    (args.keys.is_empty() || args.keys.iter().any(is_meant))
        && (!args.changed || &*setting.from != "default" || setting.in_file.is_some())
}

/// As JSON, which is mostly TOML too. Of a secret, where it is.
fn told(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text == "(masked)" => text.clone(),
        value if value.get("$secret").is_some() => format!("(secret) {}", value["$secret"]),
        value => value.to_string(),
    }
}

fn from(setting: &Setting, file: Option<&str>) -> String {
    let name = file.and_then(|file| Path::new(file).file_name());
    let name = name.map_or("the file".into(), |name| name.to_string_lossy());
    match (&*setting.from, setting.line, setting.by.as_deref()) {
        ("file", Some(line), _) => format!("{name}:{line}"),
        ("file", None, _) => format!("{name}, as it was"),
        (_, _, Some(by)) => by.to_owned(),
        ("program", ..) => "the program".to_owned(),
        (from, ..) => from.to_owned(),
    }
}

fn tone(setting: &Setting) -> Tone {
    if setting.in_file.is_some() { Tone::Doubtful } else { Tone::Usual }
}

/// What the file says that is not in effect, and what that takes.
fn otherwise(setting: &Setting) -> String {
    let key = &setting.key;
    let says = match &setting.in_file {
        Some(Value::Null) | None => format!("the file does not say {key} any more"),
        Some(value) => format!("the file says {key} = {}", told(value)),
    };
    match key.starts_with("plugin.") {
        true => format!("{says}, and the plugin has not taken that"),
        false => format!("{says}: in effect after a restart of the host"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(json: serde_json::Value) -> Setting {
        serde_json::from_value(json).expect("a setting as hosts send it")
    }

    #[test]
    fn where_a_value_comes_from_is_told_by_line_option_or_variable() {
        let said = |json| from(&setting(json), Some("/etc/ksi.toml"));
        assert_eq!(said(json!({"key": "a", "from": "file", "line": 3})), "ksi.toml:3");
        assert_eq!(said(json!({"key": "a", "from": "file"})), "ksi.toml, as it was");
        assert_eq!(said(json!({"key": "a", "from": "command_line", "by": "--state"})), "--state");
        assert_eq!(said(json!({"key": "a", "from": "environment", "by": "KSI_X"})), "KSI_X");
        assert_eq!(said(json!({"key": "a", "from": "default"})), "default");
    }

    #[test]
    fn keys_are_asked_for_whole_or_by_their_table() {
        let all = setting(json!({"key": "reload.plugins.hello.drain", "from": "file"}));
        let args = |keys: &[&str]| ShownConfig {
            keys: keys.iter().map(ToString::to_string).collect(),
            changed: true,
            json: false,
        };
        for keys in [&[][..], &["reload"], &["limits", "reload.plugins.hello"]] {
            assert!(is_asked_for(&all, &args(keys)), "{keys:?}");
        }
        assert!(!is_asked_for(&all, &args(&["reload.plugins.hell"])));
        let default = setting(json!({"key": "limits.workers", "from": "default"}));
        assert!(!is_asked_for(&default, &args(&[])));
    }

    #[test]
    fn what_the_file_says_otherwise_is_told_with_what_that_takes() {
        let said = |json| otherwise(&setting(json));
        assert_eq!(
            said(json!({"key": "limits.workers", "in_file": 3})),
            "the file says limits.workers = 3: in effect after a restart of the host"
        );
        assert_eq!(
            said(json!({"key": "plugin.a.b", "in_file": null})),
            "the file does not say plugin.a.b any more, and the plugin has not taken that"
        );
    }
}
