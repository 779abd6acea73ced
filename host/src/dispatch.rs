//! Where and how plugin code runs.
//!
//! [`workers`] owns the threads ([`pool`] is a queue of tasks with its threads, [`slot`] what a thread is doing,
//! [`idle_io`] what it waits for when there is nothing to do, [`leaving`] how its end is waited for), [`call`] is one guarded call on them, [`ended`] how it
//! ended, [`tally`] counts how calls end ([`stripe`]: without two cores meeting), [`hold`] lets a plugin's events wait while
//! its state moves, [`watchdog`] sees calls that do not return.
//! This layer knows nothing of files, libraries and sockets.

pub(crate) mod apart;
pub(crate) mod call;
pub(crate) mod ended;
pub(crate) mod hold;
mod idle_io;
mod leaving;
mod pool;
pub(crate) mod slot;
pub(crate) mod stripe;
pub(crate) mod tally;
pub(crate) mod watchdog;
pub(crate) mod workers;
