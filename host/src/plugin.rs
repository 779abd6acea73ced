//! From a file in a folder to a live plugin, and on to the next one.
//!
//! In the order of the story: [`file::watch`] waits until a file has settled, [`file::copy`] copies it, [`file::manifest`] reads
//! what it is from its bytes, [`probe`] lets a child process open it, and [`probe::trial`] restore a copy of its state there
//! ([`lifecycle::prepare`] puts these together, [`probe::cache`] remembers what was found, [`file::own_libraries`] brings what it needs beside it, [`low_priority`](crate::system::low_priority) has them give way to events); [`instance::library`] opens it here (`loader_says` what to do if that fails), on a thread that stays (`instance/library/thread.rs`), and [`instance::generation`] is what it becomes ([`lifecycle::activate`]);
//! [`lifecycle::hand_over`] brings it the state of the live one ([`state`]); [`supervisor::deploy`] runs the whole and swaps, as the folders
//! ([`supervisor::follow`]) or people ([`supervisor`], on [`own_thread`](crate::system::own_thread)) ask for it; [`lifecycle::retire`] lets the old generation go ([`supervisor::letting_go`]),
//! once nothing needs its library any more ([`instance::leftovers`]), and [`supervisor::stop`] all of them when the host ends.
//!
//! What else may happen: [`supervisor::rollback`] goes back to an earlier version, [`supervisor::reinstate`] makes an instance of the old one again, [`supervisor::retry`] tries again what did not work,
//! [`supervisor::quarantine`] remembers over restarts what is not tried again,
//! [`lifecycle::requirements`] says who has to be there first, [`state::persistence`] keeps state on disk ([`state::store`]). [`lifecycle::policy`] is what
//! the operator decides of that, [`instance::configs`] what plugins get of the configuration, and [`supervisor::configure`] changes it. [`supervisor::registry`] remembers all of it for whoever asks, and [`announce`] tells whoever listens.
//!
//! [`instance::signals`] shares the process's signals among libraries. What a live plugin has of the host is [`host_side`], with [`background`], [`instance::waker`], [`instance::log`] and [`plugin_report`] behind
//! it.

pub(crate) mod announce;
mod background;
pub(crate) mod file;
pub(crate) mod host_side;
pub(crate) mod instance;
pub(crate) mod lifecycle;
mod plugin_report;
pub(crate) mod probe;
pub(crate) mod state;
pub(crate) mod supervisor;
