//! Where threads cannot be looked at: none is found.

use std::{io, ops::Range};

use super::{super::dependencies::Object, FoundThread};

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

pub(super) fn search(_memory: &Memory, _opened: Option<u64>) -> io::Result<Vec<FoundThread>> {
    Ok(Vec::new())
}
