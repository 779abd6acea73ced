//! One look at a file: enough to see that it is another one, or another content, than last time.

use std::fs::{self, Metadata};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::plugin::file::copy::files;

/// Two writes within one tick of the kernel's clock leave the same times behind; the longest tick
/// in use is 10 ms.
const TICK: Duration = Duration::from_millis(20);

/// What is known of a file without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signature {
    /// Nothing is there.
    Absent,
    /// Something is there, but not to be reached: a link to nothing, a loop of links, a closed
    /// folder.
    Unreachable { error: Option<i32>, inode: u64 },
    /// A file, or what a chain of links leads to.
    Present(Identity),
    /// What no look ever finds: noted in order to have a file sent again, whatever is there.
    Forgotten,
}

/// What changes when a file is replaced or written to, or becomes readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    /// `None` for what is no regular file.
    pub(super) len: Option<u64>,
    modified: Option<(i64, i64)>,
    readable: bool,
    /// Of a folder that is looked at as a whole, what its files and folders are like.
    within: Option<u64>,
}

/// A [`Signature`], and what is needed to judge how far to trust it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) signature: Signature,
    /// When the file's status last changed; nobody can set this time.
    changed: Option<SystemTime>,
    /// When this look was taken.
    at: SystemTime,
}

impl Look {
    /// Looks at `path`, following symbolic links.
    pub(super) fn at(path: &Path) -> Look {
        let at = SystemTime::now();
        match fs::metadata(path) {
            Ok(metadata) => {
                let signature = Signature::Present(identity(path, &metadata));
                Look { signature, changed: status_change(&metadata), at }
            }
            Err(error) => {
                let signature = match fs::symlink_metadata(path) {
                    Ok(link) => {
                        Signature::Unreachable { error: error.raw_os_error(), inode: link.ino() }
                    }
                    Err(_) => Signature::Absent,
                };
                Look { signature, changed: None, at }
            }
        }
    }

    /// What no later look equals.
    pub(super) fn forgotten() -> Look {
        Look { signature: Signature::Forgotten, changed: None, at: UNIX_EPOCH }
    }

    /// Whether the file may have been written to since `earlier`, although the signatures are
    /// equal: its modification time was set back, or it was written to twice within a tick.
    pub(super) fn may_differ_from(&self, earlier: &Look) -> bool {
        let too_fresh = earlier
            .changed
            .is_some_and(|changed| earlier.at.duration_since(changed).unwrap_or_default() < TICK);
        too_fresh || self.changed != earlier.changed
    }
}

fn identity(path: &Path, metadata: &Metadata) -> Identity {
    // Directories and devices change by being used; that they are in the way is told once.
    let is_file = metadata.is_file();
    Identity {
        device: metadata.dev(),
        inode: metadata.ino(),
        len: is_file.then_some(metadata.len()),
        modified: is_file.then_some((metadata.mtime(), metadata.mtime_nsec())),
        readable: rustix::fs::access(path, rustix::fs::Access::READ_OK).is_ok(),
        within: metadata.is_dir().then(|| within(path)),
    }
}

/// What changes when a file in a folder does, of those that are copied with it.
fn within(folder: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    // What is wrong with it is told when it is copied.
    for file in files(folder).unwrap_or_default() {
        let found = fs::symlink_metadata(folder.join(&file)).ok();
        let of = |found: Metadata| (found.ino(), found.len(), found.mtime(), found.mtime_nsec());
        (file, found.map(of)).hash(&mut hasher);
    }
    hasher.finish()
}

fn status_change(metadata: &Metadata) -> Option<SystemTime> {
    let seconds = Duration::from_secs(u64::try_from(metadata.ctime()).ok()?);
    let fraction = Duration::from_nanos(u64::try_from(metadata.ctime_nsec()).ok()?);
    UNIX_EPOCH.checked_add(seconds)?.checked_add(fraction)
}
