//! Subscriptions of one connection: events that are pushed to it as they happen.
//!
//! `monitor:subscribe` and `monitor:unsubscribe` are answered here and not by the router, because
//! they are about this connection alone. A subscriber that reads too slowly loses its connection;
//! the host's side of the queue is bounded, and whoever emits never waits for it.

use std::collections::HashMap;
use std::sync::Arc;

use async_task::FallibleTask;
use futures_util::FutureExt;
use ksi_abi::{NameError, Pattern};
use ksi_kernel::router::taps::{Watch, WatchEnd, Watched};
use ksi_wire::monitor::{Subscribed, Unsubscribed};
use serde_json::Value;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::yield_now;

use super::push_lines::PushLines;
use super::reply::{self, Reply, failure_of_host};
use super::request::Request;
use super::unix_now;
use super::writer::Outbox;
use crate::catalog::Described;
use crate::clients::ClientEntry;
use crate::core::Core;

/// Subscriptions that one connection may have.
const MOST_SUBSCRIPTIONS: usize = 16;
/// Patterns that one subscription may have: every event of the host is compared with each of them.
const MOST_PATTERNS: usize = 64;

/// What the last line of a subscriber takes, in bytes.
const LAST: usize = 512;

/// So many events are pushed before others have their turn.
const TURN: usize = 64;

/// The events that the control socket answers itself.
pub(super) const EVENTS: [&str; 2] = [SUBSCRIBE, UNSUBSCRIBE];
const SUBSCRIBE: &str = "monitor:subscribe";
const UNSUBSCRIBE: &str = "monitor:unsubscribe";

/// The same for whoever lists what there is.
pub(crate) fn described() -> [Described; 2] {
    let of_client = |event, summary| {
        let name = "The client's name for this subscription, its own among those of the connection";
        Described::new(event, summary).takes("client_id", "str", true, name)
    };
    let patterns = "Patterns: * is one segment, ** any number, a bare * every event";
    let push = "Push events that match one of the patterns to this connection from now on.";
    [
        of_client(SUBSCRIBE, push).takes("event_patterns", "list", true, patterns),
        of_client(UNSUBSCRIBE, "End a subscription of this connection."),
    ]
}

/// What subscriptions of a client may take.
pub(super) struct Subscribing {
    /// Events that may wait for one.
    pub(super) queue: usize,
    /// Patterns of all clients together; `None` for a client that may have none.
    pub(super) patterns: Option<Arc<Semaphore>>,
    /// What is pushed to several clients.
    pub(super) push_lines: Arc<PushLines>,
    /// Where it is entered how many there are.
    pub(super) entry: Arc<ClientEntry>,
}

/// What a connection is subscribed to.
pub(super) struct Monitor {
    core: Arc<Core>,
    lines: Outbox,
    subscribing: Subscribing,
    /// Held over a whole request, so that two of them about one subscription cannot mix.
    subscriptions: Mutex<HashMap<String, Subscription>>,
}

impl Monitor {
    pub(super) fn new(core: Arc<Core>, lines: Outbox, subscribing: Subscribing) -> Monitor {
        Monitor { core, lines, subscribing, subscriptions: Mutex::default() }
    }

    /// Whether the request is one that [`answer`](Monitor::answer) answers.
    pub(super) fn is_for(request: &Request<'_>) -> bool {
        EVENTS.contains(&&*request.event)
    }

    /// Answers one of [`EVENTS`].
    pub(super) async fn answer(&self, request: &Request<'_>) {
        let reply = Reply {
            event: &request.event,
            correlation_id: &request.correlation_id,
            at: unix_now(),
        };
        let answered = match &*request.event {
            UNSUBSCRIBE => self.unsubscribe(request, &reply).await,
            _ => self.subscribe(request, &reply).await,
        };
        if let Err(refusal) = answered {
            let failure = failure_of_host(&request.event, refusal.code(), refusal.to_string());
            self.send(reply.failed(&failure)).await;
        }
    }

    pub(super) async fn is_in_use(&self) -> bool {
        !self.subscriptions.lock().await.is_empty()
    }

    /// Ends every subscription once what waits for it was handed to the writer.
    pub(super) async fn finish(&self) {
        let subscriptions = std::mem::take(&mut *self.subscriptions.lock().await);
        self.end_all(&subscriptions);
        for subscription in subscriptions.into_values() {
            subscription.finish().await;
        }
    }

    /// All at once, and not on the workers, which others wait for.
    fn end_all(&self, subscriptions: &HashMap<String, Subscription>) {
        if !subscriptions.is_empty() {
            let ended = WatchEnd::all(subscriptions.values().map(|it| &it.watched));
            // Their places are taken until they are out: a client that comes and goes would have
            // more of them otherwise.
            let places: Vec<_> = subscriptions.values().map(|it| it.places.clone()).collect();
            self.core.spawn_blocking(move || {
                ended.take_out();
                drop(places);
            });
        }
    }

    async fn subscribe(&self, request: &Request<'_>, reply: &Reply<'_>) -> Result<(), Refusal> {
        let data = Data::of(request)?;
        let client_id = data.client_id(request)?;
        let (texts, patterns) = data.patterns()?;
        let mut subscriptions = self.subscriptions.lock().await;
        if !subscriptions.contains_key(&client_id) && subscriptions.len() >= MOST_SUBSCRIPTIONS {
            return Err(Refusal::TooMany {
                what: "subscriptions of one connection",
                most: MOST_SUBSCRIPTIONS,
            });
        }
        let number = u32::try_from(patterns.len()).unwrap_or(u32::MAX);
        let free = self.subscribing.patterns.clone().ok_or(Refusal::Management)?;
        let places = free.try_acquire_many_owned(number);
        let places = places.map_err(|_| Refusal::TooManyPatterns)?;
        // The new one listens before the old one ends, so that between the two no event is lost.
        let watch = self.core.router.watch(&patterns, self.subscribing.queue);
        if let Some(replaced) = subscriptions.remove(&client_id) {
            replaced.finish().await;
        }
        let told = Subscribed {
            client_id: client_id.clone(),
            event_patterns: texts.to_vec(),
            status: "subscribed".into(),
        };
        self.send(reply.result(&told)).await;
        let (end, ended) = oneshot::channel();
        let watched = WatchEnd::of(&watch);
        let pushes = Pushes {
            watch,
            lines: self.lines.clone(),
            push_lines: self.subscribing.push_lines.clone(),
            client_id: client_id.clone(),
            queue: self.subscribing.queue,
        };
        let task = self.core.spawn(pushes.run(ended)).fallible();
        subscriptions
            .insert(client_id, Subscription { end, task, watched, places: Arc::new(places) });
        self.subscribing.entry.subscribed(subscriptions.len());
        Ok(())
    }

    async fn unsubscribe(&self, request: &Request<'_>, reply: &Reply<'_>) -> Result<(), Refusal> {
        let client_id = Data::of(request)?.client_id(request)?;
        let mut subscriptions = self.subscriptions.lock().await;
        let status = match subscriptions.remove(&client_id) {
            Some(subscription) => {
                subscription.cancel().await;
                "unsubscribed"
            }
            None => "not_subscribed",
        };
        self.subscribing.entry.subscribed(subscriptions.len());
        let told = Unsubscribed { client_id, status: status.into() };
        self.send(reply.result(&told)).await;
        Ok(())
    }

    /// To a connection that has just ended nothing needs to be sent any more.
    async fn send(&self, line: Vec<u8>) {
        let _ = self.lines.send(line).await;
    }
}

/// At a hang-up, all of them are one change for those who emit.
impl Drop for Monitor {
    fn drop(&mut self) {
        let subscriptions = std::mem::take(self.subscriptions.get_mut());
        self.end_all(&subscriptions);
    }
}

/// A running subscription. Dropping it ends it at once.
struct Subscription {
    end: oneshot::Sender<()>,
    task: FallibleTask<()>,
    watched: WatchEnd,
    places: Arc<OwnedSemaphorePermit>,
}

impl Subscription {
    /// Lets what waits be pushed, and nothing after that.
    async fn finish(self) {
        drop(self.end);
        self.task.await;
    }

    /// When this is done, nothing more is pushed.
    async fn cancel(self) {
        self.task.cancel().await;
    }
}

/// The task of a subscription.
struct Pushes {
    watch: Watch,
    lines: Outbox,
    push_lines: Arc<PushLines>,
    client_id: String,
    queue: usize,
}

impl Pushes {
    async fn run(mut self, mut end: oneshot::Receiver<()>) {
        for pushed in 1_usize.. {
            let watched = tokio::select! {
                biased;
                _ = &mut end => break,
                watched = self.watch.next() => watched,
            };
            if !self.push(watched).await {
                return;
            }
            if pushed.is_multiple_of(TURN) {
                yield_now().await;
            }
        }
        while let Some(watched) = self.watch.next().now_or_never() {
            if !self.push(watched).await {
                return;
            }
        }
    }

    /// Whether there may be more.
    async fn push(&mut self, watched: Option<Watched>) -> bool {
        let event = match watched {
            None => return false,
            Some(Watched::Event(event)) => event,
            Some(Watched::Missed(_)) => {
                self.send_last(0).await;
                return false;
            }
            // There is nothing else to be seen yet.
            Some(_) => return true,
        };
        let line = self.push_lines.of(&event);
        drop(event);
        let sent = tokio::select! {
            biased;
            sent = self.lines.send(line) => Some(sent.is_ok()),
            // The client does not read and the queue is full: what is in it is given up at once,
            // and not kept for a client that may never read again.
            () = self.watch.overflowed() => None,
        };
        match sent {
            Some(sent) => sent,
            None => {
                self.watch.discard();
                self.send_last(1).await;
                false
            }
        }
    }

    /// Sends the last line, which closes the connection, when there is room for it, with what was
    /// missed by then: so many and what found no room. A client that is gone needs none.
    async fn send_last(&self, missed: u64) {
        if let Ok(room) = self.lines.room_for(LAST).await {
            let missed = missed + self.watch.missed();
            tracing::info!(client_id = %self.client_id, missed, "dropped a slow subscriber");
            room.send_last(reply::dropped(&self.client_id, missed, self.queue));
        }
    }
}

/// Why a monitor request is not served.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("the data of a monitor request must be an object")]
    NotAnObject,
    #[error("`{key}` is missing, or is not {expected}")]
    Parameter { key: &'static str, expected: &'static str },
    #[error("`event_patterns`: {0}")]
    Pattern(#[from] NameError),
    #[error("`event_patterns`: {found} is no pattern: it is not a string")]
    PatternNotText { found: String },
    #[error("too many {what}: at most {most}")]
    TooMany { what: &'static str, most: usize },
    #[error(
        "too many patterns: all clients together are subscribed to as many as may be \
         (limits.subscribed_patterns)"
    )]
    TooManyPatterns,
    #[error("all places for clients that subscribe are taken (limits.connections)")]
    Management,
}

impl Refusal {
    fn code(&self) -> &'static str {
        match self {
            Refusal::NotAnObject | Refusal::Parameter { .. } => "invalid_data",
            Refusal::Pattern(_) | Refusal::PatternNotText { .. } => "invalid_pattern",
            Refusal::TooMany { .. } | Refusal::TooManyPatterns => "too_many",
            Refusal::Management => "too_many_clients",
        }
    }
}

/// What a monitor request asks for.
struct Data(serde_json::Map<String, Value>);

impl Data {
    fn of(request: &Request<'_>) -> Result<Data, Refusal> {
        serde_json::from_str(request.data.get()).map(Data).map_err(|_| Refusal::NotAnObject)
    }

    /// The data's own, or else the name that the client goes by.
    fn client_id(&self, request: &Request<'_>) -> Result<String, Refusal> {
        match self.0.get("client_id") {
            Some(Value::String(id)) => Some(id.clone()),
            Some(Value::Number(id)) => Some(id.to_string()),
            Some(Value::Null) | None => request.attribute("_client_id").map(str::to_owned),
            Some(_) => None,
        }
        .ok_or(Refusal::Parameter { key: "client_id", expected: "a string" })
    }

    fn patterns(&self) -> Result<(&[Value], Vec<Pattern>), Refusal> {
        let expected = "a list of at least one pattern";
        let missing = Refusal::Parameter { key: "event_patterns", expected };
        let texts = match self.0.get("event_patterns") {
            Some(Value::Array(texts)) if !texts.is_empty() => texts.as_slice(),
            Some(text @ Value::String(_)) => std::slice::from_ref(text),
            _ => return Err(missing),
        };
        if texts.len() > MOST_PATTERNS {
            return Err(Refusal::TooMany {
                what: "patterns of one subscription",
                most: MOST_PATTERNS,
            });
        }
        let parse = |text: &Value| match text {
            Value::String(text) => Pattern::parse(text).map_err(Refusal::from),
            other => Err(Refusal::PatternNotText { found: reply::shown(&other.to_string()) }),
        };
        Ok((texts, texts.iter().map(parse).collect::<Result<_, _>>()?))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::super::request;
    use super::*;

    fn request(data: &Value) -> Request<'static> {
        let line = json!({ "event": "monitor:subscribe", "data": data, "_client_id": "mine" });
        request::parse(line.to_string().as_bytes()).unwrap().into_owned()
    }

    fn refusal(data: &Value) -> String {
        let request = request(data);
        let asked = Data::of(&request)
            .and_then(|data| data.client_id(&request).and_then(|_| data.patterns().map(|_| ())));
        asked.unwrap_err().to_string()
    }

    #[test]
    fn patterns_may_be_a_list_or_one_text() {
        for patterns in [json!("state:*"), json!(["state:*"])] {
            let data = Data::of(&request(&json!({ "event_patterns": patterns }))).unwrap();
            let (texts, patterns) = data.patterns().unwrap();
            assert_eq!(texts, ["state:*"]);
            assert!(patterns[0].matches("state:changed") && !patterns[0].matches("other:changed"));
        }
    }

    #[test]
    fn the_client_goes_by_the_name_it_gives_or_else_by_its_own() {
        for (data, name) in [
            (json!({ "client_id": "w" }), "w"),
            (json!({ "client_id": 7 }), "7"),
            (json!({ "client_id": null }), "mine"),
            (json!({}), "mine"),
        ] {
            let request = request(&data);
            assert_eq!(Data::of(&request).unwrap().client_id(&request).unwrap(), name);
        }
    }

    #[test]
    fn what_cannot_be_subscribed_to_is_named() {
        for (data, words) in [
            (json!([]), "object"),
            (json!({ "client_id": [] }), "client_id"),
            (json!({}), "event_patterns"),
            (json!({ "event_patterns": [] }), "event_patterns"),
            (json!({ "event_patterns": ["a:b", "a::b"] }), "a::b"),
            (json!({ "event_patterns": [5] }), "5 is no pattern"),
            (json!({ "event_patterns": vec!["a:b"; MOST_PATTERNS + 1] }), "at most 64"),
        ] {
            assert!(refusal(&data).contains(words), "{data}: {}", refusal(&data));
        }
    }
}
