//! A host under a service manager, which the tests play: what it is told, and the socket that it
//! gives.

use std::{
    io::IoSliceMut,
    mem::MaybeUninit,
    net::TcpListener,
    os::{
        fd::OwnedFd,
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram, UnixListener},
    },
    process::{Command, Stdio},
};

use rustix::{
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
    process::Signal,
};
use serde_json::json;

use crate::kit::{
    HostBuilder, HttpClient, Library, PATIENCE, Running, TestHost, ksi, until, wrapped,
};

/// Whoever is told.
struct Manager {
    socket: UnixDatagram,
    address: String,
}

impl Manager {
    fn at_a_path(setup: &HostBuilder) -> Manager {
        let path = setup.dir().join("notify");
        let address = path.to_str().unwrap().to_owned();
        Manager::listening(UnixDatagram::bind(path).unwrap(), address)
    }

    fn with_an_abstract_name(setup: &HostBuilder) -> Manager {
        let name = setup.dir().join("notify").to_str().unwrap().to_owned();
        let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        Manager::listening(UnixDatagram::bind_addr(&address).unwrap(), format!("@{name}"))
    }

    fn listening(socket: UnixDatagram, address: String) -> Manager {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Manager { socket, address }
    }

    /// The next descriptor that it is to keep, with its name.
    #[track_caller]
    fn stores(&self) -> (String, OwnedFd) {
        loop {
            let mut bytes = [0; 4096];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut beside = RecvAncillaryBuffer::new(&mut space);
            let mut into = [IoSliceMut::new(&mut bytes)];
            let got = recvmsg(&self.socket, &mut into, &mut beside, RecvFlags::CMSG_CLOEXEC);
            let length = got.expect("a message of the host").bytes;
            let descriptors = beside.drain().filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                _ => None,
            });
            let mut descriptors: Vec<OwnedFd> = descriptors.flatten().collect();
            let text = String::from_utf8(bytes[..length].to_vec()).unwrap();
            if let Some(name) = text.strip_prefix("FDSTORE=1\nFDNAME=") {
                return (name.to_owned(), descriptors.remove(0));
            }
        }
    }

    /// What it is told next.
    #[track_caller]
    fn told(&self) -> Vec<String> {
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes).expect("a message of the host");
        let text = String::from_utf8(bytes[..length].to_vec()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// Passes over what it is told until a message has this line.
    #[track_caller]
    fn until_told(&self, line: &str) -> Vec<String> {
        loop {
            let told = self.told();
            if told.iter().any(|it| it == line) {
                return told;
            }
        }
    }
}

#[test]
fn a_service_manager_is_told_of_readiness_reloads_and_the_end() {
    type Listen = fn(&HostBuilder) -> Manager;
    for listen in [Manager::at_a_path as Listen, Manager::with_an_abstract_name] {
        let setup = TestHost::builder()
            .plugin("chaos.so", &Library::chaos())
            .config("[plugin.chaos]\nlabel = 'before'");
        let manager = listen(&setup);
        let mut command = setup.command();
        let mut host = Running::start(command.env("NOTIFY_SOCKET", &manager.address));
        assert_eq!(manager.told(), ["STATUS=loading plugins"]);
        assert_eq!(manager.told(), ["READY=1", "STATUS=ready"]);
        let version = || {
            let ran = ksi(&setup.socket(), &["emit", "chaos:version"], "").ok();
            serde_json::from_str::<serde_json::Value>(&ran).unwrap()["label"].clone()
        };
        assert_eq!(version(), "before");

        std::fs::write(setup.dir().join("ksi.toml"), "[plugin.chaos]\nlabel = 'after'").unwrap();
        host.signal(Signal::HUP);
        let reloading = manager.told();
        let [first, second, _] = &reloading[..] else { panic!("{reloading:?}") };
        assert_eq!(first, "RELOADING=1");
        let micros = second.strip_prefix("MONOTONIC_USEC=").and_then(|it| it.parse::<u64>().ok());
        assert!(micros.is_some_and(|micros| micros > 0), "{second}");
        assert_eq!(manager.told(), ["READY=1", "STATUS=ready"]);
        assert_eq!(version(), "after");

        std::fs::write(setup.dir().join("ksi.toml"), "no TOML").unwrap();
        host.signal(Signal::HUP);
        manager.until_told("RELOADING=1");
        let told = manager.told();
        assert_eq!(told[0], "READY=1");
        assert!(told[1].contains("the file cannot be used"), "{told:?}");
        assert_eq!(version(), "after");

        host.signal(Signal::TERM);
        assert_eq!(manager.told()[0], "STOPPING=1");
        assert_eq!(host.ended().code, Some(0));
    }
}

#[test]
fn a_host_that_cannot_tell_its_service_manager_says_so_and_works() {
    for address in ["/nobody/is/here", "vsock:2:1234"] {
        let setup = TestHost::builder();
        let mut command = setup.command();
        command.env("NOTIFY_SOCKET", address);
        let host = setup.start_by(&mut command);
        assert_eq!(host.client().emit("system:health", json!({}))["status"], "healthy");
        let told = host.stop().stderr;
        assert!(told.contains("the service manager"), "{address}: {told}");
    }
}

#[test]
fn the_watchdog_of_a_service_manager_is_fed_as_long_as_dispatch_workers_answer() {
    let setup = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config("[limits]\nworkers = 1\nabandoned_workers = 1");
    let manager = Manager::at_a_path(&setup);
    let mut command = setup.command();
    command.env("NOTIFY_SOCKET", &manager.address).env("WATCHDOG_USEC", "400000");
    let host = setup.start_by(&mut command);
    for _ in 0..3 {
        manager.until_told("WATCHDOG=1");
    }
    // The only worker, and the only one that may take its place.
    let mut clients: Vec<_> = (0..2).map(|_| host.client()).collect();
    for client in &mut clients {
        client.begin("chaos:block", json!({"millis": 600_000}));
    }
    let is_stuck = |line: &&str| line.contains("block") && line.contains("evt_");
    let stuck = || host.process.stderr().lines().filter(is_stuck).count();
    until("both are stuck", stuck, |stuck| *stuck >= 2);
    let words = "no dispatch worker has answered";
    let misses = |log: &String| log.matches(words).count();
    let before = misses(&host.process.stderr());
    until("nobody answers", || host.process.stderr(), |log| misses(log) > before);
    manager.socket.set_nonblocking(true).unwrap();
    let mut bytes = [0; 4096];
    while manager.socket.recv(&mut bytes).is_ok() {}
    let before = misses(&host.process.stderr());
    until("it is missed again", || host.process.stderr(), |log| misses(log) > before + 1);
    assert!(manager.socket.recv(&mut bytes).is_err(), "it is told nothing meanwhile");
}

#[test]
fn a_watchdog_that_is_another_process_s_is_not_fed() {
    let setup = TestHost::builder();
    let manager = Manager::at_a_path(&setup);
    let mut command = setup.command();
    command.env("NOTIFY_SOCKET", &manager.address);
    command.env("WATCHDOG_USEC", "2000").env("WATCHDOG_PID", "1");
    let mut host = setup.start_by(&mut command);
    manager.until_told("READY=1");
    host.process.signal(Signal::TERM);
    assert_eq!(manager.told()[0], "STOPPING=1");
    assert_eq!(host.process.ended().code, Some(0));
}

/// The command with a socket at descriptor 3, as a service manager starts it.
fn activated(host: &Command, socket: UnixListener, pid: &str) -> Command {
    let mut shell = Command::new("sh");
    let script = format!("export LISTEN_FDS=1 LISTEN_PID={pid}; exec \"$@\" 3<&0 </dev/null");
    shell.args(["-c", &script, "sh"]);
    let mut shell = wrapped(shell, host);
    shell.stdin(Stdio::from(OwnedFd::from(socket)));
    shell
}

#[test]
fn a_socket_that_is_given_is_served_and_stays_for_the_next_start() {
    let setup = TestHost::builder().plugin("counter.so", &Library::counter(1));
    let socket = UnixListener::bind(setup.socket()).unwrap();
    let mut setup = Some(setup);
    for stop_by_command in [true, false] {
        let given = socket.try_clone().unwrap();
        let host = setup.take().unwrap().start_as(|host| activated(host, given, "$$"));
        host.client().emit("counter:increment", json!({"name": "a"}));
        // A child of the host's must not hold it open.
        host.drop_in("counter.so", &Library::counter(if stop_by_command { 2 } else { 3 }));
        host.until_live("counter", 2);
        match stop_by_command {
            true => drop(host.ksi(&["stop"]).ok()),
            false => host.process.signal(Signal::TERM),
        }
        let stopped = host.has_stopped();
        assert!(stopped.socket().exists(), "it is not the host's to remove");
        assert!(!stopped.dir().join("s.lock").exists(), "nor to lock");
        setup = Some(stopped);
    }
    let setup = setup.unwrap();
    assert!(std::os::unix::net::UnixStream::connect(setup.socket()).is_ok(), "it is listened on");
}

#[test]
fn a_socket_that_was_given_to_another_process_is_none() {
    let setup = TestHost::builder();
    let elsewhere = UnixListener::bind(setup.dir().join("elsewhere")).unwrap();
    let host = setup.start_as(|host| activated(host, elsewhere, "1"));
    assert!(host.ready.contains(host.socket().to_str().unwrap()), "{}", host.ready);
}

#[test]
fn a_descriptor_that_is_given_and_no_socket_is_an_error() {
    let setup = TestHost::builder();
    let mut command =
        activated(&setup.command(), UnixListener::bind(setup.socket()).unwrap(), "$$");
    command.stdin(Stdio::null());
    let refused = Running::start(&mut command).ended().fails(1);
    assert!(refused.contains("the socket that was given by activation"), "{refused}");
}

#[test]
fn a_socket_that_a_plugin_keeps_outlives_its_host_in_the_descriptor_store() {
    let setup = TestHost::builder()
        .plugin("web.so", &Library::of("web"))
        .config("[plugin.web]\naddress = '127.0.0.1:0'\nevents = ['web:address']");
    let manager = Manager::at_a_path(&setup);
    let mut command = setup.command();
    command.env("NOTIFY_SOCKET", &manager.address).env("FDSTORE", "8");
    let host = setup.start_by(&mut command);
    let (name, kept) = manager.stores();
    assert_eq!(name, "ksi.web.127.0.0.1%3A0");
    let listener = TcpListener::from(kept.try_clone().unwrap());
    let address = listener.local_addr().unwrap();
    let served = |what: &str| {
        let mut http = HttpClient::new(address, false);
        let answer = http.post("/events/web:address", &json!({})).expect(what);
        assert_eq!(answer.status, 200, "{what}");
    };
    served("by the first host");

    // However it ends.
    let setup = host.crash();
    let waiting = std::thread::spawn(move || {
        let mut http = HttpClient::new(address, false);
        http.post("/events/web:address", &json!({})).map(|answer| answer.status)
    });
    let host = setup.start_as(|command| {
        let mut shell = Command::new("sh");
        let script = format!(
            "export LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDNAMES={name}; exec \"$@\" 3<&0 </dev/null"
        );
        shell.args(["-c", &script, "sh"]);
        let mut shell = wrapped(shell, command);
        shell.env("NOTIFY_SOCKET", &manager.address).env("FDSTORE", "8");
        shell.stdin(Stdio::from(kept));
        shell
    });
    // Perhaps before its event has a handler again, which is live after its plugin listens.
    waiting.join().unwrap().expect("who has waited is answered");
    served("by the next host, at the same address");

    // What is given up is given up by the manager too.
    host.ksi(&["unload", "web"]).ok();
    manager.until_told("FDSTOREREMOVE=1");
}
