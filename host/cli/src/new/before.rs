//! What was there before a crate was made, to bring that back when it fails.

use std::{
    fs,
    path::{Path, PathBuf},
};

pub(super) struct Before {
    /// The topmost folder that is made.
    missing: PathBuf,
    /// The manifests above, one of which cargo may add a member to.
    manifests: Vec<(PathBuf, Vec<u8>)>,
}

impl Before {
    /// Of the place of a crate, as an absolute path.
    pub(super) fn look(path: &Path) -> Self {
        let missing = path.ancestors().take_while(|it| it.symlink_metadata().is_err()).last();
        let missing = missing.unwrap_or(path).to_owned();
        let manifests = path.ancestors().skip(1).map(|folder| folder.join("Cargo.toml"));
        let manifests = manifests.filter_map(|file| Some((file.clone(), fs::read(file).ok()?)));
        Before { missing, manifests: manifests.collect() }
    }

    /// As far as it can be: what failed before is what there is to tell.
    pub(super) fn bring_back(self) {
        let _ = fs::remove_dir_all(self.missing);
        for (file, bytes) in self.manifests {
            if fs::read(&file).is_ok_and(|now| now != bytes) {
                let _ = fs::write(file, bytes);
            }
        }
    }
}
