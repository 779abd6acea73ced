//! Why a snapshot is not loaded or stored, in an operator's words.

use std::{fs::TryLockError, io, path::PathBuf};

use thiserror::Error;

use crate::system::lock_holder::{LockHolder, by};

/// The step at which the folder could not be taken.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StateDirError {
    /// It could not be made.
    #[error(
        "the folder {} for snapshots of plugins' state cannot be created: {source}; make the folder above it writable \
         for the host's user, or name another one (state.dir)", dir.display()
    )]
    Create {
        /// The folder.
        dir: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is there, and cannot be used.
    #[error(
        "the folder {} for snapshots of plugins' state cannot be opened: {source}; it has to be a folder that the \
         host's user may read and write", dir.display()
    )]
    Open {
        /// The folder.
        dir: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Anybody may put files into it.
    #[error(
        "the folder {} for snapshots of plugins' state may be written to by every user (its mode is {mode:03o}), and \
         plugins are handed what is in it: `chmod o-w` it, or name another one (state.dir)", dir.display()
    )]
    WritableByAll {
        /// The folder.
        dir: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The lock file could not be opened or made.
    #[error(
        "the lock file {} cannot be opened: {source}; make its folder writable for the host's user, and the file, if \
         it is there, a plain one", path.display()
    )]
    CreateLock {
        /// The lock file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another host has it.
    #[error(
        "the folder {} for snapshots of plugins' state is in use{}. Or give this host a folder of its own (state.dir)",
        dir.display(), by(.holder.as_ref())
    )]
    InUse {
        /// The folder.
        dir: PathBuf,
        /// Who has it, as far as the system tells.
        holder: Option<LockHolder>,
    },
    /// Whether another host has it cannot be told.
    #[error(
        "{} cannot be locked: {source}; name a folder on a local file system (state.dir)",
        path.display()
    )]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What the system says.
        source: TryLockError,
    },
}

/// The step at which a snapshot could not be loaded or stored.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeptStateError {
    /// No plugin has such a name.
    #[error(
        "there are no snapshots of {found:?}: a plugin's name has 1 to 64 letters, digits, `_` and `-` of ASCII"
    )]
    Name {
        /// The beginning of the name.
        found: String,
    },
    /// It is over the limit, and was not stored.
    #[error(
        "the snapshot of {plugin} has {found} bytes, and at most {limit} are stored: the one before stays; let the \
         plugin keep less, or allow more"
    )]
    TooLargeToStore {
        /// The plugin.
        plugin: String,
        /// Length of the snapshot, in bytes.
        found: u64,
        /// The largest one that is stored.
        limit: u64,
    },
    /// It is over the limit, and was not loaded.
    #[error(
        "{} holds a snapshot of {found} bytes, and at most {limit} are loaded: allow more, or move the file away to go \
         on without it", path.display()
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Length of the snapshot, in bytes.
        found: u64,
        /// The largest one that is loaded.
        limit: u64,
    },
    /// A file is there and cannot be opened.
    #[error(
        "{} cannot be opened: {source}; the host's user has to be allowed to read it", path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Something else has the file's name.
    #[error(
        "{} is no regular file (symbolic links are not followed here): move it away", path.display()
    )]
    NotRegular {
        /// What has the name.
        path: PathBuf,
    },
    /// A file could be opened, and not be read to its end.
    #[error(
        "{} cannot be read: {source}; if that lasts, move it away to go on without it", path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another version of the host wrote it.
    #[error(
        "{} is complete, and in format {found}, while this host reads format {known}: run the version of ksi that wrote \
         it, or move the file away to go on without it", path.display()
    )]
    OtherFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The one that is read.
        known: u64,
    },
    /// It was renamed, or names of plugins that differ in case meet on a file system that does not
    /// tell them apart.
    #[error(
        "{} is a snapshot of the plugin {found}, not of {plugin}: move it away, or give it back the name {found}.snapshot",
        path.display()
    )]
    OfAnotherPlugin {
        /// The file.
        path: PathBuf,
        /// The plugin that it is of.
        found: String,
        /// The plugin that was asked for.
        plugin: String,
    },
    /// There are snapshots, and none of them is complete.
    #[error(
        "no complete snapshot of {plugin} is left: {}; put a good copy in place, or `ksi state drop {plugin}` to start \
         empty",
        all(damaged)
    )]
    NothingComplete {
        /// The plugin.
        plugin: String,
        /// The files, the newest first, and what is wrong with each.
        damaged: Vec<(PathBuf, Damage)>,
    },
    /// There is none of this name.
    #[error("nothing of {plugin} is kept as {which:?}: {}", there(plugin, kept))]
    NotThere {
        /// The plugin.
        plugin: String,
        /// What was asked for.
        which: String,
        /// What there is.
        kept: Vec<String>,
    },
    /// One that is there is not as it was written.
    #[error("{} cannot be used: {damage}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        damage: Damage,
    },
    /// The names of the files could not be read.
    #[error("the files in {} cannot be listed: {source}", dir.display())]
    List {
        /// The folder.
        dir: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file could not be removed.
    #[error("{} cannot be removed: {source}; move it away", path.display())]
    Remove {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// What an earlier attempt left could not be removed.
    #[error(
        "{} is left from an earlier attempt and cannot be removed: {source}; move it away", path.display()
    )]
    RemoveNew {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The new file could not be made.
    #[error(
        "{} cannot be created: {source}; its folder has to be there and writable for as long as the host runs",
        path.display()
    )]
    CreateNew {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The new file could not be filled, or not be brought to the disk.
    #[error(
        "{} cannot be written: {source}; the snapshot before stays. Check the space left there", path.display()
    )]
    WriteNew {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A complete file that an earlier process left could not be brought to the disk.
    #[error("{} cannot be brought to the disk: {source}; check the disk", path.display())]
    SyncNew {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file could not get its other name.
    #[error(
        "{} cannot be renamed to {}: {source}; move away what has the second name, if that is no regular file",
        from.display(), to.display()
    )]
    Rename {
        /// The file.
        from: PathBuf,
        /// Its other name.
        to: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The names could not be brought to the disk.
    #[error(
        "the names of the files in {} cannot be brought to the disk: {source}; check the disk", dir.display()
    )]
    SyncFolder {
        /// The folder.
        dir: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// What is wrong with a file that is not as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Damage {
    /// The first line.
    #[error("its first line is not the whole header of a snapshot as it was written")]
    Header,
    /// The number of bytes behind it.
    #[error("{}", length(*expected, *found))]
    Length {
        /// As the header says.
        expected: u64,
        /// As there are; one more stands for any number more.
        found: u64,
    },
    /// The bytes behind it.
    #[error("its bytes are not those that were written (their checksum is another)")]
    Content,
}

impl KeptStateError {
    /// The failure to open `path` without following a link.
    pub(super) fn open(path: PathBuf, source: io::Error) -> KeptStateError {
        if source.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
            return KeptStateError::NotRegular { path };
        }
        KeptStateError::Open { path, source }
    }
}

fn length(expected: u64, found: u64) -> String {
    if found < expected {
        format!("it ends after {found} of the {expected} bytes of the snapshot")
    } else {
        format!("it goes on after the {expected} bytes of the snapshot")
    }
}

fn there(plugin: &str, kept: &[String]) -> String {
    match kept {
        [] => "there is none of it; `ksi state list` shows of which plugins there is".to_owned(),
        kept => format!("there is {}; `ksi state list {plugin}` tells more", kept.join(", ")),
    }
}

fn all(damaged: &[(PathBuf, Damage)]) -> String {
    let each = damaged.iter().map(|(path, damage)| format!("{} ({damage})", path.display()));
    each.collect::<Vec<_>>().join(", ")
}
