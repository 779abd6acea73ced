//! Who holds the lock of a file that this process did not get.
//!
//! Mostly another host. But a lock belongs to the open file, and a process that a plugin has
//! forked, and that runs no program of its own, has that file too: the host may be long gone, and
//! nobody finds what keeps its successor away. The kernel tells both: who took the lock, and who
//! has the file open. Files of the host are closed where a program is started (`O_CLOEXEC`), so
//! nothing else can have them.

use std::{
    fmt, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::text::printable::printable;

/// A process that holds the lock of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockHolder {
    /// Its number.
    pub process: u32,
    /// Its name, as `ps` shows it.
    pub name: String,
    /// Who took the lock: itself, or a process that it was forked from.
    pub taken_by: u32,
    /// Whether there is a process of that number still. It may be another one, that has got the
    /// number since.
    pub taker_is_there: bool,
}

impl LockHolder {
    /// The holder of the lock on the file at `path`: the process that took it, if that is there
    /// still, else one that has it from that. `None` where the system does not tell, as of another
    /// user's processes.
    pub fn of(path: &Path) -> Option<Self> {
        let file = fs::metadata(path).ok()?;
        let mut left_behind = None;
        for process in processes() {
            let Some(taken_by) = taken_by(process, (file.dev(), file.ino())) else { continue };
            let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
            let name = name.trim().to_owned();
            let taker_is_there = Path::new(&format!("/proc/{taken_by}")).exists();
            let holder = LockHolder { process, name, taken_by, taker_is_there };
            if !holder.is_left_behind() {
                return Some(holder);
            }
            left_behind.get_or_insert(holder);
        }
        left_behind
    }

    /// The file that a host locks for as long as it serves the socket at `path`.
    pub fn file_beside(path: &Path) -> PathBuf {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        name.into()
    }

    /// Whether it was forked from the process that took the lock, and outlives that.
    pub fn is_left_behind(&self) -> bool {
        self.process != self.taken_by
    }
}

/// A whole sentence without its end.
impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LockHolder { process, name, taken_by, taker_is_there } = self;
        let name = printable(name);
        match self.is_left_behind() {
            false => write!(f, "process {process} (`{name}`) holds its lock"),
            true if *taker_is_there => write!(
                f,
                "process {process} (`{name}`) holds its lock, which process {taken_by} has taken, from which a plugin has \
                 forked it. There is a process {taken_by}: if that is a host, stop it, and in any case end the other one \
                 (`kill {process}`), and start programs with std::process::Command"
            ),
            true => write!(
                f,
                "its host, process {taken_by}, is gone, but process {process} (`{name}`), which a plugin of that has \
                 forked, still holds its lock: end that one (`kill {process}`), and start programs with \
                 std::process::Command"
            ),
        }
    }
}

/// Who uses something that one host alone can use, and what to do: goes on from "is in use".
pub(crate) fn by(holder: Option<&LockHolder>) -> String {
    match holder {
        Some(holder) if holder.is_left_behind() => format!(" still: {holder}"),
        Some(holder) => format!(" by another host ({holder}): stop that one"),
        None => " by another host: stop that one".to_owned(),
    }
}

fn processes() -> impl Iterator<Item = u32> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Who took the lock that this process has on the file, if it has one.
fn taken_by(process: u32, file: (u64, u64)) -> Option<u32> {
    let descriptors = fs::read_dir(format!("/proc/{process}/fd")).ok()?;
    descriptors.flatten().find_map(|entry| {
        let found = fs::metadata(entry.path()).ok()?;
        if (found.dev(), found.ino()) != file {
            return None;
        }
        let info = PathBuf::from(format!("/proc/{process}/fdinfo")).join(entry.file_name());
        holder_in(&fs::read_to_string(info).ok()?)
    })
}

/// Such as `1: FLOCK  ADVISORY  WRITE 4711 08:01:1234 0 EOF`, behind `lock:` and a tab.
fn holder_in(info: &str) -> Option<u32> {
    let locks = info.lines().filter_map(|line| line.strip_prefix("lock:"));
    let mut flocks = locks.filter(|lock| lock.contains("FLOCK"));
    flocks.next()?.split_whitespace().nth(4)?.parse().ok()
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    fn the_lock_of_this_process_is_found_and_a_file_that_is_only_open_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let file = fs::File::create(&path).unwrap();
        assert_eq!(LockHolder::of(&path), None);
        file.try_lock().unwrap();
        let holder = LockHolder::of(&path).expect("it is this process");
        assert_eq!((holder.process, holder.taken_by), (std::process::id(), std::process::id()));
        assert!(!holder.is_left_behind() && !holder.name.is_empty());
        drop(file);
        assert_eq!(LockHolder::of(&path), None);
    }

    #[test]
    fn a_host_is_said_to_be_gone_only_if_it_is() {
        let holder = |taker_is_there| LockHolder {
            process: 7,
            name: "sleep".to_owned(),
            taken_by: 4711,
            taker_is_there,
        };
        let (gone, there) = (holder(false).to_string(), holder(true).to_string());
        assert!(gone.contains("process 4711, is gone"), "{gone}");
        assert!(!there.contains("gone") && there.contains("There is a process 4711"), "{there}");
        assert!(there.contains("`kill 7`"), "{there}");
    }

    #[test]
    fn the_line_of_a_lock_is_read_and_others_are_none() {
        let info =
            "pos:\t0\nflags:\t0100001\nlock:\t1: FLOCK  ADVISORY  WRITE 4711 fe:01:12 0 EOF\n";
        assert_eq!(holder_in(info), Some(4711));
        assert_eq!(holder_in("lock:\t1: POSIX  ADVISORY  WRITE 4711 fe:01:12 0 EOF\n"), None);
        assert_eq!(holder_in("pos:\t0\n"), None);
    }
}
