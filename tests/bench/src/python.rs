//! What a request to a module of Python costs: beside the same handler in a bare asyncio loop that
//! reads JSON from a socket, and beside what the same work costs in pluggy, behind a plain asyncio
//! router and in a native plugin; and how long a saved module takes to be live.

mod bare;
mod ways;

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream::FuturesUnordered};
use ksi_bench_events::{Lane, Route, Run};
use ksi_host::Host;
use ksi_wire::module::{List, Overview};
use serde_json::{Value, json};

use self::{bare::Bare, ways::Ways};
use crate::{
    builds::Builds,
    error::BenchError,
    row::{Bar, Row},
    series::{Measure, NANOS, SHORT, by_turns, measure},
    stage::{Stage, ask},
};

/// The handler, as a plugin.
const PLUGIN: &str = include_str!("../python/letter.py");
const EVENT: &str = "bench:python";
/// Requests that are on their way at a time, and how many there are in a turn.
const AT_ONCE: usize = 64;
const IN_A_TURN: usize = 512;
const ONE_BY_ONE: usize = 50;
/// How often a module is saved.
const SAVES: u32 = 20;
/// What a saved module gets to be live.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn rows(builds: &Builds) -> Result<Vec<Row>, BenchError> {
    let stage = Stage::with_module(builds, "letter.py", PLUGIN).await?;
    let mut rows = Vec::new();
    for (what, at_once, requests) in [
        ("request to a module of Python, JSON, 137 bytes both ways", 1, ONE_BY_ONE),
        ("the same, 64 at once", AT_ONCE, IN_A_TURN),
    ] {
        let mut bare = Bare::start().map_err(BenchError::Python)?;
        let beside = measure(move || {
            let took = bare.nanos(at_once, requests).map_err(BenchError::Python);
            async move { took }
        });
        let through = through(stage.host.clone(), at_once, requests);
        let [figure, limit] = by_turns([through, beside], SHORT).await?;
        let bar = Some(Bar::RatioAtMost(3.0));
        let beside = "the same handler in a bare asyncio loop";
        rows.push(Row::pair(what, &figure, "ns", beside, &limit).bar(bar));
    }
    rows.extend(other_ways(builds).await?);
    let saved = saved(&stage).await?;
    rows.push(Row::counted("saved module live after its rename, median", saved, "ms"));
    stage.stop().await;
    Ok(rows)
}

/// The same work in a native plugin, and in the ways in which Python has plugins in one process.
async fn other_ways(builds: &Builds) -> Result<Vec<Row>, BenchError> {
    let native = Stage::start(builds, 1, 0).await?;
    let mut rows = Vec::new();
    for (what, lane) in [
        ("the same letter to a native plugin, from another, JSON", Lane::Json),
        ("the same, as a value", Lane::SharedLetters),
    ] {
        let request = native.inside(Run::timed(lane, Route::Request, false, NANOS));
        let [figure] = by_turns([request], SHORT).await?;
        rows.push(Row::measured(what, &figure, "ns"));
    }
    native.stop().await;
    let mut ways = Ways::start().map_err(BenchError::Python)?;
    for (what, way, at_once) in [
        ("the same letter by a hook of pluggy, in the caller's process", "pluggy", 1),
        ("the same letter by a plain asyncio router, in the caller's process", "router", 1),
        ("the same, 64 at once", "router", AT_ONCE),
    ] {
        if !ways.has(way) {
            eprintln!("left out, since python3 does not find {way}: {what}");
            continue;
        }
        let calls = measure(|| {
            let took = ways.nanos(way, at_once, IN_A_TURN);
            async move { took.map_err(BenchError::Python) }
        });
        let [figure] = by_turns([calls], SHORT).await?;
        rows.push(Row::measured(what, &figure, "ns"));
    }
    Ok(rows)
}

fn letter(number: u64) -> Value {
    json!({
        "number": number, "from": "somebody", "to": "somebody else",
        "subject": "what a letter of some length is about", "urgent": false, "tags": ["a", "b"],
    })
}

/// Nanoseconds a request through the host.
fn through<'a>(host: Host, at_once: usize, requests: usize) -> Measure<'a> {
    measure(move || {
        let host = host.clone();
        async move {
            let began = Instant::now();
            let mut going_on = FuturesUnordered::new();
            for number in 0..requests as u64 {
                if going_on.len() == at_once {
                    let _: Option<Result<(), BenchError>> = going_on.next().await;
                }
                going_on.push(request(&host, number));
            }
            while let Some(ended) = going_on.next().await {
                ended?;
            }
            Ok(began.elapsed().as_nanos() as f64 / requests as f64)
        }
    })
}

async fn request(host: &Host, number: u64) -> Result<(), BenchError> {
    let reply: Value = ask(host, EVENT, &letter(number)).await?;
    match reply["number"] == number + 1 {
        true => Ok(()),
        false => Err(BenchError::Wrong(format!("letter {number} came to {reply}"))),
    }
}

/// Milliseconds from a rename to the answer of the new version, settling among them.
async fn saved(stage: &Stage) -> Result<f64, BenchError> {
    let mut all = Vec::new();
    for version in 1..=SAVES {
        // The interpreter that is used up is followed by another one meanwhile.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let text = format!("{PLUGIN}\n__version__ = \"{version}\"\n");
        let draft = stage.plugins().join(".letter.draft");
        let file =
            |path: &std::path::Path, source| BenchError::File { path: path.to_owned(), source };
        std::fs::write(&draft, text).map_err(|error| file(&draft, error))?;
        let began = Instant::now();
        let to = stage.plugins().join("letter.py");
        std::fs::rename(&draft, &to).map_err(|error| file(&to, error))?;
        loop {
            let List { modules, .. } = ask::<List>(&stage.host, "module:list", &json!({})).await?;
            let is_it =
                |module: &Overview| module.version.as_deref() == Some(&*version.to_string());
            if modules.iter().any(is_it) {
                break;
            }
            if began.elapsed() > PATIENCE {
                return Err(BenchError::Wrong(format!("version {version} does not become live")));
            }
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        all.push(began.elapsed().as_secs_f64() * 1e3);
    }
    all.sort_by(f64::total_cmp);
    Ok(all[all.len() / 2])
}
