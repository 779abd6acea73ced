//! What each library wants of each signal: read inside signal handlers, without a lock.
//!
//! The places for libraries are never freed, and used again when their library has left memory; so
//! a signal handler can walk over them whatever happens meanwhile. A place in use is written with
//! [`TableLock`](super::kernel::TableLock) held alone.

#![allow(unsafe_code)]

use std::{
    ffi::c_int,
    hint, ptr,
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering::*,
        },
    },
};

use ksi_abi::signals::{SignalAction, SignalHost};
use ksi_kernel::lock::Lock;

use super::asked;

/// One more than the last signal.
const END: c_int = 65;
/// The order of an action that is being written.
const WRITING: u64 = u64::MAX;

/// All that there are.
pub(super) fn signals() -> impl Iterator<Item = c_int> {
    1..END
}

/// Whether there is such a signal.
pub(super) fn exists(signal: c_int) -> bool {
    (1..END).contains(&signal)
}

/// An action that is read without a lock.
#[derive(Debug)]
pub(super) struct SavedAction {
    /// Its number in the order of all that were ever written; 0 if there is none.
    order: AtomicU64,
    handler: AtomicUsize,
    flags: AtomicI32,
    mask: AtomicU64,
}

impl SavedAction {
    pub(super) const fn none() -> Self {
        SavedAction {
            order: AtomicU64::new(0),
            handler: AtomicUsize::new(0),
            flags: AtomicI32::new(0),
            mask: AtomicU64::new(0),
        }
    }

    /// The action, and its number in the order of writing.
    pub(super) fn read(&self) -> Option<(u64, SignalAction)> {
        loop {
            let order = self.order.load(SeqCst);
            match order {
                0 => return None,
                // Whoever writes has all signals blocked, and so is another thread, that goes on by
                // itself.
                WRITING => hint::spin_loop(),
                _ => {
                    let action = SignalAction {
                        handler: self.handler.load(Acquire),
                        flags: self.flags.load(Acquire),
                        mask: self.mask.load(Acquire),
                    };
                    if self.order.load(SeqCst) == order {
                        return Some((order, action));
                    }
                }
            }
        }
    }

    /// Replaces it. By one at a time.
    pub(super) fn write(&self, action: &SignalAction) {
        static ORDER: AtomicU64 = AtomicU64::new(1);
        self.order.store(WRITING, SeqCst);
        self.handler.store(action.handler, Release);
        self.flags.store(action.flags, Release);
        self.mask.store(action.mask, Release);
        self.order.store(ORDER.fetch_add(1, SeqCst), SeqCst);
    }

    /// Removes it; whether there was one.
    pub(super) fn clear(&self) -> bool {
        self.order.swap(0, SeqCst) != 0
    }

    /// Removes the action of this number; whether it was there. Inside a signal handler too.
    pub(super) fn use_up(&self, order: u64) -> bool {
        self.order.compare_exchange(order, 0, SeqCst, SeqCst).is_ok()
    }
}

/// What one library wants of one signal.
#[derive(Debug)]
pub(super) struct Want {
    action: SavedAction,
    /// How many threads are about to call the handler, or inside it.
    running: AtomicU32,
}

/// A handler that is about to be called. Its library stays as long as this does.
pub(super) struct Entered<'a> {
    pub(super) action: SignalAction,
    want: &'a Want,
}

impl Want {
    const fn none() -> Self {
        Want { action: SavedAction::none(), running: AtomicU32::new(0) }
    }

    /// What is wanted.
    pub(super) fn now(&self) -> Option<(u64, SignalAction)> {
        self.action.read()
    }

    pub(super) fn write(&self, action: &SignalAction) {
        self.action.write(action);
    }

    /// Nothing is wanted any more; whether something was.
    pub(super) fn clear(&self) -> bool {
        self.action.clear()
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.load(SeqCst) > 0
    }

    /// What is to be called, if there is something. A handler that is to be called once is given to
    /// one alone.
    ///
    /// Either whoever takes the action out sees this one running, or this one sees that the action
    /// is gone: all four accesses are in one order.
    pub(super) fn enter(&self) -> Option<Entered<'_>> {
        self.enter_if(|_| true)
    }

    /// The same, if it is the action of this number still.
    pub(super) fn enter_at(&self, order: u64) -> Option<Entered<'_>> {
        self.enter_if(|now| now == order)
    }

    fn enter_if(&self, is_meant: impl Fn(u64) -> bool) -> Option<Entered<'_>> {
        self.action.read()?;
        self.running.fetch_add(1, SeqCst);
        while let Some((order, action)) = self.action.read()
            && is_meant(order)
        {
            let once = action.flags & libc::SA_RESETHAND != 0;
            // Another thread may have been given it, or it was replaced.
            if !once || self.action.use_up(order) {
                return Some(Entered { action, want: self });
            }
        }
        self.running.fetch_sub(1, SeqCst);
        None
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.want.running.fetch_sub(1, SeqCst);
    }
}

/// A place for what one library wants.
pub(super) struct Library {
    wants: [Want; END as usize],
    host: OnceLock<SignalHost>,
    in_use: AtomicBool,
    /// It installs nothing any more.
    leaving: AtomicBool,
    /// Signals of which something is to be told, by bit.
    pub(super) untold: AtomicU64,
    owner: Lock<Owner>,
    next: AtomicPtr<Library>,
}

/// The plugin, and the number of its generation.
pub(super) type Owner = Option<(Arc<str>, u64)>;

/// The first place.
static FIRST: AtomicPtr<Library> = AtomicPtr::new(ptr::null_mut());

/// All places.
pub(super) fn libraries() -> impl Iterator<Item = &'static Library> {
    let mut next = FIRST.load(SeqCst);
    std::iter::from_fn(move || {
        // SAFETY: null, or a place, which is never freed.
        let library = unsafe { next.as_ref() }?;
        next = library.next.load(SeqCst);
        Some(library)
    })
}

/// A place that nobody uses.
pub(super) fn take() -> &'static Library {
    let free =
        |library: &&Library| library.in_use.compare_exchange(false, true, SeqCst, SeqCst).is_ok();
    if let Some(library) = libraries().find(free) {
        library.leaving.store(false, SeqCst);
        library.untold.store(0, SeqCst);
        return library;
    }
    let library: &'static Library = Box::leak(Box::new(Library {
        wants: [const { Want::none() }; END as usize],
        host: OnceLock::new(),
        in_use: AtomicBool::new(true),
        leaving: AtomicBool::new(false),
        untold: AtomicU64::new(0),
        owner: Lock::new(None),
        next: AtomicPtr::new(ptr::null_mut()),
    }));
    let mut first = FIRST.load(SeqCst);
    loop {
        library.next.store(first, SeqCst);
        let new = ptr::from_ref(library).cast_mut();
        match FIRST.compare_exchange(first, new, SeqCst, SeqCst) {
            Ok(_) => return library,
            Err(now) => first = now,
        }
    }
}

impl Library {
    /// The place that a library was given.
    ///
    /// # Safety
    /// `known_by` is `SignalHost::library` of a place.
    pub(super) unsafe fn of(known_by: *const ()) -> &'static Library {
        // SAFETY: promised by the caller; a place is never freed.
        unsafe { &*known_by.cast::<Library>() }
    }

    /// What the library that has this place asks.
    pub(super) fn host(&'static self) -> &'static SignalHost {
        let library = ptr::from_ref(self).cast();
        self.host.get_or_init(|| SignalHost { library, set: asked::set, adopt: asked::adopt })
    }

    /// What it wants of a signal that exists.
    pub(super) fn want(&self, signal: c_int) -> &Want {
        &self.wants[signal as usize]
    }

    pub(super) fn leave(&self) {
        self.leaving.store(true, SeqCst);
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.load(SeqCst)
    }

    /// Never inside a signal handler.
    pub(super) fn owner(&self, new: Owner) -> Owner {
        let mut owner = self.owner.lock();
        if new.is_some() {
            *owner = new;
        }
        owner.clone()
    }

    /// Another library may have the place, if no handler of this one is running.
    pub(super) fn give_back(&self) {
        if self.wants.iter().any(Want::is_running) {
            return;
        }
        self.wants.iter().for_each(|want| _ = want.clear());
        *self.owner.lock() = None;
        self.in_use.store(false, SeqCst);
    }
}
