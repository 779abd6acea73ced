//! Where threads cannot be looked at: none is found.

use std::{io, ops::Range};

use super::super::dependencies::Object;

#[derive(Debug, Default)]
pub(in super::super) struct Memory;

impl Memory {
    pub(in super::super) fn around(
        _library: &Range<usize>,
        _going: &[Object],
        _objects: &[Object],
    ) -> Self {
        Memory
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FoundThread {
    pub(super) id: u32,
    pub(super) why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    Started,
    Inside,
    Unknown,
}

pub(super) fn search(_memory: &Memory, _opened: Option<u64>) -> io::Result<Vec<FoundThread>> {
    Ok(Vec::new())
}
