use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
};

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::plugin::state::store::{
    StateDir,
    tests::{Dir, LIMIT, NAME, state},
};

#[test]
fn folder_and_files_are_of_the_host_s_user_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/state");
    let dir = StateDir::open(path.clone(), LIMIT).unwrap();
    dir.store(NAME, &state(b"one")).unwrap();
    dir.store(NAME, &state(b"two")).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o700, 0o700));
    let entries: Vec<_> = fs::read_dir(&path).unwrap().map(|it| it.unwrap().path()).collect();
    assert_eq!(entries.len(), 3);
    entries.iter().for_each(|file| assert_eq!(mode(file), 0o600, "{}", file.display()));
}

#[test]
fn a_folder_that_anybody_may_write_to_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let error = StateDir::open(folder.path().to_owned(), LIMIT).unwrap_err();
    assert!(matches!(error, StateDirError::WritableByAll { mode: 0o777, .. }), "{error}");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o770)).unwrap();
    StateDir::open(folder.path().to_owned(), LIMIT).unwrap();
}

#[test]
fn one_host_at_a_time_has_a_folder() {
    let dir = Dir::new();
    let path = dir.folder.path().join("state");
    let link = dir.folder.path().join("link");
    symlink(&path, &link).unwrap();
    let error = StateDir::open(link.clone(), LIMIT).unwrap_err();
    assert!(matches!(&error, StateDirError::InUse { dir, .. } if *dir == link), "{error}");
    assert!(error.to_string().contains("stop that one"), "{error}");
    dir.store(b"one");
    drop(dir.own);
    let again = StateDir::open(link, LIMIT).unwrap();
    assert_eq!(again.load(NAME).unwrap().unwrap().bytes, b"one");
}

#[test]
fn what_cannot_be_a_folder_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    File::create(&path).unwrap();
    for path in [path.clone(), path.join("below")] {
        let error = StateDir::open(path.clone(), LIMIT).unwrap_err();
        assert!(matches!(error, StateDirError::Create { .. }), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
    let locked = folder.path().join("locked");
    fs::create_dir(&locked).unwrap();
    symlink("elsewhere", locked.join(".lock")).unwrap();
    let error = StateDir::open(locked, LIMIT).unwrap_err();
    assert!(matches!(error, StateDirError::CreateLock { .. }), "{error}");
    assert!(!folder.path().join("elsewhere").exists());
}
