//! What is promised.

use std::{
    fs,
    net::TcpListener,
    os::unix::{
        fs::PermissionsExt,
        net::{UnixDatagram, UnixListener},
        process::{CommandExt, ExitStatusExt},
    },
    panic,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
};

use serde_json::{Value, json};

use crate::child;

type Case = (&'static str, fn());

const CASES: &[Case] = &[
    ("standard_reaches_the_files_that_it_is_given_and_no_others", standard_files),
    ("what_a_list_names_must_be_there", missing_path),
    ("standard_reaches_the_ports_that_it_is_given_and_no_others", standard_ports),
    ("sockets_without_ports_are_those_that_are_given", other_sockets),
    ("a_pair_of_sockets_reaches_nobody_else", pairs),
    ("nothing_is_run_unless_it_is_given", exec),
    ("other_processes_are_not_signalled_or_looked_into", signals),
    ("calls_that_no_plugin_needs_are_refused_in_what_it_runs_too", calls),
    ("strict_has_what_std_tokio_and_threads_need", strict_works),
    ("strict_reaches_nothing", strict_refuses),
    ("strict_writes_where_it_is_told_to", strict_writes),
    ("memory_ends_an_endless_allocation", memory),
    ("less_memory_than_is_taken_is_refused", memory_taken),
    ("time_ends_an_endless_loop_with_a_signal_that_says_so", time),
    ("descriptors_are_bounded", descriptors),
    ("threads_and_processes_are_bounded_for_a_user", processes),
    ("without_a_profile_only_resources_are_bounded", no_profile),
    ("what_the_kernel_lacks_is_told_and_refused_where_it_is_required", required),
    ("what_it_runs_has_no_more_and_can_limit_itself_further", again),
];

pub(crate) fn run(words: Vec<&String>) {
    let chosen = CASES.iter().filter(|(name, _)| {
        words.is_empty() || words.iter().any(|word| name.contains(word.as_str()))
    });
    let mut failed = 0;
    for (name, case) in chosen {
        match panic::catch_unwind(case) {
            Ok(()) => println!("test {name} ... ok"),
            Err(_) => {
                println!("test {name} ... FAILED");
                failed += 1;
            }
        }
    }
    assert_eq!(failed, 0, "cases that failed");
}

/// What a child has said, and how it ended.
struct Tried {
    said: String,
    status: ExitStatus,
}

impl Tried {
    /// Line by line, what came of each attempt.
    fn results(&self) -> Vec<&str> {
        self.said.lines().filter_map(|line| line.split_once(" = ").map(|it| it.1)).collect()
    }

    fn missing(&self) -> Vec<&str> {
        self.said.lines().filter_map(|line| line.strip_prefix("missing ")).collect()
    }
}

const NOBODY: u32 = 65534;

fn is_superuser() -> bool {
    rustix::process::getuid().is_root()
}

fn tried(limits: Value, attempts: &[&str]) -> Tried {
    tried_as(NOBODY, limits, attempts)
}

/// As that user, where this process may choose.
fn tried_as(user: u32, limits: Value, attempts: &[&str]) -> Tried {
    let mut command = Command::new("/proc/self/exe");
    command.arg(child::ARGUMENT).arg(limits.to_string()).args(attempts).env("RUST_BACKTRACE", "0");
    if is_superuser() {
        command.uid(user).gid(user);
    }
    // What an allocation that fails says on its way is no news.
    let ran = command.stdin(Stdio::null()).stderr(Stdio::null()).output().unwrap();
    let said = String::from_utf8(ran.stdout).unwrap();
    assert!(!said.starts_with("refused"), "{said}");
    Tried { said, status: ran.status }
}

/// Each attempt, and what is to come of it.
#[track_caller]
fn comes_to(limits: Value, attempts: &[(&str, &str)]) {
    let what: Vec<&str> = attempts.iter().map(|it| it.0).collect();
    let tried = tried(limits, &what);
    let expected: Vec<&str> = attempts.iter().map(|it| it.1).collect();
    assert_eq!(tried.results(), expected, "{:?}: {}", tried.status, tried.said);
}

fn refused(limits: Value, attempts: &[&str]) -> String {
    let mut command = Command::new("/proc/self/exe");
    command.arg(child::ARGUMENT).arg(limits.to_string()).args(attempts);
    let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
    assert!(said.starts_with("refused"), "{said}");
    said
}

/// A folder that everybody may write to, with a folder and a file.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let open = |path: &Path| {
            fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
        };
        open(folder.path());
        fs::create_dir(folder.path().join("own")).unwrap();
        open(&folder.path().join("own"));
        for file in ["own/there", "outside"] {
            fs::write(folder.path().join(file), "1").unwrap();
            open(&folder.path().join(file));
        }
        Self(folder)
    }

    fn path(&self, below: &str) -> PathBuf {
        self.0.path().join(below)
    }

    fn to(&self, what: &str, below: &str) -> String {
        format!("{what} {}", self.path(below).display())
    }
}

fn standard_files() {
    let place = Place::new();
    let outside = ["read", "write", "remove", "rename"].map(|it| place.to(it, "outside"));
    let attempts = [
        (place.to("read", "own/there"), "ok"),
        (place.to("write", "own/new"), "ok"),
        (place.to("rename", "own/new"), "ok"),
        (place.to("remove", "own/new-2"), "ok"),
        (place.to("folder", "own/folder"), "ok"),
        (place.to("list", "own"), "ok"),
        (outside[0].clone(), "EACCES"),
        (outside[1].clone(), "EACCES"),
        (outside[2].clone(), "EACCES"),
        (outside[3].clone(), "EACCES"),
        (place.to("folder", "folder"), "EACCES"),
        (place.to("chmod", "outside"), "EPERM"),
        ("write /tmp/of-a-plugin".to_owned(), "EACCES"),
        ("read /etc/passwd".to_owned(), "EACCES"),
        ("read /etc/ld.so.cache".to_owned(), "ok"),
        ("list /usr/lib".to_owned(), "ok"),
        ("read /proc/1/status".to_owned(), "EACCES"),
        ("write /dev/null".to_owned(), "ok"),
        ("own".to_owned(), "ok"),
    ];
    let attempts: Vec<_> = attempts.iter().map(|(what, then)| (what.as_str(), *then)).collect();
    comes_to(json!({"write": [place.path("own")]}), &attempts);
    // What may be read is not to be written.
    let attempts = [
        (place.to("read", "own/there"), "ok"),
        (place.to("write", "own/there"), "EACCES"),
        (place.to("remove", "own/there"), "EACCES"),
    ];
    let attempts = attempts.each_ref().map(|(what, then)| (what.as_str(), *then));
    comes_to(json!({"read": [place.path("own")]}), &attempts);
}

fn missing_path() {
    let said = refused(json!({"read": ["/nowhere/at/all"]}), &[]);
    assert!(said.contains("/nowhere/at/all of `read`") && said.contains("make it"), "{said}");
}

fn standard_ports() {
    let (given, other) = (listener(), listener());
    let [given, other] = [&given, &other].map(|it| it.local_addr().unwrap().port());
    let free = listener().local_addr().unwrap().port();
    let [to_given, to_other] = [given, other].map(|port| format!("connect {port}"));
    let (listen, listen_any) = (format!("listen {free}"), "listen 0");
    // Nothing: there are no such sockets at all.
    let none = [(to_given.as_str(), "EPERM"), (&listen, "EPERM"), ("udp", "EPERM"), ("pair", "ok")];
    comes_to(json!({}), &none);
    let connects = [(to_given.as_str(), "ok"), (&to_other, "EACCES"), (listen_any, "EACCES")];
    comes_to(json!({"connect": [given]}), &connects);
    let listens = [(listen.as_str(), "ok"), (listen_any, "EACCES"), (&to_given, "EACCES")];
    comes_to(json!({"bind": [free]}), &listens);
    unbound(free, to_given.as_str());
    let all = [(to_given.as_str(), "ok"), (&to_other, "ok"), (listen_any, "ok"), ("udp", "ok")];
    comes_to(json!({"connect": "any", "bind": "any"}), &all);
}

/// A socket that listens without a port of its own: refused where no port is given, and told where
/// some are, because no kernel refuses it then.
fn unbound(free: u16, connects: &str) {
    const LISTEN: &str = "listen-unbound";
    let port = connects.split_once(' ').unwrap().1.parse::<u16>().unwrap();
    comes_to(json!({"connect": [port]}), &[(LISTEN, "EPERM")]);
    let found = tried(json!({"bind": [free]}), &[LISTEN]);
    assert_eq!(found.results(), ["ok"], "{}", found.said);
    let told = |it: &&str| it.starts_with("a socket that listens without a port of its own");
    assert!(found.missing().iter().any(told), "{}", found.said);
    let said = refused(json!({"bind": [free], "require": true}), &[]);
    assert!(said.contains("have a firewall refuse it"), "{said}");
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

fn other_sockets() {
    let place = Place::new();
    let path = place.path("socket");
    let _there = UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    let unix = place.to("unix", "socket");
    let listen = place.to("unix-listen", "own/new");
    comes_to(json!({}), &[(&unix, "EPERM")]);
    comes_to(json!({"write": [place.path("own")]}), &[(&listen, "EPERM")]);
    comes_to(json!({"connect": ["udp"]}), &[("udp", "ok"), (&unix, "EPERM")]);
    comes_to(json!({"connect": [path]}), &[(&unix, "ok"), ("udp", "EPERM")]);
}

fn pairs() {
    let place = Place::new();
    let path = place.path("socket");
    // As a system's log is, or whoever is told that a service is ready.
    let there = UnixDatagram::bind(&path).unwrap();
    there.set_nonblocking(true).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    let send = place.to("unix-datagram", "socket");
    let came = || there.recv(&mut [0; 8]).is_ok();
    for limits in [json!({"profile": "none"}), json!({"connect": [path]})] {
        comes_to(limits.clone(), &[(&send, "ok"), ("pair", "ok")]);
        assert!(came(), "{limits}");
    }
    let datagrams = json!({"connect": ["udp"]});
    for limits in [json!({}), json!({"profile": "strict"}), datagrams] {
        comes_to(limits.clone(), &[(&send, "EPERM"), ("pair", "ok")]);
        assert!(!came(), "{limits}");
    }
}

fn exec() {
    comes_to(json!({}), &[("run /bin/echo a", "EPERM"), ("thread", "ok")]);
    // A folder of programs, and one of them alone.
    let echo = fs::canonicalize("/bin/echo").unwrap();
    let cat = fs::canonicalize("/bin/cat").unwrap();
    let (echo, cat) = (echo.to_str().unwrap(), cat.to_str().unwrap());
    let (run, other) = (format!("run {echo} a"), format!("run {cat} /dev/null"));
    comes_to(json!({"execute": [echo]}), &[(&run, "a"), (&other, "EACCES")]);
    let folder = Path::new(echo).parent().unwrap();
    comes_to(json!({"execute": [folder]}), &[(&run, "a"), (&other, "")]);
}

fn signals() {
    // One of the same user, which could be signalled otherwise.
    let mut other = Command::new("sleep");
    other.arg("600");
    if is_superuser() {
        other.uid(NOBODY).gid(NOBODY);
    }
    let mut other = other.spawn().unwrap();
    let (signal, proc) = (format!("signal {}", other.id()), format!("/proc/{}", other.id()));
    let found = panic::catch_unwind(|| {
        comes_to(json!({"profile": "none"}), &[(&signal, "ok")]);
        comes_to(json!({}), &[(&signal, "EPERM")]);
        comes_to(json!({"profile": "strict"}), &[(&signal, "EPERM")]);
        // Where `/proc` can be read, what they have in memory cannot.
        let (seen, hidden) = (format!("read {proc}/status"), format!("read {proc}/environ"));
        comes_to(json!({"profile": "none"}), &[(&seen, "ok"), (&hidden, "ok")]);
        let runs = json!({"execute": ["/usr/bin"]});
        comes_to(runs, &[(&seen, "ok"), (&hidden, "EACCES")]);
    });
    other.kill().unwrap();
    other.wait().unwrap();
    found.unwrap();
}

/// Calls that nothing safe in Rust makes are made by perl, which inherits what it runs under.
fn calls() {
    let perl = Path::new("/usr/bin/perl");
    if !perl.exists() || std::env::consts::ARCH != "x86_64" {
        println!("(without perl on x86-64: left out; the filters' own tests have it)");
        return;
    }
    let make = |call: i64, args: &str| {
        format!("run /usr/bin/perl -e $r=syscall({call},{args});print($r<0?$!+0:0)")
    };
    // TRACEME, which asks for nothing but that the parent may.
    let traced = make(101, "0,0,0,0");
    let namespace = make(272, "0x10000000");
    let mount = make(165, "0,0,0,0,0");
    let fork = make(57, "0");
    let limits = make(302, "1,7,0,0");
    let forked_or_not = |tried: &Tried| tried.results().last().unwrap().to_string();
    let limited = json!({"execute": ["/usr/bin"], "read": ["/usr", "/etc"]});
    for user in [NOBODY, 0] {
        let attempts = [traced.as_str(), &namespace, &mount, &limits];
        let found = tried_as(user, limited.clone(), &attempts);
        assert_eq!(found.results(), ["1", "1", "1", "1"], "as {user}: {}", found.said);
    }
    let free = json!({"profile": "none"});
    let found = tried(free.clone(), &[&traced]);
    assert_eq!(found.results(), ["0"], "without a profile it is allowed: {}", found.said);
    // Memory, semaphores and queues that others have by a number: to look for some that are not
    // there.
    let shared = [
        make(29, "0x6b736921,0,0"),
        make(64, "0x6b736921,0,0"),
        make(68, "0x6b736921,0"),
        make(240, "$n='none-of-ksi',0,0,0"),
    ];
    let shared = shared.each_ref().map(String::as_str);
    assert_eq!(tried(free, &shared).results(), ["2"; 4], "there are none");
    assert_eq!(tried(limited.clone(), &shared).results(), ["1"; 4], "nobody is asked");
    assert!(forked_or_not(&tried(limited, &[&fork])).starts_with('0'), "it runs programs");
}

fn strict_works() {
    let place = Place::new();
    let read = place.to("read", "own/there");
    let attempts = [
        ("thread", "ok"),
        ("threads 20", "ok"),
        ("tokio", "ok"),
        ("own", "ok"),
        ("pair", "ok"),
        ("read /etc/ld.so.cache", "ok"),
        ("list /usr/lib", "ok"),
        (&read, "ok"),
    ];
    comes_to(json!({"profile": "strict", "read": [place.path("own")]}), &attempts);
    // Standard has it as well.
    comes_to(json!({}), &[("threads 20", "ok"), ("tokio", "ok"), ("own", "ok")]);
}

fn strict_refuses() {
    let place = Place::new();
    let port = listener().local_addr().unwrap().port();
    let connect = format!("connect {port}");
    let (write, read) = (place.to("write", "own/new"), place.to("read", "own/there"));
    let unix = place.to("unix", "socket");
    let attempts = [
        (read.as_str(), "EACCES"),
        (&write, "EPERM"),
        (&connect, "EPERM"),
        ("listen 0", "EPERM"),
        ("udp", "EPERM"),
        (&unix, "EPERM"),
        ("run /bin/echo a", "EPERM"),
        ("read /etc/resolv.conf", "EACCES"),
        ("read /proc/stat", "EACCES"),
    ];
    comes_to(json!({"profile": "strict"}), &attempts);
}

fn strict_writes() {
    let place = Place::new();
    let attempts = [
        (place.to("write", "own/new"), "ok"),
        (place.to("rename", "own/new"), "ok"),
        (place.to("remove", "own/new-2"), "ok"),
        (place.to("write", "outside"), "EACCES"),
    ];
    let attempts = attempts.each_ref().map(|(what, then)| (what.as_str(), *then));
    comes_to(json!({"profile": "strict", "write": [place.path("own")]}), &attempts);
}

fn memory() {
    for profile in ["none", "standard", "strict"] {
        let found = tried(json!({"memory": "128 MiB", "profile": profile}), &["allocate"]);
        assert_eq!(found.status.signal(), Some(libc::SIGABRT), "{}", found.said);
    }
}

fn memory_taken() {
    let said = refused(json!({"memory": "32 MiB", "profile": "none"}), &["hold"]);
    assert!(said.contains("`memory` is 32 MiB, and the process takes"), "{said}");
    assert!(said.contains("set it higher"), "{said}");
}

fn time() {
    let found = tried(json!({"cpu": "1s", "profile": "strict"}), &["spin"]);
    assert_eq!(found.status.signal(), Some(libc::SIGXCPU), "{}", found.said);
}

fn descriptors() {
    comes_to(json!({"open_files": 32}), &[("files 16", "ok"), ("files 32", "fewer")]);
}

fn processes() {
    if !is_superuser() {
        println!("(this user may run much else: left out)");
        return;
    }
    // A user that nobody else is.
    let limits = json!({"processes": 4});
    let found = tried_as(64_999, limits.clone(), &["thread", "threads 8"]);
    assert_eq!(found.results(), ["ok", "fewer"], "{}", found.said);
    // Of the superuser it is said that it does not help.
    let found = tried_as(0, limits, &["threads 8"]);
    assert!(found.missing()[0].contains("the superuser"), "{}", found.said);
}

fn no_profile() {
    let place = Place::new();
    let read = place.to("read", "outside");
    let limits = json!({"profile": "none", "open_files": 32});
    comes_to(limits, &[(&read, "ok"), ("run /bin/echo a", "a"), ("files 32", "fewer")]);
}

fn required() {
    // Everything that is wanted is there or told.
    let found = tried(json!({"profile": "strict"}), &["thread"]);
    let missing = found.missing();
    println!("(this system lacks: {missing:?})");
    // Which Unix sockets, an older kernel does not tell apart.
    let place = Place::new();
    let _there = UnixListener::bind(place.path("socket")).unwrap();
    let limits = json!({"connect": [place.path("socket")], "require": true});
    match tried(json!({"connect": [place.path("socket")]}), &[]).missing().is_empty() {
        true => assert!(tried(limits, &["thread"]).results() == ["ok"]),
        false => {
            let said = refused(limits, &[]);
            assert!(said.contains("`require` is set") && said.contains("Unix sockets"), "{said}");
            assert!(said.contains("run a later kernel"), "{said}");
        }
    }
}

fn again() {
    let own = std::env::current_exe().unwrap();
    let folder = own.parent().unwrap();
    let run =
        |limits: &str, what| format!("run {} {} {limits} {what}", own.display(), child::ARGUMENT);
    // More than the first has is not to be had.
    let (more, less) = (run(r#"{"connect":"any"}"#, "udp"), run(r#"{"profile":"strict"}"#, "own"));
    let found = tried(json!({"execute": [folder], "connect": [443]}), &[&more, &less]);
    assert!(found.said.contains("udp = EPERM"), "{}", found.said);
    assert!(found.said.contains("own = ok"), "{}", found.said);
}
