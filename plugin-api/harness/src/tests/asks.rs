//! What a plugin asks of its host beside the event, and what it is told when that is refused.

use ksi_plugin_api::{EmitOptions, Refusal, SubscribeOptions, Watched};

use super::*;

#[derive(Default)]
struct Asks;

#[plugin(name = "asks")]
impl Asks {
    #[event_handler("asks:refused")]
    async fn refused(&self, ctx: &Context, what: String) -> Result<String> {
        let nothing = json!({});
        let error = match what.as_str() {
            "name" => ctx.send(named("no name", &nothing)).unwrap_err(),
            "request" => ctx.request::<Value>(named("no name", &nothing)).await.unwrap_err(),
            "pattern" => ctx.wait_for("no pattern", SECOND).await.unwrap_err(),
            "queue" => many(|| ctx.send(named("asks:later", &nothing))),
            "tasks" => many(|| ctx.spawn(std::future::pending()).map(drop)),
            "watches" => {
                let mut watches = Vec::new();
                many(|| ctx.watch(&["a:b"], 1).map(|watch| watches.push(watch)))
            }
            "no watch" => ctx.watch(&[], 1).unwrap_err(),
            "subscriptions" => {
                let handler = |_: Context, _: Value| async { Ok(()) };
                many(|| ctx.subscribe("asks:nobody", handler).map(drop))
            }
            _ => ctx.listener("nowhere").unwrap_err(),
        };
        Ok(format!("{} {:?}", error.code(), error.refusal()))
    }

    #[event_handler("asks:later")]
    async fn later(&self, ctx: &Context, _: Value) -> Result<()> {
        ctx.sleep(SECOND).await;
        Ok(())
    }

    #[event_handler("asks:deeper")]
    async fn deeper(&self, ctx: &Context, data: Value) -> Result<String> {
        let report = ctx.emit(named("asks:deeper", &data)).await;
        match report.refusal() {
            Some(refusal) => Ok(format!("{refusal:?}")),
            None => Ok(report.results_as::<String>()?.remove(0)),
        }
    }

    /// Emits `asks:told` with something said beside it.
    #[event_handler("asks:with")]
    async fn with(&self, ctx: &Context, (depth, millis): (u32, u64)) -> Result<Value> {
        let options = EmitOptions::new().attribute("a", "1").attribute("a", "2").depth(depth);
        let timeout = Duration::from_millis(millis);
        ctx.with(options.timeout(timeout)).request(named("asks:told", &millis)).await
    }

    /// What it is told beside the event, once so much time has passed.
    #[event_handler("asks:told")]
    async fn told(&self, ctx: &Context, _: u64) -> Result<Value> {
        ctx.sleep(SECOND / 2).await;
        let event = ctx.event().unwrap();
        Ok(json!([event.attribute("a"), event.attribute("outside"), event.depth()]))
    }

    #[event_handler("asks:subscribe")]
    async fn subscribe(&self, ctx: &Context, _: Value) -> Result<()> {
        let tell = |number: u32| move |_: Context, _: Value| async move { Ok(number) };
        let last = SubscribeOptions::new().priority(-1).blocking().timeout(SECOND);
        ctx.subscribe_with("order:all", last, tell(3))?;
        ctx.subscribe("order:all", tell(2))?;
        ctx.subscribe_with("order:all", SubscribeOptions::new().priority(1), tell(1))?;
        ctx.subscribe_with("order:late", last, |ctx: Context, _: Value| async move {
            ctx.sleep(2 * SECOND).await;
            Ok(())
        })?;
        Ok(())
    }

    /// Sends what it sees as `asks:saw`, and reads once it has slept for so many seconds.
    #[event_handler("asks:watch")]
    async fn watch(&self, ctx: &Context, (capacity, seconds): (usize, u32)) -> Result<()> {
        let mut watch = ctx.watch(&["order:*", "*:paid"], capacity)?;
        let ctx = ctx.clone();
        ctx.clone().spawn(async move {
            ctx.sleep(seconds * SECOND).await;
            while let Some(watched) = watch.next().await {
                let saw = match watched {
                    Watched::Event(event) => event.info().name().to_owned(),
                    Watched::Missed(count) => format!("missed {count}"),
                    other => format!("{other:?}"),
                };
                ctx.send(named("asks:saw", &saw)).unwrap();
            }
            ctx.send(named("asks:saw", "end")).unwrap();
        })?;
        Ok(())
    }

    #[event_handler("asks:fill")]
    async fn fill(&self, ctx: &Context, bytes: usize) -> Result<String> {
        let options = match bytes {
            0 => EmitOptions::new().timeout(SECOND),
            _ => EmitOptions::new().attribute("", "x".repeat(bytes)),
        };
        let sent = ctx.with(options).send(named("a:b", &1));
        Ok(format!("{:?}", sent.map_err(|error| error.refusal())))
    }
}

/// Asks until that is refused.
fn many(ask: impl FnMut() -> Result<()>) -> Error {
    std::iter::repeat_with(ask).take(2_000).find_map(Result::err).expect("it is refused")
}

#[test]
fn what_is_refused_has_a_code_for_each_reason() {
    let plugin = Harness::start::<Asks>();
    for (what, told) in [
        ("name", "rejected Some(InvalidName)"),
        ("request", "rejected Some(InvalidName)"),
        ("pattern", "rejected Some(InvalidPattern)"),
        ("queue", "rejected Some(QueueFull)"),
        ("tasks", "rejected Some(TooManyTasks)"),
        ("watches", "rejected Some(TooManyWatches)"),
        ("no watch", "rejected Some(InvalidPattern)"),
        ("subscriptions", "rejected Some(TooManySubscriptions)"),
        ("address", "not_kept Some(InvalidAddress)"),
    ] {
        assert_eq!(plugin.emit("asks:refused", what).results(), [json!(told)], "{what}");
    }
    assert_eq!(plugin.emit("asks:deeper", ()).results(), [json!("TooDeep")]);
    assert_eq!(plugin.emit("no name", ()).refusal(), Some(Refusal::InvalidName));
    assert_eq!(plugin.emit("asks:nobody", ()).refusal(), None);
}

#[test]
fn attributes_count_as_in_a_host() {
    let plugin = Harness::start::<Asks>();
    let text = |kilobytes: usize| "x".repeat(kilobytes * 1024);
    let fill = |bytes: usize| plugin.emit("asks:fill", bytes).results();
    plugin.attribute("", &text(40));
    assert_eq!(fill(40 * 1024), [json!("Ok(())")], "it comes in place of the other");
    plugin.attribute("other", &text(40));
    assert_eq!(fill(40 * 1024), [json!("Err(Some(TooLarge))")], "there are two");
    assert_eq!(fill(0), [json!("Ok(())")], "what came from outside goes on");
}

#[test]
fn what_is_said_beside_an_event_goes_with_it() {
    let plugin = Harness::start::<Asks>();
    plugin.attribute("outside", "3");
    let call = plugin.begin("asks:with", (5, 900));
    plugin.advance(SECOND);
    assert_eq!(call.finished().unwrap().results(), [json!(["2", "3", 6])]);
    assert!(!plugin.emit("asks:with", (64, 900)).is_ok(), "it is too deep");

    let call = plugin.begin("asks:with", (0, 400));
    plugin.advance(Duration::from_millis(400));
    match kind(&call.finished().expect("it has timed out")) {
        OutcomeKind::Failed { code, message } => {
            assert_eq!(code, "timed_out");
            assert!(message.contains("400ms"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn attributes_have_a_bound() {
    let plugin = Harness::start::<Asks>();
    assert_eq!(plugin.emit("asks:fill", 64 * 1024).results(), [json!("Ok(())")]);
    let refused = plugin.emit("asks:fill", 64 * 1024 + 1).results();
    assert_eq!(refused, [json!("Err(Some(TooLarge))")]);
}

#[test]
fn subscriptions_made_at_run_time_have_the_options_of_declared_handlers() {
    let plugin = Harness::start::<Asks>();
    assert!(plugin.emit("asks:subscribe", ()).is_ok());
    assert_eq!(plugin.emit("order:all", ()).results(), [json!(1), json!(2), json!(3)]);
    let late = plugin.begin("order:late", ());
    plugin.advance(SECOND);
    assert!(matches!(kind(&late.finished().unwrap()), OutcomeKind::TimedOut { .. }));
}

#[test]
fn who_watches_sees_events_pass_and_handles_none_of_them() {
    let plugin = Harness::start::<Asks>();
    plugin.emit("asks:watch", (8, 0));
    for event in ["order:placed", "order:paid", "bill:paid", "bill:sent"] {
        assert!(!plugin.emit(event, ()).handled());
    }
    assert_eq!(plugin.emitted_of("asks:saw"), ["order:placed", "order:paid", "bill:paid"]);
}

#[test]
fn who_does_not_read_in_time_gets_what_fitted_and_how_many_did_not() {
    let plugin = Harness::start::<Asks>();
    plugin.emit("asks:watch", (2, 1));
    for _ in 0..5 {
        plugin.emit("order:placed", ());
    }
    plugin.advance(SECOND);
    let saw = plugin.emitted_of("asks:saw");
    assert_eq!(saw, ["order:placed", "order:placed", "missed 3", "end"]);
}

#[test]
fn where_a_plugin_is_tried_out_no_event_passes() {
    struct Waits;

    #[plugin(name = "waits")]
    impl Waits {
        #[initialize]
        async fn start(ctx: &Context, _: Value) -> Result<Self> {
            let waited = ctx.wait_for("a:b", SECOND).await.unwrap_err();
            let mut watch = ctx.watch(&["a:b"], 1)?;
            let passed = watch.next().await.is_some();
            LOG.with(|log| {
                log.lock().unwrap().push(format!("{:?} {passed}", waited.refusal()));
            });
            Ok(Waits)
        }
    }

    LOG.with(|log| log.lock().unwrap().clear());
    let trial = Harness::setup::<Waits>().trial().start().unwrap();
    assert_eq!((log(), trial.now()), (vec!["Some(Trial) false".to_owned()], Duration::ZERO));
}
