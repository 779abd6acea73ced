//! A folder that is one plugin: its `pyproject.toml` has a table `[tool.ksi]`.
//!
//! What that table says is read with the modules of the folder, by whoever reads those.

use std::{
    fs::OpenOptions,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use rustix::fs::OFlags;
use serde::{Deserialize, de::IgnoredAny};

/// The file that makes a folder a plugin.
pub(super) const FILE: &str = "pyproject.toml";
/// The longest that is read.
pub(super) const LONGEST: u64 = 256 << 10;
/// Of a file that cannot be understood, somebody is told if it has this.
const TABLE: &str = "[tool.ksi]";

#[derive(Default, Deserialize)]
#[serde(default)]
struct Project {
    tool: Tools,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Tools {
    ksi: Option<IgnoredAny>,
}

/// Whether a folder is a plugin, or is meant to be one.
pub(super) fn is_project(folder: &Path) -> bool {
    let Ok(text) = text_of(&folder.join(FILE)) else { return false };
    match toml::from_str::<Project>(&text) {
        Ok(project) => project.tool.ksi.is_some(),
        Err(_) => text.lines().any(|line| line.trim() == TABLE),
    }
}

/// How a regular file begins. Nothing else is waited for.
fn text_of(path: &Path) -> io::Result<String> {
    // A named pipe would block for ever.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_in_place_of_the_file_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let made = std::process::Command::new("mkfifo").arg(folder.path().join(FILE)).status();
        assert!(made.unwrap().success());
        assert!(!is_project(folder.path()));
    }

    #[test]
    fn a_folder_is_a_plugin_by_its_table_also_if_that_has_a_mistake() {
        let is = |text: &str| {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join(FILE), text).unwrap();
            is_project(folder.path())
        };
        assert!(is("[project]\nname = 'a'\n[tool.ksi]\nmodule = 'b'\n[tool.other]"));
        assert!(is("[tool.ksi.more]") && is("[tool.ksi]\nmodule ="));
        assert!(!is("[project]\nname = 'ksi'") && !is("no toml"));
        assert!(!is_project(tempfile::tempdir().unwrap().path()));
    }
}
