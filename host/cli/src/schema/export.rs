//! The schemas of all events as files.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ksi_wire::module::EventSchemas;
use serde_json::Value;
use tempfile::{NamedTempFile, TempPath};

use super::asyncapi;
use super::role::Role;
use crate::exit::CommandFailure;

#[derive(Debug, thiserror::Error)]
#[error("{} cannot be written; of all files, {renamed} are new, and the others are as they were", path.display())]
pub(crate) struct NotWritten {
    path: PathBuf,
    renamed: usize,
    source: io::Error,
}

/// Writes a file for each event and role, and one for all of them; how many there are. Each is
/// there as a whole or as it was before, and none changes until all are written. What else lies
/// in the folder stays.
pub(super) fn write(
    folder: &Path,
    events: &BTreeMap<String, EventSchemas>,
) -> Result<usize, CommandFailure> {
    let mut files = vec![("asyncapi.json".to_owned(), asyncapi::document(events))];
    for (event, of) in events {
        for role in Role::ALL {
            let document = role.document(event, of);
            files.extend(document.map(|schema| (file_name(event, role), schema)));
        }
    }
    write_all(folder, &files).map_err(CommandFailure::host("the schemas are not exported"))?;
    Ok(files.len())
}

/// The most bytes of a file's name before its role: a file system takes 255 bytes.
const LONGEST_STEM: usize = 255 - ".replied.json".len();
/// So much of a longer one is kept, before the start of its hash.
const KEPT_STEM: usize = LONGEST_STEM - "~~".len() - HASHED;
/// Letters of the hash.
const HASHED: usize = 32;

/// No event's name has `~`, `+` or `%` in it; some file systems have no `:` and no `*`. What would
/// lead to another folder comes from no host of ours, and is escaped.
fn file_name(event: &str, role: Role) -> String {
    let mut stem = String::with_capacity(event.len());
    for c in event.chars() {
        match c {
            ':' => stem.push('~'),
            '*' => stem.push('+'),
            '/' => stem.push_str("%2F"),
            '\0' => stem.push_str("%00"),
            c => stem.push(c),
        }
    }
    if stem.len() > LONGEST_STEM {
        // No other name ends so: a segment has at least one letter.
        stem.truncate(stem.floor_char_boundary(KEPT_STEM));
        let hash = blake3::hash(event.as_bytes()).to_hex();
        stem = format!("{stem}~~{}", &hash[..HASHED]);
    }
    format!("{stem}.{}.json", role.word())
}

fn write_all(folder: &Path, files: &[(String, Value)]) -> Result<(), NotWritten> {
    let not_written = |path: &Path, renamed: usize| {
        let path = path.to_owned();
        move |source| NotWritten { path, renamed, source }
    };
    fs::create_dir_all(folder).map_err(not_written(folder, 0))?;
    let mut drafts = Vec::with_capacity(files.len());
    for (name, content) in files {
        let path = folder.join(name);
        can_be_replaced(&path).map_err(not_written(&path, 0))?;
        let draft = draft(folder, content).map_err(not_written(&path, 0))?;
        drafts.push((draft, path));
    }
    for (renamed, (draft, path)) in drafts.into_iter().enumerate() {
        draft.persist(&path).map_err(|error| not_written(&path, renamed)(error.error))?;
    }
    Ok(())
}

/// Tells before anything is replaced what only the last step would.
fn can_be_replaced(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(known) if known.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn draft(folder: &Path, content: &Value) -> io::Result<TempPath> {
    let readable = Permissions::from_mode(0o666);
    let mut file: NamedTempFile =
        tempfile::Builder::new().prefix(".ksi-").permissions(readable).tempfile_in(folder)?;
    writeln!(file, "{content:#}")?;
    // Closed here: there may be more of them than a process may have open.
    Ok(file.into_temp_path())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_file_that_can_not_be_written_leaves_all_as_they_were() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("a.json"), "before").expect("written");
        let long = format!("{}.json", "x".repeat(300));
        let files = [("a.json".to_owned(), json!(1)), (long, json!(2))];
        let error = write_all(folder.path(), &files).expect_err("too long a name");
        assert_eq!(error.renamed, 0, "{error}");
        fs::create_dir(folder.path().join("b.json")).expect("a folder");
        let files = [("a.json".to_owned(), json!(1)), ("b.json".to_owned(), json!(2))];
        let error = write_all(folder.path(), &files).expect_err("a folder is in its place");
        assert_eq!(error.renamed, 0, "{error}");
        assert_eq!(fs::read_to_string(folder.path().join("a.json")).expect("read"), "before");
        let left = fs::read_dir(folder.path()).expect("a folder").count();
        assert_eq!(left, 2, "no draft is left");
    }

    #[test]
    fn names_of_files_are_those_of_events() {
        assert_eq!(file_name("order:placed", Role::Sent), "order~placed.sent.json");
        assert_eq!(file_name("order:**", Role::Read), "order~++.read.json");
    }

    #[test]
    fn a_name_that_no_file_may_have_is_shortened_and_stays_one_of_its_own() {
        let long = |last: &str| format!("a:{}{last}", "x".repeat(253));
        let names = ["b", "c"].map(|last| file_name(&long(last), Role::Replied));
        assert_ne!(names[0], names[1]);
        let folder = tempfile::tempdir().expect("a folder");
        let files = names.map(|name| (name, json!(1)));
        write_all(folder.path(), &files).expect("written");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 2);
        assert!(files[0].0.starts_with("a~xxx") && files[0].0.ends_with(".replied.json"));
        let still_whole = format!("a:{}", "x".repeat(240));
        assert!(!file_name(&still_whole, Role::Sent).contains("~~"));
    }

    #[test]
    fn a_name_leads_to_no_other_folder() {
        assert_eq!(file_name("a:/../b", Role::Sent), "a~%2F..%2Fb.sent.json");
        assert_eq!(file_name("../\0", Role::Read), "..%2F%00.read.json");
    }
}
