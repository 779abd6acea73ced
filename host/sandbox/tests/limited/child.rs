//! The process that is limited: it applies what it is given, tries one thing after the other, and
//! says how each went.

use std::{
    fs, io,
    net::{TcpListener, TcpStream, UdpSocket},
    os::unix::net::{UnixDatagram, UnixListener, UnixStream},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use ksi_sandbox::Limits;

pub(crate) const ARGUMENT: &str = "__limited";

/// The limits as JSON, then what to try.
pub(crate) fn run(arguments: &[String]) {
    let limits: Limits = serde_json::from_str(&arguments[0]).unwrap();
    // As a process that has taken something before.
    let held = arguments.iter().any(|it| it == "hold").then(|| vec![1u8; 64 << 20]);
    let began = Instant::now();
    match limits.apply() {
        Ok(applied) => {
            println!("took {} us", began.elapsed().as_micros());
            applied.set.iter().for_each(|it| println!("set {it}"));
            applied.missing.iter().for_each(|it| println!("missing {it}"));
        }
        Err(error) => {
            println!("refused {error}");
            return;
        }
    }
    drop(std::hint::black_box(held));
    for it in &arguments[1..] {
        let (what, of) = it.split_once(' ').unwrap_or((it, ""));
        let result = attempt(what, of).map_err(|error| error.raw_os_error());
        match result {
            Ok(said) => println!("{it} = {said}"),
            Err(Some(libc::EPERM)) => println!("{it} = EPERM"),
            Err(Some(libc::EACCES)) => println!("{it} = EACCES"),
            Err(Some(number)) => println!("{it} = error {number}"),
            Err(None) => println!("{it} = another error"),
        }
    }
}

fn attempt(what: &str, of: &str) -> io::Result<String> {
    let port = || of.parse::<u16>().unwrap();
    match what {
        "hold" => {}
        "read" => drop(fs::read(of)?),
        "list" => drop(fs::read_dir(of)?.collect::<Result<Vec<_>, _>>()?),
        "write" => fs::write(of, "1")?,
        "remove" => fs::remove_file(of)?,
        "rename" => fs::rename(of, format!("{of}-2"))?,
        "folder" => fs::create_dir(of)?,
        "chmod" => fs::set_permissions(of, fs::metadata(of)?.permissions())?,
        "connect" => drop(TcpStream::connect(("127.0.0.1", port()))?),
        "listen" => drop(TcpListener::bind(("127.0.0.1", port()))?),
        // Without a port of its own: the system gives it one.
        "listen-unbound" => {
            use rustix::net::{AddressFamily, SocketType, listen, socket};
            listen(socket(AddressFamily::INET, SocketType::STREAM, None)?, 1)?;
        }
        "udp" => drop(UdpSocket::bind("127.0.0.1:0")?),
        "unix" => drop(UnixStream::connect(of)?),
        "unix-listen" => drop(UnixListener::bind(of)?),
        "pair" => drop(UnixStream::pair()?),
        // One of a pair sends to whom it likes, unless it is a stream.
        "unix-datagram" => drop(UnixDatagram::pair()?.0.send_to(b"1", of)?),
        "run" => {
            let mut words = of.split(' ');
            let mut command = Command::new(words.next().unwrap());
            let ran = command.args(words).output()?;
            return Ok(String::from_utf8_lossy(&ran.stdout).trim().to_owned());
        }
        "signal" => {
            let process = rustix::process::Pid::from_raw(of.parse().unwrap()).unwrap();
            rustix::process::test_kill_process(process)?;
        }
        "thread" => drop(thread::Builder::new().spawn(|| ())?.join()),
        "threads" => {
            let started =
                |_| thread::Builder::new().spawn(|| thread::sleep(Duration::from_secs(1)));
            let threads: Vec<_> = (0..port()).map_while(|it| started(it).ok()).collect();
            return Ok(if threads.len() == usize::from(port()) { "ok" } else { "fewer" }.to_owned());
        }
        "files" => {
            let open = |_| fs::File::open("/dev/null").ok();
            let opened: Vec<_> = (0..port()).map_while(open).collect();
            return Ok(if opened.len() == usize::from(port()) { "ok" } else { "fewer" }.to_owned());
        }
        "tokio" => return Ok(tokio()),
        "own" => return own(),
        // Neither goes on for ever where it is not ended.
        "allocate" => {
            let all: Vec<Vec<u8>> = (0..1024).map(|_| vec![1; 1 << 20]).collect();
            return Ok(format!("{} MiB", std::hint::black_box(all).len()));
        }
        "spin" => {
            let began = Instant::now();
            while began.elapsed() < Duration::from_secs(60) {
                std::hint::spin_loop();
            }
        }
        other => panic!("{other}"),
    }
    Ok("ok".to_owned())
}

/// What a plugin's runtime does: workers, tasks, timers, blocking threads, sockets that are polled.
fn tokio() -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let task = tokio::spawn(async { tokio::time::sleep(Duration::from_millis(1)).await });
        let blocking = tokio::task::spawn_blocking(|| 1 + 1);
        let (mut one, mut other) = tokio::net::UnixStream::pair().unwrap();
        one.write_all(b"ok").await.unwrap();
        let mut said = [0; 2];
        other.read_exact(&mut said).await.unwrap();
        task.await.unwrap();
        assert_eq!(blocking.await.unwrap(), 2);
        String::from_utf8_lossy(&said).into_owned()
    })
}

/// What whoever looks for left-over threads and mappings reads, from another thread as well.
fn own() -> io::Result<String> {
    let look = || -> io::Result<()> {
        assert!(fs::read_to_string("/proc/self/maps")?.contains("limited"));
        for task in fs::read_dir("/proc/self/task")? {
            fs::read_to_string(task?.path().join("stat"))?;
        }
        fs::read_to_string("/proc/thread-self/stat")?;
        fs::read_link("/proc/self/exe").map(drop)
    };
    look()?;
    thread::spawn(look).join().unwrap()?;
    Ok("ok".to_owned())
}
