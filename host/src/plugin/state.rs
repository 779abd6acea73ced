//! The state of plugins: what a live one gives and a new one takes ([`snapshot`]), what of it is
//! kept over restarts ([`persistence`]) and in which files ([`store`]), and who is told when it is
//! not ([`trouble`]).

pub(crate) mod persistence;
pub(crate) mod snapshot;
pub(crate) mod store;
mod trouble;
