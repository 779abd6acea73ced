//! Where and how plugin code runs.
//!
//! [`workers`] owns the threads, [`call`] is one guarded call on them, [`watchdog`] sees calls that do not return.
//! This layer knows nothing of files, libraries and sockets.

pub(crate) mod call;
pub(crate) mod watchdog;
pub(crate) mod workers;
