//! The files with transformers: found, read, and taken apart into definitions.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use crate::{
    config::Settings,
    definition::{Found, Problem, definitions},
    yaml,
};

const MAX_FILE_BYTES: u64 = 1 << 20;
const MAX_FILES: usize = 1000;
const MAX_DEPTH: usize = 8;

/// A file, and what stands in it.
pub(crate) struct FileRead {
    pub(crate) file: PathBuf,
    /// `Err` where nothing of it could be read.
    pub(crate) content: Result<Vec<Found>, Problem>,
}

/// Reads all files that the configuration names.
pub(crate) fn read_all(settings: &Settings) -> Vec<FileRead> {
    let mut files = BTreeSet::new();
    let mut failed = Vec::new();
    for path in &settings.paths {
        if let Err(error) = find(path, 0, &mut files) {
            if settings.may_lack && error.kind() == io::ErrorKind::NotFound {
                continue;
            }
            let problem = Problem::new(0, "", format_args!("it cannot be read: {error}"));
            failed.push(FileRead { file: path.clone(), content: Err(problem) });
        }
    }
    let read = files.into_iter().map(|file| FileRead { content: read(&file), file });
    failed.extend(read);
    failed
}

/// Files that are named are taken whatever they are called; in folders, YAML alone.
fn find(path: &Path, depth: usize, files: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    if fs::metadata(path)?.is_file() {
        files.insert(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            if depth == MAX_DEPTH {
                return Err(io::Error::other(format!("folders in it are deeper than {MAX_DEPTH}")));
            }
            find(&path, depth + 1, files)?;
        } else if path.extension().is_some_and(|it| it == "yaml" || it == "yml") {
            if files.len() == MAX_FILES {
                return Err(io::Error::other(format!("there are more than {MAX_FILES} files")));
            }
            files.insert(path);
        }
    }
    Ok(())
}

fn read(file: &Path) -> Result<Vec<Found>, Problem> {
    let unreadable = |reason: &dyn std::fmt::Display| {
        Problem::new(0, "", format_args!("it cannot be read: {reason}"))
    };
    let mut text = String::new();
    // What is no file, as a named pipe, may not end, and without O_NONBLOCK not even be opened.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let opened = fs::OpenOptions::new().read(true).custom_flags(flags).open(file);
    let opened = opened.map_err(|error| unreadable(&error))?;
    if !opened.metadata().map_err(|error| unreadable(&error))?.is_file() {
        return Err(unreadable(&"it is no file"));
    }
    let mut bounded = opened.take(MAX_FILE_BYTES + 1);
    bounded.read_to_string(&mut text).map_err(|error| unreadable(&error))?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(unreadable(&format_args!("it has more than {MAX_FILE_BYTES} bytes")));
    }
    let documents = yaml::documents(&text);
    let documents = documents
        .map_err(|error| Problem::new(error.line, "", format_args!("it is no YAML: {error}")))?;
    Ok(definitions(&documents))
}
