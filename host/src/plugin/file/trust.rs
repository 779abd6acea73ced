//! Whether nobody but the host's user and the superuser could have written a plugin file.
//!
//! Code that is loaded can do what the host's user can. So the file is looked at, the folder that
//! is watched, and each folder and link on the way there, as OpenSSH and sudo do with what they
//! trust: whoever may write to one of these can put another file in its place. In a folder above
//! that is sticky, as `/tmp` is, others can't replace what is not theirs. The watched folder itself
//! is no such place, because whatever is put into it is loaded.
//!
//! Owners and modes are looked at, and nothing else: what a security policy or a file server allows
//! is not known here.

use std::{
    collections::{BTreeSet, VecDeque},
    ffi::OsString,
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
};

use thiserror::Error;

use crate::sync::Lock;
use crate::system::ownership::{Stranger, stranger};

/// As many links the system follows as well.
const LINKS: u32 = 40;
/// So many warnings are remembered, so that each comes once.
const TOLD: usize = 256;

/// Somebody else could have written a plugin file, or who could is not known.
#[derive(Debug, Error)]
#[error(transparent)]
pub struct TrustError(Distrust);

#[derive(Debug, Error)]
enum Distrust {
    #[error(
        "{what} {path} {who}, and what is loaded can do all that the host's user (user {user}) can. Give it to that user or \
         the superuser and take the right to write from all others (`chown`, `chmod go-w`), and then `ksi load` the file; or \
         set host.untrusted_plugins to \"warn\"", path = .path.display()
    )]
    Stranger { what: &'static str, path: PathBuf, who: Stranger, user: u32 },
    #[error(
        "{path}, which is on the way to it, cannot be looked at: {source}; so who could have written it is not known. See to \
         it that the host's user (user {user}) may look at every folder and link on that way, and then `ksi load` the file; \
         or set host.untrusted_plugins to \"warn\"", path = .path.display()
    )]
    Unknown { path: PathBuf, source: io::Error, user: u32 },
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnDistrust {
    Refuse,
    Warn,
    Allow,
}

/// What is looked at, and what follows.
pub(crate) struct Trust {
    /// The plugin folders, absolute.
    folders: Vec<PathBuf>,
    policy: OnDistrust,
    user: u32,
    told: Lock<BTreeSet<String>>,
}

impl Trust {
    /// If nobody has decided on a policy, the superuser refuses, and everybody else is warned.
    pub(crate) fn new(folders: &[PathBuf], policy: Option<OnDistrust>) -> Trust {
        let user = rustix::process::geteuid().as_raw();
        let usual = if user == 0 { OnDistrust::Refuse } else { OnDistrust::Warn };
        let absolute = |folder: &PathBuf| std::path::absolute(folder).ok();
        Trust {
            folders: folders.iter().filter_map(absolute).collect(),
            policy: policy.unwrap_or(usual),
            user,
            told: Lock::default(),
        }
    }

    /// Looks at a file that was opened by this path.
    ///
    /// # Errors
    /// Somebody else could have written it, and that is a reason to refuse it.
    pub(crate) fn check(&self, file: &Path, opened: &Metadata) -> Result<(), TrustError> {
        if self.policy == OnDistrust::Allow {
            return Ok(());
        }
        match self.distrust(file, opened) {
            None => Ok(()),
            Some(error) if self.policy == OnDistrust::Refuse => Err(error),
            Some(error) => {
                self.warn(&error);
                Ok(())
            }
        }
    }

    /// What [`check`](Self::check) warns of, for whoever is to be told of it otherwise.
    pub(crate) fn warns_of(&self, file: &Path) -> Option<TrustError> {
        let is_warned = self.policy == OnDistrust::Warn;
        let found = fs::metadata(file).ok().filter(|_| is_warned)?;
        self.distrust(file, &found)
    }

    fn warn(&self, error: &TrustError) {
        let text = error.to_string();
        let mut told = self.told.lock();
        if told.len() >= TOLD {
            told.clear();
        }
        if !told.contains(&text) {
            tracing::warn!("a plugin is loaded all the same: {text}");
            told.insert(text);
        }
    }

    fn distrust(&self, file: &Path, opened: &Metadata) -> Option<TrustError> {
        let user = self.user;
        let found = self
            .strangers(file, opened)
            .unwrap_or_else(|(path, source)| Some(Distrust::Unknown { path, source, user }));
        found.map(TrustError)
    }

    /// Whoever could have written it, or what cannot be looked at.
    fn strangers(&self, file: &Path, opened: &Metadata) -> Result<Option<Distrust>, Unseen> {
        let user = self.user;
        let found = |what, path: &Path, who| {
            Ok(Some(Distrust::Stranger { what, path: path.to_owned(), who, user }))
        };
        if let Some(who) = stranger(opened, user) {
            return found("the file", file, who);
        }
        let watched = file.parent().filter(|folder| self.folders.iter().any(|it| it == folder));
        if let Some(folder) = watched {
            let metadata = fs::metadata(folder).map_err(|error| (folder.to_owned(), error))?;
            if let Some(who) = stranger(&metadata, user) {
                return found("the plugin folder", folder, who);
            }
        }
        match on_the_way(file, user)? {
            Some((what, path, who)) => found(what, &path, who),
            None => Ok(None),
        }
    }
}

/// What cannot be looked at, and why.
type Unseen = (PathBuf, io::Error);

/// Whoever may change where the path leads. That the file is open says nothing of the way: it may
/// be another one by now.
fn on_the_way(path: &Path, user: u32) -> Result<Option<(&'static str, PathBuf, Stranger)>, Unseen> {
    let mut at = PathBuf::from("/");
    let mut rest: VecDeque<OsString> = parts(path).collect();
    let mut links = 0;
    while let Some(part) = rest.pop_front() {
        if part == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&part);
        let found = fs::symlink_metadata(&next).map_err(|error| (next.clone(), error))?;
        if found.is_dir() {
            let sticky = found.mode() & 0o1000 != 0;
            match stranger(&found, user) {
                Some(Stranger::Group { .. } | Stranger::Everybody { .. }) if sticky => {}
                Some(who) => return Ok(Some(("the folder", next, who))),
                None => {}
            }
            at = next;
        } else if found.is_symlink() {
            if let Some(who) = stranger(&found, user) {
                return Ok(Some(("the symbolic link", next, who)));
            }
            links += 1;
            if links > LINKS {
                return Err((next, rustix::io::Errno::LOOP.into()));
            }
            let target = fs::read_link(&next).map_err(|error| (next, error))?;
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            parts(&target).rev().for_each(|part| rest.push_front(part));
        }
        // The file itself was looked at where it is open.
    }
    Ok(None)
}

/// Its segments, without those that stay where one is.
fn parts(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    path.components().filter_map(|part| match part {
        Component::Normal(_) | Component::ParentDir => Some(part.as_os_str().to_owned()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    struct TestFolder(tempfile::TempDir);

    impl TestFolder {
        /// `plugins/a.so`, which nobody else may write to.
        fn new() -> TestFolder {
            let place = TestFolder(tempfile::tempdir().unwrap());
            fs::create_dir(place.at("plugins")).unwrap();
            fs::write(place.at("plugins/a.so"), "").unwrap();
            for path in ["plugins", "plugins/a.so"] {
                place.mode(path, 0o755);
            }
            place
        }

        fn at(&self, path: &str) -> PathBuf {
            self.0.path().join(path)
        }

        fn mode(&self, path: &str, mode: u32) {
            fs::set_permissions(self.at(path), fs::Permissions::from_mode(mode)).unwrap();
        }

        /// What is wrong with a file, if anything is.
        fn distrust(&self, file: &str) -> Option<String> {
            let trust = Trust::new(&[self.at("plugins")], None);
            let file = self.at(file);
            let opened = fs::metadata(&file).unwrap();
            trust.distrust(&file, &opened).map(|error| error.to_string())
        }
    }

    #[track_caller]
    fn names(told: Option<String>, words: &[&str]) {
        let told = told.expect("it is not trusted");
        for word in words {
            assert!(told.contains(word), "{word} is missing: {told}");
        }
    }

    #[test]
    fn a_file_a_watched_folder_or_one_above_that_others_may_write_to_is_named() {
        let place = TestFolder::new();
        assert_eq!(place.distrust("plugins/a.so"), None);
        for (path, what) in
            [("plugins/a.so", "the file"), ("plugins", "the plugin folder"), ("", "the folder")]
        {
            place.mode(path, 0o777);
            let words = [what, "every user", "777", "chmod", "host.untrusted_plugins"];
            names(place.distrust("plugins/a.so"), &words);
            place.mode(path, 0o755);
        }
    }

    #[test]
    fn a_sticky_folder_is_good_enough_above_and_not_where_everything_is_loaded() {
        let place = TestFolder::new();
        place.mode("", 0o1777);
        assert_eq!(place.distrust("plugins/a.so"), None);
        fs::copy(place.at("plugins/a.so"), place.at("b.so")).unwrap();
        assert_eq!(place.distrust("b.so"), None, "one that is asked for by its path");
        place.mode("plugins", 0o1777);
        names(place.distrust("plugins/a.so"), &["the plugin folder"]);
    }

    #[test]
    fn where_links_lead_is_looked_at_on_the_whole_way() {
        let place = TestFolder::new();
        fs::create_dir_all(place.at("store/v1")).unwrap();
        fs::copy(place.at("plugins/a.so"), place.at("store/v1/b.so")).unwrap();
        symlink("v1", place.at("store/current")).unwrap();
        symlink("../store/current/b.so", place.at("plugins/b.so")).unwrap();
        assert_eq!(place.distrust("plugins/b.so"), None);
        for folder in ["store", "store/v1"] {
            place.mode(folder, 0o777);
            names(place.distrust("plugins/b.so"), &["the folder", folder]);
            place.mode(folder, 0o755);
        }
    }

    #[test]
    fn what_belongs_to_another_user_is_named_with_him() {
        let place = TestFolder::new();
        let give = |path: &str, follow: bool| {
            let chown = if follow { std::os::unix::fs::chown } else { std::os::unix::fs::lchown };
            chown(place.at(path), Some(7), None).is_ok()
        };
        if !give("plugins/a.so", true) {
            eprintln!("SKIPPED: only the superuser may give files away");
            return;
        }
        names(place.distrust("plugins/a.so"), &["the file", "belongs to user 7"]);
        fs::write(place.at("plugins/b.so"), "").unwrap();
        symlink("b.so", place.at("plugins/c.so")).unwrap();
        assert!(give("plugins/c.so", false));
        names(place.distrust("plugins/c.so"), &["the symbolic link", "belongs to user 7"]);
        assert_eq!(place.distrust("plugins/b.so"), None);
        assert!(give("plugins", true));
        names(place.distrust("plugins/b.so"), &["the plugin folder", "belongs to user 7"]);
    }

    #[test]
    fn what_cannot_be_looked_at_is_not_trusted() {
        let place = TestFolder::new();
        let opened = fs::metadata(place.at("plugins/a.so")).unwrap();
        fs::create_dir(place.at("other")).unwrap();
        fs::rename(place.at("plugins/a.so"), place.at("other/a.so")).unwrap();
        let link = |number| place.at(&format!("link{number}"));
        symlink("other/a.so", link(0)).unwrap();
        for number in 0..LINKS {
            symlink(link(number), link(number + 1)).unwrap();
        }
        let (refuse, warn) = (OnDistrust::Refuse, OnDistrust::Warn);
        for (file, reason) in [
            (place.at("plugins/a.so"), "No such file"),
            (place.at("other/gone/a.so"), "No such file"),
            (link(LINKS), "symbolic links"),
        ] {
            let trust = |policy| Trust::new(&[place.at("plugins")], Some(policy));
            let error = trust(refuse).check(&file, &opened).unwrap_err().to_string();
            names(Some(error), &["cannot be looked at", reason, "host.untrusted_plugins"]);
            let trust = trust(warn);
            assert!(trust.check(&file, &opened).is_ok());
            assert_eq!(trust.told.lock().len(), 1, "and it is told");
        }
        // The watched folder itself.
        fs::remove_dir(place.at("plugins")).unwrap();
        let trust = Trust::new(&[place.at("plugins")], Some(refuse));
        assert!(trust.check(&place.at("plugins/a.so"), &opened).is_err());
    }

    #[test]
    fn only_a_refusal_refuses_and_a_warning_comes_once() {
        let place = TestFolder::new();
        place.mode("plugins/a.so", 0o777);
        let file = place.at("plugins/a.so");
        let opened = fs::metadata(&file).unwrap();
        let with = |policy| Trust::new(&[place.at("plugins")], Some(policy));
        assert!(with(OnDistrust::Refuse).check(&file, &opened).is_err());
        assert!(with(OnDistrust::Allow).check(&file, &opened).is_ok());
        let trust = with(OnDistrust::Warn);
        assert!(trust.check(&file, &opened).is_ok() && trust.check(&file, &opened).is_ok());
        assert_eq!(trust.told.lock().len(), 1);
    }
}
