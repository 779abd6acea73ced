//! Catching a panic, and keeping its message and place.
//!
//! std in each library has a hook of its own. The default one prints a symbolised backtrace, which
//! leaks tens of megabytes a time in a library that is later unmapped, and keeps that library's
//! file mapped. So a plugin's hook only notes the message and the place, also when the plugin has
//! ended.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind},
};

use super::Buffer;

thread_local! {
    /// How many guards surround what runs on this thread.
    static GUARDS: Cell<usize> = const { Cell::new(0) };
    /// The last panic that the hook saw below a guard.
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `body`; a panic in it becomes its message.
pub fn guarded<T>(body: impl FnOnce() -> T) -> Result<T, Buffer> {
    GUARDS.with(|guards| {
        guards.set(guards.get() + 1);
        let result = guarded_again(body);
        guards.set(guards.get() - 1);
        result
    })
}

/// The same for what runs below a guard already.
pub(super) fn guarded_again<T>(body: impl FnOnce() -> T) -> Result<T, Buffer> {
    catch_unwind(AssertUnwindSafe(body)).map_err(message_of)
}

#[cold]
fn message_of(payload: Box<dyn Any + Send>) -> Buffer {
    // A destructor of another thread-local may run after that of this one.
    let noted = LAST.try_with(|last| last.borrow_mut().take()).ok().flatten();
    let text = noted.unwrap_or_else(|| payload_text(&*payload).to_owned());
    discard(payload);
    Buffer::from(&*text)
}

/// Runs `body` for somebody who has no way to hear of a panic in it: the hook tells it, as one on a
/// thread of its own.
pub(super) fn contained<T>(body: impl FnOnce() -> T) -> Option<T> {
    GUARDS.with(|guards| {
        let surround = guards.replace(0);
        let result = catch_unwind(AssertUnwindSafe(body));
        guards.set(surround);
        result.map_err(discard).ok()
    })
}

/// Drops a value whose own drop may panic.
pub fn discard<T>(value: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        // The payload of the second panic may panic in turn when it is dropped: leaking it is the
        // only end.
        std::mem::forget(payload);
    }
}

/// Installs the hook of a plugin's library, for as long as the library is there. `uncaught` is told
/// of a panic on a thread of the plugin's own, or in a destructor of a thread-local.
pub fn install_hook(uncaught: impl Fn(&str) + Send + Sync + 'static) {
    std::panic::set_hook(Box::new(move |info| {
        let text = describe(info);
        match GUARDS.try_with(Cell::get) {
            Ok(0) | Err(_) => uncaught(&text),
            Ok(_) => {
                let _ = LAST.try_with(|last| *last.borrow_mut() = Some(text));
            }
        }
    }));
}

fn describe(info: &PanicHookInfo<'_>) -> String {
    let text = payload_text(info.payload());
    match info.location() {
        Some(place) => format!("{text} (at {place})"),
        None => text.to_owned(),
    }
}

fn payload_text(payload: &(dyn Any + Send)) -> &str {
    if let Some(text) = payload.downcast_ref::<&str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else {
        "a panic without a message"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in drop");
        }
    }

    #[test]
    fn a_panic_becomes_its_message() {
        assert_eq!(guarded(|| 7).ok(), Some(7));
        let message = guarded(|| panic!("boom {}", 1)).expect_err("it panics");
        assert!(message.to_text().contains("boom 1"), "{message:?}");
    }

    #[test]
    fn what_is_contained_panics_for_nobody_and_the_guards_are_as_before() {
        assert_eq!(contained(|| 7), Some(7));
        let inside = guarded(|| {
            assert_eq!(contained(|| std::panic::panic_any(Bomb)).map(drop), None);
            GUARDS.get()
        });
        assert_eq!((inside.ok(), GUARDS.get()), (Some(1), 0));
    }

    #[test]
    fn a_payload_whose_drop_panics_is_survived() {
        let message = guarded(|| std::panic::panic_any(Bomb)).expect_err("it panics");
        assert!(!message.is_empty());
    }
}
