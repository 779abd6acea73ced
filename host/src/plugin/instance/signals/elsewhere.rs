//! Where plugins ask nobody: their handlers are the process's, and replaced libraries stay in
//! memory.

use std::{ops::Range, sync::Arc};

use ksi_abi::ModuleRef;

/// Nothing is known of them.
#[derive(Clone, Copy)]
pub(crate) struct LibrarySignals;

/// There is none.
#[derive(Debug)]
pub(crate) enum Handled {}

impl Handled {
    pub(crate) fn into_parts(self) -> (String, bool, bool) {
        match self {}
    }
}

impl LibrarySignals {
    pub(crate) fn bind(_module: ModuleRef) -> Self {
        LibrarySignals
    }

    pub(crate) fn belong_to(self, _plugin: Arc<str>, _generation: u64) {}

    pub(crate) fn withdraw(self) {}

    pub(crate) fn inside(self) -> Vec<String> {
        Vec::new()
    }

    pub(crate) fn handled(self) -> Vec<Handled> {
        Vec::new()
    }

    pub(crate) fn gone(self) {}
}

pub(crate) fn installed_in(_memory: &Range<usize>) -> Vec<String> {
    Vec::new()
}
