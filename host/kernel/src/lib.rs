//! What routes events and calls handlers.
//!
//! The way of an event: [`event`] is what was emitted, [`router`] accepts it, finds its handlers
//! and gathers how they end, [`call`] is one guarded call of one, [`executor`] owns the threads
//! that run it, and [`report`] is what becomes of all of them. Around them: a [`session`] is what
//! one generation of a plugin may do, [`kernel`] puts the parts together, [`memory`] bounds what
//! waits, [`value`] is a value of a plugin with what keeps its library, and a [`label`] says whose
//! call it was when the process dies. A [`lock`] is not closed by a panic.
//!
//! This crate knows no files, libraries and sockets, and what plugins are no more than that they
//! can be called. It is for the host, and promises nothing to anybody else.

#![forbid(unsafe_code)]

// The way of an event, in this order: what was emitted
pub mod event;
// is accepted and led to its handlers.
pub mod router;
// Each of them is one guarded call,
pub mod call;
// on threads that are owned here.
pub mod executor;
// What became of all of them.
pub mod report;
// Around it: what one generation of a plugin may do,
pub mod boundary;
pub mod session;
// and all of this as one thing.
pub mod kernel;
// What those are made with.
pub mod label;
pub mod lock;
pub mod memory;
pub mod value;
