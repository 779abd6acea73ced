//! Snapshots, restores and trials.

use std::{
    pin::pin,
    task::{Poll, Waker},
};

use ksi_abi::{CallEnd, Start};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::*;

#[payload]
struct Saved {
    count: u64,
    /// What the methods are to do beside their work.
    trick: Option<String>,
}

#[payload]
struct SavedV1 {
    n: u32,
}

#[derive(Default)]
struct Counter {
    count: AtomicU64,
    trick: Mutex<Option<String>>,
}

#[plugin(name = "counter", requires(Add, "other:thing"))]
impl Counter {
    #[initialize]
    async fn initialize(ctx: &Context, config: Value) -> Result<Self> {
        if config["greet"] == true {
            let heard = ctx.emit(Add { by: 1 }).await.is_ok();
            let sent = ctx.send(Add { by: 1 }).is_ok();
            let running = ctx.clone();
            let spawned = ctx.spawn(async move {
                running.emit(Add { by: 1 }).await;
            });
            LOG.with(|log| {
                let noted = json!([heard, sent, spawned.is_ok(), ctx.is_trial()]);
                log.lock().unwrap().push(noted.to_string());
            });
        }
        Ok(Counter { count: AtomicU64::new(100), trick: Mutex::default() })
    }

    #[event_handler]
    async fn add(&self, _: &Context, add: Add) -> Result<u64> {
        Ok(self.count.fetch_add(add.by, SeqCst) + add.by)
    }

    #[event_handler("counter:trick")]
    async fn trick(&self, _: &Context, trick: String) -> Result<()> {
        *self.trick.lock().unwrap() = Some(trick);
        Ok(())
    }

    #[event_handler("counter:slow")]
    async fn slow(&self, ctx: &Context, _: Value) -> Result<()> {
        ctx.sleep(SECOND).await;
        Ok(())
    }

    #[event_handler("module:shutdown")]
    async fn end(&self, _: &Context, _: Value) -> Result<()> {
        LOG.with(|log| log.lock().unwrap().push("shut down".to_owned()));
        Ok(())
    }

    #[snapshot(version = 2)]
    async fn snapshot(&self, ctx: &Context) -> Result<Saved> {
        let trick = self.trick.lock().unwrap().clone();
        perform(ctx, trick.as_deref()).await?;
        Ok(Saved { count: self.count.load(SeqCst), trick: None })
    }

    #[snapshot(version = 1)]
    async fn snapshot_v1(&self, _: &Context) -> Result<SavedV1> {
        let n = u32::try_from(self.count.load(SeqCst));
        Ok(SavedV1 { n: n.map_err(|_| Error::new("too_much", "version 1 counts to 2^32"))? })
    }

    #[restore(version = 2)]
    async fn restore(&self, ctx: &Context, saved: Saved) -> Result<()> {
        perform(ctx, saved.trick.as_deref()).await?;
        self.count.store(saved.count, SeqCst);
        Ok(())
    }

    #[restore(version = 1)]
    async fn restore_v1(&self, _: &Context, saved: SavedV1) -> Result<()> {
        self.count.store(saved.n.into(), SeqCst);
        Ok(())
    }
}

async fn perform(ctx: &Context, trick: Option<&str>) -> Result<()> {
    match trick {
        Some("fail") => return Err(Error::new("no_luck", "told to fail")),
        Some("panic") => panic!("on purpose"),
        Some("sleep") => ctx.sleep(SECOND).await,
        Some("hang") => ctx.sleep(3_600 * SECOND).await,
        Some("ask") => ctx.request(named("other:thing", &ctx.event().is_none())).await?,
        _ => {}
    }
    Ok(())
}

fn counter() -> Harness {
    LOG.with(|log| log.lock().unwrap().clear());
    Harness::start::<Counter>()
}

/// The instance itself, to be asked past the harness.
fn instance(plugin: &Harness) -> ksi_abi::local::Local<crate::generation::Generation> {
    plugin.world.state.lock().live.as_ref().unwrap().instance.local().unwrap().clone()
}

fn count(plugin: &Harness) -> Value {
    plugin.emit("probe:add", json!({"by": 0})).results().remove(0)
}

#[test]
fn the_state_of_one_instance_goes_on_in_another() {
    let old = counter();
    old.emit("probe:add", json!({"by": 5}));
    let (version, saved) = old.snapshot().unwrap();
    assert_eq!((version, &saved), (2, &json!({"count": 105, "trick": null})));
    let new = Harness::setup::<Counter>().restore(version, saved).start().unwrap();
    assert_eq!(count(&new), 105);
    // The old one is as it was.
    assert_eq!(count(&old), 105);
}

#[test]
fn an_older_version_goes_on_with_a_snapshot_made_for_it_and_back() {
    let plugin = counter();
    let older = plugin.snapshot_of(1).unwrap();
    assert_eq!(older, json!({"n": 100}));
    plugin.emit("probe:add", json!({"by": 5}));
    plugin.restore(1, &older).unwrap();
    assert_eq!(count(&plugin), 100);
    plugin.restore(2, &json!({"count": u64::MAX})).unwrap();
    assert_eq!(plugin.snapshot_of(1).unwrap_err().code(), "too_much");
}

#[test]
fn a_version_that_nobody_knows_is_refused_with_those_that_are() {
    let plugin = counter();
    let error = plugin.restore(3, &json!({"count": 1})).unwrap_err();
    assert_eq!(error.code(), "unknown_snapshot_version");
    let expected =
        "this plugin restores snapshots of version 1 and 2, and this one is of version 3";
    assert!(error.message().starts_with(expected), "{error}");
    let error = plugin.snapshot_of(7).unwrap_err();
    assert_eq!(error.code(), "unknown_snapshot_version");
    assert!(error.message().contains("version 7 was asked for"), "{error}");
    assert_eq!(count(&plugin), 100);

    let without = probe();
    assert_eq!(without.snapshot().unwrap_err().code(), "no_state");
    assert_eq!(without.restore(1, &json!({})).unwrap_err().code(), "no_state");
}

#[test]
fn a_snapshot_that_does_not_decode_names_the_place_and_changes_nothing() {
    let plugin = counter();
    let error = plugin.restore(2, &json!({"count": "many"})).unwrap_err();
    assert_eq!(error.code(), "invalid_snapshot");
    assert!(error.message().contains("not one of version 2: at \"count\""), "{error}");
    assert_eq!(count(&plugin), 100);
}

#[test]
fn what_goes_wrong_in_the_plugin_is_its_error() {
    let plugin = counter();
    for (trick, code) in [("fail", "no_luck"), ("panic", "panicked"), ("hang", "timed_out")] {
        plugin.emit("counter:trick", trick);
        assert_eq!(plugin.snapshot().unwrap_err().code(), code);
        let error = plugin.restore(2, &json!({"count": 1, "trick": trick})).unwrap_err();
        assert_eq!(error.code(), code);
        assert_eq!(count(&plugin), 100);
    }
    let error = plugin.restore(2, &json!({"count": 1, "trick": "panic"})).unwrap_err();
    assert!(error.message().contains("on purpose"), "{error}");
}

#[test]
fn an_instance_that_cannot_restore_never_goes_live() {
    LOG.with(|log| log.lock().unwrap().clear());
    let setup = Harness::setup::<Counter>().restore(2, json!({"count": 1, "trick": "fail"}));
    assert_eq!(setup.start().err().expect("it fails").code(), "no_luck");
    assert_eq!(log(), [] as [&str; 0]);
}

#[test]
fn a_snapshot_may_wait_and_emit_beside_a_call() {
    let plugin = counter();
    let call = plugin.begin("counter:slow", json!({}));
    plugin.emit("counter:trick", "ask");
    plugin.on("other:thing", |alone: bool| match alone {
        true => Ok(()),
        false => Err(Error::new("event", "a snapshot belongs to no event")),
    });
    assert!(plugin.snapshot().is_ok());
    assert!(call.finished().is_none());
    plugin.emit("counter:trick", "sleep");
    assert!(plugin.snapshot().is_ok());
    assert_eq!(plugin.now(), SECOND);
    assert!(call.finished().is_some());

    plugin.shutdown();
    assert_eq!(plugin.snapshot().unwrap_err().code(), "gone");
}

#[test]
fn a_restore_keeps_none_of_the_bytes_that_it_was_given() {
    let plugin = counter();
    let instance = instance(&plugin);
    let mut cx = std::task::Context::from_waker(Waker::noop());
    let mut bytes = json!({"count": 7, "trick": "sleep"}).to_string().into_bytes();
    let started = instance.restore(2, &bytes, &mut cx);
    bytes.fill(b'?');
    let Start::Pending(future) = started else { panic!("it waits") };
    let mut future = pin!(future);
    plugin.advance(SECOND);
    assert!(matches!(future.as_mut().poll(&mut cx), Poll::Ready(CallEnd::NoReply)));
    assert_eq!(count(&plugin), 7);
}

#[test]
fn a_trial_reaches_nobody() {
    LOG.with(|log| log.lock().unwrap().clear());
    let setup = || Harness::setup::<Counter>().config(json!({"greet": true}));
    let setup = || setup().on("probe:add", |_: Value| Ok(1));
    let trial = setup().trial().restore(1, json!({"n": 3})).start().unwrap();
    assert_eq!(trial.emitted(), []);
    let real = setup().start().unwrap();
    assert_eq!(real.emitted_of("probe:add").len(), 3);
    // Heard, sent, spawned, in a trial.
    assert_eq!(log(), ["[false,false,true,true]", "[true,true,true,false]"]);
}

/// Not what serde expects of anybody.
struct Rude;

impl Serialize for Rude {
    fn serialize<S: Serializer>(&self, _: S) -> std::result::Result<S::Ok, S::Error> {
        panic!("no bytes of mine")
    }
}

impl<'de> Deserialize<'de> for Rude {
    fn deserialize<D: Deserializer<'de>>(_: D) -> std::result::Result<Self, D::Error> {
        panic!("no value of mine")
    }
}

#[derive(Default)]
struct Odd;

#[plugin(name = "odd")]
impl Odd {
    #[snapshot]
    async fn nothing(&self, _: &Context) -> Result<()> {
        Ok(())
    }

    #[restore]
    async fn no_more(&self, _: &Context, _: ()) -> Result<()> {
        Ok(())
    }

    #[snapshot(version = 2)]
    async fn rude(&self, _: &Context) -> Result<Rude> {
        Ok(Rude)
    }

    #[restore(version = 2)]
    async fn rude_again(&self, _: &Context, _: Rude) -> Result<()> {
        Ok(())
    }
}

#[test]
fn a_snapshot_without_content_is_one() {
    let plugin = Harness::start::<Odd>();
    let instance = instance(&plugin);
    let mut cx = std::task::Context::from_waker(Waker::noop());
    match instance.snapshot(1, &mut cx) {
        Start::Ready(CallEnd::Reply(bytes)) => assert_eq!(&*bytes, b"null"),
        _ => panic!("expected bytes"),
    }
    plugin.restore(1, &plugin.snapshot_of(1).unwrap()).unwrap();
}

#[test]
fn a_panic_while_encoding_or_decoding_stays_in_the_plugin() {
    let plugin = Harness::start::<Odd>();
    let error = plugin.snapshot().unwrap_err();
    assert_eq!(error.code(), "panicked");
    assert!(error.message().contains("no bytes of mine"), "{error}");
    let error = plugin.restore(2, &json!({})).unwrap_err();
    assert_eq!(error.code(), "panicked");
    assert!(error.message().contains("no value of mine"), "{error}");
}

#[test]
fn snapshots_and_restores_run_inside_the_plugins_runtime() {
    use tokio::{runtime::Handle, time};

    #[derive(Default)]
    struct Sockets;

    #[plugin(name = "sockets", runtime)]
    impl Sockets {
        #[snapshot]
        async fn snapshot(&self, _: &Context) -> Result<bool> {
            time::sleep(Duration::from_millis(1)).await;
            Ok(Handle::try_current().is_ok())
        }

        #[restore]
        async fn restore(&self, _: &Context, inside: bool) -> Result<()> {
            time::sleep(Duration::from_millis(1)).await;
            assert_eq!(Handle::try_current().is_ok(), inside);
            Ok(())
        }
    }

    let plugin = Harness::start::<Sockets>();
    let (version, inside) = plugin.snapshot().unwrap();
    assert_eq!(inside, json!(true));
    plugin.restore(version, &inside).unwrap();
}
