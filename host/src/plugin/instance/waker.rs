//! Wakers of a plugin that the host keeps.

use std::{
    sync::Arc,
    task::{Wake, Waker},
};

use ksi_kernel::{lock::Lock, router::Router, value::Keeper};

/// Wraps a waker whose code lies in a plugin. A timer or channel of the host may keep it for any
/// time and wake it on any thread; so it holds the library through its `keeper`, and is woken and
/// dropped on the dispatch workers.
pub(crate) fn adopt(waker: Waker, keeper: Arc<dyn Keeper>, router: Arc<Router>) -> Waker {
    Waker::from(Arc::new(AdoptedWaker(Lock::new(Some(Adopted { waker, keeper, router })))))
}

struct Adopted {
    waker: Waker,
    keeper: Arc<dyn Keeper>,
    router: Arc<Router>,
}

/// Empty once it was woken: whoever polls again registers a new one.
struct AdoptedWaker(Lock<Option<Adopted>>);

impl AdoptedWaker {
    fn finish(&self, how: impl FnOnce(Waker) + Send + 'static) {
        let adopted = self.0.lock().take();
        if let Some(Adopted { waker, keeper, router }) = adopted {
            router.spawn_detached(async move {
                how(waker);
                drop(keeper);
            });
        }
    }
}

impl Wake for AdoptedWaker {
    fn wake(self: Arc<Self>) {
        self.finish(Waker::wake);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.finish(Waker::wake);
    }
}

impl Drop for AdoptedWaker {
    fn drop(&mut self) {
        self.finish(drop);
    }
}
