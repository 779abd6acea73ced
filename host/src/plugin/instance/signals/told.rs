//! What people are told of the signals that plugins handle.

use std::{ffi::c_int, sync::atomic::Ordering::SeqCst};

use super::{
    kernel, name,
    table::{self, Library},
};

/// Signals by which a program is told to stop, or that its children ended.
const OF_HOSTS: [c_int; 5] =
    [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGCHLD];

/// What a library wants of one signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Handled {
    pub(crate) signal: String,
    /// It wants it ignored; otherwise it has a handler.
    pub(crate) ignored: bool,
    /// The program has a handler of its own, which is called as well.
    pub(crate) host_too: bool,
}

impl Handled {
    /// The signal, whether it wants it ignored, and whether the program handles it too.
    pub(crate) fn into_parts(self) -> (String, bool, bool) {
        (self.signal, self.ignored, self.host_too)
    }
}

pub(super) fn handled(library: &Library) -> Vec<Handled> {
    let each = |signal| {
        let (_, action) = library.want(signal).now()?;
        let host_too = kernel::original(signal).is_handler();
        Some(Handled { signal: name(signal), ignored: !action.is_handler(), host_too })
    };
    table::signals().filter_map(each).collect()
}

/// Notes that there is something to tell. Inside a signal handler too.
pub(super) fn note(library: &Library, signal: c_int) {
    library.untold.fetch_or(1 << (signal - 1), SeqCst);
}

/// Tells what was noted, once it is known whose library it is. Never inside a signal handler.
pub(super) fn tell(library: &Library) {
    let Some((plugin, generation)) = library.owner(None) else { return };
    let noted = library.untold.swap(0, SeqCst);
    for signal in table::signals().filter(|signal| noted & (1 << (signal - 1)) != 0) {
        let handled = library.want(signal).now();
        let (named, own) = (name(signal), kernel::original(signal).is_handler());
        let of_hosts = OF_HOSTS.contains(&signal);
        let both = if own { ": the host's own is called as well" } else { "" };
        match handled.map(|(_, action)| action.is_handler()) {
            Some(true) if of_hosts || own => tracing::warn!(
                %plugin, generation, "it has installed a handler for {named}{both}"
            ),
            Some(true) => {
                tracing::info!(%plugin, generation, "it has installed a handler for {named}")
            }
            Some(false) if own || signal == libc::SIGCHLD => tracing::warn!(
                %plugin, generation, "it asks to ignore {named}, which the host goes on to receive"
            ),
            Some(false) => tracing::warn!(%plugin, generation, "it has the process ignore {named}"),
            None if own => tracing::info!(
                %plugin, generation, "it has no handler for {named} any more; the host's own stays"
            ),
            None => tracing::info!(%plugin, generation, "it has no handler for {named} any more"),
        }
    }
}
