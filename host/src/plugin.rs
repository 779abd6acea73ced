//! From a file in a folder to a live plugin, and on to the next one.
//!
//! In the order of the story: [`file::watch`] waits until a file has settled, [`file::copy`] copies it, [`file::manifest`] reads
//! what it is from its bytes, [`probe`] lets a child process open it, and [`probe::trial`] restore a copy of its state there
//! ([`lifecycle::prepare`] puts these together, [`probe::cache`] remembers what was found, [`file::own_libraries`] brings what it needs beside it, [`low_priority`](crate::system::low_priority) has them give way to events); [`instance::library`] opens it here (`loader_says` what to do if that fails), on a thread that stays (`instance/library/thread.rs`), and [`instance::generation`] is what it becomes ([`lifecycle::activate`]);
//! [`lifecycle::hand_over`] brings it the state of the live one ([`state`]); [`transaction`] runs the whole and swaps, as the folders
//! ([`follow`]) or people ([`supervisor`], on [`own_thread`](crate::system::own_thread)) ask for it; [`lifecycle::retire`] lets the old generation go ([`letting_go`]),
//! once nothing needs its library any more ([`instance::leftovers`]), and [`stop`] all of them when the host ends.
//!
//! What else may happen: [`rollback`] goes back to an earlier version, [`reinstate`] makes an instance of the old one again, [`setback`] tries again what did not work,
//! [`quarantine`] remembers over restarts what is not tried again,
//! [`lifecycle::requirements`] says who has to be there first, [`state::persistence`] keeps state on disk ([`state::store`]). [`lifecycle::policy`] is what
//! the operator decides of that, [`instance::configs`] what plugins get of the configuration, and [`configured`] changes it. [`registry`] remembers all of it for whoever asks, and [`announce`] tells whoever listens.
//!
//! [`instance::signals`] shares the process's signals among libraries. What a live plugin has of the host is [`host_side`], with [`background`], [`instance::waker`], [`instance::log`] and [`plugin_report`] behind
//! it.

pub(crate) mod announce;
mod background;
pub(crate) mod configured;
mod exclusive;
pub(crate) mod file;
mod follow;
pub(crate) mod host_side;
pub(crate) mod instance;
mod keep_state;
mod kept_good;
mod letting_go;
pub(crate) mod lifecycle;
mod origin;
mod plugin_report;
pub(crate) mod probe;
pub(crate) mod quarantine;
pub(crate) mod registry;
mod reinstate;
mod rollback;
pub(crate) mod setback;
pub(crate) mod state;
pub(crate) mod state_by_hand;
mod stop;
pub(crate) mod supervisor;
mod transaction;
