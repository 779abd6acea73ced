//! A bound of memory and of processes for one process and all that it starts, together: cgroups of
//! version 2, where the system gives this user a part of the tree.
//!
//! It is set by whoever starts the process, not by the process itself, which could leave it again
//! until its files are limited. A service manager gives a part of the tree where it is asked to:
//! with systemd, `Delegate=yes` in the unit.
//!
//! The kernel has either processes or bounds for those below in one group. So the host's own group
//! is emptied: [`Delegation::find`] moves the processes that are in it to a group below, named
//! `host`, unless the service manager has done so (`DelegateSubgroup=`).
//!
//! ```
//! use ksi_sandbox::cgroup::{Bounds, Delegation};
//!
//! match Delegation::find() {
//!     Ok(delegation) => {
//!         let mut bounds = Bounds::default();
//!         bounds.memory = Some("512 MiB".parse()?);
//!         let group = delegation.group("greeter", &bounds)?;
//!         // group.add(child.id())?; and, with all that it has started: group.kill()?;
//!     }
//!     Err(why) => println!("{why}"),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::Bytes;

/// What there may be in a group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Bounds {
    /// Memory in use, with what the kernel keeps for it (`memory.max`). Beyond it the kernel ends
    /// all processes of the group. There is no swap for it.
    pub memory: Option<Bytes>,
    /// Processes and threads (`pids.max`). Beyond it none is made.
    pub processes: Option<u64>,
}

/// Why there is no group.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CgroupError {
    /// No part of the tree is this user's.
    #[error(
        "cgroups are not delegated to this process: tried {}, found {found}; with systemd, set Delegate=yes in the unit",
        tried.display()
    )]
    NotDelegated {
        /// The group or file that was looked at.
        tried: PathBuf,
        /// What was found.
        found: String,
    },
    /// A name that is no name of a folder.
    #[error("`{name}` cannot be the name of a cgroup")]
    Name {
        /// The name.
        name: String,
    },
    /// A step that failed.
    #[error("the cgroup {} could not be {step}", path.display())]
    Step {
        /// What was done.
        step: &'static str,
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A part of the tree that is this user's.
#[derive(Debug)]
pub struct Delegation {
    folder: PathBuf,
}

/// One group below it. Dropped, it is removed, if nothing is in it any more.
#[derive(Debug)]
pub struct Group {
    folder: PathBuf,
}

/// Where the processes go that are in the way.
const OWN: &str = "host";
/// Controllers that a group needs, with the `+` by which they are switched on for those below.
const CONTROLLERS: [(&str, &str); 2] = [("memory", "+memory"), ("pids", "+pids")];

impl Delegation {
    /// Finds the part of the tree that is given to this process, and makes it ready for groups.
    ///
    /// # Errors
    /// [`CgroupError::NotDelegated`], with what was found, or a step that failed.
    pub fn find() -> Result<Self, CgroupError> {
        let (mounts, groups) = (Path::new("/proc/self/mountinfo"), Path::new("/proc/self/cgroup"));
        Self::found_by(mounts, groups, is_superuser())
    }

    /// As [`Delegation::find`], by files like those in `/proc/self`.
    fn found_by(mounts: &Path, groups: &Path, superuser: bool) -> Result<Self, CgroupError> {
        let text = |path: &Path| {
            fs::read_to_string(path).map_err(|error| not(path, format!("no file: {error}")))
        };
        let root = mount_of(&text(mounts)?)
            .ok_or_else(|| not(mounts, "no cgroups of version 2 mounted".to_owned()))?;
        let own = text(groups)?
            .lines()
            .find_map(|line| line.strip_prefix("0::/").map(PathBuf::from))
            .ok_or_else(|| not(groups, "no group of version 2".to_owned()))?;
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

    /// Takes this folder for the one that is given, and makes it ready for groups.
    ///
    /// # Errors
    /// As [`Delegation::find`].
    pub fn at(folder: &Path) -> Result<Self, CgroupError> {
        let has = fs::read_to_string(folder.join("cgroup.controllers"))
            .map_err(|error| not(folder, format!("no cgroup: {error}")))?;
        for (controller, _) in CONTROLLERS {
            if !has.split_whitespace().any(|it| it == controller) {
                let found = format!("no controller `{controller}` (it has: {})", has.trim());
                return Err(not(folder, found));
            }
        }
        if !may_write(folder) {
            return Err(not(folder, "one that this user may not write to".to_owned()));
        }
        let delegation = Self { folder: folder.to_owned() };
        delegation.empty()?;
        for (_, on) in CONTROLLERS {
            let path = folder.join("cgroup.subtree_control");
            fs::write(&path, on).map_err(failed("given controllers", &path))?;
        }
        Ok(delegation)
    }

    /// Moves the processes that are in it out of the way.
    fn empty(&self) -> Result<(), CgroupError> {
        let (own, path) = (self.folder.join(OWN), self.folder.join("cgroup.procs"));
        let mut moved = BTreeSet::new();
        // Whoever starts a process meanwhile has it here, until he is moved himself.
        for _ in 0..100 {
            let there = fs::read_to_string(&path).map_err(failed("read", &path))?;
            if there.lines().all(|process| moved.contains(process)) {
                return Ok(());
            }
            made(&own)?;
            let to = own.join("cgroup.procs");
            for process in there.lines() {
                match fs::write(&to, process) {
                    // It has ended meanwhile.
                    Err(error) if error.raw_os_error() == Some(NO_PROCESS) => {}
                    result => result.map_err(failed("filled", &to))?,
                }
                moved.insert(process.to_owned());
            }
        }
        Err(not(&self.folder, "processes that come faster than they can be moved".to_owned()))
    }

    /// Makes a group below, or takes the one of that name that was left over.
    ///
    /// # Errors
    /// The name is none of a folder, or a step failed. Nothing is left then.
    pub fn group(&self, name: &str, bounds: &Bounds) -> Result<Group, CgroupError> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        // Names of the kernel's own files have a dot.
        if name.is_empty() || name.len() > 128 || name == OWN || !name.bytes().all(is_name) {
            return Err(CgroupError::Name { name: name.to_owned() });
        }
        let group = Group { folder: self.folder.join(name) };
        made(&group.folder)?;
        let bound = |value: Option<u64>| value.map_or("max".to_owned(), |it| it.to_string());
        group.write("memory.max", &bound(bounds.memory.map(|it| it.0)))?;
        group.write("pids.max", &bound(bounds.processes))?;
        // One process of a plugin alone does not go on in a sensible way.
        group.write("memory.oom.group", "1")?;
        // No kernel need have swap.
        let _ = group.write("memory.swap.max", "0");
        Ok(group)
    }
}

#[cfg(target_os = "linux")]
const NO_PROCESS: i32 = libc::ESRCH;
#[cfg(not(target_os = "linux"))]
const NO_PROCESS: i32 = 3;

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

impl Group {
    /// Moves a process into it. What that one starts from then on is in it as well.
    ///
    /// # Errors
    /// There is no such process, or it may not be moved.
    pub fn add(&self, process: u32) -> Result<(), CgroupError> {
        self.write("cgroup.procs", &process.to_string())
    }

    /// Ends all processes in it, at once (`cgroup.kill`, Linux 5.14). They are gone a moment later.
    ///
    /// # Errors
    /// The kernel does not have it.
    pub fn kill(&self) -> Result<(), CgroupError> {
        self.write("cgroup.kill", "1")
    }

    /// Waits until nothing runs in it; false if that takes longer.
    ///
    /// # Errors
    /// The group cannot be read.
    pub fn is_empty_within(&self, time: Duration) -> Result<bool, CgroupError> {
        let deadline = Instant::now() + time;
        loop {
            if self.read("cgroup.events")?.lines().any(|line| line == "populated 0") {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            // The kernel tells of a change to whoever polls the file, which takes a thread as well.
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Bytes of memory in use.
    ///
    /// # Errors
    /// The group cannot be read.
    pub fn memory(&self) -> Result<Bytes, CgroupError> {
        let path = self.folder.join("memory.current");
        let no_number = || io::Error::new(io::ErrorKind::InvalidData, "no number");
        let text = self.read("memory.current")?;
        let number = text.trim().parse().map_err(|_| no_number());
        number.map(Bytes).map_err(failed("read", &path))
    }

    /// How often the kernel has ended processes of it for want of memory.
    ///
    /// # Errors
    /// The group cannot be read.
    pub fn out_of_memory(&self) -> Result<u64, CgroupError> {
        let text = self.read("memory.events")?;
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok());
        Ok(count.unwrap_or(0))
    }

    fn read(&self, file: &str) -> Result<String, CgroupError> {
        let path = self.folder.join(file);
        fs::read_to_string(&path).map_err(failed("read", &path))
    }

    fn write(&self, file: &str, value: &str) -> Result<(), CgroupError> {
        let path = self.folder.join(file);
        fs::write(&path, value).map_err(failed("set", &path))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // One that is still in use stays, and is taken again under its name.
        let _ = fs::remove_dir(&self.folder);
    }
}

fn not(tried: &Path, found: String) -> CgroupError {
    CgroupError::NotDelegated { tried: tried.to_owned(), found }
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CgroupError {
    let path = path.to_owned();
    move |source| CgroupError::Step { step, path, source }
}

fn made(folder: &Path) -> Result<(), CgroupError> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(failed("made", folder)(error))
        }
        _ => Ok(()),
    }
}

/// Whether processes can be moved within it, and groups be made.
fn may_write(folder: &Path) -> bool {
    let opened = fs::OpenOptions::new().write(true).open(folder.join("cgroup.procs"));
    opened.is_ok() && fs::OpenOptions::new().write(true).open(folder.join(SUBTREE)).is_ok()
}

const SUBTREE: &str = "cgroup.subtree_control";

/// Where the tree of version 2 is mounted: of `36 35 0:32 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw`
/// the fifth.
fn mount_of(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let is_version_2 = after.split(' ').next() == Some("cgroup2");
        is_version_2.then(|| before.split(' ').nth(4).map(PathBuf::from)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with the files that the kernel has in a group.
    fn fake(controllers: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (file, text) in
            [("cgroup.controllers", controllers), ("cgroup.procs", ""), (SUBTREE, "")]
        {
            fs::write(folder.path().join(file), text).unwrap();
        }
        folder
    }

    fn bounds() -> Bounds {
        Bounds { memory: Some(Bytes(64 << 20)), processes: Some(8) }
    }

    fn read(folder: &Path, file: &str) -> String {
        fs::read_to_string(folder.join(file)).unwrap()
    }

    #[test]
    fn a_group_has_the_bounds_that_were_asked_for_and_takes_and_ends_processes() {
        let folder = fake("cpu memory pids\n");
        let delegation = Delegation::at(folder.path()).unwrap();
        assert_eq!(read(folder.path(), SUBTREE), "+pids", "the last one written");
        let group = delegation.group("greeter", &bounds()).unwrap();
        let below = folder.path().join("greeter");
        assert_eq!(read(&below, "memory.max"), "67108864");
        assert_eq!(read(&below, "pids.max"), "8");
        assert_eq!(read(&below, "memory.swap.max"), "0");
        group.add(4711).unwrap();
        assert_eq!(read(&below, "cgroup.procs"), "4711");
        group.kill().unwrap();
        assert_eq!(read(&below, "cgroup.kill"), "1");
        fs::write(below.join("memory.current"), "4096\n").unwrap();
        fs::write(below.join("memory.events"), "low 0\noom 2\noom_kill 3\n").unwrap();
        assert_eq!(group.memory().unwrap(), Bytes(4096));
        assert_eq!(group.out_of_memory().unwrap(), 3);
        fs::write(below.join("cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
        assert!(!group.is_empty_within(Duration::ZERO).unwrap());
        fs::write(below.join("cgroup.events"), "populated 0\nfrozen 0\n").unwrap();
        assert!(group.is_empty_within(Duration::ZERO).unwrap());
    }

    #[test]
    fn what_is_not_bounded_is_said_to_be_so() {
        let folder = fake("memory pids\n");
        let group = Delegation::at(folder.path()).unwrap().group("a", &Bounds::default()).unwrap();
        assert_eq!(read(&folder.path().join("a"), "memory.max"), "max");
        assert_eq!(read(&folder.path().join("a"), "pids.max"), "max");
        drop(group);
    }

    #[test]
    fn processes_that_are_in_the_way_are_moved_below() {
        let folder = fake("memory pids\n");
        fs::write(folder.path().join("cgroup.procs"), "12\n").unwrap();
        Delegation::at(folder.path()).unwrap();
        assert_eq!(read(&folder.path().join(OWN), "cgroup.procs"), "12");
    }

    #[test]
    fn a_tree_that_is_not_delegated_is_told_with_what_was_found_and_what_to_do() {
        for (controllers, found) in [
            ("memory\n", "no controller `pids` (it has: memory)"),
            ("\n", "no controller `memory`"),
        ] {
            let folder = fake(controllers);
            let error = Delegation::at(folder.path()).unwrap_err().to_string();
            assert!(error.contains(found) && error.contains("Delegate=yes"), "{error}");
        }
        let empty = tempfile::tempdir().unwrap();
        let error = Delegation::at(empty.path()).unwrap_err().to_string();
        assert!(error.contains("no cgroup"), "{error}");
        let folder = fake("memory pids\n");
        fs::remove_file(folder.path().join(SUBTREE)).unwrap();
        let error = Delegation::at(folder.path()).unwrap_err().to_string();
        assert!(error.contains("may not write"), "{error}");
    }

    #[test]
    fn it_is_found_by_what_the_process_is_told_of_itself() {
        let folder = fake("memory pids\n");
        let below = folder.path().join("ksi.service");
        fs::create_dir(&below).unwrap();
        let (mounts, groups) = (folder.path().join("mounts"), folder.path().join("groups"));
        fs::write(&groups, "4:memory:/\n0::/ksi.service\n").unwrap();
        let root = folder.path().display();
        fs::write(&mounts, format!("1 2 0:3 / {root} rw shared:1 - cgroup2 cgroup2 rw\n")).unwrap();
        // What is above it is this user's, who is not everybody's.
        let found = Delegation::found_by(&mounts, &groups, false).unwrap();
        assert_eq!(found.folder, folder.path());
        let error = Delegation::found_by(&mounts, &groups, true).unwrap_err().to_string();
        assert!(error.contains("not marked as delegated"), "{error}");
        // The tree of a container.
        fs::write(&groups, "0::/\n").unwrap();
        let found = Delegation::found_by(&mounts, &groups, true).unwrap();
        assert_eq!(found.folder, folder.path().join(""));
        // It is not there.
        fs::write(&mounts, format!("1 2 0:3 / {root}/ksi.service rw - cgroup2 x rw\n")).unwrap();
        let error = Delegation::found_by(&mounts, &groups, true).unwrap_err().to_string();
        assert!(error.contains("ksi.service") && error.contains("no cgroup"), "{error}");
        fs::write(&mounts, "1 2 0:3 / /x rw - cgroup x rw\n").unwrap();
        let error = Delegation::found_by(&mounts, &groups, false).unwrap_err().to_string();
        assert!(error.contains("no cgroups of version 2"), "{error}");
    }

    #[test]
    fn a_name_leads_nowhere_else() {
        let folder = fake("memory pids\n");
        let delegation = Delegation::at(folder.path()).unwrap();
        for name in ["", "..", "a/b", "memory.max", OWN, &"x".repeat(129)] {
            let error = delegation.group(name, &bounds()).unwrap_err();
            assert!(matches!(error, CgroupError::Name { .. }), "{name}: {error}");
        }
    }
}
