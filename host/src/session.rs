//! What one generation of a plugin has of the kernel.

pub(crate) mod tasks;
