//! A supervisor whose plugins are scripts: no library, no child process, and a clock that the test
//! moves.
//!
//! Each step of a generation (describe, create, snapshot, restore, drop, vacate) is written down as
//! it begins, `create 2` for the one of version 2, and ends as the script says. Plugin code runs on
//! real dispatch workers, so a test waits for what they have reached, and moves the clock only for
//! what waits for time.

mod instance;
mod script;

use std::{
    future::Future,
    path::PathBuf,
    sync::{Arc, atomic::Ordering, mpsc::RecvTimeoutError},
    time::{Duration, Instant},
};

use ksi_kept::KeptResources;
use ksi_kernel::{
    event::{self, Payload},
    kernel::{Kernel, KernelLimits},
    report::Report,
    router::emit::RouterLimits,
    session::SessionLimits,
};
use tokio::{runtime::Handle, task::JoinHandle, time::advance};

use self::instance::{ENDED, FakeResidence};
pub(super) use self::script::{Act, Script};
use super::{
    Deployed, Parts, Supervisor,
    checkpoint::{Checkpoint, CheckpointPolicy},
    origin::{Origin, Prepared},
    quarantine::Quarantine,
    restart::{RestartPolicy, RestartWhen},
    retry::RetryPolicy,
};
use crate::{
    history::{FOLDER, History},
    plugin::{
        announce::Announcer,
        file::{
            copy::{Places, PrivateDir, SourceFile},
            kind::Original,
            trust::Trust,
        },
        instance::{
            configs::Configs,
            info::{Timings, Tried},
            residence::ProcessEnd,
        },
        lifecycle::{
            activate::Activation,
            contracts::OnBreak,
            error::DeployError,
            policy::{Policies, Policy},
            prepare::{Candidate, Preparation},
            retire::Retirer,
            retired::RetiredState,
        },
        probe::prober::NoProber,
        python::modules::{Modules, PythonSettings},
        state::snapshot::Snapshot,
        worker::{
            down::Down,
            link::{Health, LinkLimits},
            process::Processes,
            residence::{ProcessResidences, Spawner, WorkerPolicies, WorkerPolicy},
        },
    },
    start_up::StartUp,
    stopping::StopHandle,
    system::own_thread::OwnThread,
};

/// The one plugin that there is, and the event that it answers with its version.
pub(super) const NAME: &str = "fake";
const EVENT: &str = "fake:which";
/// Longer than any test takes, by the real clock.
const PATIENCE: Duration = Duration::from_secs(60);

/// A supervisor, what its plugins do, and the clock.
pub(super) struct Stage {
    pub(super) supervisor: Arc<Supervisor>,
    pub(super) script: Arc<Script>,
    pub(super) stop: StopHandle,
    copies: PrivateDir,
    file: PathBuf,
    exclusive: bool,
    isolated: bool,
    // While somebody blocks, the clock stands still unless it is moved.
    _standing: std::sync::mpsc::Sender<()>,
    _folder: tempfile::TempDir,
}

/// What would start processes, if somebody needed one.
fn spawner(router: &Arc<ksi_kernel::router::Router>) -> Spawner {
    let (downs, _) = tokio::sync::mpsc::unbounded_channel();
    Spawner {
        processes: Processes::new(),
        router: router.clone(),
        open_limit: Duration::from_secs(1),
        shutdown: Duration::from_secs(1),
        link: LinkLimits { frame: 1 << 20, payload: 1 << 20, state: 1 << 20, asks: 10 },
        limits: Default::default(),
        clock_zero: 0,
        levels: crate::log_levels::LogLevels::of_subscriber(),
        downs,
    }
}

impl Stage {
    /// The same with plugins in processes of their own, whose state is taken every 30 s.
    pub(super) fn isolated(exclusive: bool) -> Self {
        Stage { isolated: true, ..Stage::new(exclusive) }
    }

    /// Nothing is live. In a test with `start_paused`.
    pub(super) fn new(exclusive: bool) -> Self {
        let script = Arc::<Script>::default();
        let _ = script.runtime.set(Handle::current());
        let (standing, stands) = std::sync::mpsc::channel::<()>();
        let late = script.clone();
        tokio::task::spawn_blocking(move || {
            if stands.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                late.late.send_replace(true);
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let private = |name| PrivateDir::create(Places::of_process(Some(folder.path().join(name))));
        let file = folder.path().join("fake.so");
        let router = RouterLimits {
            queued_events: 100,
            queued_bytes: 1 << 20,
            subscriber_bytes: 1 << 20,
            event_depth: 8,
            payload_bytes: 1 << 20,
            timeout: Duration::from_secs(30),
            recorder: Default::default(),
        };
        let (workers, blocking_threads, waiting_bytes) = (2, 4, 1 << 20);
        let limits = KernelLimits { workers, blocking_threads, waiting_bytes, router };
        let router = Kernel::start(limits, Handle::current()).unwrap().router;
        let policy = Policy {
            drain: Duration::from_secs(1),
            hold: Duration::from_secs(5),
            keep_calls: false,
            probation: Duration::ZERO,
            margin: 0.1,
            min_calls: 10,
            exclusive,
            trial: false,
        };
        let policies: Policies = Arc::new(move |_| policy);
        let (stop, start_up) = (StopHandle::new(), StartUp::begin());
        let trust = Trust::new(&[], None);
        let spawner = Arc::new(spawner(&router));
        let host_dir = Arc::new(private("host").unwrap());
        let settings = PythonSettings {
            interpreter: "python3".into(),
            spare: false,
            keep: Default::default(),
            limit: Duration::from_secs(1),
            installer: None,
            environments: None,
            path: Vec::new(),
        };
        let modules = Modules::new(settings, host_dir.clone(), spawner.clone(), None);
        let modules = Arc::new(modules);
        let in_host: WorkerPolicies = Arc::new(|_| WorkerPolicy {
            isolated: false,
            limited: false,
            group: Default::default(),
            health: Health { stuck: Duration::from_secs(1) },
            sandbox: serde_json::Value::Null,
            confined: None,
        });
        let announcer = Announcer::new(router.clone(), History::in_memory());
        let supervisor = Supervisor::new(Parts {
            thread: OwnThread::on(Handle::current()),
            preparation: Preparation::new(
                host_dir,
                Err(NoProber::DoesNotAnswer),
                modules.clone(),
                trust,
                Arc::new(|_| serde_json::Value::Null),
                1 << 20,
            ),
            activation: Activation {
                router: router.clone(),
                init_timeout: Duration::from_secs(10),
                limits: SessionLimits {
                    background_tasks: 10,
                    subscriptions: 10,
                    watched_events: 100,
                    held_events: 100,
                    held_bytes: 1 << 20,
                },
                resources: KeptResources::new(1),
                epoch: Instant::now(),
                levels: spawner.levels.clone(),
                configs: Configs::new(Default::default()),
                policies: policies.clone(),
                isolation: ProcessResidences {
                    spawner: spawner.clone(),
                    native: None,
                    policies: in_host,
                },
                modules: modules.clone(),
                journal: None,
            },
            retirer: Retirer::new(
                router,
                policies.clone(),
                Duration::from_secs(1),
                None,
                announcer.clone(),
            ),
            persistence: None,
            policies,
            contracts: Arc::new(|_, _, _| OnBreak::Refuse),
            recovery: RetryPolicy {
                first: Duration::from_secs(1),
                longest: Duration::from_secs(1),
                attempts: 0,
                after_rollback: Duration::from_secs(1),
            },
            quarantine: Quarantine::default(),
            kept_versions: 1,
            restarts: Arc::new(|_| RestartPolicy {
                when: RestartWhen::OnCrash,
                intensity: 5,
                period: Duration::from_secs(60),
                longest_wait: Duration::from_secs(1),
                checkpoint: CheckpointPolicy::Every(Duration::from_secs(30)),
            }),
            announcer,
            stop: stop.clone(),
            start_up,
        });
        let supervisor = Arc::new(supervisor);
        let copies = private("copies").unwrap();
        let (_standing, _folder) = (standing, folder);
        let isolated = false;
        Stage { supervisor, script, stop, copies, file, exclusive, isolated, _standing, _folder }
    }

    /// What a file of this version is after all that comes before a deployment.
    fn candidate(&self, version: u32) -> Candidate {
        std::fs::write(&self.file, version.to_string()).unwrap();
        let source = SourceFile::open(&self.file, 1 << 20).unwrap();
        let (copy, _) = self.copies.copy(&source, &Original::of(&self.file)).unwrap();
        let manifest = serde_json::from_value(serde_json::json!({
            "format": 1, "name": NAME, "version": version.to_string(), "built": "native",
            "crate": NAME, "header": "", "abi": 4, "rustc": "", "target": "", "panic": "unwind", "emits": [], "requires": [],
            "runtime": false, "exclusive": self.exclusive, "trial": false,
            "state": { "writes": [1], "restores": [1] },
            "handlers": [{
                "name": "which", "subscriptions": [EVENT], "priority": 0, "timeout_ms": 0,
                "blocking": false,
            }],
        }));
        let (script, isolated, references) = (self.script.clone(), self.isolated, Arc::default());
        let residence = FakeResidence { version, script, isolated, references };
        Candidate {
            file: self.file.clone(),
            copy,
            manifest: manifest.unwrap(),
            description: None,
            tried: Tried::Passed,
            residence: Some(Box::new(residence)),
            timings: Timings::default(),
        }
    }

    /// Begins to deploy a version.
    pub(super) fn deploy(&self, version: u32) -> JoinHandle<Result<Deployed, DeployError>> {
        let prepared = Prepared::Candidate(Box::new(self.candidate(version)));
        let (supervisor, script) = (self.supervisor.clone(), self.script.clone());
        tokio::spawn(async move {
            let deployed = supervisor.finish(prepared, Origin::File(FOLDER));
            script.unless_late(&format!("version {version} is not deployed"), deployed).await
        })
    }

    /// The process of the live version ends, and the supervisor is told.
    pub(super) fn process_ends(&self, by_its_will: bool) {
        let down = {
            let registry = self.supervisor.registry();
            let live = registry.plugins.get(NAME).and_then(|plugin| plugin.live.as_ref());
            let live = live.expect("one is live");
            let version: u32 = live.info.manifest.version.parse().expect("a number");
            let ended = self.script.ended_processes.lock().get(&version).cloned();
            ended.expect("it has an instance").store(true, Ordering::Release);
            let services = Arc::downgrade(&live.services);
            let end = ProcessEnd { why: ENDED.to_owned(), by_its_will };
            Down::found(services, live.info.plugin.clone(), live.info.number, end)
        };
        tokio::spawn(self.supervisor.clone().after_end(down));
    }

    /// What the live version had is kept in memory.
    pub(super) fn takes_checkpoint(&self) {
        let snapshot = Snapshot::new(1, Payload::from_json_bytes(b"1".to_vec()));
        let mut registry = self.supervisor.registry();
        let plugin = registry.plugins.get_mut(NAME).expect("it is known");
        plugin.checkpoint = Some(Checkpoint::at_first(snapshot, Instant::now()));
    }

    /// Emits an event that the live version answers.
    pub(super) fn ask(&self) -> JoinHandle<Report> {
        let event = event::of_host(EVENT, Payload::from_json_bytes(b"{}".to_vec()));
        let (router, script) = (self.supervisor.router.clone(), self.script.clone());
        tokio::spawn(
            async move { script.unless_late("nobody answers", router.emit(event, None)).await },
        )
    }

    /// The version that answers now.
    pub(super) async fn live(&self) -> Option<u32> {
        version_of(&self.ask().await.unwrap())
    }

    /// Waits for something while time passes, a little at a time.
    pub(super) async fn in_time<T>(&self, what: impl Future<Output = T>) -> T {
        self.in_steps(Duration::from_millis(50), what).await
    }

    /// The same in such steps. Before each the dispatch workers get a few real milliseconds. It
    /// gives up after two thousand.
    pub(super) async fn in_steps<T>(&self, step: Duration, what: impl Future<Output = T>) -> T {
        let mut what = std::pin::pin!(what);
        for _ in 0..2_000 {
            for _ in 0..20 {
                tokio::select! {
                    biased;
                    done = &mut what => return done,
                    // What they do takes real time, and none of the clock's.
                    () = real_moment() => {}
                }
            }
            advance(step).await;
        }
        panic!("it does not come to be; begun were {:?}", self.script.steps());
    }

    /// Some moments in which other threads may come to run, without the clock.
    pub(super) async fn moments(&self) {
        for _ in 0..20 {
            real_moment().await;
        }
    }

    /// Waits until every generation that was let go is gone.
    pub(super) async fn all_retired(&self) {
        self.in_time(self.supervisor.departures.retirements.wait()).await;
    }

    /// What has become of the generations before the live one.
    pub(super) fn retired(&self) -> Vec<RetiredState> {
        let registry = self.supervisor.registry();
        let retired = registry.plugins.get(NAME).map(|plugin| plugin.retired.iter());
        retired.into_iter().flatten().map(|it| it.state()).collect()
    }
}

/// A moment in which other threads may come to run.
async fn real_moment() {
    tokio::task::yield_now().await;
    std::thread::sleep(Duration::from_micros(250));
}

/// Who has answered.
pub(super) fn version_of(report: &Report) -> Option<u32> {
    let reply = report.replies().next()?;
    std::str::from_utf8(reply.as_json()).ok()?.parse().ok()
}
