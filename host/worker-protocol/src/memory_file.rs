//! Payloads that are too large to be copied through a socket: a file in memory, sealed, whose
//! descriptor goes along.

use std::{fs::File, io, os::fd::OwnedFd, os::unix::fs::FileExt};

use crate::ProtocolError;

/// A payload of more bytes goes in a memory file where there are such files. Whoever reads takes
/// either.
pub const IN_FILE_FROM: usize = 256 << 10;

/// Bytes in a file of the memory, which nobody changes any more.
#[derive(Debug)]
pub struct MemoryFile {
    pub(crate) descriptor: OwnedFd,
    pub(crate) length: u64,
}

impl MemoryFile {
    /// A file of these bytes.
    ///
    /// # Errors
    /// That of the system: it has none to give, or does not know such files.
    #[cfg(target_os = "linux")]
    pub fn of(bytes: &[u8]) -> io::Result<MemoryFile> {
        use rustix::fs::{MemfdFlags, SealFlags};
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = File::from(rustix::fs::memfd_create("ksi-payload", flags)?);
        file.write_all_at(bytes, 0)?;
        let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals)?;
        Ok(MemoryFile { descriptor: file.into(), length: bytes.len() as u64 })
    }

    /// A file of these bytes.
    ///
    /// # Errors
    /// Always: there are no such files here.
    #[cfg(not(target_os = "linux"))]
    pub fn of(_: &[u8]) -> io::Result<MemoryFile> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// How many bytes are in it, as was said of it.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// What is in it, if that is no more than `limit`.
    ///
    /// # Errors
    /// [`ProtocolError::MemoryFile`]: it is too large, not sealed (then whoever made it could have
    /// its reader wait, or change what was looked at), shorter or longer than was said, or cannot
    /// be read.
    pub fn read(&self, limit: u64) -> Result<Vec<u8>, ProtocolError> {
        let wrong = |reason: String| ProtocolError::MemoryFile { reason };
        let MemoryFile { descriptor, length } = self;
        if *length > limit {
            return Err(wrong(format!("it has {length} bytes, and may have {limit}")));
        }
        if !is_sealed(descriptor) {
            return Err(wrong("its descriptor is none of a file in memory that is sealed".into()));
        }
        let found = rustix::fs::fstat(descriptor);
        let found = found.map_err(|error| wrong(format!("it cannot be looked at: {error}")))?;
        if u64::try_from(found.st_size).ok() != Some(*length) {
            let size = found.st_size;
            return Err(wrong(format!("it has {size} bytes, and {length} were announced")));
        }
        let too_large = |_| wrong(format!("{length} bytes are no length"));
        let mut bytes = vec![0; usize::try_from(*length).map_err(too_large)?];
        let copy = descriptor.try_clone();
        let read = copy.and_then(|copy| File::from(copy).read_exact_at(&mut bytes, 0));
        read.map_err(|error| wrong(format!("it cannot be read: {error}")))?;
        Ok(bytes)
    }
}

/// Whether it is a file in memory that nobody can change any more. Reading one never waits.
#[cfg(target_os = "linux")]
fn is_sealed(descriptor: &OwnedFd) -> bool {
    use rustix::fs::SealFlags;
    let needed = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW;
    rustix::fs::fcntl_get_seals(descriptor).is_ok_and(|seals| seals.contains(needed))
}

#[cfg(not(target_os = "linux"))]
fn is_sealed(_: &OwnedFd) -> bool {
    false
}
