//! Instances that are not made after they have subscribed.

use std::{
    cell::RefCell,
    sync::{Arc, Weak},
};

use ksi_plugin_api::prelude::*;

use super::{Harness, SECOND};

thread_local! {
    /// What the handler of the last instance holds.
    static HELD: RefCell<Weak<()>> = RefCell::default();
}

/// How an initialisation ends.
#[payload]
#[derive(PartialEq)]
enum End {
    Fails,
    Panics,
    IsCancelled,
}

struct HalfMade;

#[plugin(name = "half_made")]
impl HalfMade {
    #[initialize]
    async fn initialize(ctx: &Context, end: End) -> Result<Self> {
        let held = Arc::new(());
        HELD.set(Arc::downgrade(&held));
        let own = ctx.clone();
        ctx.subscribe("some:event", move |_: Context, _: Value| {
            let (_own, _held) = (own.clone(), held.clone());
            async { Ok(()) }
        })?;
        assert!(end != End::Panics, "as it was told to");
        if end == End::IsCancelled {
            ctx.sleep(3_600 * SECOND).await;
        }
        Err(Error::new("fails", "as it was told to"))
    }
}

#[test]
fn whatever_ends_an_initialisation_its_subscriptions_keep_nothing() {
    for (end, code) in [("Fails", "fails"), ("Panics", "panicked"), ("IsCancelled", "timed_out")] {
        let Err(error) = Harness::with_config::<HalfMade>(json!(end)) else {
            panic!("{end} makes an instance")
        };
        assert_eq!(error.code(), code, "{error}");
        assert_eq!(HELD.take().strong_count(), 0, "{end}: its handler is there still");
    }
}
