//! [`Profile::Standard`](crate::Profile::Standard): what no plugin needs is refused.

use libc::*;
use seccompiler::BackendError;

use super::{Rules, another, case, has, is, is_not, masked, sockets};
use crate::Limits;

/// Refused whatever is asked of it.
const NEVER: &[i64] = &[
    // Other processes, and what they have.
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_process_madvise,
    SYS_pidfd_getfd,
    SYS_kcmp,
    SYS_perf_event_open,
    SYS_move_pages,
    SYS_migrate_pages,
    // Memory, semaphores and queues of the same user, by numbers that can be guessed, or by names
    // that are in no file system: landlock knows none of them. (What POSIX has of memory and
    // semaphores are files.)
    SYS_shmget,
    SYS_shmat,
    SYS_shmctl,
    SYS_semget,
    SYS_semop,
    SYS_semtimedop,
    SYS_semctl,
    SYS_msgget,
    SYS_msgsnd,
    SYS_msgrcv,
    SYS_msgctl,
    SYS_mq_open,
    SYS_mq_unlink,
    // The kernel itself, and the machine.
    SYS_kexec_load,
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_reboot,
    SYS_bpf,
    SYS_syslog,
    SYS_swapon,
    SYS_swapoff,
    SYS_acct,
    SYS_quotactl,
    SYS_sethostname,
    SYS_setdomainname,
    SYS_vhangup,
    // What seccomp cannot look into, or what exploits begin with.
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
    SYS_userfaultfd,
    // Mounts and namespaces.
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_chroot,
    SYS_move_mount,
    SYS_open_tree,
    SYS_fsopen,
    SYS_fsconfig,
    SYS_fsmount,
    SYS_fspick,
    SYS_mount_setattr,
    SYS_setns,
    SYS_unshare,
    // Files past their paths, watched as a whole, or changed where landlock does not look.
    SYS_name_to_handle_at,
    SYS_open_by_handle_at,
    SYS_fanotify_init,
    SYS_fanotify_mark,
    SYS_fchmodat,
    SYS_fchownat,
    SYS_setxattr,
    SYS_lsetxattr,
    SYS_removexattr,
    SYS_lremovexattr,
    // Keys.
    SYS_add_key,
    SYS_request_key,
    SYS_keyctl,
    // Clocks of the machine.
    SYS_settimeofday,
    SYS_clock_settime,
    SYS_clock_adjtime,
    SYS_adjtimex,
];

/// As above; later calls than some C libraries have names for, with the same number everywhere.
const NEVER_LATER: &[i64] = &[
    443, // quotactl_fd
    452, // fchmodat2
    463, // setxattrat
    466, // removexattrat
    467, // open_tree_attr
    469, // file_setattr
];

#[cfg(target_arch = "x86_64")]
const NEVER_HERE: &[i64] = &[
    SYS_kexec_file_load,
    SYS_chmod,
    SYS_chown,
    SYS_lchown,
    SYS_iopl,
    SYS_ioperm,
    SYS_modify_ldt,
    SYS_uselib,
    SYS_ustat,
    SYS_sysfs,
    SYS__sysctl,
    SYS_nfsservctl,
    SYS_lookup_dcookie,
];
#[cfg(not(target_arch = "x86_64"))]
const NEVER_HERE: &[i64] = &[
    294, // kexec_file_load
];

const NAMESPACES: &[c_int] = &[
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
];

pub(super) fn refused(limits: &Limits, pid: u32) -> Result<Rules, BackendError> {
    let never = NEVER.iter().chain(NEVER_LATER).chain(NEVER_HERE);
    let mut rules: Rules = never.map(|call| (*call, vec![])).collect();
    let mut clone =
        NAMESPACES.iter().map(|flag| case([has(0, *flag)])).collect::<Result<Vec<_>, _>>()?;
    if limits.execute.is_empty() {
        if limits.becomes.is_none() {
            rules.insert(SYS_execve, vec![]);
        }
        rules.insert(SYS_execveat, vec![]);
        // Whoever has no processes has no use for groups of them, and is to be found in his own.
        rules.extend([(SYS_setsid, vec![]), (SYS_setpgid, vec![])]);
        // A thread is allowed, and a process is not.
        clone.push(case([masked(0, CLONE_THREAD, 0)])?);
        #[cfg(target_arch = "x86_64")]
        rules.extend([(SYS_fork, vec![]), (SYS_vfork, vec![])]);
    }
    rules.insert(SYS_clone, clone);
    // The limits of the host among others, which has the same user.
    rules.insert(SYS_prlimit64, vec![case(another(0, pid))?]);
    // To ask which it is.
    rules.insert(SYS_personality, vec![case([is_not(0, 0xffff_ffff_i64)])?]);
    // What is written to a terminal as if it had been typed there.
    rules.insert(SYS_ioctl, vec![case([is(1, TIOCSTI as i64)])?, case([is(1, TIOCLINUX as i64)])?]);
    sockets::refused(limits, &mut rules)?;
    Ok(rules)
}
