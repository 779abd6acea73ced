//! `ksi config`: what a configuration file says, what of it is in effect, and having it read again.

use ksi_wire::config::{Reconfigured, Reloaded};
use serde_json::{json, value::RawValue};

use super::args::{Common, Printed};
use super::client::PATIENT;
use super::exit::CommandFailure;
use super::list::understood;
use super::output;

mod check;
mod show;

pub(crate) use check::check;
pub(crate) use show::show;

pub(crate) fn reload(common: &Common, args: Printed) -> Result<(), CommandFailure> {
    let answer: Box<RawValue> = common.client()?.ask("config:reload", &json!({}), PATIENT)?;
    let reloaded: Reloaded = understood(&answer)?;
    match args.json {
        true => output::json(answer.get())?,
        false => told(&reloaded).iter().try_for_each(|line| output::text(&output::plain(line)))?,
    }
    // Scripts look at the exit code alone.
    match reloaded.plugins.iter().any(|plugin| plugin.status == "refused") {
        true => Err(CommandFailure::Told),
        false => Ok(()),
    }
}

/// A line for the file, for each plugin whose configuration has changed, and for what else has.
fn told(reloaded: &Reloaded) -> Vec<String> {
    let keys = |title, keys: &[String]| {
        (!keys.is_empty()).then(|| format!("{title}: {}", keys.join(", ")))
    };
    let mut lines = vec![format!("read {} again", reloaded.file)];
    lines.extend(keys("from now on", &reloaded.applied));
    lines.extend(reloaded.plugins.iter().map(of_plugin));
    lines.extend(keys("after a restart of the host alone", &reloaded.needs_restart));
    if lines.len() == 1 {
        lines.push("nothing in it has changed".to_owned());
    }
    lines
}

fn of_plugin(plugin: &Reconfigured) -> String {
    let name = &plugin.name;
    match (&*plugin.status, plugin.reason.as_ref().and_then(Option::as_ref)) {
        ("reloaded", _) => {
            let generation = plugin.generation.unwrap_or_default();
            format!("reloaded {name}, generation {generation}, with its changed configuration")
        }
        ("taken", _) => format!("{name} has taken its changed configuration"),
        ("refused", reason) => {
            let reason = reason.map_or("", String::as_str);
            let code = plugin.code.as_ref().map(|code| format!(" [{code}]")).unwrap_or_default();
            format!("{name} goes on with the configuration before: {reason}{code}")
        }
        (_, Some(reason)) => {
            format!("{name} is not live with its changed configuration: {reason}")
        }
        (_, None) => {
            format!("{name} is not live; it gets its changed configuration when it is loaded")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(answer: serde_json::Value) -> Reloaded {
        serde_json::from_value(answer).expect("a host's answer")
    }

    #[test]
    fn what_became_of_each_change_is_told() {
        let answer = json!({"status": "reloaded", "file": "/k.toml", "applied": ["reload.margin"],
        "needs_restart": ["limits.workers", "host.socket"], "plugins": [
            {"name": "a", "status": "reloaded", "generation": 2},
            {"name": "b", "status": "refused", "code": "no_port", "reason": "no such port"},
            {"name": "c", "status": "not_live", "reason": null},
            {"name": "d", "status": "taken", "generation": 1},
        ]});
        let expected = [
            "read /k.toml again",
            "from now on: reload.margin",
            "reloaded a, generation 2, with its changed configuration",
            "b goes on with the configuration before: no such port [no_port]",
            "c is not live; it gets its changed configuration when it is loaded",
            "d has taken its changed configuration",
            "after a restart of the host alone: limits.workers, host.socket",
        ];
        assert_eq!(told(&read(answer)), expected);
        let answer = json!({"file": "/k.toml", "applied": [], "needs_restart": [], "plugins": []});
        assert_eq!(told(&read(answer)), ["read /k.toml again", "nothing in it has changed"]);
    }
}
