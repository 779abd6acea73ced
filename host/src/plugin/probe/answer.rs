//! What the child does that is started as a probe: it reads what it is asked, opens the file, and
//! answers.

#![allow(unsafe_code)]

use std::{
    ffi::OsString,
    fs::File,
    io::{BufRead, ErrorKind, Read, Write},
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
    thread,
};

use ksi_abi::Description;
use serde::{Deserialize, Serialize};

use super::trial::{Trial, TrialStep, Verdict};
use crate::{
    plugin::instance::library::PluginLibrary,
    system::sandbox::{SandboxSpec, hint, limit_this_process},
};

/// The one argument of a child that is to answer a probe.
pub(super) const ARGUMENT: &str = "__ksi-probe";
/// A thread that only waits.
const WATCH_STACK: usize = 64 << 10;

/// Whether this program can be started again as a child of its host, which tries plugin files
/// before the host opens them: what [`answer_probe`](crate::answer_probe) gives, and
/// [`Host::builder`](crate::Host::builder) takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "give it to Host::builder"]
pub struct ChildEntry {
    pub(super) answers: bool,
}

impl ChildEntry {
    /// For a program that does not call [`answer_probe`](crate::answer_probe), or cannot do so
    /// first thing in its `main`: a plugin, a test, a library. Plugin files are loaded without a
    /// probe then, unless [`HostBuilder::probe_with`](crate::HostBuilder::probe_with) names a
    /// program that answers.
    pub fn none() -> Self {
        ChildEntry { answers: false }
    }
}

/// What a child is to do: one line, and what it is to try the file with behind it.
#[derive(Serialize, Deserialize)]
pub(super) struct ProbeRequest {
    pub(super) path: PathBytes,
    /// The symbol of the root module, if it has a name of its own.
    pub(super) header: String,
    pub(super) with_trial: bool,
    /// What it may have and reach.
    pub(super) sandbox: SandboxSpec,
}

/// A path that need not be text.
type PathBytes = Vec<u8>;

#[derive(Serialize, Deserialize)]
pub(super) enum ProbeAnswer {
    Described(Description, Option<Verdict>),
    Refused(String),
}

/// What else this program may have been started as, by its first argument, and what it does then:
/// the status that it ends with. It may end at once by the function that it gets.
pub(crate) type OtherChild = (&'static str, fn(fn(i32) -> !) -> i32);

/// Answers if this process was started as a probe, or does what one of the others does if it was
/// started as that; then it does not return.
pub(crate) fn answer(others: &[OtherChild]) -> ChildEntry {
    let argument = std::env::args_os().nth(1);
    let other = others.iter().find(|(other, _)| argument.as_deref() == Some(other.as_ref()));
    match (argument, other) {
        (_, Some((_, run))) => {
            // SAFETY: ends the process at once, as below.
            let exit = |status| unsafe { libc::_exit(status) };
            exit(run(exit))
        }
        (Some(argument), None) if argument == ARGUMENT => {}
        _ => return ChildEntry { answers: true },
    }
    // A request that is none is the end of a host that does not need this child any more.
    let answer = match (request(), private_stdout()) {
        (Some((ProbeRequest { path, header, sandbox, .. }, trial)), Ok(out)) => {
            let path = PathBuf::from(OsString::from_vec(path));
            // As long as this is the only thread.
            let limited = limit_this_process(&sandbox, &path);
            end_with_host();
            let answer = match limited {
                // What is missing is told when it counts.
                Ok(_) => match describe(&path, &header, trial, &out) {
                    ProbeAnswer::Refused(reason) => {
                        let hint = hint(&sandbox, &reason);
                        ProbeAnswer::Refused(reason + &hint)
                    }
                    described => described,
                },
                Err(reason) => ProbeAnswer::Refused(reason),
            };
            Some((answer, out))
        }
        _ => None,
    };
    let sent = answer.is_some_and(|(answer, mut out)| {
        let mut line = serde_json::to_vec(&answer).unwrap_or_default();
        line.push(b'\n');
        out.write_all(&line).is_ok()
    });
    // SAFETY: ends the process at once. Neither the library's destructors nor functions registered
    // with atexit run: what they do is no part of the answer.
    unsafe { libc::_exit(i32::from(!sent)) }
}

/// The pipe to the host, away from the standard output that constructors may print to.
fn private_stdout() -> std::io::Result<File> {
    let answer = rustix::io::dup(rustix::stdio::stdout())?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    // A crash here is expected, and its core file would be of use to nobody. Failing to say so is
    // no reason to stop.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
    Ok(File::from(answer))
}

/// From here on this process ends when the host does, whatever the file's code is doing. The host
/// holds the other end of the standard input for as long as it waits for the answer, and sends
/// nothing more; the kernel closes it when the host was killed. (`PR_SET_PDEATHSIG` would not do:
/// it is about the thread that started this process, which ends soon.)
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
            // SAFETY: ends the process at once, and runs nothing of the file's. Nobody reads the
            // answer any more.
            unsafe { libc::_exit(1) }
        };
        thread::Builder::new().name("ksi-end".to_owned()).stack_size(WATCH_STACK).spawn(watch)?;
        Ok(())
    };
    let _ = watched();
}

/// What the host wants, when it wants it. All of it is read before any code of the file runs, so
/// the host never waits for a child that does not read.
fn request() -> Option<(ProbeRequest, Option<std::io::Result<Trial>>)> {
    let mut input = std::io::stdin().lock();
    let mut line = Vec::new();
    input.read_until(b'\n', &mut line).ok()?;
    let request: ProbeRequest = serde_json::from_slice(&line).ok()?;
    let trial = request.with_trial.then(|| Trial::read(input));
    Some((request, trial))
}

/// The step that begins stands before the answer, a byte each. A host that does not read it is
/// gone.
fn describe(
    path: &Path,
    header: &str,
    trial: Option<std::io::Result<Trial>>,
    mut out: &File,
) -> ProbeAnswer {
    let mut begin = |step: TrialStep| {
        let _ = out.write_all(&[step.mark()]);
    };
    begin(TrialStep::Open);
    let library = match PluginLibrary::open(path, header) {
        Ok(library) => library,
        Err(error) => return ProbeAnswer::Refused(error.to_string()),
    };
    let description = match library.describe() {
        Ok(description) => description,
        Err(reason) => return ProbeAnswer::Refused(reason),
    };
    let verdict = trial.map(|trial| match trial {
        Ok(trial) => trial.run(library.module, begin),
        Err(error) => Verdict::Unsure(format!("what it is tried with cannot be read: {error}")),
    });
    ProbeAnswer::Described(description, verdict)
}
