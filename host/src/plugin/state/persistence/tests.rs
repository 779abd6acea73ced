use std::sync::OnceLock;

use ksi_abi::Description;
use ksi_kernel::{
    kernel::{Kernel, KernelLimits},
    lock::Lock,
    router::emit::RouterLimits,
};
use ksi_plugin_api::{__private::testing, Context, Result, plugin};
use tokio::runtime::Handle;

use super::*;
use crate::{
    history::History,
    plugin::{
        file::manifest::Manifest,
        instance::{
            configs::PluginConfig,
            info::{Timings, Tried},
            library,
            library_body::LibraryBody,
        },
        probe::trial::TrialHost,
    },
};

/// Its snapshot does not return before this says so.
static RELEASED: OnceLock<()> = OnceLock::new();

struct Fake {
    stuck: bool,
}

#[plugin(name = "fake")]
impl Fake {
    #[initialize]
    async fn initialize(_: &Context, stuck: bool) -> Result<Self> {
        Ok(Fake { stuck })
    }

    #[snapshot]
    async fn snapshot(&self, _: &Context) -> Result<u32> {
        if self.stuck {
            RELEASED.wait();
        }
        Ok(1)
    }

    #[restore]
    async fn restore(&self, _: &Context, _: u32) -> Result<()> {
        Ok(())
    }
}

async fn instance(config: &[u8]) -> Box<dyn Body> {
    let host = TrialHost::host("a.so".into(), Handle::current());
    let created = library::create(testing::module::<Fake>(), host, config).await;
    let created = created.unwrap_or_else(|_| panic!("it is made"));
    Box::new(LibraryBody::new(created, None))
}

fn info(plugin: &str) -> GenerationInfo {
    let manifest: Manifest = serde_json::from_value(serde_json::json!({
        "format": 1, "name": plugin, "version": "1", "built": "native", "crate": plugin,
        "header": "ksi_plugin_fake", "abi": 4, "rustc": "", "target": "", "panic": "unwind",
        "handlers": [], "emits": [], "requires": [], "runtime": false, "exclusive": false,
        "trial": true, "state": { "writes": [1], "restores": [1] },
    }))
    .unwrap();
    GenerationInfo {
        plugin: plugin.into(),
        number: 1,
        manifest,
        description: Description::default(),
        config: Lock::new(PluginConfig::nothing()),
        tried: Tried::Passed,
        file: "a.so".into(),
        hash: blake3::hash(b""),
        handlers: Default::default(),
        timings: Timings::default(),
        hand_over: Default::default(),
    }
}

/// What keeps state in this folder, and what it needs of a host.
fn persistence(folder: &std::path::Path) -> (Arc<Persistence>, Arc<Router>) {
    let dir = StateDir::open(folder.join("state"), 1 << 20).unwrap();
    let limits = RouterLimits {
        queued_events: 1,
        queued_bytes: 1 << 20,
        subscriber_bytes: 1 << 20,
        event_depth: 1,
        payload_bytes: 1 << 20,
        timeout: Duration::from_secs(1),
        recorder: Default::default(),
    };
    let (workers, blocking_threads, waiting_bytes) = (1, 1, 1 << 20);
    let limits = KernelLimits { workers, blocking_threads, waiting_bytes, router: limits };
    let router = Kernel::start(limits, Handle::current()).unwrap().router;
    (Arc::new(Persistence::new(dir, Announcer::new(router.clone(), History::in_memory()))), router)
}

#[tokio::test]
async fn what_was_asked_for_before_another_snapshot_knows_no_more_although_it_is_written_after_it()
{
    let folder = tempfile::tempdir().unwrap();
    let (persistence, _router) = persistence(folder.path());
    let (info, limit) = (info("a"), Duration::from_secs(5));
    let snapshot = |asked, json: &[u8]| {
        let bytes = Payload::from_json_bytes(json.to_vec());
        Some(Snapshot { asked, ..Snapshot::new(1, bytes) })
    };
    let before = Instant::now();
    let [checkpoint, after] = [1, 2].map(|step| before + Duration::from_millis(step));
    assert!(!persistence.knows_more_than("a", checkpoint), "nothing is kept");
    persistence.keep_released(&info, snapshot(before, b"1"), limit).await;
    assert!(persistence.kept("a").is_some() && !persistence.knows_more_than("a", checkpoint));
    persistence.keep_released(&info, snapshot(after, b"2"), limit).await;
    assert!(persistence.knows_more_than("a", checkpoint));
}

#[tokio::test]
async fn a_snapshot_that_does_not_return_keeps_no_other_plugin_from_keeping_its_state() {
    let folder = tempfile::tempdir().unwrap();
    let (persistence, router) = persistence(folder.path());
    let hangs = {
        let (persistence, router, stuck) =
            (persistence.clone(), router.clone(), instance(b"true").await);
        tokio::spawn(async move { persistence.keep_last(&router, &info("a"), stuck).await })
    };
    // It has its lock by then.
    tokio::task::yield_now().await;
    let good = instance(b"false").await;
    let (a, b) = (info("a"), info("b"));
    let kept = persistence.keep_last(&router, &b, good);
    let good = timeout(Duration::from_secs(5), kept).await;
    assert!(good.is_ok() && !hangs.is_finished());
    assert!(persistence.kept("b").is_some() && persistence.kept("a").is_none());
    let _ = RELEASED.set(());
    let _ = hangs.await;
    assert!(persistence.kept(&a.plugin).is_some());
}
