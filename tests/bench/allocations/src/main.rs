//! Counts what an emit allocates, in the host and in both plugins of the benchmarks, and prints it
//! as JSON.
//!
//! The libraries must be builds with the feature `count-allocations`. A count is the difference
//! between a long and a short run, so that what is allocated once a run does not count, and the
//! smallest of several, so that what the host's other threads allocate meanwhile does not either:
//! the same code gives the same figure on any machine.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;
use ksi_bench_events::{Lane, Laps, Letter, Ran, Route, Run, boxed, json};
use ksi_host::{ChildEntry, Config, Host, NewEvent, Payload};
use serde::{Serialize, de::DeserializeOwned};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static COUNTED: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

/// Rounds of the short run, and how many the long one has more.
const SHORT: u64 = 100;
const MORE: u32 = 500;
const REPETITIONS: usize = 5;

/// Counts what an emit allocates, in the host and in both plugins of the benchmarks.
#[derive(Debug, Parser)]
struct Options {
    /// A library of ksi-bench-emitter that counts.
    #[arg(long, value_name = "FILE")]
    emitter: PathBuf,
    /// A library of ksi-bench-handlers that counts.
    #[arg(long, value_name = "FILE")]
    handlers: PathBuf,
    /// A `ksi` that tries the libraries, where this program cannot start itself again: under
    /// valgrind.
    #[arg(long, value_name = "FILE")]
    probe: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
enum CountError {
    #[error("{path}: {source}", path = .path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("no folder for the host could be made: {0}")]
    Folder(#[source] std::io::Error),
    #[error("the tokio runtime could not be started: {0}")]
    Runtime(#[source] std::io::Error),
    #[error("the host could not be started: {0}")]
    Start(#[from] ksi_host::StartError),
    #[error("an event name is refused: {0}")]
    Name(#[from] ksi_host::NameError),
    #[error("something could not become JSON, or is none: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{0} got no reply: {1}")]
    NoReply(String, String),
    #[error("{0:?} came to {1:?}: a reply is wrong")]
    Wrong(Run, Ran),
}

fn main() -> ExitCode {
    // This program is started again to try a plugin file before it is loaded.
    let entry = ksi_host::answer_probe();
    match count(entry, &Options::parse()) {
        Ok(counts) => {
            println!("{counts}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("ksi-bench-allocations: {error}");
            ExitCode::FAILURE
        }
    }
}

fn count(entry: ChildEntry, options: &Options) -> Result<String, CountError> {
    let runtime = tokio::runtime::Runtime::new().map_err(CountError::Runtime)?;
    runtime.block_on(async {
        let dir = tempfile::tempdir().map_err(CountError::Folder)?;
        copy(&options.emitter, &dir.path().join("emitter.so"))?;
        copy(&options.handlers, &dir.path().join("handlers.so"))?;
        let mut config = Config::default();
        config.plugin_dirs = vec![dir.path().to_owned()];
        let mut builder = Host::builder(entry).config(config);
        if let Some(probe) = &options.probe {
            builder = builder.probe_with(probe);
        }
        let host = builder.start().await?;
        let counts = counts(&host).await?;
        host.shutdown().await;
        Ok(serde_json::to_string(&counts)?)
    })
}

fn copy(from: &Path, to: &Path) -> Result<(), CountError> {
    let copied = std::fs::copy(from, to);
    copied.map(drop).map_err(|source| CountError::File { path: from.to_owned(), source })
}

/// Allocations an event, by what is done and by where they are made.
async fn counts(
    host: &Host,
) -> Result<BTreeMap<&'static str, BTreeMap<&'static str, f64>>, CountError> {
    let inside = async |lane| {
        an_event(
            host,
            |rounds| Run::rounds(lane, Route::Request, rounds),
            async |run| ask(host, "bench:run", &run).await,
        )
        .await
    };
    let here = |rounds| Run::rounds(Lane::SharedLetters, Route::Request, rounds);
    Ok(BTreeMap::from([
        ("typed", inside(Lane::Shared).await?),
        ("typed_with_strings", inside(Lane::SharedLetters).await?),
        ("json", inside(Lane::Json).await?),
        ("api", an_event(host, here, async |run| through_the_api(host, run).await).await?),
        ("boxed", an_event(host, here, async |run| Ok(boxed::numbers(run).await)).await?),
        (
            "boxed_with_strings",
            an_event(host, here, async |run| Ok(boxed::letters(run).await)).await?,
        ),
        ("serde_json", an_event(host, here, async |run| Ok(json::letters(run).await)).await?),
    ]))
}

/// What one event more allocates.
async fn an_event(
    host: &Host,
    run: impl Fn(u64) -> Run,
    work: impl AsyncFn(Run) -> Result<Ran, CountError>,
) -> Result<BTreeMap<&'static str, f64>, CountError> {
    let cost = async |rounds| {
        let mut least: Option<Counts> = None;
        for _ in 0..=REPETITIONS {
            let (run, before) = (run(rounds), Counts::now(host).await?);
            let ran = work(run).await?;
            if ran.right != rounds {
                return Err(CountError::Wrong(run, ran));
            }
            let spent = Counts::now(host).await?.since(before);
            least = Some(least.map_or(spent, |least| least.least(spent)));
        }
        Ok(least.unwrap_or_default())
    };
    let (short, long) = (cost(SHORT).await?, cost(SHORT + u64::from(MORE)).await?);
    // A host that is unoptimized makes one or two more in a run, which is nothing an emit.
    let each = |long: u64, short: u64| {
        let more = u32::try_from(long.saturating_sub(short)).unwrap_or(u32::MAX);
        (f64::from(more) / f64::from(MORE) * 10.0).round() / 10.0
    };
    let [host, emitter, handlers] = [
        each(long.host, short.host),
        each(long.emitter, short.emitter),
        each(long.handlers, short.handlers),
    ];
    Ok(BTreeMap::from([
        ("all", host + emitter + handlers),
        ("host", host),
        ("emitter", emitter),
        ("handlers", handlers),
    ]))
}

/// Allocations so far.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    host: u64,
    emitter: u64,
    handlers: u64,
}

impl Counts {
    async fn now(host: &Host) -> Result<Self, CountError> {
        let emitter = ask(host, "bench:emitter_allocated", &()).await?;
        let handlers = ask(host, "bench:handlers_allocated", &()).await?;
        let stats = COUNTED.stats();
        let here = stats.allocations + stats.reallocations;
        Ok(Counts { host: u64::try_from(here).unwrap_or(u64::MAX), emitter, handlers })
    }

    fn since(self, before: Counts) -> Counts {
        Counts {
            host: self.host - before.host,
            emitter: self.emitter - before.emitter,
            handlers: self.handlers - before.handlers,
        }
    }

    fn least(self, other: Counts) -> Counts {
        Counts {
            host: self.host.min(other.host),
            emitter: self.emitter.min(other.emitter),
            handlers: self.handlers.min(other.handlers),
        }
    }
}

async fn through_the_api(host: &Host, run: Run) -> Result<Ran, CountError> {
    let mut laps = Laps::begin(&run);
    while let Some(number) = laps.round() {
        let reply: Letter = ask(host, "bench:letter", &Letter::ask(number, false)).await?;
        laps.replied(reply.answers(number));
    }
    Ok(laps.end())
}

/// The one reply to an event.
async fn ask<R: DeserializeOwned>(
    host: &Host,
    event: &str,
    data: &impl Serialize,
) -> Result<R, CountError> {
    let report = host.emit(NewEvent::new(event, Payload::encode(data)?)?).await;
    match report.replies().next() {
        Some(reply) => Ok(reply.decode()?),
        None => {
            let error = report.error().map(|failed| failed.result.message());
            let error = error.unwrap_or_else(|| "is the plugin live?".to_owned());
            Err(CountError::NoReply(event.to_owned(), error))
        }
    }
}
