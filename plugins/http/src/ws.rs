//! `/ws`: emitting and looking on over one connection.
//!
//! Nothing waits without a bound. A client that has asked for enough is not read further until
//! something of it is answered; what it is to be told is written before the next thing is taken, so
//! that of one who does not read nothing is kept here but where he is among the events.

mod message;

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{
        State,
        ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
};
use futures_util::{FutureExt, future::select_all};
use ksi_plugin_api::{EmitOptions, Value, named};
use message::Said;
use tokio::{
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until},
};

use crate::{
    answer::Refused,
    app::{App, Shared},
    emit::Wait,
    passing::{Reader, Step},
    report::{not_sent, told},
};

/// How many events of a client may be handled at once; then it is not read.
const CALLS: usize = 32;

/// How many sets of patterns it may look at.
const WATCHES: usize = 16;

/// A client that says nothing for so long is asked whether it is there, and is dropped if it says
/// nothing for as long again.
const SILENCE: Duration = Duration::from_secs(30);

pub(crate) async fn get(State(app): Shared, upgrade: WebSocketUpgrade) -> Response {
    let place = match app.streams.place() {
        Ok(place) => place,
        Err(refused) => return refused.into_response(),
    };
    let largest = app.bodies.largest();
    let upgrade = upgrade.max_message_size(largest).max_frame_size(largest).write_buffer_size(0);
    upgrade.on_upgrade(|socket| async move {
        // Whoever goes without a word is no failure.
        let _ = Connection::new(app, socket).serve().await;
        drop(place);
    })
}

/// The client is gone, or has to go.
struct Gone;

struct Connection {
    app: Arc<App>,
    socket: WebSocket,
    /// By what the client calls them.
    watches: Vec<(Value, Reader)>,
    /// What is answered once it has ended.
    calls: JoinSet<String>,
}

/// What goes on with a connection.
enum Turn {
    Said(Option<Result<Message, axum::Error>>),
    Passed(usize, Step),
    Called(Result<String, JoinError>),
    Silent,
    Stopped,
}

impl Connection {
    fn new(app: Arc<App>, socket: WebSocket) -> Self {
        Connection { app, socket, watches: Vec::new(), calls: JoinSet::new() }
    }

    async fn serve(mut self) -> Result<(), Gone> {
        let (mut stopped, mut heard, mut was_asked) =
            (self.app.stopped.clone(), Instant::now(), false);
        loop {
            let turn = tokio::select! {
                () = stopped.stopped() => Turn::Stopped,
                Some(called) = self.calls.join_next() => Turn::Called(called),
                said = self.socket.recv(), if self.calls.len() < CALLS => Turn::Said(said),
                (place, step) = next_of(&mut self.watches) => Turn::Passed(place, step),
                () = sleep_until(heard + SILENCE) => Turn::Silent,
            };
            match turn {
                Turn::Said(Some(Ok(said))) => {
                    (heard, was_asked) = (Instant::now(), false);
                    match said {
                        Message::Text(text) => self.do_said(text.as_bytes()).await?,
                        Message::Binary(bytes) => self.do_said(&bytes).await?,
                        // Whether it is there is answered below.
                        Message::Ping(_) | Message::Pong(_) => {}
                        Message::Close(_) => return Ok(()),
                    }
                }
                Turn::Said(_) => return Ok(()),
                Turn::Called(answer) => self.tell(answer.map_err(|_| Gone)?).await?,
                Turn::Passed(place, step) => self.pass(place, step).await?,
                Turn::Silent if was_asked => return Ok(()),
                Turn::Silent => {
                    (heard, was_asked) = (Instant::now(), true);
                    self.send(Message::Ping(Default::default())).await?;
                }
                Turn::Stopped => return self.stop().await,
            }
        }
    }

    async fn do_said(&mut self, text: &[u8]) -> Result<(), Gone> {
        let said = match serde_json::from_slice(text) {
            Ok(said) => said,
            Err(error) => {
                let text = format!("this is no message: {error}");
                let refused = Refused::new(StatusCode::BAD_REQUEST, "invalid_message", text);
                return self.tell(message::error(&Value::Null, &refused)).await;
            }
        };
        let (id, done) = match said {
            Said::Emit { id, event, data, attributes, wait } => {
                let options =
                    attributes.into_iter().fold(EmitOptions::new(), |options, (key, value)| {
                        options.attribute(key, value)
                    });
                let begun = self.emit(id.clone(), event, data, options, wait, text.len());
                (id, begun.map(|()| None))
            }
            Said::Watch { id, patterns, after } => {
                let begun = self.watch(&id, patterns, after.as_deref());
                (id, begun.map(Some))
            }
            Said::Unwatch { id } => {
                self.watches.retain(|(known, _)| *known != id);
                let done = message::done("unwatched", &id, None);
                (id, Ok(Some(done)))
            }
        };
        match done {
            Ok(Some(answer)) => self.tell(answer).await,
            Ok(None) => Ok(()),
            Err(refused) => self.tell(message::error(&id, &refused)).await,
        }
    }

    /// What it comes to is told later.
    fn emit(
        &mut self,
        id: Value,
        event: String,
        data: Value,
        options: EmitOptions,
        wait: Wait,
        bytes: usize,
    ) -> Result<(), Refused> {
        self.app.may_emit(&event)?;
        let share = self.app.bodies.share(bytes)?;
        let app = self.app.clone();
        self.calls.spawn(async move {
            let _share = share;
            let of_name = named(&event, &data);
            match wait {
                Wait::None => match app.ctx.with(options).send(of_name) {
                    Ok(()) => message::done("sent", &id, None),
                    Err(error) => message::error(&id, &not_sent(&error)),
                },
                Wait::Report => {
                    let options = options.timeout(app.request_time);
                    let report = app.ctx.with(options).emit(of_name).await;
                    let (status, report) = told(&event, &report);
                    message::report(&id, status.as_u16(), report)
                }
            }
        });
        Ok(())
    }

    fn watch(
        &mut self,
        id: &Value,
        patterns: Vec<String>,
        after: Option<&str>,
    ) -> Result<String, Refused> {
        let conflict = |code, text: String| Err(Refused::new(StatusCode::CONFLICT, code, text));
        if self.watches.iter().any(|(known, _)| known == id) {
            return conflict("known_id", format!("{id} is looked at already"));
        }
        if self.watches.len() >= WATCHES {
            return conflict(
                "too_many_watches",
                format!("{WATCHES} are looked at, and no more may be"),
            );
        }
        let reader = self.app.passing.look(patterns, after)?;
        let answer = message::done("watching", id, Some(reader.position()));
        self.watches.push((id.clone(), reader));
        Ok(answer)
    }

    async fn pass(&mut self, place: usize, step: Step) -> Result<(), Gone> {
        let Some((id, reader)) = self.watches.get(place) else { return Ok(()) };
        let position = reader.position();
        match step {
            Step::Event(entry) => {
                let told = message::event(id, &position, entry.text());
                self.tell(told).await
            }
            Step::Missed(count) => {
                let told = message::missed(id, &position, count);
                self.tell(told).await
            }
            Step::Late(count) => {
                let told = message::missed(id, &position, Some(count));
                self.tell(told).await?;
                self.close(close_code::AGAIN, "too slow: events were missed").await
            }
            Step::Ended => self.stop().await,
        }
    }

    /// Has the client come back, once what it has asked for is answered.
    async fn stop(&mut self) -> Result<(), Gone> {
        while let Some(called) = self.calls.join_next().await {
            self.tell(called.map_err(|_| Gone)?).await?;
        }
        self.tell(message::reconnect()).await?;
        self.close(close_code::RESTART, "reconnect").await
    }

    async fn tell(&mut self, text: String) -> Result<(), Gone> {
        self.send(Message::text(text)).await
    }

    async fn close(&mut self, code: u16, reason: &'static str) -> Result<(), Gone> {
        self.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await?;
        // Until the client has closed it too: what lies before would be lost for it otherwise.
        let closed = async { while let Some(Ok(_)) = self.socket.recv().await {} };
        let _ = tokio::time::timeout(Duration::from_secs(1), closed).await;
        Err(Gone)
    }

    async fn send(&mut self, message: Message) -> Result<(), Gone> {
        self.socket.send(message).await.map_err(|_| Gone)
    }
}

/// Whichever comes first of what is looked at.
async fn next_of(watches: &mut [(Value, Reader)]) -> (usize, Step) {
    if watches.is_empty() {
        return std::future::pending().await;
    }
    let (step, place, _) =
        select_all(watches.iter_mut().map(|(_, reader)| reader.next().boxed())).await;
    (place, step)
}
