//! The steps of a generation's life, each by itself: [`prepare`] makes a candidate of a file,
//! [`activate`] an instance of that, which gets the state of the live one ([`hand_over`]) or what
//! is kept of it ([`from_disk`]); [`retire`] lets it go, and what is known of it then is
//! [`retired`].
//!
//! Beside them what steps share: why one fails ([`error`]), what the operator decides ([`policy`]),
//! what a plugin needs others for ([`requirements`]), what they may expect of one another
//! ([`contracts`]), who is on the way out ([`departures`]), calls to one instance alone
//! ([`directed`]). Which
//! step is taken, and when, is not known here.

// A candidate is made of a file,
pub(crate) mod prepare;
// and an instance of that,
pub(crate) mod activate;
// which gets the state of the live one,
pub(crate) mod hand_over;
// or what is kept of it.
pub(in crate::plugin) mod from_disk;
// It is let go,
pub(crate) mod retire;
// and remembered.
pub(crate) mod retired;
// What steps share.
pub(crate) mod contracts;
pub(in crate::plugin) mod departures;
pub(in crate::plugin) mod directed;
pub(crate) mod error;
pub(crate) mod policy;
pub(crate) mod requirements;
