//! The threads of the process that run a library's code, whoever has started them and by whatever
//! way.
//!
//! What a thread was started with tells whose it is ([`origin`](super::origin)): a function of the
//! library, of one that is closed with it, or a function of another library that was given
//! something of it, as `libstdc++` is given an object of the program's own type. Where it was
//! started with a function of the host or of another plugin it is theirs: none of their threads
//! runs code of this library by the time that it is closed. All others, those that were started
//! with a function of the C library or of a library that is there for several, have their stacks
//! looked at. That such a thread was given something of the host is no reason not to: what it was
//! given is often freed by then, and its memory holds whatever came after it.

use std::{collections::BTreeSet, fs, io, ops::Range, thread, time::Duration};

use super::{
    super::{
        dependencies::{self, Object},
        peek::Peek,
    },
    FoundThread, Why,
    origin::{Descriptors, ThreadOrigin},
    stack::{self, Whereabouts},
};
use crate::{plugin::instance::library, system::proc_fs};

/// How often the list of threads is read, until it has no new one and of each it is known whose it
/// is.
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
    /// What the library needs, and the program does not: there may be threads that do the work of
    /// whoever asks.
    needed: Vec<Range<usize>>,
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
                || (object.memory != *library && library::is_open(&object.path))
        });
        let needed = dependencies::needed_without_the_program(objects, library);
        Memory {
            needed: needed.map(|object| object.memory.clone()).collect(),
            elsewhere: elsewhere.map(|object| object.memory.clone()).collect(),
            code: going.iter().map(|object| object.code.clone()).collect(),
            going: going.iter().map(|object| object.memory.clone()).collect(),
        }
    }

    fn is_going(&self, address: usize) -> bool {
        self.going.iter().any(|place| place.contains(&address))
    }

    fn is_needed(&self, address: usize) -> bool {
        self.needed.iter().any(|place| place.contains(&address))
    }

    fn is_elsewhere(&self, address: usize) -> bool {
        self.elsewhere.iter().any(|place| place.contains(&address))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Own,
    Others,
    /// What it was given, or what is there now, is the host's or another plugin's.
    OthersPerhaps,
    Unknown,
}

/// All of them. `opened` is when the library was opened, in ticks since the system was booted: a
/// thread that runs all the time, and began before, is none of it, but for those of a library that
/// this one needs, which may have given them work.
///
/// # Errors
/// The system gives no descriptor or thread for the search.
pub(super) fn search(memory: &Memory, opened: Option<u64>) -> io::Result<Vec<FoundThread>> {
    let Some(descriptors) = Descriptors::known()? else { return Ok(Vec::new()) };
    let look = ThreadSearch { memory, descriptors, peek: Peek::new()? };
    let (mut decided, mut found, mut open) = (BTreeSet::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut new = threads()?;
        new.retain(|id| !decided.contains(id));
        open.clear();
        if new.is_empty() {
            break;
        }
        for id in new {
            match look.decide(id)? {
                Some(why) => {
                    decided.insert(id);
                    found.extend(why.map(|why| FoundThread { id, why }));
                }
                None => open.push(id),
            }
        }
        // Not without need: a library that nothing needs is closed at once.
        if !open.is_empty() {
            thread::sleep(PAUSE);
        }
    }
    for id in open {
        found.extend(look.at_last(id, opened)?.map(|why| FoundThread { id, why }));
    }
    Ok(found)
}

/// Whether a thread that began then may have begun after the library was opened. One that has ended
/// has not.
fn is_later(began: &io::Result<Option<u64>>, opened: Option<u64>) -> bool {
    match began {
        Ok(began) => began.is_some_and(|began| opened.is_none_or(|opened| began >= opened)),
        Err(_) => true,
    }
}

/// The threads that the kernel has of this process; none without `/proc`.
fn threads() -> io::Result<Vec<u32>> {
    let entries = match fs::read_dir("/proc/self/task") {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut threads = Vec::new();
    for entry in entries {
        threads.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    Ok(threads)
}

struct ThreadSearch<'a> {
    memory: &'a Memory,
    descriptors: Descriptors,
    peek: Peek,
}

impl ThreadSearch<'_> {
    /// Why the library is to be kept for a thread, if it is; `None` as long as that is not known.
    fn decide(&self, id: u32) -> io::Result<Option<Option<Why>>> {
        let origin = self.descriptors.origin(id, &self.peek);
        match self.whose_is(origin.as_ref()) {
            Whose::Own => return Ok(Some(Some(Why::Started))),
            Whose::Others => return Ok(Some(None)),
            Whose::OthersPerhaps | Whose::Unknown => {}
        }
        Ok(match stack::whereabouts(id)? {
            Whereabouts::Untold => Some(None),
            Whereabouts::Running => None,
            Whereabouts::Waiting { stack, code } => {
                let inside = self.is_inside(stack, code, origin);
                // One that waits before it has a descriptor is perhaps only beginning.
                (inside || origin.is_some()).then_some(inside.then_some(Why::Inside))
            }
        })
    }

    /// The same of a thread that never said, by what there is to go by then.
    fn at_last(&self, id: u32, opened: Option<u64>) -> io::Result<Option<Why>> {
        let origin = self.descriptors.origin(id, &self.peek);
        Ok(match self.whose_is(origin.as_ref()) {
            Whose::Own => Some(Why::Started),
            Whose::Others | Whose::OthersPerhaps => None,
            Whose::Unknown => match stack::whereabouts(id)? {
                Whereabouts::Untold => None,
                Whereabouts::Waiting { stack, code } => {
                    self.is_inside(stack, code, origin).then_some(Why::Inside)
                }
                Whereabouts::Running => {
                    let works_for_it = origin.is_some_and(|it| self.memory.is_needed(it.start));
                    let may_be = works_for_it || is_later(&proc_fs::began(id), opened);
                    may_be.then_some(Why::Unknown)
                }
            },
        })
    }

    fn is_inside(&self, stack: usize, code: usize, origin: Option<ThreadOrigin>) -> bool {
        let (places, top) = (&self.memory.code, origin.map(|origin| origin.descriptor));
        places.iter().any(|place| place.contains(&code))
            || stack::returns_to(places, stack, top, &self.peek)
    }

    fn whose_is(&self, origin: Option<&ThreadOrigin>) -> Whose {
        origin.map_or(Whose::Unknown, |origin| self.whose(origin))
    }

    fn whose(&self, origin: &ThreadOrigin) -> Whose {
        let memory = self.memory;
        // The first thread, which was started with nothing, is the program's.
        if origin.start == 0 || memory.is_elsewhere(origin.start) {
            return Whose::Others;
        }
        let given = self.peek.some_words(origin.argument, GIVEN);
        let is_any = |is: fn(&Memory, usize) -> bool| {
            is(memory, origin.argument) || given.iter().any(|word| is(memory, *word))
        };
        match () {
            () if memory.is_going(origin.start) || is_any(Memory::is_going) => Whose::Own,
            () if is_any(Memory::is_elsewhere) => Whose::OthersPerhaps,
            () => Whose::Unknown,
        }
    }
}

#[cfg(test)]
#[allow(unsafe_code)]
mod tests;
