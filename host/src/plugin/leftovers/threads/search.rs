//! The threads of the process that run a library's code, whoever has started them and by whatever way.
//!
//! What a thread was started with tells whose it is ([`origin`](super::origin)): a function of the library, of one that is
//! closed with it, or a function of another library that was given something of it, as `libstdc++` is given an object of the
//! program's own type. Where it was started by the host or by another plugin it is theirs: none of their threads runs code of
//! this library by the time that it is closed. Only threads of which that does not tell, those of the C library and of libraries that
//! are there for several, have their stacks looked at.

use std::{collections::BTreeSet, fs, io, ops::Range, thread, time::Duration};

use super::{
    super::{
        super::{load, proc_fs},
        dependencies::Object,
        peek::Peek,
    },
    origin::{Descriptors, Origin},
    stack::{self, Whereabouts},
};

/// How often the list of threads is read, until it has no new one and of each it is known whose it is.
const ROUNDS: usize = 20;
/// What a thread that is just beginning, ending or running is given until the next round.
const PAUSE: Duration = Duration::from_micros(500);
/// How many words of what a thread was given are looked at.
const GIVEN: usize = 4;

/// Where the code of this process lies, by what becomes of it.
#[derive(Debug, Default)]
pub(in super::super) struct Memory {
    /// The library, and those that are closed with it.
    going: Vec<Range<usize>>,
    /// The code in that.
    code: Vec<Range<usize>>,
    /// The host and other plugins.
    elsewhere: Vec<Range<usize>>,
}

impl Memory {
    /// Around the library that lies there, with what goes with it, among all that is in memory.
    pub(in super::super) fn around(
        library: &Range<usize>,
        going: &[Object],
        objects: &[Object],
    ) -> Self {
        let own = objects.iter().filter(|object| object.memory == *library);
        let going: Vec<&Object> = own.chain(going).collect();
        let this = Memory::around as *const () as usize;
        let elsewhere = objects.iter().filter(|object| {
            object.path.as_os_str().is_empty()
                || object.memory.contains(&this)
                || (object.memory != *library && load::is_open(&object.path))
        });
        Memory {
            elsewhere: elsewhere.map(|object| object.memory.clone()).collect(),
            code: going.iter().map(|object| object.code.clone()).collect(),
            going: going.iter().map(|object| object.memory.clone()).collect(),
        }
    }

    fn whose(&self, address: usize) -> Whose {
        let within = |places: &[Range<usize>]| places.iter().any(|place| place.contains(&address));
        match () {
            () if within(&self.going) => Whose::Own,
            () if within(&self.elsewhere) => Whose::Others,
            () => Whose::Unknown,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Own,
    Others,
    Unknown,
}

/// A thread that a library is to be kept for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) id: u32,
    pub(super) why: Why,
}

/// What is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// It was started for the library.
    Started,
    /// It is in a call of the library.
    Inside,
    /// It runs all the time, and nobody knows what.
    Unknown,
}

/// All of them. `opened` is when the library was opened, in ticks since the system was booted: a thread that runs all the time,
/// and began before, is none of it.
///
/// # Errors
/// The system gives no descriptor or thread for the search.
pub(super) fn search(memory: &Memory, opened: Option<u64>) -> io::Result<Vec<Found>> {
    let Some(descriptors) = Descriptors::known()? else { return Ok(Vec::new()) };
    let look = Look { memory, descriptors, peek: Peek::new()? };
    let (mut decided, mut found, mut open) = (BTreeSet::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let new: Vec<u32> = threads().filter(|id| !decided.contains(id)).collect();
        if new.is_empty() {
            open.clear();
            break;
        }
        open = new;
        open.retain(|id| match look.decide(*id) {
            Some(why) => {
                decided.insert(*id);
                found.extend(why.map(|why| Found { id: *id, why }));
                false
            }
            None => true,
        });
        // Not without need: a library that nothing needs is closed at once.
        if !open.is_empty() {
            thread::sleep(PAUSE);
        }
    }
    let later = |id: &u32| {
        let began = proc_fs::began(*id);
        began.is_some_and(|began| opened.is_none_or(|opened| began >= opened))
    };
    let unknown = open.into_iter().filter(later);
    found.extend(unknown.map(|id| Found { id, why: Why::Unknown }));
    Ok(found)
}

/// The threads that the kernel has of this process; none without `/proc`.
fn threads() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

struct Look<'a> {
    memory: &'a Memory,
    descriptors: Descriptors,
    peek: Peek,
}

impl Look<'_> {
    /// Why the library is to be kept for a thread, if it is; `None` as long as that is not known.
    fn decide(&self, id: u32) -> Option<Option<Why>> {
        let origin = self.descriptors.origin(id, &self.peek);
        match origin.map_or(Whose::Unknown, |origin| self.whose(&origin)) {
            Whose::Own => return Some(Some(Why::Started)),
            Whose::Others => return Some(None),
            Whose::Unknown => {}
        }
        match stack::whereabouts(id) {
            Whereabouts::Untold => Some(None),
            Whereabouts::Running => None,
            Whereabouts::Waiting { stack, code } => {
                let top = origin.map(|origin| origin.descriptor);
                let places = &self.memory.code;
                let inside = places.iter().any(|place| place.contains(&code))
                    || stack::returns_to(places, stack, top, &self.peek);
                Some(inside.then_some(Why::Inside))
            }
        }
    }

    fn whose(&self, origin: &Origin) -> Whose {
        if origin.start == 0 {
            // The first thread is the program's.
            return Whose::Others;
        }
        let given = self.peek.some_words(origin.argument, GIVEN);
        let words = [origin.start, origin.argument].into_iter().chain(given);
        let mut known = words.map(|word| self.memory.whose(word));
        known.find(|whose| *whose != Whose::Unknown).unwrap_or(Whose::Unknown)
    }
}

#[cfg(test)]
#[allow(unsafe_code)]
mod tests {
    use std::{
        ffi::c_void,
        mem, ptr,
        sync::mpsc::{Receiver, Sender, channel},
    };

    use super::*;

    struct Ends(Sender<u32>, Receiver<()>);

    #[inline(never)]
    fn inside(ends: &Ends) {
        // SAFETY: a thread may ask for its number.
        let _ = ends.0.send(unsafe { libc::syscall(libc::SYS_gettid) } as u32);
        let _ = ends.1.recv();
    }

    extern "C" fn start(argument: *mut c_void) -> *mut c_void {
        // SAFETY: it is what is given below. From here on what was given is gone.
        let ends = *unsafe { Box::from_raw(argument.cast::<Ends>()) };
        inside(&ends);
        ptr::null_mut()
    }

    /// Why a thread is found that was started with `start`, and waits in `inside`.
    fn found_in(memory: &Memory) -> Option<Why> {
        let ((sender, id), (end, ended)) = (channel(), channel());
        let argument = Box::into_raw(Box::new(Ends(sender, ended)));
        // SAFETY: `start` takes what it is given, and the thread is joined.
        unsafe {
            let mut thread = mem::zeroed();
            let result = libc::pthread_create(&raw mut thread, ptr::null(), start, argument.cast());
            assert_eq!(result, 0);
            let id = id.recv().unwrap();
            let found = search(memory, None).unwrap().into_iter().find(|found| found.id == id);
            drop(end);
            libc::pthread_join(thread, ptr::null_mut());
            found.map(|found| found.why)
        }
    }

    fn from(start: usize, length: usize) -> Vec<Range<usize>> {
        Vec::from_iter(std::iter::once(start..start + length))
    }

    #[test]
    fn a_thread_is_found_by_what_it_was_started_with_or_by_where_it_is() {
        let started = from(start as *const () as usize, 1);
        let code = from(inside as *const () as usize, 4096);
        let memory = |going: &Vec<_>, code: &Vec<_>, elsewhere: &Vec<_>| Memory {
            going: going.clone(),
            code: code.clone(),
            elsewhere: elsewhere.clone(),
        };
        let none = Vec::new();
        assert_eq!(found_in(&memory(&started, &none, &none)), Some(Why::Started));
        assert_eq!(found_in(&memory(&none, &code, &none)), Some(Why::Inside));
        // What others start is theirs, wherever it is.
        assert_eq!(found_in(&memory(&none, &code, &started)), None);
    }

    #[test]
    fn what_a_function_of_a_third_library_is_given_tells_whose_thread_it_is() {
        let [own, other, third] = [1_usize, 2, 3].map(|number| number << 20);
        let memory =
            Memory { going: from(own, 100), code: Vec::new(), elsewhere: from(other, 100) };
        let descriptors = Descriptors::known().unwrap().unwrap();
        let look = Look { memory: &memory, descriptors, peek: Peek::new().unwrap() };
        let whose = |start, argument| look.whose(&Origin { start, argument, descriptor: 0 });
        let given = |words: [usize; GIVEN]| whose(third, words.as_ptr() as usize);
        assert_eq!(whose(own + 1, 0), Whose::Own);
        assert_eq!(whose(other + 1, own), Whose::Others);
        assert_eq!(whose(third, own), Whose::Own);
        assert_eq!(whose(third, 0), Whose::Unknown);
        assert_eq!(given([third, 7, own + 5, other]), Whose::Own);
        assert_eq!(given([other, own, 0, 0]), Whose::Others);
        assert_eq!(given([0, 1, 2, third]), Whose::Unknown);
        assert_eq!(whose(0, own), Whose::Others, "the first thread");
    }
}
