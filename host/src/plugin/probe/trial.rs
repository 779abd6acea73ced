//! A candidate's `initialize` and `restore`, tried in a probe's process: with its configuration,
//! and with a copy of the state that it would get if there is some.
//!
//! What kills or hangs that process is an error message in the host. There is no router in it:
//! whatever the plugin emits is refused, its tasks never run, and `Context::is_trial` tells it so.
//! So three things are final, for these bytes: the process dies (a signal, `exit`), a poll in it
//! does not return, and a snapshot that is restored badly. An `initialize` that fails, panics or
//! awaits something there is no verdict, because it may need somebody: it counts in the host.

use std::{
    ffi::OsString,
    future::{Future, Pending},
    io::{self, BufRead, Read, Write},
    os::{
        fd::OwnedFd,
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::PathBuf,
    sync::Arc,
    task::{Context, Waker},
    time::{Duration, Instant},
};

use ksi_abi::{
    BoundaryFuture, Content, Counted, EmitOptions, HostApi, HostRef, ModuleRef, Refusal,
    RefusalCode, ReplyEnd, ReplyForm, ReportHandle, Start, SubscribeOptions, To,
    host::{self, WaitEnd, WatchStep, watch_patterns},
};
use ksi_kept::Address;
use ksi_kernel::{
    event::{Event, Payload},
    router::plugin_report::PluginReport,
};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use crate::plugin::{
    instance::{
        configs::PluginConfig,
        library::{self, reason_of},
        library_body::LibraryBody,
    },
    state::snapshot::{self, Snapshot, StateError},
};

/// What a candidate is tried with.
#[derive(Debug, Clone)]
pub(crate) struct Trial {
    /// Where the plugin was copied from.
    pub(crate) file: PathBuf,
    /// The plugin's configuration, encoded.
    pub(crate) config: PluginConfig,
    /// What its `initialize` gets.
    pub(crate) limit: Duration,
    /// What it is to restore, if there is state for it.
    pub(crate) snapshot: Option<Snapshot>,
    /// The file that this is from, if it is from the disk. The process that tries it does not know.
    pub(crate) kept: Option<PathBuf>,
}

/// How it went.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Verdict {
    /// It initialized, and restored the snapshot if there was one.
    Passed,
    /// It could not be tried to the end, for this reason.
    Unsure(String),
    /// It does not restore it, for this reason.
    Refused(String),
}

/// The steps of a trial that the host is told of, so that it can say at which one the process
/// ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TrialStep {
    Open,
    Initialize,
    Restore,
}

impl TrialStep {
    const ALL: [TrialStep; 3] = [TrialStep::Open, TrialStep::Initialize, TrialStep::Restore];

    /// What stands for it before the answer.
    pub(super) fn mark(self) -> u8 {
        match self {
            TrialStep::Open => b'o',
            TrialStep::Initialize => b'i',
            TrialStep::Restore => b'r',
        }
    }

    pub(super) fn of(mark: u8) -> Option<TrialStep> {
        TrialStep::ALL.into_iter().find(|step| step.mark() == mark)
    }

    /// For people, before "it".
    pub(super) fn told(self) -> &'static str {
        match self {
            TrialStep::Open => "opening",
            TrialStep::Initialize => "initializing an instance of",
            TrialStep::Restore => "restoring the state in",
        }
    }
}

/// Bytes of the header: a path has up to 4,096, each of which may take four here.
const HEADER: u64 = 32 << 10;

#[derive(Serialize, Deserialize)]
struct TrialHeader {
    /// The bytes of a path.
    file: Vec<u8>,
    limit: Duration,
    config: usize,
    /// Version and length of the snapshot.
    state: Option<(u32, usize)>,
}

impl Trial {
    /// Writes it for a process that reads it.
    pub(crate) fn write(&self, mut to: impl Write) -> io::Result<()> {
        let snapshot = self.snapshot.as_ref();
        let state = snapshot.map(|snapshot| (snapshot.version, snapshot.bytes.as_json().len()));
        let file = self.file.as_os_str().as_bytes().to_vec();
        let header = TrialHeader { file, limit: self.limit, config: self.config.len(), state };
        serde_json::to_writer(&mut to, &header)?;
        to.write_all(b"\n")?;
        to.write_all(&self.config)?;
        snapshot.map_or(Ok(()), |snapshot| to.write_all(snapshot.bytes.as_json()))
    }

    /// Reads what was written.
    pub(crate) fn read(mut from: impl BufRead) -> io::Result<Self> {
        let mut line = String::new();
        (&mut from).take(HEADER).read_line(&mut line)?;
        let TrialHeader { file, limit, config, state } = serde_json::from_str(&line)?;
        let file = OsString::from_vec(file).into();
        let mut config = vec![0; config];
        from.read_exact(&mut config)?;
        let Some((version, length)) = state else {
            return Ok(Trial {
                file,
                config: PluginConfig::plain(config),
                limit,
                snapshot: None,
                kept: None,
            });
        };
        let mut bytes = vec![0; length];
        from.read_exact(&mut bytes)?;
        let bytes = Payload::from_json_bytes(bytes);
        let snapshot = Some(Snapshot::new(version, bytes));
        let config = PluginConfig::plain(config);
        Ok(Trial { file, config, limit, snapshot, kept: None })
    }

    /// Makes an instance and lets it restore the snapshot, if there is one. `begin` is told of each
    /// step. In a process that ends right after.
    pub(super) fn run(&self, module: ModuleRef, mut begin: impl FnMut(TrialStep)) -> Verdict {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return Verdict::Unsure(format!("no runtime can be started: {error}")),
        };
        let host = TrialHost::host(self.file.clone(), runtime.handle().clone());
        runtime.block_on(async {
            begin(TrialStep::Initialize);
            let creating = library::create(module, host, &self.config);
            let instance = match tokio::time::timeout(self.limit, creating).await {
                Ok(Ok(instance)) => LibraryBody::new(instance, None),
                Ok(Err(end)) => {
                    let reason = reason_of(end);
                    return Verdict::Unsure(format!("its initialize fails in a trial: {reason}"));
                }
                // It may wait for somebody.
                Err(_) => {
                    return Verdict::Unsure("its initialize does not end in a trial".to_owned());
                }
            };
            let Some(Snapshot { version, bytes, .. }) = &self.snapshot else {
                std::mem::forget(instance);
                return Verdict::Passed;
            };
            begin(TrialStep::Restore);
            let restored = snapshot::restore_in(&instance, *version, bytes.as_json()).await;
            // The process ends with all that the plugin started, and its end is none of the trial's
            // business.
            std::mem::forget(instance);
            match restored {
                Ok(()) => Verdict::Passed,
                // Nothing of the plugin has run but its type, and an older snapshot may be one that
                // it can read.
                Err(error @ StateError::Unreadable { .. }) => Verdict::Unsure(error.to_string()),
                Err(error) => Verdict::Refused(error.to_string()),
            }
        })
    }
}

/// A host in which nobody else is.
pub(in crate::plugin) struct TrialHost {
    file: PathBuf,
    began: Instant,
    /// Whose timers its sleeps use: a plugin may ask for one on a thread of its own.
    runtime: Handle,
}

impl TrialHost {
    pub(in crate::plugin) fn host(file: PathBuf, runtime: Handle) -> HostRef {
        HostRef::new(Arc::new(TrialHost { file, began: Instant::now(), runtime }))
    }
}

fn nobodys_report() -> ReportHandle {
    ReportHandle::new(PluginReport::refused(&nobody()))
}

fn nobody() -> Refusal {
    let text = "this is a trial in a probe's process: nobody else is there";
    Refusal::new(RefusalCode::TRIAL, text)
}

impl HostApi for TrialHost {
    type Event = Event;
    type Route = ();
    type Emitting = Pending<ReportHandle>;
    type Requesting = Pending<ReplyEnd>;
    type Watch = ();

    fn resolve(self: &Arc<Self>, _: &str) -> Option<()> {
        Some(())
    }

    fn emit(
        self: &Arc<Self>,
        _: Option<&Counted<Event>>,
        _: To<'_, ()>,
        _: Content,
        _: Option<&EmitOptions<'_>>,
        _: &mut Context<'_>,
    ) -> Start<ReportHandle, Pending<ReportHandle>> {
        Start::Ready(nobodys_report())
    }

    fn request(
        self: &Arc<Self>,
        _: Option<&Counted<Event>>,
        _: To<'_, ()>,
        _: Content,
        _: Option<&EmitOptions<'_>>,
        _: &ReplyForm,
        _: &mut Context<'_>,
    ) -> Start<ReplyEnd, Pending<ReplyEnd>> {
        Start::Ready(ReplyEnd::Report(nobodys_report()))
    }

    fn send(
        self: &Arc<Self>,
        _: Option<&Counted<Event>>,
        _: To<'_, ()>,
        _: Content,
        _: Option<&EmitOptions<'_>>,
    ) -> Result<(), Refusal> {
        Err(nobody())
    }

    fn wait_for(
        self: &Arc<Self>,
        _: &str,
        _: Duration,
    ) -> impl Future<Output = WaitEnd> + Send + 'static {
        std::future::ready(WaitEnd::Refused(nobody()))
    }

    fn watch(self: &Arc<Self>, patterns: &[&str], _: usize) -> Result<(), Refusal> {
        watch_patterns(patterns).map(drop)
    }

    // No event passes, and whoever awaited the first one would wait until the trial is over.
    fn next(_: &Arc<()>) -> impl Future<Output = WatchStep> + Send + 'static {
        std::future::ready(WatchStep::Ended)
    }

    fn subscribe(
        self: &Arc<Self>,
        pattern: &str,
        _: u64,
        options: &SubscribeOptions<'_>,
    ) -> Result<u64, Refusal> {
        host::pattern(pattern)?;
        options.check().map(|()| 0)
    }

    fn unsubscribe(&self, _: u64) -> bool {
        true
    }

    fn sleep(self: &Arc<Self>, duration: Duration) -> impl Future<Output = u8> + Send + 'static {
        let sleep = {
            let _inside = self.runtime.enter();
            tokio::time::sleep(duration)
        };
        async move {
            sleep.await;
            0
        }
    }

    fn spawn(self: &Arc<Self>, future: BoundaryFuture<u8>) -> Result<u64, Refusal> {
        // Never polled, and dropped with the process.
        std::mem::forget(future);
        Ok(0)
    }

    fn cancel(&self, _: u64) {}

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn adopt_waker(self: &Arc<Self>, waker: Waker) -> Waker {
        // The library stays until the process ends.
        waker
    }

    fn is_trial(&self) -> bool {
        true
    }

    fn file(&self) -> Option<Vec<u8>> {
        Some(self.file.as_os_str().as_bytes().to_vec())
    }

    fn listener(&self, address: &str) -> Result<OwnedFd, Refusal> {
        // The live generation may listen there.
        let stand_in = Address::parse(address)?.stand_in();
        stand_in.map_err(|error| {
            let text = format_args!("{address} has no stand-in: {error}");
            Refusal::new(RefusalCode::ADDRESS_UNAVAILABLE, text)
        })
    }

    fn keep(&self, _: &str, _: OwnedFd) -> Result<(), Refusal> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_plugin_may_sleep_on_a_thread_of_its_own() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let host = TrialHost::host("a.so".into(), runtime.handle().clone());
        let asked = std::thread::spawn(move || host.sleep(Duration::from_millis(1)));
        assert!(runtime.block_on(asked.join().unwrap()).is_ok());
    }

    #[test]
    fn what_a_host_refuses_to_watch_a_trial_refuses_and_no_event_is_waited_for() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let host = TrialHost::host("a.so".into(), runtime.handle().clone());
        for patterns in [&[][..], &["::"], &["a:*"; 65]] {
            let refusal = host.watch(patterns, 8).err().expect("it is no watch");
            assert_eq!(refusal.code, RefusalCode::INVALID_PATTERN);
        }
        let options = SubscribeOptions::default();
        let refusal = host.subscribe("::", 0, &options).expect_err("it is no pattern");
        assert_eq!(refusal.code, RefusalCode::INVALID_PATTERN);
        let watch = host.watch(&["a:*"], 8).expect("a watch");
        assert!(matches!(watch.next().now_or_never(), Some(Ok(WatchStep::Ended))));
    }

    #[test]
    fn a_trial_is_read_as_it_was_written_and_half_of_one_is_none() {
        let bytes = Payload::from_json_bytes(b"[1,\n2]".to_vec());
        let snapshot = Snapshot::new(7, bytes);
        let limit = Duration::from_millis(1_500);
        for snapshot in [Some(snapshot), None] {
            // The longest path that there can be.
            let file = PathBuf::from(OsString::from_vec(vec![0xff; 4_095]));
            let config = PluginConfig::plain(b"{\"a\":\n1}".to_vec());
            let trial = Trial { file, config, limit, snapshot, kept: None };
            let mut written = Vec::new();
            trial.write(&mut written).unwrap();
            let read = Trial::read(&*written).unwrap();
            assert_eq!((read.file, &*read.config), (trial.file, &*trial.config));
            assert_eq!(read.limit, limit);
            let state = |it: &Snapshot| (it.version, it.bytes.as_json().to_vec());
            assert_eq!(read.snapshot.as_ref().map(state), trial.snapshot.as_ref().map(state));
            for end in 0..written.len() {
                assert!(Trial::read(&written[..end]).is_err(), "{end}");
            }
        }
    }
}
