//! How many clients look on at once, and that all of them have gone.

use std::sync::Arc;

use axum::http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::answer::Refused;

#[derive(Clone)]
pub(crate) struct Streams {
    places: Arc<Semaphore>,
    count: u32,
}

impl Streams {
    pub(crate) fn new(count: u32) -> Self {
        Streams { places: Arc::new(Semaphore::new(count as usize)), count }
    }

    /// For one of them, until this is dropped.
    pub(crate) fn place(&self) -> Result<OwnedSemaphorePermit, Refused> {
        self.places.clone().try_acquire_owned().map_err(|_| {
            let text = format!("{} clients look on already (max_streams)", self.count);
            Refused::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_streams", text)
        })
    }

    /// Until there is none.
    pub(crate) async fn ended(&self) {
        let _ = self.places.acquire_many(self.count).await;
    }
}
