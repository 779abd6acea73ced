//! A live plugin: its [`library`], opened here, the instance that is made of it ([`live`]), and
//! what both are to the host, a [`generation`], with what is known of it ([`info`]).
//!
//! All that follows knows a generation as a [`residence`], which makes instances, each of them a
//! [`body`]; [`library_residence`] and [`library_body`] are those of a library.
//!
//! What it is given meanwhile: its configuration ([`configs`]), what any instance has of the host
//! ([`services`]) with descriptors that outlive it ([`ksi_kept`]), a way there
//! ([`host_api`]), into the log ([`log`]), wakers that hold its library ([`waker`]), a share of the
//! process's signals ([`signals`]). Once it is done, [`leftovers`] looks for what still needs the
//! library. What a payload has to be by the schema of its handler is told before, where somebody
//! asks ([`payload_check`]). Who decides that it comes and goes is not known here.

pub(crate) mod body;
pub(crate) mod configs;
pub(crate) mod generation;
pub(in crate::plugin) mod host_api;
pub(crate) mod info;
pub(in crate::plugin) mod leftovers;
pub(crate) mod library;
pub(in crate::plugin) mod library_body;
pub(in crate::plugin) mod library_residence;
pub(in crate::plugin) mod live;
pub(in crate::plugin) mod log;
pub(in crate::plugin) mod payload_check;
pub(crate) mod residence;
pub(crate) mod services;
#[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
pub(in crate::plugin) mod signals;
#[cfg(not(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64")))]
#[path = "instance/signals/elsewhere.rs"]
pub(in crate::plugin) mod signals;
pub(in crate::plugin) mod waker;
