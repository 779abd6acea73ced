//! `GET /events?pattern=..`: events that pass, as Server-Sent Events.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, Uri, header::CONNECTION},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::stream::{self, Stream};
use ksi_plugin_api::json;
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    answer::Refused,
    app::Shared,
    passing::{Reader, Step},
    query,
    server::Stopped,
};

/// After how long a browser connects again.
const RETRY: Duration = Duration::from_millis(500);

/// Says that the connection is there, to the client and to what is in between.
const STILL_THERE: Duration = Duration::from_secs(15);

pub(crate) async fn get(State(app): Shared, uri: Uri, headers: HeaderMap) -> Response {
    let begun = || -> Result<_, Refused> {
        let mut patterns = Vec::new();
        for (key, value) in query::of(&uri) {
            match &*key {
                "pattern" => patterns.push(value.into_owned()),
                key => return Err(query::unknown(key, "pattern")),
            }
        }
        let place = app.streams.place()?;
        let after = headers.get("last-event-id").map(|it| it.to_str().unwrap_or_default());
        let reader = app.passing.look(patterns, after.filter(|it| !it.is_empty()))?;
        Ok(events(reader, app.stopped.clone(), place))
    };
    match begun() {
        Err(refused) => refused.into_response(),
        Ok(events) => {
            let kept = KeepAlive::new().interval(STILL_THERE);
            let mut response = Sse::new(events).keep_alive(kept).into_response();
            // Behind its end a client is to come back by another connection, to the version that
            // there is by then.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            response
        }
    }
}

/// Where a stream is.
struct Streaming {
    reader: Reader,
    stopped: Stopped,
    at: At,
    _place: OwnedSemaphorePermit,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Begin,
    Events,
    End,
}

fn events(
    reader: Reader,
    stopped: Stopped,
    place: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let state = Streaming { reader, stopped, at: At::Begin, _place: place };
    stream::unfold(state, |mut state| async move {
        let event = match state.at {
            At::End => return None,
            // Without data nothing is told to a page; but it knows then where it is.
            At::Begin => {
                state.at = At::Events;
                Event::default().retry(RETRY).id(state.reader.position())
            }
            At::Events => state.next().await,
        };
        Some((Ok(event), state))
    })
}

impl Streaming {
    async fn next(&mut self) -> Event {
        let step = tokio::select! {
            biased;
            () = self.stopped.stopped() => Step::Ended,
            step = self.reader.next() => step,
        };
        let missed = |count: Option<u64>| {
            Event::default().event("missed").data(json!({"count": count}).to_string())
        };
        let event = match step {
            Step::Event(entry) => Event::default().data(entry.text()),
            Step::Missed(count) => missed(count),
            Step::Late(count) => missed(Some(count)),
            Step::Ended => {
                self.at = At::End;
                return Event::default().event("reconnect").data("{}");
            }
        };
        event.id(self.reader.position())
    }
}
