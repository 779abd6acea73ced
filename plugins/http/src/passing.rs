//! Events that pass, for clients that only look on.
//!
//! Those of the same patterns look at one channel, which keeps the last events: as far as these go
//! back, a client that was away goes on where it was.

mod channel;
mod succession;
mod told;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::http::StatusCode;
use ksi_plugin_api::{Context, Pattern, Watch, Watched};

use channel::{Channel, What};
pub(crate) use channel::{Reader, Step};
pub(crate) use succession::Passed;

use crate::{answer::Refused, server::Stopped};

/// How many events may wait in the host for a channel to take them, before it misses some.
const CAPACITY: usize = 1_024;

/// A client gives at most so many patterns.
const MOST_PATTERNS: usize = 16;

/// What channels may take.
#[derive(Clone, Copy)]
pub(crate) struct Keeps {
    /// How many channels there may be.
    pub(crate) channels: usize,
    /// How many bytes of events each of them keeps.
    pub(crate) bytes: usize,
    /// How long a channel is kept that nobody looks at.
    pub(crate) time: Duration,
}

/// All channels, by their patterns.
pub(crate) struct Channels {
    ctx: Context,
    /// What clients may see.
    watch: Vec<Pattern>,
    keeps: Keeps,
    open: Mutex<BTreeMap<Vec<String>, Arc<Channel>>>,
    stopped: Stopped,
}

impl Channels {
    pub(crate) fn new(
        ctx: Context,
        watch: Vec<Pattern>,
        keeps: Keeps,
        stopped: Stopped,
    ) -> Arc<Self> {
        Arc::new(Channels { ctx, watch, keeps, open: Mutex::default(), stopped })
    }

    /// Looks at the events of these patterns, from now on or from behind a position.
    pub(crate) fn look(
        self: &Arc<Self>,
        mut patterns: Vec<String>,
        after: Option<&str>,
    ) -> Result<Reader, Refused> {
        patterns.sort();
        patterns.dedup();
        if patterns.is_empty() || patterns.len() > MOST_PATTERNS {
            let text = format!("1 to {MOST_PATTERNS} patterns are watched at once, like order:*");
            return Err(Refused::new(StatusCode::BAD_REQUEST, "invalid_pattern", text));
        }
        for pattern in &patterns {
            Pattern::parse(pattern).map_err(|error| {
                Refused::new(StatusCode::BAD_REQUEST, "invalid_pattern", error.to_string())
            })?;
        }
        // Under the lock, so that it is not closed meanwhile.
        let mut open = self.open();
        self.channel(&mut open, patterns).map(|channel| Reader::of(channel, after))
    }

    fn channel(
        self: &Arc<Self>,
        open: &mut BTreeMap<Vec<String>, Arc<Channel>>,
        patterns: Vec<String>,
    ) -> Result<Arc<Channel>, Refused> {
        if let Some(channel) = open.get(&patterns) {
            return Ok(channel.clone());
        }
        if open.len() >= self.keeps.channels {
            let text = "as many different patterns are watched as may be (max_patterns)";
            return Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_patterns", text));
        }
        let watch = self.watch(&patterns)?;
        let channel = Arc::new(Channel::new(patterns.clone(), self.keeps.bytes));
        open.insert(patterns, channel.clone());
        tokio::spawn(self.clone().fill(channel.clone(), watch));
        Ok(channel)
    }

    fn watch(&self, patterns: &[String]) -> Result<Watch, Refused> {
        let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
        self.ctx.watch(&patterns, CAPACITY).map_err(|error| {
            Refused::new(StatusCode::SERVICE_UNAVAILABLE, error.code(), error.message())
        })
    }

    async fn fill(self: Arc<Self>, channel: Arc<Channel>, mut watch: Watch) {
        let mut stopped = self.stopped.clone();
        loop {
            let step = tokio::select! {
                step = watch.next() => step,
                () = channel.unused_for(self.keeps.time) => match self.forgets(&channel) {
                    true => return,
                    false => continue,
                },
                // Whoever looks is told so, and the next version has a channel of its own.
                () = stopped.stopped() => return,
            };
            match step {
                Some(Watched::Event(event)) => {
                    if self.watch.iter().any(|pattern| pattern.matches(event.info().name())) {
                        let (id, what) = told::told(&event);
                        channel.add(Some(id), what);
                    }
                }
                Some(Watched::Missed(count)) => {
                    channel.add(None, What::Missed(count));
                    match self.watch(channel.patterns()) {
                        Ok(anew) => watch = anew,
                        Err(_) => break,
                    }
                }
                _ => break,
            }
        }
        self.open().remove(channel.patterns());
        channel.end();
    }

    /// Closes a channel, unless somebody has begun to look at it in this moment.
    fn forgets(&self, channel: &Channel) -> bool {
        let mut open = self.open();
        let forgets = !channel.is_used();
        if forgets {
            open.remove(channel.patterns());
        }
        forgets
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<Vec<String>, Arc<Channel>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
