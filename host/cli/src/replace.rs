//! `ksi load`, `ksi reload`, `ksi rollback` and `ksi unload`: asking the host to replace code now.

use std::path::{Path, PathBuf};

use ksi_wire::module::{self, Changed, ConfigTaken};
use serde::Serialize;
use serde_json::value::RawValue;

use super::args::{Common, Load, Named, Rollback};
use super::client::PATIENT;
use super::exit::CommandFailure;
use super::list::understood;
use super::output;

pub(crate) fn load(common: &Common, args: Load) -> Result<(), CommandFailure> {
    let Some(files) = as_one(&args.files)? else { return Ok(()) };
    ask(common, "module:load", &files, args.json)
}

/// Files as the host is asked for them.
pub(super) fn as_one(files: &[PathBuf]) -> Result<Option<module::Load>, CommandFailure> {
    let paths = files.iter().map(|file| sendable(file));
    let mut paths = paths.collect::<Result<Vec<_>, _>>()?.into_iter();
    Ok(paths.next().map(|path| module::Load { path, with: paths.collect() }))
}

/// A path that the host finds: its current folder is another one.
fn sendable(file: &Path) -> Result<PathBuf, CommandFailure> {
    let path = std::path::absolute(file)
        .map_err(|error| CommandFailure::Usage(format!("{}: {error}", file.display())))?;
    match path.to_str() {
        Some(_) => Ok(path),
        None => Err(CommandFailure::Usage(format!(
            "{} is not UTF-8, so no event can carry it",
            file.display()
        ))),
    }
}

pub(crate) fn reload(common: &Common, args: Named) -> Result<(), CommandFailure> {
    ask(common, "module:reload", &module::Named { module_name: args.name }, args.json)
}

pub(crate) fn rollback(
    common: &Common,
    Rollback { named, force }: Rollback,
) -> Result<(), CommandFailure> {
    let question = module::Rollback { module_name: named.name, force };
    ask(common, "module:rollback", &question, named.json)
}

pub(crate) fn unload(common: &Common, args: Named) -> Result<(), CommandFailure> {
    ask(common, "module:unload", &module::Named { module_name: args.name }, args.json)
}

fn ask(
    common: &Common,
    event: &str,
    data: &impl Serialize,
    json: bool,
) -> Result<(), CommandFailure> {
    let answer: Box<RawValue> = common.client()?.ask(event, data, PATIENT)?;
    if json {
        return output::json(answer.get());
    }
    let answer: Changed = understood(&answer)?;
    let all = [&answer].into_iter().chain(&answer.with);
    all.map(sentence).try_for_each(|words| output::text(&output::plain(&words)))
}

/// `reloaded hello 0.2.0, generation 2`
fn sentence(answer: &Changed) -> String {
    let Changed { status, name, version, generation, .. } = answer;
    let mut words = format!("{} {name}", status.replace('_', " "));
    if status == "rolled_back" {
        words.push_str(" to");
    }
    if !version.is_empty() {
        words.push_str(&format!(" {version}"));
    }
    words.push_str(&format!(", generation {generation}"));
    match (&answer.config, &answer.config_error) {
        (Some(ConfigTaken::Changed), _) => words.push_str(", with its changed configuration"),
        (_, Some(error)) => {
            words.push_str(&format!(", with the configuration as it was before: {error}"));
        }
        _ => {}
    }
    if let Some(file) = &answer.stays_in_folder {
        words.push_str(&format!(
            ", until its file changes or the host starts again; to keep it away, move {file} out \
             of its folder"
        ));
    }
    if let Some(count) = answer.still_in_memory {
        words.push_str(&format!(
            "; it is not loaded again for now: {count} generations of it are still in memory. \
             `ksi inspect` tells what pins them; end that, or restart the host"
        ));
    }
    if let Some(cost) = &answer.cost {
        words.push_str(&format!("; this gave up {cost}"));
        match (answer.kept_aside.iter().flatten().next(), &answer.not_kept_aside) {
            (Some(aside), _) => words.push_str(&format!("; it is kept as {aside}")),
            (None, Some(Some(why))) => words.push_str(&format!("; it is not kept: {why}")),
            (None, _) => {}
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    fn sentence(answer: &serde_json::Value) -> String {
        super::sentence(&serde_json::from_value(answer.clone()).expect("an answer"))
    }

    #[test]
    fn the_answer_is_said_in_a_sentence() {
        let answer =
            json!({"status": "reloaded", "name": "hello", "version": "0.2.0", "generation": 2});
        assert_eq!(sentence(&answer), "reloaded hello 0.2.0, generation 2");
        let answer =
            json!({"status": "rolled_back", "name": "hello", "version": "0.1.0", "generation": 3});
        assert_eq!(sentence(&answer), "rolled back hello to 0.1.0, generation 3");
        let answer = json!({"status": "rolled_back", "name": "hello", "version": "0.1.0", "generation": 3,
            "cost": "what 4 calls did", "kept_aside": "aside-1"});
        let expected = "rolled back hello to 0.1.0, generation 3; this gave up what 4 calls did; it is kept as aside-1";
        assert_eq!(sentence(&answer), expected);
        let answer =
            json!({"status": "reloaded", "name": "hello", "generation": 2, "config": "changed"});
        let expected = "reloaded hello, generation 2, with its changed configuration";
        assert_eq!(sentence(&answer), expected);
        let answer = json!({"status": "reloaded", "name": "hello", "generation": 2, "config": "as_before",
            "config_error": "no TOML"});
        let expected =
            "reloaded hello, generation 2, with the configuration as it was before: no TOML";
        assert_eq!(sentence(&answer), expected);
        let answer = json!({"status": "unloaded", "name": "hello", "generation": 2});
        assert_eq!(sentence(&answer), "unloaded hello, generation 2");
        let answer = json!({"status": "unloaded", "name": "hello", "generation": 2, "stays_in_folder": "/p/a.so"});
        let expected = "unloaded hello, generation 2, until its file changes or the host starts again; to keep it away, \
                        move /p/a.so out of its folder";
        assert_eq!(sentence(&answer), expected);
        let answer =
            json!({"status": "unloaded", "name": "hello", "generation": 17, "still_in_memory": 17});
        let expected = "unloaded hello, generation 17; it is not loaded again for now: 17 generations of it are still in \
                        memory. `ksi inspect` tells what pins them; end that, or restart the host";
        assert_eq!(sentence(&answer), expected);
    }
}
