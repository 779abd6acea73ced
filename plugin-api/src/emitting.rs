//! What an emitter may say beside an event: attributes, a deadline, and how long the chain before
//! it is.

use std::{future::Future, time::Duration};

use ksi_abi::{Attribute, EmitOptions as Lent};

use crate::{context::Context, error::Result, event::Emit, report::Report, types::AwaitedReply};

/// What is said beside an event that is emitted [with](Context::with) it.
///
/// ```
/// use std::time::Duration;
/// use ksi_plugin_api::prelude::*;
///
/// let options = EmitOptions::new()
///     .attribute("_correlation_id", "order-17")
///     .timeout(Duration::from_secs(2));
/// # let _ = options;
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "options do nothing by themselves"]
pub struct EmitOptions {
    attributes: Vec<(String, String)>,
    timeout: Option<Duration>,
    depth: u32,
}

impl EmitOptions {
    /// Nothing is said yet.
    pub fn new() -> Self {
        EmitOptions::default()
    }

    /// Attaches a text to the event, which its handlers can read
    /// ([`EventInfo::attribute`](crate::EventInfo::attribute)), and those of all events that follow
    /// from it. What the event has of the one that it follows from stays; of two texts of one key
    /// the later is taken. Those that the event has in the end may have 64 KiB in all, with their
    /// keys; where nothing is attached, what came with the first event goes on whatever its size.
    pub fn attribute(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.push((key.into(), value.into()));
        self
    }

    /// What the handlers may take in all, from now on, if that is shorter than what they may take
    /// otherwise: than their own timeouts, and than what is left for the event in whose handler
    /// this one is emitted. Events that follow from it have to end by then, too.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How many events lie before this one that the host does not know: for a plugin that brings in
    /// events of another host, so that a loop through both ends at `limits.event_depth` all the
    /// same.
    pub fn depth(mut self, depth: u32) -> Self {
        self.depth = depth;
        self
    }
}

/// What is said, for a harness that emits as a client does: attributes, the time limit, the depth.
pub fn said(options: &EmitOptions) -> (&[(String, String)], Option<Duration>, u32) {
    (&options.attributes, options.timeout, options.depth)
}

/// What may be said beside an event; nothing costs nothing.
pub(crate) trait Beside {
    /// Lends it for as long as the host is asked.
    fn lend<T>(&self, ask: impl FnOnce(Option<&Lent<'_>>) -> T) -> T;
}

impl Beside for () {
    #[inline]
    fn lend<T>(&self, ask: impl FnOnce(Option<&Lent<'_>>) -> T) -> T {
        ask(None)
    }
}

impl Beside for EmitOptions {
    fn lend<T>(&self, ask: impl FnOnce(Option<&Lent<'_>>) -> T) -> T {
        let attributes: Vec<Attribute<'_>> = self
            .attributes
            .iter()
            .map(|(key, value)| Attribute {
                key: key.as_str().into(),
                value: value.as_str().into(),
            })
            .collect();
        // Zero would say that there is none.
        let nanos = |it: Duration| u64::try_from(it.as_nanos()).unwrap_or(u64::MAX).max(1);
        let timeout = self.timeout.map_or(0, nanos);
        ask(Some(&Lent { timeout, depth: self.depth, ..Lent::of(&attributes) }))
    }
}

/// A context with what is said beside the events that are emitted through it; see
/// [`Context::with`].
#[derive(Debug, Clone)]
#[must_use = "nothing is emitted by it alone"]
pub struct EmitWith<'a> {
    ctx: &'a Context,
    options: EmitOptions,
}

impl Context {
    /// Emits, requests and sends with something said beside the event.
    ///
    /// ```
    /// use std::time::Duration;
    /// use ksi_harness::Harness;
    /// use ksi_plugin_api::prelude::*;
    ///
    /// #[derive(Default)]
    /// struct Orders;
    ///
    /// #[plugin]
    /// impl Orders {
    ///     #[event_handler("orders:place")]
    ///     async fn place(&self, ctx: &Context, order: String) -> Result<String> {
    ///         let options = EmitOptions::new().attribute("order", order).timeout(Duration::from_secs(2));
    ///         ctx.with(options).request(named("stock:take", &1)).await
    ///     }
    ///
    ///     /// Knows for which order it is asked.
    ///     #[event_handler("stock:take")]
    ///     async fn take(&self, ctx: &Context, _: u32) -> Result<Option<String>> {
    ///         Ok(ctx.event().and_then(|event| event.attribute("order")).map(str::to_owned))
    ///     }
    /// }
    ///
    /// # fn main() {
    /// let plugin = Harness::start::<Orders>();
    /// assert_eq!(plugin.emit("orders:place", "a pen").results(), [json!("a pen")]);
    /// # }
    /// ```
    pub fn with(&self, options: EmitOptions) -> EmitWith<'_> {
        EmitWith { ctx: self, options }
    }
}

impl<'a> EmitWith<'a> {
    /// As [`Context::emit`].
    pub fn emit<E: Emit>(self, event: E) -> impl Future<Output = Report> + use<'a, E> {
        self.ctx.emit_beside(event, self.options)
    }

    /// As [`Context::request`].
    ///
    /// # Errors
    /// As there.
    pub fn request<R: AwaitedReply>(self, event: impl Emit) -> impl Future<Output = Result<R>> {
        self.ctx.request_beside(event, self.options)
    }

    /// As [`Context::send`].
    ///
    /// # Errors
    /// As there.
    pub fn send(self, event: impl Emit) -> Result<()> {
        self.ctx.send_beside(event, &self.options)
    }
}
