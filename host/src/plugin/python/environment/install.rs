//! Runs what installs a set of packages: into a folder that nobody else has, which gets its name
//! when all of it is there and on the disk.

use std::{
    collections::VecDeque,
    fs,
    io::{self, Read},
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, Signal, getpid, kill_process_group},
};

use super::{
    super::error::PythonError,
    Installer,
    kept::{self, DRAFT},
};
use crate::text::printable::printable;

/// What installing a set of packages may take.
const LIMIT: Duration = Duration::from_secs(600);
/// How often it is looked whether the host stops.
const LOOK: Duration = Duration::from_millis(100);
/// What is told of an installer that has failed, and what is logged as one line.
const LAST_LINES: usize = 5;
const LONGEST_LINE: usize = 2 << 10;
/// Becomes the program that its arguments name, which is ended when the host is: an installer that
/// goes on after its host has nobody to install for.
const WITH_THE_HOST: &str = "\
import os, sys
try:
    import ctypes
    ctypes.CDLL(None).prctl(1, 9)
except Exception:
    pass
host, program = int(sys.argv[1]), sys.argv[2]
if os.getppid() != host:
    sys.exit('the host has ended')
try:
    os.execvp(program, sys.argv[2:])
except FileNotFoundError:
    sys.exit(f'{program} was not found')
except OSError as error:
    sys.exit(f'{program} cannot be started: {error}')
";

/// What is run to install these packages into a folder, and how somebody would type it.
pub(super) fn filling(
    installer: Installer,
    python: &Path,
    folder: &Path,
    packages: &[String],
) -> (Command, String) {
    let command = command(installer, python, folder, packages);
    (with_the_host(python, &command), in_words(&command))
}

/// What installs these packages into a folder.
fn command(installer: Installer, python: &Path, folder: &Path, packages: &[String]) -> Command {
    let mut command = match installer {
        Installer::Uv => {
            let mut command = Command::new("uv");
            command.args(["pip", "install", "--compile-bytecode", "--python"]).arg(python);
            command
        }
        Installer::Pip => {
            let mut command = Command::new(python);
            command.args([
                "-I",
                "-m",
                "pip",
                "install",
                "--no-input",
                "--disable-pip-version-check",
                // What an attempt that was broken off has left is none of it.
                "--upgrade",
            ]);
            command
        }
    };
    command.arg("--target").arg(folder).arg("--").args(packages.iter().map(|it| it.trim()));
    command
}

/// What somebody types to have the same.
pub(super) fn by_hand(python: &Path, folder: &Path, packages: &[String]) -> String {
    let mut complete = Command::new("touch");
    complete.arg(folder.join(kept::COMPLETE));
    let command = command(Installer::Pip, python, folder, packages);
    format!("{} && {}", in_words(&command), in_words(&complete))
}

fn in_words(command: &Command) -> String {
    let parts = [command.get_program()].into_iter().chain(command.get_args());
    let quoted = parts.map(|part| {
        let part = part.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=+,@%".contains(c);
        match part.chars().all(plain) {
            true => part.into_owned(),
            false => format!("'{}'", part.replace('\'', r"'\''")),
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// Makes a folder under another name, and gives it its own when all of it is there. `filling` says
/// what is run to fill a folder, and how somebody would type it.
pub(super) fn make(
    root: &Path,
    folder: &Path,
    filling: impl FnOnce(&Path) -> (Command, String),
    plugin: &str,
    ended: &AtomicBool,
) -> Result<(), PythonError> {
    let failed = |source| PythonError::Environment { path: folder.to_owned(), source };
    fs::create_dir_all(root).map_err(failed)?;
    let draft = tempfile::Builder::new().prefix(DRAFT).tempdir_in(root).map_err(failed)?;
    // As long as it is locked, it is somebody's.
    let locked = fs::File::open(draft.path()).map_err(failed)?;
    locked.try_lock().map_err(|error| failed(error.into()))?;
    let (command, words) = filling(draft.path());
    tracing::info!(plugin, "installing what it needs: {words}");
    run(command, plugin, ended)
        .map_err(|reason| PythonError::Install { command: words, reason })?;
    kept::complete(draft.path()).map_err(failed)?;
    // What somebody has begun there by hand is not complete.
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    fs::rename(draft.path(), folder).map_err(failed)?;
    let _ = draft.keep();
    fs::File::open(root).and_then(|root| root.sync_all()).map_err(failed)
}

/// The same command, in a process that ends with the host's.
fn with_the_host(python: &Path, command: &Command) -> Command {
    let mut with = Command::new(python);
    with.args(["-I", "-S", "-c", WITH_THE_HOST]).arg(getpid().as_raw_nonzero().to_string());
    with.arg(command.get_program()).args(command.get_args());
    with
}

/// Runs an installer, whose output goes to the log; why it has failed.
fn run(mut command: Command, plugin: &str, ended: &AtomicBool) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let not_started = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => format!("{program} was not found"),
        _ => format!("it cannot be started: {error}"),
    };
    let (out, theirs) = io::pipe().map_err(not_started)?;
    let own = theirs.try_clone().map_err(not_started)?;
    for name in std::env::vars_os().map(|(name, _)| name) {
        if name.as_encoded_bytes().starts_with(b"PYTHON") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null()).stdout(theirs).stderr(own).process_group(0);
    let mut child = command.spawn().map_err(not_started)?;
    // With it, the ends of the pipe that are open here.
    drop(command);
    let mut printed = Printed { plugin, line: Vec::new(), last: VecDeque::new() };
    let followed = printed.follow(out, ended, Instant::now() + LIMIT);
    if followed.is_err() {
        let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
    }
    let status = child.wait();
    followed?;
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{status}: {}", Vec::from(printed.last).join("; "))),
        Err(error) => Err(error.to_string()),
    }
}

/// What an installer prints, line by line.
struct Printed<'a> {
    plugin: &'a str,
    line: Vec<u8>,
    last: VecDeque<String>,
}

impl Printed<'_> {
    /// Logs what comes until nothing more does; why that is not waited for any more.
    fn follow(
        &mut self,
        mut out: io::PipeReader,
        ended: &AtomicBool,
        until: Instant,
    ) -> Result<(), String> {
        let mut chunk = [0; 4 << 10];
        loop {
            if ended.load(Ordering::Acquire) {
                return Err("the host is stopping".to_owned());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let limit = humantime::format_duration(LIMIT);
                return Err(format!("it has not ended within {limit}"));
            }
            let look = Timespec::try_from(left.min(LOOK)).map_err(|error| error.to_string())?;
            match poll(&mut [PollFd::new(&out, PollFlags::IN)], Some(&look)) {
                Ok(0) | Err(Errno::INTR) => continue,
                Ok(_) => {}
                Err(error) => return Err(error.to_string()),
            }
            match out.read(&mut chunk) {
                Ok(0) => break,
                Ok(read) => self.take(&chunk[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        self.end_line();
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LONGEST_LINE.saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&line);
        let text = printable(text.trim());
        if text.is_empty() {
            return;
        }
        tracing::info!(plugin = self.plugin, "{text}");
        self.last.push_back(text.to_string());
        if self.last.len() > LAST_LINES {
            self.last.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An installer that is a script; it gets the folder as its first argument.
    fn made(script: &str, root: &Path, ended: &AtomicBool) -> Result<(), PythonError> {
        let folder = root.join("x");
        let filling = |draft: &Path| {
            let mut command = Command::new("sh");
            command.args(["-c", script, "sh"]).arg(draft);
            (command, script.to_owned())
        };
        let made = make(root, &folder, filling, "p", ended);
        assert_eq!(made.is_ok(), kept::is_complete(&folder));
        let drafts = fs::read_dir(root).unwrap().flatten().filter(|it| it.path() != folder);
        assert_eq!(drafts.count(), 0, "nothing else is left");
        made
    }

    #[test]
    fn a_folder_is_there_as_a_whole_or_not_at_all() {
        let (root, on) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
        let half = "echo half > $1/a; echo no network >&2; exit 3";
        let failed = made(half, root.path(), &on).unwrap_err().to_string();
        assert!(failed.contains("exit status: 3: no network"), "{failed}");
        // As somebody has left it who was interrupted.
        fs::create_dir(root.path().join("x")).unwrap();
        fs::write(root.path().join("x/b"), "half").unwrap();
        made("test ! -e $1/a && echo all > $1/a", root.path(), &on).unwrap();
        assert!(!root.path().join("x/b").exists());
        assert_eq!(fs::read_to_string(root.path().join("x/a")).unwrap(), "all\n");
    }

    #[test]
    fn a_host_that_stops_waits_for_no_installer() {
        let (root, stops) = (tempfile::tempdir().unwrap(), AtomicBool::new(true));
        let failed = made("sleep 1000", root.path(), &stops).unwrap_err().to_string();
        assert!(failed.contains("the host is stopping"), "{failed}");
    }
}
