//! A supervisor whose plugins are scripts: no library, no child process, and a clock that the test
//! moves.
//!
//! Each step of a generation (describe, create, snapshot, restore, drop, vacate) is written down as
//! it begins, `create 2` for the one of version 2, and ends as the script says. Plugin code runs on
//! real dispatch workers, so a test waits for what they have reached, and moves the clock only for
//! what waits for time.

use std::{
    collections::{BTreeMap, VecDeque},
    future::Future,
    path::PathBuf,
    sync::{Arc, MutexGuard, OnceLock, mpsc::RecvTimeoutError},
    task::Context,
    time::{Duration, Instant},
};

use ksi_abi::{Buffer, CallEnd, Counted, Description, ReplyForm};
use ksi_kernel::{
    call::Started,
    event::{self, Event, Payload},
    kernel::{Kernel, KernelLimits},
    lock::Lock,
    report::{OutcomeKind, Report},
    router::emit::RouterLimits,
    session::{SessionLimits, SessionWatch},
    value::Keeper,
};
use tokio::{runtime::Handle, sync::watch, task::JoinHandle, time::advance};

use super::{
    Deployed, Parts, Supervisor,
    checkpoint::CheckpointPolicy,
    origin::{Origin, Prepared},
    quarantine::Quarantine,
    restart::{RestartPolicy, RestartWhen},
    retry::RetryPolicy,
};
use crate::{
    plugin::{
        file::{
            copy::{Places, PrivateDir, SourceFile},
            trust::Trust,
        },
        instance::{
            body::{Answer, Body, Unused},
            configs::{Configs, PluginConfig},
            info::{Timings, Tried},
            kept_resources::KeptResources,
            live::{FirstCalls, Live, LiveInstance},
            residence::{Creation, Residence, Vacated},
            services::HostServices,
            signals::Handled,
        },
        lifecycle::{
            activate::Activation,
            error::DeployError,
            policy::{Policies, Policy},
            prepare::{Candidate, Preparation},
            retire::Retirer,
            retired::RetiredState,
        },
        probe::prober::NoProber,
        python::modules::{Modules, PythonSettings},
        worker::{
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

/// How a step ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Well, which is what it does without a script.
    Well,
    /// With an error. A residence that is to be vacated stays.
    Fails,
    /// Once the test says how. A residence that is to be vacated is needed.
    Waits,
}

/// How steps end, and which have begun.
#[derive(Default)]
pub(super) struct Script {
    acts: Lock<BTreeMap<String, VecDeque<Act>>>,
    begun: watch::Sender<Vec<(String, tokio::time::Instant)>>,
    ended: watch::Sender<BTreeMap<String, Act>>,
    /// Set when the test has taken too long.
    late: watch::Sender<bool>,
    /// Whose clock tells when a step begins, also on threads that are not its own.
    runtime: OnceLock<Handle>,
    /// What instances look at, by their versions.
    pub(super) watches: Lock<BTreeMap<u32, Arc<SessionWatch>>>,
}

impl Script {
    /// The next time that a step begins it ends so.
    pub(super) fn next(&self, step: &str, act: Act) {
        self.acts().entry(step.to_owned()).or_default().push_back(act);
    }

    /// A step that waits ends.
    pub(super) fn end(&self, step: &str, act: Act) {
        self.ended.send_modify(|ended| {
            ended.insert(step.to_owned(), act);
        });
    }

    /// Waits until a step has begun.
    pub(super) async fn reached(&self, step: &str) {
        let mut begun = self.begun.subscribe();
        let reached = begun.wait_for(|begun| begun.iter().any(|(it, _)| it == step));
        let _ = self.unless_late(&format!("{step:?} has not begun"), reached).await;
    }

    /// All that have begun, in order.
    pub(super) fn steps(&self) -> Vec<String> {
        self.begun.borrow().iter().map(|(step, _)| step.clone()).collect()
    }

    /// How often a step has begun.
    pub(super) fn count(&self, step: &str) -> usize {
        self.begun.borrow().iter().filter(|(it, _)| it == step).count()
    }

    /// What passed on the clock between one time that a step began and the next.
    pub(super) fn waits_before(&self, step: &str) -> Vec<Duration> {
        let begun = self.begun.borrow();
        let at: Vec<_> = begun.iter().filter(|(it, _)| it == step).map(|(_, at)| *at).collect();
        at.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    /// Waits for something that takes real time and none of the clock's. `not` says of what does
    /// not come to be in [`PATIENCE`].
    pub(super) async fn unless_late<T>(&self, not: &str, what: impl Future<Output = T>) -> T {
        let mut late = self.late.subscribe();
        tokio::select! {
            biased;
            done = what => done,
            _ = late.wait_for(|late| *late) => {
                panic!("{not} within {PATIENCE:?}; begun were {:?}", self.steps())
            }
        }
    }

    fn begin(&self, step: &str) -> Act {
        let _clock = self.runtime.get().map(Handle::enter);
        let now = tokio::time::Instant::now();
        self.begun.send_modify(|begun| begun.push((step.to_owned(), now)));
        self.acts().get_mut(step).and_then(VecDeque::pop_front).unwrap_or(Act::Well)
    }

    /// A step that may wait; whether it ends well.
    async fn run(&self, step: &str) -> bool {
        let mut act = self.begin(step);
        if act == Act::Waits {
            let mut ended = self.ended.subscribe();
            let told = ended.wait_for(|ended| ended.contains_key(step)).await;
            act = told.map_or(Act::Fails, |ended| ended[step]);
        }
        act == Act::Well
    }

    fn acts(&self) -> MutexGuard<'_, BTreeMap<String, VecDeque<Act>>> {
        self.acts.lock()
    }
}

/// Where instances of one version are made.
struct FakeResidence {
    version: u32,
    script: Arc<Script>,
    /// Held by what refers to it.
    references: Arc<()>,
}

/// One of them.
struct FakeBody {
    version: u32,
    script: Arc<Script>,
}

impl Residence for FakeResidence {
    fn belongs_to(&self, _: &Arc<str>, _: u64) {}

    fn describe(&self) -> Result<Description, String> {
        match self.script.begin(&format!("describe {}", self.version)) {
            Act::Well => Ok(Description::default()),
            _ => Err("no description".to_owned()),
        }
    }

    fn create(&self, _: PluginConfig, services: &Arc<HostServices>) -> Creation {
        let (version, script) = (self.version, self.script.clone());
        let reference = self.references.clone();
        if let Ok(watch) = services.session().watch(&["never:emitted"], 1) {
            script.watches.lock().insert(version, Arc::new(watch));
        }
        Box::pin(async move {
            // As long as it is on its way it has the host.
            let _reference = reference;
            match script.run(&format!("create {version}")).await {
                true => Ok(Box::new(FakeBody { version, script }) as Box<dyn Body>),
                false => Err("no instance".to_owned()),
            }
        })
    }

    fn references(&self) -> usize {
        Arc::strong_count(&self.references) - 1
    }

    fn signals(&self) -> Vec<Handled> {
        Vec::new()
    }

    fn withdraw(&self) {}

    fn vacate(self: Box<Self>) -> Vacated {
        let step = format!("vacate {}", self.version);
        match self.script.begin(&step) {
            Act::Well => Vacated::Gone,
            Act::Fails => {
                let tried = self.script.count(&step);
                Vacated::Stays { cause: format!("it stays, try {tried}"), residence: self }
            }
            Act::Waits => Vacated::Needed { by: vec!["somebody".to_owned()], residence: self },
        }
    }
}

impl FakeBody {
    async fn answer(&self, step: &str) -> OutcomeKind {
        match self.script.run(&format!("{step} {}", self.version)).await {
            true => OutcomeKind::Replied(Payload::from_json_bytes(b"1".to_vec())),
            false => {
                OutcomeKind::Failed { code: "fake".into(), message: "as the script says".into() }
            }
        }
    }
}

impl Body for FakeBody {
    fn start(&self, _: u64, _: Counted<Event>, _: &ReplyForm, _: &mut Context<'_>) -> Started {
        let version = Buffer::from(&*self.version.to_string());
        Started::Ready(CallEnd::Reply(version).into())
    }

    fn snapshot(&self, _: u32) -> Answer<'_> {
        Box::pin(self.answer("snapshot"))
    }

    fn restore<'a>(&'a self, _: u32, _: &'a [u8]) -> Answer<'a> {
        Box::pin(self.answer("restore"))
    }

    fn read_back<'a>(&'a self, _: u32, _: &'a [u8]) -> Answer<'a> {
        Box::pin(async { OutcomeKind::NoReply })
    }

    fn keeper(&self) -> Option<Arc<dyn Keeper>> {
        None
    }

    fn into_live(self: Box<Self>, first_calls: FirstCalls) -> (Arc<dyn LiveInstance>, Unused) {
        let (live, unused) = Live::new(*self, first_calls);
        (live, unused)
    }
}

impl Drop for FakeBody {
    fn drop(&mut self) {
        self.script.begin(&format!("drop {}", self.version));
    }
}

/// A supervisor, what its plugins do, and the clock.
pub(super) struct Stage {
    pub(super) supervisor: Arc<Supervisor>,
    pub(super) script: Arc<Script>,
    pub(super) stop: StopHandle,
    copies: PrivateDir,
    file: PathBuf,
    exclusive: bool,
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
        downs,
    }
}

impl Stage {
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
            retirer: Retirer::new(router, policies.clone(), Duration::from_secs(1), None),
            persistence: None,
            policies,
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
                checkpoint: CheckpointPolicy::OnChange,
            }),
            stop: stop.clone(),
            start_up,
        });
        let supervisor = Arc::new(supervisor);
        let copies = private("copies").unwrap();
        let (_standing, _folder) = (standing, folder);
        Stage { supervisor, script, stop, copies, file, exclusive, _standing, _folder }
    }

    /// What a file of this version is after all that comes before a deployment.
    fn candidate(&self, version: u32) -> Candidate {
        std::fs::write(&self.file, version.to_string()).unwrap();
        let source = SourceFile::open(&self.file, 1 << 20).unwrap();
        let (copy, _) = self.copies.copy(&source, NAME).unwrap();
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
        let residence =
            FakeResidence { version, script: self.script.clone(), references: Arc::default() };
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
            let deployed = supervisor.finish(prepared, Origin::File);
            script.unless_late(&format!("version {version} is not deployed"), deployed).await
        })
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
