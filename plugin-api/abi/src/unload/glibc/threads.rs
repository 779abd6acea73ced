//! The threads that a library has started, noted from before their first instruction until after
//! their last.
//!
//! The first instructions of a thread lie in the library that starts it, before any thread-local of
//! it could keep that library; the last ones are destructors of pthread keys, after all
//! thread-locals are gone. So no count that a thread holds is exact at both ends. Instead a thread
//! has a slot in a table of the library: its starter takes the slot, the thread writes its number
//! in the kernel there, and the slot is free again once the kernel does not have that thread. A
//! library may be closed when no slot is taken.
//!
//! Nothing is done at a thread's end. Slots are looked through when none is free, and by the host
//! before it closes the library. The table has as many slots as there were threads at one time,
//! within a factor.

use std::{
    ptr,
    sync::atomic::{
        AtomicPtr, AtomicU64, AtomicUsize,
        Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
    },
};

use super::{super::StartedThread, Original};

/// What a thread begins with.
type ThreadStart = extern "C" fn(*mut libc::c_void) -> *mut libc::c_void;
type Create = unsafe extern "C" fn(
    *mut libc::pthread_t,
    *const libc::pthread_attr_t,
    ThreadStart,
    *mut libc::c_void,
) -> libc::c_int;

pub(super) static CREATE: Original = Original::new(c"pthread_create");

/// A place for one thread. While it is taken and the thread has not begun, it also carries what the
/// thread is to run.
struct Slot {
    /// [`FREE`], [`BEGUN`], or a [`StartedThread`] in one number.
    state: AtomicU64,
    start: AtomicPtr<()>,
    argument: AtomicPtr<libc::c_void>,
}

const FREE: u64 = 0;
/// It is taken, and its thread has not noted itself.
const BEGUN: u64 = u64::MAX;
/// Bits of a thread's number; the kernel's largest is 2^22.
const ID_BITS: u32 = 24;

/// Slots are in blocks, each of twice the size of the one before. The first is part of the library,
/// and enough for most.
const FIRST: usize = 128;
const BLOCKS: usize = 16;
static FIRST_BLOCK: [Slot; FIRST] = [const { Slot::new() }; FIRST];
/// The blocks after the first, so many of them as are there.
static FURTHER: [AtomicPtr<Slot>; BLOCKS - 1] =
    [const { AtomicPtr::new(ptr::null_mut()) }; BLOCKS - 1];
/// How many threads have been started.
static STARTED: AtomicU64 = AtomicU64::new(0);
/// Where the next free slot may be.
static HINT: AtomicUsize = AtomicUsize::new(0);
/// How many threads go through the table.
static USERS: AtomicUsize = AtomicUsize::new(0);

/// Whoever goes through the blocks of the table has one of these meanwhile: the blocks that it
/// finds stay.
struct User;

impl User {
    fn new() -> User {
        USERS.fetch_add(1, SeqCst);
        User
    }
}

impl Drop for User {
    fn drop(&mut self) {
        USERS.fetch_sub(1, SeqCst);
    }
}

impl Slot {
    const fn new() -> Self {
        Slot {
            state: AtomicU64::new(FREE),
            start: AtomicPtr::new(ptr::null_mut()),
            argument: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Frees the slot if its thread has ended; whether it is free.
    fn purge(&self) -> bool {
        let state = self.state.load(Acquire);
        if state == FREE {
            return true;
        }
        if state == BEGUN || exists(unpacked(state).id) {
            return false;
        }
        self.state.compare_exchange(state, FREE, AcqRel, Relaxed).is_ok()
    }
}

fn packed(thread: StartedThread) -> u64 {
    (thread.noted << ID_BITS) | u64::from(thread.id)
}

fn unpacked(state: u64) -> StartedThread {
    let id = (state & ((1 << ID_BITS) - 1)) as u32;
    StartedThread { id, noted: state >> ID_BITS }
}

/// Whether this process has a thread of this number.
fn exists(id: u32) -> bool {
    // SAFETY: signal 0 is never delivered; this is a question.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), id, 0) == 0 }
}

/// The thread that this is.
fn this_thread() -> StartedThread {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is written, and a thread may ask for its number.
    let id = unsafe {
        libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now);
        libc::syscall(libc::SYS_gettid)
    };
    let noted = now.tv_sec as u64 * 100 + now.tv_nsec as u64 / 10_000_000;
    StartedThread { id: id as u32, noted }
}

/// The blocks that are there.
fn blocks(_user: &User) -> impl Iterator<Item = &[Slot]> {
    // In one order with the user's count and with `give_back`: either this finds no block any more,
    // or that finds the user.
    let further = (1..).zip(&FURTHER).map_while(|(number, block)| {
        let slots = block.load(SeqCst);
        // SAFETY: a block of this number has so many slots, which were zeroed, and stays as long as
        // there is a user.
        (!slots.is_null()).then(|| unsafe { std::slice::from_raw_parts(slots, FIRST << number) })
    });
    std::iter::once(FIRST_BLOCK.as_slice()).chain(further)
}

/// The slot of this number among all.
fn slot(user: &User, mut number: usize) -> Option<&Slot> {
    for block in blocks(user) {
        match block.get(number) {
            Some(slot) => return Some(slot),
            None => number -= block.len(),
        }
    }
    None
}

/// Takes a free slot. None if there is no memory for more of them.
fn take(user: &User) -> Option<&Slot> {
    loop {
        let all: usize = blocks(user).map(<[Slot]>::len).sum();
        let first = HINT.load(Relaxed);
        for number in (0..all).map(|next| (first + next) % all) {
            // At the end of the process a block may be gone by now.
            let Some(slot) = slot(user, number) else { break };
            if slot.state.load(Relaxed) == FREE
                && slot.state.compare_exchange(FREE, BEGUN, AcqRel, Relaxed).is_ok()
            {
                STARTED.fetch_add(1, SeqCst);
                HINT.store((number + 1) % all, Relaxed);
                return Some(slot);
            }
        }
        // Not for a few: it would be done again for the next thread.
        if blocks(user).flatten().filter(|slot| slot.purge()).count() < all / 4 {
            add_block()?;
        }
    }
}

fn add_block() -> Option<()> {
    let (number, block) = (1..).zip(&FURTHER).find(|(_, block)| block.load(Acquire).is_null())?;
    let (protection, kind) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: fresh memory, of no file. Not from an allocator, which may be the plugin's own and
    // start threads.
    let fresh =
        unsafe { libc::mmap(ptr::null_mut(), size_of_block(number), protection, kind, -1, 0) };
    if fresh == libc::MAP_FAILED {
        return None;
    }
    if block.compare_exchange(ptr::null_mut(), fresh.cast(), AcqRel, Relaxed).is_err() {
        // Somebody else has added it meanwhile.
        // SAFETY: mapped just now, with this size, and known to nobody.
        unsafe { libc::munmap(fresh, size_of_block(number)) };
    }
    Some(())
}

fn size_of_block(number: usize) -> usize {
    (FIRST << number) * size_of::<Slot>()
}

/// The library's own `pthread_create`.
///
/// # Safety
/// As for the function of POSIX.
pub unsafe extern "C" fn create(
    thread: *mut libc::pthread_t,
    attributes: *const libc::pthread_attr_t,
    start: ThreadStart,
    argument: *mut libc::c_void,
) -> libc::c_int {
    let Some(found) = CREATE.find() else { return libc::ENOSYS };
    let user = User::new();
    let Some(slot) = take(&user) else { return libc::EAGAIN };
    slot.start.store(start as *mut (), Relaxed);
    slot.argument.store(argument, Relaxed);
    // SAFETY: the type is that of the function; the other arguments are the caller's. Starting a
    // thread orders what was written before it.
    let result = unsafe {
        let create = std::mem::transmute::<*mut libc::c_void, Create>(found);
        create(thread, attributes, begin, ptr::from_ref(slot).cast_mut().cast())
    };
    if result != 0 {
        slot.state.store(FREE, Release);
    }
    result
}

/// What a new thread runs: [`enter`], and then, in its own place, what it was started for.
///
/// `pthread_exit` unwinds a thread's whole stack. A function of Rust must not be unwound where it
/// does not expect it, so none may be below: this one is gone when the other begins.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
extern "C" fn begin(slot: *mut libc::c_void) -> *mut libc::c_void {
    core::arch::naked_asm!(
        "sub rsp, 8",
        "call {enter}",
        "add rsp, 8",
        "mov rdi, rdx",
        "jmp rax",
        enter = sym enter,
    )
}

/// As above.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
extern "C" fn begin(slot: *mut libc::c_void) -> *mut libc::c_void {
    core::arch::naked_asm!(
        "stp x29, x30, [sp, #-16]!",
        "bl {enter}",
        "ldp x29, x30, [sp], #16",
        "mov x16, x0",
        "mov x0, x1",
        "br x16",
        enter = sym enter,
    )
}

/// What a thread was started for, in the two registers that such a pair is returned in.
#[repr(C)]
struct Work {
    start: *mut (),
    argument: *mut libc::c_void,
}

/// The thread notes itself in the slot that was taken for it.
extern "C" fn enter(slot: *mut libc::c_void) -> Work {
    // SAFETY: `create` passes this, a slot of the table that was taken for this thread.
    let slot = unsafe { &*slot.cast::<Slot>() };
    let work = Work { start: slot.start.load(Relaxed), argument: slot.argument.load(Relaxed) };
    // From here on the slot is the table's: it is freed when the kernel has no such thread.
    slot.state.store(packed(this_thread()), Release);
    work
}

/// How many threads of this library have not ended; the first of them are written to `found`.
pub(super) fn before_close(found: &mut [StartedThread]) -> u64 {
    loop {
        let started = STARTED.load(SeqCst);
        let count = running(&User::new(), found);
        if count > 0 {
            return count;
        }
        // One that ended just now may have started another before, in a slot that had been looked
        // at.
        if STARTED.load(SeqCst) == started {
            return 0;
        }
    }
}

/// Gives the table's memory back when the library is closed: not before, since a thread that is not
/// in it may start others.
///
/// It is also called at the end of the process, when threads of this library may run and start
/// others: what they need then stays.
///
/// # Safety
/// Nobody starts threads with a slot of a block that was found without a `User`.
pub unsafe extern "C" fn give_back() {
    // SAFETY: the caller's promise.
    unsafe { unmap_blocks() };
}

/// As [`give_back`], and says how many blocks were unmapped.
///
/// # Safety
/// As there.
unsafe fn unmap_blocks() -> usize {
    if before_close(&mut []) > 0 {
        return 0;
    }
    // Nobody finds these from here on.
    let further = FURTHER.each_ref().map(|block| block.swap(ptr::null_mut(), SeqCst));
    if USERS.load(SeqCst) > 0 {
        return 0;
    }
    let mut unmapped = 0;
    for (number, slots) in (1..).zip(further).filter(|(_, slots)| !slots.is_null()) {
        // SAFETY: a block of this number has so many slots, which were zeroed, and it is unmapped
        // here alone.
        let block = unsafe { std::slice::from_raw_parts(slots, FIRST << number) };
        if block.iter().all(Slot::purge) {
            // SAFETY: mapped by `add_block` with this size. No thread has a slot of it, and nobody
            // that takes one has found it.
            let result = unsafe { libc::munmap(slots.cast(), size_of_block(number)) };
            unmapped += usize::from(result == 0);
        }
    }
    unmapped
}

/// Looks at each slot once.
fn running(user: &User, found: &mut [StartedThread]) -> u64 {
    let mut places = found.iter_mut();
    let mut count = 0;
    for slot in blocks(user).flatten().filter(|slot| !slot.purge()) {
        count += 1;
        if let Some(place) = places.next() {
            *place = match slot.state.load(Acquire) {
                BEGUN => StartedThread::default(),
                state => unpacked(state),
            };
        }
    }
    count
}

#[cfg(test)]
mod tests;
