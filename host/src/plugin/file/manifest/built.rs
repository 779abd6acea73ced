//! How a plugin was built, in one of several ways, each with the fields that are mandatory for it.
//!
//! They stand among the other fields of a manifest and not below them: whoever reads a manifest for
//! its ABI, to say that this is another one, finds that where it always was.
//!
//! This does not know what becomes of a plugin that was built so: who opens it does.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::{Linkage, ManifestError};

/// How a plugin was built, in a [`Manifest`](super::Manifest).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "built", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Built {
    /// As a shared library of native code, to be opened in a process of the host.
    Native(NativeBuild),
    /// Not at all: as source text, to be run by an interpreter in a process of its own.
    Python(PythonBuild),
}

/// As it is shown: its fields. That a plugin was built as native code goes without saying.
impl Serialize for Built {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Tagged<'a, T> {
            built: &'static str,
            #[serde(flatten)]
            build: &'a T,
        }
        match self {
            Built::Native(build) => build.serialize(serializer),
            Built::Python(build) => Tagged { built: "python", build }.serialize(serializer),
        }
    }
}

impl Built {
    /// Whether what is read of it before it is opened is a guess, as to handlers and state.
    pub(crate) fn is_known_once_open(&self) -> bool {
        match self {
            Built::Native(_) => false,
            Built::Python(_) => true,
        }
    }

    /// Whether it can live in a process of its own alone.
    pub(crate) fn needs_process(&self) -> bool {
        match self {
            Built::Native(_) => false,
            Built::Python(_) => true,
        }
    }
}

/// What a module of Python says of what runs it. What is not said is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct PythonBuild {
    /// Which interpreters may run it (`requires-python`), as it is written.
    pub python: String,
    /// The packages that it needs (PEP 508), as they are written.
    pub dependencies: Vec<String>,
    /// Its globals that are its state.
    pub keep: Vec<String>,
    /// Whether somebody has named those. If nobody has, it is found out when it is opened which
    /// they are.
    #[serde(skip_serializing)]
    pub keep_is_named: bool,
    /// Whether the handlers of the manifest are all that there are: those that are made when it
    /// runs are found out then.
    pub handlers_complete: bool,
    /// JSON Schemas of what handlers take, by the handler's name.
    pub schemas: BTreeMap<String, Value>,
    /// In a folder that is a plugin, the file that is run.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub entry: String,
    /// What it is: `module`, of handlers, or `pluggy`, plugins of that kind.
    pub kind: String,
    /// Of the latter, which ones.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub pluggy: Value,
    /// What of it only running tells, and where.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<Unread>,
    /// The version of the interpreter that is to run it. Not of the module itself.
    #[serde(skip_deserializing)]
    pub interpreter: String,
}

/// What of a module only running it tells.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Unread {
    /// Where it stands.
    pub file: String,
    /// From 1.
    pub line: u64,
    /// For people.
    pub what: String,
}

/// What a shared library of native code says of how it was built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NativeBuild {
    /// Version of the boundary between host and plugin that it was built for.
    pub abi: u32,
    /// The crate that it was built from.
    #[serde(rename = "crate")]
    pub crate_name: String,
    /// The symbol of the library's root module.
    pub header: String,
    /// The compiler that built it, as `rustc --version` prints it.
    pub rustc: String,
    /// The target triple it was built for.
    pub target: String,
    /// The panic strategy it was built with; `unwind` in every accepted manifest.
    pub panic: String,
    /// Whether it brings a tokio runtime of its own.
    pub runtime: bool,
    /// How the library is linked: read off what is around the manifest.
    #[serde(skip)]
    pub(crate) linkage: Linkage,
}

impl NativeBuild {
    /// Whether this host can take what was built so, as the plugin of this name.
    pub(super) fn check(&self, name: &str) -> Result<(), ManifestError> {
        let name = || name.to_owned();
        if !is_symbol(&self.header) {
            return Err(ManifestError::BadHeader { name: name(), found: self.header.clone() });
        }
        if self.panic != "unwind" {
            return Err(ManifestError::PanicStrategy { name: name(), found: self.panic.clone() });
        }
        Ok(())
    }
}

fn is_symbol(header: &str) -> bool {
    header.starts_with("ksi_plugin_")
        && header.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
