//! A megabyte of constants, so that this build is larger than the other one.

use std::hint::black_box;

const LEN: usize = 1 << 17;

static TABLE: [u64; LEN] = table();

const fn table() -> [u64; LEN] {
    let (mut table, mut at, mut value) = ([0; LEN], 0, 0x9e37_79b9_7f4a_7c15_u64);
    while at < LEN {
        value ^= value << 13;
        value ^= value >> 7;
        value ^= value << 17;
        table[at] = value;
        at += 1;
    }
    table
}

/// Some entry of the table.
pub(crate) fn entry(number: u64) -> u64 {
    let table = black_box(&TABLE);
    usize::try_from(number).map_or(0, |number| table[number % LEN])
}
