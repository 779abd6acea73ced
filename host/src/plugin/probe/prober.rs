//! The probe: a short-lived child of the host opens a plugin file first.
//!
//! What kills or hangs the child is an error message in the host and nothing else. The child is the host's own
//! executable, which calls [`answer_probe`] first thing in its `main`. It reads from its standard input what it is to do,
//! and does that once. The host keeps one child waiting for that, because starting a process takes longer than the probe.

#![allow(unsafe_code)]

use std::{
    ffi::OsString,
    fs::File,
    io::{BufRead, BufWriter, ErrorKind, Read, Write},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    process::{ChildStdin, ChildStdout, Command, ExitStatus},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use ksi_abi::Description;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::oneshot;

use super::{
    child::{Asked, Child, Children, Waiting},
    trial::{Step, Trial, Verdict},
};
use crate::{
    plugin::instance::library::PluginLibrary,
    system::{low_priority, proc_fs},
};

/// The one argument of a child that is to answer a probe.
const ARGUMENT: &str = "__ksi-probe";
/// The longest answer: schemas of many handlers.
const LONGEST_ANSWER: usize = 8 << 20;
/// How often the host looks whether a silent child is still there.
const LOOK: Duration = Duration::from_millis(20);

/// A thread that only waits.
const WATCH_STACK: usize = 64 << 10;

/// What a child gets to end after a trial.
const ENDS: Duration = Duration::from_secs(1);

/// Whether this executable answers probes: it has called [`answer_probe`].
static ANSWERS: AtomicBool = AtomicBool::new(false);

/// What a child is to do: one line, and what it is to try the file with behind it.
#[derive(Serialize, Deserialize)]
struct Request {
    path: PathBytes,
    /// The symbol of the root module, if it has a name of its own.
    header: String,
    with_trial: bool,
}

/// A path that need not be text.
type PathBytes = Vec<u8>;

#[derive(Serialize, Deserialize)]
enum Answer {
    Described(Description, Option<Verdict>),
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
    /// It does not restore the state that it would get, tried with a copy.
    #[error("tried in a probe process, {reason}")]
    Trial {
        /// What the child says.
        reason: String,
    },
    /// The child died.
    #[error("{what} it ended a probe process ({status}); {}", where_to_look(.what))]
    Died {
        /// What the child was doing.
        what: &'static str,
        /// How.
        status: String,
    },
    /// The child hangs.
    #[error(
        "{what} it did not end within {} in a probe process; {}", humantime::format_duration(*.after), where_to_look(.what)
    )]
    TimedOut {
        /// What the child was doing.
        what: &'static str,
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

/// What somebody can do whose plugin has ended a probe, or held it up.
fn where_to_look(what: &str) -> &'static str {
    match what == Step::Open.told() {
        true => {
            "what runs there are constructors of the library and of those that it needs: see what they do, with a debugger \
             and `dlopen`"
        }
        false => {
            "the plugin's own tests run the same code (`Harness`), and a debugger stops there; what cannot be tried apart \
             from the host is not with `trial = false` in [reload.plugins.NAME]"
        }
    }
}

impl ProbeError {
    /// Whether it was the state that it got in which it failed.
    pub(crate) fn is_of_state(&self) -> bool {
        match self {
            ProbeError::Trial { .. } => true,
            ProbeError::Died { what, .. } | ProbeError::TimedOut { what, .. } => {
                *what == Step::Restore.told()
            }
            _ => false,
        }
    }
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
    // A request that is none is the end of a host that does not need this child any more.
    let answer = match (request(), private_stdout()) {
        (Some((path, header, trial)), Ok(out)) => {
            end_with_host();
            Some((describe(&path, &header, trial, &out), out))
        }
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

/// From here on this process ends when the host does, whatever the file's code is doing. The host holds the other end of
/// the standard input for as long as it waits for the answer, and sends nothing more; the kernel closes it when the host was
/// killed. (`PR_SET_PDEATHSIG` would not do: it is about the thread that started this process, which ends soon.)
///
/// Where the system does not give what this takes, the file is probed all the same.
fn end_with_host() {
    let watched = || -> std::io::Result<()> {
        let host = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
        // What a file's code reads from its standard input is not the host's.
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        let mut host = File::from(host);
        let watch = move || {
            let mut nothing = [0];
            loop {
                match host.read(&mut nothing) {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    // The file's code has closed what is not its own.
                    Err(_) => return,
                }
            }
            // SAFETY: ends the process at once, and runs nothing of the file's. Nobody reads the answer any more.
            unsafe { libc::_exit(1) }
        };
        thread::Builder::new().name("ksi-end".to_owned()).stack_size(WATCH_STACK).spawn(watch)?;
        Ok(())
    };
    let _ = watched();
}

/// What the host wants, when it wants it. All of it is read before any code of the file runs, so the host never waits for
/// a child that does not read.
fn request() -> Option<(PathBuf, String, Option<std::io::Result<Trial>>)> {
    let mut input = std::io::stdin().lock();
    let mut line = Vec::new();
    input.read_until(b'\n', &mut line).ok()?;
    let request: Request = serde_json::from_slice(&line).ok()?;
    let trial = request.with_trial.then(|| Trial::read(input));
    Some((OsString::from_vec(request.path).into(), request.header, trial))
}

/// The step that begins stands before the answer, a byte each. A host that does not read it is gone.
fn describe(
    path: &Path,
    header: &str,
    trial: Option<std::io::Result<Trial>>,
    mut out: &File,
) -> Answer {
    let mut begin = |step: Step| {
        let _ = out.write_all(&[step.mark()]);
    };
    begin(Step::Open);
    let library = match PluginLibrary::open(path, header) {
        Ok(library) => library,
        Err(error) => return Answer::Refused(error.to_string()),
    };
    let description = match library.describe() {
        Ok(description) => description,
        Err(reason) => return Answer::Refused(reason),
    };
    let verdict = trial.map(|trial| match trial {
        Ok(trial) => trial.run(library.module, begin),
        Err(error) => Verdict::Unsure(format!("what it is tried with cannot be read: {error}")),
    });
    Answer::Described(description, verdict)
}

/// Why nobody answers probes.
#[derive(Debug, Error)]
pub(crate) enum NoProber {
    /// An embedding program need not.
    #[error("this program does not call ksi_host::answer_probe")]
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
    spare: Arc<Mutex<Option<Waiting>>>,
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
        timeout: Duration,
        init_timeout: Duration,
    ) -> Result<Self, NoProber> {
        let program = match named {
            Some(program) => program,
            None if ANSWERS.load(Ordering::Relaxed) => own_program()?,
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

    /// Lets a child open the library at `path`, describe it, and try an instance of it. The description, and why the
    /// trial told nothing if it did not.
    pub(crate) async fn probe(
        &self,
        path: &Path,
        header: &str,
        trial: Option<Arc<Trial>>,
    ) -> Result<(Description, Option<String>), ProbeError> {
        let (prober, path, path_here) = (self.clone(), path.to_owned(), path.to_owned());
        let header = header.to_owned();
        let (answered, answer) = oneshot::channel();
        let begun = low_priority::begin("ksi-probe", move || {
            let mut child = None;
            // Nobody waits any more when the host is ending.
            let _ = answered.send(prober.run(&path, header, trial.as_deref(), &mut child));
            // Its end takes a moment longer than its answer, which need not wait for it. Nor for the next one's beginning.
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
        header: String,
        trial: Option<&Trial>,
        started: &mut Option<Child>,
    ) -> Result<(Description, Option<String>), ProbeError> {
        let failed = |source| ProbeError::Spawn {
            path: path.to_owned(),
            program: self.program.clone(),
            source,
        };
        let Asked { child, out } = self.ask(path, header, trial).map_err(failed)?;
        let child = started.insert(child);
        let (answer, in_time) = self.answer(child, out).map_err(failed)?;
        let steps = begun(&answer);
        let step = steps.last().copied();
        let what = step.unwrap_or(Step::Open).told();
        if !in_time {
            return Err(ProbeError::TimedOut { what, after: self.limit(&steps) });
        }
        match serde_json::from_slice(&answer[steps.len()..]) {
            Ok(Answer::Described(_, Some(Verdict::Refused(reason)))) => {
                Err(ProbeError::Trial { reason })
            }
            Ok(Answer::Described(description, verdict)) => {
                if verdict.is_some() {
                    // Whatever its instance holds, a port or a lock, is free when the host makes one.
                    let _ = child.end(ENDS);
                }
                Ok(match verdict {
                    Some(Verdict::Unsure(reason)) => (description, Some(reason)),
                    _ => (description, None),
                })
            }
            Ok(Answer::Refused(reason)) => Err(ProbeError::Refused { reason }),
            // An exit status of its own says more than an answer that is none. A child that has begun and says nothing
            // was ended by the file, whatever the status.
            Err(_) => Err(match child.end(Duration::from_secs(1)) {
                Some(status) if !status.success() || step.is_some() => {
                    ProbeError::Died { what, status: told(status) }
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
    fn ask(&self, path: &Path, header: String, trial: Option<&Trial>) -> std::io::Result<Asked> {
        let path = path.as_os_str().as_bytes().to_vec();
        let request = Request { path, header, with_trial: trial.is_some() };
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

    fn start(&self) -> std::io::Result<Waiting> {
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

    fn spare(&self) -> MutexGuard<'_, Option<Waiting>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a child gets that has begun these steps. It ends an `initialize` that waits for too long itself; a restore gets
    /// as much.
    fn limit(&self, begun: &[Step]) -> Duration {
        let trial = begun.iter().filter(|step| **step != Step::Open).count();
        let trial = self.init_timeout.saturating_mul(u32::try_from(trial).unwrap_or(u32::MAX));
        self.timeout.saturating_add(trial)
    }

    /// Reads to the newline and not to the end of the pipe, which a grandchild may keep open for ever. What came, and
    /// whether it was all in time.
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
fn begun(answer: &[u8]) -> Vec<Step> {
    answer.iter().map_while(|mark| Step::of(*mark)).collect()
}

fn told(status: ExitStatus) -> String {
    // "signal: 11 (SIGSEGV)" or "exit status: 1".
    status.to_string()
}
