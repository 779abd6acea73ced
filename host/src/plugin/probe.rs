//! What a file does where nothing is at stake: a [`child`] process opens its copy, describes it and tries it
//! ([`trial`]), as the [`prober`] asks; what was found of the same bytes before is remembered ([`cache`]).

pub(in crate::plugin) mod cache;
mod child;
pub(crate) mod prober;
pub(in crate::plugin) mod trial;
