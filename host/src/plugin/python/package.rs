//! The package that modules import, as this host has it: both sides of the socket to a module's
//! process speak the same version.
//!
//! Its files are part of the host, and are written to its private folder when the first module
//! needs them.

use std::{
    fs::{self, DirBuilder},
    iter,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use ksi_kernel::lock::Lock;

use super::error::PythonError;
use crate::plugin::file::copy::PrivateDir;

/// Each file of a list, with its text.
macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../../plugin-api/python/src/ksi/", $name)))),*]
    };
}

/// All of its files, by their paths below its folder. A test holds that none is missing.
const FILES: &[(&str, &str)] = files![
    "__init__.py",
    "_ksi_context.py",
    "_link.py",
    "_loops.py",
    "codec.py",
    "compat/__init__.py",
    "compat/bound_logging.py",
    "compat/event_parser.py",
    "compat/event_system.py",
    "describing/__init__.py",
    "describing/boot.py",
    "describing/data.py",
    "describing/faults.py",
    "describing/ksi_types.py",
    "describing/manifest.py",
    "describing/plugin.py",
    "describing/program.py",
    "describing/project.py",
    "describing/source.py",
    "describing/state.py",
    "describing/syntax.py",
    "events.py",
    "filters.py",
    "loader.py",
    "local.py",
    "names.py",
    "py.typed",
    "refusals.py",
    "resources.py",
    "responses.py",
    "router.py",
    "schemas.py",
    "service.py",
    "types.py",
    "watching.py",
    "worker/__init__.py",
    "worker/__main__.py",
    "worker/asks.py",
    "worker/calls.py",
    "worker/contexts.py",
    "worker/describe.py",
    "worker/event_names.py",
    "worker/failures.py",
    "worker/forked.py",
    "worker/frames.py",
    "worker/given.py",
    "worker/history.py",
    "worker/inbox.py",
    "worker/lifecycle.py",
    "worker/limits.py",
    "worker/log.py",
    "worker/one_thread.py",
    "worker/outbox.py",
    "worker/pluggy_plugin.py",
    "worker/pluggy_state.py",
    "worker/plugin.py",
    "worker/reader.py",
    "worker/session.py",
    "worker/state.py",
    "worker/threads.py",
    "worker/watches.py",
];

/// In the private folder.
const FOLDER: &str = "python";
const NAME: &str = "ksi";

/// The modules of it that tell what a source is, by their names, with their texts: for an
/// interpreter that imports them without their files.
pub(super) fn of_describing() -> impl Iterator<Item = (String, &'static str)> {
    let needed = |path: &str| path == "names.py" || path.starts_with("describing/");
    let modules = FILES.iter().filter(move |(path, _)| needed(path)).map(|(path, text)| {
        let module = path.trim_end_matches(".py").trim_end_matches("/__init__").replace('/', ".");
        (format!("{NAME}.{module}"), *text)
    });
    // What else is at the top of the package is not needed.
    iter::once((NAME.to_owned(), "")).chain(modules)
}

/// Where it was written.
#[derive(Default)]
pub(super) struct Package {
    /// A cleaner may have removed it since.
    written: Lock<Option<PathBuf>>,
}

impl Package {
    /// The folder that it lies in, for whoever imports it. Blocks for a moment at the first time.
    ///
    /// # Errors
    /// It can't be written.
    pub(super) fn folder(&self, dir: &PrivateDir) -> Result<PathBuf, PythonError> {
        let folder = dir.folder(FOLDER)?;
        let mut written = self.written.lock();
        let is_there =
            |folder: &Path| FILES.iter().all(|(name, _)| folder.join(NAME).join(name).is_file());
        if written.as_ref() != Some(&folder) || !is_there(&folder) {
            write(&folder.join(NAME))?;
            *written = Some(folder.clone());
        }
        Ok(folder)
    }
}

fn write(package: &Path) -> Result<(), PythonError> {
    for (name, text) in FILES {
        let path = package.join(name);
        let failed = |source| PythonError::Package { path: path.clone(), source };
        if let Some(parent) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed)?;
        }
        fs::write(&path, text).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::file::copy::Places;

    #[test]
    fn it_is_written_once_and_anew_when_a_cleaner_was_there() {
        let above = tempfile::tempdir().unwrap();
        let places =
            Places { named: Some(above.path().to_owned()), runtime: None, temporary: "/".into() };
        let (dir, package) = (PrivateDir::create(places).unwrap(), Package::default());
        let folder = package.folder(&dir).unwrap();
        let first = folder.join("ksi/__init__.py");
        fs::write(&first, "# changed").unwrap();
        assert_eq!(package.folder(&dir).unwrap(), folder);
        assert_eq!(fs::read_to_string(&first).unwrap(), "# changed", "it was written once");
        fs::remove_file(&first).unwrap();
        package.folder(&dir).unwrap();
        assert_eq!(fs::read_to_string(&first).unwrap(), FILES[0].1);
    }
}
