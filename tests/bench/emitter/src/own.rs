//! Letters by the emitter's own definition. It has the fields of the handlers' type, but is another
//! one: what goes from one to the other is JSON.

use ksi_bench_events as events;
use ksi_plugin_api::prelude::*;

#[payload]
pub(crate) struct Letter {
    pub(crate) number: u64,
    from: String,
    to: String,
    subject: String,
    pages: Vec<u32>,
    pending: bool,
}

impl Letter {
    pub(crate) fn ask(number: u64, pending: bool) -> Self {
        let events::Letter { number, from, to, subject, pages, pending } =
            events::Letter::ask(number, pending);
        Letter { number, from, to, subject, pages, pending }
    }

    pub(crate) fn answers(&self, number: u64) -> bool {
        self.number == number + 1
            && self.from == events::FROM
            && self.to == events::TO
            && self.subject == events::SUBJECT
            && self.pages == events::PAGES
    }
}

#[event("bench:letter")]
pub(crate) struct Ask(pub(crate) Letter);

#[event("bench:letter_1")]
pub(crate) struct Ask1(pub(crate) Letter);

#[event("bench:letter_10")]
pub(crate) struct Ask10(pub(crate) Letter);

#[event("bench:letter_100")]
pub(crate) struct Ask100(pub(crate) Letter);

#[event("bench:letter_1000")]
pub(crate) struct Ask1000(pub(crate) Letter);
