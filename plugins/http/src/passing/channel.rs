//! The last events of some patterns, and where each client is among them.
//!
//! A position is the number that the host has given to the event that a client got last: it means
//! the same to every channel of these patterns, in the next version of the plugin too.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{sync::watch, time::timeout};

/// Of so many events it is known that they have passed.
const HISTORY: usize = 1_024;

/// The place of the first event, so that there are places before it for those of the version
/// before.
const FIRST: u64 = 1 << 32;

/// What was added, with its place in the channel.
#[derive(Debug)]
pub(crate) struct Entry {
    place: u64,
    /// The host's number for it.
    id: u64,
    what: What,
}

#[derive(Debug)]
pub(crate) enum What {
    /// JSON, in one line.
    Event(Box<str>),
    /// So many events that were not seen here.
    Missed(u64),
}

pub(crate) struct Channel {
    patterns: Vec<String>,
    ring: Mutex<Ring>,
    /// That something was added, or it has ended.
    news: watch::Sender<()>,
    readers: watch::Sender<usize>,
}

struct Ring {
    entries: VecDeque<Arc<Entry>>,
    /// What has passed, also before the first entry: the last of them is at the place before
    /// `next`. It begins with a number that is no event's, for clients that have none yet.
    history: VecDeque<u64>,
    /// The place of the next one.
    next: u64,
    bytes: usize,
    limit: usize,
    has_ended: bool,
}

impl Channel {
    pub(super) fn new(patterns: Vec<String>, limit: usize) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ring = Ring {
            entries: VecDeque::new(),
            history: VecDeque::from([since.as_nanos() as u64]),
            next: FIRST,
            bytes: 0,
            limit,
            has_ended: false,
        };
        Channel {
            patterns,
            ring: Mutex::new(ring),
            news: watch::channel(()).0,
            readers: watch::channel(0).0,
        }
    }

    pub(super) fn patterns(&self) -> &[String] {
        &self.patterns
    }

    /// Adds an event with the host's number for it, or that some were missed behind the last one.
    pub(super) fn add(&self, id: Option<u64>, what: What) {
        self.ring().add(id, what);
        self.news.send_replace(());
    }

    /// What has passed, for the next version of the plugin.
    pub(super) fn history(&self) -> Vec<u64> {
        self.ring().history.iter().copied().collect()
    }

    /// Puts what has passed for the version before in front of what has passed here.
    pub(super) fn follow(&self, before: Vec<u64>) {
        let mut ring = self.ring();
        // Nobody has been given the number that it began with.
        ring.history.pop_front();
        let mut all: VecDeque<u64> = before.into();
        all.retain(|id| !ring.history.contains(id));
        all.append(&mut ring.history);
        ring.history = all;
        ring.shorten();
    }

    /// Nothing is added any more.
    pub(super) fn end(&self) {
        self.ring().has_ended = true;
        self.news.send_replace(());
    }

    pub(super) fn is_used(&self) -> bool {
        *self.readers.borrow() > 0
    }

    /// Until nobody has looked at it for so long.
    pub(super) async fn unused_for(&self, time: Duration) {
        let mut readers = self.readers.subscribe();
        loop {
            let _ = readers.wait_for(|readers| *readers == 0).await;
            if timeout(time, readers.wait_for(|readers| *readers > 0)).await.is_err() {
                return;
            }
        }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn add(&mut self, id: Option<u64>, what: What) {
        // One that is larger than all that may be kept, nobody could be given.
        let what = match what {
            What::Event(text) if text.len() > self.limit => What::Missed(1),
            what => what,
        };
        self.bytes += what.bytes();
        let id = id.or(self.history.back().copied()).unwrap_or_default();
        self.entries.push_back(Arc::new(Entry { place: self.next, id, what }));
        self.history.push_back(id);
        self.next += 1;
        while self.bytes > self.limit && self.entries.len() > 1 {
            if let Some(oldest) = self.entries.pop_front() {
                self.bytes -= oldest.what.bytes();
            }
        }
        self.shorten();
    }

    /// Always further back than what is kept, by one at least: behind that a client may be.
    fn shorten(&mut self) {
        let most = HISTORY.max(self.entries.len() + 1);
        self.history.drain(..self.history.len().saturating_sub(most));
    }

    fn first(&self) -> u64 {
        self.next - self.entries.len() as u64
    }

    /// The host's number of what is no longer there.
    fn before_first(&self) -> u64 {
        let before = self.history.len().checked_sub(self.entries.len() + 1);
        before.and_then(|place| self.history.get(place)).copied().unwrap_or_default()
    }

    /// The place behind a position, if it is known.
    fn behind(&self, id: u64) -> Option<u64> {
        let found = self.history.iter().position(|known| *known == id)?;
        Some(self.next - (self.history.len() - 1 - found) as u64)
    }
}

impl What {
    /// With what an entry takes beside its text.
    fn bytes(&self) -> usize {
        const BESIDE: usize = 64;
        match self {
            What::Event(text) => BESIDE + text.len(),
            What::Missed(_) => BESIDE,
        }
    }
}

/// What a client gets.
#[derive(Debug)]
pub(crate) enum Step {
    /// JSON of an event.
    Event(Arc<Entry>),
    /// So many were not seen, or it is not known how many.
    Missed(Option<u64>),
    /// So many are gone that the client did not read in time.
    Late(u64),
    /// There will be nothing more.
    Ended,
}

impl Entry {
    /// The event, as JSON in one line.
    pub(crate) fn text(&self) -> &str {
        match &self.what {
            What::Event(text) => text,
            What::Missed(_) => "null",
        }
    }
}

/// Where a client is in a channel.
pub(crate) struct Reader {
    channel: Arc<Channel>,
    /// The place of what it gets next.
    next: u64,
    /// The host's number of what it got last.
    last: u64,
    /// It was behind a position that is not of this channel.
    is_lost: bool,
    /// Nothing was given yet.
    is_new: bool,
    news: watch::Receiver<()>,
}

impl Reader {
    /// From now on, or from behind a position.
    pub(super) fn of(channel: Arc<Channel>, after: Option<&str>) -> Self {
        channel.readers.send_modify(|readers| *readers += 1);
        let (known, now, newest) = {
            let ring = channel.ring();
            let id = after.and_then(|text| u64::from_str_radix(text, 16).ok());
            let known = id.and_then(|id| Some((ring.behind(id)?, id)));
            (known, ring.next, ring.history.back().copied().unwrap_or_default())
        };
        let (next, last) = known.unwrap_or((now, newest));
        Reader {
            next,
            last,
            is_lost: after.is_some() && known.is_none(),
            is_new: true,
            news: channel.news.subscribe(),
            channel,
        }
    }

    /// Behind what was given so far.
    pub(crate) fn position(&self) -> String {
        format!("{:x}", self.last)
    }

    /// What comes next. One that is dropped before it is ready has taken nothing.
    pub(crate) async fn next(&mut self) -> Step {
        loop {
            // Before the look, so that what is added behind it is not slept over.
            self.news.borrow_and_update();
            if let Some(step) = self.take() {
                return step;
            }
            // The channel is there as long as this.
            let _ = self.news.changed().await;
        }
    }

    fn take(&mut self) -> Option<Step> {
        if std::mem::take(&mut self.is_lost) {
            return Some(Step::Missed(None));
        }
        let is_new = std::mem::take(&mut self.is_new);
        let ring = self.channel.ring();
        let first = ring.first();
        if self.next < first {
            let count = first - self.next;
            (self.next, self.last) = (first, ring.before_first());
            // Whoever comes back was not slow, but away.
            return Some(if is_new { Step::Missed(Some(count)) } else { Step::Late(count) });
        }
        let place = usize::try_from(self.next - first).unwrap_or(usize::MAX);
        match ring.entries.get(place) {
            Some(entry) => {
                (self.next, self.last) = (entry.place + 1, entry.id);
                Some(match entry.what {
                    What::Event(_) => Step::Event(entry.clone()),
                    What::Missed(count) => Step::Missed(Some(count)),
                })
            }
            None => ring.has_ended.then_some(Step::Ended),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.channel.readers.send_modify(|readers| *readers -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(limit: usize) -> Arc<Channel> {
        Arc::new(Channel::new(vec!["a:*".to_owned()], limit))
    }

    fn add(channel: &Channel, text: &str) {
        // The host's numbers rise.
        let id = channel.history().last().unwrap() + 7;
        channel.add(Some(id), What::Event(text.into()));
    }

    fn taken(reader: &mut Reader) -> String {
        match reader.take() {
            Some(Step::Event(entry)) => entry.text().to_owned(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn whoever_comes_back_goes_on_behind_what_he_had() {
        let channel = channel(10_000);
        let mut reader = Reader::of(channel.clone(), None);
        add(&channel, "one");
        add(&channel, "two");
        assert_eq!(taken(&mut reader), "one");
        let position = reader.position();
        drop(reader);
        assert!(!channel.is_used());
        add(&channel, "three");
        let mut reader = Reader::of(channel.clone(), Some(&position));
        assert_eq!([(); 3].map(|()| taken(&mut reader)), ["two", "three", "None"]);
        assert_eq!(taken(&mut Reader::of(channel.clone(), None)), "None", "from now on");
    }

    #[test]
    fn what_is_gone_is_counted_and_a_position_of_elsewhere_says_nothing() {
        let channel = channel(2 * (64 + 3));
        let mut slow = Reader::of(channel.clone(), None);
        let position = slow.position();
        for text in ["one", "two", "thr", "fou"] {
            add(&channel, text);
            if text == "one" {
                assert_eq!(taken(&mut slow), "one");
            }
        }
        assert_eq!(channel.ring().entries.len(), 2, "it has a bound in bytes");
        assert_eq!(taken(&mut slow), "Some(Late(1))");
        assert_eq!([(); 3].map(|()| taken(&mut slow)), ["thr", "fou", "None"]);
        let mut back = Reader::of(channel.clone(), Some(&position));
        assert_eq!([(); 2].map(|()| taken(&mut back)), ["Some(Missed(Some(2)))", "thr"]);
        for position in ["", "x", "1-1", "1"] {
            let mut lost = Reader::of(channel.clone(), Some(position));
            let steps = [(); 2].map(|()| taken(&mut lost));
            assert_eq!(steps, ["Some(Missed(None))", "None"], "{position}");
        }
    }

    #[test]
    fn one_that_is_larger_than_all_that_is_kept_is_missed() {
        let channel = channel(100);
        let mut reader = Reader::of(channel.clone(), None);
        add(&channel, &"x".repeat(101));
        assert_eq!(taken(&mut reader), "Some(Missed(Some(1)))");
        channel.end();
        assert_eq!(taken(&mut reader), "Some(Ended)");
    }

    #[test]
    fn the_next_version_goes_on_where_clients_of_the_one_before_were() {
        let (old, new) = (channel(10_000), channel(10_000));
        let both = |text: &str| {
            let id = old.history().last().unwrap() + 7;
            for channel in [&old, &new] {
                channel.add(Some(id), What::Event(text.into()));
            }
        };
        let positions: Vec<String> = (0..4)
            .map(|number| {
                let before = Reader::of(old.clone(), None).position();
                match number {
                    0 | 1 => add(&old, "seen by the old one alone"),
                    _ => both(&number.to_string()),
                }
                before
            })
            .collect();
        new.follow(old.history());
        both("last");
        let seen = |position: &str| {
            let mut reader = Reader::of(new.clone(), Some(position));
            [(); 3].map(|()| taken(&mut reader))
        };
        assert_eq!(seen(&positions[0]), ["Some(Missed(Some(2)))", "2", "3"]);
        assert_eq!(seen(&positions[1]), ["Some(Missed(Some(1)))", "2", "3"]);
        assert_eq!(seen(&positions[2]), ["2", "3", "last"]);
        assert_eq!(seen(&positions[3]), ["3", "last", "None"]);
    }

    #[test]
    fn what_is_known_to_have_passed_has_a_bound() {
        let channel = channel(1);
        (0..3_000).for_each(|_| add(&channel, "x"));
        assert_eq!(channel.history().len(), HISTORY);
        channel.follow((0..3_000).collect());
        assert_eq!(channel.history().len(), HISTORY);
    }
}
