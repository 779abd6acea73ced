//! The probe: a short-lived child of the host opens a plugin file first.
//!
//! What kills or hangs the child is an error message in the host and nothing else. The child is the host's own
//! executable, which calls [`answer_probe`] first thing in its `main`.

#![allow(unsafe_code)]

use std::{
    ffi::OsString,
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use ksi_plugin_api::{
    Description,
    abi::{CallEnd, module},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::{io::AsyncReadExt, process::Command};

use super::load::PluginLibrary;

/// The first argument of a child that is to answer a probe.
const ARGUMENT: &str = "__ksi-probe";
/// The longest answer: schemas of many handlers.
const LONGEST_ANSWER: usize = 8 << 20;

/// Whether this executable answers probes: it has called [`answer_probe`].
static ANSWERS: AtomicBool = AtomicBool::new(false);

#[derive(Serialize, Deserialize)]
enum Answer {
    Described(Description),
    Refused(String),
}

/// Why a probe found a plugin file unfit.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// There is no child.
    #[error("no probe of {path} could be started with {program}: {source}", path = .path.display(), program = .program.display())]
    Spawn {
        /// The private copy.
        path: PathBuf,
        /// The executable that was to answer.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The child says what is wrong.
    #[error("{reason}")]
    Refused {
        /// What it says.
        reason: String,
    },
    /// The child died.
    #[error(
        "opening it ended a probe process ({status}): its constructors or its description crash"
    )]
    Died {
        /// How.
        status: String,
    },
    /// The child hangs.
    #[error("opening it did not end within {} in a probe process", humantime::format_duration(*.after))]
    TimedOut {
        /// What it was given.
        after: Duration,
    },
    /// The child says something else.
    #[error("a probe process gave no answer that can be understood; is {program} a host that answers probes?", program = .program.display())]
    Answer {
        /// The executable that was to answer.
        program: PathBuf,
    },
}

/// Answers if this process was started as a probe, and does not return then.
///
/// To be called first thing in `main` of a program that embeds a host: before argument parsing, threads and runtimes.
/// Without it, and without [`HostBuilder::probe_with`](crate::HostBuilder::probe_with), plugin files are loaded without a
/// probe.
pub fn answer_probe() {
    let mut arguments = std::env::args_os();
    if arguments.nth(1).is_none_or(|argument| argument != ARGUMENT) {
        ANSWERS.store(true, Ordering::Relaxed);
        return;
    }
    let answer = match (arguments.next(), private_stdout()) {
        (Some(path), Ok(out)) => Some((describe(Path::new(&path)), out)),
        _ => None,
    };
    let sent = answer.is_some_and(|(answer, mut out)| {
        let mut line = serde_json::to_vec(&answer).unwrap_or_default();
        line.push(b'\n');
        out.write_all(&line).is_ok()
    });
    // SAFETY: ends the process at once. Neither the library's destructors nor functions registered with atexit run:
    // what they do is no part of the answer.
    unsafe { libc::_exit(i32::from(!sent)) }
}

/// The pipe to the host, away from the standard output that constructors may print to.
fn private_stdout() -> std::io::Result<File> {
    let answer = rustix::io::dup(rustix::stdio::stdout())?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    // A crash here is expected, and its core file would be of use to nobody. Failing to say so is no reason to stop.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
    Ok(File::from(answer))
}

fn describe(path: &Path) -> Answer {
    let library = match PluginLibrary::open(path) {
        Ok(library) => library,
        Err(error) => return Answer::Refused(error.to_string()),
    };
    match describe_module(&library) {
        Ok(description) => Answer::Described(description),
        Err(reason) => Answer::Refused(reason),
    }
}

/// Asks an open library for its description.
pub(crate) fn describe_module(library: &PluginLibrary) -> Result<Description, String> {
    match module::describe(library.module) {
        CallEnd::Reply(text) => serde_json::from_slice(&text)
            .map_err(|error| format!("its description cannot be read: {error}")),
        CallEnd::NoReply => Err("it gives no description".to_owned()),
        CallEnd::Failed(_, message) => {
            Err(format!("it cannot describe itself: {}", message.to_text()))
        }
        CallEnd::Panicked(message) => {
            Err(format!("it panics when it is asked to describe itself: {}", message.to_text()))
        }
    }
}

/// Which executable answers probes.
#[derive(Debug, Clone)]
pub(crate) struct Prober {
    program: PathBuf,
    timeout: Duration,
}

impl Prober {
    /// `named`, or this very executable if it answers probes.
    pub(crate) fn new(named: Option<PathBuf>, timeout: Duration) -> Option<Self> {
        let own = || {
            // The link still leads to the running executable when its file was replaced on disk.
            let link = Path::new("/proc/self/exe");
            match link.exists() {
                true => Some(link.to_owned()),
                false => std::env::current_exe().ok(),
            }
        };
        let program = match named {
            Some(program) => Some(program),
            None if ANSWERS.load(Ordering::Relaxed) => own(),
            None => None,
        };
        program.map(|program| Prober { program, timeout })
    }

    /// Lets a child open the library at `path` and describe it.
    pub(crate) async fn probe(&self, path: &Path) -> Result<Description, ProbeError> {
        let spawn = |source| ProbeError::Spawn {
            path: path.to_owned(),
            program: self.program.clone(),
            source,
        };
        // No `pre_exec`: with it a spawn forks, which takes 9 ms in place of 1. No variable of the host's reaches the
        // plugin's constructors, save those that the system's loader needs.
        let mut child = Command::new(&self.program)
            .args([OsString::from(ARGUMENT), path.into()])
            .env_clear()
            .envs(std::env::var_os("LD_LIBRARY_PATH").map(|value| ("LD_LIBRARY_PATH", value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(spawn)?;
        let Some(mut out) = child.stdout.take() else {
            return Err(ProbeError::Answer { program: self.program.clone() });
        };
        let mut answer = Vec::new();
        let answered = async {
            // To the newline and not to the end: a grandchild may keep the pipe open for ever.
            while !answer.ends_with(b"\n") && answer.len() <= LONGEST_ANSWER {
                if out.read_buf(&mut answer).await? == 0 {
                    break;
                }
            }
            std::io::Result::Ok(())
        };
        let read = tokio::time::timeout(self.timeout, async {
            tokio::pin!(answered);
            tokio::select! {
                biased;
                read = &mut answered => read.map(|()| None),
                // It may have written its answer just before it ended.
                ended = child.wait() => {
                    let _ = tokio::time::timeout(Duration::from_millis(50), &mut answered).await;
                    ended.map(Some)
                }
            }
        });
        let ended = match read.await {
            Err(_) => return Err(ProbeError::TimedOut { after: self.timeout }),
            Ok(Err(source)) => return Err(spawn(source)),
            Ok(Ok(ended)) => ended,
        };
        match serde_json::from_slice(&answer) {
            Ok(Answer::Described(description)) => {
                // It is about to end; waiting for it here keeps no zombie.
                let _ = tokio::time::timeout(Duration::from_millis(100), child.wait()).await;
                Ok(description)
            }
            Ok(Answer::Refused(reason)) => Err(ProbeError::Refused { reason }),
            Err(_) => {
                let ended = match ended {
                    Some(status) => Some(status),
                    None => tokio::time::timeout(Duration::from_secs(1), child.wait())
                        .await
                        .ok()
                        .and_then(Result::ok),
                };
                Err(match ended {
                    Some(status) if !status.success() => ProbeError::Died { status: told(status) },
                    _ => ProbeError::Answer { program: self.program.clone() },
                })
            }
        }
    }
}

fn told(status: ExitStatus) -> String {
    // "signal: 11 (SIGSEGV)" or "exit status: 1".
    status.to_string()
}
