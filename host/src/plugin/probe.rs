//! What a file does where nothing is at stake: a [`child`] process opens its copy, describes it and
//! tries it ([`trial`]), as the [`prober`] asks and the child answers ([`answer`]). What was found
//! of the same bytes before is remembered ([`cache`]).

// Who asks,
pub(crate) mod prober;
// the child that is asked,
mod child;
// what it does in there,
pub(crate) mod answer;
// with an instance too,
pub(in crate::plugin) mod trial;
// and what is remembered of it.
pub(in crate::plugin) mod cache;
pub(crate) mod error;
