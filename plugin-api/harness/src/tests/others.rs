//! Other plugins that the test plays, what it says beside its events, and what it sees pass.

use ksi_plugin_api::{EmitOptions, ErrorKind, SubscribeOptions};

use super::*;

#[derive(Default)]
struct Shop;

#[plugin(name = "shop", emits("shop:sold"))]
impl Shop {
    /// What became of a request to another plugin.
    #[event_handler("shop:ask")]
    async fn ask(&self, ctx: &Context, event: String) -> Result<Value> {
        match ctx.request::<Value>(named(&event, &1)).await {
            Ok(reply) => Ok(reply),
            Err(error) => Ok(json!([format!("{:?}", error.kind()), error.code(), error.message()])),
        }
    }

    #[event_handler("shop:who")]
    async fn who(&self, ctx: &Context, _: Value) -> Result<Value> {
        let event = ctx.event().ok_or_else(|| Error::other("no event"))?;
        Ok(json!([event.source(), event.depth(), event.attribute("a")]))
    }

    #[event_handler("shop:sell")]
    async fn sell(&self, ctx: &Context, _: Value) -> Result<()> {
        ctx.emit(named("shop:sold", &1)).await;
        ctx.emit(named("till:ring", &1)).await;
        ctx.send(named("till:ring", &2))
    }
}

#[test]
fn a_call_of_another_plugin_ends_in_each_way_that_there_is() {
    let plugin = Harness::start::<Shop>();
    let (m, code) = (|| "as told".to_owned(), "c".to_owned());
    for (event, ending, kind, code, message) in [
        ("a:none", OutcomeKind::NoReply, "Failed", "no_reply", "a:none"),
        ("a:failed", OutcomeKind::Failed { code, message: m() }, "Failed", "c", "as told"),
        ("a:panic", OutcomeKind::Panicked { message: m() }, "Panicked", "panicked", "as told"),
        ("a:crash", OutcomeKind::Crashed { message: m() }, "Crashed", "crashed", "as told"),
        ("a:late", OutcomeKind::TimedOut { message: m() }, "TimedOut", "timed_out", "30s"),
        ("a:reject", OutcomeKind::Rejected { reason: m() }, "Rejected", "rejected", "as told"),
    ] {
        plugin.on_outcome(event, move |_: Value| ending.clone());
        let told = plugin.emit("shop:ask", event).results().remove(0);
        assert_eq!((&told[0], &told[1]), (&json!(kind), &json!(code)), "{told}");
        assert!(told[2].as_str().unwrap().contains(message), "{told}");
    }
    plugin.on_outcome("a:reply", |by: u32| OutcomeKind::Replied(json!(by + 6)));
    assert_eq!(plugin.emit("shop:ask", "a:reply").results(), [json!(7)]);
}

#[test]
fn a_plugin_that_the_test_plays_has_what_any_plugin_has() {
    let plugin = Harness::start::<Shop>();
    let bank = plugin.other("bank");
    bank.on("bank:pay", |ctx: Context, _: Value| async move {
        ctx.sleep(SECOND).await;
        let event = ctx.event().ok_or_else(|| Error::other("no event"))?;
        Ok(json!([event.source(), event.depth(), ctx.now().as_secs()]))
    });
    let call = plugin.begin("shop:ask", "bank:pay");
    assert!(call.finished().is_none());
    plugin.advance(SECOND);
    assert_eq!(call.finished().unwrap().results(), [json!(["shop", 1, 1])]);

    // It is the same one by its name, and it emits in that.
    let same = plugin.other("bank");
    same.on_with("bank:pay", SubscribeOptions::new().priority(1), |_: Context, _: Value| async {
        Ok(json!("first"))
    });
    let both = plugin.begin("bank:pay", ());
    plugin.advance(SECOND);
    let both = both.finished().unwrap();
    assert_eq!(both.results(), [json!("first"), json!(["", 0, 2])]);
    assert!(both.outcomes().iter().all(|outcome| outcome.plugin == "bank"));
    assert_eq!(bank.emit(named("shop:who", &())).results(), [json!(["bank", 0, null])]);

    same.unload();
    assert!(!plugin.emit("bank:pay", ()).handled());
    assert!(bank.context().subscribe("a:b", |_: Context, _: Value| async { Ok(()) }).is_err());
}

#[test]
fn a_panic_in_what_the_test_plays_fails_the_test_and_not_the_plugin() {
    let plugin = Harness::start::<Shop>();
    plugin.other("bank").on("bank:pay", |_: Context, _: Value| async move {
        match 1 {
            1 => panic!("{}", "not as expected"),
            _ => Ok(()),
        }
    });
    let message = panic_of(|| drop(plugin.emit("shop:ask", "bank:pay")));
    assert_eq!(message, "not as expected");
    assert!(panic_of(|| drop(plugin.other("shop"))).contains("is the plugin under test"));
    let bank = plugin.other("bank");
    let none = || {
        bank.on("a b", |_: Context, _: Value| async { Ok(()) });
    };
    assert!(panic_of(none).contains("a b"));
}

#[test]
fn a_deadline_that_the_test_gives_holds_for_all_that_follows() {
    let plugin = Harness::start::<Shop>();
    let paying = Arc::new(());
    let held = Arc::downgrade(&paying);
    plugin.other("bank").on("bank:pay", move |ctx: Context, _: Value| {
        let paying = held.upgrade();
        async move {
            ctx.sleep(10 * SECOND).await;
            drop(paying);
            Ok(1)
        }
    });
    let soon = plugin.with(EmitOptions::new().timeout(2 * SECOND));
    let call = soon.begin("shop:ask", "bank:pay");
    plugin.advance(Duration::from_millis(1_999));
    assert!(call.finished().is_none());
    assert_eq!(Arc::strong_count(&paying), 2, "the bank is at work");
    plugin.advance(Duration::from_millis(1));
    // The bank's call ends by it, and so does the shop's: what it would say is too late.
    let told = kind(&call.finished().expect("its deadline is over"));
    assert!(matches!(told, OutcomeKind::TimedOut { .. }), "{told:?}");
    assert_eq!(Arc::strong_count(&paying), 1, "the bank is given up");
    // Without one, the bank has its time.
    let call = plugin.begin("shop:ask", "bank:pay");
    plugin.advance(10 * SECOND);
    assert_eq!(call.finished().unwrap().results(), [json!(1)]);
}

#[test]
fn what_is_said_beside_one_event_is_not_said_beside_the_next() {
    let plugin = Harness::start::<Shop>();
    plugin.attribute("a", "always");
    let said = plugin.with(EmitOptions::new().attribute("a", "1").depth(5));
    assert_eq!(said.emit("shop:who", ()).results(), [json!(["", 5, "1"])]);
    assert_eq!(plugin.emit("shop:who", ()).results(), [json!(["", 0, "always"])]);
    let deep = plugin.with(EmitOptions::new().depth(64)).emit("shop:who", ());
    assert_eq!(deep.refusal(), Some(Refusal::TooDeep));
}

#[test]
fn whoever_watches_sees_who_emits_what_because_of_what() {
    let plugin = Harness::start::<Shop>();
    let (rings, all) = (plugin.watch(&["till:*"]), plugin.watch(&["**"]));
    plugin.emit("shop:sell", ());
    plugin.other("bank").emit(named("till:closed", &1));
    let passed = rings.passed();
    let told: Vec<_> = passed.iter().map(|it| (&*it.source, &*it.name, it.depth)).collect();
    assert_eq!(
        told,
        [("shop", "till:ring", 1), ("shop", "till:ring", 1), ("bank", "till:closed", 0)]
    );
    let first = &all.passed()[0];
    assert_eq!((first.name.as_str(), first.parent, first.root), ("shop:sell", None, first.id));
    assert_eq!((passed[0].parent, passed[0].root), (Some(first.id), first.id));
    assert_eq!(rings.passed(), []);
    assert_eq!(plugin.undeclared(), ["till:ring"]);
}

#[test]
fn an_error_of_its_own_is_no_crash() {
    let plugin = Harness::start::<Shop>();
    plugin.on("till:ring", |_: Value| Err::<(), _>(Error::new("crashed", "it fell")));
    let told = plugin.emit("shop:ask", "till:ring").results().remove(0);
    assert_eq!(told[0], format!("{:?}", ErrorKind::Failed));
}

/// A plugin beside the one under test, which asks back.
struct Till {
    config: Value,
    log: Log,
}

#[plugin(name = "till")]
impl Till {
    #[initialize]
    async fn open(_: &Context, config: Value) -> Result<Self> {
        match config["fail"] == true {
            true => Err(Error::new("no_luck", "told to fail")),
            false => Ok(Till { config, log: LOG.with(Arc::clone) }),
        }
    }

    #[event_handler("till:ring", priority = 1)]
    async fn ring(&self, ctx: &Context, _: Value) -> Result<Value> {
        ctx.sleep(SECOND).await;
        let who: Value = ctx.request(named("shop:who", &())).await?;
        Ok(json!([self.config, who]))
    }

    #[event_handler("module:shutdown")]
    async fn close(&self, _: &Context, _: Value) -> Result<()> {
        self.log.lock().unwrap().push("till closed".to_owned());
        Ok(())
    }

    #[snapshot]
    async fn snapshot(&self, _: &Context) -> Result<u8> {
        Ok(1)
    }

    #[restore]
    async fn restore(&self, _: &Context, by: u8) -> Result<()> {
        self.log.lock().unwrap().push(format!("till restored {by}"));
        Ok(())
    }
}

#[test]
fn another_plugin_of_the_same_host_answers_by_the_same_clock_and_asks_back() {
    LOG.with(|log| log.lock().unwrap().clear());
    let till = || Harness::setup::<Till>().config(json!(7));
    let plugin = Harness::setup::<Shop>().beside(till().restore(1, json!(3))).start().unwrap();
    let call = plugin.begin("shop:ask", "till:ring");
    plugin.advance(SECOND);
    assert_eq!(call.finished().unwrap().results(), [json!([7, ["till", 2, null]])]);
    // What is told is of the plugin under test.
    let names: Vec<_> = plugin.emitted().into_iter().map(|emitted| emitted.name).collect();
    assert_eq!(names, ["till:ring"]);
    assert_eq!(plugin.snapshot().unwrap_err().code(), "no_state");
    drop(plugin);
    assert_eq!(log(), ["till restored 3", "till closed"]);

    let refused = |other| Harness::setup::<Shop>().beside(other).start().err().unwrap();
    assert_eq!(refused(till().config(json!({"fail": true}))).code(), "no_luck");
    assert_eq!(refused(till().trial()).code(), "trial");
    let twice = Harness::setup::<Shop>().beside(till()).beside(till()).start();
    assert_eq!(twice.err().unwrap().code(), "other_plugin");
}
