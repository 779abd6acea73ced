//! Which file comes next: the plugins in turn, and one in eight of the files bad.

use crate::{library::Defect, reloader::File, roles::Role};

/// One file in so many is bad.
const BAD: u64 = 8;

/// What there is by now of the host's ways with state and with versions that are worse.
pub(crate) const STATE: bool = false;
pub(crate) const ROLL_BACK: bool = false;

/// The plugins that are replaced, in turn.
pub(crate) fn replaced() -> Vec<Role> {
    let roles = [Role::Quick, Role::Count, Role::Relay, Role::Heavy, Role::Tokio];
    roles.into_iter().filter(|role| STATE || !role.keeps_state()).collect()
}

/// The kinds of bad files for a plugin.
fn bad(role: Role) -> Vec<File> {
    let mut kinds = vec![File::Torn, File::Refused(Defect::Init)];
    if ROLL_BACK && role.can_get_worse() {
        kinds.push(File::Worse);
    }
    kinds
}

/// The files of one plugin, one after the other.
pub(crate) struct Plan {
    role: Role,
    files: u64,
    bad: usize,
}

impl Plan {
    /// Plugins are out of step with one another, and so are their bad files.
    pub(crate) fn new(role: Role) -> Self {
        Plan { role, files: role.index() as u64, bad: role.index() }
    }

    pub(crate) fn next(&mut self) -> File {
        self.files += 1;
        if !self.files.is_multiple_of(BAD) {
            return File::Good;
        }
        let kinds = bad(self.role);
        self.bad += 1;
        kinds[self.bad % kinds.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_eight_is_bad_and_every_kind_of_bad_comes() {
        let mut plan = Plan::new(Role::Relay);
        let files: Vec<File> = (0..BAD * 12).map(|_| plan.next()).collect();
        assert_eq!(files.iter().filter(|file| **file != File::Good).count(), 12);
        assert!(bad(Role::Relay).iter().all(|kind| files.contains(kind)));
    }
}
