//! What a process that opens a plugin's file in place of the host may have and reach. It limits
//! itself, before it opens the file.

use std::path::Path;

use ksi_sandbox::Limits;
use serde_json::Value;

use crate::text::causes::with_causes;

/// What the operator lets such a process have, as it crosses to it: null for anything.
pub(crate) type SandboxSpec = Value;

/// Limits this process, which has one thread. It can read the private copy at this path, and what
/// lies in the folder beside it. What this system cannot limit, each for people.
///
/// # Errors
/// It is not limited, or not so far as it has to be; for people.
pub(crate) fn limit_this_process(spec: &SandboxSpec, copy: &Path) -> Result<Vec<String>, String> {
    if spec.is_null() {
        return Ok(Vec::new());
    }
    let limits = serde_json::from_value(spec.clone());
    let mut limits: Limits =
        limits.map_err(|error| format!("the limits of this process cannot be read: {error}"))?;
    limits.read.push(copy.to_owned());
    // The libraries that the plugin brings along.
    let beside = copy.with_extension("");
    limits.read.extend(beside.is_dir().then_some(beside));
    let applied = limits.apply().map_err(|error| with_causes(&error).to_string())?;
    Ok(applied.missing.iter().map(ToString::to_string).collect())
}
