//! What going back gives up, and whether somebody has agreed to that.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use super::{super::registry::Earlier, Asked};
use crate::plugin::{
    instance::info::GenerationInfo, lifecycle::error::DeployError, state::snapshot::common_version,
};

/// What going back gives up: what the later version has done to the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cost {
    /// Calls that were answered since the later version took over.
    pub(crate) calls: u64,
    /// For so many seconds it has been live.
    pub(crate) seconds: u64,
    /// Why the state as it is now cannot go on.
    pub(crate) because: String,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = humantime::format_duration(Duration::from_secs(self.seconds.max(1)));
        let calls = match self.calls {
            1 => "1 call that was".to_owned(),
            calls => format!("{calls} calls that were"),
        };
        write!(
            f,
            "what {calls} answered in the last {since} did to its state, because {}",
            self.because
        )
    }
}

impl Cost {
    pub(super) fn of(bad: &GenerationInfo, earlier: &Earlier, because: String) -> Cost {
        let counts = bad.counts();
        let since = SystemTime::now().duration_since(earlier.replaced).unwrap_or_default();
        Cost { calls: counts.replied + counts.no_reply, seconds: since.as_secs(), because }
    }
}

/// Why the earlier version cannot go on with the state as it is now, if that can be seen without
/// trying.
pub(super) fn unreadable(bad: &GenerationInfo, earlier: &Earlier) -> Option<String> {
    let writes = bad.manifest.state.as_ref()?;
    let (new, old) = (&bad.manifest.version, &earlier.info.manifest.version);
    let Some(restores) = &earlier.info.manifest.state else {
        return Some(format!("{old} keeps no state"));
    };
    common_version(writes, restores).is_none().then(|| {
        let (writes, restores) = (&writes.writes, &restores.restores);
        format!("{new} writes snapshots of versions {writes:?}, and {old} restores {restores:?}")
    })
}

/// Nobody gives up state by hand without saying so. `has_folder`: what is given up can be kept
/// aside.
pub(super) fn agreed(
    asked: Asked,
    bad: &GenerationInfo,
    earlier: &Earlier,
    cost: Option<&Cost>,
    has_folder: bool,
) -> Result<(), DeployError> {
    match (asked, cost) {
        (Asked::ByHand { force: false }, Some(cost)) => Err(DeployError::LosesState {
            plugin: bad.plugin.to_string(),
            to: earlier.info.manifest.version.clone(),
            cost: cost.to_string(),
            has_folder,
        }),
        _ => Ok(()),
    }
}
