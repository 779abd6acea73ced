//! `ksi config`: the host reads its configuration again.

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::args::{Common, ConfigCommand};
use super::client::PATIENT;
use super::exit::Failure;
use super::list::understood;
use super::output;

pub(crate) fn config(common: &Common, command: ConfigCommand) -> Result<(), Failure> {
    let ConfigCommand::Reload(args) = command;
    let answer: Box<RawValue> = common.client()?.ask("config:reload", &json!({}), PATIENT)?;
    let understood = understood(&answer)?;
    match args.json {
        true => output::json(answer.get())?,
        false => {
            told(&understood).iter().try_for_each(|line| output::text(&output::plain(line)))?
        }
    }
    // Scripts look at the exit code alone.
    match all(&understood, "plugins").any(|plugin| plugin["status"] == "refused") {
        true => Err(Failure::Told),
        false => Ok(()),
    }
}

fn all<'a>(answer: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    answer.get(key).and_then(Value::as_array).into_iter().flatten()
}

/// A line for the file, for each plugin whose configuration has changed, and for what else has.
fn told(answer: &Value) -> Vec<String> {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let keys = |key| {
        let keys: Vec<&str> = all(answer, key).filter_map(Value::as_str).collect();
        (!keys.is_empty()).then(|| keys.join(", "))
    };
    let mut lines = vec![format!("read {} again", text(answer, "file").unwrap_or_default())];
    lines.extend(keys("applied").map(|keys| format!("from now on: {keys}")));
    for plugin in all(answer, "plugins") {
        let name = text(plugin, "name").unwrap_or_default();
        let reason = text(plugin, "reason");
        lines.push(match (text(plugin, "status").as_deref(), reason) {
            (Some("reloaded"), _) => {
                let generation = plugin.get("generation").and_then(Value::as_u64).unwrap_or(0);
                format!("reloaded {name}, generation {generation}, with its changed configuration")
            }
            (Some("refused"), reason) => {
                let reason = reason.unwrap_or_default();
                format!("{name} goes on with the configuration before: {reason}")
            }
            (_, Some(reason)) => {
                format!("{name} is not live with its changed configuration: {reason}")
            }
            (_, None) => {
                format!("{name} is not live; it gets its changed configuration when it is loaded")
            }
        });
    }
    lines.extend(
        keys("needs_restart").map(|keys| format!("after a restart of the host alone: {keys}")),
    );
    if lines.len() == 1 {
        lines.push("nothing in it has changed".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_each_change_is_told() {
        let answer = json!({"status": "reloaded", "file": "/k.toml", "applied": ["reload.margin"],
        "needs_restart": ["limits.workers", "host.socket"], "plugins": [
            {"name": "a", "status": "reloaded", "generation": 2},
            {"name": "b", "status": "refused", "reason": "no such port"},
            {"name": "c", "status": "not_live", "reason": null},
        ]});
        let expected = [
            "read /k.toml again",
            "from now on: reload.margin",
            "reloaded a, generation 2, with its changed configuration",
            "b goes on with the configuration before: no such port",
            "c is not live; it gets its changed configuration when it is loaded",
            "after a restart of the host alone: limits.workers, host.socket",
        ];
        assert_eq!(told(&answer), expected);
        let answer = json!({"file": "/k.toml", "applied": [], "needs_restart": [], "plugins": []});
        assert_eq!(told(&answer), ["read /k.toml again", "nothing in it has changed"]);
    }
}
