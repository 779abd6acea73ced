//! What is asked of the operating system, for whoever needs it: threads, memory, `/proc`, owners of
//! files, holders of locks. Knows neither plugins nor events.

pub(crate) mod cpu_clock;
pub(crate) mod lock_holder;
pub(crate) mod low_priority;
pub(crate) mod own_thread;
pub(crate) mod ownership;
pub(crate) mod proc_fs;
pub(crate) mod resident;
pub(crate) mod sandbox;
pub(crate) mod threads;
