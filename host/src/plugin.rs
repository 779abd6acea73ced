//! From a file in a folder to a live plugin, and on to the next one. Each folder is a room; the later ones know the
//! earlier ones, and none the other way round (a test holds that):
//!
//! - [`file`]: a file until its bytes are read.
//! - [`instance`]: its library, opened here, and what lives of it.
//! - [`announce`]: who is told what happens to plugins.
//! - [`state`]: what a plugin gives to its successor, and what of it is kept on disk.
//! - [`probe`]: a child process opens the file first, and tries it.
//! - [`lifecycle`]: the steps of a generation, each by itself: prepare, activate, hand over, retire.
//! - [`supervisor`]: who decides: deploy, roll back, retry, quarantine, stop; and the registry of what there is.
//!
//! What a live plugin has of the host is [`instance::host_api`], with a [`session`](ksi_kernel::session) behind it.

pub(crate) mod announce;
pub(crate) mod file;
pub(crate) mod instance;
pub(crate) mod lifecycle;
pub(crate) mod probe;
pub(crate) mod state;
pub(crate) mod supervisor;
