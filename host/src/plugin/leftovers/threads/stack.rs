//! Where a thread is, and whether a library's code is among what it will return to.
//!
//! The kernel tells of a thread that waits where its stack ends. From there on up lie the addresses that it returns to, and
//! between them what was left there before: one that a call had put there once may stay for as long as the thread waits in that
//! place. So this is for threads of which nothing better is known, and says yes too often rather than not often enough.

use std::{
    io::{
        self,
        ErrorKind::{PermissionDenied, Unsupported},
    },
    ops::Range,
};

use super::super::{super::proc_fs, peek::Peek};

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
/// How many bytes of a stack are looked at: the outermost ones.
const MOST: usize = 1 << 20;
/// How many if it is not known where the stack begins.
const MOST_WITHOUT: usize = 1 << 16;
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

/// Whether a stack from here on up, to `top` if that is known, holds an address to return to in one of these places.
pub(super) fn returns_to(
    places: &[Range<usize>],
    stack: usize,
    top: Option<usize>,
    peek: &Peek,
) -> bool {
    let stack = stack.next_multiple_of(WORD);
    let (from, bytes) = match top.and_then(|top| top.checked_sub(stack)) {
        Some(bytes) if bytes <= MOST => (stack, bytes),
        // A stack of this kind has no end that far away.
        Some(bytes) if bytes <= u32::MAX as usize => (stack + bytes - MOST, MOST),
        _ => (stack, MOST_WITHOUT),
    };
    let from = from.next_multiple_of(WORD);
    peek.some_words(from, bytes / WORD).into_iter().map(address).any(|address| {
        places.iter().any(|place| place.contains(&address)) && follows_a_call(address, peek)
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
mod tests {
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
}
