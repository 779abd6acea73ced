//! What is kept beside the newest snapshots: the one that a plugin was last restored from, and
//! those that were given up for another one. And what people do with any of them.
//!
//! A file comes here whole, by its name: it is written beside the others first. So a process that
//! ends at any moment leaves what was there, and at most a `NAME.beside`, which the next one
//! removes. What is to be the newest is written as `NAME.new`, which takes the place of a newest
//! one that is not there, so that there always is one.

use std::{io, path::PathBuf, time::SystemTime};

use super::{
    KeptState, KeptStateError, NewState, SnapshotPlace, StateDir, check_name,
    file::SnapshotHeader,
    plan::{self, SnapshotCheck, StoreStep},
};

/// How many snapshots of a plugin are kept aside; beyond it, the first of them go.
pub(super) const MAX_ASIDE: usize = 8;

/// A file with a snapshot, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) plugin: String,
    pub(crate) place: SnapshotPlace,
    pub(crate) path: PathBuf,
    /// What its header says, or why it cannot be used.
    pub(crate) content: Result<SnapshotRef, String>,
}

/// What is known of a snapshot without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SnapshotRef {
    pub(crate) version: u32,
    pub(crate) plugin_version: String,
    pub(crate) bytes: u64,
    pub(crate) written: SystemTime,
    /// Of two with the same content, this is the same.
    pub(crate) hash: String,
}

impl StateDir {
    /// Every file with a snapshot, of one plugin or of all, by plugin; the newest first, those
    /// aside last.
    ///
    /// # Errors
    /// The folder cannot be read. What is wrong with a file is said of that file.
    pub(crate) fn list(&self, plugin: Option<&str>) -> Result<Vec<Listed>, KeptStateError> {
        let _alone = self.one_at_a_time.lock();
        let mut found: Vec<Listed> = Vec::new();
        for name in self.names()? {
            let Some((owner, place)) = SnapshotPlace::of_file(&name) else { continue };
            let hidden = place == SnapshotPlace::Beside || check_name(owner).is_err();
            if hidden || plugin.is_some_and(|plugin| plugin != owner) {
                continue;
            }
            let content = match self.read(owner, place, &mut io::sink()) {
                Ok(SnapshotCheck::Complete(header)) => Ok(SnapshotRef {
                    version: header.version,
                    plugin_version: header.plugin_version,
                    bytes: header.bytes,
                    written: header.written,
                    hash: header.hash.to_hex().to_string(),
                }),
                Ok(SnapshotCheck::Damaged(damage)) => Err(damage.to_string()),
                Ok(SnapshotCheck::Absent) => continue,
                Err(error) => Err(error.to_string()),
            };
            let (plugin, path) = (owner.to_owned(), self.path(owner, place));
            found.push(Listed { plugin, place, path, content });
        }
        found.sort_by(|a, b| (&a.plugin, order(a.place)).cmp(&(&b.plugin, order(b.place))));
        Ok(found)
    }

    /// One snapshot of a plugin.
    ///
    /// # Errors
    /// It is not there, or cannot be used.
    pub(crate) fn load_from(
        &self,
        plugin: &str,
        place: SnapshotPlace,
    ) -> Result<KeptState, KeptStateError> {
        check_name(plugin)?;
        let _alone = self.one_at_a_time.lock();
        let (mut bytes, path) = (Vec::new(), self.path(plugin, place));
        match self.read(plugin, place, &mut bytes)? {
            SnapshotCheck::Complete(SnapshotHeader {
                version, plugin_version, written, ..
            }) => Ok(KeptState {
                version,
                bytes,
                plugin_version,
                written,
                path,
                place,
                fallback: None,
            }),
            SnapshotCheck::Damaged(damage) => Err(KeptStateError::Damaged { path, damage }),
            SnapshotCheck::Absent => Err(self.not_there(plugin, place)),
        }
    }

    /// A plugin was restored from this: it stays, however many newer ones are stored.
    ///
    /// # Errors
    /// Says at which step it failed. The good one before is there still.
    pub(crate) fn store_good(
        &self,
        plugin: &str,
        state: &NewState<'_>,
    ) -> Result<(), KeptStateError> {
        check_name(plugin)?;
        let _alone = self.one_at_a_time.lock();
        let header = SnapshotHeader::of(plugin, state, SystemTime::now());
        let same = |found| matches!(found, SnapshotCheck::Complete(it) if it.same_content(&header));
        if same(self.read(plugin, SnapshotPlace::Good, &mut io::sink())?) {
            return Ok(());
        }
        self.remove_file(plugin, SnapshotPlace::Beside)?;
        // Written once more, and no second name of the newest: what damages one of them spares the
        // other.
        self.write(plugin, SnapshotPlace::Beside, &header, state.bytes)?;
        self.rename(plugin, SnapshotPlace::Beside, SnapshotPlace::Good)
    }

    /// Keeps a snapshot for people that nothing is started from by itself. Which one it is.
    ///
    /// # Errors
    /// Says at which step it failed.
    pub(crate) fn store_aside(
        &self,
        plugin: &str,
        state: &NewState<'_>,
    ) -> Result<SnapshotPlace, KeptStateError> {
        check_name(plugin)?;
        let _alone = self.one_at_a_time.lock();
        self.remove_file(plugin, SnapshotPlace::Beside)?;
        let header = SnapshotHeader::of(plugin, state, SystemTime::now());
        self.write(plugin, SnapshotPlace::Beside, &header, state.bytes)?;
        self.rename_aside(plugin, SnapshotPlace::Beside)
    }

    /// The same with one that is kept already, if it is there, whatever it is.
    ///
    /// # Errors
    /// Says at which step it failed.
    pub(crate) fn set_aside(
        &self,
        plugin: &str,
        place: SnapshotPlace,
    ) -> Result<Option<SnapshotPlace>, KeptStateError> {
        check_name(plugin)?;
        let _alone = self.one_at_a_time.lock();
        match self.names()?.contains(&place.file_name(plugin)) {
            true => self.rename_aside(plugin, place).map(Some),
            false => Ok(None),
        }
    }

    /// Keeps a copy of the newest one aside, until [`settle_copy`](Self::settle_copy) says whether
    /// it stays. Which one it is. No other one goes for it before.
    ///
    /// # Errors
    /// There is no newest one that is complete, or it says at which step it failed.
    pub(crate) fn copy_aside(&self, plugin: &str) -> Result<SnapshotPlace, KeptStateError> {
        check_name(plugin)?;
        let _alone = self.one_at_a_time.lock();
        let (mut bytes, path) = (Vec::new(), self.path(plugin, SnapshotPlace::Snapshot));
        let header = match self.read(plugin, SnapshotPlace::Snapshot, &mut bytes)? {
            SnapshotCheck::Complete(header) => header,
            SnapshotCheck::Damaged(damage) => return Err(KeptStateError::Damaged { path, damage }),
            SnapshotCheck::Absent => return Err(self.not_there(plugin, SnapshotPlace::Snapshot)),
        };
        self.remove_file(plugin, SnapshotPlace::Beside)?;
        self.write(plugin, SnapshotPlace::Beside, &header, &bytes)?;
        let aside = self.next_aside(plugin)?;
        self.rename(plugin, SnapshotPlace::Beside, aside)?;
        self.unsettled.lock().insert(plugin.to_owned(), aside);
        Ok(aside)
    }

    /// Keeps a copy that was made by [`copy_aside`](Self::copy_aside), or removes it.
    ///
    /// # Errors
    /// It cannot be removed, or the first ones cannot, which go for it.
    pub(crate) fn settle_copy(
        &self,
        plugin: &str,
        copy: SnapshotPlace,
        stays: bool,
    ) -> Result<(), KeptStateError> {
        check_name(plugin)?;
        let _alone = self.one_at_a_time.lock();
        self.unsettled.lock().remove(plugin);
        match stays {
            true => self.forget_excess(plugin),
            false => {
                self.remove_file(plugin, copy)?;
                self.sync_names()
            }
        }
    }

    /// Makes this the newest one, and sets the newest until now aside, whatever it is. Which one
    /// that is then, if there was one.
    ///
    /// # Errors
    /// Says at which step it failed. The newest one is what it was.
    pub(crate) fn replace_newest(
        &self,
        plugin: &str,
        state: &NewState<'_>,
    ) -> Result<Option<SnapshotPlace>, KeptStateError> {
        check_name(plugin)?;
        let _alone = self.one_at_a_time.lock();
        let header = SnapshotHeader::of(plugin, state, SystemTime::now());
        let aside = self.next_aside(plugin)?;
        let steps = self.replacing(plugin, aside)?;
        for (number, step) in steps.iter().enumerate() {
            if let Err(error) = self.perform(plugin, *step, &header, state.bytes) {
                self.undo(plugin, &steps[..number], aside)?;
                return Err(error);
            }
        }
        self.remember(plugin, &header);
        let set_aside = steps.iter().any(|step| is_to(*step, aside));
        if set_aside {
            self.forget_excess(plugin)?;
        }
        Ok(set_aside.then_some(aside))
    }

    /// The steps of [`replace_newest`](Self::replace_newest).
    pub(super) fn replacing(
        &self,
        plugin: &str,
        aside: SnapshotPlace,
    ) -> Result<Vec<StoreStep>, KeptStateError> {
        let current = match self.read(plugin, SnapshotPlace::Snapshot, &mut io::sink()) {
            Ok(current) => current,
            // Whatever it is, it is set aside.
            Err(_) => return Ok(plan::replacing(None, SnapshotCheck::Absent, aside)),
        };
        let left = match current {
            SnapshotCheck::Complete(_) => SnapshotCheck::Absent,
            _ => self.read(plugin, SnapshotPlace::New, &mut io::sink())?,
        };
        Ok(plan::replacing(Some(current), left, aside))
    }

    /// Gives the newest its name back, if it has lost it, and removes what was to take its place.
    fn undo(
        &self,
        plugin: &str,
        done: &[StoreStep],
        aside: SnapshotPlace,
    ) -> Result<(), KeptStateError> {
        if done.iter().any(|step| is_to(*step, aside)) {
            self.rename(plugin, aside, SnapshotPlace::Snapshot)?;
        }
        if done.contains(&StoreStep::WriteNew) {
            self.remove_file(plugin, SnapshotPlace::New)?;
        }
        Ok(())
    }

    /// Removes one. Whether it was there.
    ///
    /// # Errors
    /// It cannot be removed.
    pub(crate) fn remove(
        &self,
        plugin: &str,
        place: SnapshotPlace,
    ) -> Result<bool, KeptStateError> {
        check_name(plugin)?;
        let _alone = self.one_at_a_time.lock();
        let name = place.file_name(plugin);
        if !self.names()?.contains(&name) {
            return Ok(false);
        }
        self.remove_file(plugin, place)?;
        self.sync_names()?;
        if place == SnapshotPlace::Snapshot {
            self.last.lock().remove(plugin);
        }
        Ok(true)
    }

    /// What people are told of one that is not there.
    fn not_there(&self, plugin: &str, place: SnapshotPlace) -> KeptStateError {
        let mut kept = self.places(plugin).unwrap_or_default();
        kept.retain(|place| *place != SnapshotPlace::Beside);
        kept.sort_by_key(|place| order(*place));
        KeptStateError::NotThere {
            plugin: plugin.to_owned(),
            which: place.to_string(),
            kept: kept.iter().map(SnapshotPlace::to_string).collect(),
        }
    }

    fn rename_aside(
        &self,
        plugin: &str,
        from: SnapshotPlace,
    ) -> Result<SnapshotPlace, KeptStateError> {
        let aside = self.next_aside(plugin)?;
        self.rename(plugin, from, aside)?;
        self.forget_excess(plugin)?;
        if from == SnapshotPlace::Snapshot {
            self.last.lock().remove(plugin);
        }
        Ok(aside)
    }

    /// Those that are aside, the oldest first.
    fn aside(&self, plugin: &str) -> Result<Vec<u32>, KeptStateError> {
        let mut numbers: Vec<u32> = self.places(plugin)?.into_iter().filter_map(number).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    pub(super) fn next_aside(&self, plugin: &str) -> Result<SnapshotPlace, KeptStateError> {
        let last = self.aside(plugin)?.last().copied();
        Ok(SnapshotPlace::Aside(last.map_or(1, |last| last.saturating_add(1))))
    }

    fn forget_excess(&self, plugin: &str) -> Result<(), KeptStateError> {
        let mut numbers = self.aside(plugin)?;
        let unsettled = self.unsettled.lock().get(plugin).copied();
        numbers.retain(|number| Some(SnapshotPlace::Aside(*number)) != unsettled);
        let excess = numbers.len().saturating_sub(MAX_ASIDE);
        for number in numbers.into_iter().take(excess) {
            let path = self.path(plugin, SnapshotPlace::Aside(number));
            tracing::warn!(
                plugin,
                "{} goes: at most {MAX_ASIDE} snapshots of a plugin are kept aside",
                path.display()
            );
            self.remove_file(plugin, SnapshotPlace::Aside(number))?;
        }
        Ok(())
    }

    fn rename(
        &self,
        plugin: &str,
        from: SnapshotPlace,
        to: SnapshotPlace,
    ) -> Result<(), KeptStateError> {
        let renamed = self.folder.rename(&from.file_name(plugin), &to.file_name(plugin));
        renamed.map_err(|source| KeptStateError::Rename {
            from: self.path(plugin, from),
            to: self.path(plugin, to),
            source,
        })?;
        self.sync_names()
    }

    fn remove_file(&self, plugin: &str, place: SnapshotPlace) -> Result<(), KeptStateError> {
        let removed = self.folder.remove(&place.file_name(plugin));
        removed.map_err(|source| KeptStateError::Remove { path: self.path(plugin, place), source })
    }

    fn sync_names(&self) -> Result<(), KeptStateError> {
        let dir = || self.folder.path().to_owned();
        self.folder.sync().map_err(|source| KeptStateError::SyncFolder { dir: dir(), source })
    }

    fn names(&self) -> Result<Vec<String>, KeptStateError> {
        let dir = || self.folder.path().to_owned();
        self.folder.names().map_err(|source| KeptStateError::List { dir: dir(), source })
    }

    fn places(&self, plugin: &str) -> Result<Vec<SnapshotPlace>, KeptStateError> {
        let names = self.names()?;
        let files = names.iter().filter_map(|name| SnapshotPlace::of_file(name));
        Ok(files.filter(|(owner, _)| *owner == plugin).map(|(_, place)| place).collect())
    }
}

fn is_to(step: StoreStep, place: SnapshotPlace) -> bool {
    matches!(step, StoreStep::Rename { to, .. } if to == place)
}

fn number(place: SnapshotPlace) -> Option<u32> {
    match place {
        SnapshotPlace::Aside(number) => Some(number),
        _ => None,
    }
}

/// In which they are listed.
fn order(place: SnapshotPlace) -> (u8, u32) {
    match place {
        SnapshotPlace::Snapshot => (0, 0),
        SnapshotPlace::New => (1, 0),
        SnapshotPlace::Previous => (2, 0),
        SnapshotPlace::Good => (3, 0),
        SnapshotPlace::Broken => (4, 0),
        SnapshotPlace::Beside => (5, 0),
        SnapshotPlace::Aside(number) => (6, number),
    }
}

#[cfg(test)]
mod tests;
