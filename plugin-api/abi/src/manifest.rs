//! The manifest: what a host reads off a library's bytes before it runs any of its code.
//!
//! It is JSON behind a magic, in a section of its own, joined from constants when the plugin is
//! compiled, because an event's name may come from a type. It says of itself that it was built as
//! native code, which is what brings the fields of that: the ABI, the compiler and the like.
//!
//! A library holds a manifest for each plugin crate that is linked into it. Nothing that a crate
//! knows when it is compiled says whether it is the one that the library is made of or one that
//! this depends on: cargo compiles it once for both. So every manifest names its crate, by which
//! the host finds the one that belongs to the library's file name, and the symbol of its root
//! module, which has the crate's name and version in it.

/// The bytes before the JSON: a name and the version of the format.
pub const MAGIC: &str = "KSIM1\n";
/// The name of the section in an ELF file.
pub const SECTION: &str = ".ksi.manifest";

/// The ABI that plugins built against this crate speak, as text.
pub const ABI: &str = "4";
const _: () = {
    let (text, mut number, mut i) = (ABI.as_bytes(), 0, 0);
    while i < text.len() {
        number = number * 10 + (text[i] - b'0') as u32;
        i += 1;
    }
    assert!(number == crate::ABI_VERSION, "ABI and ABI_VERSION differ");
};

/// The compiler that built this crate, and with it the plugin.
pub const RUSTC: &str = env!("KSI_RUSTC");
/// What it was built for.
pub const TARGET: &str = env!("KSI_TARGET");

/// How many bytes the joined parts have at the most.
pub const fn total(parts: &[&str]) -> usize {
    let (mut sum, mut i) = (0, 0);
    while i < parts.len() {
        sum += parts[i].len();
        i += 1;
    }
    sum
}

/// Joins the parts. A comma before a closing bracket is left out, so that lists can be written with
/// a comma behind each item; what that saves is filled up with newlines.
pub const fn join<const N: usize>(parts: &[&str]) -> [u8; N] {
    let mut out = [b'\n'; N];
    let (mut at, mut i) = (0, 0);
    while i < parts.len() {
        let bytes = parts[i].as_bytes();
        let mut j = 0;
        while j < bytes.len() {
            if bytes[j] == b']' && at > 0 && out[at - 1] == b',' {
                at -= 1;
            }
            out[at] = bytes[j];
            at += 1;
            j += 1;
        }
        i += 1;
    }
    while at < N {
        out[at] = b'\n';
        at += 1;
    }
    out
}

/// Refuses, at compile time, a name that a plugin subscribes to twice.
pub const fn assert_distinct(names: &[&str]) {
    let mut i = 0;
    while i < names.len() {
        let mut j = i + 1;
        while j < names.len() {
            assert!(
                !same(names[i], names[j]),
                "two handlers of this plugin subscribe to the same event: merge them into one"
            );
            j += 1;
        }
        i += 1;
    }
}

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_lists_have_no_comma_before_the_bracket() {
        const PARTS: &[&str] = &["[", "1,", "2,", "],[", "]"];
        const LEN: usize = total(PARTS);
        assert_eq!(&join::<LEN>(PARTS), b"[1,2],[]\n");
    }
}
