//! `[python]`: which interpreter runs plugins that are modules of Python, and what it is given.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, de};

use super::{Problem, range, reload};

/// How plugins are run that are modules of Python. TOML: `[python]`.
///
/// ```
/// use ksi_host::InstallWith;
///
/// let text = "
///     [python]
///     interpreter = 'python3.13'
///     install = 'uv'
///     [python.plugins.state_manager]
///     keep = ['_state', '_counts']
/// ";
/// let config = ksi_host::Config::from_toml(text, ".".as_ref())?;
/// assert_eq!(config.python.install, Some(InstallWith::Uv));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Python {
    /// The interpreter: a name that is looked for in `PATH`, or a path. CPython from 3.10 on.
    /// Default: `python3`.
    pub interpreter: PathBuf,
    /// What installs the packages that a module says it needs. In TOML `"uv"`, `"pip"` or `false`.
    /// Default: nothing, so that such a module is refused until they are there.
    #[serde(deserialize_with = "install_with")]
    pub install: Option<InstallWith>,
    /// Whether an interpreter waits for the next module, so that a replacement need not wait for
    /// one, from when the first one is there. Default: yes.
    pub spare: bool,
    /// The folder of the packages that modules need, which is kept over a restart; it need not be
    /// there. Default: `.python` in the folder of the state, if that is kept, else one that goes
    /// with the host.
    pub environments: Option<PathBuf>,
    /// Folders that modules import from beside what is their own and their packages, in this order.
    /// What is changed there holds from the next start of a module's process on, and whoever may
    /// write there changes what modules do. Default: none.
    pub path: Vec<PathBuf>,
    /// What differs for single plugins, by name. TOML: `[python.plugins.NAME]`. Default: nothing.
    pub plugins: BTreeMap<String, PythonOf>,
}

/// What is said of one plugin that is a module of Python.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct PythonOf {
    /// Its globals that are its state, where it has no `snapshot` and `restore`. Default: those
    /// that it says itself, or `_state` if there is one.
    pub keep: Option<Vec<String>>,
}

/// What installs packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum InstallWith {
    /// `uv`, which has to be in `PATH`.
    Uv,
    /// The interpreter's own `venv` and `pip`.
    Pip,
}

impl Default for Python {
    fn default() -> Self {
        let interpreter = PathBuf::from("python3");
        let (environments, path, plugins) = (None, Vec::new(), BTreeMap::new());
        Self { interpreter, install: None, spare: true, environments, path, plugins }
    }
}

impl Python {
    /// With an interpreter and folders that are relative paths relative to this folder.
    pub(super) fn within(mut self, folder: &Path) -> Self {
        if self.interpreter.components().count() > 1 {
            self.interpreter = folder.join(self.interpreter);
        }
        self.environments = self.environments.map(|environments| folder.join(environments));
        self.path.iter_mut().for_each(|path| *path = folder.join(&*path));
        self
    }

    pub(super) fn check(&self) -> Result<(), Problem> {
        if self.interpreter.as_os_str().is_empty() {
            let range = "a program's name or path";
            return Err(range::outside("python", "interpreter", "\"\"", range));
        }
        if self.environments.as_ref().is_some_and(|folder| folder.as_os_str().is_empty()) {
            return Err(range::outside("python", "environments", "\"\"", "a path"));
        }
        if self.path.iter().any(|folder| folder.as_os_str().is_empty()) {
            return Err(range::outside("python", "path", "[\"\"]", "paths"));
        }
        for (name, PythonOf { keep }) in &self.plugins {
            if !reload::is_plugin_name(name) {
                let name = name.to_owned();
                return Err(Problem::NoPluginName { table: "python.plugins", name });
            }
            let is_name = |name: &String| {
                name.starts_with(|first: char| first.is_alphabetic() || first == '_')
                    && name.chars().all(|it| it.is_alphanumeric() || it == '_')
            };
            if let Some(other) = keep.iter().flatten().find(|name| !is_name(name)) {
                let (table, other) = (format!("python.plugins.{name}"), format!("{other:?}"));
                return Err(range::outside(&table, "keep", other, "names of globals"));
            }
        }
        Ok(())
    }
}

fn install_with<'de, D: Deserializer<'de>>(from: D) -> Result<Option<InstallWith>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Whether(bool),
        With(String),
    }
    match Written::deserialize(from)? {
        Written::Whether(false) => Ok(None),
        Written::With(with) if with == "uv" => Ok(Some(InstallWith::Uv)),
        Written::With(with) if with == "pip" => Ok(Some(InstallWith::Pip)),
        Written::With(other) => Err(de::Error::custom(format!(
            "`{other}` installs nothing: `install` is \"uv\", \"pip\" or false"
        ))),
        Written::Whether(true) => {
            Err(de::Error::custom("`install` is \"uv\", \"pip\" or false: say which one"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn what_cannot_be_meant_is_named() {
        let read = |toml: &str| Config::from_toml(toml, "/etc".as_ref());
        let python = read("[python]\ninterpreter = 'venv/bin/python'").unwrap().python;
        assert_eq!(python.interpreter, Path::new("/etc/venv/bin/python"));
        let python = read("[python]\nenvironments = 'packages'").unwrap().python;
        assert_eq!(python.environments.as_deref(), Some(Path::new("/etc/packages")));
        let python = read("[python]\npath = ['../ksi', '/srv/lib']").unwrap().python;
        assert_eq!(python.path, [Path::new("/etc/../ksi"), Path::new("/srv/lib")]);
        assert_eq!(read("[python]\ninstall = false").unwrap().python, Python::default());
        for (toml, told) in [
            ("[python]\ninterpreter = ''", "`python.interpreter` is \"\""),
            ("[python]\nenvironments = ''", "`python.environments` is \"\""),
            ("[python]\npath = ['']", "`python.path` is [\"\"]"),
            ("[python]\ninstall = true", "say which one"),
            ("[python]\ninstall = 'conda'", "`conda` installs nothing"),
            ("[python]\ninterpeter = 'a'", "did you mean `interpreter`"),
            ("[python.plugins.'a b']", "`python.plugins.a b` names no plugin"),
            ("[python.plugins.a]\nkeep = ['a.b']", "`python.plugins.a.keep` is \"a.b\""),
        ] {
            let error = read(toml).unwrap_err().to_string();
            assert!(error.contains(told), "{toml}: {error}");
        }
    }
}
