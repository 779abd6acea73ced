//! What a candidate is, from its bytes alone.
//!
//! A plugin carries its self-description in a section of its shared library, so the host can name,
//! accept or refuse a file before any of its code runs. Reading is total: whatever the bytes are,
//! the answer is a manifest or a reason, never a panic.
//!
//! This module knows neither where the bytes come from nor what events mean. It cannot see a file
//! whose middle was never written (a hole of zeroes parses well); settling and the probe exist for
//! that.

mod built;
mod elf;
mod error;
mod linkage;
mod own;

use std::path::Path;

use serde::{Deserialize, Serialize};

pub use built::{Built, NativeBuild, PythonBuild, Unread};
pub use error::ManifestError;
pub(crate) use linkage::{Linkage, NO_DELETE};

/// The section of a shared library that holds the manifest.
const SECTION: &str = ".ksi.manifest";
/// What the section starts with; the digit changes only if even `format` could no longer be read.
const MAGIC: &[u8] = b"KSIM1\n";
/// The one `format` this host reads.
const FORMAT: u64 = 1;
/// Far above any real manifest (about 200 bytes a handler), far below anything worth parsing by
/// accident.
const MAX_SECTION: u64 = 1024 * 1024;
const MAX_NAME: usize = 64;

/// A plugin's description of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Manifest {
    /// Version of the manifest's own layout.
    pub format: u32,
    /// The plugin's name, the same across reloads.
    pub name: String,
    /// The plugin's version, for people: the host compares nothing with it.
    pub version: String,
    /// How it was built, with what only a plugin that was built so has.
    #[serde(flatten)]
    pub built: Built,
    /// What it handles from the start, in the order of declaration.
    pub handlers: Vec<HandlerManifest>,
    /// Names of the events it declares to emit.
    pub emits: Vec<String>,
    /// Names of the events that somebody must handle for it to be of use.
    pub requires: Vec<String>,
    /// What its snapshots are like; `None` when it keeps no state.
    pub state: Option<StateManifest>,
    /// Whether it holds something that two generations cannot hold at a time, so that the old one
    /// has to be released before the new one is initialized.
    pub exclusive: bool,
    /// Whether it asks for a process of its own; not said by those that were built before it could
    /// be.
    #[serde(default)]
    pub isolated: bool,
    /// Whether an instance of it may be made in a process of its own before the host makes one.
    pub trial: bool,
    /// What somebody should know of the file, with the way out; mostly nothing. Not of the manifest
    /// itself: read off what is around it.
    #[serde(skip_deserializing, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
}

/// The versions of a plugin's snapshots, in a [`Manifest`]. Both lists have the highest first, each
/// version once, and none is 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StateManifest {
    /// Those that it writes; never empty. The first is its own, the others are for versions of it
    /// that are older.
    pub writes: Vec<u32>,
    /// Those that it restores.
    pub restores: Vec<u32>,
}

/// One handler in a [`Manifest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HandlerManifest {
    /// The handler's name, unique in its plugin.
    pub name: String,
    /// Event names or patterns that it subscribes to.
    pub subscriptions: Vec<String>,
    /// Its place among the handlers of one event.
    pub priority: i32,
    /// Its deadline in milliseconds; 0 stands for the host's default.
    pub timeout_ms: u64,
    /// Whether it may block its thread.
    pub blocking: bool,
}

/// The fields that decide whether the others can be read at all, and which of several manifests is
/// meant. They stand where they stood in every ABI, so that a plugin of another one is told so.
#[derive(Deserialize)]
struct ManifestPreamble {
    format: u64,
    abi: Option<u64>,
    name: Option<String>,
    #[serde(rename = "crate")]
    crate_name: Option<String>,
}

/// Whether a file of `len` bytes may be a plugin for this host, by how it begins. `head` is its
/// first 512 bytes, or all of a shorter one.
///
/// # Errors
/// As for [`read_manifest`], which says the same of the whole file.
pub(crate) fn check_head(head: &[u8], len: u64) -> Result<(), ManifestError> {
    elf::check_head(head, len)
}

/// Reads the manifest out of `bytes`, the whole of a candidate, for a host that speaks `host_abi`.
/// Of several plugins in one library it is that of the one that `file` is named after.
///
/// A manifest that is returned describes a complete shared library for this machine, built for
/// `host_abi` and with unwinding panics, and has a well-formed plugin name.
///
/// # Errors
/// The first reason why the file is no plugin for this host, worded for an operator. The messages
/// do not name the file, save where its name matters.
pub(crate) fn read_manifest(
    bytes: &[u8],
    host_abi: u32,
    file: &Path,
) -> Result<Manifest, ManifestError> {
    let section = elf::manifest_section(bytes)?;
    let manifests = own::manifests(section)?;
    let (json, preamble) = own::named_after(file, manifests)?;
    if preamble.format != FORMAT {
        return Err(ManifestError::UnsupportedFormat { found: preamble.format, supported: FORMAT });
    }
    match preamble.abi {
        Some(found) if found != u64::from(host_abi) => {
            return Err(ManifestError::OtherAbi { found, host: host_abi });
        }
        _ => {}
    }

    let mut manifest: Manifest = serde_json::from_slice(json).map_err(ManifestError::BadJson)?;
    manifest.check()?;
    let Built::Native(build) = &mut manifest.built else {
        let other = serde::de::Error::custom("a library says that it was built as something else");
        return Err(ManifestError::BadJson(other));
    };
    build.check(&manifest.name)?;
    build.linkage = Linkage::of(bytes);
    manifest.notices = build.linkage.notices();
    Ok(manifest)
}

/// Reads the manifest that was made of a module's source.
///
/// # Errors
/// It is none, or names what no plugin has.
pub(crate) fn read_python_manifest(json: &str) -> Result<Manifest, ManifestError> {
    let manifest: Manifest = serde_json::from_str(json).map_err(ManifestError::BadJson)?;
    manifest.check()?;
    Ok(manifest)
}

impl Manifest {
    /// Whether it can be a plugin's, however that was built.
    fn check(&self) -> Result<(), ManifestError> {
        if !is_plugin_name(&self.name) {
            return Err(ManifestError::BadName { found: self.name.clone() });
        }
        match self.state.as_ref().and_then(StateManifest::mistake) {
            Some(reason) => Err(ManifestError::BadState { name: self.name.clone(), reason }),
            None => Ok(()),
        }
    }
}

impl StateManifest {
    /// What is wrong with it, if anything.
    pub(crate) fn mistake(&self) -> Option<&'static str> {
        let descends = |versions: &[u32]| versions.windows(2).all(|pair| pair[0] > pair[1]);
        if self.writes.is_empty() {
            Some("it writes no snapshots")
        } else if self.writes.contains(&0) || self.restores.contains(&0) {
            Some("there is no version 0")
        } else if !descends(&self.writes) || !descends(&self.restores) {
            Some("the versions do not stand in order, the highest first and each once")
        } else {
            None
        }
    }
}

fn is_plugin_name(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

#[cfg(test)]
mod tests;
