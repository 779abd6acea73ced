//! Replaces plugins under load thousands of times, and proves that nothing was lost and nothing was
//! left behind.
//!
//! `cargo run --release -p ksi-soak -- --reloads 3000`
//!
//! It is a host like any other, with real libraries in a real folder, and clients inside a plugin,
//! in this program and on the socket. Every request has a number that its answer must repeat;
//! plugins that count say with each answer what they counted, and are held to it across all
//! replacements. In reading order: what is loaded ([`roles`], [`library`], [`builds`], [`drafts`]),
//! what is asked and how it is judged ([`lane`], [`ledger`], [`versions`], [`clients`]), what is
//! replaced by what ([`plan`], [`reloader`]), who is killed and what that explains ([`killer`],
//! [`kills`]), beside what ([`bare`]), the run itself ([`run`]), and what comes of it
//! ([`findings`], [`verdict`], [`report`]).

mod announced;
mod answers;
mod arenas;
mod bare;
mod builds;
mod clients;
mod counted;
mod drafts;
mod error;
mod findings;
mod gate;
mod killer;
mod kills;
mod lane;
mod latency;
mod ledger;
mod library;
mod measured;
mod memory;
mod options;
mod plan;
mod processor;
mod reloader;
mod report;
mod roles;
mod run;
mod running;
mod verdict;
mod versions;
mod wire;

use std::{process::ExitCode, sync::Arc, time::Instant};

use clap::Parser;
use ksi_host::ChildEntry;

use crate::{
    builds::Builds, clients::Numbers, error::SoakError, ledger::Ledger, options::Options, run::Run,
    running::Running, verdict::Verdict,
};

fn main() -> ExitCode {
    // This program is started again to try a plugin file before it is loaded.
    let entry = ksi_host::answer_probe();
    let options = Options::parse();
    arenas::limit();
    match soak(entry, &options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("ksi-soak: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether every figure reaches its bar.
fn soak(entry: ChildEntry, options: &Options) -> Result<bool, SoakError> {
    let builds = Builds::get(&options.library)?;
    eprintln!("builds of the plugin: {} and {} bytes", builds.plain.len(), builds.bulk.len());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let findings = runtime.map_err(SoakError::Runtime)?.block_on(async {
        let numbers = Numbers::of(options.clients);
        // One for each file, the idle ones too, and some.
        let versions = options.reloads as usize + 1_024;
        let ledger = Arc::new(Ledger::new(versions)?);
        let (inside, probe) = (numbers.lanes_inside(), options.probe.as_deref());
        let toml = running::toml(&inside, options.is_isolated(), options.kill_every.is_some());
        let running = Running::start(entry, builds, ledger, &toml, probe).await?;
        let started = Instant::now();
        let findings = Run::new(running, options)?.finish(numbers).await?;
        Ok::<_, SoakError>((findings, started.elapsed()))
    });
    let (findings, took) = findings?;
    let figures = verdict::judge(&findings, options.is_isolated());
    println!("{}", report::table(&figures));
    for fault in &findings.told {
        println!("{fault}");
    }
    let failed = figures.iter().filter(|figure| figure.verdict == Verdict::Failed).count();
    println!("{failed} of {} figures failed; it took {:.0} s", figures.len(), took.as_secs_f64());
    if let Some(path) = &options.json {
        report::write(path, &report::json(&figures, &findings, took.as_secs_f64()))?;
    }
    Ok(failed == 0)
}
