//! What a process that opens a plugin's file in place of the host may have and reach. It limits
//! itself, before it opens the file.

use std::path::Path;

use ksi_sandbox::Limits;
use serde_json::Value;

use crate::text::causes::with_causes;

/// What the operator lets such a process have, as it crosses to it: null for anything.
pub(crate) type SandboxSpec = Value;

/// Limits this process, which has one thread. It can read the private copy at this path, and what
/// lies beside it in a folder of its own. What this system cannot limit, each for people.
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
    let copy = std::path::absolute(copy).unwrap_or_else(|_| copy.to_owned());
    limits.read.extend(own_folder(&copy).map(Path::to_owned));
    limits.read.push(copy);
    let applied = limits.apply().map_err(|error| with_causes(&error).to_string())?;
    Ok(applied.missing.iter().map(ToString::to_string).collect())
}

/// What somebody can do whose plugin was refused something by the system, if its limits may be the
/// cause; to be put behind the reason.
pub(crate) fn hint(spec: &SandboxSpec, reason: &str) -> String {
    let profile = spec.get("profile").and_then(Value::as_str).unwrap_or("none");
    let refused = ["Permission denied", "Operation not permitted", "os error 13", "os error 1)"];
    if profile == "none" || !refused.iter().any(|words| reason.contains(words)) {
        return String::new();
    }
    let lists = match profile {
        "strict" => "`read` or `write`, or take `standard`",
        _ => "`read`, `write`, `exec`, `connect` or `bind`",
    };
    format!(
        " (its profile is \"{profile}\" and may be what refuses this: give what it needs by {lists}, in \
         [isolation.plugins.NAME])"
    )
}

/// Where a copy lies whose plugin brings libraries along: in a folder of its own, of its name. The
/// folder of all the other copies has another one.
fn own_folder(copy: &Path) -> Option<&Path> {
    copy.parent().filter(|folder| folder.file_name() == copy.file_stem())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_profile_may_have_refused_is_told_with_the_setting_that_allows_it() {
        let told = |profile: &str, reason| hint(&json!({"profile": profile}), reason);
        let denied = "libx.so: cannot open shared object file: Permission denied";
        let standard = told("standard", denied);
        assert!(standard.contains("profile is \"standard\""), "{standard}");
        assert!(standard.contains("`read`") && standard.contains("[isolation.plugins.NAME]"));
        assert!(
            told("strict", "Operation not permitted (os error 1)").contains("or take `standard`")
        );
        assert_eq!(told("standard", "libx.so: No such file or directory"), "");
        assert_eq!(told("none", denied) + &hint(&Value::Null, denied), "");
    }
}
