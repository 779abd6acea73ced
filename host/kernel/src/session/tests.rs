use std::{
    sync::atomic::{AtomicUsize, Ordering},
    task::Context,
};

use ksi_abi::{Attribute, Buffer, Content, Counted, EmitOptions, RefusalCode, ReplyForm, To};
use tokio::{runtime::Handle, sync::Semaphore};

use super::*;
use crate::{
    call::{Started, outcome::CallOutcome},
    event::{Event, NewEvent, Payload},
    kernel::{Kernel, KernelLimits},
    router::{emit::RouterLimits, host_handler::Failure},
};

const QUEUED_BYTES: usize = 8 << 10;
const ATTRIBUTE: usize = 3_000;

/// A session whose sent events `a:b` wait for ever.
fn session() -> Arc<Session> {
    let router = RouterLimits {
        recorder: Default::default(),
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
        subscriptions: 2,
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

/// An instance that counts its calls.
#[derive(Default)]
struct Instance(AtomicUsize);

impl Callee for Instance {
    fn start(&self, _: u64, _: Counted<Event>, _: &ReplyForm, _: &mut Context<'_>) -> Started {
        self.0.fetch_add(1, Ordering::Relaxed);
        Started::Ready(CallOutcome::NoReply)
    }
}

/// A session whose instance was live and is suspended, and the instance.
fn suspended() -> (Arc<Session>, Arc<Instance>) {
    let (session, instance) = (session(), Arc::<Instance>::default());
    let nothing = DeclaredRoutes { routes: Vec::new(), handlers: Vec::new() };
    session.attach(nothing, instance.clone(), None);
    session.suspend();
    (session, instance)
}

#[tokio::test]
async fn an_instance_that_nothing_leads_to_stays_until_it_is_detached_and_may_subscribe() {
    let (session, instance) = (session(), Arc::<Instance>::default());
    let nothing = DeclaredRoutes { routes: Vec::new(), handlers: Vec::new() };
    let gone = Arc::downgrade(&instance);
    session.attach(nothing, instance, None);
    assert!(gone.upgrade().is_some(), "it has no handler, and is there");
    let number = session.subscribe("x:y", 0, SubscribeOptions::default(), None).unwrap();
    emit(&session).await;
    assert_eq!(gone.upgrade().map(|it| it.0.load(Ordering::Relaxed)), Some(1));
    assert!(session.unsubscribe(number));
    assert!(gone.upgrade().is_some(), "it may subscribe again");
    session.detach();
    assert!(gone.upgrade().is_none());
}

fn resume(session: &Session, instance: &Arc<Instance>) {
    let callee: Arc<dyn Callee> = instance.clone();
    session.resume(&callee, None);
}

async fn emit(session: &Session) {
    let event = NewEvent::new("x:y", Payload::nothing().clone()).unwrap();
    drop(session.router().emit(event, None).await);
}

#[tokio::test]
async fn who_is_suspended_looks_on_and_what_it_subscribes_to_begins_when_it_goes_on() {
    let (session, instance) = suspended();
    let watch = Arc::new(session.watch(&["x:*"], 1).unwrap());
    session.subscribe("x:y", 0, SubscribeOptions::default(), None).unwrap();
    emit(&session).await;
    assert_eq!(instance.0.load(Ordering::Relaxed), 0, "nothing leads to it");
    assert!(matches!(watch.next().await, Some(Passed::Event(_))));
    resume(&session, &instance);
    emit(&session).await;
    assert_eq!(instance.0.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn what_was_detached_while_it_was_suspended_does_not_go_on() {
    let (session, instance) = suspended();
    let watch = Arc::new(session.watch(&["x:*"], 1).unwrap());
    session.subscribe("x:y", 0, SubscribeOptions::default(), None).unwrap();
    session.detach();
    resume(&session, &instance);
    assert!(watch.next().await.is_none(), "it has ended");
    drop(watch);
    let refusal = session.watch(&["x:*"], 1).err().unwrap();
    assert_eq!(refusal.code, RefusalCode::RETIRING);
    let refusal = session.subscribe("x:y", 0, SubscribeOptions::default(), None).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::RETIRING);
    emit(&session).await;
    assert_eq!(instance.0.load(Ordering::Relaxed), 0);
}

/// One handler, by which its generation is known.
fn declared(session: &Session, callee: &Arc<dyn Callee>, generation: i32) -> DeclaredRoutes {
    let spec = HandlerSpec {
        name: "on".into(),
        label: crate::label::Label::new("on"),
        patterns: vec![Pattern::parse("x:y").unwrap()],
        priority: generation,
        timeout: None,
        blocking: false,
    };
    session.declared([spec], callee.clone(), None)
}

#[tokio::test]
async fn nobody_sees_one_of_two_that_go_live_as_one_without_the_other() {
    const GENERATIONS: i32 = 300;
    let first = session();
    let router = first.router().clone();
    let callee: Arc<dyn Callee> = Arc::<Instance>::default();
    let swap = |generation: i32| {
        let sessions = ["p", "q"].map(|plugin| {
            let (number, limits) = (generation.unsigned_abs().into(), first.limits.clone());
            Session::new(plugin.into(), number, router.clone(), limits, false)
        });
        let attached = sessions.iter().map(|session| Attachment {
            session,
            declared: declared(session, &callee, generation),
            callee: callee.clone(),
            keeper: None,
        });
        Session::attach_all(attached.collect());
    };
    swap(0);
    let (reading, looks) = (router.clone(), Arc::<AtomicUsize>::default());
    let looked = looks.clone();
    let reader = std::thread::spawn(move || {
        loop {
            let seen = reading.subscribers();
            let of = |plugin: &str| {
                let mut all = seen.iter().filter(|it| &*it.handler.plugin == plugin);
                all.next().map(|it| it.priority)
            };
            let (p, q) = (of("p"), of("q"));
            assert_eq!(p, q);
            looked.fetch_add(1, Ordering::Relaxed);
            if p == Some(GENERATIONS) {
                return;
            }
        }
    });
    for generation in 1..=GENERATIONS {
        let before = looks.load(Ordering::Relaxed);
        swap(generation);
        while looks.load(Ordering::Relaxed) == before && !reader.is_finished() {
            std::thread::yield_now();
        }
    }
    reader.join().unwrap();
}
