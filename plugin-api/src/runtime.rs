//! The opt-in tokio runtime of a plugin that does its own I/O.
//!
//! It belongs to one generation and is entered around each poll of its handlers and tasks, so that
//! `tokio::spawn`, sockets, timers and HTTP clients work in them. The poll itself stays on the
//! host's dispatch worker; to spawn each handler onto the runtime instead would cost 8 µs a call.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use ksi_abi::{CallEnd, CallStart, export::FirstPoll};

#[cfg(feature = "runtime")]
mod tokio_runtime {
    use std::time::Duration;

    use tokio::runtime::{Builder, EnterGuard, Handle, Runtime};

    use crate::error::{Error, Result};

    /// How long blocking work on the runtime may take to end when the plugin is retired.
    const SHUTDOWN: Duration = Duration::from_secs(2);

    /// Ends with the instance: tasks are dropped, threads are joined.
    pub(crate) struct OwnRuntime(Option<Runtime>);

    impl OwnRuntime {
        pub(crate) fn start(wanted: bool) -> Result<(Self, RuntimeHandle)> {
            if !wanted {
                return Ok((OwnRuntime(None), RuntimeHandle(None)));
            }
            let runtime = Builder::new_multi_thread()
                .worker_threads(1)
                .thread_name("ksi-plugin-rt")
                .enable_all()
                .build()
                .map_err(|error| {
                    Error::new(
                        "runtime",
                        format_args!("no tokio runtime could be started: {error}"),
                    )
                })?;
            let handle = RuntimeHandle(Some(runtime.handle().clone()));
            Ok((OwnRuntime(Some(runtime)), handle))
        }
    }

    impl Drop for OwnRuntime {
        fn drop(&mut self) {
            if let Some(runtime) = self.0.take() {
                runtime.shutdown_timeout(SHUTDOWN);
            }
        }
    }

    #[derive(Clone)]
    pub(crate) struct RuntimeHandle(Option<Handle>);

    impl RuntimeHandle {
        pub(super) fn guard(&self) -> Option<EnterGuard<'_>> {
            self.0.as_ref().map(Handle::enter)
        }

        pub(super) fn is_some(&self) -> bool {
            self.0.is_some()
        }
    }
}

#[cfg(not(feature = "runtime"))]
mod no_runtime {
    use crate::error::{Error, Result};

    pub(crate) struct OwnRuntime;

    impl OwnRuntime {
        pub(crate) fn start(wanted: bool) -> Result<(Self, RuntimeHandle)> {
            match wanted {
                false => Ok((OwnRuntime, RuntimeHandle)),
                // `export_plugin!` refuses this at compile time already.
                true => {
                    Err(Error::new("runtime", "the feature \"runtime\" of ksi-plugin-api is off"))
                }
            }
        }
    }

    #[derive(Clone)]
    pub(crate) struct RuntimeHandle;

    /// Stands for the guard of a runtime that there is none of.
    pub(super) struct Outside;

    impl RuntimeHandle {
        pub(super) fn guard(&self) -> Outside {
            Outside
        }

        pub(super) fn is_some(&self) -> bool {
            false
        }
    }
}

#[cfg(not(feature = "runtime"))]
pub(crate) use no_runtime::{OwnRuntime, RuntimeHandle};
#[cfg(feature = "runtime")]
pub(crate) use tokio_runtime::{OwnRuntime, RuntimeHandle};

impl RuntimeHandle {
    /// What a call is [started](start) in; most plugins have no runtime, and nothing is counted
    /// then.
    #[inline]
    pub(crate) fn of_call(&self) -> Option<Self> {
        self.is_some().then(|| self.clone())
    }

    /// The same future, polled and dropped inside the plugin's runtime.
    pub(crate) fn enter<F: Future>(self, future: F) -> Entered<F> {
        Entered { future: Some(Box::pin(future)), runtime: self }
    }
}

/// Starts a call inside the plugin's runtime, if it has one.
#[inline]
pub(crate) fn start<F>(
    runtime: Option<RuntimeHandle>,
    first: FirstPoll<'_>,
    make: impl FnOnce() -> F,
) -> CallStart
where
    F: Future<Output = CallEnd> + Send + 'static,
{
    match runtime {
        None => first.start(make),
        Some(runtime) => first.start(|| runtime.enter(make())),
    }
}

/// See [`RuntimeHandle::enter`].
pub(crate) struct Entered<F> {
    /// `None` only while it is dropped.
    future: Option<Pin<Box<F>>>,
    runtime: RuntimeHandle,
}

impl<F: Future> Future for Entered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let _inside = this.runtime.guard();
        match &mut this.future {
            Some(future) => future.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

impl<F> Drop for Entered<F> {
    fn drop(&mut self) {
        let _inside = self.runtime.guard();
        self.future = None;
    }
}
