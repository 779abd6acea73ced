//! Libraries as bytes, changed where a test needs another one, and ways to put them into a folder.

use std::{
    collections::HashMap,
    fs::OpenOptions,
    io::Write,
    path::Path,
    sync::{Arc, Mutex, OnceLock},
};

use super::build::artifacts;

/// The number of the ABI that the plugins of the workspace are built for.
pub(crate) const ABI: u32 = 4;

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
    pub(crate) fn version(mut self, number: usize) -> Library {
        self.set_version(number);
        self
    }

    /// Makes it another version.
    pub(crate) fn set_version(&mut self, number: usize) {
        const MARK: &str = "chaos-version-";
        static PLACE: OnceLock<usize> = OnceLock::new();
        self.set_number(MARK, &PLACE, number);
    }

    /// Writes four digits behind a mark, whose `place` is remembered: searching megabytes takes a
    /// while in an unoptimized test, and the place is always the same.
    pub(super) fn set_number(&mut self, mark: &str, place: &OnceLock<usize>, number: usize) {
        let place = *place.get_or_init(|| {
            let places = self.places_of(mark);
            assert_eq!(places.len(), 1, "the version stands in one place");
            places[0]
        });
        assert!(self.0[place..].starts_with(mark.as_bytes()) && number < 10_000);
        let digits = place + mark.len();
        self.0[digits..digits + 4].copy_from_slice(format!("{number:04}").as_bytes());
    }

    /// The same code under the name `chao0` to `chao9`: another plugin.
    pub(crate) fn named(self, name: &str) -> Library {
        self.with(r#""name":"chaos","version""#, &format!(r#""name":"{name}","version""#))
    }

    /// The same, said to be built for ABI number 9.
    #[track_caller]
    pub(crate) fn of_abi_9(self) -> Library {
        self.of_abi(9)
    }

    /// The same with another number, of one digit.
    pub(crate) fn of_abi(self, number: u32) -> Library {
        self.with(&format!("\"abi\":{ABI},"), &format!("\"abi\":{number},"))
    }

    /// With each `old` replaced by a `new` of the same length.
    #[track_caller]
    pub(crate) fn with(mut self, old: &str, new: &str) -> Library {
        assert_eq!(old.len(), new.len());
        let places = self.places_of(old);
        assert!(!places.is_empty(), "the library has no {old:?}");
        for place in places {
            self.0[place..place + new.len()].copy_from_slice(new.as_bytes());
        }
        self
    }

    pub(super) fn places_of(&self, text: &str) -> Vec<usize> {
        let (text, mut places, mut from) = (text.as_bytes(), Vec::new(), 0);
        while let Some(next) = self.0[from..].iter().position(|byte| *byte == text[0]) {
            let place = from + next;
            if self.0[place..].starts_with(text) {
                places.push(place);
            }
            from = place + 1;
        }
        places
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
