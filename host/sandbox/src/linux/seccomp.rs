//! Which system calls the process has: seccomp.
//!
//! Several filters, all of which are asked; the one that refuses most counts. The last one may
//! refuse that another is added.

use std::{collections::BTreeMap, io};

use rustix::io::Errno;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter,
};

use crate::{Applied, Limits, Profile, SandboxError};

mod sockets;
mod standard;
mod strict;
#[cfg(test)]
mod tests;

/// Of each system call by its number, in which cases it is meant; none means always.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

pub(super) fn restrict(limits: &Limits, applied: &mut Applied) -> Result<(), SandboxError> {
    let making = |error: BackendError| {
        let source = Box::new(error);
        SandboxError::Seccomp { step: "making the filter", source }
    };
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(making)?;
    let filters = filters(limits, arch, std::process::id()).map_err(making)?;
    for filter in &filters {
        match apply_filter(filter) {
            Ok(()) => {}
            Err(seccompiler::Error::Seccomp(error)) if is_unknown(&error) => {
                let advice = "run a kernel with CONFIG_SECCOMP_FILTER";
                applied.lacks("system calls are not limited", "seccomp", "no filters", advice);
                return Ok(());
            }
            Err(error) => {
                let source = Box::new(error);
                return Err(SandboxError::Seccomp { step: "taking effect", source });
            }
        }
    }
    let what = match limits.profile {
        Profile::Strict => "those of a list",
        _ => "all but a list",
    };
    applied.is_set("system calls", what);
    Ok(())
}

fn is_unknown(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOSYS | Errno::INVAL))
}

/// Those to apply, in this order.
fn filters(limits: &Limits, arch: TargetArch, pid: u32) -> Result<Vec<BpfProgram>, BackendError> {
    let strict = limits.profile == Profile::Strict;
    let refused = || SeccompAction::Errno(Errno::PERM.raw_os_error() as u32);
    let (rules, otherwise, then) = match strict {
        true => (strict::allowed(limits, pid)?, refused(), SeccompAction::Allow),
        false => (standard::refused(limits, pid)?, SeccompAction::Allow, refused()),
    };
    let mut unknown = Rules::from([(libc::SYS_clone3, vec![])]);
    if strict {
        unknown.insert(libc::SYS_openat2, vec![]);
    }
    let unknown = SeccompFilter::new(
        unknown,
        SeccompAction::Allow,
        SeccompAction::Errno(Errno::NOSYS.raw_os_error() as u32),
        arch,
    )?;
    let main = SeccompFilter::new(rules, otherwise, then, arch)?;
    let mut filters = vec![unknown.try_into()?, main.try_into()?];
    if arch == TargetArch::x86_64 {
        filters.insert(0, without_x32());
    }
    Ok(filters)
}

/// The numbers of the ABI `x32` are of the same architecture, and not those that the other filters
/// know. Nobody uses it, and few kernels have it.
fn without_x32() -> BpfProgram {
    const X32: u32 = 0x4000_0000;
    let refused = SeccompAction::Errno(Errno::PERM.raw_os_error() as u32);
    let statement =
        |code: u32, jt, jf, k| seccompiler::sock_filter { code: code as u16, jt, jf, k };
    vec![
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, X32),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, refused.into()),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, SeccompAction::Allow.into()),
    ]
}

/// A case: all conditions hold.
fn case<const N: usize>(conditions: [Condition; N]) -> Result<SeccompRule, BackendError> {
    let conditions = conditions.into_iter().map(|Condition(argument, is, value)| {
        // The kernel reads 32 bits of all arguments that are looked at here, save flags of clone,
        // whose upper half means nothing.
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, is, value)
    });
    SeccompRule::new(conditions.collect::<Result<_, _>>()?)
}

/// The argument by its place, how it is compared, and with what.
struct Condition(u8, SeccompCmpOp, u64);

fn is(argument: u8, value: impl Into<i64>) -> Condition {
    Condition(argument, SeccompCmpOp::Eq, low(value))
}

fn is_not(argument: u8, value: impl Into<i64>) -> Condition {
    Condition(argument, SeccompCmpOp::Ne, low(value))
}

/// What is left of the argument behind a mask.
fn masked(argument: u8, mask: impl Into<i64>, value: impl Into<i64>) -> Condition {
    Condition(argument, SeccompCmpOp::MaskedEq(low(mask)), low(value))
}

/// All of these bits.
fn has(argument: u8, flags: impl Into<i64> + Copy) -> Condition {
    masked(argument, flags, flags)
}

fn low(value: impl Into<i64>) -> u64 {
    value.into() as u64 & u64::from(u32::MAX)
}

/// Of another process than this one.
fn another(argument: u8, pid: u32) -> [Condition; 2] {
    [is_not(argument, 0), is_not(argument, pid)]
}
