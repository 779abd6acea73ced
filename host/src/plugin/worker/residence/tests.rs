use std::time::Instant;

use ksi_kernel::{
    kernel::{Kernel, KernelLimits},
    router::emit::RouterLimits,
};
use ksi_worker_protocol::FRAME_LIMIT;
use tokio::runtime::Handle;

use super::*;

#[tokio::test]
async fn a_process_that_does_not_say_what_it_has_opened_is_not_waited_for_longer_than_it_may() {
    let router = RouterLimits {
        queued_events: 9,
        queued_bytes: 1 << 20,
        subscriber_bytes: 1 << 20,
        event_depth: 9,
        payload_bytes: 1 << 20,
        timeout: Duration::from_secs(20),
    };
    let limits = KernelLimits { workers: 1, blocking_threads: 1, waiting_bytes: 1 << 20, router };
    let router = Kernel::start(limits, Handle::current()).unwrap().router;
    // It never says anything.
    let (processes, program) =
        (Processes::new(), Program::with_argument("/bin/sleep".into(), "1000"));
    let (downs, _ends) = tokio::sync::mpsc::unbounded_channel();
    let spawner = Arc::new(Spawner {
        processes: processes.clone(),
        router,
        open_limit: Duration::from_millis(100),
        shutdown: Duration::from_secs(1),
        link: LinkLimits { frame: FRAME_LIMIT, payload: 1 << 20, state: 1 << 20, asks: 9 },
        limits: life::Limits::default(),
        clock_zero: 0,
        downs,
    });
    let policy = WorkerPolicy {
        isolated: true,
        limited: false,
        health: Health { stuck: Duration::from_secs(20) },
        group: GroupPolicy::default(),
        sandbox: serde_json::Value::Null,
        confined: None,
    };
    let manifest = serde_json::from_value(serde_json::json!({
        "format": 1, "name": "p", "version": "1", "built": "native", "crate": "p", "header": "", "abi": 4,
        "rustc": "", "target": "", "panic": "unwind", "handlers": [], "emits": [], "requires": [],
        "state": null, "runtime": false, "exclusive": false, "trial": false,
    }));
    let (manifest, began): (Manifest, _) = (manifest.unwrap(), Instant::now());
    let (copy, file) = (Path::new("/copy.so"), Path::new("/p.so"));
    let told = life::Open::default();
    let launch = Launch { program: program.into(), spares: None, told };
    let opened = WorkerResidence::open(&spawner, policy, launch, copy, file, &manifest).await;
    let NotOpened { reason, may_pass } = opened.err().expect("it is not opened");
    assert_eq!(reason, "it was not opened within 100ms (timeouts.probe)");
    assert!(may_pass, "it may be quicker another time");
    assert!(began.elapsed() < Duration::from_secs(10));
    // It is not left behind.
    processes.end().await;
}
