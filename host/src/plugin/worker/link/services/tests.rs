//! The host's end of a socket, and a test that says what no worker of ours says at the other.

use std::{net::Shutdown, os::unix::net::UnixStream, time::Instant};

use ksi_kept::KeptResources;
use ksi_kernel::{
    call::outcome::CallOutcome,
    event::NewEvent,
    kernel::{Kernel, KernelLimits},
    router::emit::RouterLimits,
    session::SessionLimits,
};
use ksi_worker_protocol::{
    FRAME_LIMIT, Inbox, Payload, TextsBuf, VERSION, Version, Watch, life::Hello, transport,
};
use tokio::runtime::Handle;

use super::{
    super::{Health, LinkLimits},
    *,
};
use crate::plugin::worker::process::{NewProcess, Processes, Program};

const LONG: Duration = Duration::from_secs(20);

struct Worker {
    link: Arc<Link>,
    socket: UnixStream,
    inbox: Inbox,
    processes: Arc<Processes>,
}

/// A worker whose instance is made, and which may have asked for so much at a time.
async fn worker(asks: usize) -> Worker {
    worker_that_says(&Hello::of(1), asks).await
}

async fn worker_that_says(hello: &Hello, asks: usize) -> Worker {
    let router = RouterLimits {
        queued_events: 9,
        queued_bytes: 1 << 20,
        subscriber_bytes: 1 << 20,
        event_depth: 9,
        payload_bytes: 1 << 20,
        timeout: LONG,
        recorder: Default::default(),
    };
    let limits = KernelLimits { workers: 1, blocking_threads: 1, waiting_bytes: 1 << 20, router };
    let router = Kernel::start(limits, Handle::current()).unwrap().router;
    let (processes, program) =
        (Processes::new(), Program::with_argument("/bin/sleep".into(), "1000"));
    let NewProcess { process, .. } = processes.start(&program.into()).await.unwrap();
    let (socket, theirs) = UnixStream::pair().unwrap();
    theirs.set_read_timeout(Some(LONG)).unwrap();
    let limits = LinkLimits { frame: FRAME_LIMIT, payload: 1 << 20, state: 1 << 20, asks };
    let link = Link::start(NewProcess { process, socket }, &router, limits).unwrap();
    let mut worker = Worker { link, socket: theirs, inbox: Inbox::new(), processes };
    worker.says(FromWorker::Hello(Payload::Bytes(&hello.to_json())), 0);
    let (plugin, limits) = ("p".into(), SessionLimits::default());
    let session = Session::new(plugin, 1, router, limits, true);
    let (resources, now) = (KeptResources::new(1), Instant::now());
    let levels = crate::log_levels::LogLevels::of_subscriber();
    let services = HostServices::new(session, "/p.so".into(), &resources, now, levels);
    let host = WorkerHost::new(services, None, Box::new(|_, _| ()));
    let link = worker.link.clone();
    let created = tokio::spawn(async move { link.create(host, b"{}").await });
    let worker = tokio::task::spawn_blocking(move || {
        let (id, told) = worker.hears();
        assert!(told.starts_with("Create"), "{told}");
        worker.says(FromWorker::Created, id);
        worker
    });
    let worker = worker.await.unwrap();
    created.await.unwrap().unwrap();
    worker
}

impl Worker {
    fn says(&mut self, frame: FromWorker<'_>, id: u64) {
        let mut batch = Batch::new();
        frame.put(id, &mut batch).unwrap();
        transport::send(&self.socket, &mut batch).unwrap();
    }

    /// What the host says next, with its number.
    fn hears(&mut self) -> (u64, String) {
        loop {
            if let Some(frame) = self.inbox.next().unwrap() {
                return (frame.id, format!("{:?}", FromHost::read(frame).unwrap()));
            }
            assert!(transport::receive(&self.socket, &mut self.inbox).unwrap() > 0);
        }
    }

    fn watches(&mut self, id: u64) {
        let patterns: TextsBuf = ["a:*"].into_iter().collect();
        self.says(FromWorker::Watch(Watch { capacity: 8, patterns: patterns.texts() }), id);
    }

    /// Waits until the host has done all that was said so far, and has said nothing else.
    async fn has_been_heard(mut self) -> Self {
        self.says(FromWorker::Kept { name: "k" }, 99);
        let heard = tokio::task::spawn_blocking(move || {
            let (id, told) = self.hears();
            assert!(id == 99 && told.starts_with("Nothing"), "{id}: {told}");
            self
        });
        heard.await.unwrap()
    }

    async fn ends_killed_for(self, words: &str) {
        let death = tokio::time::timeout(LONG, self.link.process().death()).await;
        let death = death.expect("it is killed").to_string();
        assert!(death.contains(words), "{death}");
        self.processes.end().await;
    }
}

#[tokio::test]
async fn a_worker_that_knows_it_is_told_that_its_instance_is_live() {
    for (minor, knows) in [(0, false), (VERSION.minor, true)] {
        let hello = Hello { protocol: Version { minor, ..VERSION }, ..Hello::of(1) };
        let mut worker = worker_that_says(&hello, 9).await;
        worker.link.goes_live();
        if knows {
            let heard = tokio::task::spawn_blocking(move || (worker.hears(), worker)).await;
            let (live, heard) = heard.unwrap();
            assert_eq!(live, (0, "Live".to_owned()));
            worker = heard;
        }
        worker.has_been_heard().await.processes.end().await;
    }
}

#[tokio::test]
async fn whoever_uses_the_number_of_what_is_open_once_more_is_ended() {
    let mut watches = worker(9).await;
    watches.watches(1);
    watches.watches(1);
    watches.ends_killed_for("asks for something by the number 1, which is in use").await;
    let mut subscribes = worker(9).await;
    for _ in 0..2 {
        let (handler, pattern) = (1 << 32, "a:*");
        let subscribe = Subscribe { handler, priority: 0, timeout: 0, blocking: false, pattern };
        subscribes.says(FromWorker::Subscribe(subscribe), 1);
    }
    subscribes.ends_killed_for("subscribes by the number 1, which is in use").await;
}

#[tokio::test]
async fn what_is_known_of_a_handler_goes_with_the_last_subscription_that_it_has() {
    let mut worker = worker(9).await;
    let handler = 1 << 32;
    for id in 1..=2 {
        let (blocking, pattern) = (true, "a:*");
        let subscribe = Subscribe { handler, priority: 0, timeout: 0, blocking, pattern };
        worker.says(FromWorker::Subscribe(subscribe), id);
    }
    for (id, left) in [(1, true), (2, false)] {
        worker.says(FromWorker::Unsubscribe, id);
        worker = worker.has_been_heard().await;
        assert_eq!(worker.link.may_block(handler), left);
    }
    worker.processes.end().await;
}

#[tokio::test]
async fn whoever_says_what_is_nothing_of_the_protocol_is_ended_with_that_text() {
    use std::io::Write;
    for (bytes, words) in [
        // A kind that nobody knows, and a body that is too long.
        ([0, 0, 0, 0, 200, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "200"),
        ([255, 255, 255, 255, 17, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0], "4294967295"),
    ] {
        let mut worker = worker(9).await;
        worker.socket.write_all(&bytes).unwrap();
        let death = tokio::time::timeout(LONG, worker.link.process().death()).await.unwrap();
        let death = death.to_string();
        assert!(death.contains("it said what cannot be understood"), "{death}");
        assert!(death.contains(words), "{death}");
        worker.processes.end().await;
    }
}

#[tokio::test]
async fn all_replies_that_a_process_has_given_before_it_ended_are_good_also_many_large_ones() {
    const REPLIES: usize = 100;
    let mut worker = worker(9).await;
    // Whoever reads has no turn until it has ended.
    let (holds, held) = std::sync::mpsc::channel::<()>();
    let asked: Vec<_> = (0..REPLIES)
        .map(|_| {
            let link = worker.link.clone();
            tokio::spawn(async move {
                link.ask(|id, to| FromHost::Snapshot { version: 1 }.put(id, to)).await
            })
        })
        .collect();
    let worker = tokio::task::spawn_blocking(move || {
        let ids: Vec<u64> = (0..REPLIES).map(|_| worker.hears().0).collect();
        let (tells, told) = std::sync::mpsc::channel();
        let holding = worker.link.router.workers().spawn(async move {
            let _ = tells.send(());
            let _ = held.recv();
        });
        holding.detach();
        told.recv().unwrap();
        // In a file each, and each comes with a read of its own.
        let large = vec![b' '; 300 << 10];
        for id in ids {
            let reply = Payload::Bytes(&large);
            worker.says(FromWorker::Reply { keeps: false, reply }, id);
        }
        worker.link.process().kill("it has said all");
        worker
    });
    let worker = worker.await.unwrap();
    worker.link.process().death().await;
    drop(holds);
    for asked in asked {
        let outcome = tokio::time::timeout(LONG, asked).await.expect("it ends").unwrap();
        assert!(matches!(outcome, CallOutcome::Replied(_)), "it has come");
    }
    worker.processes.end().await;
}

#[tokio::test]
async fn a_worker_that_answers_when_it_is_asked_lives_and_one_that_falls_silent_is_ended() {
    let stuck = Duration::from_secs(2);
    let mut worker = worker(9).await;
    tokio::spawn(Health { stuck }.look_after(Arc::downgrade(&worker.link)));
    let began = Instant::now();
    let worker = tokio::task::spawn_blocking(move || {
        while began.elapsed() < 2 * stuck {
            let (id, told) = worker.hears();
            assert_eq!((id, &*told), (0, "Ping"));
            worker.says(FromWorker::Pong, id);
        }
        worker
    });
    let worker = worker.await.unwrap();
    assert!(worker.link.process().dead().is_none(), "it has said nothing but that");
    worker.ends_killed_for("it has answered nothing for 2s (isolation.stuck)").await;
}

#[tokio::test]
async fn a_watch_shows_what_passes_until_it_is_ended() {
    let mut worker = worker(9).await;
    let router = worker.link.router.clone();
    let event = |name: &str| NewEvent::json(name, &serde_json::json!({})).unwrap();
    let emit = |name: &str| router.emit(event(name), None);
    worker.watches(1);
    let mut worker = worker.has_been_heard().await;
    for name in ["b:other", "a:one"] {
        emit(name).await;
    }
    let worker = tokio::task::spawn_blocking(move || {
        let (id, told) = worker.hears();
        assert_eq!(id, 1, "{told}");
        assert!(told.starts_with("Watched") && told.contains("a:one"), "{told}");
        worker.says(FromWorker::Unwatch, 1);
        worker
    })
    .await
    .unwrap();
    let mut worker = worker.has_been_heard().await;
    emit("a:two").await;
    // By the same number, which is in use no more. Nothing else was shown meanwhile.
    worker.watches(1);
    let worker = worker.has_been_heard().await;
    worker.processes.end().await;
}

#[tokio::test]
async fn a_watch_beyond_what_may_be_open_is_refused() {
    let mut worker = worker(2).await;
    for id in 1..=3 {
        worker.watches(id);
    }
    let worker = tokio::task::spawn_blocking(move || {
        let (id, told) = worker.hears();
        assert_eq!(id, 3, "{told}");
        assert!(
            told.starts_with("Refused") && told.contains("2 emits, waits and watches"),
            "{told}"
        );
        worker
    });
    worker.await.unwrap().processes.end().await;
}

#[tokio::test]
async fn whoever_reads_no_more_and_lives_on_is_ended_and_nothing_is_kept_for_him() {
    let worker = worker(9).await;
    worker.socket.shutdown(Shutdown::Read).unwrap();
    for _ in 0..100 {
        worker.link.tell(FromHost::Ping);
    }
    let link = worker.link.clone();
    worker.ends_killed_for("it does not read any more").await;
    link.tell(FromHost::Ping);
    assert!(link.outbox.has_few() && link.outbox.has_room());
}
