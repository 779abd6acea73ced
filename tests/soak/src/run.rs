//! The run: idle, then load without reloads and with ten a second by turns, then with as many as
//! go.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use ksi_wire::module::{Overview, RetiredState};
use tokio::{sync::Notify, task::JoinHandle};

use crate::{
    bare::Beside,
    clients::{Clients, LOST, Numbers, emit, ending},
    error::SoakError,
    findings::{Ended, Findings},
    gate::Flow,
    killer::Killer,
    lane::{Kind, Lane},
    latency::Phase,
    ledger::Client,
    measured::Measured,
    memory::Sample,
    options::Options,
    plan::{self, Plan},
    processor::Processor,
    reloader::{File, Reloader, Tally},
    roles::Role,
    running::{Running, until},
};

/// Reloads of the idle host.
const IDLE: u64 = 250;
/// Reloads under load that are held against a bare copy and open.
const BESIDE: u64 = 100;
/// Pairs of a stretch without reloads and one with ten a second: by turns, so that a machine that
/// gets slower or faster meanwhile does so for both.
const PAIRS: u32 = 4;
/// The longest stretch.
const STRETCH: Duration = Duration::from_secs(5);
/// Ten a second.
const PACE: Duration = Duration::from_millis(100);
/// Before anything is measured under load.
const WARM_UP: Duration = Duration::from_secs(1);
/// Every so many files come all at once, one for each plugin.
const TOGETHER: u64 = 16;
/// How often memory is looked at while the reloads go as fast as they can.
const SAMPLES: u64 = 100;
/// How long what must come to rest may take to.
const SETTLED: Duration = Duration::from_secs(30);

/// A run under way.
pub(crate) struct Run {
    running: Running,
    /// Files that are to be put in place under load.
    wanted: u64,
    deadline: Option<Instant>,
    /// How often a process is killed on average, and what the choices begin with.
    kills: Option<(Duration, u64)>,
    reloaders: Vec<(Reloader, Plan)>,
    next: usize,
    measured: Measured,
}

impl Run {
    pub(crate) fn new(running: Running, options: &Options) -> Result<Self, SoakError> {
        let wanted = u64::from(options.reloads);
        let roles = plan::REPLACED.into_iter();
        let reloaders = roles.map(|role| (Reloader::new(&running, role), Plan::new(role)));
        Ok(Run {
            reloaders: reloaders.collect(),
            running,
            wanted,
            deadline: options.limit().map(|limit| Instant::now() + limit),
            kills: options.kill_every.map(|every| (every, options.seed)),
            next: 0,
            measured: Measured::new(idle(wanted), beside(wanted))?,
        })
    }

    /// Runs all of it, and gives what it found out. A reload without an end breaks the run off, and
    /// is a finding too.
    pub(crate) async fn finish(mut self, numbers: Numbers) -> Result<Findings, SoakError> {
        let (stage, before) = (self.running.stage.clone(), Processor::now());
        say("idle: from the rename of a file to the first answer of its code");
        let idle = self.idle().await;
        let clients = Clients::start(&stage, numbers, &self.running.socket()).await?;
        stage.gate.open();
        let broken = match idle {
            Ok(()) => self.under_load().await.err(),
            Err(error) => Some(error),
        };
        stage.ledger.latency.enter(Phase::Between);
        if !stage.gate.halt(Flow::Over, LOST * 2).await {
            say("not every request has ended");
        }
        let lanes = clients.ended().await;
        self.rest().await;
        self.reloaders.iter_mut().for_each(|(reloader, _)| reloader.look_for_more_refusals());
        let others = Processor::now().others_since(before);
        let ended = Ended { tally: self.tally(), wanted: self.wanted, broken, others };
        Findings::gather(self.running, lanes, ended, self.measured).await
    }

    async fn under_load(&mut self) -> Result<(), SoakError> {
        tokio::time::sleep(WARM_UP.min(self.stretch())).await;
        for pair in 1..=PAIRS {
            say(&format!("under load, without reloads and with ten a second: {pair} of {PAIRS}"));
            self.stretch_without().await;
            self.stretch_with().await?;
        }
        say("under load, reloads beside a bare copy and open");
        self.beside().await?;
        say("under load, as many reloads as go");
        self.as_many_as_go().await
    }

    async fn idle(&mut self) -> Result<(), SoakError> {
        let quick = self.reloaders.iter_mut().find(|(it, _)| it.role() == Role::Quick);
        let Some((reloader, _)) = quick else { return Ok(()) };
        let look = Look::start(&self.running);
        for _ in 0..idle(self.wanted) {
            let took = reloader.replace(File::Good).await?;
            if let Some(took) = took {
                self.measured.idle.record(took);
                let inspected = self.running.inspect(Role::Quick).await;
                self.measured.idle_steps.add(&inspected.timings_ms)?;
            }
            // So that the host has come to rest: what went before is let go after the swap.
            tokio::time::sleep(Duration::from_millis(5)).await;
            if let Some(took) = took {
                bare(&mut self.measured.idle_beside, took, reloader).await?;
            }
            if self.deadline.is_some_and(|deadline| Instant::now() > deadline) {
                break;
            }
        }
        // These were not under load, and are counted apart.
        self.measured.idle_reloads = std::mem::take(&mut reloader.tally).done;
        look.end().await;
        Ok(())
    }

    /// How long a stretch may be.
    fn stretch(&self) -> Duration {
        let files = PACE * u32::try_from(self.wanted).unwrap_or(u32::MAX) / PAIRS / 2;
        let time =
            self.deadline.map(|it| it.saturating_duration_since(Instant::now()) / (PAIRS * 4));
        STRETCH.min(files).min(time.unwrap_or(STRETCH))
    }

    async fn stretch_without(&mut self) {
        let (stage, begun) = (self.running.stage.clone(), Instant::now());
        let asked = stage.ledger.asked();
        stage.ledger.latency.enter(Phase::Quiet);
        tokio::time::sleep(self.stretch()).await;
        stage.ledger.latency.enter(Phase::Between);
        self.measured.quiet.add(stage.ledger.asked() - asked, 0, begun.elapsed());
    }

    async fn stretch_with(&mut self) -> Result<(), SoakError> {
        let (stage, begun, stretch) = (self.running.stage.clone(), Instant::now(), self.stretch());
        let (asked, files) = (stage.ledger.asked(), self.tally().files());
        let mut pace = tokio::time::interval(PACE);
        stage.ledger.latency.enter(Phase::Paced);
        while begun.elapsed() < stretch {
            pace.tick().await;
            if let Some(role) = self.one().await? {
                let inspected = self.running.inspect(role).await;
                let timings = &inspected.timings_ms;
                match role {
                    Role::Heavy => self.measured.held_steps.add(timings)?,
                    role if !role.keeps_state() => self.measured.loaded_steps.add(timings)?,
                    _ => {}
                }
            }
        }
        stage.ledger.latency.enter(Phase::Between);
        let files = self.tally().files() - files;
        self.measured.paced.add(stage.ledger.asked() - asked, files, begun.elapsed());
        Ok(())
    }

    /// Reloads of the plugin without state, by turns with what they are held against.
    async fn beside(&mut self) -> Result<(), SoakError> {
        let (wanted, deadline) = (self.wanted, self.deadline);
        let quick = self.reloaders.iter_mut().find(|(it, _)| it.role() == Role::Quick);
        let Some((reloader, _)) = quick else { return Ok(()) };
        for _ in 0..beside(wanted) {
            if let Some(took) = reloader.replace(File::Good).await? {
                bare(&mut self.measured.loaded_beside, took, reloader).await?;
            }
            if deadline.is_some_and(|deadline| Instant::now() > deadline) {
                break;
            }
        }
        Ok(())
    }

    async fn as_many_as_go(&mut self) -> Result<(), SoakError> {
        let ledger = self.running.stage.ledger.clone();
        let _killer = self.kills.map(|(every, seed)| Killer::start(every, seed, ledger.clone()));
        let apart = (self.wanted / SAMPLES).max(1);
        let mut next_sample = 0;
        while self.tally().files() < self.wanted && !self.is_late() {
            let files = self.tally().files();
            if files >= next_sample {
                self.sample(files).await;
                next_sample = files + apart;
            }
            ledger.latency.enter(Phase::Fast);
            match files % TOGETHER {
                0 => self.all_at_once().await?,
                _ => drop(self.one().await?),
            }
        }
        ledger.latency.enter(Phase::Between);
        self.sample(self.tally().files()).await;
        Ok(())
    }

    /// One file for the plugin whose turn it is; that plugin, if it has new code now.
    async fn one(&mut self) -> Result<Option<Role>, SoakError> {
        let count = self.reloaders.len();
        let (reloader, plan) = &mut self.reloaders[self.next % count];
        self.next += 1;
        let role = reloader.role();
        let took = reloader.replace(plan.next()).await?;
        if let Some(took) = took.filter(|_| !role.keeps_state()) {
            self.measured.loaded.record(took);
        }
        Ok(took.map(|_| role))
    }

    async fn all_at_once(&mut self) -> Result<(), SoakError> {
        let each = self.reloaders.iter_mut();
        let replaced = each.map(|(reloader, plan)| reloader.replace(plan.next()));
        join_all(replaced).await.into_iter().try_for_each(|replaced| replaced.map(drop))
    }

    /// Looks at memory while nothing is under way.
    async fn sample(&mut self, files: u64) {
        let stage = self.running.stage.clone();
        stage.ledger.latency.enter(Phase::Between);
        if stage.gate.halt(Flow::Halt, LOST * 2).await {
            self.rest().await;
            self.measured.samples.push(Sample::now(files));
        }
        stage.gate.open();
    }

    /// Waits until no generation is on its way out.
    async fn rest(&self) {
        let is_out = |module: &Overview| {
            module.retired.iter().all(|old| old.state != RetiredState::Draining)
        };
        let at_rest = || async { self.running.modules().await.iter().all(is_out) };
        if !until(SETTLED, at_rest).await {
            say(&format!("some generations are not gone after {SETTLED:?}"));
        }
    }

    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() > deadline)
    }

    fn tally(&self) -> Tally {
        let mut sum = Tally::default();
        self.reloaders.iter().for_each(|(reloader, _)| sum.add(reloader.tally));
        sum
    }
}

/// Reloads of the idle host in a run with so many under load.
fn idle(wanted: u64) -> u64 {
    IDLE.min(wanted.max(20))
}

/// Reloads under load beside a bare copy and open, of so many.
fn beside(wanted: u64) -> u64 {
    BESIDE.min(wanted / 10)
}

/// Copies and opens the file that was just loaded, for a reload that took so long.
async fn bare(beside: &mut Beside, took: Duration, of: &Reloader) -> Result<(), SoakError> {
    let failed = |source| SoakError::File { path: of.file().to_owned(), source };
    beside.turn(took, of.file()).await.map_err(failed)
}

/// Says where the run is.
fn say(text: &str) {
    eprintln!("{text}");
}

/// Asks `quick` as soon as something is announced, and every now and then, to see at once when
/// other code answers.
struct Look {
    over: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Look {
    fn start(running: &Running) -> Self {
        /// Between two questions: a look must not be load.
        const PAUSE: Duration = Duration::from_millis(1);
        let over = Arc::new(Notify::new());
        let (stage, ended) = (running.stage.clone(), over.clone());
        let mut announced = running.announced.clone();
        let task = tokio::spawn(async move {
            let mut lane = Lane::new(0, Client::Embedding, Kind::Look);
            loop {
                let request = lane.next(&stage.ledger);
                let began = Instant::now();
                let report = emit(&stage.host, &request.event, &request.ask).await;
                lane.ended(&request, ending(&report), began.elapsed(), &stage.ledger);
                tokio::select! {
                    () = ended.notified() => return,
                    () = announced.changed() => {}
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
        });
        Look { over, task }
    }

    async fn end(self) {
        self.over.notify_one();
        // It has nothing to give.
        let _ = self.task.await;
    }
}
