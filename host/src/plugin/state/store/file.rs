//! The format of a file with a snapshot.
//!
//! One line of JSON, the header, and then the bytes of the snapshot to the end of the file:
//!
//! ```text
//! {"ksi_snapshot":1,"plugin":"counter","version":2,"plugin_version":"0.3.1","written_ms":1760000000000,"bytes":13,"blake3":"…","check":"…"}
//! {"count":207}
//! ```
//!
//! | field | meaning |
//! |---|---|
//! | `ksi_snapshot` | the format of the file, which is 1 |
//! | `plugin` | the plugin that the snapshot is of |
//! | `version` | the version of the snapshot, as the plugin numbers them |
//! | `plugin_version` | the version of the plugin, for people |
//! | `written_ms` | when it was written, in milliseconds since 1970 (UTC) |
//! | `bytes` | how many bytes follow the line |
//! | `blake3` | their BLAKE3 hash, 64 lower-case hexadecimal digits |
//! | `check` | the BLAKE3 hash of the line up to these digits, so of everything before them |
//!
//! A file is complete if the digits of `check` end the line (but for `"}`) and fit what stands
//! before them, and just as many bytes follow as `bytes` says, with the hash that `blake3` says. So
//! every single byte of a file is checked, and nothing in the header is believed before it is.
//! Further fields are skipped. Other formats keep `check` where it is, so that a file of another
//! format is told from a damaged one.
//!
//! This module knows neither files nor their names: it reads from whatever it is given.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    time::{Duration, SystemTime},
};

use serde::Deserialize;
use serde_json::Value;

use super::{NewState, error::Damage};

/// The one format that is read and written.
pub(super) const FORMAT: u64 = 1;
/// The longest header with its newline, in bytes. One with the longest names has 1.2 KB.
const MAX_HEADER: u64 = 4096;
/// Longer versions of plugins are cut, in characters.
const MAX_PLUGIN_VERSION: usize = 128;
/// Digits of a hash.
const DIGITS: usize = 2 * blake3::OUT_LEN;

/// What the first line of a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SnapshotHeader {
    pub(super) plugin: String,
    pub(super) version: u32,
    pub(super) plugin_version: String,
    /// In whole milliseconds.
    pub(super) written: SystemTime,
    pub(super) bytes: u64,
    pub(super) hash: blake3::Hash,
}

/// Why a file gives no snapshot.
#[derive(Debug)]
pub(super) enum ReadError {
    Io(io::Error),
    Damaged(Damage),
    OtherFormat { found: u64 },
    OfAnotherPlugin { found: String },
    TooLarge { found: u64 },
}

/// The field that decides whether the others can be read at all.
#[derive(Deserialize)]
struct HeaderPreamble {
    ksi_snapshot: u64,
}

#[derive(Deserialize)]
struct Fields {
    plugin: String,
    version: u32,
    plugin_version: String,
    written_ms: u64,
    bytes: u64,
    blake3: String,
}

impl SnapshotHeader {
    pub(super) fn of(plugin: &str, state: &NewState<'_>, now: SystemTime) -> SnapshotHeader {
        SnapshotHeader {
            plugin: plugin.to_owned(),
            version: state.version,
            plugin_version: state.plugin_version.chars().take(MAX_PLUGIN_VERSION).collect(),
            written: from_milliseconds(milliseconds(now)),
            bytes: state.bytes.len() as u64,
            hash: blake3::hash(state.bytes),
        }
    }

    /// The first line of the file, with its newline.
    pub(super) fn line(&self) -> String {
        let SnapshotHeader { plugin, version, plugin_version, written, bytes, hash } = self;
        let (plugin, plugin_version) =
            (Value::from(plugin.as_str()), Value::from(plugin_version.as_str()));
        let written = milliseconds(*written);
        let checked = format!(
            "{{\"ksi_snapshot\":{FORMAT},\"plugin\":{plugin},\"version\":{version},\
             \"plugin_version\":{plugin_version},\"written_ms\":{written},\"bytes\":{bytes},\
             \"blake3\":\"{hash}\",\"check\":\""
        );
        let check = blake3::hash(checked.as_bytes());
        format!("{checked}{check}\"}}\n")
    }

    /// Whether a plugin would restore the same from both.
    pub(super) fn same_content(&self, other: &SnapshotHeader) -> bool {
        (self.version, self.bytes, self.hash) == (other.version, other.bytes, other.hash)
    }
}

/// Reads the snapshot of `plugin` that `source` is, its bytes into `content`.
///
/// Of no file is more read than `limit` bytes, the longest header and a byte. What `content` got is
/// good only if there is no error.
pub(super) fn read(
    source: impl Read,
    plugin: &str,
    limit: u64,
    content: &mut impl Write,
) -> Result<SnapshotHeader, ReadError> {
    // The one more is to see that the file goes on.
    let mut source = BufReader::new(source.take(limit.saturating_add(MAX_HEADER + 1)));
    let mut line = Vec::new();
    source.by_ref().take(MAX_HEADER).read_until(b'\n', &mut line).map_err(ReadError::Io)?;
    let header = header_of(&line)?;
    if header.plugin != plugin {
        return Err(ReadError::OfAnotherPlugin { found: header.plugin });
    }
    if header.bytes > limit {
        return Err(ReadError::TooLarge { found: header.bytes });
    }
    let mut content = Hashed { hash: blake3::Hasher::new(), to: content };
    let expected = header.bytes;
    let copied =
        io::copy(&mut source.by_ref().take(expected), &mut content).map_err(ReadError::Io)?;
    let goes_on = !source.fill_buf().map_err(ReadError::Io)?.is_empty();
    let found = copied + u64::from(goes_on);
    if found != expected {
        return Err(ReadError::Damaged(Damage::Length { expected, found }));
    }
    if content.hash.finalize() != header.hash {
        return Err(ReadError::Damaged(Damage::Content));
    }
    Ok(header)
}

fn header_of(line: &[u8]) -> Result<SnapshotHeader, ReadError> {
    let damaged = || ReadError::Damaged(Damage::Header);
    let until_check = line.strip_suffix(b"\"}\n").ok_or_else(damaged)?;
    let (checked, check) = until_check
        .len()
        .checked_sub(DIGITS)
        .and_then(|at| until_check.split_at_checked(at))
        .ok_or_else(damaged)?;
    // As digits: another way to write the same hash is not what was written.
    if blake3::hash(checked).to_hex().as_bytes() != check {
        return Err(damaged());
    }
    let preamble: HeaderPreamble = serde_json::from_slice(line).map_err(|_| damaged())?;
    if preamble.ksi_snapshot != FORMAT {
        return Err(ReadError::OtherFormat { found: preamble.ksi_snapshot });
    }
    let fields: Fields = serde_json::from_slice(line).map_err(|_| damaged())?;
    Ok(SnapshotHeader {
        plugin: fields.plugin,
        version: fields.version,
        plugin_version: fields.plugin_version,
        written: from_milliseconds(fields.written_ms),
        bytes: fields.bytes,
        hash: blake3::Hash::from_hex(fields.blake3).map_err(|_| damaged())?,
    })
}

/// Hashes what goes through.
struct Hashed<'a, W> {
    hash: blake3::Hasher,
    to: &'a mut W,
}

impl<W: Write> Write for Hashed<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.hash.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn from_milliseconds(count: u64) -> SystemTime {
    let since = Duration::from_millis(count);
    SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests;
