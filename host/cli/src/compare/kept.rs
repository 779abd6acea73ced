//! The kept snapshot that both begin with, and which of them did.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::exit::CommandFailure;

/// The longest first line of a snapshot's file.
const LONGEST_HEADER: u64 = 4096;

/// A kept snapshot, in a file of any name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) file: PathBuf,
    /// Of which plugin it is, as its first line says.
    pub(super) plugin: String,
}

/// With what one of the two began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Began {
    /// There was nothing to begin with.
    Empty,
    Restored,
    /// Although there was a snapshot; why.
    Without(String),
}

impl Kept {
    /// # Errors
    /// It cannot be read, or is no snapshot.
    pub(super) fn of(file: &Path) -> Result<Kept, CommandFailure> {
        let plugin = plugin_of(file).map_err(|reason| CommandFailure::Host {
            what: "there is no state to begin with",
            source: format!("{}: {reason}", file.display()).into(),
        })?;
        Ok(Kept { file: file.to_owned(), plugin })
    }

    /// Puts it into the folder of a host's state, where it is the newest whichever it was.
    pub(super) fn put_into(&self, folder: &Path) -> io::Result<()> {
        fs::copy(&self.file, folder.join(format!("{}.snapshot", self.plugin))).map(drop)
    }
}

/// The host that begins with it looks at the rest.
fn plugin_of(file: &Path) -> io::Result<String> {
    #[derive(Deserialize)]
    struct Header {
        plugin: String,
    }
    let none = |reason: &str| io::Error::new(ErrorKind::InvalidData, reason.to_owned());
    // What is no file may not end, or not even begin.
    if !fs::metadata(file)?.is_file() {
        return Err(none("it is no file"));
    }
    let mut line = Vec::new();
    BufReader::new(File::open(file)?.take(LONGEST_HEADER)).read_until(b'\n', &mut line)?;
    let header: Option<Header> = serde_json::from_slice(&line).ok();
    let plugin = header.map(|header| header.plugin).filter(|name| is_name(name));
    plugin.ok_or_else(|| {
        none("it is no kept snapshot; `ksi state list --json` names the files of those that are")
    })
}

/// Whether a plugin may be called so, which no path is.
fn is_name(name: &str) -> bool {
    let of_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=64).contains(&name.len()) && name.bytes().all(of_name)
}

impl Began {
    /// For people: whether `side` has begun with it.
    pub(super) fn told(&self, side: &str, kept: &Kept) -> Option<String> {
        let file = kept.file.display();
        match self {
            Began::Empty => None,
            Began::Restored => Some(format!("{side} begins with the state of {file}")),
            Began::Without(why) => {
                Some(format!("{side} begins without the state of {file}: {why}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_a_snapshot_is_stands_in_it_and_not_in_its_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("before-friday.bin");
        let said = |text: &str| {
            fs::write(&file, text).expect("written");
            Kept::of(&file).map(|kept| kept.plugin).map_err(|failure| failure.lines().remove(0))
        };
        let header = |plugin: &str| format!("{{\"ksi_snapshot\":1,\"plugin\":\"{plugin}\"}}\n\n");
        assert_eq!(said(&header("counter")), Ok("counter".to_owned()));
        for other in [&*header("../counter"), &header(""), "", "no JSON\n", "{}\n"] {
            let failure = said(other).expect_err(other);
            assert!(failure.contains("before-friday.bin: it is no kept snapshot"), "{failure}");
        }
        assert!(Kept::of(folder.path()).is_err() && Kept::of(Path::new("/nowhere/x")).is_err());
    }
}
