//! The processes that plugins run in, as the host holds them: started, listened to, killed and
//! reaped.
//!
//! All of them belong to one thread that lasts as long as the host: it starts them, reads what they
//! print, and waits for their ends. Whether a process is there is told by its descriptor (pidfd)
//! and by nothing else: pipes and sockets may be held open by whoever it has started.
//!
//! Promises that each process ends in one [`Death`], that its whole process group goes with it,
//! with [all that it has started](groups) where the system lets the host, and that none outlives
//! the host's orderly stop. Does not know what is said over the socket.

mod death;
mod groups;
mod output;
mod program;

use std::{
    io,
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{Child, Stdio},
    sync::{
        Arc, MutexGuard, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ksi_kernel::lock::Lock;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open};
use tokio::{net::unix::pipe, runtime::Handle, sync::watch};

use ksi_sandbox::cgroup::Group;

pub(crate) use self::{
    death::Death,
    groups::{GroupPolicy, GroupUse},
    program::Program,
};
use self::{
    groups::ProcessGroups,
    output::{Output, Owner},
};
use crate::system::own_thread::OwnThread;

/// What all processes get to be gone when the host stops.
const GONE: Duration = Duration::from_secs(1);

/// The processes of one host.
pub(crate) struct Processes {
    /// Not before there is a process.
    thread: OnceLock<OwnThread>,
    running: Lock<Vec<Weak<WorkerProcess>>>,
    groups: ProcessGroups,
    /// There are to be none any more.
    ended: AtomicBool,
}

/// A process that was started, with the host's end of its socket.
pub(crate) struct NewProcess {
    pub(crate) process: Arc<WorkerProcess>,
    /// Its other end is the standard input of the process.
    pub(crate) socket: UnixStream,
}

/// One process.
pub(crate) struct WorkerProcess {
    pid: Pid,
    owner: Owner,
    fate: Lock<Fate>,
    /// With all that it has started.
    group: Lock<Option<Group>>,
    death: watch::Receiver<Option<Arc<Death>>>,
}

/// What has become of a process, as far as its number goes.
#[derive(Debug, Default)]
struct Fate {
    /// Why the host has killed it, if it has.
    killed: Option<String>,
    /// Its number may be another process's by now.
    reaped: bool,
    /// What it used when that was last known.
    used: Option<Usage>,
}

impl Fate {
    /// Notes what it uses now, as long as its number is its own.
    fn look(&mut self, pid: u32) {
        let now = if self.reaped { None } else { Usage::of(pid) };
        self.used = match (now, self.used) {
            // It has ended, and has no memory any more.
            (Some(Usage { resident_kib: 0, cpu }), Some(last)) => Some(Usage { cpu, ..last }),
            (Some(Usage { resident_kib: 0, .. }) | None, last) => last,
            (now, _) => now,
        };
    }
}

impl Processes {
    pub(crate) fn new() -> Arc<Self> {
        let (running, ended) = (Lock::default(), AtomicBool::new(false));
        let groups = ProcessGroups::default();
        Arc::new(Processes { thread: OnceLock::new(), running, groups, ended })
    }

    /// Starts one that runs this program.
    ///
    /// # Errors
    /// What the system says; or the host is stopping.
    pub(crate) async fn start(self: &Arc<Self>, program: &Arc<Program>) -> io::Result<NewProcess> {
        let (processes, program) = (self.clone(), program.clone());
        // On the thread that lasts: what a process is told of its parent's end is told of the end
        // of the thread that started it.
        let runtime = self.runtime()?;
        let started = runtime.spawn(async move { processes.spawn(&program) });
        started.await.map_err(io::Error::other)?
    }

    /// From here on a process is this plugin's, whose name stands before what it prints, and in a
    /// group of its own. Nothing of the plugin runs in it yet, as it was not told what to open. One
    /// that has ended already gets no group: whoever has it open something finds out.
    ///
    /// # Errors
    /// There is no group, and there has to be.
    pub(crate) fn give(
        &self,
        process: &WorkerProcess,
        plugin: &Arc<str>,
        group: &GroupPolicy,
    ) -> io::Result<()> {
        process.owner.becomes(plugin);
        // Whoever reaps it waits for this: until then the number is its own.
        let fate = process.fate.lock();
        if !fate.reaped {
            let own = self.groups.of(plugin, process.pid(), group).map_err(io::Error::other)?;
            *process.group.lock() = own;
        }
        Ok(())
    }

    fn spawn(&self, program: &Program) -> io::Result<NewProcess> {
        if self.ended.load(Ordering::Acquire) {
            return Err(io::Error::other("the host is stopping"));
        }
        let (socket, theirs) = UnixStream::pair()?;
        // No `pre_exec`: with it a start forks, which takes 9 ms in place of 1.
        let mut child = program
            .command()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let owner = Owner::default();
        let watched = Watched::new(&mut child, &owner);
        let watched = watched.inspect_err(|_| {
            let _ = child.kill();
            let _ = child.wait();
        })?;
        let (told, death) = watch::channel(None);
        let pid = Pid::from_child(&child);
        let (fate, group) = (Lock::default(), Lock::default());
        let process = Arc::new(WorkerProcess { pid, owner, fate, group, death });
        {
            let mut running = self.running();
            running.retain(|process| process.strong_count() > 0);
            running.push(Arc::downgrade(&process));
        }
        let there = process.clone();
        tokio::spawn(async move {
            let death = watched.until_the_end(child, &there).await;
            tracing::debug!(plugin = there.owner.name(), pid = there.pid(), "{death}");
            told.send_replace(Some(Arc::new(death)));
            let group = there.group.lock().take();
            groups::remove(group).await;
        });
        if self.ended.load(Ordering::Acquire) {
            process.kill("the host is stopping");
        }
        Ok(NewProcess { process, socket })
    }

    /// Ends those that there are, and waits a moment for it. None is started any more.
    pub(crate) async fn end(&self) {
        self.ended.store(true, Ordering::Release);
        let running: Vec<_> = self.running().iter().filter_map(Weak::upgrade).collect();
        running.iter().for_each(|process| process.kill("the host is stopping"));
        let all = async {
            for process in &running {
                process.death().await;
            }
        };
        let _ = tokio::time::timeout(GONE, all).await;
        if let Some(thread) = self.thread.get() {
            thread.end().await;
        }
    }

    /// Waits on this thread until a process is gone, and kills it after this long.
    pub(crate) fn wait_for(&self, process: &WorkerProcess, limit: Duration) {
        let gone = |limit| {
            // Made where it is polled, which is where timers are.
            let death = async { tokio::time::timeout(limit, process.death()).await };
            self.runtime().is_ok_and(|runtime| runtime.block_on(death).is_ok())
        };
        if process.dead().is_none() && !gone(limit) {
            process.kill("it did not end when it was told to");
            gone(GONE);
        }
    }

    /// Waits for something so long, whoever polls this.
    pub(crate) async fn in_time<T>(
        &self,
        limit: Duration,
        future: impl Future<Output = T>,
    ) -> Option<T> {
        let timer = self.runtime().map(|runtime| {
            let _inside = runtime.enter();
            tokio::time::sleep(limit)
        });
        let timer = async {
            match timer {
                Ok(timer) => timer.await,
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            done = future => Some(done),
            () = timer => None,
        }
    }

    /// Where timers run for what lasts as long as a process.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn runtime(&self) -> io::Result<&Handle> {
        if let Some(thread) = self.thread.get() {
            return Ok(thread.runtime());
        }
        // Of two that are started at once, one ends again.
        let thread = OwnThread::start("ksi-processes")?;
        Ok(self.thread.get_or_init(|| thread).runtime())
    }

    fn running(&self) -> MutexGuard<'_, Vec<Weak<WorkerProcess>>> {
        self.running.lock()
    }
}

impl WorkerProcess {
    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// How it ended, if it has.
    pub(crate) fn dead(&self) -> Option<Arc<Death>> {
        self.death.borrow().clone()
    }

    /// Waits for its end.
    pub(crate) async fn death(&self) -> Arc<Death> {
        let mut death = self.death.clone();
        let told = death.wait_for(Option::is_some).await.map(|death| death.clone());
        // Whoever watches it ends with the host.
        told.ok().flatten().unwrap_or_else(|| Arc::new(Death::unknown()))
    }

    /// Kills it and whatever is in its process group. The first reason counts.
    pub(crate) fn kill(&self, reason: &str) {
        let mut fate = self.fate.lock();
        // Under the lock, which whoever reaps it takes before: the number is still its own.
        if !fate.reaped && fate.killed.is_none() {
            fate.killed = Some(reason.to_owned());
            let _ = kill_process_group(self.pid, Signal::KILL);
            // It may have left its group.
            let _ = kill_process(self.pid, Signal::KILL);
        }
    }

    /// What it uses of the machine now, or once it has ended, what was last known of that; nothing
    /// where there is no `/proc`.
    pub(crate) fn usage(&self) -> Option<Usage> {
        let mut fate = self.fate.lock();
        fate.look(self.pid());
        fate.used
    }
}

/// What a process uses of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Memory of its own and shared with others, in KiB.
    pub(crate) resident_kib: u64,
    /// What it has run so far.
    pub(crate) cpu: Duration,
}

impl Usage {
    fn of(pid: u32) -> Option<Self> {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
        let pages: u64 = read("statm")?.split_whitespace().nth(1)?.parse().ok()?;
        let stat = read("stat")?;
        // The second field is a name in brackets, which may contain anything.
        let (_, fields) = stat.rsplit_once(')')?;
        let mut ticks = fields.split_whitespace().skip(11).map(str::parse::<u64>);
        let ticks = ticks.next()?.ok()? + ticks.next()?.ok()?;
        let page = u64::try_from(rustix::param::page_size()).ok()?;
        let second = rustix::param::clock_ticks_per_second().max(1);
        let cpu = Duration::from_millis(ticks.saturating_mul(1000) / second);
        Some(Usage { resident_kib: pages * page / 1024, cpu })
    }
}

/// All that a process is watched by.
struct Watched {
    pidfd: pipe::Receiver,
    out: pipe::Receiver,
    err: pipe::Receiver,
    printed: [Output; 2],
}

impl Watched {
    fn new(child: &mut Child, owner: &Owner) -> io::Result<Self> {
        let no_pipe = || io::Error::other("it has no standard output");
        let out = child.stdout.take().ok_or_else(no_pipe)?;
        let err = child.stderr.take().ok_or_else(no_pipe)?;
        let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::NONBLOCK)?;
        Ok(Watched {
            // Of any descriptor it tells when that is readable.
            pidfd: pipe::Receiver::from_owned_fd_unchecked(pidfd)?,
            out: pipe::Receiver::from_owned_fd(out.into())?,
            err: pipe::Receiver::from_owned_fd(err.into())?,
            printed: [Output::new(owner, "stdout"), Output::new(owner, "stderr")],
        })
    }

    /// Logs what it prints until it has ended, reaps it, and tells how it ended.
    async fn until_the_end(self, mut child: Child, process: &WorkerProcess) -> Death {
        let Watched { pidfd, out, err, printed: [mut printed, mut complained] } = self;
        let (mut out_open, mut err_open) = (true, true);
        loop {
            tokio::select! {
                biased;
                _ = pidfd.readable() => break,
                () = ready(&out), if out_open => out_open = printed.read(&out),
                () = ready(&err), if err_open => err_open = complained.read(&err),
            }
            // One that prints without a pause keeps nobody else's end from being seen.
            tokio::task::yield_now().await;
        }
        // What it wrote last is in the pipes by now; what others write there is not waited for.
        printed.read_what_there_is(&out);
        complained.read_what_there_is(&err);
        let (killed, status) = {
            let mut fate = process.fate.lock();
            // As long as nobody has reaped it, its group has its number.
            let _ = kill_process_group(process.pid, Signal::KILL);
            fate.look(process.pid());
            // Nobody kills or asks by that number any more. It has ended, so this does not wait.
            fate.reaped = true;
            (fate.killed.clone().unwrap_or_default(), child.wait())
        };
        // What has left its group of processes has not left this one.
        process.group.lock().iter().for_each(groups::kill);
        Death::new(status.ok(), killed, complained.last_words())
    }
}

/// Waits until there is something to read, or nothing ever will be.
async fn ready(pipe: &pipe::Receiver) {
    let _ = pipe.readable().await;
}

#[cfg(test)]
mod tests;
