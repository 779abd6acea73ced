//! How a plugin was built, in one of several ways, each with the fields that are mandatory for it.
//!
//! They stand among the other fields of a manifest and not below them: whoever reads a manifest for
//! its ABI, to say that this is another one, finds that where it always was.
//!
//! This does not know what becomes of a plugin that was built so: who opens it does.

use serde::{Deserialize, Serialize, Serializer};

use super::{Linkage, ManifestError};

/// How a plugin was built, in a [`Manifest`](super::Manifest).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "built", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Built {
    /// As a shared library of native code, to be opened in a process of the host.
    Native(NativeBuild),
}

/// As it is shown: its fields alone. That a plugin was built as native code goes without saying.
impl Serialize for Built {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Built::Native(build) => build.serialize(serializer),
        }
    }
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
