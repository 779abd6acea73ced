//! What is dangerous in a library that will be unmapped: thread-locals with destructors, std's
//! thread handles, caught panics, timers of the plugin's own runtime.

use std::{cell::RefCell, panic::catch_unwind, time::Duration};

use ksi_plugin_api::prelude::*;

struct WithDestructor(Vec<u64>);

impl Drop for WithDestructor {
    fn drop(&mut self) {
        self.0.clear();
    }
}

thread_local! {
    static KEPT: RefCell<WithDestructor> = const { RefCell::new(WithDestructor(Vec::new())) };
}

/// Leaves a destructor of this library and std's own handle on the thread.
pub(crate) fn touch_thread(number: u64) {
    let _handle = std::thread::current();
    KEPT.with_borrow_mut(|kept| {
        kept.0.clear();
        kept.0.push(number);
    });
}

/// Panics and goes on.
pub(crate) fn panic_and_catch(number: u64) -> Result<()> {
    match catch_unwind(|| panic!("caught on purpose: {number}")) {
        Ok(()) => Err(Error::new("no_panic", "a panic did not unwind")),
        Err(_) => Ok(()),
    }
}

/// Waits in the plugin's own runtime, and in a task of it.
#[cfg(feature = "bulk")]
pub(crate) async fn wait(_: &Context, time: Duration) -> Result<()> {
    tokio::time::sleep(time / 2).await;
    tokio::spawn(tokio::time::sleep(time / 2)).await?;
    Ok(())
}

/// Waits for the host's timer: this build has no runtime of its own.
#[cfg(not(feature = "bulk"))]
pub(crate) async fn wait(ctx: &Context, time: Duration) -> Result<()> {
    ctx.sleep(time).await;
    Ok(())
}

/// Starts a task that goes on for as long as this generation does.
pub(crate) fn tick(ctx: &Context) -> Result<()> {
    let ticking = ctx.clone();
    ctx.spawn(async move {
        let mut number = 0;
        while wait(&ticking, Duration::from_millis(20)).await.is_ok() {
            number += 1;
            touch_thread(number);
        }
    })?;
    Ok(())
}
