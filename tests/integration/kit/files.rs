//! Libraries as bytes, changed where a test needs another one, and ways to put them into a folder.

use std::{
    collections::HashMap,
    fs::OpenOptions,
    io::Write,
    path::Path,
    sync::{Arc, Mutex},
};

use super::build::artifacts;

/// The bytes of a plugin's library.
#[derive(Clone)]
pub(crate) struct Library(pub(crate) Vec<u8>);

impl Library {
    /// As a package of the workspace builds it.
    pub(crate) fn of(package: &str) -> Library {
        static READ: Mutex<Option<HashMap<String, Arc<[u8]>>>> = Mutex::new(None);
        let mut read = READ.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let read = read.get_or_insert_default();
        if !read.contains_key(package) {
            let bytes = std::fs::read(artifacts().of(package)).unwrap();
            read.insert(package.to_owned(), bytes.into());
        }
        Library(read[package].to_vec())
    }

    /// The plugin that misbehaves when it is told to.
    pub(crate) fn chaos() -> Library {
        Library::of("ksi-fixture-chaos")
    }

    /// Another version of it, which says so.
    pub(crate) fn version(self, number: usize) -> Library {
        assert!(number < 10_000);
        self.with("chaos-version-0001", &format!("chaos-version-{number:04}"))
    }

    /// The same code under the name `chao0` to `chao9`: another plugin.
    pub(crate) fn named(self, name: &str) -> Library {
        self.with(r#""name":"chaos","version""#, &format!(r#""name":"{name}","version""#))
    }

    /// With each `old` replaced by a `new` of the same length.
    #[track_caller]
    pub(crate) fn with(mut self, old: &str, new: &str) -> Library {
        assert_eq!(old.len(), new.len());
        let (old, first) = (old.as_bytes(), old.as_bytes()[0]);
        let (mut at, mut found) = (0, 0);
        while let Some(next) = self.0[at..].iter().position(|byte| *byte == first) {
            at += next;
            if self.0[at..].starts_with(old) {
                self.0[at..at + old.len()].copy_from_slice(new.as_bytes());
                found += 1;
            }
            at += 1;
        }
        assert!(found > 0, "the library has no {:?}", String::from_utf8_lossy(old));
        self
    }

    /// For another processor: the field `e_machine` of its header.
    pub(crate) fn machine(mut self, number: u16) -> Library {
        self.0[18..20].copy_from_slice(&number.to_le_bytes());
        self
    }
}

/// Puts a file into a folder as one should: under a hidden name first, whole at the rename.
pub(crate) fn put(path: &Path, bytes: &[u8]) {
    let name = path.file_name().unwrap().to_str().unwrap();
    let draft = path.with_file_name(format!(".{name}.draft"));
    std::fs::write(&draft, bytes).unwrap();
    std::fs::rename(&draft, path).unwrap();
}

/// Writes over a file where it stands, in several pieces, as a careless copy does.
pub(crate) fn put_in_place(path: &Path, bytes: &[u8]) {
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).open(path).unwrap();
    for piece in bytes.chunks(bytes.len() / 5 + 1) {
        file.write_all(piece).unwrap();
        file.flush().unwrap();
    }
}
