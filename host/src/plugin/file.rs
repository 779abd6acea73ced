//! A plugin's file until its bytes are read: [`watch`] waits until it has settled, [`trust`] looks who else
//! could have written it, [`copy`] copies it, [`own_libraries`] brings what lies beside it for it, and
//! [`manifest`] reads what it is from its bytes. None of its code has run by then, and nothing here knows
//! events.

pub(crate) mod copy;
pub(crate) mod manifest;
pub(in crate::plugin) mod own_libraries;
pub(crate) mod trust;
pub(crate) mod watch;
