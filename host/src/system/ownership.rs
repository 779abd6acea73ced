//! Who else than the host's user may write to a file or folder, by its owner and mode.
//!
//! The superuser may do everything anyhow, so what is his is as good as one's own. A group counts
//! as somebody else, unless it is the user's own: the group with the user's number, as most systems
//! make one for each user.

use std::{fmt, fs::Metadata, os::unix::fs::MetadataExt};

/// Somebody else who may write there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stranger {
    /// Another user owns it, and can give himself any right.
    Owner { owner: u32 },
    /// The members of its group may.
    Group { group: u32, mode: u32 },
    /// Every user may.
    Everybody { mode: u32 },
}

/// Who else than `user` may write there, if anybody may.
pub(crate) fn stranger(found: &Metadata, user: u32) -> Option<Stranger> {
    let (owner, group, mode) = (found.uid(), found.gid(), found.mode() & 0o7777);
    if owner != user && owner != 0 {
        return Some(Stranger::Owner { owner });
    }
    // The mode of a symbolic link means nothing.
    if found.is_symlink() {
        return None;
    }
    everybody(found)
        .or((mode & 0o020 != 0 && group != user).then_some(Stranger::Group { group, mode }))
}

/// The same as far as it is every user of the machine.
pub(crate) fn everybody(found: &Metadata) -> Option<Stranger> {
    let mode = found.mode() & 0o7777;
    (mode & 0o002 != 0).then_some(Stranger::Everybody { mode })
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Stranger::Owner { owner } => write!(f, "belongs to user {owner}"),
            Stranger::Group { group, mode } => {
                write!(f, "may be written to by group {group} (its mode is {mode:03o})")
            }
            Stranger::Everybody { mode } => {
                write!(f, "may be written to by every user (its mode is {mode:03o})")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn whoever_may_write_is_seen_and_the_superuser_and_the_users_own_group_are_none() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let with = |mode: u32| {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            fs::metadata(file.path()).unwrap()
        };
        let own = with(0o755);
        let (user, group) = (own.uid(), own.gid());
        assert_eq!(stranger(&own, user), None);
        assert_eq!(stranger(&with(0o757), user), Some(Stranger::Everybody { mode: 0o757 }));
        let other = user + 1;
        let expected = (user != 0).then_some(Stranger::Owner { owner: user });
        assert_eq!(stranger(&with(0o755), other), expected);
        if user == 0 {
            let group_writes = Some(Stranger::Group { group, mode: 0o775 });
            assert_eq!(stranger(&with(0o775), group + 1), group_writes);
            assert_eq!(stranger(&with(0o775), group), None);
        }
    }
}
