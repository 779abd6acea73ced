//! The host's memory, for what either side writes and the host owns.
//!
//! A plugin's library may be unmapped while the host still holds a reply or an error text of it. So
//! the memory of both comes from the host's allocator, through two functions that lie in the host,
//! and giving it back never runs plugin code. Blocks of one small size are kept by each thread of
//! the host and given out again.

use std::{
    alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc},
    cell::RefCell,
    ptr,
    sync::atomic::{AtomicPtr, Ordering},
};

use abi_stable::{StableAbi, rslice, type_layout::Tag};

/// How blocks are aligned, which is as any allocator does it without being asked.
pub(super) const ALIGN: usize = 16;
/// The size of blocks that are kept: of most values, and of a few hundred bytes of JSON.
pub(super) const SMALL: usize = 256;
/// How many of them a thread keeps. Further ones go back to the allocator.
const KEPT: usize = 32;

const SIZES: Tag = Tag::arr(rslice![Tag::uint(SMALL as u64), Tag::uint(ALIGN as u64)]);

/// The two functions of the host that manage its memory.
#[repr(C)]
#[derive(StableAbi)]
// The host keeps and gives out blocks by their size, so both sides have to mean the same by it.
#[sabi(tag = SIZES)]
pub struct Memory {
    /// `(pointer, old size, new size)` to the new pointer; (null, 0, n) allocates afresh. Never
    /// null.
    grow: unsafe extern "C" fn(*mut u8, usize, usize) -> *mut u8,
    /// `(pointer, size)`.
    free: unsafe extern "C" fn(*mut u8, usize),
}

impl Memory {
    /// A block of `size` bytes, which is above 0 and below `isize::MAX`. It starts at a multiple of
    /// [`ALIGN`].
    pub(super) fn block(&self, size: usize) -> *mut u8 {
        // SAFETY: (null, 0) asks for fresh memory.
        unsafe { (self.grow)(ptr::null_mut(), 0, size) }
    }

    /// The block made larger, with what is in it.
    ///
    /// # Safety
    /// As in [`free`](Self::free), but that the result takes the place of `block`; `new` is as in
    /// [`block`](Self::block).
    pub(super) unsafe fn grow(&self, block: *mut u8, old: usize, new: usize) -> *mut u8 {
        // SAFETY: promised by the caller.
        unsafe { (self.grow)(block, old, new) }
    }

    /// # Safety
    /// `block` came from [`block`](Self::block) or [`grow`](Self::grow) of the same memory with
    /// this size, and is not used again.
    pub(super) unsafe fn free(&self, block: *mut u8, size: usize) {
        // SAFETY: promised by the caller.
        unsafe { (self.free)(block, size) }
    }
}

/// Blocks of the size [`SMALL`] that a thread keeps.
struct Kept(Vec<*mut u8>);

impl Drop for Kept {
    fn drop(&mut self) {
        for block in self.0.drain(..) {
            // SAFETY: it was allocated with this size, and nobody uses it.
            unsafe { dealloc(block, layout(SMALL)) }
        }
    }
}

thread_local! {
    // In a plugin nothing ever comes here: its blocks are the host's.
    static KEPT_BLOCKS: RefCell<Kept> = const { RefCell::new(Kept(Vec::new())) };
}

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, ALIGN).unwrap_or(Layout::new::<u8>())
}

/// The memory functions of the binary that this module was compiled into.
static OWN: Memory = {
    fn kept() -> Option<*mut u8> {
        // A thread that ends has none.
        KEPT_BLOCKS.try_with(|kept| kept.borrow_mut().0.pop()).ok().flatten()
    }
    unsafe extern "C" fn grow(block: *mut u8, old: usize, new: usize) -> *mut u8 {
        if old == 0 {
            if new == SMALL
                && let Some(block) = kept()
            {
                return block;
            }
            // SAFETY: the size is above 0.
            let fresh = unsafe { alloc(layout(new)) };
            return if fresh.is_null() { handle_alloc_error(layout(new)) } else { fresh };
        }
        // SAFETY: who calls passes back what was allocated here, with its size, and a new size that
        // is above 0 and below `isize::MAX`.
        let grown = unsafe { realloc(block, layout(old), new) };
        if grown.is_null() { handle_alloc_error(layout(new)) } else { grown }
    }
    unsafe extern "C" fn free(block: *mut u8, size: usize) {
        let keep = |kept: &RefCell<Kept>| {
            let blocks = &mut kept.borrow_mut().0;
            let room = blocks.len() < KEPT;
            if room {
                blocks.push(block);
            }
            room
        };
        if size == SMALL && KEPT_BLOCKS.try_with(keep) == Ok(true) {
            return;
        }
        // SAFETY: as in `grow`.
        unsafe { dealloc(block, layout(size)) }
    }
    Memory { grow, free }
};

/// What is in use: the host's functions once a plugin was given them, before that this binary's
/// own.
static CURRENT: AtomicPtr<Memory> = AtomicPtr::new(ptr::null_mut());

/// The memory functions in use; what a host hands to its plugins.
#[inline]
pub fn memory() -> &'static Memory {
    // SAFETY: only `adopt_memory` stores here, and it stores a `&'static`.
    unsafe { CURRENT.load(Ordering::Acquire).as_ref() }.unwrap_or(&OWN)
}

/// From now on what this binary allocates here comes from `memory`. Called once, when a plugin's
/// library is entered.
pub fn adopt_memory(memory: &'static Memory) {
    CURRENT.store(ptr::from_ref(memory).cast_mut(), Ordering::Release);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::check_layouts;

    /// The memory of a build with these sizes.
    macro_rules! memory_of_build {
        ($build:ident: $small:expr, $align:expr) => {
            #[allow(dead_code, unreachable_pub)]
            mod $build {
                use super::*;

                const SIZES: Tag =
                    Tag::arr(rslice![Tag::uint($small as u64), Tag::uint($align as u64)]);

                #[repr(C)]
                #[derive(StableAbi)]
                #[sabi(tag = SIZES)]
                pub struct Memory {
                    grow: unsafe extern "C" fn(*mut u8, usize, usize) -> *mut u8,
                    free: unsafe extern "C" fn(*mut u8, usize),
                }
            }
        };
    }
    memory_of_build!(same: SMALL, ALIGN);
    memory_of_build!(other_size: 2 * SMALL, ALIGN);
    memory_of_build!(other_alignment: SMALL, ALIGN / 2);

    #[test]
    fn a_build_with_other_sizes_is_refused() {
        assert_eq!(check_layouts(Memory::LAYOUT, same::Memory::LAYOUT), Ok(()));
        assert!(check_layouts(Memory::LAYOUT, other_size::Memory::LAYOUT).is_err());
        assert!(check_layouts(Memory::LAYOUT, other_alignment::Memory::LAYOUT).is_err());
    }

    #[test]
    fn a_small_block_is_given_out_again_and_a_thread_keeps_only_some() {
        let first = OWN.block(SMALL);
        // SAFETY: each block is freed once, with its size.
        unsafe {
            OWN.free(first, SMALL);
            assert_eq!(OWN.block(SMALL), first);
            let blocks: Vec<_> = (0..2 * KEPT).map(|_| OWN.block(SMALL)).collect();
            blocks.into_iter().for_each(|block| OWN.free(block, SMALL));
            OWN.free(first, SMALL);
        }
        assert!(KEPT_BLOCKS.with(|kept| kept.borrow().0.len()) <= KEPT);
    }

    #[test]
    fn a_block_of_another_size_costs_no_kept_one() {
        let kept = || KEPT_BLOCKS.with(|kept| kept.borrow().0.len());
        let (small, large) = (OWN.block(SMALL), OWN.block(SMALL + ALIGN));
        // SAFETY: each block is freed once, with its size.
        unsafe {
            OWN.free(small, SMALL);
            let before = kept();
            OWN.free(OWN.block(SMALL + ALIGN), SMALL + ALIGN);
            assert_eq!(kept(), before);
            OWN.free(large, SMALL + ALIGN);
        }
    }

    #[test]
    fn what_is_in_a_block_stays_when_it_grows() {
        let block = OWN.block(SMALL);
        // SAFETY: the block has room for what is written, and is freed once, with its size.
        unsafe {
            block.write_bytes(7, SMALL);
            let grown = OWN.grow(block, SMALL, 4 * SMALL);
            assert!((0..SMALL).all(|i| grown.add(i).read() == 7));
            OWN.free(grown, 4 * SMALL);
        }
    }
}
