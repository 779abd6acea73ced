//! A process limits itself before it opens foreign code: what it may take of memory, time,
//! descriptors and processes, which files, ports and signals it reaches, and which system calls it
//! has at all. Nothing here needs the rights of a superuser.
//!
//! Knows no host, no plugin, no library. On Linux alone; elsewhere [`Limits::apply`] says that none
//! of it is there.
//!
//! - [`Limits`] says what is wanted, as JSON, TOML or by a program, and [`Limits::apply`] does it
//!   to the calling process, for good.
//! - [`Applied`] is what was done, and what this kernel does not have for it, in words.
//! - [`cgroup`] is for whoever starts such a process: a bound of memory and of processes for it
//!   and all of its children together, where the system gives this user a part of the tree.
//!
//! # What a profile means
//!
//! | | [`Profile::None`] | [`Profile::Standard`] | [`Profile::Strict`] |
//! |---|---|---|---|
//! | resources: `memory`, `cpu`, `open_files`, `processes`; no core files | yes | yes | yes |
//! | more rights by an exec (set-user-id programs) | as before | none | none |
//! | files: landlock | as before | the system's libraries and settings ([`paths::STANDARD`]), and what is given | the libraries alone ([`paths::STRICT`]), and what is given |
//! | TCP ports: landlock | as before | those given | none |
//! | sockets: seccomp | as before | those that can reach what is given, and pairs | those that it was given, and pairs |
//! | signals and abstract sockets outside: landlock | as before | none | none |
//! | exec, and processes of its own | as before | where `execute` names files | none |
//! | system calls: seccomp | as before | all but a list | a list |
//!
//! What is not allowed fails, with `EPERM` (system calls, sockets) or `EACCES` (files, ports), and
//! ends nothing, so that an author sees an error. Pairs of sockets are streams (`SOCK_STREAM`,
//! `SOCK_SEQPACKET`): one of a pair of datagrams could send to any Unix socket, so those are for
//! whom `connect` allows Unix sockets. Two calls fail with `ENOSYS` instead, because
//! whoever calls them has another way then: `clone3`, whose flags no filter can see, and `openat2`
//! in [`Profile::Strict`]. A system call by the table of another architecture ends the process.
//!
//! **Standard** is for a plugin that is trusted to mean well and not to be free of errors. It has
//! no `ptrace` and what else reads other processes, no memory, semaphores and queues of System V
//! and no queues of POSIX, no `kexec`, `reboot`, modules of the kernel, mounts, namespaces, keys,
//! `bpf`, `perf`, `userfaultfd`, `io_uring`, clocks, swap, ports of the machine, and no change of
//! modes and owners by path (`fchmod` of an open file is allowed).
//!
//! **Strict** is for a plugin that computes. It has what std, tokio and threads need: memory,
//! threads, timers, descriptors that it has, files to read, and, where `write` names something,
//! files to write.
//!
//! # What is not kept away
//!
//! - Names, sizes and times of files can be seen everywhere (`stat`).
//! - Where programs may be run, `/proc` can be read, for what they find of themselves there: it
//!   tells which other processes there are, and nothing of their memory and environment.
//! - Landlock knows ports and no addresses. It knows no UDP before Linux 7.2, so `"udp"` allows all
//!   of it.
//! - Whoever may run a program and read files may have the loader run any file that can be read.
//! - `Peers::Any` is everybody, the control sockets of programs of the same user among them.
//! - Descriptors and variables of the environment that the process has when it limits itself stay
//!   with it.
//! - Processes of the same user can be slowed down by the priorities that this one may set for
//!   them.
//! - Time that is taken from others by being busy; see `cpu`, and cgroups.
//! - What an owner may do with files that he has open: a plugin of the superuser can change the
//!   mode of a library that it may read. Run it as somebody else.
//!
//! # Order
//!
//! No new rights, then resources, then files and ports, then system calls: each needs what the
//! next takes away.
//!
//! ```
//! use ksi_sandbox::{Limits, Profile};
//!
//! let text = r#"
//!     memory = "512 MiB"
//!     write = ["/var/lib/greeter"]
//!     connect = [443, "udp"]
//! "#;
//! let limits: Limits = toml::from_str(text)?;
//! assert_eq!(limits.profile, Profile::Standard);
//! limits.check()?;
//! // In a process that has one thread, and before it opens what is not trusted:
//! // let applied = limits.apply()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod applied;
mod apply;
mod bytes;
pub mod cgroup;
mod error;
mod limits;
#[cfg(target_os = "linux")]
mod linux;
pub mod paths;
mod peers;

pub use applied::{Applied, Missing, Setting};
pub use bytes::Bytes;
pub use error::SandboxError;
pub use limits::{Limits, Profile};
pub use peers::{Peers, Ports};
