//! What lies beside a private copy: a folder of that copy's own, for what it looks for there. It
//! goes with the copy.
//!
//! So no copy can have what another one brought, and what one has brought is there for as long as
//! it is: a copy of a copy has the same beside it. What lies there is written once. Files with the
//! same bytes may be one file with several names. Few files are held by a descriptor each, and many
//! by one of all their bytes (`packed.rs`).

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::MutexGuard;

use super::dir::is_at;
use super::packed::{Pack, Span};
use super::{Content, CopyError, PrivateCopy, PrivateDir, SourceFile, for_reading, hash_of};
use crate::sync::Lock;

/// The folder of one copy; dropping it removes it with everything inside.
#[derive(Debug)]
pub(super) struct OwnFolder {
    path: PathBuf,
    open: File,
    pack: Lock<Option<Pack>>,
    /// In a mutex, because whoever reads one moves the place that it is read from.
    brought: Lock<Vec<Brought>>,
}

#[derive(Debug)]
struct Brought {
    /// Where it lies in the folder.
    at: PathBuf,
    hash: blake3::Hash,
    held: Held,
}

/// Where the bytes are, also when somebody removes the file.
#[derive(Debug)]
pub(super) enum Held {
    File(File),
    Packed(Span),
}

impl OwnFolder {
    fn make(path: PathBuf) -> io::Result<OwnFolder> {
        DirBuilder::new().mode(0o700).create(&path)?;
        let open = File::open(&path)?;
        Ok(OwnFolder { path, open, pack: Lock::default(), brought: Lock::default() })
    }

    fn brought(&self) -> MutexGuard<'_, Vec<Brought>> {
        self.brought.lock()
    }

    /// Whether it still lies there, and not another one or none.
    fn check_in_place(&self) -> Result<(), CopyError> {
        match is_at(&self.open, &self.path) {
            true => Ok(()),
            false => Err(CopyError::Cleaned { path: self.path.clone() }),
        }
    }
}

fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o700).open(path)
}

impl Drop for OwnFolder {
    fn drop(&mut self) {
        if self.check_in_place().is_ok()
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            // It goes with the host.
            let path = self.path.display();
            tracing::debug!(%path, %error, "the folder of a private copy could not be removed");
        }
    }
}

impl PrivateDir {
    /// Moves a copy that has no folder of its own into one.
    ///
    /// # Errors
    /// It can't be made, or the copy is not there any more.
    pub(crate) fn give_folder(&self, copy: &mut PrivateCopy) -> Result<(), CopyError> {
        if copy.folder.is_some() {
            return Ok(());
        }
        let path = copy.path.with_extension("");
        let failed = |source| CopyError::Create { path: path.clone(), source };
        self.while_open(|| {
            copy.check_in_place()?;
            let folder = OwnFolder::make(path.clone()).map_err(failed)?;
            let to = folder.path.join(copy.path.file_name().unwrap_or_default());
            fs::rename(&copy.path, &to).map_err(failed)?;
            copy.path = to;
            copy.folder = Some(folder);
            Ok(())
        })
    }

    /// Copies a file to a place in the folder of a copy. `known` may say where another file of this
    /// hash lies that nobody writes to, which gets this name as well then.
    ///
    /// # Errors
    /// As for a [copy](PrivateDir::copy); or the copy has no folder of its own.
    pub(crate) fn bring(
        &self,
        copy: &PrivateCopy,
        source: &SourceFile,
        at: &Path,
        known: impl FnOnce(blake3::Hash) -> Option<PathBuf>,
    ) -> Result<Content, CopyError> {
        let folder = copy.folder()?;
        let unreadable = |error| source.unreadable(error);
        let hash = hash_of(source.file.try_clone().map_err(unreadable)?).map_err(unreadable)?;
        source.check()?;
        if let Some(known) = known(hash)
            && let Ok(held) = self.link(folder, &known, at)
        {
            return folder.note(at, hash, held);
        }
        let path = folder.path.join(at);
        let made = self.place(folder, at, new_file)?;
        source.copy_to(&made, &path)?;
        self.made(folder, at, &made)
    }

    /// Notes what was written to a place in a folder.
    fn made(&self, folder: &OwnFolder, at: &Path, made: &File) -> Result<Content, CopyError> {
        let path = folder.path.join(at);
        let failed = |source| CopyError::Write { path: path.clone(), source };
        // What is noted is what is there.
        let hash = hash_of(made.try_clone().map_err(failed)?).map_err(failed)?;
        let held = for_reading(&path, made)
            .map_err(|error| if self.is_closed() { CopyError::Closed } else { error })?;
        folder.note(at, hash, held)
    }

    /// Gives a copy a folder with what another copy has in its own, if it has one.
    ///
    /// # Errors
    /// As for [`bring`](Self::bring).
    pub(super) fn bring_again(
        &self,
        copy: &mut PrivateCopy,
        earlier: &PrivateCopy,
        limit: u64,
    ) -> Result<(), CopyError> {
        let Some(folder) = &earlier.folder else { return Ok(()) };
        self.give_folder(copy)?;
        for Brought { at, held, .. } in &*folder.brought() {
            let path = folder.path.join(at);
            let unreadable = |source| CopyError::Read { path: path.clone(), source };
            let held = match held {
                Held::File(held) => held,
                Held::Packed(span) => {
                    let own = copy.folder()?;
                    let made = self.place(own, at, new_file)?;
                    let mut pack = folder.pack.lock();
                    let pack = pack
                        .as_mut()
                        .ok_or_else(|| unreadable(io::Error::other("it is held by nobody")))?;
                    pack.unpack(*span, &made).map_err(unreadable)?;
                    self.made(own, at, &made)?;
                    copy.pack()?;
                    continue;
                }
            };
            let source = SourceFile::held(&path, held.try_clone().map_err(unreadable)?, limit)?;
            let known = is_at(held, &path).then(|| path.clone());
            self.bring(copy, &source, at, |_| known)?;
        }
        Ok(())
    }

    /// Gives a file that nobody writes to another name.
    fn link(&self, folder: &OwnFolder, known: &Path, at: &Path) -> Result<File, CopyError> {
        self.place(folder, at, |path| {
            fs::hard_link(known, path)?;
            File::open(path)
        })
    }

    /// Makes a file in a folder, with the folders that lead there.
    fn place(
        &self,
        folder: &OwnFolder,
        at: &Path,
        make: impl FnOnce(&Path) -> io::Result<File>,
    ) -> Result<File, CopyError> {
        let path = folder.path.join(at);
        self.while_open(|| {
            folder.check_in_place()?;
            let parent = path.parent().unwrap_or(&folder.path);
            let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
            made.and_then(|()| make(&path))
                .map_err(|source| CopyError::Create { path: path.clone(), source })
        })
    }
}

impl OwnFolder {
    fn note(&self, at: &Path, hash: blake3::Hash, held: File) -> Result<Content, CopyError> {
        let failed = |source| CopyError::Read { path: self.path.join(at), source };
        let content = Content::of_copy(&held).map_err(failed)?;
        self.brought().push(Brought { at: at.to_owned(), hash, held: Held::File(held) });
        Ok(content)
    }
}

impl PrivateCopy {
    /// Whether it lies in a folder of its own.
    pub(crate) fn has_folder(&self) -> bool {
        self.folder.is_some()
    }

    fn folder(&self) -> Result<&OwnFolder, CopyError> {
        let missing = || CopyError::Create {
            path: self.path.clone(),
            source: io::Error::other("the copy has no folder of its own"),
        };
        self.folder.as_ref().ok_or_else(missing)
    }

    /// Holds all that was brought to its folder by one descriptor.
    ///
    /// # Errors
    /// There is no room for the bytes.
    pub(super) fn pack(&self) -> Result<(), CopyError> {
        let folder = self.folder()?;
        let (mut brought, mut pack) = (folder.brought(), folder.pack.lock());
        for Brought { at, held, .. } in &mut *brought {
            let Held::File(file) = held else { continue };
            let path = folder.path.join(at);
            let failed = |source| CopyError::Write { path: path.clone(), source };
            let pack = match &mut *pack {
                Some(pack) => pack,
                none => none.insert(Pack::new(&folder.path).map_err(failed)?),
            };
            *held = Held::Packed(pack.add(file).map_err(failed)?);
        }
        Ok(())
    }

    /// Whether something has this place in its folder.
    pub(crate) fn is_taken(&self, at: &Path) -> bool {
        self.folder.as_ref().is_some_and(|folder| folder.path.join(at).exists())
    }

    /// What was brought to its folder: where it lies, and its hash.
    pub(crate) fn brought(&self) -> Vec<(PathBuf, blake3::Hash)> {
        let all = self.folder.iter().flat_map(|folder| {
            let brought = folder.brought();
            let places = brought.iter().map(|it| (folder.path.join(&it.at), it.hash));
            places.collect::<Vec<_>>()
        });
        all.collect()
    }

    /// How many bytes were brought to its folder.
    pub(super) fn bytes_brought(&self) -> io::Result<u64> {
        let brought = self.folder.iter().flat_map(|folder| {
            let len = |it: &Brought| match &it.held {
                Held::File(file) => Ok(file.metadata()?.len()),
                Held::Packed(span) => Ok(span.len()),
            };
            folder.brought().iter().map(len).collect::<Vec<_>>()
        });
        brought.sum()
    }

    /// Writes what was brought to its folder to another one, which is there and empty.
    pub(super) fn write_brought(&self, to: &Path) -> io::Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let mut pack = folder.pack.lock();
        for Brought { at, held, .. } in &*folder.brought() {
            let path = to.join(at);
            if let Some(parent) = path.parent() {
                DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
            }
            let made = new_file(&path)?;
            match (held, pack.as_mut()) {
                (Held::Packed(span), Some(pack)) => pack.unpack(*span, &made)?,
                (Held::Packed(_), None) => return Err(io::Error::other("it is held by nobody")),
                (Held::File(file), _) => {
                    let mut from = file;
                    from.seek(SeekFrom::Start(0))?;
                    io::copy(&mut from, &mut &made)?;
                }
            }
            made.sync_data()?;
        }
        Ok(())
    }

    /// Hash of the content, with that of what was brought along.
    pub(crate) fn hash_of_all(&self) -> blake3::Hash {
        let Some(folder) = &self.folder else { return self.hash };
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.hash.as_bytes());
        for Brought { at, hash, .. } in &*folder.brought() {
            hasher.update(blake3::hash(at.as_os_str().as_encoded_bytes()).as_bytes());
            hasher.update(hash.as_bytes());
        }
        hasher.finalize()
    }
}
