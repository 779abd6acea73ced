//! In which order files are written and renamed.
//!
//! A process may end between any two steps, and in the middle of writing. What holds at each of
//! these moments: the first of `NAME.snapshot`, `NAME.new` and `NAME.previous` that is complete,
//! which is the one that would be loaded, is the snapshot that was stored last, or the one that was
//! just being stored. What would be loaded at one moment is never given up for something older.
//!
//! Beside these three lie files that storing a newest one does not touch: `NAME.good`, the last
//! snapshot that a plugin was restored from, and those that were set aside.
//!
//! Nothing here touches a file.

use std::{fmt, str::FromStr};

use super::{error::Damage, file::SnapshotHeader};

/// A file of a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SnapshotPlace {
    Snapshot,
    New,
    Previous,
    /// The last one that a plugin was restored from.
    Good,
    Broken,
    /// Given up for another one, and kept for people.
    Aside(u32),
    /// Being written, to become a good one or one that is aside.
    Beside,
}

/// What people call it.
impl fmt::Display for SnapshotPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SnapshotPlace::Snapshot => "newest",
            SnapshotPlace::New => "unfinished",
            SnapshotPlace::Previous => "previous",
            SnapshotPlace::Good => "good",
            SnapshotPlace::Broken => "broken",
            SnapshotPlace::Beside => "beside",
            SnapshotPlace::Aside(number) => return write!(f, "aside-{number}"),
        })
    }
}

/// Of what people call it.
impl FromStr for SnapshotPlace {
    type Err = ();

    fn from_str(which: &str) -> Result<Self, ()> {
        let fixed = [
            SnapshotPlace::Snapshot,
            SnapshotPlace::New,
            SnapshotPlace::Previous,
            SnapshotPlace::Good,
            SnapshotPlace::Broken,
        ];
        let named = fixed.into_iter().find(|place| place.to_string() == which);
        named.or_else(|| aside(which)).ok_or(())
    }
}

fn aside(which: &str) -> Option<SnapshotPlace> {
    let number: u32 = which.strip_prefix("aside-")?.parse().ok()?;
    let place = SnapshotPlace::Aside(number);
    // No other way to write it.
    (place.to_string() == which).then_some(place)
}

/// What a file turned out to be.
#[derive(Debug)]
pub(super) enum SnapshotCheck {
    Complete(SnapshotHeader),
    Damaged(Damage),
    Absent,
}

/// Something that happens at once or not at all, but for `WriteNew`: a process that ends in it
/// leaves a `NAME.new` that is not complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StoreStep {
    /// Removes `NAME.new`, if it is there.
    RemoveNew,
    /// Creates `NAME.new`, writes the snapshot to it and waits until that is on the disk.
    WriteNew,
    /// Waits until a `NAME.new` that an earlier process wrote is on the disk.
    SyncNew,
    /// Gives a file another name. Whatever has that name goes.
    Rename { from: SnapshotPlace, to: SnapshotPlace },
    /// Waits until the names are on the disk.
    SyncFolder,
}

impl SnapshotPlace {
    /// The file's name. A plugin's name has no dot, so two plugins never share a file.
    pub(super) fn file_name(self, plugin: &str) -> String {
        match self {
            SnapshotPlace::Snapshot => format!("{plugin}.snapshot"),
            SnapshotPlace::New => format!("{plugin}.new"),
            // As people call it.
            other => format!("{plugin}.{other}"),
        }
    }

    /// The plugin and the place of a file of this name.
    pub(super) fn of_file(name: &str) -> Option<(&str, SnapshotPlace)> {
        let (plugin, kind) = name.split_once('.')?;
        let place = match kind {
            "snapshot" => SnapshotPlace::Snapshot,
            "new" => SnapshotPlace::New,
            other => other.parse().ok()?,
        };
        (place.file_name(plugin) == name).then_some((plugin, place))
    }
}

/// The steps that make what `new` describes the newest snapshot. With the header of the newest if
/// that has the same content already.
///
/// `current` is what `NAME.snapshot` is, and `left` what `NAME.new` is, which matters if `current`
/// is not complete.
pub(super) fn steps(
    current: SnapshotCheck,
    left: SnapshotCheck,
    new: &SnapshotHeader,
) -> (Vec<StoreStep>, Option<SnapshotHeader>) {
    let mut steps = Vec::new();
    match finished(current, left, &mut steps) {
        SnapshotCheck::Complete(header) if header.same_content(new) => {
            // The process that wrote it may have ended before this step.
            steps.push(StoreStep::SyncFolder);
            (steps, Some(header))
        }
        current => {
            steps.push(StoreStep::WriteNew);
            replace(&current, &mut steps);
            (steps, None)
        }
    }
}

/// The steps that make what is written the newest snapshot, and set the one until now aside as
/// `aside`.
///
/// `current` is what `NAME.snapshot` is, `None` if it is there and cannot be read, and `left` what
/// `NAME.new` is.
pub(super) fn replacing(
    current: Option<SnapshotCheck>,
    left: SnapshotCheck,
    aside: SnapshotPlace,
) -> Vec<StoreStep> {
    let mut steps = Vec::new();
    let is_there = match current {
        Some(current) => !matches!(finished(current, left, &mut steps), SnapshotCheck::Absent),
        None => {
            steps.push(StoreStep::RemoveNew);
            true
        }
    };
    // A full disk shows here, before any other file has another name. From the first rename on,
    // this is what is loaded.
    steps.push(StoreStep::WriteNew);
    if is_there {
        steps.push(StoreStep::Rename { from: SnapshotPlace::Snapshot, to: aside });
    }
    steps.extend([
        StoreStep::Rename { from: SnapshotPlace::New, to: SnapshotPlace::Snapshot },
        StoreStep::SyncFolder,
    ]);
    steps
}

/// Makes room for a `NAME.new`, and says what `NAME.snapshot` is then.
fn finished(
    current: SnapshotCheck,
    left: SnapshotCheck,
    steps: &mut Vec<StoreStep>,
) -> SnapshotCheck {
    let current = match (current, left) {
        // An earlier process ended before it could rename what it had written. That comes first:
        // written over, it would be lost if this process ends as well.
        (
            current @ (SnapshotCheck::Absent | SnapshotCheck::Damaged(_)),
            SnapshotCheck::Complete(left),
        ) => {
            steps.push(StoreStep::SyncNew);
            replace(&current, steps);
            SnapshotCheck::Complete(left)
        }
        (current, _) => current,
    };
    // Not what would be loaded, now.
    steps.push(StoreStep::RemoveNew);
    current
}

/// `NAME.new` becomes `NAME.snapshot`, and what has that name becomes what it is good for.
fn replace(current: &SnapshotCheck, steps: &mut Vec<StoreStep>) {
    let rename = |from, to| StoreStep::Rename { from, to };
    steps.extend(match current {
        SnapshotCheck::Complete(_) => {
            Some(rename(SnapshotPlace::Snapshot, SnapshotPlace::Previous))
        }
        SnapshotCheck::Damaged(_) => Some(rename(SnapshotPlace::Snapshot, SnapshotPlace::Broken)),
        SnapshotCheck::Absent => None,
    });
    steps.extend([rename(SnapshotPlace::New, SnapshotPlace::Snapshot), StoreStep::SyncFolder]);
}

#[cfg(test)]
mod tests;
