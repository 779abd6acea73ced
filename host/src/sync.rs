//! Waiting for one another, of whatever: locks by key, and tasks that are waited for.

pub(crate) mod keyed_lock;
pub(crate) mod task_tracker;

pub(crate) use ksi_kernel::lock::Lock;
