//! Processes with all that they have started: a cgroup (of version 2) for each process of a plugin,
//! where the system has given the host a part of the tree.
//!
//! What a plugin has started may leave its process group, and not its cgroup. So the group is ended
//! as a whole when the process has ended, and can be bounded as a whole.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use ksi_sandbox::cgroup::{Bounds, Delegation, Group};

use crate::text::causes::with_causes;

/// What a group gets to be empty once all in it is killed, and how often it is looked.
const EMPTY: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(5);

/// Which group a process gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct GroupPolicy {
    pub(crate) group: GroupUse,
    pub(crate) bounds: Bounds,
}

/// Whether a process gets a group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum GroupUse {
    /// Where the host has a part of the tree.
    WhereDelegated,
    #[default]
    Never,
    /// In any case, with all of its bounds.
    Required,
}

/// Where the groups are made.
#[derive(Default)]
pub(super) struct ProcessGroups(OnceLock<Result<Delegation, String>>);

impl ProcessGroups {
    /// The group of a process that was started for this plugin, which is in it then; none where
    /// there are none.
    ///
    /// # Errors
    /// There has to be one, and it cannot be had so; for people.
    pub(super) fn of(
        &self,
        plugin: &str,
        pid: u32,
        policy: &GroupPolicy,
    ) -> Result<Option<Group>, String> {
        let required = policy.group == GroupUse::Required;
        let needed = |reason: String| format!("{reason} (isolation.cgroup is \"require\")");
        if policy.group == GroupUse::Never {
            return Ok(None);
        }
        let delegation = match self.delegation() {
            Ok(delegation) => delegation,
            Err(reason) if required => return Err(needed(reason.clone())),
            Err(_) => return Ok(None),
        };
        let group = delegation.group(&format!("{plugin}-{pid}"), &policy.bounds);
        let group = group.and_then(|group| group.add(pid).map(|()| group));
        let group = match group {
            Ok(group) => group,
            Err(error) if required => return Err(needed(with_causes(&error).to_string())),
            Err(error) => {
                tracing::warn!(plugin, "its process has no cgroup: {}", with_causes(&error));
                return Ok(None);
            }
        };
        if required && let Some(unbounded) = group.unbounded().first() {
            return Err(needed(unbounded.to_string()));
        }
        for unbounded in group.unbounded() {
            tracing::debug!(plugin, "{unbounded}");
        }
        Ok(Some(group))
    }

    fn delegation(&self) -> Result<&Delegation, &String> {
        let found = self.0.get_or_init(|| {
            let found = Delegation::find().map_err(|error| with_causes(&error).to_string());
            found.inspect_err(|reason| tracing::debug!("processes have no cgroups: {reason}"))
        });
        found.as_ref()
    }
}

/// The process of a group has ended: whatever it has started ends with it.
pub(super) fn kill(group: &Group) {
    if let Err(error) = group.kill() {
        tracing::warn!("what a process has started goes on: {}", with_causes(&error));
    }
}

/// All in a group is killed: removes it once nothing is in it.
pub(super) async fn remove(group: Option<Group>) {
    let Some(group) = group else { return };
    let began = Instant::now();
    while began.elapsed() < EMPTY && !group.is_empty().unwrap_or(true) {
        tokio::time::sleep(LOOK).await;
    }
}
