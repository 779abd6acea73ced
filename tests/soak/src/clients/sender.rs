//! Clients that send and get no report: the plugin that handles what was sent says so in an event,
//! which is handled here.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use ksi_host::{EventRef, Failure};
use tokio::sync::oneshot;

use super::{LOST, Stage, embedding::new_event};
use crate::{
    error::SoakError,
    lane::Lane,
    ledger::Fault,
    wire::{Answer, Applied, Ending, Outcome},
};

/// What was sent and is not known to be handled yet, by number.
pub(super) struct Sent {
    waiting: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
}

impl Sent {
    /// Listens for what plugins tell of sent requests.
    pub(super) fn listen(stage: &Stage) -> Result<Arc<Self>, SoakError> {
        let sent = Arc::new(Sent { waiting: Mutex::default() });
        let (told, ledger) = (sent.clone(), stage.ledger.clone());
        stage.host.on("soak:applied", move |event: EventRef| {
            match event.payload().decode::<Applied>() {
                Ok(Applied { answer }) => match told.lock().remove(&answer.number) {
                    // Its sender may have given it up as lost.
                    Some(waiting) => drop(waiting.send(answer)),
                    None => {
                        ledger.fault(Fault::Twice, || format!("sent, and told again: {answer:?}"))
                    }
                },
                Err(error) => ledger.fault(Fault::Wrong, || format!("soak:applied: {error}")),
            }
            std::future::ready(Ok::<(), Failure>(()))
        })?;
        Ok(sent)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Answer>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends one request after the other, until it is over.
pub(super) async fn client(stage: Stage, sent: Arc<Sent>, mut lane: Lane) -> Vec<Lane> {
    while let Some(under_way) = stage.gate.pass().await {
        let request = lane.next(&stage.ledger);
        let began = Instant::now();
        let (sender, told) = oneshot::channel();
        sent.lock().insert(request.number(), sender);
        let accepted = match new_event(&request.event, &request.ask) {
            Some(event) => stage.host.send(event).map_err(|error| error.to_string()),
            None => Err("it is no event".to_owned()),
        };
        let outcome = match accepted {
            Ok(()) => match tokio::time::timeout(LOST, told).await {
                Ok(Ok(answer)) => Some(Outcome::Replied(answer)),
                _ => None,
            },
            Err(message) => Some(Outcome::Other { code: "refused".to_owned(), message }),
        };
        sent.lock().remove(&request.number());
        match outcome {
            Some(outcome) => {
                let ending = Ending { outcomes: vec![outcome] };
                lane.ended(&request, ending, began.elapsed(), &stage.ledger);
            }
            None => lane.lost(&request, LOST, &stage.ledger),
        }
        drop(under_way);
    }
    vec![lane]
}
