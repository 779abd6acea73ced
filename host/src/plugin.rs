//! From a file in a folder to a live plugin, and on to the next one. Each folder is a room, in the
//! order in which a file comes through them:
//!
//! - [`file`](mod@file): a file until its bytes are read.
//! - [`probe`]: a child process opens the file first, and tries it.
//! - [`instance`]: its library, opened here, and what lives of it.
//! - [`worker`]: or a process of its own, with the same in it.
//! - [`python`]: what is run there of a module of Python.
//! - [`state`]: what a plugin gives to its successor, and what of it is kept on disk.
//! - [`lifecycle`]: the steps of a generation, each by itself: prepare, activate, hand over,
//!   retire.
//! - [`supervisor`]: who decides: deploy, roll back, retry, quarantine, stop; and the registry of
//!   what there is.
//! - [`announce`]: who is told what happens to plugins.
//!
//! Rooms know each other in one direction only, which a test holds: `file`, `instance`, `announce`,
//! `state`, `probe`, `worker`, `python`, `lifecycle`, `supervisor`, each those before it. The probe stands
//! above what it tries.
//!
//! What a live plugin has of the host is [`instance::host_api`], with a
//! [`session`](ksi_kernel::session) behind it.

// A file, until its bytes are read.
pub(crate) mod file;
// Tried elsewhere first.
pub(crate) mod probe;
// What lives of it here.
pub(crate) mod instance;
// Or in a process of its own.
pub(crate) mod worker;
// Of an interpreter, if it is a module.
pub(crate) mod python;
// What it gives to its successor.
pub(crate) mod state;
// The steps of its life.
pub(crate) mod lifecycle;
// Who decides which is taken.
pub(crate) mod supervisor;
// Who is told.
pub(crate) mod announce;
