//! The libraries that are closed together with a plugin's, because nothing else in the process
//! needs them.
//!
//! Read off what the loader has in memory: each object names those that it needs. One that the
//! program opened by name besides, with `dlopen`, stays all the same; nothing tells that.

#![allow(unsafe_code)]

use std::{ops::Range, path::PathBuf};

/// A library in memory, or the program itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object {
    /// What others name it by.
    pub(super) name: String,
    /// The file that it was loaded from; nothing for the program.
    pub(super) path: PathBuf,
    pub(super) memory: Range<usize>,
    /// Where its code lies in that.
    pub(super) code: Range<usize>,
    needs: Vec<String>,
    /// It was linked so that it never leaves memory.
    stays: bool,
}

/// Those that go with the library that lies there, among `objects`.
pub(super) fn going_with(objects: &[Object], memory: &Range<usize>) -> Vec<Object> {
    let Some(library) = objects.iter().position(|object| object.memory == *memory) else {
        return Vec::new();
    };
    let all = closure(objects, vec![library]);
    let kept = |index: &usize| objects[*index].stays || !all.contains(index);
    let stay = closure(objects, (0..objects.len()).filter(kept).collect());
    let goes = |index: &usize| *index != library && !stay.contains(index);
    all.into_iter().filter(goes).map(|index| objects[index].clone()).collect()
}

/// What the library that lies there needs, directly or not, and the program itself does not.
pub(super) fn needed_without_the_program<'a>(
    objects: &'a [Object],
    memory: &Range<usize>,
) -> impl Iterator<Item = &'a Object> {
    let at = |is: &dyn Fn(&Object) -> bool| objects.iter().position(is);
    let library = at(&|object| object.memory == *memory);
    let program = at(&|object| object.path.as_os_str().is_empty());
    let not = closure(objects, Vec::from_iter(program));
    let all = closure(objects, Vec::from_iter(library));
    all.into_iter()
        .filter(move |index| Some(*index) != library && !not.contains(index))
        .map(|index| &objects[index])
}

/// These, and all that they need.
fn closure(objects: &[Object], mut found: Vec<usize>) -> Vec<usize> {
    let mut next = 0;
    while let Some(index) = found.get(next) {
        let needed = objects[*index].needs.iter();
        let needed: Vec<usize> = needed
            .filter_map(|name| objects.iter().position(|object| object.name == *name))
            .filter(|index| !found.contains(index))
            .collect();
        found.extend(needed);
        next += 1;
    }
    found
}

/// All that the loader has in memory; nothing where it does not tell.
#[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
pub(super) fn objects() -> Vec<Object> {
    let mut objects: Vec<Object> = Vec::new();
    // SAFETY: `loader::note` has the type that is asked for, and gets the list, which outlives the
    // call.
    unsafe { libc::dl_iterate_phdr(Some(loader::note), (&raw mut objects).cast()) };
    objects
}

#[cfg(not(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64")))]
pub(super) fn objects() -> Vec<Object> {
    Vec::new()
}

#[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
mod loader {
    use std::{
        ffi::{CStr, OsStr, c_int, c_void},
        os::unix::ffi::OsStrExt,
        path::Path,
        slice,
    };

    use super::Object;

    const NEEDED: i64 = 1;
    const TEXTS: i64 = 5;
    const NAME: i64 = 14;
    const FLAGS_1: i64 = 0x6fff_fffb;
    const NO_DELETE: u64 = 8;

    /// An entry of an object's dynamic section.
    #[repr(C)]
    struct DynamicEntry {
        tag: i64,
        value: u64,
    }

    /// Adds an object to the list.
    pub(super) unsafe extern "C" fn note(
        info: *mut libc::dl_phdr_info,
        _size: usize,
        list: *mut c_void,
    ) -> c_int {
        // SAFETY: the loader passes a valid entry, with so many headers, and the list that
        // `objects` gave it.
        let (info, list, headers) = unsafe {
            let (info, list) = (&*info, &mut *list.cast::<Vec<Object>>());
            (info, list, slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)))
        };
        let base = info.dlpi_addr;
        let place = |header: &libc::Elf64_Phdr| base.wrapping_add(header.p_vaddr) as usize;
        let lies = |rights: u32| {
            headers
                .iter()
                .filter(|header| {
                    header.p_type == libc::PT_LOAD && header.p_flags & rights == rights
                })
                .map(|header| place(header)..place(header) + header.p_memsz as usize)
                .reduce(|all, part| all.start.min(part.start)..all.end.max(part.end))
        };
        let (memory, code) = (lies(0), lies(libc::PF_X).unwrap_or_default());
        let section = headers.iter().find(|header| header.p_type == libc::PT_DYNAMIC);
        let (Some(memory), Some(section)) = (memory, section) else { return 0 };
        let mut entries = Vec::new();
        let mut entry = place(section) as *const DynamicEntry;
        // SAFETY: the loader has the section in memory for as long as this runs, and it ends with
        // an entry of tag 0.
        unsafe {
            while (*entry).tag != 0 {
                entries.push(((*entry).tag, (*entry).value));
                entry = entry.add(1);
            }
        }
        let Some((_, texts)) = entries.iter().find(|(tag, _)| *tag == TEXTS) else { return 0 };
        // The loader has made an address of it, but for objects that it has not loaded itself.
        let texts = if *texts < base { base + texts } else { *texts };
        let with = |wanted: i64| {
            let values = entries.iter().filter(move |(tag, _)| *tag == wanted);
            values.map(move |(_, offset)| {
                // SAFETY: an offset into the object's texts, each of which ends with a zero byte.
                let text = unsafe { CStr::from_ptr((texts + offset) as *const _) };
                text.to_string_lossy().into_owned()
            })
        };
        // SAFETY: as above.
        let path = unsafe { CStr::from_ptr(info.dlpi_name) };
        let path = Path::new(OsStr::from_bytes(path.to_bytes())).to_owned();
        let file = || path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = with(NAME).next().unwrap_or_else(file);
        let flags = entries.iter().find(|(tag, _)| *tag == FLAGS_1);
        let stays = flags.is_some_and(|(_, flags)| flags & NO_DELETE != 0);
        list.push(Object { name, path, memory, code, needs: with(NEEDED).collect(), stays });
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, start: usize, needs: &[&str]) -> Object {
        let needs = needs.iter().map(|name| (*name).to_owned()).collect();
        let memory = start..start + 10;
        let code = memory.clone();
        Object { name: name.to_owned(), path: PathBuf::new(), memory, code, needs, stays: false }
    }

    #[test]
    fn a_library_takes_along_what_it_alone_needs() {
        let mut objects = vec![
            object("", 0, &["libc"]),
            object("libc", 10, &["loader"]),
            object("loader", 20, &[]),
            object("plugin", 30, &["own", "shared", "libc"]),
            object("own", 40, &["deeper", "libc"]),
            object("deeper", 50, &["own"]),
            object("shared", 60, &["libc"]),
            object("another", 70, &["shared"]),
        ];
        let names = |objects: &[Object], memory| {
            let going = going_with(objects, &memory);
            going.into_iter().map(|object| object.name).collect::<Vec<_>>()
        };
        assert_eq!(names(&objects, 30..40), ["own", "deeper"]);
        assert_eq!(names(&objects, 70..80), [""; 0]);
        assert_eq!(names(&objects, 31..40), [""; 0]);
        // What needs it never goes.
        objects[5].stays = true;
        assert_eq!(names(&objects, 30..40), [""; 0]);
    }

    #[test]
    fn what_a_library_needs_is_told_without_what_the_program_needs_as_well() {
        let mut objects = vec![
            object("", 0, &["libc"]),
            object("libc", 10, &["loader"]),
            object("loader", 20, &[]),
            object("plugin", 30, &["pool", "libc"]),
            object("pool", 40, &["deeper", "libc"]),
            object("deeper", 50, &[]),
        ];
        objects.iter_mut().skip(1).for_each(|it| it.path = PathBuf::from(&it.name));
        let names = |memory| -> Vec<&str> {
            needed_without_the_program(&objects, &memory).map(|it| &*it.name).collect()
        };
        assert_eq!(names(30..40), ["pool", "deeper"]);
        assert_eq!(names(31..40), [""; 0]);
    }

    #[test]
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn the_c_library_is_needed_by_this_program() {
        let objects = objects();
        let libc = objects.iter().find(|object| object.name == "libc.so.6").expect("glibc");
        assert!(libc.memory.contains(&(libc::sigaction as *const () as usize)));
        assert!(objects[0].needs.contains(&libc.name), "{:?}", objects[0]);
        let function = libc::sigaction as *const () as usize;
        assert!(libc.code.contains(&function) && libc.path.is_absolute(), "{libc:?}");
        assert_eq!(going_with(&objects, &libc.memory), []);
    }
}
