//! Memory of the host in which a plugin polls the future of a call for the first time.
//!
//! Most calls are ready at their first poll. Their future lies in a block that the host uses again
//! for the next call, so they cost no allocation; a future that goes on keeps the block, and the
//! host takes a new one.

use std::{cell::RefCell, ptr};

use abi_stable::{StableAbi, type_layout::Tag};

use super::memory::{ALIGN, memory};

/// The size of a block. A larger future is boxed by its plugin.
const SIZE: usize = 2_048;
/// Blocks that a thread keeps: calls that are polled inside one another take one each.
const KEPT: usize = 8;

/// A block lent to a plugin for one call; null once the plugin has kept it.
#[repr(C)]
#[derive(StableAbi)]
// A plugin decides by it what fits, and it frees what the host allocated.
#[sabi(tag = Tag::uint(SIZE as u64))]
pub struct Scratch {
    block: *mut u8,
}

impl Scratch {
    /// The block, if a `T` fits into it.
    pub(super) fn room_for<T>(&self) -> Option<*mut T> {
        let fits = size_of::<T>() <= SIZE && align_of::<T>() <= ALIGN;
        (fits && !self.block.is_null()).then(|| self.block.cast())
    }

    /// The plugin keeps the block, and [`free`]s it.
    pub(super) fn keep(&mut self) {
        self.block = ptr::null_mut();
    }

    /// No block.
    pub(super) fn none() -> Self {
        Scratch { block: ptr::null_mut() }
    }
}

/// Frees a block that a plugin has kept.
///
/// # Safety
/// It was the block of a [`Scratch`], and is not used again.
pub(super) unsafe fn free(block: *mut u8) {
    // SAFETY: promised by the caller; every block comes from the host's memory, which is this
    // library's too.
    unsafe { memory().free(block, SIZE) }
}

/// A block that the host owns.
struct Block(*mut u8);

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: the block came from `lend`, and nobody else has it.
        unsafe { free(self.0) }
    }
}

thread_local! {
    static BLOCKS: RefCell<Vec<Block>> = const { RefCell::new(Vec::new()) };
}

/// Lends a block to `call`. In the host.
#[inline(always)]
pub(super) fn lend<T>(call: impl FnOnce(&mut Scratch) -> T) -> T {
    // A thread that ends has none: destructors of other thread-locals may call.
    let block = BLOCKS.try_with(|blocks| blocks.borrow_mut().pop()).ok().flatten();
    let block = block.unwrap_or_else(|| Block(memory().block(SIZE)));
    let mut scratch = Scratch { block: block.0 };
    std::mem::forget(block);
    let result = call(&mut scratch);
    if !scratch.block.is_null() {
        let block = Block(scratch.block);
        let _ = BLOCKS.try_with(|blocks| {
            let mut blocks = blocks.borrow_mut();
            if blocks.len() < KEPT {
                blocks.push(block);
            }
        });
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::check_layouts;

    /// The block of a build in which it has this size.
    macro_rules! scratch_of_build {
        ($build:ident: $size:expr) => {
            #[allow(dead_code, unreachable_pub)]
            mod $build {
                use super::*;

                const BLOCK: Tag = Tag::uint($size as u64);

                #[repr(C)]
                #[derive(StableAbi)]
                #[sabi(tag = BLOCK)]
                pub struct Scratch {
                    block: *mut u8,
                }
            }
        };
    }
    scratch_of_build!(same: SIZE);
    scratch_of_build!(larger: SIZE + ALIGN);
    scratch_of_build!(smaller: SIZE - ALIGN);

    #[test]
    fn a_build_with_another_size_is_refused() {
        assert_eq!(check_layouts(Scratch::LAYOUT, same::Scratch::LAYOUT), Ok(()));
        assert!(check_layouts(Scratch::LAYOUT, larger::Scratch::LAYOUT).is_err());
        assert!(check_layouts(Scratch::LAYOUT, smaller::Scratch::LAYOUT).is_err());
    }

    #[test]
    fn a_block_is_used_again_unless_it_was_kept() {
        let first = lend(|scratch| scratch.block);
        assert_eq!(lend(|scratch| scratch.block), first);
        let kept = lend(|scratch| {
            let block = scratch.block;
            // Calls inside one another have blocks of their own.
            assert_ne!(lend(|inner| inner.block), block);
            scratch.keep();
            block
        });
        assert_ne!(lend(|scratch| scratch.block), kept);
        // SAFETY: it was kept above.
        unsafe { free(kept) };
    }

    #[test]
    fn what_is_too_large_or_aligned_too_strictly_finds_no_room() {
        #[repr(align(64))]
        struct Aligned(#[allow(dead_code)] u8);
        lend(|scratch| {
            assert!(scratch.room_for::<[u64; 32]>().is_some());
            assert!(scratch.room_for::<[u8; SIZE + 1]>().is_none());
            assert!(scratch.room_for::<Aligned>().is_none());
            scratch.room_for::<u8>().map(|_| ())
        });
        assert!(Scratch::none().room_for::<u8>().is_none());
    }
}
