//! What comes from a worker: one task reads it until the end, and ends all calls then.

use std::{
    future::Future,
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use ksi_abi::{Buffer, Failure};
use ksi_kernel::{
    call::outcome::{CallOutcome, CallReply},
    router::Router,
};
use ksi_worker_protocol::{FromWorker, Inbox, Payload, ProtocolError, life, transport};
use tokio::{io::Interest, task::yield_now};

use super::Link;

/// What a process gets to be gone by itself, once its socket is at its end.
const GONE: Duration = Duration::from_millis(250);
/// Frames, and bytes of large ones, that are taken before others have their turn, and how often
/// something is read.
const TURN: usize = 64;
const TURN_BYTES: u64 = 1 << 20;
const READS: usize = 8;
/// Bytes that are read from the socket of a process that has ended: more than a socket holds. Large
/// replies lie in files of their own, and take few bytes of it each.
const REST_BYTES: usize = 16 << 20;

impl Link {
    /// Reads until the end; why it is one, if the worker is to blame.
    pub(super) async fn read(self: &Arc<Self>) -> Option<String> {
        let mut inbox = Inbox::with_limit(self.limits.frame);
        let (socket, mut reads) = (self.outbox.socket(), 0);
        loop {
            tokio::select! {
                biased;
                // Its socket may be held open, and written to, by somebody whom it has started.
                _ = self.process.death() => return self.rest(&mut inbox).await,
                ready = socket.readable() => if ready.is_err() { return None },
            }
            reads += 1;
            if reads % READS == 0 {
                yield_now().await;
            }
            match self.receive(&mut inbox).await {
                Ok(true) => {}
                Ok(false) => return None,
                Err(Fault(fault)) => return Some(fault),
            }
        }
    }

    /// What it has still said before it ended: what others write there is not waited for.
    async fn rest(self: &Arc<Self>, inbox: &mut Inbox) -> Option<String> {
        let (mut bytes, mut reads) = (0, 0);
        while bytes < REST_BYTES {
            // Whatever is known of the socket, it is asked itself.
            match transport::receive(self.outbox.socket(), inbox) {
                Ok(count @ 1..) => bytes += count,
                Ok(0) | Err(_) => return None,
            }
            if let Err(Fault(fault)) = self.take_all(inbox).await {
                return Some(fault);
            }
            reads += 1;
            if reads % READS == 0 {
                yield_now().await;
            }
        }
        None
    }

    /// Takes what has come. Whether there may be more.
    async fn receive(self: &Arc<Self>, inbox: &mut Inbox) -> Result<bool, Fault> {
        let socket = self.outbox.socket();
        match socket.try_io(Interest::READABLE, || transport::receive(socket, inbox)) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(_) => return Ok(false),
        }
        self.is_heard();
        self.at_work.store(true, Ordering::Relaxed);
        let taken = self.take_all(inbox).await;
        self.is_heard();
        self.at_work.store(false, Ordering::Relaxed);
        taken.map(|()| true)
    }

    fn is_heard(&self) {
        let since = self.began.elapsed().as_millis();
        self.heard.store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Takes the frames that are there as a whole.
    async fn take_all(self: &Arc<Self>, inbox: &mut Inbox) -> Result<(), Fault> {
        let (mut taken, mut bytes) = (0, 0);
        while let Some(frame) = inbox.next()? {
            let id = frame.id;
            let frame = FromWorker::read(frame)?;
            if let FromWorker::Reply { reply, .. } = &frame {
                bytes += reply.len();
            }
            self.take(id, frame)?;
            taken += 1;
            if taken == TURN || bytes >= TURN_BYTES {
                // Also those who wait for large replies: else they gather here.
                yield_now().await;
                (taken, bytes) = (0, 0);
            }
        }
        Ok(())
    }

    fn take(self: &Arc<Self>, id: u64, frame: FromWorker<'_>) -> Result<(), Fault> {
        if !self.greeted.load(Ordering::Relaxed) {
            let FromWorker::Hello(hello) = frame else {
                return Err("its first frame is no HELLO".to_owned().into());
            };
            let hello = life::Hello::read(&hello.into_bytes(self.limits.payload)?)?;
            self.knows_live.store(hello.protocol.knows_live(), Ordering::Relaxed);
            self.greeted.store(true, Ordering::Relaxed);
            return Ok(());
        }
        let limit = self.limits.state;
        let (keeps, outcome) = match frame {
            FromWorker::Reply { keeps, reply } => (keeps, replied(reply, limit)?),
            FromWorker::NoReply { keeps } => (keeps, CallOutcome::NoReply),
            FromWorker::Failed { keeps, code, message } => {
                let failure = Failure::new(code, &message.into_text(limit)?);
                (keeps, CallOutcome::Failed(failure))
            }
            FromWorker::Panicked { keeps, message } => {
                let message = Buffer::from(&*message.into_text(limit)?);
                (keeps, CallOutcome::Panicked { message })
            }
            FromWorker::Opened(description) => (false, replied(description, limit)?),
            FromWorker::Created => (false, CallOutcome::NoReply),
            FromWorker::Release => {
                self.calls.release(id);
                return Ok(());
            }
            FromWorker::Cancel => {
                self.asks.cancel(id);
                return Ok(());
            }
            // That something came is all that it says.
            FromWorker::Pong | FromWorker::Bye | FromWorker::Stats(_) => return Ok(()),
            FromWorker::Hello(_) => return Err("it says HELLO twice".to_owned().into()),
            asked => return Ok(self.serve(id, asked)?),
        };
        self.calls.end(id, keeps, outcome);
        Ok(())
    }

    /// Its end of the socket is closed, or broken. One that goes on all the same does so for
    /// nothing.
    pub(super) async fn cannot_write(&self, error: &io::Error) {
        let gone = async { tokio::time::timeout(GONE, self.process.death()).await };
        if in_runtime(&self.router, gone).await.is_err() {
            self.process.kill(&format!("it does not read any more: {error}"));
        }
    }

    /// Nothing more comes: all calls end, as soon as it is known how the process did.
    pub(super) async fn ended(self: &Arc<Self>, fault: Option<String>) {
        if let Some(fault) = fault {
            self.process.kill(&format!("it said what cannot be understood: {fault}"));
        }
        let ended = async {
            if tokio::time::timeout(GONE, self.process.death()).await.is_err() {
                self.process.kill("it has closed its socket");
            }
            self.process.death().await
        };
        let death = in_runtime(&self.router, ended).await;
        let how: Arc<str> = death.to_string().into();
        let written = self.outbox.close();
        // In this order: whoever is told how his call has ended may ask how the process did.
        let _ = self.dead.set(death.clone());
        self.calls.die(&how, written);
        self.asks.close();
        if let Some(host) = self.host.get() {
            host.is_down(self, &death);
        }
    }
}

/// What a worker has said that cannot be understood.
struct Fault(String);

impl From<ProtocolError> for Fault {
    fn from(error: ProtocolError) -> Self {
        Fault(error.to_string())
    }
}

impl From<String> for Fault {
    fn from(fault: String) -> Self {
        Fault(fault)
    }
}

/// Polls a future where its timers have a runtime, whoever polls it.
async fn in_runtime<T>(router: &Router, future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| {
        let _inside = router.runtime().enter();
        future.as_mut().poll(cx)
    })
    .await
}

fn replied(reply: Payload<'_>, limit: u64) -> Result<CallOutcome, ProtocolError> {
    Ok(CallOutcome::Replied(CallReply::Bytes(Buffer::from(&*reply.into_bytes(limit)?))))
}
