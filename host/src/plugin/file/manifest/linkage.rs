//! How a library is linked, as far as that decides what becomes of it in a host: whether it can
//! leave memory, whether it can be loaded over and over, and which libraries it takes along.
//!
//! Read off the dynamic section before anything is loaded. What cannot be read says nothing:
//! whether the file is sound is for others to find out.

use object::Endianness;
use object::elf;
use object::read::elf::{Dyn, FileHeader, ProgramHeader};

use super::elf::ElfHeader;

/// What is read off.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Linkage {
    /// The names of the libraries that it needs.
    pub(crate) needed: Vec<String>,
    /// Where the loader looks for them first.
    pub(crate) run_path: Vec<String>,
    /// It was linked so that it never leaves memory.
    pub(crate) no_delete: bool,
    /// Bytes of its thread-locals, if it takes them from the place that a process has for those
    /// that are there from the start.
    pub(crate) static_tls: Option<u64>,
}

/// More than any library needs or searches.
const MOST: usize = 256;

impl Linkage {
    /// Of the bytes of a shared library.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        read(bytes).unwrap_or_default()
    }

    /// What somebody should know of it, with the way out.
    pub(super) fn notices(&self) -> Vec<String> {
        let no_delete = self.no_delete.then(|| NO_DELETE.to_owned());
        let static_tls = self.static_tls.map(|bytes| {
            format!(
                "each generation of it takes {bytes} bytes of static TLS, of which a process has little: after a few \
                 replacements the system's loader refuses it until the host restarts. Build it without (mimalloc: \
                 feature `local_dynamic_tls`; tikv-jemallocator: feature `disable_initial_exec_tls`; C code: without \
                 `-ftls-model=initial-exec`)"
            )
        });
        no_delete.into_iter().chain(static_tls).collect()
    }
}

/// Why such a library stays.
pub(crate) const NO_DELETE: &str = "it was linked with `-z nodelete`, so its library never leaves memory, and after 16 \
     replacements it is not replaced any more: link it without";

fn read(bytes: &[u8]) -> Option<Linkage> {
    let header = ElfHeader::parse(bytes).ok()?;
    let endian = header.endian().ok()?;
    let mut linkage = Linkage::default();
    let sections = header.sections(endian, bytes).ok()?;
    let (entries, link) = sections.dynamic(endian, bytes).ok()??;
    let texts = sections.strings(endian, bytes, link).ok()?;
    let text = |entry: &elf::Dyn64<Endianness>| {
        let offset = u32::try_from(entry.val(endian)).ok()?;
        Some(String::from_utf8_lossy(texts.get(offset).ok()?).into_owned())
    };
    let (mut run_path, mut r_path, mut static_tls) = (None, None, false);
    for entry in entries {
        let value = entry.val(endian);
        match entry.tag(endian) {
            elf::DT_NEEDED if linkage.needed.len() < MOST => linkage.needed.extend(text(entry)),
            elf::DT_RUNPATH => run_path = text(entry),
            elf::DT_RPATH => r_path = text(entry),
            elf::DT_FLAGS => static_tls = value & elf::DF_STATIC_TLS.0 != 0,
            elf::DT_FLAGS_1 => linkage.no_delete = value & elf::DF_1_NODELETE.0 != 0,
            elf::DT_NULL => break,
            _ => {}
        }
    }
    // The older of the two is not looked at where there is the other.
    let search = run_path.or(r_path).unwrap_or_default();
    let folders = search.split(':').filter(|folder| !folder.is_empty());
    linkage.run_path = folders.take(MOST).map(str::to_owned).collect();
    if static_tls {
        let segments = header.program_headers(endian, bytes).unwrap_or_default();
        let mut tls = segments.iter().filter(|segment| segment.p_type(endian) == elf::PT_TLS);
        linkage.static_tls = Some(tls.next().map_or(0, |segment| segment.p_memsz(endian)));
    }
    Some(linkage)
}
