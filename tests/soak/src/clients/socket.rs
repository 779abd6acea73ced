//! Clients on the control socket: several lanes on one connection, told apart by their correlation
//! ids.

use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use ksi_wire::line::{self, FailedReply, Reply};
use serde_json::value::RawValue;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::oneshot,
    task::JoinHandle,
};

use super::{LOST, Stage};
use crate::{
    error::SoakError,
    lane::Lane,
    ledger::{Fault, Ledger},
    wire::{Ending, Outcome},
};

/// One connection.
struct Connection {
    write: tokio::sync::Mutex<OwnedWriteHalf>,
    /// Requests that have no reply yet, by correlation id.
    waiting: Mutex<HashMap<u64, oneshot::Sender<Ending>>>,
}

/// Connects, and drives the lanes until it is over.
pub(super) async fn client(
    stage: &Stage,
    socket: &Path,
    lanes: Vec<Lane>,
) -> Result<JoinHandle<Vec<Lane>>, SoakError> {
    let stream = UnixStream::connect(socket).await.map_err(SoakError::Client)?;
    let (read, write) = stream.into_split();
    let write = tokio::sync::Mutex::new(write);
    let connection = Arc::new(Connection { write, waiting: Mutex::default() });
    let reader = tokio::spawn(connection.clone().read(read, stage.ledger.clone()));
    let driven: Vec<_> = lanes
        .into_iter()
        .map(|lane| tokio::spawn(drive(stage.clone(), connection.clone(), lane)))
        .collect();
    Ok(tokio::spawn(async move {
        let mut lanes = Vec::new();
        for lane in driven {
            lanes.extend(lane.await.ok());
        }
        reader.abort();
        lanes
    }))
}

async fn drive(stage: Stage, connection: Arc<Connection>, mut lane: Lane) -> Lane {
    while let Some(under_way) = stage.gate.pass().await {
        let request = lane.next(&stage.ledger);
        let number = request.number();
        let asked =
            line::Request { event: &request.event, data: &request.ask, correlation_id: number };
        let began = Instant::now();
        let (sender, reply) = oneshot::channel();
        connection.lock().insert(number, sender);
        let written = match serde_json::to_string(&asked) {
            Ok(line) => connection.write(&format!("{line}\n")).await,
            Err(error) => Err(error.into()),
        };
        match tokio::time::timeout(LOST, reply).await {
            Ok(Ok(ending)) => lane.ended(&request, ending, began.elapsed(), &stage.ledger),
            _ => {
                if let Err(error) = written {
                    eprintln!("the socket is closed: {error}");
                }
                lane.lost(&request, LOST, &stage.ledger);
            }
        }
        drop(under_way);
        lane.rest().await;
    }
    lane
}

impl Connection {
    async fn write(&self, line: &str) -> io::Result<()> {
        self.write.lock().await.write_all(line.as_bytes()).await
    }

    async fn read(self: Arc<Self>, read: OwnedReadHalf, ledger: Arc<Ledger>) {
        let mut lines = BufReader::with_capacity(1 << 16, read).lines();
        while let Ok(Some(text)) = lines.next_line().await {
            let line = match serde_json::from_str::<Reply<'_>>(&text) {
                Ok(line) => line,
                Err(error) => {
                    ledger.fault(Fault::Wrong, || format!("{error} in the line {text}"));
                    continue;
                }
            };
            let number = line.correlation_id.and_then(|id| id.get().parse().ok());
            let waiting = number.and_then(|number: u64| self.lock().remove(&number));
            match waiting {
                // Its lane may have given it up as lost.
                Some(waiting) => drop(waiting.send(ending(&line))),
                None => ledger.fault(Fault::Twice, || format!("nobody waits for the line {text}")),
            }
        }
        // Whoever waits still is told at once that nothing comes.
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Ending>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The outcomes that a line tells of. A handler that ends well without a reply is not seen in it.
fn ending(line: &Reply<'_>) -> Ending {
    let data = line.data.map_or("null", RawValue::get);
    if line.failed {
        let outcome = match serde_json::from_str::<FailedReply>(data) {
            Ok(FailedReply { error, code, .. }) => Outcome::Other { code, message: error },
            Err(_) => Outcome::Other { code: "unreadable".to_owned(), message: data.to_owned() },
        };
        return Ending { outcomes: vec![outcome] };
    }
    let mut outcomes = match line.count {
        Some(1) => vec![Outcome::of_reply(serde_json::from_str(data))],
        Some(0) => vec![Outcome::Other { code: "no_reply".to_owned(), message: String::new() }],
        _ => serde_json::from_str::<Vec<_>>(data)
            .unwrap_or_default()
            .into_iter()
            .map(Outcome::Replied)
            .collect(),
    };
    if !line.errors.is_empty() {
        let message = serde_json::Value::from(line.errors.clone()).to_string();
        outcomes.push(Outcome::Other { code: "several".to_owned(), message });
    }
    Ending { outcomes }
}
