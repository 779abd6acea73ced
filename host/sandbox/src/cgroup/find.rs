//! Which part of the tree of cgroups is given to this process, by what the system tells of it.

use std::{
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use super::{CgroupError, Delegation, may_write, not};

impl Delegation {
    /// Finds the part of the tree that is given to this process.
    ///
    /// # Errors
    /// [`CgroupError::NotDelegated`], with what was found.
    pub fn find() -> Result<Self, CgroupError> {
        let (mounts, groups) = (Path::new("/proc/self/mountinfo"), Path::new("/proc/self/cgroup"));
        Self::found_by(mounts, groups, is_superuser())
    }

    /// As [`Delegation::find`], by files like those in `/proc/self`.
    pub(super) fn found_by(
        mounts: &Path,
        groups: &Path,
        superuser: bool,
    ) -> Result<Self, CgroupError> {
        let text = |path: &Path| {
            fs::read_to_string(path).map_err(|error| not(path, format!("no file: {error}")))
        };
        let (above_all, root) = mount_of(&text(mounts)?)
            .ok_or_else(|| not(mounts, "no cgroups of version 2 mounted".to_owned()))?;
        let own = text(groups)?
            .lines()
            .find_map(|line| line.strip_prefix("0::").map(PathBuf::from))
            .ok_or_else(|| not(groups, "no group of version 2".to_owned()))?;
        // A part of the tree may be mounted, of which this process is to be in.
        let own = own.strip_prefix(&above_all).map_err(|_| {
            not(&root, format!("no {} there, where this process is", own.display()))
        })?;
        let own = root.join(own);
        // The service manager may have put this process into a group below what it gave.
        let above = own.parent().filter(|above| above.starts_with(&root));
        let marked = [Some(own.as_path()), above].into_iter().flatten().find(|it| is_marked(it));
        if let Some(marked) = marked {
            return Self::at(marked);
        }
        // The superuser may write everywhere, which says nothing, save of the tree of a container.
        if superuser && own != root {
            return Err(not(&own, "a group that is not marked as delegated".to_owned()));
        }
        Self::at(above.filter(|above| may_write(above)).unwrap_or(&own))
    }
}

/// Which part of the tree of version 2 is mounted, and where: of
/// `36 35 0:32 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw` the fourth and the fifth.
fn mount_of(mounts: &str) -> Option<(PathBuf, PathBuf)> {
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let is_version_2 = after.split(' ').next() == Some("cgroup2");
        let mut fields = before.split(' ').skip(3).map(unescaped);
        is_version_2.then(|| fields.next().zip(fields.next())).flatten()
    })
}

/// A path as the kernel writes it down, with `\040` for a space and the like.
fn unescaped(text: &str) -> PathBuf {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, after @ ..] = rest {
        let octal = after.get(..3).filter(|_| *first == b'\\');
        let octal = octal.and_then(|octal| std::str::from_utf8(octal).ok());
        let byte = octal.and_then(|octal| u8::from_str_radix(octal, 8).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[3..] } else { after };
    }
    OsString::from_vec(bytes).into()
}

#[cfg(target_os = "linux")]
fn is_superuser() -> bool {
    rustix::process::geteuid().is_root()
}
#[cfg(not(target_os = "linux"))]
fn is_superuser() -> bool {
    false
}

/// systemd marks what it gives.
#[cfg(target_os = "linux")]
fn is_marked(folder: &Path) -> bool {
    ["user.delegate", "trusted.delegate"].into_iter().any(|name| {
        let mut value = [0; 8];
        rustix::fs::getxattr(folder, name, &mut value) == Ok(1) && value[0] == b'1'
    })
}
#[cfg(not(target_os = "linux"))]
fn is_marked(_: &Path) -> bool {
    false
}
