//! Where plugins ask nobody: their handlers are the process's, and replaced libraries stay in memory.

use std::{ops::Range, sync::Arc};

use ksi_abi::ModuleRef;
use serde::Serialize;

/// There is none.
#[derive(Clone, Copy)]
pub(crate) enum LibrarySignals {}

/// There is none.
#[derive(Debug, Serialize)]
pub(crate) enum Handled {}

impl LibrarySignals {
    pub(crate) fn bind(_module: ModuleRef) -> Option<Self> {
        None
    }

    pub(crate) fn belong_to(self, _plugin: Arc<str>, _generation: u64) {
        match self {}
    }

    pub(crate) fn withdraw(self) {
        match self {}
    }

    pub(crate) fn inside(self) -> Vec<String> {
        match self {}
    }

    pub(crate) fn handled(self) -> Vec<Handled> {
        match self {}
    }

    pub(crate) fn gone(self) {
        match self {}
    }
}

pub(crate) fn installed_in(_memory: &Range<usize>) -> Vec<String> {
    Vec::new()
}
