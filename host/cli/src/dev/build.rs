//! One run of cargo. Its diagnostics and its progress go straight to the user; what it has built
//! comes as messages.

use std::io::{BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use cargo_metadata::Message;

use super::DevError;
use super::packages::{Plugin, Workspace};

pub(super) struct Cargo {
    release: bool,
    running: Mutex<Running>,
}

#[derive(Default)]
struct Running {
    child: Option<Child>,
    stopped: bool,
}

impl Cargo {
    pub(super) fn new(release: bool) -> Self {
        Self { release, running: Mutex::default() }
    }

    /// Builds the plugins of a workspace and hands on each that there is, new or as before, as soon
    /// as it is there. A package that does not compile keeps none of the others from being built.
    pub(super) fn build<'a>(
        &self,
        workspace: &'a Workspace,
        built: impl FnMut(&'a Plugin, &Path),
    ) -> Result<(), DevError> {
        let cargo = |source| DevError::Cargo { source };
        let messages = {
            let mut running = self.running();
            if running.stopped {
                return Ok(());
            }
            let mut child = self.command(workspace).spawn().map_err(cargo)?;
            let messages = child.stdout.take();
            running.child = Some(child);
            messages
        };
        if let Some(messages) = messages {
            each_built(BufReader::new(messages), &workspace.plugins, built).map_err(cargo)?;
        }
        // Cargo has closed its output, so it is at its end. That it failed is seen by what it did
        // not build.
        if let Some(mut child) = self.running().child.take() {
            child.wait().map_err(cargo)?;
        }
        Ok(())
    }

    /// Ends a build that is going on, and lets no other begin.
    pub(super) fn stop(&self) {
        let mut running = self.running();
        running.stopped = true;
        if let Some(mut child) = running.child.take() {
            // It may have ended by itself in the meantime.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn command(&self, workspace: &Workspace) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command
            .args(["build", "--keep-going", "--message-format=json-render-diagnostics"])
            .arg("--manifest-path")
            .arg(workspace.root.join("Cargo.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        if self.release {
            command.arg("--release");
        }
        for plugin in &workspace.plugins {
            command.args(["--package", &plugin.id.repr]);
        }
        // `cargo run` sets these for us, and build scripts that look at them would run again at
        // every build that comes from elsewhere.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
                command.env_remove(&name);
            }
        }
        command
    }
}

/// Reads cargo's messages to their end and calls `built` for every plugin among them.
fn each_built<'a>(
    messages: BufReader<impl Read>,
    plugins: &'a [Plugin],
    mut built: impl FnMut(&'a Plugin, &Path),
) -> std::io::Result<()> {
    for message in Message::parse_stream(messages) {
        let Message::CompilerArtifact(artifact) = message? else { continue };
        if !artifact.target.is_cdylib() {
            continue;
        }
        let Some(plugin) = plugins.iter().find(|plugin| plugin.id == artifact.package_id) else {
            continue;
        };
        let file = artifact.filenames.iter().find(|it| it.file_name() == Some(&plugin.file));
        if let Some(file) = file {
            built(plugin, file.as_std_path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use cargo_metadata::PackageId;
    use serde_json::json;

    use super::*;

    fn plugin(name: &str, file: &str) -> Plugin {
        let id = PackageId { repr: format!("path+file:///w/{name}#0.1.0") };
        Plugin { id, name: name.into(), file: file.into(), sources: BTreeSet::new() }
    }

    fn artifact(package: &str, kind: &str, files: &[&str]) -> String {
        let message = json!({
            "reason": "compiler-artifact",
            "package_id": format!("path+file:///w/{package}#0.1.0"),
            "manifest_path": "/w/Cargo.toml",
            "target": {"kind": [kind], "crate_types": [kind], "name": package, "src_path": "/w/lib.rs",
                       "edition": "2024", "doc": true, "doctest": false, "test": true},
            "profile": {"opt_level": "0", "debuginfo": 1, "debug_assertions": true, "overflow_checks": true, "test": false},
            "features": [], "filenames": files, "executable": null, "fresh": false,
        });
        format!("{message}\n")
    }

    fn read(messages: &str) -> Vec<(String, String)> {
        let plugins = [plugin("one", "libone.so"), plugin("two", "libtwo.so")];
        let mut found = Vec::new();
        each_built(BufReader::new(messages.as_bytes()), &plugins, |plugin, file| {
            found.push((plugin.name.clone(), file.display().to_string()));
        })
        .expect("readable messages");
        found
    }

    #[test]
    fn the_libraries_of_plugins_are_taken_from_the_messages() {
        let messages = [
            artifact("serde", "lib", &["/t/libserde.rlib"]),
            artifact("two", "cdylib", &["/t/libtwo.so", "/t/libtwo.so.dwp"]),
            artifact("stranger", "cdylib", &["/t/libstranger.so"]),
            "a line that some build script printed\n".into(),
            artifact("one", "custom-build", &["/t/build-script-build"]),
            "{\"reason\":\"build-finished\",\"success\":false}\n".into(),
        ];
        assert_eq!(read(&messages.concat()), [("two".into(), "/t/libtwo.so".into())]);
    }

    #[test]
    fn a_build_without_artifacts_hands_on_nothing() {
        assert_eq!(read("{\"reason\":\"build-finished\",\"success\":false}\n"), []);
        assert_eq!(read(""), []);
    }

    #[test]
    fn nothing_is_built_once_it_was_stopped() {
        let workspace = Workspace {
            root: "/nowhere".into(),
            target: "/nowhere".into(),
            plugins: Vec::new(),
            overlooked: Vec::new(),
        };
        let cargo = Cargo::new(false);
        cargo.stop();
        cargo.build(&workspace, |_, _| panic!("a build")).expect("no attempt");
    }
}
