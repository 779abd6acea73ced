//! The probe: a short-lived child of the host opens a plugin file first.
//!
//! What kills or hangs the child is an error message in the host and nothing else. The child is the
//! host's own executable, which calls [`answer_probe`](super::answer::answer_probe) first thing in
//! its `main`. It reads from its standard input what it is to do, and does that once. The host
//! keeps one child waiting for that, because starting a process takes longer than the probe.

use std::{
    io::{BufWriter, Read, Write},
    os::unix::{ffi::OsStrExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{ChildStdin, ChildStdout, Command, ExitStatus},
    sync::{Arc, MutexGuard},
    time::{Duration, Instant},
};

use ksi_abi::Description;
use ksi_kernel::lock::Lock;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::Signal,
};
use thiserror::Error;
use tokio::sync::oneshot;

use super::{
    answer::{ARGUMENT, ChildEntry, ProbeAnswer, ProbeRequest},
    child::{AskedChild, Child, Children, SpareChild},
    error::ProbeError,
    trial::{Trial, TrialStep, Verdict},
};
use crate::system::{low_priority, proc_fs, sandbox::SandboxSpec};

/// The longest answer: schemas of many handlers.
const LONGEST_ANSWER: usize = 8 << 20;
/// How often the host looks whether a silent child is still there.
const LOOK: Duration = Duration::from_millis(20);

/// What a child gets to end after a trial.
const ENDS: Duration = Duration::from_secs(1);

/// Why nobody answers probes.
#[derive(Debug, Error)]
pub(crate) enum NoProber {
    /// An embedding program need not.
    #[error("this program does not call ksi_host::answer_probe first thing in its main")]
    DoesNotAnswer,
    /// It would, and its file is not known.
    #[error(
        "this program would answer, but cannot find its own file ({}): {advice}", .source,
        advice = if proc_fs::is_there() { "name one that answers (HostBuilder::probe_with)" } else { proc_fs::ADVICE }
    )]
    NoOwnFile {
        /// What the system says.
        source: std::io::Error,
    },
}

fn own_program() -> Result<PathBuf, NoProber> {
    // The link still leads to the running executable when its file was replaced on disk.
    let link = Path::new("/proc/self/exe");
    match link.exists() {
        true => Ok(link.to_owned()),
        false => std::env::current_exe().map_err(|source| NoProber::NoOwnFile { source }),
    }
}

/// Which executable answers probes.
#[derive(Clone)]
pub(crate) struct Prober {
    children: Arc<Children>,
    /// A child that waits for a request.
    spare: Arc<Lock<Option<SpareChild>>>,
    program: PathBuf,
    /// What the child gets to open and describe a file, and what it gets to initialize an instance.
    timeout: Duration,
    init_timeout: Duration,
}

impl Prober {
    /// `named`, or this very executable if it answers probes.
    ///
    /// # Errors
    /// There is nobody to answer.
    pub(crate) fn new(
        named: Option<PathBuf>,
        entry: ChildEntry,
        timeout: Duration,
        init_timeout: Duration,
    ) -> Result<Self, NoProber> {
        let program = match named {
            Some(program) => program,
            None if entry.answers => own_program()?,
            None => return Err(NoProber::DoesNotAnswer),
        };
        Ok(Prober {
            children: Arc::default(),
            spare: Arc::default(),
            program,
            timeout,
            init_timeout,
        })
    }

    /// Which executable answers.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// Lets a child that has and reaches no more than this open the library at `path`, describe it,
    /// and try an instance of it. The description, and why the trial told nothing if it did not.
    pub(crate) async fn probe(
        &self,
        path: &Path,
        header: &str,
        trial: Option<Arc<Trial>>,
        sandbox: SandboxSpec,
    ) -> Result<(Description, Option<String>), ProbeError> {
        let (prober, path, path_here) = (self.clone(), path.to_owned(), path.to_owned());
        let header = header.to_owned();
        let (answered, answer) = oneshot::channel();
        let begun = low_priority::begin("ksi-probe", move || {
            let mut child = None;
            // Nobody waits any more when the host is ending.
            let _ =
                answered.send(prober.run(&path, (header, sandbox), trial.as_deref(), &mut child));
            // Its end takes a moment longer than its answer, which need not wait for it. Nor for
            // the next one's beginning.
            drop(child);
            prober.refill();
        });
        begun.map_err(|source| ProbeError::Spawn {
            path: path_here,
            program: self.program.clone(),
            source,
        })?;
        answer.await.unwrap_or_else(|_| Err(ProbeError::Answer { program: self.program.clone() }))
    }

    fn run(
        &self,
        path: &Path,
        asked: (String, SandboxSpec),
        trial: Option<&Trial>,
        started: &mut Option<Child>,
    ) -> Result<(Description, Option<String>), ProbeError> {
        let failed = |source| ProbeError::Spawn {
            path: path.to_owned(),
            program: self.program.clone(),
            source,
        };
        let AskedChild { child, out } = self.ask(path, asked, trial).map_err(failed)?;
        let child = started.insert(child);
        let (answer, in_time) = self.answer(child, out).map_err(failed)?;
        let steps = begun(&answer);
        let step = steps.last().copied();
        let what = step.unwrap_or(TrialStep::Open).told();
        if !in_time {
            return Err(ProbeError::TimedOut { what, after: self.limit(&steps) });
        }
        let redacted = |reason: String| match trial {
            Some(trial) => trial.config.redacted(reason),
            None => reason,
        };
        match serde_json::from_slice(&answer[steps.len()..]) {
            Ok(ProbeAnswer::Described(_, Some(Verdict::Refused(reason)))) => {
                Err(ProbeError::Trial { reason: redacted(reason) })
            }
            Ok(ProbeAnswer::Described(description, verdict)) => {
                if verdict.is_some() {
                    // Whatever its instance holds, a port or a lock, is free when the host makes
                    // one.
                    let _ = child.end(ENDS);
                }
                Ok(match verdict {
                    Some(Verdict::Unsure(reason)) => (description, Some(redacted(reason))),
                    _ => (description, None),
                })
            }
            Ok(ProbeAnswer::Refused(reason)) => Err(ProbeError::Refused { reason }),
            // An exit status of its own says more than an answer that is none. A child that has
            // begun and says nothing was ended by the file, whatever the status.
            Err(_) => Err(match child.end(Duration::from_secs(1)) {
                Some(status) if !status.success() || step.is_some() => {
                    let killed = status.signal() == Some(Signal::KILL.as_raw());
                    ProbeError::Died { what, status: told(status), killed }
                }
                _ => ProbeError::Answer { program: self.program.clone() },
            }),
        }
    }

    /// Ends all children. None is started any more, so that no file is probed.
    pub(crate) fn end(&self) {
        self.children.end();
    }

    /// Whether they were ended, so that what became of a probe says nothing about its file.
    pub(crate) fn has_ended(&self) -> bool {
        self.children.has_ended()
    }

    /// Asks the child that waits, or one that is started for it.
    fn ask(
        &self,
        path: &Path,
        (header, sandbox): (String, SandboxSpec),
        trial: Option<&Trial>,
    ) -> std::io::Result<AskedChild> {
        let path = path.as_os_str().as_bytes().to_vec();
        let request = ProbeRequest { path, header, with_trial: trial.is_some(), sandbox };
        let write = |input: &mut BufWriter<&mut ChildStdin>| {
            serde_json::to_writer(&mut *input, &request)?;
            input.write_all(b"\n")?;
            trial.map_or(Ok(()), |trial| trial.write(input))
        };
        let spare = self.spare().take();
        // Somebody may have ended it while it waited.
        match spare.map(|spare| spare.ask(write)) {
            Some(Ok(asked)) => Ok(asked),
            Some(Err(_)) | None => self.start()?.ask(write),
        }
    }

    fn start(&self) -> std::io::Result<SpareChild> {
        self.children.start(Command::new(&self.program).arg(ARGUMENT))
    }

    /// Has a child wait for the next probe. If none can be started now, that one starts its own.
    fn refill(&self) {
        if self.spare().is_some() {
            return;
        }
        if let Ok(waiting) = self.start() {
            *self.spare() = Some(waiting);
        }
    }

    fn spare(&self) -> MutexGuard<'_, Option<SpareChild>> {
        self.spare.lock()
    }

    /// What a child gets that has begun these steps. It ends an `initialize` that waits for too
    /// long itself; a restore gets as much.
    fn limit(&self, begun: &[TrialStep]) -> Duration {
        let trial = begun.iter().filter(|step| **step != TrialStep::Open).count();
        let trial = self.init_timeout.saturating_mul(u32::try_from(trial).unwrap_or(u32::MAX));
        self.timeout.saturating_add(trial)
    }

    /// Reads to the newline and not to the end of the pipe, which a grandchild may keep open for
    /// ever. What came, and whether it was all in time.
    fn answer(&self, child: &Child, mut out: ChildStdout) -> std::io::Result<(Vec<u8>, bool)> {
        let began = Instant::now();
        let (mut answer, mut ended) = (Vec::new(), false);
        let mut chunk = vec![0; 64 << 10];
        while !answer.ends_with(b"\n") && answer.len() <= LONGEST_ANSWER {
            let left = self.limit(&begun(&answer)).saturating_sub(began.elapsed());
            if left.is_zero() {
                return Ok((answer, false));
            }
            let look = Timespec::try_from(left.min(LOOK)).map_err(std::io::Error::other)?;
            match poll(&mut [PollFd::new(&out, PollFlags::IN)], Some(&look)) {
                // It ended a look ago, and nothing came since.
                Ok(0) if ended => break,
                Ok(0) => ended = child.has_ended()?,
                Ok(_) => match out.read(&mut chunk)? {
                    0 => break,
                    read => answer.extend_from_slice(&chunk[..read]),
                },
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok((answer, true))
    }
}

/// The steps that a child has begun, which stand before its answer.
fn begun(answer: &[u8]) -> Vec<TrialStep> {
    answer.iter().map_while(|mark| TrialStep::of(*mark)).collect()
}

fn told(status: ExitStatus) -> String {
    // "signal: 11 (SIGSEGV)" or "exit status: 1".
    status.to_string()
}
