//! What the filters say of calls that a test cannot make, or does not want to.
//! Numbers of calls, and a few of the calls, are those of one kind of processor.
#![cfg(target_arch = "x86_64")]

use super::*;

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
const PID: u32 = 4711;
const X86_64: u32 = 0xc000_003e;

/// What the kernel would do, as an error's number; 0 if it lets the call through.
fn verdict(limits: &str, call: i64, args: &[u64]) -> u32 {
    let limits = serde_json::from_str(limits).unwrap();
    let filters = filters(&limits, TargetArch::x86_64, PID).unwrap();
    // The first that refuses, from the last one on.
    let mut all = filters.iter().rev().map(|filter| run(filter, call, args));
    all.find(|error| *error != 0).unwrap_or(0)
}

/// The part of the kernel's machine that the filters use.
fn run(filter: &BpfProgram, call: i64, args: &[u64]) -> u32 {
    let mut data = [0u32; 16];
    (data[0], data[1]) = (call as u32, X86_64);
    for (at, arg) in args.iter().enumerate() {
        (data[4 + 2 * at], data[5 + 2 * at]) = (*arg as u32, (*arg >> 32) as u32);
    }
    let (mut at, mut value) = (0, 0);
    loop {
        let it = &filter[at];
        at += 1;
        let jump = |holds: bool| usize::from(if holds { it.jt } else { it.jf });
        match it.code {
            0x20 => value = data[it.k as usize / 4],
            0x54 => value &= it.k,
            0x05 => at += it.k as usize,
            0x15 => at += jump(value == it.k),
            0x25 => at += jump(value > it.k),
            0x35 => at += jump(value >= it.k),
            0x06 if it.k >> 16 == 0x7fff => return 0,
            0x06 if it.k >> 16 == 0x0005 => return it.k & 0xffff,
            0x06 => panic!("the process would end: {:x}", it.k),
            other => panic!("{other:x}"),
        }
    }
}

const STANDARD: &str = "{}";
const STRICT: &str = r#"{"profile": "strict"}"#;

#[test]
fn what_no_plugin_needs_is_refused_in_both_profiles() {
    for call in [
        libc::SYS_ptrace,
        libc::SYS_mount,
        libc::SYS_kexec_load,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_keyctl,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_reboot,
        libc::SYS_setns,
        libc::SYS_unshare,
        libc::SYS_io_uring_setup,
        libc::SYS_process_vm_readv,
        libc::SYS_pidfd_getfd,
        libc::SYS_open_by_handle_at,
        libc::SYS_clock_settime,
        libc::SYS_chmod,
        libc::SYS_fchmodat,
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_fork,
        libc::SYS_vfork,
        libc::SYS_listen,
        // By their numbers, which can be guessed, the memory and queues of others are had as well.
        libc::SYS_shmget,
        libc::SYS_shmat,
        libc::SYS_shmctl,
        libc::SYS_semget,
        libc::SYS_semop,
        libc::SYS_semtimedop,
        libc::SYS_semctl,
        libc::SYS_msgget,
        libc::SYS_msgsnd,
        libc::SYS_msgrcv,
        libc::SYS_msgctl,
        libc::SYS_mq_open,
        libc::SYS_mq_unlink,
    ] {
        assert_eq!(verdict(STANDARD, call, &[0, 0, 0]), EPERM, "{call}");
        assert_eq!(verdict(STRICT, call, &[0, 0, 0]), EPERM, "{call}");
    }
}

#[test]
fn threads_can_be_started_and_processes_and_namespaces_cannot() {
    let thread = 0x003d_0f00;
    let process = libc::SIGCHLD as u64;
    let run = r#"{"execute": ["/usr/bin"]}"#;
    for limits in [STANDARD, STRICT, run] {
        assert_eq!(verdict(limits, libc::SYS_clone, &[thread]), 0, "{limits}");
        assert_eq!(verdict(limits, libc::SYS_clone3, &[]), ENOSYS, "{limits}");
        let namespace = process | libc::CLONE_NEWUSER as u64;
        assert_eq!(verdict(limits, libc::SYS_clone, &[namespace]), EPERM, "{limits}");
    }
    for limits in [STANDARD, STRICT] {
        assert_eq!(verdict(limits, libc::SYS_clone, &[process]), EPERM, "{limits}");
    }
    assert_eq!(verdict(run, libc::SYS_clone, &[process]), 0);
    assert_eq!(verdict(run, libc::SYS_execve, &[]), 0);
}

#[test]
fn what_becomes_another_program_makes_no_process_for_it() {
    for profile in ["standard", "strict"] {
        let becomes = format!(r#"{{"profile": "{profile}", "becomes": "/usr/bin/python3"}}"#);
        assert_eq!(verdict(&becomes, libc::SYS_execve, &[]), 0);
        assert_eq!(verdict(&becomes, libc::SYS_execveat, &[]), EPERM);
        assert_eq!(verdict(&becomes, libc::SYS_clone, &[libc::SIGCHLD as u64]), EPERM);
        assert_eq!(verdict(&becomes, libc::SYS_clone, &[0x003d_0f00]), 0);
    }
}

#[test]
fn sockets_are_those_that_reach_what_is_allowed() {
    const UNIX: u64 = libc::AF_UNIX as u64;
    const V4: u64 = libc::AF_INET as u64;
    const V6: u64 = libc::AF_INET6 as u64;
    const NETLINK: u64 = libc::AF_NETLINK as u64;
    const TCP: u64 = (libc::SOCK_STREAM | libc::SOCK_CLOEXEC) as u64;
    const UDP: u64 = (libc::SOCK_DGRAM | libc::SOCK_NONBLOCK) as u64;
    const RAW: u64 = libc::SOCK_RAW as u64;
    const MPTCP: u64 = 262;
    // What the last three are: whether they are refused without anything, with a port, with "udp",
    // with a path, with "any".
    for (socket, refused) in [
        ([V4, TCP, 0], [true, false, true, true, false]),
        ([V6, TCP, 6], [true, false, true, true, false]),
        ([V4, TCP, MPTCP], [true, true, true, true, true]),
        ([V4, UDP, 0], [true, true, false, true, false]),
        ([V6, UDP, 17], [true, true, false, true, false]),
        ([V4, UDP, 1], [true, true, true, true, true]),
        ([V4, RAW, 1], [true, true, true, true, true]),
        ([UNIX, TCP, 0], [true, true, true, false, false]),
        ([UNIX, UDP, 0], [true, true, true, false, false]),
        ([NETLINK, RAW, 0], [true, true, true, true, true]),
    ] {
        let connect = ["[]", "[443]", "[\"udp\"]", "[\"/run/x\"]", "\"any\""];
        for (connect, refused) in connect.into_iter().zip(refused) {
            let limits = format!(r#"{{"connect": {connect}}}"#);
            let found = verdict(&limits, libc::SYS_socket, &socket);
            assert_eq!(found, u32::from(refused) * EPERM, "{socket:?} with {connect}");
        }
        assert_eq!(verdict(STRICT, libc::SYS_socket, &socket), EPERM, "{socket:?}");
    }
    let listens = r#"{"bind": [8080]}"#;
    assert_eq!(verdict(listens, libc::SYS_listen, &[3, 8]), 0);
    assert_eq!(verdict(listens, libc::SYS_socket, &[V4, TCP, 0]), 0);
    let fast = libc::MSG_FASTOPEN as u64;
    let connects = r#"{"connect": [443]}"#;
    assert_eq!(verdict(connects, libc::SYS_sendto, &[3, 0, 0, fast]), EPERM);
    assert_eq!(verdict(connects, libc::SYS_sendmsg, &[3, 0, fast]), EPERM);
    assert_eq!(verdict(connects, libc::SYS_sendto, &[3, 0, 0, libc::MSG_NOSIGNAL as u64]), 0);
}

#[test]
fn a_pair_is_one_that_sends_to_nobody_else_unless_all_of_its_kind_are_allowed() {
    const UNIX: u64 = libc::AF_UNIX as u64;
    const V4: u64 = libc::AF_INET as u64;
    const UDP_ALONE: &str = r#"{"connect": ["udp"]}"#;
    const PATH: &str = r#"{"connect": ["/run/x"]}"#;
    const ANY: &str = r#"{"connect": "any"}"#;
    let all = [STANDARD, STRICT, UDP_ALONE, PATH, ANY];
    let pair = |limits: &str, domain: u64, kind: i32| {
        verdict(limits, libc::SYS_socketpair, &[domain, kind as u64, 0])
    };
    for limits in all {
        for kind in [libc::SOCK_STREAM, libc::SOCK_SEQPACKET] {
            assert_eq!(pair(limits, UNIX, kind), 0, "{limits}");
            let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
            assert_eq!(pair(limits, UNIX, kind | flags), 0, "{limits}");
            assert_eq!(pair(limits, V4, kind), EPERM, "{limits}");
        }
    }
    // Of Unix sockets, raw ones are datagrams by another name.
    for kind in [libc::SOCK_DGRAM, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, libc::SOCK_RAW] {
        for (limits, refused) in all.into_iter().zip([EPERM, EPERM, EPERM, 0, 0]) {
            assert_eq!(pair(limits, UNIX, kind), refused, "{limits}, {kind:o}");
        }
    }
}

#[test]
fn other_processes_are_not_limited_or_signalled_by_strict() {
    for limits in [STANDARD, STRICT] {
        assert_eq!(verdict(limits, libc::SYS_prlimit64, &[0, 7]), 0);
        assert_eq!(verdict(limits, libc::SYS_prlimit64, &[PID.into(), 7]), 0);
        assert_eq!(verdict(limits, libc::SYS_prlimit64, &[1, 7]), EPERM);
    }
    assert_eq!(verdict(STRICT, libc::SYS_kill, &[PID.into(), 9]), 0);
    assert_eq!(verdict(STRICT, libc::SYS_kill, &[1, 9]), EPERM);
    assert_eq!(verdict(STRICT, libc::SYS_kill, &[u64::MAX, 9]), EPERM);
    assert_eq!(verdict(STRICT, libc::SYS_tgkill, &[1, 1, 9]), EPERM);
}

#[test]
fn strict_opens_to_write_only_where_something_is_to_be_written() {
    const CREATE: u64 = (libc::O_WRONLY | libc::O_CREAT) as u64;
    const READ: u64 = (libc::O_RDONLY | libc::O_CLOEXEC | libc::O_DIRECTORY) as u64;
    const UNNAMED: u64 = (libc::O_RDWR | libc::O_TMPFILE) as u64;
    const WRITES: &str = r#"{"profile": "strict", "write": ["/var/lib/x"]}"#;
    for (flags, refused) in [(READ, 0), (CREATE, EPERM), (UNNAMED, EPERM), (2, EPERM)] {
        assert_eq!(verdict(STRICT, libc::SYS_openat, &[0, 0, flags]), refused, "{flags:o}");
        assert_eq!(verdict(STRICT, libc::SYS_open, &[0, flags]), refused, "{flags:o}");
        assert_eq!(verdict(WRITES, libc::SYS_openat, &[0, 0, flags]), 0, "{flags:o}");
    }
    assert_eq!(verdict(STRICT, libc::SYS_openat2, &[]), ENOSYS);
    assert_eq!(verdict(STRICT, libc::SYS_unlink, &[]), EPERM);
    assert_eq!(verdict(WRITES, libc::SYS_unlink, &[]), 0);
    assert_eq!(verdict(WRITES, libc::SYS_chmod, &[]), EPERM);
}

#[test]
fn a_terminal_is_not_typed_into() {
    for limits in [STANDARD, STRICT] {
        assert_eq!(verdict(limits, libc::SYS_ioctl, &[0, libc::TIOCSTI]), EPERM);
        assert_eq!(verdict(limits, libc::SYS_ioctl, &[0, libc::TCGETS]), 0);
    }
}

#[test]
fn the_other_numbers_of_the_same_processor_are_refused() {
    for limits in [STANDARD, STRICT] {
        assert_eq!(verdict(limits, 0x4000_0000 + 521, &[]), EPERM);
        assert_eq!(verdict(limits, libc::SYS_read, &[]), 0);
    }
}
