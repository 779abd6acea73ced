//! Finding the manifest in an ELF file, and making sure that the file is all there.
//!
//! A library that is cut off anywhere can end the process that opens it (SIGBUS inside the dynamic
//! linker), so every range the file declares is compared with its length first. Linkers put the
//! section table last, so a cut is noticed wherever it is.

use std::env::consts::ARCH;

use object::elf::{self, FileHeader64, ProgramHeader64};
use object::read::elf::{Dyn, FileHeader, ProgramHeader, SectionHeader};
use object::{Endian, Endianness};

use super::{MAX_SECTION, ManifestError, SECTION};

pub(super) type ElfHeader = FileHeader64<Endianness>;
type Segment = ProgramHeader64<Endianness>;

/// Whether a file of `len` bytes that begins like this may be a shared library for this machine.
/// The head must have all of the file's header.
pub(super) fn check_head(head: &[u8], len: u64) -> Result<(), ManifestError> {
    let (header, endian) = header(head)?;
    check_machine(header, endian)?;
    check_type(header, endian)?;
    let table = |count: u16, size: u16| u64::from(count) * u64::from(size);
    let segments = table(header.e_phnum(endian), header.e_phentsize(endian));
    inside(len, "program header table", header.e_phoff(endian), segments)?;
    let sections = table(header.e_shnum(endian), header.e_shentsize(endian));
    inside(len, "section table", header.e_shoff(endian), sections)
}

/// The content of the manifest section of `bytes`, which is a complete shared library for this
/// machine.
pub(super) fn manifest_section(bytes: &[u8]) -> Result<&[u8], ManifestError> {
    let (header, endian) = header(bytes)?;
    check_machine(header, endian)?;
    let segments = segments(header, endian, bytes)?;
    check_shared(header, endian, bytes, segments)?;
    find_section(header, endian, bytes, segments)
}

fn header(bytes: &[u8]) -> Result<(&ElfHeader, Endianness), ManifestError> {
    if bytes.is_empty() {
        return Err(ManifestError::Empty);
    }
    if !bytes.starts_with(&elf::ELFMAG) {
        return Err(ManifestError::NotElf { found: kind_of(bytes).to_owned() });
    }
    match bytes.get(4).copied().map(elf::FileClass) {
        Some(elf::ELFCLASS32) => {
            return Err(ManifestError::Not64Bit { found: "a 32-bit".to_owned(), host: ARCH });
        }
        Some(class) if class != elf::ELFCLASS64 => {
            return Err(ManifestError::Not64Bit {
                found: format!("a class {}", class.0),
                host: ARCH,
            });
        }
        _ => {}
    }
    inside(bytes.len() as u64, "ELF header", 0, size_of::<ElfHeader>() as u64)?;
    let header = ElfHeader::parse(bytes).map_err(damaged("header"))?;
    Ok((header, header.endian().map_err(damaged("header"))?))
}

fn check_machine(header: &ElfHeader, endian: Endianness) -> Result<(), ManifestError> {
    let machine = header.e_machine(endian);
    let same_order = endian.is_big_endian() == cfg!(target_endian = "big");
    // A host on a machine without an entry here leaves the question to the dynamic linker, in the
    // probe.
    let same_machine = host_machine().is_none_or(|host| host == machine);
    if same_machine && same_order {
        return Ok(());
    }
    let order = if same_order { "" } else { " in the other byte order" };
    Err(ManifestError::OtherArchitecture {
        found: format!("{}{order}", machine_name(machine)),
        host: ARCH,
    })
}

/// All program headers, each of which lies inside the file with all that it describes.
fn segments<'data>(
    header: &ElfHeader,
    endian: Endianness,
    bytes: &'data [u8],
) -> Result<&'data [Segment], ManifestError> {
    let table = u64::from(header.e_phnum(endian)) * u64::from(header.e_phentsize(endian));
    inside(bytes.len() as u64, "program header table", header.e_phoff(endian), table)?;
    let segments =
        header.program_headers(endian, bytes).map_err(damaged("program header table"))?;
    for (index, segment) in segments.iter().enumerate() {
        let (offset, size) = segment.file_range(endian);
        inside(bytes.len() as u64, format_args!("segment {index}"), offset, size)?;
    }
    Ok(segments)
}

fn check_shared(
    header: &ElfHeader,
    endian: Endianness,
    bytes: &[u8],
    segments: &[Segment],
) -> Result<(), ManifestError> {
    check_type(header, endian)?;
    let not_shared = |found: String| Err(ManifestError::NotSharedLibrary { found });
    if !segments.iter().any(|segment| segment.p_type(endian) == elf::PT_LOAD) {
        return not_shared("an ELF file without anything to load".to_owned());
    }
    // A position-independent executable has the type of a shared library too.
    for segment in segments {
        let entries = segment.dynamic(endian, bytes).map_err(damaged("dynamic table"))?;
        let is_pie = entries.unwrap_or_default().iter().any(|entry| {
            entry.tag(endian) == elf::DT_FLAGS_1 && entry.val(endian) & elf::DF_1_PIE.0 != 0
        });
        if is_pie {
            return not_shared("an executable".to_owned());
        }
    }
    Ok(())
}

fn check_type(header: &ElfHeader, endian: Endianness) -> Result<(), ManifestError> {
    let found = match header.e_type(endian) {
        elf::ET_DYN => return Ok(()),
        elf::ET_REL => "an object file (.o)".to_owned(),
        elf::ET_EXEC => "an executable".to_owned(),
        elf::ET_CORE => "a core dump".to_owned(),
        other => format!("an ELF file of type {}", other.0),
    };
    Err(ManifestError::NotSharedLibrary { found })
}

fn find_section<'data>(
    header: &ElfHeader,
    endian: Endianness,
    bytes: &'data [u8],
    segments: &[Segment],
) -> Result<&'data [u8], ManifestError> {
    let table = u64::from(header.e_shnum(endian)) * u64::from(header.e_shentsize(endian));
    inside(bytes.len() as u64, "section table", header.e_shoff(endian), table)?;
    let sections = header.section_headers(endian, bytes).map_err(damaged("section table"))?;
    for (index, section) in sections.iter().enumerate() {
        if let Some((offset, size)) = section.file_range(endian) {
            inside(bytes.len() as u64, format_args!("section {index}"), offset, size)?;
        }
    }

    let sections = header.sections(endian, bytes).map_err(damaged("section names"))?;
    let (_, section) =
        sections.section_by_name(endian, SECTION.as_bytes()).ok_or(ManifestError::NoManifest)?;
    let (offset, size) = section.file_range(endian).ok_or(ManifestError::NotLoaded)?;
    let is_loaded = segments.iter().any(|segment| {
        let (start, length) = segment.file_range(endian);
        segment.p_type(endian) == elf::PT_LOAD
            && start <= offset
            && offset.saturating_add(size) <= start.saturating_add(length)
    });
    if !is_loaded {
        return Err(ManifestError::NotLoaded);
    }
    if size > MAX_SECTION {
        return Err(ManifestError::TooLarge { found: size, limit: MAX_SECTION });
    }
    section.data(endian, bytes).map_err(damaged("manifest section"))
}

fn inside(
    len: u64,
    part: impl std::fmt::Display,
    offset: u64,
    size: u64,
) -> Result<(), ManifestError> {
    // An end beyond u64 is outside all the more; the message may show the largest number instead.
    let end = offset.saturating_add(size);
    if end <= len { Ok(()) } else { Err(ManifestError::Torn { part: part.to_string(), end, len }) }
}

fn damaged(part: &'static str) -> impl FnOnce(object::Error) -> ManifestError {
    move |error| ManifestError::Damaged { part, reason: error.to_string() }
}

fn host_machine() -> Option<elf::Machine> {
    match ARCH {
        "x86_64" => Some(elf::EM_X86_64),
        "aarch64" => Some(elf::EM_AARCH64),
        "riscv64" => Some(elf::EM_RISCV),
        "powerpc64" => Some(elf::EM_PPC64),
        "s390x" => Some(elf::EM_S390),
        "loongarch64" => Some(elf::EM_LOONGARCH),
        _ => None,
    }
}

fn machine_name(machine: elf::Machine) -> String {
    match machine {
        elf::EM_X86_64 => "x86_64".to_owned(),
        elf::EM_386 => "x86".to_owned(),
        elf::EM_AARCH64 => "aarch64".to_owned(),
        elf::EM_ARM => "arm".to_owned(),
        elf::EM_RISCV => "riscv64".to_owned(),
        elf::EM_PPC64 => "powerpc64".to_owned(),
        elf::EM_S390 => "s390x".to_owned(),
        elf::EM_LOONGARCH => "loongarch64".to_owned(),
        other => format!("ELF machine {}", other.0),
    }
}

/// What a file that is not ELF seems to be, with its article.
fn kind_of(bytes: &[u8]) -> &'static str {
    const KINDS: &[(&[u8], &str)] = &[
        (b"MZ", "a Windows program or library (PE)"),
        (b"\xfe\xed\xfa\xce", "a macOS library or program (Mach-O)"),
        (b"\xfe\xed\xfa\xcf", "a macOS library or program (Mach-O)"),
        (b"\xce\xfa\xed\xfe", "a macOS library or program (Mach-O)"),
        (b"\xcf\xfa\xed\xfe", "a macOS library or program (Mach-O)"),
        (b"\xca\xfe\xba\xbe", "a macOS universal binary (Mach-O) or a Java class"),
        (b"!<arch>\n", "a static library (ar archive)"),
        (b"!<thin>\n", "a static library (thin ar archive)"),
        (b"PK\x03\x04", "a zip archive"),
        (b"\x1f\x8b", "a gzip archive"),
        (b"\xfd7zXZ\0", "an xz archive"),
        (b"\x28\xb5\x2f\xfd", "a zstd archive"),
        (b"#!", "a script"),
        (b"\0asm", "a WebAssembly module"),
    ];
    let start = &bytes[..bytes.len().min(512)];
    let is_text = |text: &str| !text.chars().any(|c| c.is_control() && !c.is_ascii_whitespace());
    if let Some((_, kind)) = KINDS.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        kind
    } else if start.iter().all(|byte| *byte == 0) {
        "a file that starts with nothing but zero bytes"
    } else if start.utf8_chunks().next().is_some_and(|chunk| {
        // A character that the 512 bytes cut in two is no reason to call a text something else.
        !chunk.valid().is_empty()
            && chunk.valid().len() + chunk.invalid().len() == start.len()
            && is_text(chunk.valid())
    }) {
        "a text"
    } else {
        "a file of unknown kind"
    }
}
