//! What an earlier version goes on from when it does not get the state that the live one has.
//!
//! While the live version is on probation, that is the state as of the swap. Later on that is
//! forgotten, and whoever asks for it gets the newest snapshot on the disk that the earlier version
//! restores: what it does not take is passed over for an older one. Where none is kept of a version
//! that it restores, it starts without state. What was set aside by hand is not taken: somebody has
//! given it up.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use super::super::{Supervisor, registry::Earlier};
use crate::plugin::state::{
    snapshot::Snapshot,
    store::{Listed, SnapshotPlace},
};

/// State in place of what the live version has.
#[derive(Clone)]
pub(super) struct Instead {
    pub(super) state: Option<Snapshot>,
    from: Whence,
}

#[derive(Clone)]
enum Whence {
    Swap,
    Kept {
        place: SnapshotPlace,
        written: SystemTime,
    },
    Nowhere,
    /// The earlier version keeps none.
    NotNeeded,
}

impl Instead {
    /// What the earlier version handed over when it was replaced, as long as that is known.
    pub(super) fn of_the_swap(earlier: &Earlier) -> Option<Instead> {
        if earlier.info.manifest.state.is_none() {
            return Some(Instead { state: None, from: Whence::NotNeeded });
        }
        let state = earlier.state.clone()?;
        Some(Instead { state: Some(state), from: Whence::Swap })
    }

    /// Which of the kept snapshots it is.
    pub(super) fn place(&self) -> Option<SnapshotPlace> {
        match self.from {
            Whence::Kept { place, .. } => Some(place),
            _ => None,
        }
    }

    /// What programs are told where the state comes from, if it is not known from how it went.
    pub(super) fn how(&self) -> Option<&'static str> {
        matches!(self.from, Whence::Kept { .. }).then_some("older")
    }
}

/// Goes on from why the state of the live version is given up.
impl fmt::Display for Instead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.from {
            Whence::Swap | Whence::NotNeeded => Ok(()),
            Whence::Kept { place, written } => {
                let age = SystemTime::now().duration_since(*written).unwrap_or_default();
                let age = match age.as_secs() {
                    0 => "just now".to_owned(),
                    age => format!("{} ago", humantime::format_duration(Duration::from_secs(age))),
                };
                write!(
                    f,
                    "; its state as of its replacement is not kept any more, and it starts from the snapshot {place}, \
                     written {age}"
                )
            }
            Whence::Nowhere => {
                f.write_str("; no snapshot that it restores is kept, and it starts empty")
            }
        }
    }
}

impl Supervisor {
    /// The newest snapshot on the disk that the earlier version says it restores, beyond those that
    /// it did not take; or a start without state if there is no such snapshot. `None` if there are,
    /// and it took none of them.
    pub(super) async fn kept_instead(
        &self,
        name: &str,
        earlier: &Earlier,
        passed: &[SnapshotPlace],
    ) -> Option<Instead> {
        let nothing = passed.is_empty().then_some(Instead { state: None, from: Whence::Nowhere });
        let (Some(persistence), Some(state)) = (&self.persistence, &earlier.info.manifest.state)
        else {
            return nothing;
        };
        let listed = persistence.list(Some(name)).await.unwrap_or_else(|error| {
            tracing::error!(plugin = name, "its kept snapshots cannot be looked at: {error}");
            Vec::new()
        });
        let mut readable: Vec<(SystemTime, SnapshotPlace)> =
            listed.iter().filter_map(|it| readable(it, &state.restores)).collect();
        readable.retain(|(_, place)| !passed.contains(place));
        readable.sort_by_key(|(written, _)| *written);
        while let Some((written, place)) = readable.pop() {
            match persistence.load_from(name, place).await {
                Ok(kept) if state.restores.contains(&kept.snapshot.version) => {
                    let from = Whence::Kept { place, written };
                    return Some(Instead { state: Some(kept.snapshot), from });
                }
                // Another one was written there meanwhile.
                Ok(_) => {}
                Err(error) => tracing::warn!(plugin = name, "passed over: {error}"),
            }
        }
        nothing
    }
}

fn readable(listed: &Listed, restores: &[u32]) -> Option<(SystemTime, SnapshotPlace)> {
    let is_own = matches!(
        listed.place,
        SnapshotPlace::Snapshot | SnapshotPlace::Previous | SnapshotPlace::Good
    );
    let about = listed.content.as_ref().ok().filter(|_| is_own)?;
    restores.contains(&about.version).then_some((about.written, listed.place))
}
