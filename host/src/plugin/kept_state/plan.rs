//! In which order files are written and renamed.
//!
//! A process may end between any two steps, and in the middle of writing. What holds at each of these moments: the first
//! of `NAME.snapshot`, `NAME.new` and `NAME.previous` that is complete, which is the one that would be loaded, is the
//! snapshot that was stored last, or the one that was just being stored. What would be loaded at one moment is never
//! given up for something older.
//!
//! Nothing here touches a file.

use super::{error::Damage, file::Header};

/// A file of a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Snapshot,
    New,
    Previous,
    Broken,
}

/// What a file turned out to be.
#[derive(Debug)]
pub(super) enum Found {
    Complete(Header),
    Damaged(Damage),
    Absent,
}

/// Something that happens at once or not at all, but for `WriteNew`: a process that ends in it leaves a `NAME.new`
/// that is not complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Removes `NAME.new`, if it is there.
    RemoveNew,
    /// Creates `NAME.new`, writes the snapshot to it and waits until that is on the disk.
    WriteNew,
    /// Waits until a `NAME.new` that an earlier process wrote is on the disk.
    SyncNew,
    /// Gives a file another name. Whatever has that name goes.
    Rename { from: Place, to: Place },
    /// Waits until the names are on the disk.
    SyncFolder,
}

impl Place {
    /// The file's name. A plugin's name has no dot, so two plugins never share a file.
    pub(super) fn file_name(self, plugin: &str) -> String {
        let kind = match self {
            Place::Snapshot => "snapshot",
            Place::New => "new",
            Place::Previous => "previous",
            Place::Broken => "broken",
        };
        format!("{plugin}.{kind}")
    }
}

/// The steps that make what `new` describes the newest snapshot. With the header of the newest if that has the same
/// content already.
///
/// `current` is what `NAME.snapshot` is, and `left` what `NAME.new` is, which matters if `current` is not complete.
pub(super) fn steps(current: Found, left: Found, new: &Header) -> (Vec<Step>, Option<Header>) {
    let mut steps = Vec::new();
    let current = match (current, left) {
        // An earlier process ended before it could rename what it had written. That comes first: written over, it
        // would be lost if this process ends as well.
        (current @ (Found::Absent | Found::Damaged(_)), Found::Complete(left)) => {
            steps.push(Step::SyncNew);
            replace(&current, &mut steps);
            Found::Complete(left)
        }
        (current, _) => current,
    };
    // Not what would be loaded, now.
    steps.push(Step::RemoveNew);
    match current {
        Found::Complete(header) if header.same_content(new) => {
            // The process that wrote it may have ended before this step.
            steps.push(Step::SyncFolder);
            (steps, Some(header))
        }
        current => {
            steps.push(Step::WriteNew);
            replace(&current, &mut steps);
            (steps, None)
        }
    }
}

/// `NAME.new` becomes `NAME.snapshot`, and what has that name becomes what it is good for.
fn replace(current: &Found, steps: &mut Vec<Step>) {
    let rename = |from, to| Step::Rename { from, to };
    steps.extend(match current {
        Found::Complete(_) => Some(rename(Place::Snapshot, Place::Previous)),
        Found::Damaged(_) => Some(rename(Place::Snapshot, Place::Broken)),
        Found::Absent => None,
    });
    steps.extend([rename(Place::New, Place::Snapshot), Step::SyncFolder]);
}

#[cfg(test)]
mod tests;
