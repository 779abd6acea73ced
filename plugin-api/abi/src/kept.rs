//! Descriptors on their way between a plugin and its host, as the numbers that cross.
//!
//! Invariant: a number that crosses stands for one descriptor, and whoever gets it owns it.

#[cfg(unix)]
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

#[cfg(not(unix))]
use super::RefusalCode;
use super::{Refusal, host::HostApi};

/// Where there is no descriptor, nothing is kept.
#[cfg(not(unix))]
pub(super) const UNSUPPORTED: &str = "resources are kept on Unix alone";

/// The number that stands for none.
const NONE: i32 = -1;

#[cfg(unix)]
pub(super) fn listener<H: HostApi>(host: &H, address: &str) -> Result<i32, Refusal> {
    host.listener(address).map(IntoRawFd::into_raw_fd)
}

/// # Safety
/// The caller owns `descriptor`, and gives it away.
#[cfg(unix)]
pub(super) unsafe fn keep<H: HostApi>(
    host: &H,
    name: &str,
    descriptor: i32,
) -> Result<(), Refusal> {
    // SAFETY: promised by the caller.
    host.keep(name, unsafe { owned(descriptor) })
}

#[cfg(unix)]
pub(super) fn kept<H: HostApi>(host: &H, name: &str) -> Result<i32, Refusal> {
    Ok(host.kept(name)?.map_or(NONE, IntoRawFd::into_raw_fd))
}

#[cfg(unix)]
pub(super) fn stop_keeping<H: HostApi>(host: &H, name: &str) -> bool {
    host.stop_keeping(name)
}

/// # Safety
/// The caller owns `descriptor`, which is open, and gives it away.
#[cfg(unix)]
pub(super) unsafe fn owned(descriptor: i32) -> OwnedFd {
    // SAFETY: promised by the caller.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// # Safety
/// As [`owned`], if it is none that stands for nothing.
#[cfg(unix)]
pub(super) unsafe fn owned_if_any(descriptor: i32) -> Option<OwnedFd> {
    // SAFETY: promised by the caller.
    (descriptor != NONE).then(|| unsafe { owned(descriptor) })
}

#[cfg(not(unix))]
pub(super) fn listener<H: HostApi>(_: &H, _: &str) -> Result<i32, Refusal> {
    Err(Refusal::new(RefusalCode::UNSUPPORTED, UNSUPPORTED))
}

/// # Safety
/// None: nothing is taken over.
#[cfg(not(unix))]
pub(super) unsafe fn keep<H: HostApi>(_: &H, _: &str, _: i32) -> Result<(), Refusal> {
    Err(Refusal::new(RefusalCode::UNSUPPORTED, UNSUPPORTED))
}

#[cfg(not(unix))]
pub(super) fn kept<H: HostApi>(_: &H, _: &str) -> Result<i32, Refusal> {
    Ok(NONE)
}

#[cfg(not(unix))]
pub(super) fn stop_keeping<H: HostApi>(_: &H, _: &str) -> bool {
    false
}
