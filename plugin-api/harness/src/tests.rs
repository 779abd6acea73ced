use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use ksi_plugin_api::prelude::*;

use super::Harness;

mod asks;
mod half_made;
#[cfg(unix)]
mod kept;
mod others;
mod place;
mod replace;
mod state;
mod typed;

const SECOND: Duration = Duration::from_secs(1);

#[event("probe:add")]
struct Add {
    by: u64,
}

#[event("probe:added")]
struct Added {
    total: u64,
}

#[payload]
#[serde(default)]
#[derive(Default)]
struct Config {
    start: u64,
    fail: bool,
    hang: bool,
    ask: bool,
}

/// What became of an instance, for tests that look at its end.
type Log = Arc<Mutex<Vec<String>>>;

struct Probe {
    total: AtomicU64,
    log: Log,
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.log.lock().unwrap().push("dropped".to_owned());
    }
}

/// Says so when it is dropped.
struct Guard(Log, &'static str);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.lock().unwrap().push(self.1.to_owned());
    }
}

thread_local! {
    /// A harness runs on the thread of its test, so the plugin finds the log of its own test here.
    static LOG: Log = Log::default();
}

#[plugin(name = "probe", emits(Added))]
impl Probe {
    #[initialize]
    async fn initialize(ctx: &Context, config: Config) -> Result<Self> {
        if config.fail {
            return Err(Error::new("no_luck", "told to fail"));
        }
        if config.hang {
            ctx.sleep(3_600 * SECOND).await;
        }
        let start = match config.ask {
            true => ctx.request(named("start:get", &json!({}))).await?,
            false => config.start,
        };
        Ok(Probe { total: AtomicU64::new(start), log: LOG.with(Arc::clone) })
    }

    #[event_handler]
    async fn add(&self, ctx: &Context, add: Add) -> Result<Added> {
        let done = Added { total: self.total.fetch_add(add.by, SeqCst) + add.by };
        ctx.emit(&done).await;
        Ok(done)
    }

    /// The plugin hears its own events, by name and by pattern, and is called once.
    #[event_handler("probe:added", "*:added")]
    async fn hear(&self, _: &Context, added: Value) -> Result<()> {
        self.log.lock().unwrap().push(format!("heard {added}"));
        Ok(())
    }

    #[event_handler("probe:loop")]
    async fn again(&self, ctx: &Context, data: Value) -> Result<()> {
        ctx.request(named("probe:loop", &data)).await
    }

    #[event_handler("probe:sleep", timeout = "1m")]
    async fn sleep(&self, ctx: &Context, seconds: u32) -> Result<u64> {
        let _guard = Guard(self.log.clone(), "sleep dropped");
        ctx.sleep(SECOND * seconds).await;
        Ok(ctx.now().as_secs())
    }

    #[event_handler("probe:panic", blocking)]
    async fn panic(&self, _: &Context, _: Value) -> Result<()> {
        panic!("on purpose")
    }

    #[event_handler("probe:relay")]
    async fn relay(&self, ctx: &Context, name: String) -> Result<Value> {
        ctx.request(named(&name, &json!({"from": "relay"}))).await
    }

    #[event_handler("probe:send")]
    async fn send(&self, ctx: &Context, times: u64) -> Result<()> {
        (0..times).try_for_each(|by| ctx.send(Add { by }))
    }

    #[event_handler("probe:wait")]
    async fn wait(&self, ctx: &Context, pattern: String) -> Result<Value> {
        ctx.wait_for(&pattern, 5 * SECOND).await?.data()
    }

    #[event_handler("probe:tick")]
    async fn tick(&self, ctx: &Context, period: u64) -> Result<()> {
        let (ticking, guard) = (ctx.clone(), Guard(self.log.clone(), "tick dropped"));
        ctx.spawn(async move {
            let _guard = guard;
            let mut interval = ticking.interval(Duration::from_secs(period));
            loop {
                interval.tick().await;
                let now = ticking.now().as_secs();
                ticking.emit(named("probe:ticked", &now)).await;
            }
        })?;
        ctx.spawn(async { panic!("in the background") })?;
        Ok(())
    }

    #[event_handler("probe:once")]
    async fn once(&self, ctx: &Context, pattern: String) -> Result<()> {
        let id = Arc::new(Mutex::new(None));
        let known = id.clone();
        let subscribed = ctx.subscribe(&pattern, move |ctx, data: Value| {
            let known = known.clone();
            async move {
                let id = known.lock().unwrap().take();
                Ok(json!({"seen": data, "ended": id.is_some_and(|id| ctx.unsubscribe(id))}))
            }
        })?;
        *id.lock().unwrap() = Some(subscribed);
        Ok(())
    }

    #[event_handler("probe:info")]
    async fn info(&self, ctx: &Context, _: Value) -> Result<Value> {
        let event = ctx.event().ok_or_else(|| Error::new("none", "no event"))?;
        Ok(json!({
            "depth": event.depth(), "source": event.source(), "first": event.parent().is_none(),
            "root": event.root() == event.id(), "agent": event.attribute("_agent_id"),
        }))
    }

    #[event_handler("module:shutdown")]
    async fn end(&self, ctx: &Context, _: Value) -> Result<()> {
        ctx.sleep(SECOND).await;
        self.log.lock().unwrap().push("shut down".to_owned());
        ctx.emit(Added { total: self.total.load(SeqCst) }).await;
        Ok(())
    }
}

fn probe() -> Harness {
    // Tests may share a thread, one after another.
    LOG.with(|log| log.lock().unwrap().clear());
    Harness::start::<Probe>()
}

fn log() -> Vec<String> {
    LOG.with(|log| log.lock().unwrap().clone())
}

fn panic_of(body: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(body)).expect_err("it does not panic");
    payload.downcast_ref::<String>().expect("a message").clone()
}

fn kind(report: &Report) -> OutcomeKind {
    let outcomes = report.outcomes();
    assert_eq!(outcomes.len(), 1, "{outcomes:?}");
    outcomes[0].result.clone()
}

#[test]
fn a_handler_replies_and_its_events_come_back_to_the_plugin() {
    let plugin = probe();
    assert_eq!(plugin.emit("probe:add", json!({"by": 2})).results(), [json!({"total": 2})]);
    let total: Added = plugin.request(Add { by: 3 }).unwrap();
    assert_eq!(total.total, 5);
    assert_eq!(plugin.emitted_of("probe:added"), [json!({"total": 2}), json!({"total": 5})]);
    assert_eq!(plugin.take_emitted().len(), 2);
    assert_eq!(plugin.emitted(), []);
    assert_eq!(log(), [r#"heard {"total":2}"#, r#"heard {"total":5}"#]);
}

#[test]
fn what_is_not_well_is_an_outcome() {
    let plugin = probe();
    match kind(&plugin.emit("probe:add", json!({"by": "x"}))) {
        OutcomeKind::Failed { code, message } => {
            assert_eq!(code, "invalid_payload");
            assert!(message.contains("\"by\""), "{message}");
        }
        other => panic!("{other:?}"),
    }
    match kind(&plugin.emit("probe:panic", json!({}))) {
        OutcomeKind::Panicked { message } => assert!(message.contains("on purpose"), "{message}"),
        other => panic!("{other:?}"),
    }
    assert!(!plugin.emit("probe:unknown", json!({})).handled());
    assert_eq!(plugin.request::<()>(&named("probe:unknown", "")).unwrap_err().code(), "no_handler");
    assert!(matches!(kind(&plugin.emit("nonsense", json!({}))), OutcomeKind::Rejected { .. }));
}

#[test]
fn a_request_that_needs_no_reply_takes_none() {
    let plugin = probe();
    plugin.on("note:take", |_: Value| Ok(()));
    plugin.on("note:refuse", |_: Value| Err::<(), _>(Error::new("full", "no room")));
    plugin.on("note:count", |_: Value| Ok(3));
    let none = named("note:take", &1);
    assert_eq!(plugin.request::<()>(&none), Ok(()));
    assert_eq!(plugin.request::<Option<u64>>(&none), Ok(None));
    // Whoever wants a value, also any value, gets the reason why there is none.
    assert_eq!(plugin.request::<u64>(&none).unwrap_err().code(), "no_reply");
    assert_eq!(plugin.request::<Value>(&none).unwrap_err().code(), "no_reply");
    assert_eq!(plugin.request::<Option<u64>>(named("note:count", &1)), Ok(Some(3)));
    assert_eq!(plugin.request::<()>(named("note:refuse", &1)).unwrap_err().code(), "full");
    assert_eq!(plugin.request::<()>(named("note:lost", &1)).unwrap_err().code(), "no_handler");
}

#[test]
fn an_event_that_nobody_handled_is_neither_ok_nor_failed() {
    let plugin = probe();
    let unheard = plugin.emit("probe:unknown", json!({}));
    assert!(!unheard.handled() && !unheard.is_ok() && !unheard.failed());
    let bad = plugin.emit("probe:add", json!({"by": "x"}));
    assert!(bad.handled() && !bad.is_ok() && bad.failed());
    let good = plugin.emit("probe:add", json!({"by": 1}));
    assert!(good.is_ok() && !good.failed());
}

#[test]
fn an_initialisation_may_ask_and_its_failure_is_an_error() {
    let plugin = Harness::setup::<Probe>()
        .config(json!({"ask": true}))
        .on("start:get", |_: Value| Ok(40))
        .start()
        .unwrap();
    assert_eq!(plugin.emit("probe:add", json!({"by": 2})).results(), [json!({"total": 42})]);

    let error = |config| Harness::with_config::<Probe>(config).err().expect("it fails");
    assert_eq!(error(json!({"fail": true})).code(), "no_luck");
    assert_eq!(error(json!({"hang": true})).code(), "timed_out");
    assert_eq!(error(json!({"ask": true})).code(), "no_handler");
    let wrong = error(json!({"start": "x"}));
    assert_eq!(wrong.code(), "invalid_config");
    assert!(wrong.message().contains("start"), "{wrong}");
}

#[test]
fn time_passes_only_when_the_test_lets_it() {
    let plugin = probe();
    let (long, short) = (plugin.begin("probe:sleep", 3), plugin.begin("probe:sleep", 1));
    plugin.advance(SECOND);
    assert_eq!(short.finished().unwrap().results(), [json!(1)]);
    plugin.advance(SECOND);
    assert!(long.finished().is_none());
    // Each step stops where something happens, however far the test goes at once.
    plugin.advance(10 * SECOND);
    assert_eq!(long.finished().unwrap().results(), [json!(3)]);
    assert_eq!(plugin.now(), 12 * SECOND);

    let message = panic_of(|| drop(plugin.emit("probe:sleep", 1)));
    assert!(message.contains("use `begin`, `advance`"), "{message}");
}

#[test]
fn a_handler_that_exceeds_its_timeout_is_cancelled() {
    let plugin = probe();
    let call = plugin.begin("probe:sleep", 61);
    plugin.advance(59 * SECOND);
    assert!(call.finished().is_none());
    assert_eq!(log(), [] as [&str; 0]);
    plugin.advance(SECOND);
    assert!(matches!(kind(&call.finished().unwrap()), OutcomeKind::TimedOut { .. }));
    assert_eq!(log(), ["sleep dropped"]);
}

#[test]
fn a_call_that_is_given_up_ends() {
    let plugin = probe();
    let call = plugin.begin("probe:sleep", 5);
    call.cancel();
    assert_eq!(log(), ["sleep dropped"]);
    assert!(matches!(kind(&call.finished().unwrap()), OutcomeKind::Rejected { .. }));
    plugin.advance(10 * SECOND);
    assert_eq!(log().len(), 1);
}

#[test]
fn stand_ins_answer_for_other_plugins() {
    let plugin = probe();
    plugin.on("other:get", |data: Value| Ok(json!({"got": data})));
    plugin.on("other:fail", |_: Value| Err::<(), _>(Error::new("broken", "it is broken")));
    let report = plugin.emit("probe:relay", "other:get");
    assert_eq!(report.results(), [json!({"got": {"from": "relay"}})]);
    match kind(&plugin.emit("probe:relay", "other:fail")) {
        OutcomeKind::Failed { code, message } => {
            assert_eq!(code, "broken");
            assert!(message.contains("it is broken"), "{message}");
        }
        other => panic!("{other:?}"),
    }

    plugin.on("other:assert", |_: Value| -> Result<()> { panic!("{}", "not as expected") });
    let message = panic_of(|| drop(plugin.emit("probe:relay", "other:assert")));
    assert_eq!(message, "not as expected");
    assert!(panic_of(|| plugin.on("a b", |_: Value| Ok(()))).contains("a b"));
}

#[test]
fn outcomes_come_by_priority_then_name_then_declaration() {
    #[derive(Default)]
    struct Many;

    #[plugin(name = "many")]
    impl Many {
        #[event_handler("many:*")]
        async fn early(&self, _: &Context, _: Value) -> Result<u8> {
            Ok(2)
        }

        #[event_handler("many:all")]
        async fn late(&self, _: &Context, _: Value) -> Result<u8> {
            Ok(3)
        }

        #[event_handler("**", priority = 1)]
        async fn first(&self, _: &Context, _: Value) -> Result<u8> {
            Ok(1)
        }
    }

    let plugin = Harness::start::<Many>();
    plugin.on("many:all", |_: Value| Ok(4));
    let report = plugin.emit("many:all", json!({}));
    assert_eq!(report.results(), [json!(1), json!(2), json!(3), json!(4)]);
}

#[test]
fn a_loop_of_events_ends_with_the_chain() {
    let plugin = probe();
    match kind(&plugin.emit("probe:loop", json!({}))) {
        OutcomeKind::Failed { code, message } => {
            assert_eq!(code, "rejected");
            assert!(message.contains("probe:loop -> probe:loop"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    // The chain has 64 events, and the harness has emitted the first one.
    assert_eq!(plugin.emitted().len(), 63);
}

#[test]
fn what_is_sent_is_handled_and_bounded() {
    let plugin = probe();
    assert!(plugin.emit("probe:send", 3).is_ok());
    assert_eq!(plugin.emitted_of("probe:added").last(), Some(&json!({"total": 3})));
    match kind(&plugin.emit("probe:send", 1_025)) {
        OutcomeKind::Failed { code, .. } => assert_eq!(code, "rejected"),
        other => panic!("{other:?}"),
    }
    assert!(plugin.emit("probe:send", 1).is_ok());
}

#[test]
fn wait_for_gets_the_next_event_or_times_out() {
    let plugin = probe();
    let call = plugin.begin("probe:wait", "other:*");
    plugin.emit("other:thing", json!({"n": 1}));
    plugin.emit("other:thing", json!({"n": 2}));
    assert_eq!(call.finished().unwrap().results(), [json!({"n": 1})]);

    let call = plugin.begin("probe:wait", "other:*");
    plugin.advance(5 * SECOND);
    match kind(&call.finished().unwrap()) {
        OutcomeKind::Failed { code, .. } => assert_eq!(code, "timed_out"),
        other => panic!("{other:?}"),
    }
    assert!(!plugin.emit("probe:wait", "other").is_ok());
}

#[test]
fn background_tasks_run_with_the_clock_until_the_shutdown() {
    let plugin = probe();
    plugin.emit("probe:tick", 10);
    let panics = plugin.background_panics();
    assert!(panics.len() == 1 && panics[0].contains("in the background"), "{panics:?}");
    plugin.advance(25 * SECOND);
    assert_eq!(plugin.emitted_of("probe:ticked"), [json!(10), json!(20)]);
    plugin.shutdown();
    plugin.advance(100 * SECOND);
    assert_eq!(plugin.emitted_of("probe:ticked").len(), 2);
    assert_eq!(log(), ["tick dropped", "shut down", "dropped"]);
}

#[test]
fn subscriptions_come_and_go_at_run_time() {
    let plugin = probe();
    plugin.emit("probe:once", "late:*");
    let seen = plugin.emit("late:one", json!({"n": 1}));
    assert_eq!(seen.results(), [json!({"seen": {"n": 1}, "ended": true})]);
    assert!(!plugin.emit("late:two", json!({})).handled());
    assert!(!plugin.emit("probe:once", "late").is_ok());
}

#[test]
fn an_event_knows_where_it_comes_from() {
    let plugin = probe();
    plugin.attribute("_agent_id", "ada");
    let first = json!({"depth": 0, "source": "", "first": true, "root": true, "agent": "ada"});
    assert_eq!(plugin.emit("probe:info", json!({})).results(), [first]);
    let child =
        json!({"depth": 1, "source": "probe", "first": false, "root": false, "agent": "ada"});
    assert_eq!(plugin.emit("probe:relay", "probe:info").results(), [child]);
}

#[test]
fn a_shutdown_gives_calls_up_and_drops_the_instance_last() {
    let plugin = probe();
    let call = plugin.begin("probe:sleep", 5);
    assert!(plugin.shutdown().is_ok());
    assert_eq!(log(), ["sleep dropped", "shut down", "dropped"]);
    assert!(matches!(kind(&call.finished().unwrap()), OutcomeKind::Rejected { .. }));
    // The plugin's own events still reach others, but not itself.
    assert_eq!(plugin.emitted_of("probe:added"), [json!({"total": 0})]);
    assert!(!plugin.emit("probe:info", json!({})).handled());
    assert!(!plugin.shutdown().handled());
    drop(plugin);
    assert_eq!(log().len(), 3);
}

#[test]
fn a_harness_that_is_dropped_shuts_down_too() {
    drop(probe());
    assert_eq!(log(), ["shut down", "dropped"]);
    assert!(!probe().emit("module:shutdown", json!({})).handled());
}

#[test]
fn threads_of_the_plugin_are_waited_for_but_not_for_ever() {
    use std::{
        future::{pending, poll_fn},
        task::Poll,
    };

    #[derive(Default)]
    struct Threads;

    #[plugin(name = "threads")]
    impl Threads {
        #[event_handler("threads:join")]
        async fn join(&self, _: &Context, _: Value) -> Result<u8> {
            let mut thread = None;
            Ok(poll_fn(move |cx| match thread.take() {
                None => {
                    let waker = cx.waker().clone();
                    thread = Some(std::thread::spawn(move || waker.wake()));
                    Poll::Pending
                }
                Some(thread) => Poll::Ready(thread.join().map_or(0, |()| 7)),
            })
            .await)
        }

        #[event_handler("threads:never")]
        async fn never(&self, _: &Context, _: Value) -> Result<()> {
            pending().await
        }
    }

    let plugin = Harness::start::<Threads>();
    assert_eq!(plugin.emit("threads:join", json!({})).results(), [json!(7)]);
    let call = plugin.begin("threads:never", json!({}));
    assert_eq!(plugin.meanwhile(|| 5), 5);
    let message = panic_of(|| plugin.meanwhile(|| panic!("{}", "as told")));
    assert_eq!(message, "as told");
    assert!(call.finished().is_none());
    plugin.patience(Duration::from_millis(1));
    let message = panic_of(|| drop(plugin.emit("threads:never", json!({}))));
    assert!(message.contains("nothing happened within 1ms"), "{message}");
}
