//! Where plugin code runs.
//!
//! [`workers`] owns the threads (`pool` is a queue of tasks with its threads, [`slot`] what a
//! thread is doing, `idle_io` what it waits for when there is nothing to do, `leaving` how its end
//! is waited for), `watchdog` sees calls that do not return, and samples with `cpu` how much
//! processor time they take; whoever must be answered all the same waits [`apart`]. Two cores that
//! count do not meet in a [`stripe`]. [`clock`] tells the time cheaply. In a plugin's tests one
//! thread does all that `in_place`.

// Threads,
mod idle_io;
#[cfg(feature = "in-place")]
pub mod in_place;
mod leaving;
mod pool;
pub mod slot;
pub mod workers;
// those who watch over them and wait for them,
pub mod apart;
pub mod cpu;
pub(crate) mod watchdog;
// and what both measure by.
pub mod clock;
pub mod stripe;
