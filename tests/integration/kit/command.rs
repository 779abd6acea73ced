//! The `ksi` command as a process: run to its end, or kept running until it is dropped.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    time::{Duration, Instant},
};

use super::{PATIENCE, artifacts, until};

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    /// What it was ended by.
    pub(crate) signal: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self.stdout
    }

    #[track_caller]
    pub(crate) fn fails(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self.stderr
    }
}

/// The command, with nothing of the environment that would lead it to another host.
pub(crate) fn ksi_command(arguments: &[&str]) -> Command {
    let mut command = Command::new(artifacts().ksi());
    command.args(arguments).stdin(Stdio::null());
    for name in ["KSI_SOCKET", "KSI_CONFIG", "KSI_LOG", "XDG_RUNTIME_DIR"] {
        command.env_remove(name);
    }
    command
}

/// The command as the last arguments of another one, which has to run it, with the same
/// surroundings.
pub(crate) fn wrapped(mut around: Command, command: &Command) -> Command {
    around.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => around.env(name, value),
            None => around.env_remove(name),
        };
    }
    around.current_dir(command.get_current_dir().unwrap_or(Path::new(".")));
    around
}

/// The command after a script of the shell, in a mount namespace of its own: what is mounted there
/// is seen by nobody else. `None` where that is not allowed, as it is to the superuser alone: then
/// a test that needs it says that it was skipped.
pub(crate) fn after_mounts(script: &str, command: &Command) -> Option<Command> {
    let allowed =
        Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    if !allowed.is_ok_and(|ran| ran.status.success()) {
        eprintln!("SKIPPED: this test mounts file systems, which only the superuser may");
        return None;
    }
    let mut around = Command::new("unshare");
    around.args(["-m", "sh", "-c", &format!("{script} && exec \"$@\""), "sh"]);
    Some(wrapped(around, command))
}

/// Runs the command to its end, with a socket, and with text on its standard input.
#[track_caller]
pub(crate) fn ksi(socket: &Path, arguments: &[&str], input: &str) -> Ran {
    let mut command = ksi_command(arguments);
    command.env("KSI_SOCKET", socket);
    let mut running = Running::start(command.stdin(Stdio::piped()));
    let mut stdin = running.child.stdin.take().unwrap();
    // A command that does not read may be gone already.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    running.ended()
}

/// A command that runs. It is ended when this is dropped.
pub(crate) struct Running {
    child: Child,
    /// In a mutex, so that tests may share a host among threads.
    lines: Mutex<Receiver<String>>,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
    ended: Option<ExitStatus>,
}

impl Running {
    #[track_caller]
    pub(crate) fn start(command: &mut Command) -> Running {
        Running::start_with(command, Stdio::piped())
    }

    /// Starts it with another standard error than one that is read.
    #[track_caller]
    pub(crate) fn start_with(command: &mut Command, stderr: Stdio) -> Running {
        let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let (stdout, stderr) = (Arc::<Mutex<String>>::default(), Arc::<Mutex<String>>::default());
        let (sender, lines) = channel();
        collect(child.stdout.take().unwrap(), &stdout, move |line| {
            // Nobody may be waiting for lines.
            let _ = sender.send(line);
        });
        if let Some(from) = child.stderr.take() {
            collect(from, &stderr, |_| ());
        }
        Running { child, lines: Mutex::new(lines), stdout, stderr, ended: None }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line of its standard output, without the line's end.
    #[track_caller]
    pub(crate) fn line(&self) -> String {
        self.next_line(PATIENCE).unwrap_or_else(|error| {
            panic!("no line came ({error}); standard error:\n{}", self.stderr())
        })
    }

    /// The next line, if one comes soon.
    pub(crate) fn line_soon(&self) -> Option<String> {
        self.next_line(PATIENCE / 300).ok()
    }

    fn next_line(&self, patience: Duration) -> Result<String, RecvTimeoutError> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(patience)
    }

    /// What it has written to standard output so far.
    pub(crate) fn stdout(&self) -> String {
        self.stdout.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it has written to standard error so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until it has written this to standard error, and gives all that it has written so far.
    /// A line may come later than whatever else tells of the same, and so may whoever collects it.
    #[track_caller]
    pub(crate) fn told(&self, what: &str) -> String {
        until(&format!("{what:?} is told"), || self.stderr(), |told| told.contains(what))
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        self.try_signal(signal).unwrap();
    }

    /// The same for one that may have ended.
    pub(crate) fn try_signal(&self, signal: rustix::process::Signal) -> rustix::io::Result<()> {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, signal)
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.status().is_some()
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> Ran {
        let status = until("the command ends", || self.status(), Option::is_some);
        // Whoever inherited its output may hold it open; what the command itself wrote is there at
        // once.
        let start = Instant::now();
        while Arc::strong_count(&self.stdout) + Arc::strong_count(&self.stderr) > 2
            && start.elapsed() < PATIENCE / 10
        {
            std::thread::yield_now();
        }
        Ran {
            code: status.and_then(|status| status.code()),
            signal: status.and_then(|status| status.signal()),
            stdout: self.stdout.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            stderr: self.stderr(),
        }
    }

    fn status(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().unwrap();
        }
        self.ended
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.status().is_none() {
            // It may end by itself in this moment.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("standard error of the process {}:\n{}", self.child.id(), self.stderr());
        }
    }
}

fn collect(
    from: impl Read + Send + 'static,
    into: &Arc<Mutex<String>>,
    each: impl Fn(String) + Send + 'static,
) {
    let into = into.clone();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(from);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&line).into_owned();
            into.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
            each(text.trim_end_matches('\n').to_owned());
            line.clear();
        }
    });
}
