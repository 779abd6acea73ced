use ksi_abi::{Attribute, Buffer, Content, Counted, EmitOptions, RefusalCode, To};
use tokio::{runtime::Handle, sync::Semaphore};

use super::*;
use crate::{
    event::{Event, NewEvent, Payload},
    kernel::{Kernel, KernelLimits},
    router::{emit::RouterLimits, host_handler::Failure},
};

const QUEUED_BYTES: usize = 8 << 10;
const ATTRIBUTE: usize = 3_000;

/// A session whose sent events `a:b` wait for ever.
fn session() -> Arc<Session> {
    let router = RouterLimits {
        queued_events: 100,
        queued_bytes: QUEUED_BYTES,
        subscriber_bytes: 1 << 20,
        event_depth: 9,
        payload_bytes: 1 << 20,
        timeout: Duration::from_secs(60),
    };
    let (workers, blocking_threads, waiting_bytes) = (1, 1, 1 << 20);
    let limits = KernelLimits { workers, blocking_threads, waiting_bytes, router };
    let router = Kernel::start(limits, Handle::current()).unwrap().router;
    let never = Arc::new(Semaphore::new(0));
    router.add_host_handler("waits", &[Pattern::parse("a:b").unwrap()], None, move |_| {
        let never = never.clone();
        async move {
            let _ = never.acquire().await;
            Ok::<_, Failure>(())
        }
    });
    let limits = SessionLimits {
        background_tasks: 1,
        subscriptions: 1,
        watched_events: 1,
        held_events: 1,
        held_bytes: 1 << 20,
    };
    Session::new("p".into(), 1, router, limits, false)
}

/// How many events are taken until one is refused for their bytes.
fn taken(
    session: &Session,
    parent: Option<&Counted<Event>>,
    options: Option<&EmitOptions<'_>>,
) -> usize {
    let send = || {
        let content = Content::Bytes(Buffer::from("{}"));
        session.send(parent, &To::Name("a:b"), content, options)
    };
    let taken = (0..100).take_while(|_| send().is_ok()).count();
    let refusal = send().unwrap_err();
    assert_eq!(refusal.code, RefusalCode::QUEUE_BYTES);
    taken
}

#[tokio::test]
async fn what_is_attached_to_a_sent_event_counts_for_the_bytes_that_may_wait() {
    let text = "x".repeat(ATTRIBUTE);
    let attributes = [Attribute { key: "key".into(), value: (&*text).into() }];
    let options = EmitOptions::of(&attributes);
    let session = session();
    let taken = taken(&session, None, Some(&options));
    assert!((1..=QUEUED_BYTES / ATTRIBUTE).contains(&taken), "{taken}");
}

#[tokio::test]
async fn what_it_takes_over_from_the_event_before_it_counts_as_well() {
    let session = session();
    let parent = NewEvent::new("a:a", Payload::nothing().clone()).unwrap();
    let parent = parent.attribute("key", &"x".repeat(ATTRIBUTE));
    let parent = session.router().accept(parent, None).unwrap();
    let taken = taken(&session, Some(&parent), None);
    assert!((1..=QUEUED_BYTES / ATTRIBUTE).contains(&taken), "{taken}");
}
