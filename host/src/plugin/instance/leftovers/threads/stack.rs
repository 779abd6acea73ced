//! Where a thread is, and whether a library's code is among what it will return to.
//!
//! The kernel tells of a thread that waits where its stack ends. From there on up lie the addresses
//! that it returns to, and between them what was left there before: one that a call had put there
//! once may stay for as long as the thread waits in that place. So this is for threads of which
//! nothing better is known, and says yes too often rather than not often enough.

use std::{
    io::{
        self,
        ErrorKind::{PermissionDenied, Unsupported},
    },
    ops::Range,
};

use super::super::peek::Peek;
use crate::system::proc_fs;

/// What the kernel tells of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whereabouts {
    /// It runs, so that it will be elsewhere.
    Running,
    /// It waits, with the end of its stack and the place in the code.
    Waiting { stack: usize, code: usize },
    /// It has ended, or this system does not tell.
    Untold,
}

const WORD: usize = size_of::<usize>();
/// How many bytes are looked at from where the thread is, and how many from where its own stack
/// begins.
const MOST: usize = 1 << 20;
/// The longest instruction that calls something.
const CALL: usize = 7;

/// # Errors
/// The system gives no descriptor to find it out with: it may later.
pub(super) fn whereabouts(thread: u32) -> io::Result<Whereabouts> {
    match proc_fs::of_thread(thread, "syscall") {
        Ok(text) => Ok(text.map_or(Whereabouts::Untold, |text| parsed(&text))),
        // So it will be the next time.
        Err(error) if matches!(error.kind(), PermissionDenied | Unsupported) => {
            Ok(Whereabouts::Untold)
        }
        Err(error) => Err(error),
    }
}

/// `running`, or words of which the last two are meant.
fn parsed(text: &str) -> Whereabouts {
    let mut words = text.split_whitespace().rev();
    let mut address = || usize::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
    match (address(), address()) {
        (Some(code), Some(stack)) => Whereabouts::Waiting { stack, code },
        _ if text.trim() == "running" => Whereabouts::Running,
        _ => Whereabouts::Untold,
    }
}

/// Whether a stack from here on up holds an address to return to in one of these places. `top` is
/// where the thread's own stack begins, if that is known. It may be on another one: a coroutine's,
/// one for signals.
///
/// What is not looked at: the middle of what is deeper than twice [`MOST`], and a stack between
/// those two.
pub(super) fn returns_to(
    places: &[Range<usize>],
    stack: usize,
    top: Option<usize>,
    peek: &Peek,
) -> bool {
    let is_return = |word: &usize| {
        let address = address(*word);
        places.iter().any(|place| place.contains(&address)) && follows_a_call(address, peek)
    };
    let stack = stack.next_multiple_of(WORD);
    let up_to = top.and_then(|top| top.checked_sub(stack));
    let wanted = up_to.unwrap_or(MOST).min(MOST) / WORD;
    let innermost = peek.some_words(stack, wanted);
    // All of it in one piece.
    let is_whole = up_to.is_some_and(|bytes| bytes / WORD == innermost.len());
    innermost.iter().any(is_return)
        || top.filter(|_| !is_whole).is_some_and(|top| {
            let top = top - top % WORD;
            peek.words_before(top, MOST / WORD).iter().any(is_return)
        })
}

/// An address on a stack. A processor may have signed it in the bits that no address has.
fn address(word: usize) -> usize {
    if cfg!(target_arch = "aarch64") { word & ((1 << 48) - 1) } else { word }
}

/// Whether the instruction before it may be a call.
fn follows_a_call(address: usize, peek: &Peek) -> bool {
    let Some(from) = address.checked_sub(CALL) else { return false };
    let before = peek.bytes(from, CALL);
    let at = |back: usize| CALL.checked_sub(back).and_then(|at| before.get(at)).copied();
    if cfg!(target_arch = "x86_64") {
        let near = at(5) == Some(0xe8);
        // Through a register or memory: the second byte has a 2 in its middle.
        let through =
            |back| at(back) == Some(0xff) && at(back - 1).is_some_and(|byte| (byte >> 3) & 7 == 2);
        return near || (2..=CALL).any(through);
    }
    if cfg!(target_arch = "aarch64") {
        let Some([a, b, c, d]) = before.get(CALL - 4..) else { return false };
        let word = u32::from_le_bytes([*a, *b, *c, *d]);
        // `bl`, and `blr` with all of its relatives.
        return word >> 26 == 0b10_0101 || word & 0xfe7f_0000 == 0xd63f_0000 & 0xfe7f_0000;
    }
    true
}

#[cfg(test)]
#[allow(unsafe_code)]
mod tests {
    use std::ptr;

    use super::*;

    #[test]
    fn what_the_kernel_says_of_a_thread_is_understood() {
        let waiting = Whereabouts::Waiting { stack: 0x7ffe_8a58_6f20, code: 0x7f06_72b1_62ec };
        let text = "0 0x3 0x55b48883bb60 0x2000 0x0 0x0 0x0 0x7ffe8a586f20 0x7f0672b162ec\n";
        assert_eq!(parsed(text), waiting);
        assert_eq!(parsed("-1 0x7ffe8a586f20 0x7f0672b162ec\n"), waiting);
        assert_eq!(parsed("running\n"), Whereabouts::Running);
        for text in ["", "0", "0x1", "x y z"] {
            assert_eq!(parsed(text), Whereabouts::Untold, "{text}");
        }
        assert_eq!(whereabouts(u32::MAX / 2).unwrap(), Whereabouts::Untold);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn only_an_address_after_a_call_is_one_to_return_to() {
        let peek = Peek::new().unwrap();
        let follows = |before: [u8; CALL]| {
            let after = before.as_ptr() as usize + CALL;
            let stack = [0, 1, after, 2];
            let (begin, end) = (stack.as_ptr() as usize, stack.as_ptr_range().end as usize);
            let places = Vec::from_iter(std::iter::once(after..after + 1));
            assert!(!returns_to(&[], begin, Some(end), &peek));
            // Not what lies below where the stack ends.
            assert!(!returns_to(&places, begin + 3 * WORD, Some(end), &peek));
            returns_to(&places, begin, Some(end), &peek)
        };
        assert!(follows([0, 0, 0xe8, 1, 2, 3, 4]), "call relative");
        assert!(follows([0, 0, 0, 0, 0, 0xff, 0xd0]), "call rax");
        assert!(follows([0, 0xff, 0x15, 1, 2, 3, 4]), "call through memory");
        assert!(!follows([0x90; CALL]), "nop");
        assert!(!follows([0, 0, 0, 0, 0, 0xff, 0xe0]), "jmp rax");
    }

    /// Memory of which some pages cannot be read.
    struct Region {
        start: usize,
        bytes: usize,
    }

    impl Region {
        fn new(bytes: usize) -> Region {
            let (protection, kind) =
                (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            // SAFETY: fresh memory, of no file.
            let start = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, kind, -1, 0) };
            assert_ne!(start, libc::MAP_FAILED);
            Region { start: start as usize, bytes }
        }

        fn guard(&self, at: usize) {
            let page = (self.start + at) as *mut libc::c_void;
            // SAFETY: a page of the region, which nobody refers to.
            assert_eq!(unsafe { libc::mprotect(page, 4096, libc::PROT_NONE) }, 0);
        }

        /// Whether an address to return to that lies there is found from where the stack is.
        fn finds(&self, address: usize, at: usize, stack: usize) -> bool {
            let place = (self.start + at) as *mut usize;
            let places = Vec::from_iter(std::iter::once(address..address + 1));
            let peek = Peek::new().unwrap();
            // SAFETY: a word of the region that can be written.
            unsafe { place.write(address) };
            let top = Some(self.start + self.bytes);
            let found = returns_to(&places, self.start + stack, top, &peek);
            // SAFETY: as above.
            unsafe { place.write(0) };
            found
        }
    }

    impl Drop for Region {
        fn drop(&mut self) {
            // SAFETY: mapped above with this size.
            unsafe { libc::munmap(self.start as *mut libc::c_void, self.bytes) };
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn both_ends_of_a_stack_are_looked_at_also_if_the_thread_is_on_another_one() {
        let call: [u8; CALL] = [0, 0, 0xe8, 1, 2, 3, 4];
        let address = call.as_ptr() as usize + CALL;
        let deep = Region::new(4 * MOST);
        assert!(deep.finds(address, 64, 0), "where it is");
        assert!(deep.finds(address, MOST - WORD, 0));
        assert!(deep.finds(address, 4 * MOST - WORD, 0), "where it began");
        assert!(deep.finds(address, 3 * MOST, 0));
        assert!(!deep.finds(address, 2 * MOST, 0), "in between");

        // A stack of its own of 64 KiB, with a page below it that cannot be read.
        let own = deep.bytes - (64 << 10);
        deep.guard(own - 4096);
        for stack in [0, own - (128 << 10)] {
            assert!(deep.finds(address, own, stack), "the own one's last page");
            assert!(deep.finds(address, deep.bytes - 64, stack));
            assert!(deep.finds(address, stack + 4096, stack), "the one it is on");
        }
        // One that lies above its own.
        assert!(deep.finds(address, deep.bytes - 64, deep.bytes + (1 << 20)));
    }
}
