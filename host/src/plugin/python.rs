//! Plugins that are modules of Python.
//!
//! [`interpreter`] is found once and asked for its version, [`describer`] reads what a module is
//! from its source, without running it, and [`package`] is what every module imports, written where
//! interpreters find it. [`modules`] puts these together: what a module's manifest is, and how its
//! process is started.
//!
//! A module runs in a process of its own, whatever else is set, and nothing of it runs before that.

// Found,
pub(crate) mod interpreter;
// asked line by line
mod lines;
// what a module is,
pub(crate) mod describer;
// given what modules import,
mod package;
// and what they need beside that,
mod environment;
// and started.
pub(crate) mod modules;
// What may go wrong with it.
pub(crate) mod error;
