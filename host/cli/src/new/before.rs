//! What was there before a crate was made, to bring that back when it fails.
//!
//! Others may make crates in the same workspace meanwhile. What is theirs stays: a folder goes
//! when nothing is in it, and of a manifest the own member alone.

use std::{
    fs,
    ops::Range,
    path::{Component, Path, PathBuf},
};

use serde::Deserialize;
use toml::{Spanned, Table, Value};

pub(super) struct Before {
    /// Where the crate is made.
    path: PathBuf,
    /// The folders above it that are made, from the innermost one on.
    missing: Vec<PathBuf>,
    /// The manifests above, one of which cargo may add a member to.
    manifests: Vec<(PathBuf, String)>,
}

impl Before {
    /// Of the place of a crate, as an absolute path.
    pub(super) fn look(path: &Path) -> Self {
        let above = || path.ancestors().skip(1);
        let missing = above().take_while(|it| it.symlink_metadata().is_err());
        let manifests = above().map(|folder| folder.join("Cargo.toml"));
        let manifests =
            manifests.filter_map(|file| Some((file.clone(), fs::read_to_string(file).ok()?)));
        Before {
            path: path.to_owned(),
            missing: missing.map(Path::to_owned).collect(),
            manifests: manifests.collect(),
        }
    }

    /// As far as it can be: what failed before is what there is to tell.
    pub(super) fn bring_back(self) {
        // While the folder is there: a workspace without the folder of a member is broken.
        for (file, before) in &self.manifests {
            let now = fs::read_to_string(file).ok().filter(|now| now != before);
            if let Some(text) = now.and_then(|now| without_member(file, before, &now, &self.path)) {
                let _ = fs::write(file, text);
            }
        }
        let _ = fs::remove_dir_all(&self.path);
        self.remove_empty();
    }

    /// The same where the crate's own folder was not made.
    pub(super) fn remove_empty(&self) {
        for folder in &self.missing {
            // It is not empty if somebody else has something in it by now.
            let _ = fs::remove_dir(folder);
        }
    }
}

/// A manifest without what cargo has added to it for a crate; none if that is nothing.
fn without_member(file: &Path, before: &str, now: &str, path: &Path) -> Option<String> {
    let (folder, members) = (file.parent()?, members(now)?);
    let at = members.iter().position(|it| is_at(folder, it.get_ref(), path))?;
    let own = members[at].get_ref();
    let mut then: Table = before.parse().ok()?;
    if list(&mut then).is_some_and(|all| all.iter().any(|it| it.as_str() == Some(own))) {
        return None;
    }
    let mut left: Table = now.parse().ok()?;
    list(&mut left)?.retain(|it| it.as_str() != Some(own));
    if without_empty_list(left.clone()) == without_empty_list(then) {
        return Some(before.to_owned());
    }
    let mut text = now.to_owned();
    text.replace_range(range(&members, at, now), "");
    // A comment may stand where it is not expected.
    (text.parse::<Table>().ok()? == left).then_some(text)
}

/// Where a member stands, with the comma that divides it from its neighbour.
fn range(members: &[Spanned<String>], at: usize, text: &str) -> Range<usize> {
    let own = members[at].span();
    match (at.checked_sub(1), members.get(at + 1)) {
        (_, Some(next)) => own.start..next.span().start,
        (Some(before), None) => members[before].span().end..own.end,
        (None, None) => {
            let rest = &text[own.end..];
            let comma = rest.trim_start().starts_with(',').then(|| rest.find(',')).flatten();
            own.start..own.end + comma.map_or(0, |comma| comma + 1)
        }
    }
}

fn members(manifest: &str) -> Option<Vec<Spanned<String>>> {
    #[derive(Deserialize)]
    struct Manifest {
        workspace: Workspace,
    }
    #[derive(Deserialize)]
    struct Workspace {
        members: Vec<Spanned<String>>,
    }
    Some(toml::from_str::<Manifest>(manifest).ok()?.workspace.members)
}

fn list(manifest: &mut Table) -> Option<&mut Vec<Value>> {
    manifest.get_mut("workspace")?.get_mut("members")?.as_array_mut()
}

/// Cargo makes a list where there was none.
fn without_empty_list(mut manifest: Table) -> Table {
    if list(&mut manifest).is_some_and(|all| all.is_empty())
        && let Some(workspace) = manifest.get_mut("workspace").and_then(Value::as_table_mut)
    {
        workspace.remove("members");
    }
    manifest
}

/// Whether a member of a workspace in this folder is the crate at the path.
fn is_at(folder: &Path, member: &str, path: &Path) -> bool {
    let whole = |path: &Path| {
        fs::canonicalize(path)
            .unwrap_or_else(|_| path.components().filter(|it| *it != Component::CurDir).collect())
    };
    whole(&folder.join(member)) == whole(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "[workspace]\nresolver = '3'\nmembers = [ ]  # none yet\n";

    /// What `cargo new` does.
    fn make(root: &Path, name: &str, manifest: &str) {
        fs::create_dir_all(root.join("plugins").join(name).join("src")).expect("a folder");
        fs::write(root.join("Cargo.toml"), manifest).expect("written");
    }

    #[test]
    fn what_another_one_has_made_meanwhile_stays() {
        let root = tempfile::tempdir().expect("a folder");
        let root = root.path();
        fs::write(root.join("Cargo.toml"), EMPTY).expect("written");
        let (a, b) = (root.join("plugins/a"), root.join("plugins/b"));
        let before_a = Before::look(&a);
        make(root, "a", "[workspace]\nmembers = [\"plugins/a\"]\n");
        let before_b = Before::look(&b);
        make(root, "b", "[workspace]\nmembers = [\"plugins/a\", \"plugins/b\"]\n");
        before_a.bring_back();
        assert!(!a.exists() && b.join("src").exists());
        let manifest = || fs::read_to_string(root.join("Cargo.toml")).expect("read");
        assert_eq!(manifest(), "[workspace]\nmembers = [\"plugins/b\"]\n");
        before_b.bring_back();
        assert_eq!(manifest(), "[workspace]\nmembers = []\n");
        // It was there when that one began.
        assert!(!b.exists() && root.join("plugins").exists());
    }

    #[test]
    fn alone_it_leaves_all_as_it_was() {
        let root = tempfile::tempdir().expect("a folder");
        let root = root.path();
        fs::write(root.join("Cargo.toml"), EMPTY).expect("written");
        let before = Before::look(&root.join("plugins/a"));
        make(root, "a", "[workspace]\nresolver = '3'\nmembers = [\"plugins/a\"]  # none yet\n");
        before.bring_back();
        assert_eq!(fs::read_to_string(root.join("Cargo.toml")).expect("read"), EMPTY);
        assert_eq!(fs::read_dir(root).expect("a folder").count(), 1);
    }

    #[test]
    fn of_a_list_of_members_its_own_one_goes_wherever_it_stands() {
        let folder = Path::new("/nowhere");
        let (file, path) = (folder.join("Cargo.toml"), folder.join("b"));
        let left = |before: &str, now: &str| without_member(&file, before, now, &path);
        let all = |members: &str| format!("[workspace]\nmembers = {members}\n");
        for (now, expected) in [
            ("[\"a\", \"b\"]", "[\"a\"]"),
            ("['b', 'c']", "['c']"),
            ("[\n    \"a\",\n    \"./b\",\n    \"c\",\n]", "[\n    \"a\",\n    \"c\",\n]"),
            ("[\n    \"a\",\n    \"b\",\n]", "[\n    \"a\",\n]"),
            ("[ \"b\" , ]", "[  ]"),
        ] {
            assert_eq!(left("[workspace]\nresolver = '2'", &all(now)), Some(all(expected)));
        }
        // Cargo has added nothing to these.
        for (before, now) in [("[]", "['a']"), ("['b']", "['b', 'c']"), ("['*']", "['*', 'c']")] {
            assert_eq!(left(&all(before), &all(now)), None);
        }
        assert_eq!(left("[workspace]  # all", &all("['b']")), Some("[workspace]  # all".into()));
        assert_eq!(left(&all("[]"), "no TOML"), None);
    }
}
