//! The conversions alone: the event to JSON once; for each handler the event from JSON, its reply
//! to JSON and from JSON.

use crate::{Laps, Letter, Ran, Run};

/// Letters, with the handler's work between the conversions.
pub async fn letters(run: Run) -> Ran {
    let mut laps = Laps::begin(&run);
    while let Some(number) = laps.round() {
        let event = serde_json::to_vec(&Letter::ask(number, run.pending)).unwrap_or_default();
        let event = std::hint::black_box(event);
        for _ in 0..run.handlers() {
            laps.replied(answered(&event).await.is_some_and(|reply| reply.answers(number)));
        }
    }
    laps.end()
}

async fn answered(event: &[u8]) -> Option<Letter> {
    let asked: Letter = serde_json::from_slice(event).ok()?;
    let reply = serde_json::to_vec(&asked.answer().await).ok()?;
    serde_json::from_slice(&std::hint::black_box(reply)).ok()
}
