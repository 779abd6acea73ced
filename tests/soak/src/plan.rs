//! Which file comes next: the plugins in turn, and one in eight of the files bad.

use crate::{library::Defect, reloader::File, roles::Role};

/// One file in so many is bad.
const BAD: u64 = 8;

/// The plugins that are replaced, in turn.
pub(crate) const REPLACED: [Role; 5] =
    [Role::Quick, Role::Count, Role::Relay, Role::Heavy, Role::Tokio];

/// The kinds of bad files for a plugin.
fn bad(role: Role) -> Vec<File> {
    let mut kinds = vec![
        File::Refused(Defect::Torn),
        File::Refused(Defect::Init),
        File::Refused(Defect::InitInEarnest),
    ];
    if role.keeps_state() {
        kinds.push(File::Refused(Defect::Restore));
        kinds.push(File::Refused(Defect::RestoreInEarnest));
    }
    if role.can_get_worse() {
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
        for role in REPLACED {
            let mut plan = Plan::new(role);
            let files: Vec<File> = (0..BAD * 12).map(|_| plan.next()).collect();
            assert_eq!(files.iter().filter(|file| **file != File::Good).count(), 12);
            assert!(bad(role).iter().all(|kind| files.contains(kind)), "{role:?}");
        }
    }
}
