//! What a host and its clients say to one another on the control socket: the types of what the
//! host's own events ask for and reply, and of the lines that carry them.
//!
//! The host writes them, and whoever talks to a host reads the same ones, so that neither knows a
//! key or a state that the other does not. What plugins send and reply is theirs, and stays the
//! JSON that it is.
//!
//! - [`line`](mod@line) is the frame: a request, its reply, an event that is pushed.
//! - [`module`], [`state`], [`system`], [`router`], [`config`], [`metrics`] and [`monitor`] are the
//!   events, by their namespace ([`state`] is those of `module:state_*`).
//! - [`Counts`] is how calls ended, which stands in several of them.
//!
//! # Promises
//!
//! Fields stand in the order in which they are on the wire: of what an event replies, that of their
//! keys. A key that is there without
//! a value is null; one that may be missing says so. Whoever reads takes a key that an older host
//! does not have for its default, passes over one that he does not know, and keeps a word that is
//! new to him.
//!
//! Knows no socket, no host and no plugin.

mod counts;

pub mod codes;
pub mod config;
pub mod line;
pub mod metrics;
pub mod module;
pub mod monitor;
pub mod router;
pub mod state;
pub mod system;

use std::borrow::Cow;

pub use counts::Counts;

/// One of a few words, which is fixed where it is written.
pub type Word = Cow<'static, str>;

/// For a key that is missing, null or has a value, which are three things.
fn there<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: serde::Deserialize<'de>,
    D: serde::Deserializer<'de>,
{
    T::deserialize(deserializer).map(Some)
}
