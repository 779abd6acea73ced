//! What a process of a plugin runs: a program, its arguments, and what of the host's environment it
//! does not get.

use std::{ffi::OsString, path::PathBuf, process::Command};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    /// Variables whose names begin so are not passed on; none if it is empty.
    pub(crate) without: &'static str,
}

impl Program {
    /// One that is started with one argument, and with the environment of the host.
    pub(crate) fn with_argument(path: PathBuf, argument: &str) -> Self {
        Program { path, arguments: vec![argument.into()], without: "" }
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.arguments);
        if !self.without.is_empty() {
            let names = std::env::vars_os().map(|(name, _)| name);
            let begins =
                |name: &OsString| name.as_encoded_bytes().starts_with(self.without.as_bytes());
            for name in names.filter(begins) {
                command.env_remove(name);
            }
        }
        command
    }
}
