//! What a module is, read from its source: an interpreter parses it, and runs nothing of it.
//!
//! One process reads all of them, one after the other. It is bounded in memory and time; one that
//! ends or hangs at a source is a message about that, and the next source gets another process.

use std::{os::unix::ffi::OsStrExt, path::Path, process::Command, sync::Arc, time::Duration};

use rustix::process::{Resource, Rlimit, prlimit};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use tokio::sync::Mutex;

use super::{
    error::PythonError,
    interpreter::Interpreter,
    lines::{LineChild, Unanswered},
    package,
};
use crate::{
    plugin::file::{
        manifest::{Manifest, read_python_manifest},
        project::{self, NotRead},
    },
    system::low_priority,
};

/// What the process runs. It imports the modules that it is given as texts, and no file of the
/// package, which need not be written yet.
const BOOT: &str = include_str!("../../../../plugin-api/python/src/ksi/describing/boot.py");
/// The longest answer: schemas of many handlers.
const LONGEST_ANSWER: usize = 8 << 20;
/// Bytes of address space of the process.
const MEMORY: u64 = 1 << 30;

/// See the module.
#[derive(Clone)]
pub(crate) struct Describer {
    child: Arc<Mutex<Option<LineChild>>>,
    limit: Duration,
}

/// A path crosses in the spelling of the interpreter: what is no UTF-8 in it as lone surrogates,
/// which JSON has and Rust's texts have not.
#[derive(Serialize)]
struct Request<'a> {
    path: &'a RawValue,
    file: &'a RawValue,
    name: &'a str,
    /// What its `pyproject.toml` or its block says; null if it says nothing.
    said: &'a Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Manifest(Box<RawValue>),
    Error(Mistake),
}

/// What keeps it from being a plugin, and where that is if it is in one place.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Mistake {
    file: Option<String>,
    line: Option<u64>,
    column: Option<u64>,
    text: Option<String>,
    message: String,
}

impl Describer {
    /// One that gives each source so long. Nothing is started yet.
    pub(crate) fn new(limit: Duration) -> Self {
        Describer { child: Arc::default(), limit }
    }

    /// Reads the module at `path`, which is a copy of `file`, as the plugin of this name.
    ///
    /// # Errors
    /// It is none, or cannot be read.
    pub(crate) async fn describe(
        &self,
        interpreter: &Arc<Interpreter>,
        path: &Path,
        file: &Path,
        name: &str,
    ) -> Result<Manifest, PythonError> {
        let (interpreter, limit) = (interpreter.clone(), self.limit);
        let (path, file, name) = (path.to_owned(), file.to_owned(), name.to_owned());
        let mut child = self.child.clone().lock_owned().await;
        let program = interpreter.path.clone();
        let described = low_priority::done("ksi-describe", move || {
            described(&mut child, &interpreter, limit, &path, &file, &name)
        });
        described.await.map_err(|source| PythonError::NotStarted { program, source })?
    }

    /// The same for whoever has no runtime. Blocks.
    ///
    /// # Errors
    /// As for [`describe`](Self::describe).
    pub(crate) fn describe_now(
        interpreter: &Interpreter,
        limit: Duration,
        file: &Path,
        name: &str,
    ) -> Result<Manifest, PythonError> {
        described(&mut None, interpreter, limit, file, file, name)
    }
}

fn described(
    child: &mut Option<LineChild>,
    interpreter: &Interpreter,
    limit: Duration,
    path: &Path,
    file: &Path,
    name: &str,
) -> Result<Manifest, PythonError> {
    let shown = match path.is_dir() {
        true => file.join(project::FILE),
        false => file.to_owned(),
    };
    let said = project::said_by(path).map_err(|unread| match unread {
        NotRead::File { source } => PythonError::Mistake {
            message: format!("{} cannot be read: {source}", shown.display()),
        },
        NotRead::Toml { line, column, text, message } => {
            let file = shown.display().to_string();
            PythonError::Syntax { file, line, column, message, text }
        }
    })?;
    let started = match child.take() {
        Some(child) => Ok(child),
        None => start(&interpreter.path),
    };
    let program = interpreter.path.clone();
    let mut asked =
        started.map_err(|source| PythonError::NotStarted { program: program.clone(), source })?;
    let (raw_path, raw_file) = (in_python(path), in_python(file));
    let request =
        serde_json::to_string(&Request { path: &raw_path, file: &raw_file, name, said: &said });
    let request = request.map_err(|error| PythonError::Answer { reason: error.to_string() })?;
    let answer = asked.ask(&request, limit).map_err(|none| match none {
        Unanswered::Ended(how) => PythonError::Died { how },
        Unanswered::TimedOut => PythonError::TimedOut { after: limit },
        Unanswered::TooLong => {
            PythonError::Answer { reason: format!("it takes more than {LONGEST_ANSWER} bytes") }
        }
        Unanswered::Failed(source) => PythonError::NotStarted { program, source },
    })?;
    let answer = serde_json::from_str(&answer)
        .map_err(|error| PythonError::Answer { reason: error.to_string() })?;
    // It goes on.
    *child = Some(asked);
    match answer {
        Answer::Manifest(manifest) => Ok(read_python_manifest(manifest.get())?),
        Answer::Error(Mistake { line: Some(line @ 1..), column, text, message, file: in_file }) => {
            Err(PythonError::Syntax {
                file: in_file.unwrap_or_else(|| file.display().to_string()),
                line,
                column: column.unwrap_or_default(),
                message,
                text: text.unwrap_or_default(),
            })
        }
        Answer::Error(Mistake { message, .. }) => Err(PythonError::Mistake { message }),
    }
}

fn start(interpreter: &Path) -> std::io::Result<LineChild> {
    let mut command = Command::new(interpreter);
    command.args(["-I", "-B", "-c", BOOT]);
    for (module, text) in package::of_describing() {
        command.arg(module).arg(text);
    }
    let child = LineChild::start(&mut command, LONGEST_ANSWER)?;
    let limit = |bytes| Rlimit { current: Some(bytes), maximum: Some(bytes) };
    // Where the system does not let it, its time is bounded all the same.
    let _ = prlimit(Some(child.pid()), Resource::As, limit(MEMORY));
    let _ = prlimit(Some(child.pid()), Resource::Core, limit(0));
    Ok(child)
}

/// A path as a text of JSON, as Python's `os.fsdecode` has it.
pub(super) fn in_python(path: &Path) -> Box<RawValue> {
    let mut text = String::from("\"");
    for part in path.as_os_str().as_bytes().utf8_chunks() {
        let valid = serde_json::to_string(part.valid()).unwrap_or_default();
        text.push_str(&valid[1..valid.len() - 1]);
        for byte in part.invalid() {
            text.push_str(&format!("\\udc{byte:02x}"));
        }
    }
    text.push('"');
    RawValue::from_string(text).unwrap_or_else(|_| Box::default())
}
