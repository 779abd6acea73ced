//! From a file in a folder to a live plugin, and on to the next one.
//!
//! In the order of the story: [`watch`] waits until a file has settled, [`private_copy`] copies it, [`manifest`] reads
//! what it is from its bytes, [`probe`] lets a child process open it, [`load`] opens it here, [`generation`] is what it
//! becomes, with [`host_side`] as its way to the host, [`supervisor`] runs these steps and swaps, [`retire`] lets the old
//! generation go, and [`registry`] remembers all of it for whoever asks. The first three steps are put together in
//! [`prepare`], the next ones in [`activate`].

pub(crate) mod activate;
pub(crate) mod deploy_error;
pub(crate) mod generation;
pub(crate) mod host_side;
pub(crate) mod load;
pub(crate) mod manifest;
pub(crate) mod prepare;
pub(crate) mod private_copy;
pub(crate) mod probe;
pub(crate) mod registry;
pub(crate) mod retire;
pub(crate) mod supervisor;
pub(crate) mod watch;
