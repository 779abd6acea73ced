//! What routes events and calls handlers.
//!
//! The way of an event: [`event`] is what was emitted, [`router`] accepts it, finds its handlers and gathers how they end,
//! [`call`] is one guarded call of one, [`executor`] owns the threads that run it, and [`report`] is what becomes of all of them. Around
//! them: a [`session`] is what one generation of a plugin may do, [`kernel`] puts the parts together, [`memory`] bounds what
//! waits, [`value`] is a value of a plugin with what keeps its library, and a [`label`] says whose call it was when the
//! process dies.
//!
//! This crate knows no files, libraries and sockets, and what plugins are no more than that they can be called. It is for
//! the host, and promises nothing to anybody else.

#![forbid(unsafe_code)]

pub mod call;
pub mod event;
pub mod executor;
pub mod kernel;
pub mod label;
pub mod memory;
pub mod report;
pub mod router;
pub mod session;
pub mod value;
