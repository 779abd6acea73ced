//! Events as Rust types, and events whose name is known only at run time.

use std::{
    borrow::Cow,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use ksi_abi::{Content, Value};
use serde::Serialize;

use crate::{error::Result, payload};

/// A payload type that belongs to one event name. The `#[event("ns:name")]` attribute implements
/// it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` carries no event name",
    label = "no event type",
    note = "write #[event(\"ns:name\")] on `{Self}`; or name the event where a handler is declared, \
            #[event_handler(\"ns:name\")], or where it is emitted, named(\"ns:name\", &value)"
)]
pub trait Event {
    /// The event's name.
    const NAME: &'static str;

    /// What the library knows the event by.
    #[doc(hidden)]
    fn slot() -> Option<&'static EventSlot> {
        None
    }

    /// The event as a value, or itself if it goes as bytes.
    #[doc(hidden)]
    fn into_value(self) -> Result<Value, Self>
    where
        Self: Sized,
    {
        Err(self)
    }

    /// A copy of the event as a value, unless it goes as bytes.
    #[doc(hidden)]
    fn to_value(&self) -> Option<Value> {
        None
    }
}

#[diagnostic::do_not_recommend]
impl<E: Event + ?Sized> Event for &E {
    const NAME: &'static str = E::NAME;

    fn slot() -> Option<&'static EventSlot> {
        E::slot()
    }

    fn into_value(self) -> Result<Value, Self> {
        E::to_value(self).ok_or(self)
    }

    fn to_value(&self) -> Option<Value> {
        E::to_value(self)
    }
}

/// What a library knows one of its event types by: a small number, so that a route that was found
/// once is found again without a look at the name.
#[doc(hidden)]
#[derive(Debug)]
pub struct EventSlot(OnceLock<u32>);

impl EventSlot {
    /// Without a number yet.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        EventSlot(OnceLock::new())
    }

    /// Its number: from 0 on, in the order of first use in this library.
    pub fn number(&self) -> u32 {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        *self.0.get_or_init(|| NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be emitted, because it carries no event name",
    label = "no event type",
    note = "write #[event(\"ns:name\")] on its type, or emit it as named(\"ns:name\", &value)"
)]
/// What can be emitted: a value of an [`Event`] type, or a [`named`] payload, or a reference to one
/// of them.
///
/// An event that is given away goes to its handlers as it is; of one that is lent, a copy does.
pub trait Emit {
    /// The event's name.
    fn event_name(&self) -> &str;

    /// The event's name, for longer than the event.
    #[doc(hidden)]
    fn owned_name(&self) -> Cow<'static, str> {
        Cow::Owned(self.event_name().to_owned())
    }

    /// See [`Event::slot`].
    #[doc(hidden)]
    fn slot(&self) -> Option<&'static EventSlot> {
        None
    }

    /// What is handed over.
    #[doc(hidden)]
    fn into_content(self) -> Result<Content>
    where
        Self: Sized;
}

#[diagnostic::do_not_recommend]
impl<E: Event + Serialize> Emit for E {
    fn event_name(&self) -> &str {
        E::NAME
    }

    fn owned_name(&self) -> Cow<'static, str> {
        Cow::Borrowed(E::NAME)
    }

    fn slot(&self) -> Option<&'static EventSlot> {
        E::slot()
    }

    #[inline]
    fn into_content(self) -> Result<Content> {
        match self.into_value() {
            Ok(value) => Ok(Content::Value(value)),
            Err(event) => payload::encode(&event).map(Content::Bytes),
        }
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
/// let report = ctx.emit(named("state:get", &json!({"namespace": "a", "key": "k"}))).await;
/// # }
/// ```
pub fn named<'a, T: Serialize + ?Sized>(name: &'a str, payload: &'a T) -> Named<'a, T> {
    Named { name, payload }
}

impl<T: Serialize + ?Sized> Emit for Named<'_, T> {
    fn event_name(&self) -> &str {
        self.name
    }

    fn into_content(self) -> Result<Content> {
        payload::encode(self.payload).map(Content::Bytes)
    }
}

impl<T: Serialize + ?Sized> Emit for &Named<'_, T> {
    fn event_name(&self) -> &str {
        self.name
    }

    fn into_content(self) -> Result<Content> {
        payload::encode(self.payload).map(Content::Bytes)
    }
}

#[cfg(test)]
mod tests;
