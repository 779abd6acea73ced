//! What `sigaction` means to a library.
//!
//! A library sees a process of its own: the action before its first one is the default, or to
//! ignore the signal if the program does, and later its own. Behind the handler of a fault there is
//! the way on to the others'. To set the default action gives up its own one and nobody else's.

#![allow(unsafe_code)]

use std::ffi::c_int;

use ksi_abi::signals::SignalAction;

use super::{
    deliver,
    kernel::{self, TableLock},
    table::{self, Library},
    told,
};

/// # Safety
/// `library` is what the library was made known with; `new` is null or an action, `old` null or
/// room for one.
pub(super) unsafe extern "C" fn set(
    library: *const (),
    signal: c_int,
    new: *const SignalAction,
    old: *mut SignalAction,
) -> c_int {
    // SAFETY: promised by the caller.
    let (library, new) = unsafe { (Library::of(library), new.as_ref()) };
    let was = match asked(library, signal, new) {
        Ok(was) => was,
        Err(error) => return error,
    };
    // SAFETY: as above.
    if let Some(old) = unsafe { old.as_mut() } {
        *old = was;
    }
    if new.is_some() && !deliver::is_inside() && !kernel::is_forked() {
        told::tell(library);
    }
    0
}

fn asked(
    library: &Library,
    signal: c_int,
    new: Option<&SignalAction>,
) -> Result<SignalAction, c_int> {
    // In a child that is about to become another program, or in a copy of this one, the actions are
    // that one's.
    if kernel::is_forked() {
        return kernel::system(signal, new);
    }
    if !table::exists(signal) || kernel::installed(signal).is_none() {
        return Err(libc::EINVAL);
    }
    if new.is_some() && matches!(signal, libc::SIGKILL | libc::SIGSTOP) {
        return Err(libc::EINVAL);
    }
    let turn = TableLock::take();
    let was = seen_by(library, signal);
    if let Some(new) = new {
        if library.is_leaving() {
            return Err(libc::ECANCELED);
        }
        wish(library, signal, new);
        kernel::settle(&turn, signal);
    }
    Ok(was)
}

/// # Safety
/// As for [`set`]; neither action is null.
pub(super) unsafe extern "C" fn adopt(
    library: *const (),
    signal: c_int,
    own: *const SignalAction,
    before: *const SignalAction,
) -> c_int {
    // SAFETY: promised by the caller.
    let (library, own, before) = unsafe { (Library::of(library), &*own, &*before) };
    let turn = TableLock::take();
    wish(library, signal, own);
    kernel::settle_adopted(&turn, signal, own, before);
    0
}

fn wish(library: &Library, signal: c_int, new: &SignalAction) {
    let want = library.want(signal);
    let is_default = new.handler == libc::SIG_DFL || deliver::is_own(new);
    match is_default {
        true => _ = want.clear(),
        false => want.write(new),
    }
    told::note(library, signal);
}

/// The action of a signal as this library sees it.
fn seen_by(library: &Library, signal: c_int) -> SignalAction {
    if let Some((_, own)) = library.want(signal).now() {
        return own;
    }
    let original = kernel::original(signal);
    let handled = |library: &Library| {
        library.want(signal).now().is_some_and(|(_, action)| action.is_handler())
    };
    match deliver::is_fault(signal) {
        true if original.is_handler() || table::libraries().any(handled) => deliver::passing_on(),
        _ if original.is_handler() => SignalAction::default(),
        _ => original,
    }
}
