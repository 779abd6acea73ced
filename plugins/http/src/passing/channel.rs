//! The last events of some patterns, and where each client is among them.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{sync::watch, time::timeout};

/// What was added, with its number: they are counted from 1 on.
#[derive(Debug)]
pub(crate) struct Entry {
    number: u64,
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
    /// Whose numbers they are: those of another channel mean other events.
    epoch: u64,
    ring: Mutex<Ring>,
    /// That something was added, or it has ended.
    news: watch::Sender<()>,
    readers: watch::Sender<usize>,
}

struct Ring {
    entries: VecDeque<Arc<Entry>>,
    /// The number of the next one.
    next: u64,
    bytes: usize,
    limit: usize,
    has_ended: bool,
}

impl Channel {
    pub(super) fn new(patterns: Vec<String>, limit: usize) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ring = Ring { entries: VecDeque::new(), next: 1, bytes: 0, limit, has_ended: false };
        Channel {
            patterns,
            epoch: since.as_nanos() as u64,
            ring: Mutex::new(ring),
            news: watch::channel(()).0,
            readers: watch::channel(0).0,
        }
    }

    pub(super) fn patterns(&self) -> &[String] {
        &self.patterns
    }

    pub(super) fn add(&self, what: What) {
        self.ring().add(what);
        self.news.send_replace(());
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
    fn add(&mut self, what: What) {
        // One that is larger than all that may be kept, nobody could be given.
        let what = match what {
            What::Event(text) if text.len() > self.limit => What::Missed(1),
            what => what,
        };
        self.bytes += what.bytes();
        self.entries.push_back(Arc::new(Entry { number: self.next, what }));
        self.next += 1;
        while self.bytes > self.limit && self.entries.len() > 1 {
            if let Some(oldest) = self.entries.pop_front() {
                self.bytes -= oldest.what.bytes();
            }
        }
    }

    fn first(&self) -> u64 {
        self.next - self.entries.len() as u64
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
    /// What it gets next.
    next: u64,
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
        let now = channel.ring().next;
        let known = after.and_then(|text| {
            let (epoch, number) = text.split_once('-')?;
            let epoch = u64::from_str_radix(epoch, 16).ok()?;
            let next = number.parse::<u64>().ok()?.checked_add(1)?;
            (epoch == channel.epoch && next <= now).then_some(next)
        });
        Reader {
            next: known.unwrap_or(now),
            is_lost: after.is_some() && known.is_none(),
            is_new: true,
            news: channel.news.subscribe(),
            channel,
        }
    }

    /// Behind what was given so far.
    pub(crate) fn position(&self) -> String {
        format!("{:x}-{}", self.channel.epoch, self.next - 1)
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
            self.next = first;
            // Whoever comes back was not slow, but away.
            return Some(if is_new { Step::Missed(Some(count)) } else { Step::Late(count) });
        }
        let place = usize::try_from(self.next - first).unwrap_or(usize::MAX);
        match ring.entries.get(place) {
            Some(entry) => {
                self.next = entry.number + 1;
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
        channel.add(What::Event(text.into()));
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
        for position in ["", "x", "1-1", &format!("{:x}-9", channel.epoch)] {
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
}
