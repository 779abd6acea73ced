//! A built library as bytes, and the same under another name.

use std::path::Path;

use crate::error::BenchError;

/// One plugin file.
#[derive(Clone)]
pub(crate) struct Library(Vec<u8>);

impl Library {
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn read(path: &Path) -> Result<Self, BenchError> {
        let read = std::fs::read(path);
        read.map(Library).map_err(|source| BenchError::File { path: path.to_owned(), source })
    }

    /// The same code as another plugin, whose name is as long.
    ///
    /// # Errors
    /// The manifest does not have that name once.
    pub(crate) fn renamed(&self, old: &str, new: &str) -> Result<Self, BenchError> {
        let mark = format!("\"name\":\"{old}\",\"version\"");
        let new = format!("\"name\":\"{new}\",\"version\"");
        let windows = self.0.windows(mark.len()).enumerate();
        let places: Vec<usize> =
            windows.filter(|(_, bytes)| *bytes == mark.as_bytes()).map(|(at, _)| at).collect();
        match places[..] {
            [place] if new.len() == mark.len() => {
                let mut bytes = self.0.clone();
                bytes[place..place + new.len()].copy_from_slice(new.as_bytes());
                Ok(Library(bytes))
            }
            _ => Err(BenchError::Mark { mark, found: places.len() }),
        }
    }

    /// # Errors
    /// The file cannot be written.
    pub(crate) fn write(&self, path: &Path) -> Result<(), BenchError> {
        std::fs::write(path, &self.0)
            .map_err(|source| BenchError::File { path: path.to_owned(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_name_is_written_once_and_into_the_manifest_alone() {
        let library = Library(b"\"hello\" KSIM1 {\"name\":\"hello\",\"version\":\"1\"}".to_vec());
        let renamed = library.renamed("hello", "p0017").unwrap();
        assert_eq!(renamed.0, b"\"hello\" KSIM1 {\"name\":\"p0017\",\"version\":\"1\"}");
        assert!(library.renamed("hello", "p17").is_err(), "it is not as long");
        assert!(renamed.renamed("hello", "p0018").is_err(), "nobody is called so");
    }
}
