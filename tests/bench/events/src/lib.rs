//! What the benchmarks emit, and the handlers' work on it. Every way that is measured (a plugin's
//! handlers, boxed futures, an actor) does this same work, and every loop that emits counts and
//! checks its replies with the same [`Laps`].
//!
//! [`mod@boxed`] and [`mod@json`] are what plugins are held against: what the same costs without a
//! host.

mod asked;
pub mod boxed;
pub mod json;
mod laps;
mod run;

pub use asked::{Added, FROM, Letter, Numbers, PAGES, SUBJECT, TO, number_of};
pub use laps::Laps;
pub use run::{Lane, Ran, Route, Run};

use ksi_plugin_api::prelude::*;

/// How many handlers an event can have here.
pub const FAN_OUT: [u32; 4] = [1, 10, 100, 1_000];

/// One event type for each name: of plain data, and of letters.
macro_rules! events {
    ($($event:literal $name:ident $data:ident)*) => {$(
        #[doc = concat!("`", $event, "`")]
        #[event($event)]
        pub struct $name(pub $data);

        impl From<$data> for $name {
            fn from(data: $data) -> Self {
                $name(data)
            }
        }

        impl From<$name> for $data {
            fn from($name(data): $name) -> Self {
                data
            }
        }
    )*};
}

events! {
    "bench:numbers" AskNumbers Numbers
    "bench:numbers_1" Numbers1 Numbers
    "bench:numbers_10" Numbers10 Numbers
    "bench:numbers_100" Numbers100 Numbers
    "bench:numbers_1000" Numbers1000 Numbers
    "matched:by:pattern" Matched Numbers
    "bench:letter" AskLetter Letter
    "bench:letter_1" Letter1 Letter
    "bench:letter_10" Letter10 Letter
    "bench:letter_100" Letter100 Letter
    "bench:letter_1000" Letter1000 Letter
}
