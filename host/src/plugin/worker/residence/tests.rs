use std::time::Instant;

use ksi_kernel::{
    kernel::{Kernel, KernelLimits},
    router::emit::RouterLimits,
};
use ksi_worker_protocol::FRAME_LIMIT;
use tokio::runtime::Handle;

use super::*;

/// What processes are started with, of a host with one dispatch worker.
fn spawner(processes: &Arc<Processes>) -> Arc<Spawner> {
    let router = RouterLimits {
        queued_events: 9,
        queued_bytes: 1 << 20,
        subscriber_bytes: 1 << 20,
        event_depth: 9,
        payload_bytes: 1 << 20,
        timeout: Duration::from_secs(20),
        recorder: Default::default(),
    };
    let limits = KernelLimits { workers: 1, blocking_threads: 1, waiting_bytes: 1 << 20, router };
    let router = Kernel::start(limits, Handle::current()).unwrap().router;
    let (downs, _ends) = tokio::sync::mpsc::unbounded_channel();
    Arc::new(Spawner {
        processes: processes.clone(),
        router,
        open_limit: Duration::from_millis(100),
        shutdown: Duration::from_secs(1),
        link: LinkLimits { frame: FRAME_LIMIT, payload: 1 << 20, state: 1 << 20, asks: 9 },
        limits: life::Limits::default(),
        clock_zero: 0,
        levels: crate::log_levels::LogLevels::of_subscriber(),
        downs,
    })
}

/// The processes that this one has started with such an argument.
fn started_with(argument: &str) -> usize {
    let read = |path: std::path::PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(Result::unwrap);
    let children = tasks.map(|task| read(task.path().join("children"))).collect::<String>();
    let line = |pid: &str| read(format!("/proc/{pid}/cmdline").into());
    children.split_whitespace().filter(|pid| line(pid).contains(argument)).count()
}

#[tokio::test]
async fn one_process_waits_however_many_have_asked_for_one_at_a_time() {
    const ARGUMENT: &str = "1000.25";
    let (processes, program) =
        (Processes::new(), Program::with_argument("/bin/sleep".into(), ARGUMENT));
    let spares = Spares::new(spawner(&processes), program.into());
    let mut taken = Vec::new();
    for _ in 0..40 {
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..20_000).for_each(|_| spares.refill()));
            }
        });
        taken.extend(spares.take());
    }
    for link in &taken {
        link.process().kill("it is not needed");
        link.process().death().await;
    }
    // One more may be on its way.
    spares.refill();
    tokio::time::timeout(Duration::from_secs(20), async {
        while started_with(ARGUMENT) == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .expect("one waits");
    assert_eq!(started_with(ARGUMENT), 1);
    processes.end().await;
}

#[tokio::test]
async fn a_process_that_does_not_say_what_it_has_opened_is_not_waited_for_longer_than_it_may() {
    // It never says anything.
    let (processes, program) =
        (Processes::new(), Program::with_argument("/bin/sleep".into(), "1000"));
    let spawner = spawner(&processes);
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
