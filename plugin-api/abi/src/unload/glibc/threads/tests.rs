use std::{
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, channel},
    },
    time::{Duration, Instant},
};

use super::*;

extern "C" fn wait(receiver: *mut libc::c_void) -> *mut libc::c_void {
    // SAFETY: `start` passes a receiver that it has leaked for this.
    let receiver = unsafe { Box::from_raw(receiver.cast::<Receiver<()>>()) };
    let _ = receiver.recv();
    ptr::null_mut()
}

/// For tests that count the blocks there are.
static TABLE: Mutex<()> = Mutex::new(());

/// Whether something is mapped at this address, at which a page begins.
fn is_mapped(address: usize) -> bool {
    let mut resident = 0;
    // SAFETY: the kernel writes one byte, of one page, or says that there is none.
    unsafe { libc::mincore(address as *mut libc::c_void, 1, &raw mut resident) == 0 }
}

#[test]
fn the_tables_memory_stays_while_a_thread_goes_through_it() {
    let _table = TABLE.lock().unwrap_or_else(PoisonError::into_inner);
    let block = |user: &User| blocks(user).nth(1).unwrap().as_ptr() as usize;
    // At the end of the process a thread of the library may be about to take a slot.
    let user = User::new();
    add_block().unwrap();
    let found = block(&user);
    // SAFETY: every slot is found with a user.
    assert_eq!(unsafe { unmap_blocks() }, 0);
    assert!(is_mapped(found));
    assert_eq!(blocks(&user).count(), 1, "whoever comes later does not find it");
    add_block().unwrap();
    drop(user);
    // SAFETY: as above. What was unmapped can't be asked for by its address: another test's
    // thread may have mapped something there by now.
    assert_eq!(unsafe { unmap_blocks() }, 1, "nobody goes through it");
}

/// More threads than the first block has slots, which end when what is returned is dropped.
#[test]
fn every_thread_has_a_slot_until_it_has_ended_and_then_all_are_free_again() {
    let _table = TABLE.lock().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(before_close(&mut []), 0);
    let mut keep = Vec::new();
    for _ in 0..2 * FIRST {
        let (sender, receiver) = channel::<()>();
        let (mut thread, argument) = (0, Box::into_raw(Box::new(receiver)).cast());
        // SAFETY: `wait` takes what is passed, and every thread is joined or ends by itself.
        let started = unsafe { create(&raw mut thread, ptr::null(), wait, argument) };
        assert_eq!(started, 0);
        keep.push((sender, thread));
    }
    let mut found = [StartedThread::default(); 3 * FIRST];
    let count = before_close(&mut found);
    assert_eq!(count, 2 * FIRST as u64);
    assert!(
        blocks(&User::new()).count() > 1,
        "there are more threads than the first block has slots"
    );
    for (sender, thread) in keep {
        drop(sender);
        // SAFETY: it was started above, and is joined once.
        unsafe { libc::pthread_join(thread, ptr::null_mut()) };
    }
    let began = Instant::now();
    while before_close(&mut found) > 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", &found[..4]);
    }
    // SAFETY: all have ended.
    unsafe { give_back() };
    assert_eq!(blocks(&User::new()).count(), 1, "the table has given up its memory");
}
