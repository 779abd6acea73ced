//! Signal handlers that lie in a library's memory, or in that of libraries which are closed with
//! it.
//!
//! What the library's own code has installed is taken out before
//! ([`signals`](super::super::signals)). Here it is seen to that none of that is still running, and
//! what came another way is found: a system call past the C library, or a library that the plugin
//! depends on. Such a handler is not put back: whether it is running is known to nobody.

use std::ops::Range;

use super::{Remaining, dependencies::Object};
use crate::plugin::instance::{library::PluginLibrary, signals};

pub(super) fn look(
    library: &PluginLibrary,
    memory: &Range<usize>,
    dependencies: &[Object],
) -> Vec<Remaining> {
    let running = library.signals_inside().into_iter().map(|signal| {
        Remaining::new(format!("its handler for {signal} was entered and has not returned"))
    });
    let of = |name: &str, memory: &Range<usize>| {
        let from = match name.is_empty() {
            true => "past `sigaction` of the C library".to_owned(),
            false => format!("by {name}, which is closed with it"),
        };
        let installed = signals::installed_in(memory).into_iter();
        let worded = installed.map(move |signal| {
            Remaining::new(format!("its handler for {signal} is still installed ({from})"))
        });
        worded.collect::<Vec<_>>()
    };
    let with = dependencies.iter().flat_map(|object| of(&object.name, &object.memory));
    running.chain(of("", memory)).chain(with).collect()
}
