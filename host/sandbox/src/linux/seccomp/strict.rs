//! [`Profile::Strict`](crate::Profile::Strict): what std, tokio and threads need is allowed.

use libc::*;
use seccompiler::BackendError;

use super::{
    Rules, case, has, is, masked,
    sockets::{KIND, PAIRS},
};
use crate::Limits;

/// Allowed whatever is asked of it.
const ALWAYS: &[i64] = &[
    // Memory.
    SYS_brk,
    SYS_mmap,
    SYS_munmap,
    SYS_mremap,
    SYS_mprotect,
    SYS_madvise,
    SYS_mincore,
    SYS_msync,
    SYS_membarrier,
    SYS_memfd_create,
    // Threads.
    SYS_exit,
    SYS_exit_group,
    SYS_futex,
    SYS_futex_waitv,
    SYS_set_robust_list,
    SYS_get_robust_list,
    SYS_set_tid_address,
    SYS_rseq,
    SYS_sched_yield,
    SYS_sched_getaffinity,
    SYS_sched_getparam,
    SYS_sched_getscheduler,
    SYS_sched_get_priority_max,
    SYS_sched_get_priority_min,
    SYS_gettid,
    SYS_restart_syscall,
    // Refused with ENOSYS by another filter, so that whoever calls it takes the older one.
    SYS_clone3,
    SYS_openat2,
    // Signals.
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_rt_sigtimedwait,
    SYS_rt_sigsuspend,
    SYS_rt_sigpending,
    SYS_sigaltstack,
    SYS_signalfd4,
    // Time.
    SYS_clock_gettime,
    SYS_clock_getres,
    SYS_clock_nanosleep,
    SYS_nanosleep,
    SYS_gettimeofday,
    SYS_times,
    SYS_timerfd_create,
    SYS_timerfd_settime,
    SYS_timerfd_gettime,
    SYS_timer_create,
    SYS_timer_settime,
    SYS_timer_gettime,
    SYS_timer_getoverrun,
    SYS_timer_delete,
    SYS_getitimer,
    SYS_setitimer,
    // Descriptors that there are.
    SYS_read,
    SYS_write,
    SYS_readv,
    SYS_writev,
    SYS_pread64,
    SYS_pwrite64,
    SYS_preadv,
    SYS_pwritev,
    SYS_preadv2,
    SYS_pwritev2,
    SYS_sendfile,
    SYS_copy_file_range,
    SYS_lseek,
    SYS_ftruncate,
    SYS_fallocate,
    SYS_fadvise64,
    SYS_fsync,
    SYS_fdatasync,
    SYS_flock,
    SYS_fcntl,
    SYS_dup,
    SYS_dup3,
    SYS_close,
    SYS_close_range,
    SYS_pipe2,
    SYS_eventfd2,
    SYS_epoll_create1,
    SYS_epoll_ctl,
    SYS_epoll_pwait,
    SYS_epoll_pwait2,
    SYS_ppoll,
    SYS_pselect6,
    // Sockets that it was given, and those that it accepts of them.
    SYS_sendto,
    SYS_sendmsg,
    SYS_sendmmsg,
    SYS_recvfrom,
    SYS_recvmsg,
    SYS_recvmmsg,
    SYS_accept,
    SYS_accept4,
    SYS_shutdown,
    SYS_getsockname,
    SYS_getpeername,
    SYS_getsockopt,
    SYS_setsockopt,
    // Files: landlock says which.
    SYS_fstat,
    SYS_newfstatat,
    SYS_statx,
    SYS_statfs,
    SYS_fstatfs,
    SYS_faccessat,
    SYS_faccessat2,
    SYS_readlinkat,
    SYS_getdents64,
    SYS_getcwd,
    // Who and where it is.
    SYS_getpid,
    SYS_getppid,
    SYS_getpgid,
    SYS_getsid,
    SYS_getuid,
    SYS_geteuid,
    SYS_getgid,
    SYS_getegid,
    SYS_getresuid,
    SYS_getresgid,
    SYS_getgroups,
    SYS_getrusage,
    SYS_getcpu,
    SYS_getrandom,
    SYS_uname,
    SYS_sysinfo,
    // There is nobody to wait for, which they say.
    SYS_wait4,
    SYS_waitid,
];

#[cfg(target_arch = "x86_64")]
const ALWAYS_HERE: &[i64] = &[
    SYS_access,
    SYS_alarm,
    SYS_arch_prctl,
    SYS_dup2,
    SYS_epoll_create,
    SYS_epoll_wait,
    SYS_eventfd,
    SYS_getdents,
    SYS_getpgrp,
    SYS_getrlimit,
    SYS_lstat,
    SYS_pause,
    SYS_pipe,
    SYS_poll,
    SYS_readlink,
    SYS_select,
    SYS_stat,
    SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const ALWAYS_HERE: &[i64] = &[];

/// Where files may be written: landlock says which.
const TO_WRITE: &[i64] = &[
    SYS_mkdirat,
    SYS_unlinkat,
    SYS_renameat2,
    SYS_linkat,
    SYS_symlinkat,
    SYS_truncate,
    SYS_fchmod,
    SYS_utimensat,
    SYS_umask,
    SYS_sync_file_range,
];

#[cfg(target_arch = "x86_64")]
const TO_WRITE_HERE: &[i64] =
    &[SYS_mkdir, SYS_rmdir, SYS_unlink, SYS_rename, SYS_renameat, SYS_link, SYS_symlink, SYS_creat];
#[cfg(target_arch = "aarch64")]
const TO_WRITE_HERE: &[i64] = &[SYS_renameat];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const TO_WRITE_HERE: &[i64] = &[];

/// What is asked of pipes, sockets and whoever looks whether it is a terminal.
const CONTROLS: &[i64] = &[
    FIONREAD as i64,
    FIONBIO as i64,
    FIOCLEX as i64,
    FIONCLEX as i64,
    TCGETS as i64,
    TIOCGWINSZ as i64,
];

const OF_A_THREAD: &[i64] = &[PR_SET_NAME as i64, PR_GET_NAME as i64, PR_SET_VMA as i64];

pub(super) fn allowed(limits: &Limits, pid: u32) -> Result<Rules, BackendError> {
    let mut rules: Rules = ALWAYS.iter().chain(ALWAYS_HERE).map(|call| (*call, vec![])).collect();
    let any = |argument, of: &[i64]| {
        of.iter().map(|it| case([is(argument, *it)])).collect::<Result<_, BackendError>>()
    };
    rules.insert(SYS_ioctl, any(1, CONTROLS)?);
    rules.insert(SYS_prctl, any(0, OF_A_THREAD)?);
    rules.insert(SYS_prlimit64, any(0, &[0, pid.into()])?);
    rules.insert(SYS_clone, vec![case([has(0, CLONE_THREAD | CLONE_VM | CLONE_SIGHAND)])?]);
    let pairs = PAIRS.map(|kind| case([is(0, AF_UNIX), masked(1, KIND, kind)]));
    rules.insert(SYS_socketpair, pairs.into_iter().collect::<Result<_, _>>()?);
    // Its own, as whoever aborts does.
    rules.insert(SYS_kill, vec![case([is(0, pid)])?]);
    rules.insert(SYS_tgkill, vec![case([is(0, pid)])?]);
    // musl raises signals by it, and does not say whose thread it is.
    #[cfg(target_env = "musl")]
    rules.insert(SYS_tkill, vec![]);
    let mut opening = |call, flags| {
        // Without landlock too, nothing is written where nothing is to be.
        let read_only = masked(flags, O_ACCMODE | O_CREAT | O_TRUNC | O_TMPFILE & !O_DIRECTORY, 0);
        let cases = match limits.write.is_empty() {
            true => vec![case([read_only])?],
            false => vec![],
        };
        rules.insert(call, cases);
        Ok::<_, BackendError>(())
    };
    opening(SYS_openat, 2)?;
    #[cfg(target_arch = "x86_64")]
    opening(SYS_open, 1)?;
    if limits.becomes.is_some() {
        // Landlock says which program.
        rules.insert(SYS_execve, vec![]);
    }
    if !limits.write.is_empty() {
        rules.extend(TO_WRITE.iter().chain(TO_WRITE_HERE).map(|call| (*call, vec![])));
    }
    Ok(rules)
}
