//! Events as Rust types, and events whose name is known only at run time.

use serde::Serialize;

use crate::{abi::Buffer, error::Result, payload};

/// A payload type that belongs to one event name. The `#[event("ns:name")]` attribute implements it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` carries no event name",
    note = "write #[event_handler(\"ns:name\")], or make it an event with #[event(\"ns:name\")]"
)]
pub trait Event {
    /// The event's name.
    const NAME: &'static str;
}

/// What can be emitted: a value of an [`Event`] type, or a [`named`] payload.
pub trait Emit {
    /// The event's name.
    fn event_name(&self) -> &str;
    #[doc(hidden)]
    fn encode(&self) -> Result<Buffer>;
}

impl<E: Event + Serialize> Emit for E {
    fn event_name(&self) -> &str {
        E::NAME
    }

    fn encode(&self) -> Result<Buffer> {
        payload::encode(self)
    }
}

/// A payload under a name that is known only at run time; see [`named`].
#[derive(Debug, Clone, Copy)]
pub struct Named<'a, T: ?Sized> {
    name: &'a str,
    payload: &'a T,
}

/// A payload to be emitted under `name`.
///
/// ```no_run
/// # use ksi_plugin_api::prelude::*;
/// # async fn f(ctx: &Context) {
/// let report = ctx.emit(&named("state:get", &json!({"namespace": "a", "key": "k"}))).await;
/// # }
/// ```
pub fn named<'a, T: Serialize + ?Sized>(name: &'a str, payload: &'a T) -> Named<'a, T> {
    Named { name, payload }
}

impl<T: Serialize + ?Sized> Emit for Named<'_, T> {
    fn event_name(&self) -> &str {
        self.name
    }

    fn encode(&self) -> Result<Buffer> {
        payload::encode(self.payload)
    }
}
