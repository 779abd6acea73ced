//! The last snapshot of each plugin's state, in a folder, for the host that starts next.
//!
//! What it promises: a process that ends at any moment, by SIGKILL too, leaves the last complete
//! snapshot behind, and what is loaded is a complete snapshot, byte for byte, or nothing. [`plan`]
//! is how: a snapshot is written beside the one before and takes its name when it is safely on the
//! disk. [`mod@file`] is the format, which tells a complete snapshot from any other bytes;
//! [`folder`] is the folder, which one host at a time uses.
//!
//! The files of a plugin, in the order in which they are looked at:
//!
//! | file | what it is |
//! |---|---|
//! | `NAME.snapshot` | the newest |
//! | `NAME.new` | being written; complete only if a process ended just before it became `NAME.snapshot` |
//! | `NAME.previous` | the last complete one before |
//! | `NAME.good` | the last one that a plugin was restored from, however many newer ones there are |
//! | `NAME.broken` | what was `NAME.snapshot` and is damaged; kept for people, never read, replaced by the next one |
//! | `NAME.aside-1`, `-2`, ... | what was given up for an older one; kept for people, at most [`beside::MAX_ASIDE`] of a plugin |
//!
//! Damage is what falls back to the file before: a file that ends early, goes on too long or has
//! other bytes than were written. Everything else that is wrong with a file (it may not be read, is
//! of another plugin, is larger than the limit, is of another format) is an error and no reason to
//! go back to an older state by itself.
//!
//! Nothing here knows what the bytes mean, or what a plugin is beyond its name. Everything here
//! blocks: call it where blocking is allowed. One call at a time is served, so that of several
//! stores of one plugin the last one stays.

mod beside;
mod error;
mod file;
mod folder;
mod plan;

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::PathBuf,
    time::SystemTime,
};

pub(crate) use beside::Listed;
pub use error::{Damage, KeptStateError, StateDirError};
pub(crate) use plan::SnapshotPlace;

use file::{ReadError, SnapshotHeader};
use folder::StateFolder;
use plan::{SnapshotCheck, StoreStep};

use crate::sync::Lock;

/// The longest name that a plugin may have.
const MAX_NAME: usize = 64;

/// A folder with the last snapshots of plugins; no other host uses it while this value lives.
#[derive(Debug)]
pub(crate) struct StateDir {
    folder: StateFolder,
    /// The largest snapshot, in bytes.
    limit: u64,
    /// Held while files are read or changed.
    one_at_a_time: Lock<()>,
    /// What each plugin's newest file holds, as far as it was loaded or stored. One entry a file.
    last: Lock<BTreeMap<String, NewestSnapshot>>,
    /// Copies that are aside and of which it is not settled whether they stay. One at a time for a
    /// plugin.
    unsettled: Lock<BTreeMap<String, SnapshotPlace>>,
}

/// A snapshot that is to be stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewState<'a> {
    /// The version of the snapshot, as the plugin numbers them.
    pub(crate) version: u32,
    /// The snapshot.
    pub(crate) bytes: &'a [u8],
    /// The version of the plugin that it is of, for people; cut after 128 characters.
    pub(crate) plugin_version: &'a str,
}

/// A snapshot that was loaded: complete, and as it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeptState {
    /// The version of the snapshot, as the plugin numbers them.
    pub(crate) version: u32,
    /// The snapshot.
    pub(crate) bytes: Vec<u8>,
    /// The version of the plugin that it is of, for people.
    pub(crate) plugin_version: String,
    /// When it was stored, in whole milliseconds.
    pub(crate) written: SystemTime,
    /// The file that it comes from.
    pub(crate) path: PathBuf,
    /// Which of the plugin's files that is.
    pub(crate) place: SnapshotPlace,
    /// Why it is not the newest, if it is not.
    pub(crate) fallback: Option<String>,
}

/// What became of a snapshot that was to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    /// It is the newest now.
    Written {
        /// Its length, without the header of the file.
        bytes: u64,
        /// When, in whole milliseconds.
        written: SystemTime,
        /// The version of the snapshot.
        version: u32,
    },
    /// The newest is the same, in bytes and version; nothing was written.
    Unchanged,
}

/// What is known of a plugin's newest snapshot without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NewestSnapshot {
    /// The version of the snapshot.
    pub(crate) version: u32,
    /// Its length, without the header of the file.
    pub(crate) bytes: u64,
    /// When it was stored, in whole milliseconds.
    pub(crate) written: SystemTime,
}

impl StateDir {
    /// Takes the folder for this host, making it for its user alone if it is not there. It may be a
    /// symbolic link.
    ///
    /// Snapshots of more than `limit` bytes are neither stored nor loaded.
    ///
    /// # Errors
    /// Says at which step it failed; [`StateDirError::InUse`] while another host has it.
    pub(crate) fn open(dir: PathBuf, limit: u64) -> Result<StateDir, StateDirError> {
        Ok(StateDir {
            folder: StateFolder::open(dir)?,
            limit,
            one_at_a_time: Lock::default(),
            last: Lock::default(),
            unsettled: Lock::default(),
        })
    }

    /// The newest complete snapshot of a plugin; none if none was ever stored. Changes nothing in
    /// the folder.
    ///
    /// # Errors
    /// Says which file is the obstacle and why. [`KeptStateError::NothingComplete`] if there are
    /// snapshots, all damaged.
    #[cfg(test)]
    fn load(&self, plugin: &str) -> Result<Option<KeptState>, KeptStateError> {
        self.load_beyond(plugin, &[])
    }

    /// The newest complete snapshot of a plugin beyond those that were `tried`; none if none was
    /// ever stored. Changes nothing in the folder.
    ///
    /// # Errors
    /// Says which file is the obstacle and why. [`KeptStateError::NothingComplete`] if there are
    /// snapshots, all damaged.
    pub(crate) fn load_beyond(
        &self,
        plugin: &str,
        tried: &[SnapshotPlace],
    ) -> Result<Option<KeptState>, KeptStateError> {
        check_name(plugin)?;
        let _alone = self.one_at_a_time.lock();
        let mut damaged = Vec::new();
        let mut fallback = None;
        let places = [
            SnapshotPlace::Snapshot,
            SnapshotPlace::New,
            SnapshotPlace::Previous,
            SnapshotPlace::Good,
        ];
        for place in places.into_iter().filter(|place| !tried.contains(place)) {
            let mut bytes = Vec::new();
            match self.read(plugin, place, &mut bytes)? {
                SnapshotCheck::Complete(header) => {
                    self.remember(plugin, &header);
                    // Complete under this name, it is the newest: all that is left to do is to
                    // rename it.
                    let newest = place == SnapshotPlace::New && damaged.is_empty();
                    return Ok(Some(KeptState {
                        version: header.version,
                        bytes,
                        plugin_version: header.plugin_version,
                        written: header.written,
                        path: self.path(plugin, place),
                        place,
                        fallback: fallback.filter(|_| !newest),
                    }));
                }
                // A process ended while it wrote this one, which was never complete: nothing is
                // lost.
                SnapshotCheck::Damaged(_) if place == SnapshotPlace::New => {}
                SnapshotCheck::Damaged(damage) => {
                    let path = self.path(plugin, place);
                    fallback
                        .get_or_insert_with(|| format!("{} is damaged: {damage}", path.display()));
                    damaged.push((path, damage));
                }
                SnapshotCheck::Absent => {
                    let path = self.path(plugin, place);
                    fallback.get_or_insert_with(|| format!("{} is not there", path.display()));
                }
            }
        }
        if damaged.is_empty() {
            return Ok(None);
        }
        Err(KeptStateError::NothingComplete { plugin: plugin.to_owned(), damaged })
    }

    /// Makes `state` the newest snapshot of a plugin, and the newest until now the previous one.
    ///
    /// On the disk when this returns. A newest one that is damaged is kept aside instead, and the
    /// previous one stays.
    ///
    /// # Errors
    /// Says at which step it failed. Whatever was complete before is there still.
    pub(crate) fn store(
        &self,
        plugin: &str,
        state: &NewState<'_>,
    ) -> Result<Stored, KeptStateError> {
        check_name(plugin)?;
        let found = state.bytes.len() as u64;
        if found > self.limit {
            let plugin = plugin.to_owned();
            return Err(KeptStateError::TooLargeToStore { plugin, found, limit: self.limit });
        }
        let _alone = self.one_at_a_time.lock();
        let header = SnapshotHeader::of(plugin, state, SystemTime::now());
        let (steps, written) = self.steps(plugin, &header)?;
        for step in steps {
            self.perform(plugin, step, &header, state.bytes)?;
        }
        self.remember(plugin, written.as_ref().unwrap_or(&header));
        Ok(match written {
            Some(_) => Stored::Unchanged,
            None => Stored::Written {
                bytes: header.bytes,
                written: header.written,
                version: header.version,
            },
        })
    }

    /// What was last stored or loaded of a plugin; none if nothing was since the folder was opened.
    /// Reads no file.
    pub(crate) fn last(&self, plugin: &str) -> Option<NewestSnapshot> {
        self.last.lock().get(plugin).copied()
    }

    /// What it takes to store what `header` describes, and the header of the newest if that is the
    /// same already.
    fn steps(
        &self,
        plugin: &str,
        header: &SnapshotHeader,
    ) -> Result<(Vec<StoreStep>, Option<SnapshotHeader>), KeptStateError> {
        let current = self.read(plugin, SnapshotPlace::Snapshot, &mut io::sink())?;
        let left = match current {
            SnapshotCheck::Complete(_) => SnapshotCheck::Absent,
            _ => self.read(plugin, SnapshotPlace::New, &mut io::sink())?,
        };
        Ok(plan::steps(current, left, header))
    }

    fn perform(
        &self,
        plugin: &str,
        step: StoreStep,
        header: &SnapshotHeader,
        bytes: &[u8],
    ) -> Result<(), KeptStateError> {
        let path = |place| self.path(plugin, place);
        match step {
            StoreStep::RemoveNew => {
                self.folder.remove(&SnapshotPlace::New.file_name(plugin)).map_err(|source| {
                    KeptStateError::RemoveNew { path: path(SnapshotPlace::New), source }
                })
            }
            StoreStep::WriteNew => self.write_new(plugin, header, bytes),
            StoreStep::SyncNew => self
                .folder
                .open_file(&SnapshotPlace::New.file_name(plugin))
                .and_then(|file| file.sync_all())
                .map_err(|source| KeptStateError::SyncNew {
                    path: path(SnapshotPlace::New),
                    source,
                }),
            StoreStep::Rename { from, to } => {
                self.folder.rename(&from.file_name(plugin), &to.file_name(plugin)).map_err(
                    |source| KeptStateError::Rename { from: path(from), to: path(to), source },
                )
            }
            StoreStep::SyncFolder => self.folder.sync().map_err(|source| {
                KeptStateError::SyncFolder { dir: self.folder.path().to_owned(), source }
            }),
        }
    }

    fn write_new(
        &self,
        plugin: &str,
        header: &SnapshotHeader,
        bytes: &[u8],
    ) -> Result<(), KeptStateError> {
        self.write(plugin, SnapshotPlace::New, header, bytes)
    }

    /// Writes a file that is not there, whole or not at all, and waits until it is on the disk.
    fn write(
        &self,
        plugin: &str,
        place: SnapshotPlace,
        header: &SnapshotHeader,
        bytes: &[u8],
    ) -> Result<(), KeptStateError> {
        let (name, path) = (place.file_name(plugin), self.path(plugin, place));
        let mut file = match self.folder.create(&name) {
            Ok(file) => file,
            Err(source) => return Err(KeptStateError::CreateNew { path, source }),
        };
        let line = header.line();
        let written = file.write_all(line.as_bytes()).and_then(|()| file.write_all(bytes));
        // Through the same open file: another one need not hear of what went wrong with this one.
        written.and_then(|()| file.sync_all()).map_err(|source| {
            // On a full disk, half a snapshot is of no use to anybody.
            let _ = self.folder.remove(&name);
            KeptStateError::WriteNew { path, source }
        })
    }

    /// Reads the file at `place`, its content into `content`.
    fn read(
        &self,
        plugin: &str,
        place: SnapshotPlace,
        content: &mut impl Write,
    ) -> Result<SnapshotCheck, KeptStateError> {
        let path = || self.path(plugin, place);
        let file = match self.folder.open_file(&place.file_name(plugin)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(SnapshotCheck::Absent);
            }
            Err(source) => return Err(KeptStateError::open(path(), source)),
        };
        let kind = file.metadata().map_err(|source| KeptStateError::open(path(), source))?;
        if !kind.is_file() {
            return Err(KeptStateError::NotRegular { path: path() });
        }
        match file::read(file, plugin, self.limit, content) {
            Ok(header) => Ok(SnapshotCheck::Complete(header)),
            Err(ReadError::Damaged(damage)) => Ok(SnapshotCheck::Damaged(damage)),
            Err(ReadError::Io(source)) => Err(KeptStateError::Read { path: path(), source }),
            Err(ReadError::OtherFormat { found }) => {
                Err(KeptStateError::OtherFormat { path: path(), found, known: file::FORMAT })
            }
            Err(ReadError::OfAnotherPlugin { found }) => {
                let plugin = plugin.to_owned();
                Err(KeptStateError::OfAnotherPlugin { path: path(), found, plugin })
            }
            Err(ReadError::TooLarge { found }) => {
                Err(KeptStateError::TooLarge { path: path(), found, limit: self.limit })
            }
        }
    }

    fn remember(&self, plugin: &str, header: &SnapshotHeader) {
        let kept = NewestSnapshot {
            version: header.version,
            bytes: header.bytes,
            written: header.written,
        };
        self.last.lock().insert(plugin.to_owned(), kept);
    }

    fn path(&self, plugin: &str, place: SnapshotPlace) -> PathBuf {
        self.folder.path().join(place.file_name(plugin))
    }
}

/// A panic while it is held leaves nothing half done that the files do not recover from. A name
/// becomes part of a path: whatever could lead out of the folder, or to another file in it, is
/// refused.
fn check_name(plugin: &str) -> Result<(), KeptStateError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if (1..=MAX_NAME).contains(&plugin.len()) && plugin.bytes().all(plain) {
        return Ok(());
    }
    let found = plugin.chars().take(2 * MAX_NAME).collect();
    Err(KeptStateError::Name { found })
}

#[cfg(test)]
mod tests;
