//! The library that cargo builds of the package whose test runs.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
};

use ksi_plugin_api::{Error, Result};
use serde_json::Value;

/// What was built in this process, so that each of its tests need not ask cargo again.
static BUILT: Mutex<Vec<(Vec<String>, PathBuf)>> = Mutex::new(Vec::new());

/// Builds it with these arguments, unless it was built in this process.
pub(super) fn library(arguments: &[String]) -> Result<PathBuf> {
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, library)) = built.iter().find(|(known, _)| known == arguments) {
        return Ok(library.clone());
    }
    let library = build(arguments)?;
    built.push((arguments.to_vec(), library.clone()));
    Ok(library)
}

fn build(arguments: &[String]) -> Result<PathBuf> {
    let folder = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).ok_or_else(|| {
        not_built("this test was not started by cargo: name a library, with `HostedSetup::library`")
    })?;
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = Command::new(program);
    cargo.args(["build", "--lib", "--message-format=json-render-diagnostics"]).args(arguments);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    // What `cargo test` sets for the test would be taken for a change by build scripts.
    for (name, _) in env::vars_os() {
        let of_cargo = name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
        });
        if of_cargo {
            cargo.env_remove(name);
        }
    }
    let output = cargo.current_dir(&folder).stdin(Stdio::null()).output();
    let output = output.map_err(|error| not_built(&format!("cargo cannot be run: {error}")))?;
    if !output.status.success() {
        return Err(not_built(&String::from_utf8_lossy(&output.stderr)));
    }
    let manifest = folder.join("Cargo.toml");
    let messages = String::from_utf8_lossy(&output.stdout);
    let found = messages.lines().find_map(|line| library_in(line, &manifest));
    found.ok_or_else(|| {
        not_built(&format!(
            "{} makes no library that a host could load: write crate-type = [\"cdylib\"] below [lib]",
            manifest.display()
        ))
    })
}

/// The shared library that a message of cargo's tells of, if it is this package's.
fn library_in(message: &str, manifest: &Path) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    let kinds = message["target"]["kind"].as_array()?;
    let own = message["manifest_path"].as_str().map(Path::new) == Some(manifest);
    if !own || !kinds.iter().any(|kind| kind == "cdylib") {
        return None;
    }
    let files = message["filenames"].as_array()?.iter().filter_map(Value::as_str);
    files.map(PathBuf::from).find(|file| {
        file.extension().is_some_and(|extension| extension == env::consts::DLL_EXTENSION)
    })
}

fn not_built(why: &str) -> Error {
    Error::new("not_built", why)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_what_cargo_builds_the_packages_own_shared_library_is_taken() {
        let message = |manifest: &str, kinds: &[&str], files: &[&str]| {
            let target = json!({"kind": kinds});
            json!({"manifest_path": manifest, "target": target, "filenames": files}).to_string()
        };
        let library = format!("/t/libshop.{}", env::consts::DLL_EXTENSION);
        let files = ["/t/libshop.rlib", &library];
        let of = |message: &str| library_in(message, Path::new("/shop/Cargo.toml"));
        let own = message("/shop/Cargo.toml", &["cdylib", "rlib"], &files);
        assert_eq!(of(&own), Some(library.clone().into()));
        assert_eq!(of(&message("/bank/Cargo.toml", &["cdylib"], &files)), None);
        assert_eq!(of(&message("/shop/Cargo.toml", &["rlib"], &files)), None);
        assert_eq!(of("{\"reason\":\"build-finished\"}"), None);
    }
}
