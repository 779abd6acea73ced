use std::{fs, io::Read, os::unix::fs::PermissionsExt, time::Instant};

use super::*;

struct Scripted {
    processes: Arc<Processes>,
    program: Arc<Program>,
}

impl Scripted {
    async fn start(&self) -> io::Result<NewProcess> {
        self.processes.start(&self.program).await
    }

    async fn end(&self) {
        self.processes.end().await;
    }
}

/// Processes that run a shell script, with what it is kept in.
fn script(text: &str) -> (Scripted, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("worker");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let program = Program::with_argument(path, "__argument");
    (Scripted { processes: Processes::new(), program: Arc::new(program) }, dir)
}

async fn death_of(text: &str) -> String {
    let (processes, _dir) = script(text);
    let NewProcess { process, socket: _socket } = processes.start().await.unwrap();
    let death = tokio::time::timeout(Duration::from_secs(20), process.death());
    let death = death.await.expect("it ends").to_string();
    processes.end().await;
    death
}

/// Whether a process of this number is there, and no zombie.
fn is_there(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[tokio::test]
async fn an_end_is_told_by_status_or_signal_with_what_was_said_last() {
    assert_eq!(death_of("exit 0").await, "its process ended: exit status: 0");
    assert_eq!(
        death_of("echo no disk >&2; exit 7").await,
        "its process ended: exit status: 7; its last words: no disk"
    );
    let segv = death_of("printf 'free(): \\033[2J' >&2; kill -SEGV $$").await;
    assert!(segv.starts_with("its process ended: signal: 11 (SIGSEGV)"), "{segv}");
    assert!(segv.ends_with("its last words: free(): \\u{1b}[2J"), "{segv}");
}

#[tokio::test]
async fn what_a_process_used_is_told_as_it_was_last_known_when_it_has_ended() {
    let (processes, _dir) = script("exec sleep 1000");
    let NewProcess { process, socket: _socket } = processes.start().await.unwrap();
    let used = process.usage().expect("it is there");
    assert!(used.resident_kib > 0, "{used:?}");
    process.kill("it is not needed");
    tokio::time::timeout(Duration::from_secs(20), process.death()).await.expect("it ends");
    let last = process.usage().expect("it is known still");
    assert!(last.resident_kib > 0 && last.cpu >= used.cpu, "{used:?}, then {last:?}");
    assert_eq!(process.usage(), Some(last));
    processes.end().await;
}

#[tokio::test]
async fn one_that_has_ended_is_put_into_no_group_because_its_number_may_be_anothers() {
    let (processes, _dir) = script("exit 0");
    let NewProcess { process, socket: _socket } = processes.start().await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), process.death()).await.expect("it ends");
    let required = GroupPolicy { group: GroupUse::Required, ..GroupPolicy::default() };
    let given = processes.processes.give(&process, &"p".into(), &required);
    given.expect("there is nobody to be put into one");
    assert!(process.group.lock().is_none());
    processes.end().await;
}

#[tokio::test]
async fn what_is_killed_says_why_and_its_children_go_with_it() {
    let (processes, dir) = script("sleep 1000 & echo $! > \"$(dirname $0)/child\"; wait");
    let NewProcess { process, mut socket } = processes.start().await.unwrap();
    let child = dir.path().join("child");
    let pid = loop {
        match fs::read_to_string(&child).ok().and_then(|text| text.trim().parse().ok()) {
            Some(pid) => break pid,
            None => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    };
    assert!(is_there(pid) && process.dead().is_none());
    assert!(process.usage().is_some_and(|usage| usage.resident_kib > 0));
    process.kill("it hangs");
    process.kill("it hangs still");
    let death = process.death().await;
    assert_eq!(death.to_string(), "its process was killed by the host: it hangs");
    assert!(!death.is_success());
    // Killed before the end was told; its new parent has still to wait for it.
    let began = Instant::now();
    while is_there(pid) && began.elapsed() < Duration::from_secs(20) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(!is_there(pid));
    assert!(process.usage().is_some_and(|last| last.resident_kib > 0), "as it was last known");
    assert_eq!(socket.read(&mut [0]).unwrap(), 0);
}

#[tokio::test]
async fn an_end_is_told_although_others_hold_its_pipes_and_its_socket() {
    // A session of its own is no part of the group that goes with it.
    let (processes, dir) =
        script("setsid sleep 1000 <&0 & echo $! > \"$(dirname $0)/child\"; exit 3");
    let NewProcess { process, socket: _socket } = processes.start().await.unwrap();
    let death = tokio::time::timeout(Duration::from_secs(20), process.death());
    assert_eq!(death.await.unwrap().to_string(), "its process ended: exit status: 3");
    let holder = fs::read_to_string(dir.path().join("child")).unwrap();
    let holder = Pid::from_raw(holder.trim().parse().unwrap()).unwrap();
    let _ = rustix::process::kill_process(holder, Signal::KILL);
    processes.end().await;
}

#[tokio::test]
async fn all_of_them_end_with_the_host_and_none_is_started_any_more() {
    let (processes, _dir) = script("trap '' TERM INT; while :; do sleep 1000; done");
    let mut started = Vec::new();
    for _ in 0..3 {
        started.push(processes.start().await.unwrap());
    }
    processes.end().await;
    for NewProcess { process, .. } in &started {
        let death = process.dead().expect("it has ended");
        assert_eq!(death.to_string(), "its process was killed by the host: the host is stopping");
    }
    assert!(processes.start().await.is_err());
}

#[tokio::test]
async fn whoever_waits_for_an_end_needs_no_runtime_and_has_what_stays_killed() {
    let (processes, _dir) = script("sleep 1000");
    let NewProcess { process, socket: _socket } = processes.start().await.unwrap();
    let waited = processes.processes.clone();
    // As a dispatch worker that drops an instance.
    let thread = std::thread::spawn(move || {
        waited.wait_for(&process, Duration::from_millis(10));
        process.dead().map(|death| death.to_string())
    });
    let killed = "its process was killed by the host: it did not end when it was told to";
    assert_eq!(thread.join().unwrap().as_deref(), Some(killed));
    processes.end().await;
}

#[tokio::test]
async fn a_number_that_may_be_another_processs_by_now_is_asked_for_nothing() {
    let (_told, death) = watch::channel(None);
    // That of this process, as if it had been given anew.
    let (pid, fate) = (rustix::process::getpid(), Fate { reaped: true, ..Fate::default() });
    let (owner, fate, group) = (Owner::default(), Lock::new(fate), Lock::default());
    let process = WorkerProcess { pid, owner, fate, group, death };
    assert_eq!(process.usage(), None);
    process.fate.lock().reaped = false;
    assert!(process.usage().is_some());
}
