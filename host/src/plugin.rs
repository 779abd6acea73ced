//! From a file in a folder to a live plugin, and on to the next one.
//!
//! In the order of the story: [`watch`] waits until a file has settled, [`private_copy`] copies it, [`manifest`] reads
//! what it is from its bytes, [`probe`] lets a child process open it ([`prepare`] puts these together); [`load`] opens it
//! here, and [`generation`] is what it becomes ([`activate`]); [`supervisor`] runs the whole and swaps, as the folders ([`follow`]) or people ask for it; [`retire`] lets
//! the old generation go; [`registry`] remembers all of it for whoever asks, and [`announce`] tells whoever listens.
//!
//! What a live plugin has of the host is [`host_side`], with [`background`], [`adopted_waker`] and [`plugin_log`] behind
//! it. [`kept_state`] keeps the last snapshot of its state for the host that starts next.

pub(crate) mod activate;
mod adopted_waker;
pub(crate) mod announce;
mod background;
pub(crate) mod deploy_error;
mod follow;
pub(crate) mod generation;
pub(crate) mod host_side;
#[cfg_attr(not(test), expect(dead_code, reason = "nobody loads or stores yet"))]
pub(crate) mod kept_state;
pub(crate) mod load;
pub(crate) mod manifest;
mod ongoing;
mod plugin_log;
pub(crate) mod prepare;
pub(crate) mod private_copy;
pub(crate) mod probe;
pub(crate) mod registry;
pub(crate) mod retire;
pub(crate) mod supervisor;
mod turns;
pub(crate) mod watch;
