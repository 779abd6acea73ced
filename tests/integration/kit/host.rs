//! A host of a test's own: its process, its folder, its plugins, its socket.

use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
};

use ksi_wire::module::{ModuleState, Overview, RetiredState};
use rustix::process::Signal;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Client, Library, Ran, Resources, Running, children, isolated, ksi, ksi_command, mapped, put,
    until,
};

/// What a host starts with.
pub(crate) struct HostBuilder {
    dir: tempfile::TempDir,
    config: String,
    follow_config: bool,
    user: Option<u32>,
}

impl HostBuilder {
    /// Puts a plugin into the folder before the host starts.
    pub(crate) fn plugin(self, file: &str, library: &Library) -> Self {
        put(&self.plugins().join(file), &library.0);
        self
    }

    /// Adds to the configuration file.
    pub(crate) fn config(mut self, toml: &str) -> Self {
        self.config.push_str(toml);
        self.config.push('\n');
        self
    }

    /// Has the host follow its configuration file. Others read it when a test has it read.
    pub(crate) fn follow_config(mut self) -> Self {
        self.follow_config = true;
        self
    }

    /// Has the host run as another user, to whom its folders are given. Only the superuser can do
    /// that.
    pub(crate) fn user(mut self, user: u32) -> Self {
        for folder in [self.dir.path(), &self.plugins(), &self.temporary()] {
            chown(folder, Some(user), Some(user)).unwrap();
        }
        self.user = Some(user);
        self
    }

    pub(crate) fn plugins(&self) -> PathBuf {
        self.dir.path().join("plugins")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where the host's private copies lie: gone with the test whatever happens.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.dir.path().join("tmp")
    }

    /// Starts the host and waits until it is ready.
    #[track_caller]
    pub(crate) fn start(self) -> TestHost {
        self.start_with(Stdio::piped())
    }

    /// The same with another standard error than one that is read.
    #[track_caller]
    pub(crate) fn start_with(self, stderr: Stdio) -> TestHost {
        let process = Running::start_with(&mut self.command(), stderr);
        self.ready(process)
    }

    /// Starts it by another command, which has to run the host's.
    #[track_caller]
    pub(crate) fn start_as(self, around: impl FnOnce(&Command) -> Command) -> TestHost {
        let process = Running::start(&mut around(&self.command()));
        self.ready(process)
    }

    /// Starts it by its own command, after that was changed.
    #[track_caller]
    pub(crate) fn start_by(self, command: &mut Command) -> TestHost {
        let process = Running::start(command);
        self.ready(process)
    }

    #[track_caller]
    fn ready(self, process: Running) -> TestHost {
        let ready = process.line();
        assert!(ready.starts_with("ready on "), "{ready}");
        TestHost { process, setup: self, ready }
    }

    /// The command that starts the host.
    pub(crate) fn command(&self) -> Command {
        let config = self.dir.path().join("ksi.toml");
        fs::write(&config, &self.config).unwrap();
        let mut command = ksi_command(&["run"]);
        command.arg("--plugins").arg(self.plugins());
        command.arg("--socket").arg(self.socket());
        command.arg("--config").arg(config).args(isolated::arguments());
        if !self.follow_config {
            command.arg("--no-follow-config");
        }
        command.env("TMPDIR", self.temporary());
        command.env("XDG_STATE_HOME", self.dir.path().join("state-home"));
        command.current_dir(self.dir.path());
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }
}

/// A host that runs. Its process is ended when this is dropped.
pub(crate) struct TestHost {
    pub(crate) process: Running,
    setup: HostBuilder,
    /// The line that it said it was ready with.
    pub(crate) ready: String,
}

impl TestHost {
    pub(crate) fn builder() -> HostBuilder {
        let dir = tempfile::Builder::new().prefix("ksi-test-").tempdir().unwrap();
        fs::create_dir(dir.path().join("plugins")).unwrap();
        fs::create_dir(dir.path().join("tmp")).unwrap();
        HostBuilder { dir, config: String::new(), follow_config: false, user: None }
    }

    /// A host with the chaos plugin alone.
    #[track_caller]
    pub(crate) fn chaos() -> TestHost {
        TestHost::builder().plugin("chaos.so", &Library::chaos()).start()
    }

    /// A host with the plugin that keeps state alone.
    #[track_caller]
    pub(crate) fn counter() -> TestHost {
        TestHost::builder().plugin("counter.so", &Library::counter(1)).start()
    }

    pub(crate) fn dir(&self) -> &Path {
        self.setup.dir()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.setup.socket()
    }

    /// The folder that it watches.
    pub(crate) fn plugins(&self) -> PathBuf {
        self.setup.plugins()
    }

    /// The place of a file in that folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.plugins().join(name)
    }

    /// Puts a library into the folder, whole.
    pub(crate) fn drop_in(&self, file: &str, library: &Library) {
        put(&self.file(file), &library.0);
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.socket())
    }

    /// Runs a command of `ksi` against this host.
    #[track_caller]
    pub(crate) fn ksi(&self, arguments: &[&str]) -> Ran {
        ksi(&self.socket(), arguments, "")
    }

    #[track_caller]
    pub(crate) fn modules(&self) -> Vec<Value> {
        let answer = self.client().emit("module:list", json!({}));
        let modules = answer["modules"].as_array().expect("a list").clone();
        assert_eq!(answer["count"], modules.len());
        modules
    }

    /// What the host says of a plugin, or of a file that is none; null if there is nothing of that
    /// name.
    #[track_caller]
    pub(crate) fn module(&self, name: &str) -> Value {
        let found = self.modules().into_iter().find(|module| module["name"] == name);
        found.unwrap_or_default()
    }

    /// Waits until the plugin's generation of this number is live.
    #[track_caller]
    pub(crate) fn until_live(&self, name: &str, generation: u64) -> Value {
        self.until_overview(&format!("{name} is live in generation {generation}"), name, |module| {
            module.state == ModuleState::Live && module.generation == Some(generation)
        })
    }

    /// Waits until a version of a plugin is live, as its manifest has it.
    #[track_caller]
    pub(crate) fn until_version(&self, name: &str, version: &str) -> Value {
        self.until_overview(&format!("{name} {version} is live"), name, |module| {
            module.state == ModuleState::Live && module.version.as_deref() == Some(version)
        })
    }

    /// Waits until what the host says of a plugin is right.
    #[track_caller]
    pub(crate) fn until_module(
        &self,
        what: &str,
        name: &str,
        right: impl Fn(&Value) -> bool,
    ) -> Value {
        until(what, || self.module(name), right)
    }

    /// The same, as every client of a host reads it.
    #[track_caller]
    fn until_overview(&self, what: &str, name: &str, right: impl Fn(&Overview) -> bool) -> Value {
        self.until_module(what, name, |module| {
            // Null, if there is nothing of that name.
            let overview = Option::<Overview>::deserialize(module);
            overview.expect("a plugin as clients know it").is_some_and(|overview| right(&overview))
        })
    }

    /// Waits until a file was refused, and gives the reason.
    #[track_caller]
    pub(crate) fn until_refused(&self, name: &str) -> String {
        let module = self.until_overview(&format!("{name} is refused"), name, |module| {
            module.state == ModuleState::Refused && module.last_error.is_some()
        });
        module["last_error"].as_str().expect("a reason").to_owned()
    }

    /// Waits until the old generations of a plugin have all left memory.
    #[track_caller]
    pub(crate) fn until_unmapped(&self, name: &str) -> Value {
        self.until_overview(&format!("{name}'s old generations are unmapped"), name, |module| {
            *module.name == *name
                && module.retired.iter().all(|old| old.state == RetiredState::Unmapped)
        })
    }

    /// What its process holds; the libraries also of the processes that are its plugins'.
    pub(crate) fn resources(&self) -> Resources {
        let (host, private) = (self.process.id(), self.setup.temporary());
        let mut resources = Resources::of(host, &private);
        if isolated::is_asked_for() {
            let of_plugins = children(host).into_iter().map(|child| mapped(child, &private));
            resources.libraries.extend(of_plugins.flatten());
        }
        resources
    }

    /// What it has logged of all that it did up to now, for what is not to stand there.
    #[track_caller]
    pub(crate) fn log_by_now(&self) -> String {
        // Lines come in their order, so those before one that is asked for here are there with it.
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let nowhere = format!("/nowhere/{}.so", ASKED.fetch_add(1, Ordering::Relaxed));
        self.client().reply("module:load", json!({ "path": nowhere }));
        self.process.told(&nowhere)
    }

    /// What is mapped in its process.
    pub(crate) fn maps(&self) -> String {
        fs::read_to_string(format!("/proc/{}/maps", self.process.id())).unwrap()
    }

    /// Asks it to stop, and waits for the end of its process.
    #[track_caller]
    pub(crate) fn stop(mut self) -> Ran {
        self.process.signal(Signal::TERM);
        self.process.ended()
    }

    /// Stops it in order. What it leaves behind is there for the next host.
    #[track_caller]
    pub(crate) fn stopped(self) -> HostBuilder {
        self.process.signal(Signal::TERM);
        self.has_stopped()
    }

    /// The same for a host that cannot keep some state, and says so.
    #[track_caller]
    pub(crate) fn stopped_without_all_state(self) -> (HostBuilder, String) {
        let TestHost { mut process, setup, .. } = self;
        process.signal(Signal::TERM);
        (setup, process.ended().fails(1))
    }

    /// The same for a host that was asked to stop.
    #[track_caller]
    pub(crate) fn has_stopped(self) -> HostBuilder {
        let TestHost { mut process, setup, .. } = self;
        process.ended().ok();
        setup
    }

    /// Asks it to stop again and again, and waits for the end of its process.
    #[track_caller]
    pub(crate) fn insisted(self) -> (Ran, HostBuilder) {
        let TestHost { mut process, setup, .. } = self;
        let ask = || {
            // It may have ended in this moment.
            let _ = process.try_signal(Signal::TERM);
            process.has_ended()
        };
        super::until("it ends", ask, |ended| *ended);
        (process.ended(), setup)
    }

    /// Waits for the end of a process that a plugin ends. What it leaves behind is there for the
    /// next host.
    #[track_caller]
    pub(crate) fn died(self) -> (Ran, HostBuilder) {
        let TestHost { mut process, setup, .. } = self;
        (process.ended(), setup)
    }

    /// Ends its process without any warning. What it leaves behind is there for the next host.
    #[track_caller]
    pub(crate) fn crash(self) -> HostBuilder {
        let TestHost { mut process, setup, .. } = self;
        process.signal(Signal::KILL);
        assert_eq!(process.ended().code, None);
        setup
    }
}
