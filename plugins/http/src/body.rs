//! Bodies of requests, as far as there is room for them.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, HttpBody},
    http::StatusCode,
};
use futures_util::TryStreamExt;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::answer::Refused;

/// What bodies may take.
#[derive(Clone, Copy)]
pub(crate) struct Room {
    /// Of one, in bytes.
    pub(crate) body_bytes: usize,
    /// Of all that have not been answered, in bytes.
    pub(crate) waiting_bytes: usize,
    /// How long one may take to arrive.
    pub(crate) arrival: Duration,
}

/// Counts what waits.
pub(crate) struct Bodies {
    room: Room,
    left: Arc<Semaphore>,
}

/// One that has arrived. Its room is given back when this is dropped.
pub(crate) struct Arrived {
    pub(crate) bytes: Vec<u8>,
    share: Option<OwnedSemaphorePermit>,
}

impl Bodies {
    pub(crate) fn new(room: Room) -> Self {
        Bodies { room, left: Arc::new(Semaphore::new(room.waiting_bytes)) }
    }

    /// The largest that there may be.
    pub(crate) fn largest(&self) -> usize {
        self.room.body_bytes
    }

    /// All of a body.
    pub(crate) async fn arrive(&self, body: Body) -> Result<Arrived, Refused> {
        // Before the first byte, where the client says beforehand what it has.
        if body.size_hint().lower() > self.room.body_bytes as u64 {
            return Err(self.too_large());
        }
        let arrived = timeout(self.room.arrival, self.read(body)).await;
        arrived.unwrap_or_else(|_| {
            let text = format!("the body has not arrived within {:?}", self.room.arrival);
            Err(Refused::new(StatusCode::REQUEST_TIMEOUT, "late_body", text))
        })
    }

    async fn read(&self, body: Body) -> Result<Arrived, Refused> {
        let mut pieces = body.into_data_stream();
        let mut arrived = Arrived { bytes: Vec::new(), share: None };
        loop {
            let piece = pieces.try_next().await.map_err(|error| {
                let text = format!("the body breaks off: {error}");
                Refused::new(StatusCode::BAD_REQUEST, "broken_body", text)
            })?;
            let Some(piece) = piece else { return Ok(arrived) };
            if arrived.bytes.len() + piece.len() > self.room.body_bytes {
                return Err(self.too_large());
            }
            arrived.grow(self.share(piece.len())?);
            arrived.bytes.extend_from_slice(&piece);
        }
    }

    /// Room for what is there already: what came by another way than as a body.
    pub(crate) fn share(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refused> {
        let permits = u32::try_from(bytes).ok();
        let share = permits.and_then(|it| self.left.clone().try_acquire_many_owned(it).ok());
        share.ok_or_else(|| {
            let text = "requests that wait have taken all of max_waiting_bytes; try again later";
            Refused::new(StatusCode::SERVICE_UNAVAILABLE, "busy", text)
        })
    }

    fn too_large(&self) -> Refused {
        let text = format!("a body has at most {} bytes (max_body_bytes)", self.room.body_bytes);
        Refused::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", text)
    }
}

impl Arrived {
    fn grow(&mut self, share: OwnedSemaphorePermit) {
        match &mut self.share {
            Some(all) => all.merge(share),
            none => *none = Some(share),
        }
    }
}
