//! From an emitted event to the handlers it reaches.
//!
//! `matcher` finds the subscriptions of a name, `names` numbers names, `table` is the snapshot that
//! emitters read and that a swap replaces (made of `slots` and shared maps), [`resolved`] is a name
//! as a plugin holds it that emits it often, and `targets` are the handlers that routes lead to.
//! `accept` accepts an event ([`not_sent`] says why one that was sent is not), [`emit`] has its
//! handlers run, `fan_out` calls them (`held` those whose plugin's state moves, later; `pending` is
//! what goes on), `outcomes` are how they ended, [`taps`] lets watchers see what passes,
//! [`host_handler`] are handlers of the host and of the program that embeds it, `traffic` counts
//! who emits what. `failures` tells of calls that failed, [`recorded`] are those that have ended,
//! with their names, [`plugin_report`] is the report as a plugin gets it, and [`progress`] what is
//! known of calls that are not waited for. [`routes`] and `answered` are for those outside, who
//! know no table. This layer knows nothing of files, libraries and sockets.

// An event is accepted,
mod accept;
pub mod emit;
pub mod not_sent;
pub mod taps;
pub(crate) mod traffic;
// its handlers are found
pub(crate) mod matcher;
pub(crate) mod names;
pub mod resolved;
mod shared_map;
mod slots;
pub(crate) mod table;
pub(crate) mod targets;
// and called, the host's own too,
pub(crate) mod fan_out;
mod held;
pub mod host_handler;
pub(crate) mod pending;
// and how they ended is told.
mod failures;
pub(crate) mod outcomes;
pub mod plugin_report;
pub mod recorded;
// Whoever does not wait for all of them.
mod answered;
pub mod progress;
// For those who know no table.
pub mod routes;

pub use emit::Router;
