//! The file of the history: a line of JSON for each entry, the newest last, and the one that was
//! full before it.
//!
//! A line is written whole or taken back, and lines are only ever added: a process that ends at any
//! moment leaves at most a torn last line, which is passed over and stays by itself. Before the
//! file would get too long it takes the name of the one before, so the newest lines are always
//! there. It is opened for each write, so it comes again when somebody has removed it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use ksi_wire::module::HistoryEntry;

/// How long each of the two may be, in bytes.
pub(super) const LONGEST: u64 = 1 << 20;
/// No snapshot of a plugin is called so: those end in words of their own.
const NAME: &str = "history.jsonl";
const BEFORE: &str = "history.1.jsonl";

/// Where it is.
pub(super) struct HistoryFile {
    path: PathBuf,
    before: PathBuf,
}

impl HistoryFile {
    pub(super) fn in_folder(folder: &Path) -> Self {
        HistoryFile { path: folder.join(NAME), before: folder.join(BEFORE) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What is in both files, the oldest first. What is no entry is passed over.
    pub(super) fn read(&self) -> io::Result<Vec<HistoryEntry>> {
        let mut entries = Vec::new();
        for path in [&self.before, &self.path] {
            for line in end_of(path)?.split(|byte| *byte == b'\n').filter(|it| !it.is_empty()) {
                match serde_json::from_slice(line) {
                    Ok(entry) => entries.push(entry),
                    Err(error) => {
                        tracing::debug!(path = %path.display(), %error, "a line is passed over");
                    }
                }
            }
        }
        Ok(entries)
    }

    /// Adds whole lines; all of them, or none.
    pub(super) fn append(&self, lines: &[u8]) -> io::Result<()> {
        let mut file = self.open()?;
        let mut length = file.metadata()?.len();
        if length > 0 && length + lines.len() as u64 > LONGEST {
            // What is renamed is not lost with the power, either.
            file.sync_data()?;
            fs::rename(&self.path, &self.before)?;
            file = self.open()?;
            length = file.metadata()?.len();
        }
        let torn = is_torn(&file, length)?;
        let begins: &[u8] = if torn { b"\n" } else { b"" };
        file.write_all(&[begins, lines].concat()).inspect_err(|_| {
            // What cannot be taken back either is a torn line.
            let _ = file.set_len(length);
        })
    }

    fn open(&self) -> io::Result<File> {
        let mut options = options();
        let file = options.append(true).create(true).mode(0o600).open(&self.path)?;
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::Error::other("it is no regular file")),
        }
    }
}

/// No link is followed, and nobody is waited for who should write to a pipe.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    options
}

/// The last bytes of a file, from the beginning of a line on; nothing if there is none.
fn end_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = match options().open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened?,
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other(format!("{} is no regular file", path.display())));
    }
    let skipped = file.metadata()?.len().saturating_sub(LONGEST);
    file.seek(SeekFrom::Start(skipped))?;
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes)?;
    if skipped > 0 {
        let first = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
        bytes.drain(..first);
    }
    Ok(bytes)
}

/// Whether a file ends within a line.
fn is_torn(file: &File, length: u64) -> io::Result<bool> {
    let Some(last) = length.checked_sub(1) else { return Ok(false) };
    let mut byte = [0];
    file.read_exact_at(&mut byte, last)?;
    Ok(byte != *b"\n")
}
