//! Clients that send and get no report: the plugin that handles what was sent says so in an event,
//! which is handled here.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ksi_host::{EventRef, Failure};
use tokio::sync::oneshot;

use super::{LOST, Stage, embedding::new_event};
use crate::{
    error::SoakError,
    lane::{Lane, Request, was_killed},
    ledger::Fault,
    wire::{Answer, Applied, Ending, Outcome},
};

/// How long something may be told of a request after a process was killed that had it.
const GIVEN_UP: Duration = Duration::from_secs(1);

/// What was sent and is not known to be handled yet, by number.
pub(super) struct Sent {
    waiting: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
    /// Of those nobody waits any more: a process was killed that had to do with them.
    given_up: Mutex<HashSet<u64>>,
}

impl Sent {
    /// Listens for what plugins tell of sent requests.
    pub(super) fn listen(stage: &Stage) -> Result<Arc<Self>, SoakError> {
        let sent = Arc::new(Sent { waiting: Mutex::default(), given_up: Mutex::default() });
        let (told, ledger) = (sent.clone(), stage.ledger.clone());
        stage.host.on("soak:applied", move |event: EventRef| {
            match event.payload().decode::<Applied>() {
                Ok(Applied { answer }) => match told.lock().remove(&answer.number) {
                    // Its sender may have given it up as lost.
                    Some(waiting) => drop(waiting.send(answer)),
                    None if told.given_up().remove(&answer.number) => (),
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

    fn given_up(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.given_up.lock().unwrap_or_else(PoisonError::into_inner)
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
            Ok(()) => until_told(told, &mut lane, &request, &stage).await.map(Outcome::Replied),
            Err(message) => Some(Outcome::Other { code: "refused".to_owned(), message }),
        };
        if outcome.is_none() && lane.is_at_rest() {
            sent.given_up().insert(request.number());
        }
        sent.lock().remove(&request.number());
        match outcome {
            Some(outcome) => {
                let ending = Ending { outcomes: vec![outcome] };
                lane.ended(&request, ending, began.elapsed(), &stage.ledger);
            }
            None if lane.is_at_rest() => (),
            None => lane.lost(&request, LOST, &stage.ledger),
        }
        drop(under_way);
        lane.rest().await;
    }
    vec![lane]
}

/// What is told of a request; nothing if too much time has gone, or nothing may come.
async fn until_told(
    mut told: oneshot::Receiver<Answer>,
    lane: &mut Lane,
    request: &Request,
    stage: &Stage,
) -> Option<Answer> {
    let (began, mut killed) = (Instant::now(), false);
    while began.elapsed() < LOST {
        match tokio::time::timeout(GIVEN_UP, &mut told).await {
            Ok(answer) => return answer.ok(),
            Err(_) if killed => {
                lane.abandoned(request, &stage.ledger);
                return None;
            }
            // It may have happened just now.
            Err(_) => killed = was_killed(request, &stage.ledger),
        }
    }
    None
}
