//! The two payloads, and what a handler makes of them.

use std::{
    future::{Future, poll_fn},
    task::Poll,
};

use ksi_plugin_api::prelude::*;

/// What stands in every letter.
pub const FROM: &str = "ada@example.org";
/// What stands in every letter.
pub const TO: &str = "grace@example.org";
/// What stands in every letter.
pub const SUBJECT: &str = "the analytical engine";
/// What stands in every letter.
pub const PAGES: [u32; 3] = [1, 2, 3];

/// Plain data: nothing of it lies on the heap.
#[payload]
#[derive(Copy, PartialEq)]
pub struct Numbers {
    /// Which one it is; the reply has the next.
    pub number: u64,
    /// Some more to carry.
    pub terms: [u64; 3],
    /// Whether the handler has to be polled a second time.
    pub pending: bool,
}

/// The reply to [`Numbers`].
#[payload]
#[derive(Copy, PartialEq, Eq)]
pub struct Added {
    /// The number after that of the question.
    pub number: u64,
    /// The sum of the terms.
    pub sum: u64,
}

/// 137 bytes as JSON; the reply is one, too.
#[payload]
#[derive(PartialEq, Eq)]
pub struct Letter {
    /// Which one it is; the reply has the next. Of ten digits, so that all are of one length.
    pub number: u64,
    /// Who writes.
    pub from: String,
    /// To whom.
    pub to: String,
    /// What about.
    pub subject: String,
    /// Some numbers in it.
    pub pages: Vec<u32>,
    /// Whether the handler has to be polled a second time.
    pub pending: bool,
}

impl Numbers {
    /// The question of this number.
    pub fn ask(number: u64, pending: bool) -> Self {
        Numbers { number, terms: [number, 2, 3], pending }
    }

    /// The handler's work.
    pub async fn answer(self) -> Added {
        once_pending(self.pending).await;
        Added { number: self.number + 1, sum: self.terms.iter().sum() }
    }
}

impl Added {
    /// Whether it answers the question of this number.
    pub fn answers(&self, number: u64) -> bool {
        self.number == number + 1 && self.sum == number + 5
    }
}

impl Letter {
    /// The question of this number.
    pub fn ask(number: u64, pending: bool) -> Self {
        Letter {
            number,
            from: FROM.to_owned(),
            to: TO.to_owned(),
            subject: SUBJECT.to_owned(),
            pages: PAGES.to_vec(),
            pending,
        }
    }

    /// The handler's work: nothing of the letter is copied.
    pub async fn answer(mut self) -> Letter {
        once_pending(self.pending).await;
        self.number += 1;
        self
    }

    /// Whether it answers the question of this number.
    pub fn answers(&self, number: u64) -> bool {
        self.number == number + 1
            && self.from == FROM
            && self.to == TO
            && self.subject == SUBJECT
            && self.pages == PAGES
    }
}

/// The number that the question of a round has: of ten digits, always.
pub fn number_of(round: u64) -> u64 {
    1_000_000_000 + round
}

/// Lets others have the thread once, if it is to.
fn once_pending(pending: bool) -> impl Future<Output = ()> {
    let mut left = pending;
    poll_fn(move |cx| match std::mem::take(&mut left) {
        true => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
        false => Poll::Ready(()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_and_its_answer_are_of_137_bytes() {
        for pending in [true, false] {
            for number in [number_of(0), number_of(1), number_of(1_000_000_000)] {
                let json = serde_json::to_string(&Letter::ask(number, pending)).unwrap();
                let expected = if pending { 136 } else { 137 };
                assert_eq!(json.len(), expected, "{json}");
            }
        }
    }

    #[test]
    fn only_the_right_answer_answers() {
        let added = Added { number: number_of(1), sum: number_of(0) + 5 };
        assert!(added.answers(number_of(0)) && !added.answers(number_of(1)));
        let letter = Letter::ask(number_of(1), false);
        assert!(letter.answers(number_of(0)) && !letter.answers(number_of(1)));
        assert!(!Letter { subject: String::new(), ..letter }.answers(number_of(0)));
    }
}
