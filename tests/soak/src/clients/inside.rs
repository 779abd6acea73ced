//! Clients inside a plugin. What they do is said here, and judged here, in a handler that their
//! plugin asks for each turn.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ksi_host::{EventRef, Failure};

use super::{LOST, Stage};
use crate::{
    error::SoakError,
    gate::{Flow, UnderWay},
    lane::{Kind, Lane, Request},
    ledger::{Client, Fault},
    roles::Role,
    wire::{Next, NextRequest, Turn},
};

/// How often it is looked whether the clients are done.
const LOOK: Duration = Duration::from_millis(5);

/// The lanes that are driven inside, by number.
pub(super) struct Inside {
    stage: Stage,
    lanes: Mutex<HashMap<u64, Driven>>,
}

struct Driven {
    lane: Lane,
    under_way: Option<(Request, Instant, UnderWay)>,
    /// It has nothing to do before.
    rests_until: Option<Instant>,
}

impl Inside {
    /// Gives turns to whoever asks for them.
    pub(super) fn listen(stage: &Stage, lanes: &[u64]) -> Result<Arc<Self>, SoakError> {
        let driven = |id: &u64| {
            let lane = Lane::new(*id, Client::Inside, Kind::Busy);
            (*id, Driven { lane, under_way: None, rests_until: None })
        };
        let lanes = Mutex::new(lanes.iter().map(driven).collect());
        let inside = Arc::new(Inside { stage: stage.clone(), lanes });
        let turns = inside.clone();
        stage.host.on("soak:turn", move |event: EventRef| {
            let turn = event.payload().decode::<Turn>();
            let next = turn.map(|turn| turns.turn(turn));
            std::future::ready(next.map_err(|error| Failure::new("no_turn", error)))
        })?;
        Ok(inside)
    }

    fn turn(&self, turn: Turn) -> Next {
        let ledger = &self.stage.ledger;
        let mut lanes = self.lock();
        let Some(driven) = lanes.get_mut(&turn.lane) else {
            return Next { over: true, request: None };
        };
        match (turn.ended, driven.under_way.take()) {
            (Some(ended), Some((request, _, _under_way))) => {
                let took = Duration::from_micros(ended.micros);
                driven.lane.ended(&request, ended.into_ending(), took, ledger);
            }
            (Some(ended), None) => {
                ledger.fault(Fault::Twice, || format!("inside, and told again: {ended:?}"));
            }
            // Its process was killed, and it is driven by another one now.
            (None, Some((request, began, _under_way)))
                if ledger.kills.explain(Role::Other, began, Instant::now()) =>
            {
                driven.lane.abandoned(&request, ledger);
            }
            // The turn in which it was handed out did not arrive: nobody emitted it.
            (None, Some((request, _, _under_way))) => driven.lane.lost(&request, LOST, ledger),
            (None, None) => (),
        }
        if let Some(pause) = driven.lane.pause() {
            driven.rests_until = Some(Instant::now() + pause);
        }
        if driven.rests_until.is_some_and(|until| until > Instant::now()) {
            return Next { over: false, request: None };
        }
        match self.stage.gate.try_pass() {
            Ok(under_way) => {
                let request = driven.lane.next(ledger);
                let (event, data) = (request.event.clone(), request.ask.clone());
                driven.under_way = Some((request, Instant::now(), under_way));
                Next { over: false, request: Some(NextRequest { event, data }) }
            }
            Err(flow) => Next { over: flow == Flow::Over, request: None },
        }
    }

    /// Waits until nothing is under way, and takes the lanes; what is under way for too long is
    /// lost.
    pub(super) async fn ended(&self) -> Vec<Lane> {
        loop {
            {
                let mut lanes = self.lock();
                for driven in lanes.values_mut() {
                    let late = driven.under_way.take_if(|(_, began, _)| began.elapsed() > LOST);
                    if let Some((request, ..)) = late {
                        driven.lane.lost(&request, LOST, &self.stage.ledger);
                    }
                }
                if lanes.values().all(|driven| driven.under_way.is_none()) {
                    return lanes.drain().map(|(_, driven)| driven.lane).collect();
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Driven>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
