use std::io::{self, Read};

use super::*;
use crate::plugin::state::store::tests::{LIMIT, NAME, file_of};

#[test]
fn no_changed_or_missing_byte_goes_unseen() {
    let mut good = file_of(NAME, b"{\"count\":207}");
    let read = |bytes: &[u8]| super::read(bytes, NAME, LIMIT, &mut Vec::new());
    read(&good).unwrap();
    for at in 0..good.len() {
        for bit in 0..8 {
            good[at] ^= 1 << bit;
            assert!(matches!(read(&good), Err(ReadError::Damaged(_))), "bit {bit} of byte {at}");
            good[at] ^= 1 << bit;
        }
        assert!(matches!(read(&good[..at]), Err(ReadError::Damaged(_))), "the first {at} bytes");
        let without = [&good[..at], &good[at + 1..]].concat();
        assert!(matches!(read(&without), Err(ReadError::Damaged(_))), "without byte {at}");
        let zeroes = [&good[..at], &vec![0; good.len() - at]].concat();
        assert!(matches!(read(&zeroes), Err(ReadError::Damaged(_))), "zeroes from byte {at}");
    }
    let longer = [&good[..], b"\n"].concat();
    assert!(matches!(read(&longer), Err(ReadError::Damaged(Damage::Length { found: 14, .. }))));
    let other = [&good[..good.len() - 13], b"{\"count\":208}"].concat();
    assert!(matches!(read(&other), Err(ReadError::Damaged(Damage::Content))));
}

#[test]
fn no_more_is_read_than_the_limit_and_a_header() {
    let endless = |start: &[u8], limit| {
        let mut source = io::Cursor::new(start.to_vec()).chain(io::repeat(b'x'));
        let mut count = Counted(&mut source, 0);
        let error = super::read(&mut count, NAME, limit, &mut io::sink()).unwrap_err();
        assert!(count.1 <= limit + 4097, "{} bytes", count.1);
        error
    };
    assert!(matches!(endless(b"", 100), ReadError::Damaged(Damage::Header)));
    assert!(matches!(
        endless(&file_of(NAME, b"one"), 3),
        ReadError::Damaged(Damage::Length { expected: 3, found: 4 })
    ));
    assert!(matches!(endless(&file_of(NAME, b"one"), 2), ReadError::TooLarge { found: 3 }));
}

struct Counted<R>(R, u64);

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(buffer)?;
        self.1 += count as u64;
        Ok(count)
    }
}

#[test]
fn fields_that_a_later_host_adds_are_skipped() {
    let line = String::from_utf8(file_of(NAME, b"")).unwrap();
    let line = line[..line.len() - 67].replacen(":1,", ":1,\"more\":[],", 1);
    let file = format!("{line}{}\"}}\n", blake3::hash(line.as_bytes()));
    super::read(file.as_bytes(), NAME, LIMIT, &mut io::sink()).unwrap();
}
