//! A bound of memory and of processes for one process and all that it starts, together: cgroups of
//! version 2, where the system gives this user a part of the tree.
//!
//! It is set by whoever starts the process, not by the process itself, which could leave it again
//! until its files are limited. A service manager gives a part of the tree where it is asked to:
//! with systemd, `Delegate=yes` in the unit.
//!
//! The kernel has either processes or bounds for those below in one group. So the host's own group
//! is emptied as soon as something is to be bounded: the processes that are in it are moved to a
//! group below, named `host`, unless the service manager has done so (`DelegateSubgroup=`). A group
//! without bounds needs none of that, and no controllers: it is there to be ended as a whole.
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

mod find;

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::OnceLock,
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
    /// What is to be bounded cannot be, because this part of the tree was not given the controller.
    #[error(
        "`{setting}` cannot be bounded for a group of processes: tried the controller `{controller}` of {}, found {found}; with \
         systemd, Delegate=yes in the unit gives it",
        folder.display()
    )]
    NoController {
        /// What is to be bounded.
        setting: &'static str,
        /// What the kernel bounds it by.
        controller: &'static str,
        /// The part of the tree.
        folder: PathBuf,
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
    /// The controllers that it has.
    has: String,
    /// Whether those that are needed are given on to the groups below, which is done once.
    ready: OnceLock<Result<(), String>>,
}

/// One group below it. Dropped, it is removed, if nothing is in it any more.
#[derive(Debug)]
pub struct Group {
    folder: PathBuf,
    unbounded: Vec<CgroupError>,
}

/// Where the processes go that are in the way.
const OWN: &str = "host";
/// What begins the name of each group that [`Delegation::group`] makes.
const PREFIX: &str = "ksi-";
const MEMORY: &str = "memory";
const PIDS: &str = "pids";
/// Controllers that bound something, with the `+` by which they are switched on for those below.
const CONTROLLERS: [(&str, &str); 2] = [(MEMORY, "+memory"), (PIDS, "+pids")];
/// Only a group that is not the root of the whole tree has it.
const KILL: &str = "cgroup.kill";

impl Delegation {
    /// Takes this folder for the one that is given. Groups that were left over in it, and in which
    /// nothing runs, are removed.
    ///
    /// # Errors
    /// As [`Delegation::find`].
    pub fn at(folder: &Path) -> Result<Self, CgroupError> {
        let has = fs::read_to_string(folder.join("cgroup.controllers"))
            .map_err(|error| not(folder, format!("no cgroup: {error}")))?;
        if !folder.join(KILL).exists() {
            let found = format!("no {KILL}: it is the root of all, or Linux is older than 5.14");
            return Err(not(folder, found));
        }
        if !may_write(folder) {
            return Err(not(folder, "one that this user may not write to".to_owned()));
        }
        let delegation = Self { folder: folder.to_owned(), has, ready: OnceLock::new() };
        delegation.sweep();
        Ok(delegation)
    }

    /// A host that was killed has left its groups.
    fn sweep(&self) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(PREFIX) {
                // It stays if something runs in it.
                let _ = fs::remove_dir(entry.path());
            }
        }
    }

    /// Whether groups below can be bounded by this controller: it is there, and given on to them.
    fn bounds_by(&self, controller: &str) -> Result<(), String> {
        if !self.has.split_whitespace().any(|it| it == controller) {
            return Err(match self.has.trim() {
                "" => "no controllers".to_owned(),
                has => format!("only {has}"),
            });
        }
        self.ready.get_or_init(|| self.make_ready().map_err(|error| with_cause(&error))).clone()
    }

    fn make_ready(&self) -> Result<(), CgroupError> {
        self.empty()?;
        let there = |(controller, _): &(&str, &str)| {
            self.has.split_whitespace().any(|it| it == *controller)
        };
        for (_, on) in CONTROLLERS.into_iter().filter(there) {
            let path = self.folder.join(SUBTREE);
            fs::write(&path, on).map_err(failed("given controllers", &path))?;
        }
        Ok(())
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

    /// Makes a group below, or takes the one of that name that was left over. What it cannot be
    /// bounded in, [`Group::unbounded`] tells.
    ///
    /// # Errors
    /// The name is none of a folder, or a step failed. Nothing is left then.
    pub fn group(&self, name: &str, bounds: &Bounds) -> Result<Group, CgroupError> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        // Names of the kernel's own files have a dot.
        if name.is_empty() || name.len() > 128 || name == OWN || !name.bytes().all(is_name) {
            return Err(CgroupError::Name { name: name.to_owned() });
        }
        let folder = self.folder.join(format!("{PREFIX}{name}"));
        made(&folder)?;
        let mut group = Group { folder, unbounded: Vec::new() };
        let Bounds { memory, processes } = bounds;
        for (setting, controller, file, value) in [
            ("memory", MEMORY, "memory.max", memory.map(|it| it.0)),
            ("processes", PIDS, "pids.max", *processes),
        ] {
            match (value, value.map(|_| self.bounds_by(controller))) {
                (Some(value), Some(Ok(()))) => group.write(file, &value.to_string())?,
                (_, Some(Err(found))) => {
                    let folder = self.folder.clone();
                    let none = CgroupError::NoController { setting, controller, folder, found };
                    group.unbounded.push(none);
                }
                // One that was left over may have had a bound.
                _ if group.folder.join(file).exists() => group.write(file, "max")?,
                _ => {}
            }
        }
        if memory.is_some() && self.bounds_by(MEMORY).is_ok() {
            // One process of a plugin alone does not go on in a sensible way.
            group.write("memory.oom.group", "1")?;
            // No kernel need have swap.
            let _ = group.write("memory.swap.max", "0");
        }
        Ok(group)
    }
}

#[cfg(target_os = "linux")]
const NO_PROCESS: i32 = libc::ESRCH;
#[cfg(not(target_os = "linux"))]
const NO_PROCESS: i32 = 3;

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
        self.write(KILL, "1")
    }

    /// What was to be bounded, and is not.
    pub fn unbounded(&self) -> &[CgroupError] {
        &self.unbounded
    }

    /// Whether nothing runs in it.
    ///
    /// # Errors
    /// The group cannot be read.
    pub fn is_empty(&self) -> Result<bool, CgroupError> {
        Ok(self.read("cgroup.events")?.lines().any(|line| line == "populated 0"))
    }

    /// Waits until nothing runs in it; false if that takes longer.
    ///
    /// # Errors
    /// The group cannot be read.
    pub fn is_empty_within(&self, time: Duration) -> Result<bool, CgroupError> {
        let deadline = Instant::now() + time;
        loop {
            if self.is_empty()? {
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

/// For whoever keeps it as text.
fn with_cause(error: &CgroupError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
