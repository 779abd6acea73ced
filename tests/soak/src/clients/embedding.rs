//! Clients in the embedding program: they emit through [`Host::emit`], and read the report.

use std::time::Instant;

use ksi_host::{Host, NewEvent, OutcomeKind, Payload, Report};
use serde::Serialize;

use super::{LOST, Stage};
use crate::{
    lane::Lane,
    wire::{Ending, Outcome},
};

/// Emits one request after the other, until it is over.
pub(super) async fn client(stage: Stage, mut lane: Lane) -> Vec<Lane> {
    while let Some(under_way) = stage.gate.pass().await {
        let request = lane.next(&stage.ledger);
        let began = Instant::now();
        match tokio::time::timeout(LOST, emit(&stage.host, &request.event, &request.ask)).await {
            Ok(report) => {
                let ending = ending(&report);
                lane.ended(&request, ending, began.elapsed(), &stage.ledger);
            }
            Err(_) => lane.lost(&request, LOST, &stage.ledger),
        }
        drop(under_way);
        lane.rest().await;
    }
    vec![lane]
}

/// Emits; an event that is none has a report that says so.
pub(crate) async fn emit(host: &Host, event: &str, data: &impl Serialize) -> Report {
    match new_event(event, data) {
        Some(event) => host.emit(event).await,
        None => Report::default(),
    }
}

pub(super) fn new_event(event: &str, data: &impl Serialize) -> Option<NewEvent> {
    NewEvent::new(event, Payload::encode(data).ok()?).ok()
}

pub(crate) fn ending(report: &Report) -> Ending {
    let outcome = |outcome: &ksi_host::Outcome| match &outcome.result {
        OutcomeKind::Replied(reply) => Outcome::of_reply(reply.decode()),
        other => Outcome::Other { code: other.code().to_owned(), message: other.message() },
    };
    Ending { outcomes: report.outcomes().iter().map(outcome).collect() }
}
