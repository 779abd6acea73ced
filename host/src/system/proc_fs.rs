//! Whether there is a `/proc`: in some containers and chroots there is none. The host runs without
//! it, and knows less of itself then. What it asks of its own library's threads and mappings is not
//! taken for the better case where it does not know; threads that only a search of the process
//! would find are not found (docs/leaving-nothing-behind.md).

use std::{
    fs,
    io::{self, ErrorKind},
    path::Path,
};

/// What to do about it.
pub(crate) const ADVICE: &str = "/proc is not mounted here; mount it where the host runs";

/// Whether this process can be looked up in it.
pub(crate) fn is_there() -> bool {
    // Elsewhere than on Linux nobody asks it for anything.
    !cfg!(target_os = "linux") || Path::new("/proc/self/stat").exists()
}

/// The lines of `/proc/self/maps` that are of code. A file whose bytes alone are mapped is no
/// library: whoever prints a backtrace maps the files of all that it goes through, to read names
/// and lines, and keeps them.
pub(crate) fn code(maps: &str) -> impl Iterator<Item = &str> {
    // Address, rights, offset, device, inode, path.
    maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|rights| rights.contains('x')))
}

/// What this says of a thread of this process; nothing if there is no such thread, or no such file
/// on this system.
///
/// # Errors
/// It cannot be read now, for want of a descriptor for instance: that says nothing of the thread.
pub(crate) fn of_thread(thread: u32, file: &str) -> io::Result<Option<String>> {
    match fs::read_to_string(format!("/proc/self/task/{thread}/{file}")) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound || has_ended(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the thread has ended after its file was opened.
fn has_ended(error: &io::Error) -> bool {
    /// Its number is the same wherever there is a `/proc`.
    const ESRCH: i32 = 3;
    cfg!(target_os = "linux") && error.raw_os_error() == Some(ESRCH)
}

/// When the thread of this number began, in ticks since the system was booted, if this process has
/// one.
///
/// # Errors
/// As for [`of_thread`].
pub(crate) fn began(thread: u32) -> io::Result<Option<u64>> {
    let Some(stat) = of_thread(thread, "stat")? else { return Ok(None) };
    let unknown = || io::Error::new(ErrorKind::InvalidData, format!("it does not tell: {stat}"));
    began_by(&stat).map(Some).ok_or_else(unknown)
}

/// When this thread began, in ticks since the system was booted.
pub(crate) fn this_thread_began() -> Option<u64> {
    began_by(&fs::read_to_string("/proc/thread-self/stat").ok()?)
}

/// The 22nd field. The second is a name in brackets, which may contain anything.
fn began_by(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn when_a_thread_began_is_read_past_any_name() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        assert_eq!(began_by(stat), Some(4711));
        assert!(this_thread_began() >= began(std::process::id()).unwrap());
        assert_eq!(began(u32::MAX / 2).unwrap(), None);
    }
}
