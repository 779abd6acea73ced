//! The files of a run: copies of a few templates, with the marks of each version written into them.
//!
//! Nothing of a file is ever in this process's own memory: what the soak allocates for them would
//! hide what the host does.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use crate::{
    builds::Builds,
    error::SoakError,
    library::{Defect, State},
    roles::Role,
};

/// The templates, in a folder that the host does not watch.
pub(crate) struct Drafts {
    folder: PathBuf,
    builds: Builds,
}

/// Which template a file is made from.
#[derive(Debug, Clone, Copy)]
struct Template {
    role: Role,
    bulk: bool,
    state: State,
}

impl Drafts {
    /// # Errors
    /// The templates cannot be written.
    pub(crate) fn new(folder: PathBuf, builds: Builds) -> Result<Self, SoakError> {
        let drafts = Drafts { folder, builds };
        for role in Role::ALL {
            // All templates of a plugin come within so many turns.
            for template in (0..4).map(|turn| Template::of(role, turn)) {
                let path = drafts.path(template);
                let library = drafts.library(template).cut(role, template.state);
                fs::write(&path, library).map_err(|source| SoakError::File { path, source })?;
            }
        }
        Ok(drafts)
    }

    /// Writes the file number `turn` of a plugin as a draft: this version of it, with a defect.
    /// Blocks.
    pub(crate) fn write(
        &self,
        draft: &Path,
        (role, turn): (Role, usize),
        version: u32,
        defect: Defect,
    ) -> io::Result<()> {
        let template = Template::of(role, turn);
        // A new file each time: the one before may be what the host still reads.
        let _ = fs::remove_file(draft);
        let len = fs::copy(self.path(template), draft)?;
        let file = OpenOptions::new().write(true).open(draft)?;
        for (place, mark) in self.library(template).marks(version, defect) {
            file.write_all_at(mark.as_bytes(), place as u64)?;
        }
        if defect == Defect::Torn {
            let percent = 1 + (u64::from(version) * 37) % 98;
            file.set_len(len / 100 * percent)?;
        }
        Ok(())
    }

    fn library(&self, template: Template) -> &crate::library::Library {
        if template.bulk { &self.builds.bulk } else { &self.builds.plain }
    }

    fn path(&self, Template { role, bulk, state }: Template) -> PathBuf {
        let size = if bulk { "bulk" } else { "plain" };
        self.folder.join(format!("{}-{size}-{state:?}", role.name()))
    }
}

impl Template {
    /// `tokio` is always made from the build with a runtime, and `quick` from the small one; the
    /// others are made from both by turns, and know of one or two versions of their state by turns.
    fn of(role: Role, turn: usize) -> Self {
        let bulk = match role {
            Role::Tokio => true,
            Role::Quick => false,
            _ => !turn.is_multiple_of(2),
        };
        let state = match (role.keeps_state(), (turn / 2).is_multiple_of(2)) {
            (false, _) => State::None,
            (true, true) => State::V1,
            (true, false) => State::V2AndV1,
        };
        Template { role, bulk, state }
    }
}
