//! Whether there is a `/proc`: in some containers and chroots there is none. The host runs without it, and knows less of
//! itself then; what it does not know is never taken for the better case.

use std::path::Path;

/// What to do about it.
pub(super) const ADVICE: &str = "/proc is not mounted here; mount it where the host runs";

/// Whether this process can be looked up in it.
pub(super) fn is_there() -> bool {
    // Elsewhere than on Linux nobody asks it for anything.
    !cfg!(target_os = "linux") || Path::new("/proc/self/stat").exists()
}

/// The lines of `/proc/self/maps` that are of code. A file whose bytes alone are mapped is no library: whoever prints a
/// backtrace maps the files of all that it goes through, to read names and lines, and keeps them.
pub(super) fn code(maps: &str) -> impl Iterator<Item = &str> {
    // Address, rights, offset, device, inode, path.
    maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|rights| rights.contains('x')))
}
