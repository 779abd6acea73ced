//! What a file does where nothing is at stake: a [`child`] process opens its copy, describes it and tries it
//! ([`trial`]), as the [`prober`] asks and the child answers ([`answer`]). What was found of the same bytes before is
//! remembered ([`cache`]).

pub(crate) mod answer;
pub(in crate::plugin) mod cache;
mod child;
pub(crate) mod error;
pub(crate) mod prober;
pub(in crate::plugin) mod trial;
