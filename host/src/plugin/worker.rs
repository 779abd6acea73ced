//! A plugin in a process of its own.
//!
//! [`process`] is that process as the host holds it, [`link`] the host's end of its socket,
//! [`body`] an instance there, and [`residence`] where a generation lives whose file is opened
//! there. [`child`] is what the process does. Routing, handing over, retiring and going back know
//! none of this.

// Started and reaped,
pub(crate) mod process;
// spoken to,
pub(crate) mod link;
// whose end is told,
pub(crate) mod down;
// asked for what any instance is asked for,
pub(crate) mod body;
// and a residence as any other,
pub(crate) mod residence;
// which may take one that waits.
pub(crate) mod spares;
// What it does itself.
pub(crate) mod child;
// Or what becomes another program, within limits.
pub(crate) mod limited;

/// The one argument of a process that a plugin is to live in.
pub(crate) const ARGUMENT: &str = "__ksi-worker";
