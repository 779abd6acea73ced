//! How long a host with many plugins takes to start, and what each plugin adds to resident memory.
//! Each start is a process of its own: what an earlier host left behind in memory would count for
//! nothing.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use ksi_figures::{Best, Series};
use ksi_host::{ChildEntry, Host};
use serde::{Deserialize, Serialize};

use crate::{
    builds::Builds,
    error::BenchError,
    row::{Bar, Row},
    series::{Measure, Plan, by_turns, measure},
    stage::{all_live, write_small},
};

const PLAN: Plan = Plan { windows: 10, turns: 1, best: Best::Least };

/// What a process tells of its start.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Started {
    /// From nothing until all plugins are live.
    seconds: f64,
    resident_mib: f64,
}

pub(crate) async fn rows(builds: &Builds) -> Result<Vec<Row>, BenchError> {
    let dir = tempfile::Builder::new().prefix("ksi-bench-").tempdir();
    let dir = dir.map_err(BenchError::Folder)?;
    let folder = |plugins: usize| {
        let folder = dir.path().join(plugins.to_string());
        std::fs::create_dir(&folder).map_err(BenchError::Folder)?;
        write_small(&builds.small, &folder, plugins)?;
        Ok::<_, BenchError>(folder)
    };
    let folders = [folder(1)?, folder(50)?, folder(200)?];
    let milliseconds = folders.each_ref().map(|folder| -> Measure<'_> {
        measure(move || async move { Ok(elsewhere(folder)?.seconds * 1e3) })
    });
    let [one, fifty, all] = by_turns(milliseconds, PLAN).await?;
    let [_, fifty_folder, all_folder] = &folders;
    let resident = elsewhere(all_folder)?.resident_mib - elsewhere(fifty_folder)?.resident_mib;
    let each = |of: &Series, plugins: f64| of.map(Best::Least, |it| it / plugins);
    Ok(vec![
        Row::measured("start with 1 plugin", &one, "ms"),
        Row::measured("start with 50 plugins", &fifty, "ms"),
        Row::measured("start with 200 plugins", &all, "ms").bar(Some(Bar::AtMost(2_000.0))),
        Row::pair(
            "start with 200 plugins, each",
            &each(&all, 200.0),
            "ms",
            "with 50, each",
            &each(&fifty, 50.0),
        )
        .bar(Some(Bar::RatioAtMost(1.2))),
        Row::counted("resident memory, one more plugin", resident / 150.0, "MiB")
            .bar(Some(Bar::AtMost(1.0))),
    ])
}

/// Starts a host in another process, which runs [`measure_here`].
fn elsewhere(folder: &Path) -> Result<Started, BenchError> {
    let failed = |error: std::io::Error| BenchError::Program(error.to_string());
    let mut program = Command::new(std::env::current_exe().map_err(failed)?);
    program.arg("--start-in").arg(folder).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = program.output().map_err(failed)?;
    if !output.status.success() {
        return Err(BenchError::Program(format!("a start ended with {}", output.status)));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Starts a host with the plugins of a folder, and prints what that took.
///
/// # Errors
/// It does not start, or not every file is a live plugin then.
pub(crate) fn measure_here(entry: ChildEntry, folder: &Path) -> Result<(), BenchError> {
    let files = std::fs::read_dir(folder)
        .map_err(|source| BenchError::File { path: folder.to_owned(), source })?;
    let plugins = files.count();
    let started = crate::runtime()?.block_on(async {
        let began = Instant::now();
        let host = Host::builder(entry).plugins(folder).start().await?;
        all_live(&host, plugins).await?;
        let seconds = began.elapsed().as_secs_f64();
        let started = Started { seconds, resident_mib: resident_mib()? };
        host.shutdown().await;
        Ok::<_, BenchError>(started)
    })?;
    println!("{}", serde_json::to_string(&started)?);
    Ok(())
}

/// Resident pages of this process.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn resident_mib() -> Result<f64, BenchError> {
    const STATUS: &str = "/proc/self/status";
    let status = std::fs::read_to_string(STATUS)
        .map_err(|source| BenchError::File { path: STATUS.into(), source })?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    let missing = || BenchError::Program(format!("{STATUS} tells of no resident memory"));
    Ok(kib.ok_or_else(missing)? as f64 / 1024.0)
}
