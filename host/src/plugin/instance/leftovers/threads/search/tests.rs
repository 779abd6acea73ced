use std::{
    env,
    ffi::c_void,
    fs::File,
    hint, mem,
    process::Command,
    ptr,
    sync::mpsc::{Receiver, Sender, TryRecvError, channel},
};

use ksi_abi::unload::StartedThread;

use super::*;

/// Set in a process of its own.
const CHILD: &str = "KSI_TEST_HAS_NO_DESCRIPTORS";

/// What a thread is given. The words come first, and stay when it has taken the rest.
#[repr(C)]
struct Given {
    words: [usize; GIVEN],
    ends: Option<Ends>,
}

struct Ends {
    id: Sender<u32>,
    end: Receiver<()>,
    /// Whether it runs all the time.
    runs: bool,
}

#[inline(never)]
fn inside(ends: &Ends) {
    // SAFETY: a thread may ask for its number.
    let _ = ends.id.send(unsafe { libc::syscall(libc::SYS_gettid) } as u32);
    if ends.runs {
        while ends.end.try_recv() == Err(TryRecvError::Empty) {
            hint::spin_loop();
        }
    }
    let _ = ends.end.recv();
}

extern "C" fn start(argument: *mut c_void) -> *mut c_void {
    // SAFETY: it is what is given below, and stays until this thread is joined.
    let ends = unsafe { (*argument.cast::<Given>()).ends.take() };
    inside(&ends.unwrap());
    ptr::null_mut()
}

/// A thread that was started with `start`, and is in `inside` until this is dropped.
struct Other {
    thread: libc::pthread_t,
    id: u32,
    end: Option<Sender<()>>,
    given: *mut Given,
}

impl Other {
    fn start(words: [usize; GIVEN], runs: bool) -> Other {
        let ((sender, id), (end, ended)) = (channel(), channel());
        let ends = Some(Ends { id: sender, end: ended, runs });
        let given = Box::into_raw(Box::new(Given { words, ends }));
        // SAFETY: `start` takes what it is given, and the thread is joined.
        let thread = unsafe {
            let mut thread = mem::zeroed();
            let result = libc::pthread_create(&raw mut thread, ptr::null(), start, given.cast());
            assert_eq!(result, 0);
            thread
        };
        let id = id.recv().unwrap();
        while !runs && !matches!(stack::whereabouts(id).unwrap(), Whereabouts::Waiting { .. }) {
            thread::yield_now();
        }
        Other { thread, id, end: Some(end), given }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.end = None;
        // SAFETY: it was started above, and is joined once; then nobody has what it was given.
        unsafe {
            libc::pthread_join(self.thread, ptr::null_mut());
            drop(Box::from_raw(self.given));
        }
    }
}

/// Why one that waits is found.
fn found_in(memory: &Memory) -> Option<Why> {
    found(&Other::start([0; GIVEN], false), memory)
}

fn found(thread: &Other, memory: &Memory) -> Option<Why> {
    let found = search(memory, None).unwrap().into_iter().find(|found| found.id == thread.id);
    found.map(|found| found.why)
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
        needed: Vec::new(),
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
    let memory = Memory { going: from(own, 100), elsewhere: from(other, 100), ..Memory::default() };
    let descriptors = Descriptors::known().unwrap().unwrap();
    let look = ThreadSearch { memory: &memory, descriptors, peek: Peek::new().unwrap() };
    let whose = |start, argument| look.whose(&ThreadOrigin { start, argument, descriptor: 0 });
    let given = |words: [usize; GIVEN]| whose(third, words.as_ptr() as usize);
    assert_eq!(whose(own + 1, 0), Whose::Own);
    assert_eq!(whose(other + 1, own), Whose::Others);
    assert_eq!(whose(third, own), Whose::Own);
    assert_eq!(whose(third, 0), Whose::Unknown);
    assert_eq!(given([third, 7, own + 5, other]), Whose::Own);
    // What is there may have come there later, so that it takes nothing from the library.
    assert_eq!(given([other, own, 0, 0]), Whose::Own);
    assert_eq!(given([third, other, 0, 0]), Whose::OthersPerhaps);
    assert_eq!(whose(third, other), Whose::OthersPerhaps);
    assert_eq!(given([0, 1, 2, third]), Whose::Unknown);
    assert_eq!(whose(0, own), Whose::Others, "the first thread");
}

#[test]
fn a_thread_that_was_given_what_is_the_hosts_now_is_found_where_it_waits() {
    let other = 1 << 20;
    let code = from(inside as *const () as usize, 4096);
    let memory = Memory { code, elsewhere: from(other, 100), ..Memory::default() };
    assert_eq!(found(&Other::start([other, 0, 0, 0], false), &memory), Some(Why::Inside));
    // Where it is cannot be seen of one that runs all the time.
    assert_eq!(found(&Other::start([other, 0, 0, 0], true), &memory), None);
    assert_eq!(found(&Other::start([0; GIVEN], true), &memory), Some(Why::Unknown));
}

#[test]
fn a_thread_that_works_for_whoever_asks_is_not_excused_by_its_age() {
    let thread = Other::start([0; GIVEN], true);
    let later = proc_fs::began(thread.id).unwrap().unwrap() + 1;
    let why = |memory: &Memory| {
        let found = search(memory, Some(later)).unwrap().into_iter();
        found.filter(|found| found.id == thread.id).map(|found| found.why).next()
    };
    let needed = from(start as *const () as usize, 1);
    assert_eq!(why(&Memory { needed, ..Memory::default() }), Some(Why::Unknown));
    assert_eq!(why(&Memory::default()), None);
}

#[test]
fn a_thread_of_the_library_that_could_not_be_read_before_is_found_at_last() {
    let thread = Other::start([0; GIVEN], true);
    let going = from(start as *const () as usize, 1);
    let memory = Memory { going, ..Memory::default() };
    let descriptors = Descriptors::known().unwrap().unwrap();
    let look = ThreadSearch { memory: &memory, descriptors, peek: Peek::new().unwrap() };
    assert_eq!(look.at_last(thread.id, None).unwrap(), Some(Why::Started));
}

/// As many descriptors as the process may have but for this many.
fn all_descriptors_but(left: usize) -> Vec<File> {
    let few = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
    // SAFETY: it reads the limit that is given.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const few) }, 0);
    let mut taken: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    assert!(taken.len() > left, "{}", taken.len());
    taken.truncate(taken.len() - left);
    taken
}

#[test]
#[ignore = "run by the test below, in a process of its own"]
fn a_process_without_descriptors() {
    if env::var_os(CHILD).is_none() {
        return;
    }
    let thread = Other::start([0; GIVEN], false);
    let started = from(start as *const () as usize, 1);
    let memory = Memory { going: started, ..Memory::default() };
    let noted = StartedThread { id: thread.id, noted: u64::MAX };
    let mut taken = all_descriptors_but(0);
    assert!(stack::whereabouts(thread.id).is_err());
    assert_eq!(super::super::name(&noted), Some(None), "nobody can say that it has ended");
    // With none it cannot even be measured how threads are to be looked at. Two are the search's
    // own.
    for left in 0..4 {
        match search(&memory, None) {
            Ok(found) => assert!(found.iter().any(|found| found.id == thread.id), "{left} left"),
            Err(error) => assert!(left < 3, "{left} left: {error}"),
        }
        taken.pop();
    }
    println!("was searched");
}

#[test]
fn a_search_that_gets_too_few_descriptors_is_an_error_and_finds_all_once_there_are_enough() {
    let (_, module) = module_path!().split_once("::").unwrap();
    let name = format!("{module}::a_process_without_descriptors");
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", &name, "--ignored", "--nocapture", "--test-threads=1"]).env(CHILD, "1");
    let ran = child.output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    let error = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && said.contains("was searched"), "{}: {said}{error}", ran.status);
}

#[test]
fn a_thread_of_which_it_cannot_be_read_when_it_began_may_be_the_librarys() {
    assert!(is_later(&Err(io::Error::other("none left")), Some(5)));
    assert!(is_later(&Ok(Some(5)), Some(5)));
    assert!(is_later(&Ok(Some(4)), None));
    assert!(!is_later(&Ok(Some(4)), Some(5)));
    assert!(!is_later(&Ok(None), Some(5)), "it has ended");
}
