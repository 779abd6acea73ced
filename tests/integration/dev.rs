//! `ksi dev`: from saved source to a live plugin.

use std::{fs, path::Path};

use ksi_wire::module::ModuleState;
use serde_json::{Value, json};

use crate::kit::{
    Client, OutsideCrate, Running, States, for_outside_crates, isolated, ksi_command, plugin_api,
    until_built, workspace,
};

fn source(text: &str) -> String {
    format!(
        "use ksi_plugin_api::prelude::*;\n\n#[derive(Default)]\nstruct Saved;\n\n#[plugin]\nimpl Saved {{\n    \
         #[event_handler(\"saved:say\")]\n    async fn say(&self, _ctx: &Context, _data: Value) -> Result<String> {{\n        \
         Ok({text})\n    }}\n}}\n"
    )
}

#[test]
fn an_edit_goes_live_a_mistake_keeps_the_old_code_and_its_correction_goes_live_too() {
    let package = OutsideCrate::new("saved", &source("\"one\".to_owned()"));
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let mut command = ksi_command(&["dev", "--plugins"]);
    command.arg(dir.path().join("drop")).arg("--socket").arg(&socket).arg(package.path());
    command.env("TMPDIR", dir.path()).env("XDG_STATE_HOME", dir.path()).current_dir(dir.path());
    command.arg("--config").arg(isolated::config_in(dir.path()));
    for_outside_crates(&mut command);
    let dev = Running::start(&mut command);
    // The first build may take longer than anything else.
    let ready = until_built("it is ready", || dev.line_soon(), Option::is_some).unwrap();
    assert!(ready.starts_with("ready on "), "{ready}");
    let mut client = Client::connect(&socket);
    assert_eq!(client.emit("saved:say", json!({})), "one");

    package.write(&source("\"two\".to_owned()"));
    until_built("the edit is live", || client.emit("saved:say", json!({})), |said| said == "two");

    package.write(&source("three"));
    until_built(
        "the mistake is shown",
        || dev.stderr(),
        |text| text.contains("cannot find value `three`"),
    );
    assert_eq!(client.emit("saved:say", json!({})), "two", "what was live stays live");

    package.write(&source("\"four\".to_owned()"));
    let say = || client.emit("saved:say", json!({}));
    until_built("the correction is live", say, |said| said == "four");
    // It answers a moment before it is shown.
    let module = || client.emit("module:list", json!({}))["modules"][0].take();
    let is_third = |it: &Value| it["name"] == "saved" && it["generation"] == 3;
    until_built("it is shown", module, is_third);
}

/// A package in a folder that holds several.
fn package(folder: &Path, name: &str, lib: &str) {
    let source =
        source(&format!("{name:?}.to_owned()")).replace("saved:say", &format!("{name}:say"));
    let manifest = format!(
        "[package]\nname = {name:?}\nversion = \"0.1.0\"\nedition = \"2024\"\n\n{lib}\n\n\
         [dependencies]\nksi-plugin-api = {{ path = {:?} }}\n",
        plugin_api()
    );
    fs::create_dir_all(folder.join(name).join("src")).unwrap();
    fs::write(folder.join(name).join("src/lib.rs"), source).unwrap();
    fs::write(folder.join(name).join("Cargo.toml"), manifest).unwrap();
    fs::copy(workspace().join("Cargo.lock"), folder.join(name).join("Cargo.lock")).unwrap();
}

#[test]
fn a_plugin_without_a_library_is_named_and_one_that_is_gone_is_unloaded() {
    let dir = tempfile::Builder::new().prefix("ksi-author-").tempdir().unwrap();
    let crates = dir.path().join("crates");
    package(&crates, "goes", "[lib]\ncrate-type = [\"cdylib\"]");
    package(&crates, "stays", "[lib]\ncrate-type = [\"cdylib\"]");
    package(&crates, "forgotten", "");
    let socket = dir.path().join("s");
    let mut command = ksi_command(&["dev", "--plugins"]);
    command.arg(dir.path().join("drop")).arg("--socket").arg(&socket).arg(&crates);
    command.env("TMPDIR", dir.path()).env("XDG_STATE_HOME", dir.path()).current_dir(dir.path());
    command.arg("--config").arg(isolated::config_in(dir.path()));
    for_outside_crates(&mut command);
    let dev = Running::start(&mut command);
    until_built("it is ready", || dev.line_soon(), Option::is_some);
    dev.told("forgotten has a #[plugin]");
    dev.told("crate-type = [\"cdylib\"]");

    let mut client = Client::connect(&socket);
    assert_eq!(client.emit("goes:say", json!({})), "goes");
    fs::remove_dir_all(crates.join("goes")).unwrap();
    let state = || {
        let modules = client.emit("module:list", json!({}))["modules"].take();
        let modules = modules.as_array().expect("a list").clone();
        modules.into_iter().find(|module| module["name"] == "goes").unwrap_or_default().state()
    };
    until_built("it is unloaded", state, |state| *state != ModuleState::Live);
    assert_eq!(client.emit("stays:say", json!({})), "stays");
}
