//! The interpreter that runs modules: found by its name, and asked once what it is.
//!
//! What it says is its own path behind whatever it was found by, so that later starts go past shims
//! and links of version managers.

use std::{
    ffi::OsString,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use ksi_kernel::lock::Lock;
use rustix::io::Errno;
use serde::Deserialize;

use super::{
    error::PythonError,
    lines::{LineChild, Unanswered},
};
use crate::system::low_priority;
use std::sync::Arc;

/// What it gets to say what it is: version managers take their time.
const LIMIT: Duration = Duration::from_secs(10);
const LONGEST_ANSWER: usize = 64 << 10;
/// The oldest that runs the package.
const OLDEST: (u32, u32) = (3, 10);

/// What it is asked.
const QUESTION: &str = "\
import json, os, sys
paths = [sys.executable, sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix]
home = os.path.dirname(os.path.dirname(sys.executable or ''))
if os.path.isfile(os.path.join(home, 'pyvenv.cfg')):
    paths.append(home)
paths = [list(os.fsencode(it)) for it in paths if it]
print(json.dumps({'name': sys.implementation.name, 'version': list(sys.version_info[:3]), 'paths': paths}))
";

/// One that was found, and runs.
#[derive(Debug)]
pub(crate) struct Interpreter {
    /// Its own.
    pub(crate) path: PathBuf,
    /// As `3.13.0`.
    pub(crate) version: String,
    /// The folders that it reads what is its own from.
    pub(crate) folders: Vec<PathBuf>,
}

/// The one that is configured, once it was found.
pub(crate) struct Interpreters {
    named: PathBuf,
    found: Lock<Option<Arc<Interpreter>>>,
}

/// What it answers.
#[derive(Deserialize)]
struct Answer {
    name: String,
    version: (u32, u32, u32),
    paths: Vec<Vec<u8>>,
}

impl Interpreters {
    /// For a name that is looked for in `PATH`, or a path.
    pub(crate) fn named(named: PathBuf) -> Self {
        Interpreters { named, found: Lock::default() }
    }

    /// The interpreter, if it was found.
    pub(crate) fn known(&self) -> Option<Arc<Interpreter>> {
        self.found.lock().clone()
    }

    /// The interpreter. If there was none, it is looked for again.
    ///
    /// # Errors
    /// There is none, or it is of no use.
    pub(crate) async fn get(&self) -> Result<Arc<Interpreter>, PythonError> {
        if let Some(found) = self.known() {
            return Ok(found);
        }
        let named = self.named.clone();
        let asked = low_priority::done("ksi-python", move || Interpreter::ask(&named)).await;
        let not_started = |source| PythonError::NotStarted { program: self.named.clone(), source };
        let found = Arc::new(asked.map_err(not_started)??);
        let mut kept = self.found.lock();
        let found = kept.get_or_insert(found).clone();
        Ok(found)
    }
}

impl Interpreter {
    /// Asks the one of this name or path what it is. Blocks.
    ///
    /// # Errors
    /// It is not there, or of no use.
    pub(crate) fn ask(named: &Path) -> Result<Self, PythonError> {
        let interpreter = || named.to_owned();
        let not_said = |reason: String, may_pass: bool| PythonError::Unusable {
            interpreter: interpreter(),
            reason,
            may_pass,
        };
        let unusable = |reason: String| not_said(reason, false);
        // Whatever starts it may need what the environment says of Python; it does not.
        let mut command = Command::new(named);
        command.args(["-I", "-S", "-B", "-c", QUESTION]);
        let mut child =
            LineChild::start(&mut command, LONGEST_ANSWER).map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => {
                    PythonError::NoInterpreter { interpreter: interpreter() }
                }
                _ if is_short_of_something(&error) => {
                    PythonError::NotStarted { program: interpreter(), source: error }
                }
                _ => unusable(error.to_string()),
            })?;
        let answer = child.line(LIMIT).map_err(|none| match none {
            Unanswered::Ended(status) => not_said(format!("it ended ({status})"), true),
            Unanswered::TimedOut => {
                let limit = humantime::format_duration(LIMIT);
                not_said(format!("it said nothing within {limit}"), true)
            }
            Unanswered::TooLong => unusable("it says too much".to_owned()),
            Unanswered::Failed(error) => not_said(error.to_string(), true),
        })?;
        let Answer { name, version, paths } = serde_json::from_str(&answer)
            .map_err(|_| unusable(format!("it says {:?}", answer.trim())))?;
        let (major, minor, micro) = version;
        let version = format!("{major}.{minor}.{micro}");
        if name != "cpython" || (major, minor) < OLDEST {
            let found = format!("{name} {version}");
            return Err(PythonError::TooOld { interpreter: interpreter(), found });
        }
        let mut paths = paths.into_iter().map(|path| PathBuf::from(OsString::from_vec(path)));
        let Some(path) = paths.next().filter(|path| path.is_absolute()) else {
            return Err(unusable("it does not know its own path".to_owned()));
        };
        let mut folders: Vec<PathBuf> = paths.collect();
        folders.sort_unstable();
        folders.dedup();
        Ok(Interpreter { path, version, folders })
    }
}

/// Whether a program was not started for want of what there may be at another time: descriptors,
/// processes, memory, or the end of whoever writes the program.
fn is_short_of_something(error: &std::io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    let passing =
        [Errno::AGAIN, Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::INTR, Errno::TXTBSY];
    errno.is_some_and(|errno| passing.contains(&errno))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    /// A program in place of an interpreter.
    fn asked(script: &str) -> PythonError {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("python");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Interpreter::ask(&path).unwrap_err()
    }

    #[test]
    fn what_is_no_interpreter_that_can_be_used_is_told_with_what_it_is() {
        let missing = Interpreter::ask("no-such-python".as_ref()).unwrap_err().to_string();
        assert!(missing.contains("no-such-python was not found in PATH"), "{missing}");
        let answer = |name: &str, minor: u32| {
            format!("echo '{{\"name\": \"{name}\", \"version\": [3, {minor}, 1], \"paths\": []}}'")
        };
        for (script, told, may_pass) in [
            (answer("cpython", 9), "is cpython 3.9.1, where CPython 3.10 or later", false),
            (answer("pypy", 12), "is pypy 3.12.1", false),
            (answer("cpython", 12), "does not know its own path", false),
            ("echo hello".to_owned(), "it says \"hello\"", false),
            ("exit 3".to_owned(), "it ended (exit status: 3)", true),
            ("kill -9 $$".to_owned(), "it ended (signal: 9 (SIGKILL))", true),
        ] {
            let asked = asked(&script);
            let error = asked.to_string();
            assert!(error.contains(told) && error.contains("[python]"), "{error}");
            assert_eq!(asked.may_pass(), may_pass, "{error}");
        }
    }

    #[test]
    fn an_interpreter_that_is_not_started_for_want_of_something_is_not_called_unusable() {
        let of = |errno: Errno| is_short_of_something(&errno.into());
        assert!(of(Errno::AGAIN) && of(Errno::MFILE) && of(Errno::NOMEM));
        assert!(!of(Errno::ACCESS) && !of(Errno::NOEXEC));
    }
}
