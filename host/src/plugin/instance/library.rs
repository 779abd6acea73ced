//! Opening a library, checking that it is what it says, and closing it for good.
//!
//! abi_stable's own loading functions are not used: they keep a library for ever, give the first
//! plugin again for the second, and remember layouts by pointers into libraries that are unmapped
//! later. What is done here instead: open, read the header, check its layout with tables that are
//! dropped at once, take the root module.

#![allow(unsafe_code)]

mod loader_says;
mod thread;

use std::{
    collections::BTreeSet,
    future::Future,
    io,
    mem::ManuallyDrop,
    ops::Range,
    path::{Path, PathBuf},
    sync::MutexGuard,
    thread::Builder,
    time::Duration,
};

use ksi_abi::{
    CallEnd, Description, HostRef, Instance, ModuleRef,
    module::{self, AbiHeaderRef, check_layout},
    unload::{Remains, StartedThread},
};
use ksi_kernel::lock::Lock;
use thiserror::Error;

use super::signals::{Handled, LibrarySignals};
use crate::{system::proc_fs, text::causes::with_causes};
use thread::LibraryThread;

/// Why a library could not be loaded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The system's loader refuses it: a missing dependency, an undefined symbol.
    #[error("{path} cannot be opened as a library: {}{}", with_causes(&**source), way_out(&**source), path = .path.display())]
    Open {
        /// The private copy.
        path: PathBuf,
        /// What the loader says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is no thread to open it on.
    #[error("no thread can be started to open {path}: {source}", path = .path.display())]
    Thread {
        /// The private copy.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It has no root module.
    #[error("{path} exports no plugin: {}. Is the #[plugin] attribute there?", with_causes(&**source), path = .path.display())]
    NoHeader {
        /// The private copy.
        path: PathBuf,
        /// What the loader says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Its header is that of another abi_stable.
    #[error("{path} has a header of another kind: {reason}. Rebuild it against this host's ksi-plugin-api", path = .path.display())]
    Header {
        /// The private copy.
        path: PathBuf,
        /// What abi_stable says.
        reason: String,
    },
    /// It carries no layout to check.
    #[error("{path} says nothing of its layout, so it cannot be trusted. Rebuild it with the #[plugin] attribute", path = .path.display())]
    NoLayout {
        /// The private copy.
        path: PathBuf,
    },
    /// Its types differ from the host's.
    #[error(
        "{path} was built against another ksi-plugin-api than this host, of the same ABI number and with other types. \
         The host is of version {}: build the plugin against that, or both from one version if the plugin is the newer one \
         (`cargo tree -i abi_stable` shows whether there are two of that)",
        env!("CARGO_PKG_VERSION"), path = .path.display()
    )]
    Layout {
        /// The private copy.
        path: PathBuf,
    },
}

fn way_out(error: &(dyn std::error::Error + Send + Sync + 'static)) -> String {
    loader_says::way_out(&with_causes(error).to_string())
}

/// An open library of a plugin, and its root module.
///
/// Nothing that the library made may exist any more when this is closed or dropped; see `ksi_abi`.
pub(crate) struct PluginLibrary {
    library: Option<libloading::Library>,
    pub(crate) module: ModuleRef,
    /// Its part in the process's signals.
    pub(crate) signals: LibrarySignals,
    /// When it was opened, at the earliest: in ticks since the system was booted.
    pub(crate) opened: Option<u64>,
    path: PathBuf,
    /// The thread that it was opened on.
    thread: Option<Box<LibraryThread>>,
}

/// One library is opened at a time: what its constructors do to signals is to be told from what
/// others' do.
static OPENING: Lock<()> = Lock::new(());

/// Those that are open, by their files.
static OPEN: Lock<BTreeSet<PathBuf>> = Lock::new(BTreeSet::new());

fn open_now() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    OPEN.lock()
}

/// Whether what was loaded from this file is the library of a plugin.
pub(super) fn is_open(path: &Path) -> bool {
    open_now().contains(path)
}

impl PluginLibrary {
    /// Opens the library at `path`, which runs its constructors, and takes the root module that its
    /// manifest calls `header`. Only after that was read, and where plugin code may run.
    pub(crate) fn open(path: &Path, header: &str) -> Result<Self, LoadError> {
        // What is no earlier than this thread.
        let opened = proc_fs::this_thread_began();
        let _opening = OPENING.lock();
        // SAFETY: the file's bytes were found to be those of a plugin, and a child process has
        // opened the same bytes before (or the operator has switched that off). Its constructors
        // are those of a Rust library.
        let library = unsafe { open(path) }
            .map_err(|source| LoadError::Open { path: path.to_owned(), source: source.into() })?;
        // Its constructors have run, and what they left behind was not looked at: one that is
        // refused stays mapped.
        let library = ManuallyDrop::new(library);
        let module = root_module(&library, path, header)?;
        let library = ManuallyDrop::into_inner(library);
        let (path, signals) = (path.to_owned(), LibrarySignals::bind(module));
        open_now().insert(path.clone());
        Ok(PluginLibrary { library: Some(library), module, signals, opened, path, thread: None })
    }

    /// Asks it for its description. Where plugin code may run.
    pub(crate) fn describe(&self) -> Result<Description, String> {
        match module::describe(self.module) {
            CallEnd::Reply(text) => serde_json::from_slice(&text)
                .map_err(|error| format!("its description cannot be read: {error}")),
            CallEnd::NoReply | CallEnd::Value(_) => Err("it gives no description".to_owned()),
            CallEnd::Failed(failure) => {
                Err(format!("it cannot describe itself: {}", failure.to_texts().1))
            }
            CallEnd::Panicked(message) => {
                Err(format!("it panics when it is asked to describe itself: {}", message.to_text()))
            }
        }
    }

    /// Has `open` open the library at `path` on a thread that stays until the library is about to
    /// be closed.
    pub(crate) async fn open_on_its_own_thread(
        path: PathBuf,
        open: impl FnOnce(&Path) -> Result<Self, LoadError> + Send + 'static,
    ) -> Result<Self, LoadError> {
        let file = path.clone();
        let no_thread = |source| LoadError::Thread { path: path.clone(), source };
        let started = LibraryThread::start(move || open(&file));
        let (opened, thread) = started.map_err(no_thread)?;
        let ended = |_| no_thread(io::Error::other("the thread has ended"));
        let mut library = opened.await.map_err(ended)??;
        library.thread = Some(Box::new(thread));
        Ok(library)
    }

    /// Ends the thread that it was opened on, if it has not before, and waits so long for it;
    /// whether it has ended.
    pub(crate) fn end_thread(&mut self, limit: Duration) -> Option<bool> {
        let ended = self.thread.as_mut()?.end(limit);
        if ended {
            self.thread = None;
        }
        Some(ended)
    }

    /// What the library has noted of itself that must not be there when it is closed. For whoever
    /// is about to close it.
    pub(crate) fn remains(&self, threads: &mut [StartedThread]) -> Remains {
        // SAFETY: whoever closes a library has seen to it that its code does not run any more (see
        // `retire`), and asks for nothing else of it from here on.
        unsafe { module::before_close(self.module, threads) }
    }

    /// The signals that its code handles or wants ignored.
    pub(crate) fn signals(&self) -> Vec<Handled> {
        self.signals.handled()
    }

    /// The signals whose handlers of it are running.
    pub(crate) fn signals_inside(&self) -> Vec<String> {
        self.signals.inside()
    }

    /// The addresses that it lies at, from its first byte to its last, or nothing where the system
    /// does not tell.
    pub(crate) fn memory(&self) -> Range<usize> {
        memory_of(&self.path).unwrap_or_default()
    }

    /// Whether the loader keeps it in memory for this one: otherwise none of its code may be called
    /// any more.
    pub(crate) fn is_held(&self) -> bool {
        self.library.is_some()
    }

    /// Closes it, and looks whether it is gone. One that is not is held again at once: as long as
    /// it is not, the loader may let go of it whenever any other library is closed, whatever has
    /// come to need it by then.
    pub(crate) fn close(mut self) -> Closed {
        if let Some(library) = self.library.take()
            && let Err(error) = library.close()
        {
            let cause = format!("it could not be closed: {}", with_causes(&error));
            return Closed::Mapped { cause, library: Box::new(self) };
        }
        self.library = held_again(&self.path);
        let cause = match &self.library {
            Some(_) => Some(KEPT.to_owned()),
            None => still_mapped(&self.path),
        };
        match cause {
            Some(cause) => Closed::Mapped { cause, library: Box::new(self) },
            None => {
                open_now().remove(&self.path);
                Closed::Unmapped
            }
        }
    }
}

impl Drop for PluginLibrary {
    fn drop(&mut self) {
        // Closing is for `close` alone, after all that the library made is gone. Anywhere else it
        // stays mapped.
        if let Some(library) = self.library.take() {
            std::mem::forget(library);
        }
    }
}

/// Makes an instance of a library that is open. To be called, polled and dropped on dispatch
/// workers.
pub(crate) fn create(
    module: ModuleRef,
    host: HostRef,
    config: &[u8],
) -> impl Future<Output = Result<Instance, CallEnd>> + Send + use<> {
    // SAFETY: what goes on of a call lies before the entry that holds the instance (`Call` in the
    // kernel's `call.rs`), and a snapshot, a restore or a shutdown borrows it; only then it comes
    // out of its `LiveInstance`, and is dropped before its library is closed
    // (`lifecycle/retire.rs`), which waits for the plugin's values too. There is one type of events
    // in this host, and all hosts that are shown to plugins have it. A plugin's process
    // (`worker/child/`) has one of its own, which all of its calls have; and what goes on of a call
    // lies before the instance there too (`RunningCall` in `calls.rs`).
    unsafe { module::create(module, host, config) }
}

/// Why an instance was not made, for people.
pub(in crate::plugin) fn reason_of(end: CallEnd) -> String {
    match end {
        CallEnd::Failed(failure) => failure.to_texts().1,
        CallEnd::Panicked(message) => format!("it panicked: {}", message.to_text()),
        CallEnd::Reply(_) | CallEnd::Value(_) | CallEnd::NoReply => {
            "it gave an answer that makes no sense".to_owned()
        }
    }
}

/// Whether a closed library has left memory.
pub(crate) enum Closed {
    /// It has.
    Unmapped,
    /// It has not, because of `cause`. To close it once more may succeed later.
    Mapped { cause: String, library: Box<PluginLibrary> },
}

const KEPT: &str = "a thread that it started, or that keeps a thread-local of it, has not ended";

/// A library that was closed and that the loader still has: a thread that keeps it has not ended.
#[cfg(unix)]
fn held_again(path: &Path) -> Option<libloading::Library> {
    use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
    // SAFETY: with RTLD_NOLOAD nothing is opened and no constructor runs; a library that is still
    // mapped is only counted once more.
    let found = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL | libc::RTLD_NOLOAD) };
    found.ok().map(Into::into)
}

#[cfg(not(unix))]
fn held_again(_path: &Path) -> Option<libloading::Library> {
    None
}

/// Why a library is still in memory that the loader does not have any more, if it is.
#[cfg(target_os = "linux")]
fn still_mapped(path: &Path) -> Option<String> {
    let Some(tail) = tail(path) else {
        return Some("its name cannot be looked for in /proc/self/maps".to_owned());
    };
    match std::fs::read("/proc/self/maps") {
        Ok(maps) => {
            let maps = String::from_utf8_lossy(&maps);
            let is_there = proc_fs::code(&maps).any(|line| line.contains(&tail));
            is_there.then(|| KEPT.to_owned())
        }
        Err(_) if !proc_fs::is_there() => {
            Some(format!("whether it has left memory cannot be told: {}", proc_fs::ADVICE))
        }
        Err(error) => Some(format!("/proc/self/maps cannot be read: {error}")),
    }
}

/// The file's name with that of its folder, by which a private copy is known in a list of what is
/// mapped: a library that a plugin brings along may have any name, and lies in another folder. The
/// folders above may be told otherwise there.
#[cfg(target_os = "linux")]
fn tail(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    match path.parent().and_then(Path::file_name) {
        Some(folder) => Some(format!("/{}/{name}", folder.to_str()?)),
        None => Some(format!("/{name}")),
    }
}

#[cfg(not(target_os = "linux"))]
fn still_mapped(_path: &Path) -> Option<String> {
    Some("whether it left memory is not looked into on this system".to_owned())
}

/// Where the library that was opened by this path lies, with what is no part of its file (`.bss`).
#[cfg(target_os = "linux")]
fn memory_of(path: &Path) -> Option<Range<usize>> {
    use std::{ffi::CStr, os::unix::ffi::OsStrExt, slice};

    struct Search<'a> {
        path: &'a [u8],
        found: Option<Range<usize>>,
    }

    unsafe extern "C" fn look(
        info: *mut libc::dl_phdr_info,
        _size: usize,
        search: *mut libc::c_void,
    ) -> libc::c_int {
        // SAFETY: the loader passes a valid entry, and on what `dl_iterate_phdr` got below: nobody
        // else has either.
        let (info, search) = unsafe { (&*info, &mut *search.cast::<Search<'_>>()) };
        // SAFETY: the loader's names end with a zero byte, and its entries have so many headers.
        let (name, headers) = unsafe {
            let headers = slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum));
            (CStr::from_ptr(info.dlpi_name), headers)
        };
        if name.to_bytes() != search.path {
            return 0;
        }
        let loaded = headers.iter().filter(|header| header.p_type == libc::PT_LOAD);
        search.found = loaded
            .map(|header| {
                let start = info.dlpi_addr.wrapping_add(header.p_vaddr) as usize;
                start..start + header.p_memsz as usize
            })
            .reduce(|all, part| all.start.min(part.start)..all.end.max(part.end));
        1
    }

    let mut search = Search { path: path.as_os_str().as_bytes(), found: None };
    // SAFETY: `look` has the type that is asked for, and gets the search, which outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut search).cast()) };
    search.found
}

#[cfg(not(target_os = "linux"))]
fn memory_of(_path: &Path) -> Option<Range<usize>> {
    None
}

/// # Safety
/// The constructors of the library at `path` may run.
#[cfg(unix)]
unsafe fn open(path: &Path) -> Result<libloading::Library, libloading::Error> {
    use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
    // SAFETY: promised by the caller. RTLD_NOW finds an undefined symbol here and not in a call.
    unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map(Into::into)
}

/// # Safety
/// The constructors of the library at `path` may run.
#[cfg(not(unix))]
unsafe fn open(path: &Path) -> Result<libloading::Library, libloading::Error> {
    // SAFETY: promised by the caller.
    unsafe { libloading::Library::new(path) }
}

fn root_module(
    library: &libloading::Library,
    path: &Path,
    header: &str,
) -> Result<ModuleRef, LoadError> {
    let refused = |error: &dyn std::fmt::Display| LoadError::Header {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    // SAFETY: the name of a static of the type that `AbiHeaderRef` refers to, by which only that is
    // exported. The first thing that is read of it is a magic, in `upgrade`.
    let erased = unsafe { library.get::<AbiHeaderRef>(header.as_bytes()) }
        .map_err(|source| LoadError::NoHeader { path: path.to_owned(), source: source.into() })?;
    let found = (*erased).upgrade().map_err(|error| refused(&error))?;
    let layout = found.layout().ok_or_else(|| LoadError::NoLayout { path: path.to_owned() })?;
    // It goes deep, and the thread that opens a library stays: its stack would keep what was needed
    // once.
    let check = || check_layout(layout);
    let checked = std::thread::scope(|scope| {
        let thread = Builder::new().name("ksi-layout".to_owned());
        thread.spawn_scoped(scope, check).map(|checking| checking.join())
    });
    let checked = checked.map_err(|source| LoadError::Thread { path: path.to_owned(), source })?;
    let differences = match checked {
        Ok(checked) => checked.err(),
        Err(_) => Some("the check panicked".to_owned()),
    };
    if let Some(differences) = differences {
        // Pages, for whoever works on the boundary.
        tracing::debug!(path = %path.display(), "its types differ: {differences}");
        return Err(LoadError::Layout { path: path.to_owned() });
    }
    // SAFETY: the layout was checked just now.
    unsafe { found.init_root_module_with_unchecked_layout::<ModuleRef>() }
        .map_err(|error| refused(&error))
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_refused_after_its_constructors_ran_stays_mapped() {
        // Of the C library, and used by nobody.
        let path = Path::new("libBrokenLocale.so.1");
        assert_eq!(still_mapped(path), None, "it is there already");
        let refused = PluginLibrary::open(path, "ksi_plugin_none").err();
        assert!(matches!(refused, Some(LoadError::NoHeader { .. })), "{refused:?}");
        assert!(still_mapped(path).is_some());
    }

    #[test]
    fn another_library_of_the_same_name_is_no_reason_to_say_that_one_is_mapped() {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let mapped = proc_fs::code(&maps).find_map(|line| line.find('/').map(|at| &line[at..]));
        let mapped = Path::new(mapped.expect("this test"));
        assert!(still_mapped(mapped).is_some());
        let other = Path::new("/private/plugin-1").join(mapped.file_name().unwrap());
        assert_eq!(still_mapped(&other), None);
    }
}
