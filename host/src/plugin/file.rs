//! A plugin's file until its bytes are read: [`watch`] waits until it has settled, [`trust`] looks
//! who else could have written it, [`copy`] copies it, [`own_libraries`] brings what lies beside it
//! for it, and [`manifest`] reads what it is from its bytes. None of its code has run by then, and
//! nothing here knows events.

// It has settled,
pub(crate) mod watch;
// nobody else could have written it,
pub(crate) mod trust;
// and it is copied,
pub(crate) mod copy;
// with what it brings along,
pub(in crate::plugin) mod own_libraries;
// and read.
pub(crate) mod manifest;
