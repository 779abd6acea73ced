//! A lock that a panic does not close.
//!
//! What it guards is whole after each statement, or is put right by whoever comes next: nobody here
//! leaves it half changed, and a panic elsewhere is no reason for everybody else to fail.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A mutex that is taken whether or not somebody has panicked with it.
#[derive(Debug, Default)]
pub struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    /// A lock of this.
    pub const fn new(value: T) -> Self {
        Lock(Mutex::new(value))
    }

    /// Takes it, once whoever has it lets go.
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn it_is_taken_after_somebody_has_panicked_with_it() {
        let lock = Lock::new(1);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let mut guard = lock.lock();
            *guard = 2;
            panic!("with it");
        }));
        assert!(panicked.is_err());
        assert_eq!(*lock.lock(), 2);
    }
}
