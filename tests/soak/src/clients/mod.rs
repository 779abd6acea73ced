//! The clients of a run: inside a plugin, in the embedding program, on the socket. Each drives
//! lanes of its own.

mod embedding;
mod inside;
mod sender;
mod socket;

use std::{path::Path, sync::Arc, time::Duration};

use ksi_host::Host;
use tokio::task::JoinHandle;

use crate::{
    error::SoakError,
    gate::Gate,
    lane::{Kind, Lane},
    ledger::{Client, Ledger},
};

pub(crate) use embedding::{emit, ending};

/// What has no outcome after so long is lost.
pub(crate) const LOST: Duration = Duration::from_secs(60);
/// Requests that a client on the socket has under way at a time.
const SOCKET_LANES: u64 = 4;

/// How many clients there are of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub(crate) inside: u64,
    pub(crate) embedding: u64,
    pub(crate) socket: u64,
}

impl Numbers {
    /// A quarter inside, a quarter on the socket, the rest in the embedding program.
    pub(crate) fn of(clients: u32) -> Self {
        let quarter = u64::from(clients / 4).max(1);
        Numbers { inside: quarter, embedding: u64::from(clients) - 2 * quarter, socket: quarter }
    }

    /// The lanes of the clients inside, whose plugin must know them when it is loaded.
    pub(crate) fn lanes_inside(self) -> Vec<u64> {
        (1..=self.inside).collect()
    }
}

/// What every client needs.
#[derive(Clone)]
pub(crate) struct Stage {
    pub(crate) host: Host,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) gate: Arc<Gate>,
}

/// All clients, at work.
pub(crate) struct Clients {
    inside: Arc<inside::Inside>,
    tasks: Vec<JoinHandle<Vec<Lane>>>,
}

impl Clients {
    /// They begin when the gate opens.
    ///
    /// # Errors
    /// The socket cannot be reached.
    pub(crate) async fn start(
        stage: &Stage,
        numbers: Numbers,
        socket: &Path,
    ) -> Result<Self, SoakError> {
        let inside = inside::Inside::listen(stage, &numbers.lanes_inside())?;
        let sent = sender::Sent::listen(stage)?;
        let mut ids = numbers.inside + 1..;
        let mut lane = |client, kind| Lane::new(ids.next().unwrap_or_default(), client, kind);
        let mut tasks = Vec::new();
        for client in 0..numbers.embedding {
            tasks.push(tokio::spawn(embedding::client(
                stage.clone(),
                lane(Client::Embedding, Kind::Busy),
            )));
            if client % 2 == 0 {
                tasks.push(tokio::spawn(embedding::client(
                    stage.clone(),
                    lane(Client::Embedding, Kind::Slow),
                )));
                let sender = sender::client(
                    stage.clone(),
                    sent.clone(),
                    lane(Client::Embedding, Kind::Sent),
                );
                tasks.push(tokio::spawn(sender));
            }
        }
        for _ in 0..numbers.socket {
            let mut lanes: Vec<Lane> =
                (1..SOCKET_LANES).map(|_| lane(Client::Socket, Kind::Busy)).collect();
            lanes.push(lane(Client::Socket, Kind::Slow));
            tasks.push(socket::client(stage, socket, lanes).await?);
        }
        Ok(Clients { inside, tasks })
    }

    /// Waits until every client is done, which they are after the gate says that it is over; gives
    /// their lanes.
    pub(crate) async fn ended(self) -> Vec<Lane> {
        let mut lanes = self.inside.ended().await;
        for task in self.tasks {
            match task.await {
                Ok(more) => lanes.extend(more),
                Err(error) => eprintln!("a client ended before its time: {error}"),
            }
        }
        lanes
    }
}
