//! Signal handlers that plugins install, and how one process has those of all of them and its own.
//!
//! The code of a library never has a handler in the kernel: its own `sigaction` asks here
//! (`ksi_abi::signals`). [`table`] holds what each library wants of each signal. [`kernel`] puts
//! one handler of the host's in front of the process's original action as long as any library wants
//! one, and that action back after. [`deliver`] is that handler: it calls the original and those of
//! the libraries. [`asked`] is what `sigaction` means to a library, and [`told`] what people are
//! told of it.
//!
//! Invariants: a library's handler is never called once [`LibrarySignals::withdraw`] has returned
//! and [`LibrarySignals::inside`] is empty; no library gets another library's handler to chain to;
//! what a library asks can be asked inside a signal handler; nothing of the process's signals is
//! changed before a library asks.
//!
//! This is the process's and not one host's: an action for a signal is, too. It knows no events and
//! no routes.

mod asked;
mod deliver;
mod kernel;
mod table;
#[cfg(test)]
mod tests;
mod told;

use std::{ffi::c_int, ops::Range, sync::Arc};

#[cfg(test)]
use ksi_abi::signals::SignalAction;
use ksi_abi::{ModuleRef, module};
use table::Library;
pub(crate) use told::Handled;

/// What one library wants of the process's signals.
#[derive(Clone, Copy)]
pub(crate) struct LibrarySignals(&'static Library);

impl LibrarySignals {
    /// Makes this known to a library that was just opened.
    pub(crate) fn bind(module: ModuleRef) -> Self {
        kernel::remember_process();
        let library = table::take();
        module::bind_signals(module, library.host());
        LibrarySignals(library)
    }

    /// Whose library it is. What happened so far is told now, and what happens from now on when it
    /// does.
    pub(crate) fn belong_to(self, plugin: Arc<str>, generation: u64) {
        self.0.owner(Some((plugin, generation)));
        told::tell(self.0);
    }

    /// Takes out all of its handlers, and lets it install no more. One that is running goes on.
    pub(crate) fn withdraw(self) {
        let turn = kernel::TableLock::take();
        self.0.leave();
        for signal in table::signals() {
            if self.0.want(signal).clear() {
                kernel::settle(&turn, signal);
            }
        }
    }

    /// The signals whose handlers of this library are running.
    pub(crate) fn inside(self) -> Vec<String> {
        let running = table::signals().filter(|signal| self.0.want(*signal).is_running());
        running.map(name).collect()
    }

    /// What it wants of which signals.
    pub(crate) fn handled(self) -> Vec<Handled> {
        told::handled(self.0)
    }

    /// The library has left memory.
    pub(crate) fn gone(self) {
        self.0.give_back();
    }
}

/// The signals of which a handler lies in this memory: one that is installed, or that was when a
/// library's first came.
pub(crate) fn installed_in(memory: &Range<usize>) -> Vec<String> {
    let there = |signal: &c_int| {
        let known = [kernel::installed(*signal), Some(kernel::original(*signal))];
        known.iter().flatten().any(|action| action.is_handler() && memory.contains(&action.handler))
    };
    table::signals().filter(there).map(name).collect()
}

/// `SIGINT`, or its number where it has no name.
pub(crate) fn name(signal: c_int) -> String {
    let named = signal_hook::low_level::signal_name(signal);
    named.map_or_else(|| format!("signal {signal}"), str::to_owned)
}
