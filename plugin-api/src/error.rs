//! Why a handler, or something that it asked of the host, did not succeed.

use std::fmt;

use ksi_abi::RefusalCode;

/// The result of a handler.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure: a code for programs and a message for people. It becomes a failed outcome in the
/// emitter's report.
///
/// Every `std::error::Error` converts into it (with code `error`, and its sources in the message),
/// so `?` works in a handler. For that reason it is itself no `std::error::Error`. An error that is
/// none either, like `anyhow::Error`, becomes one by [`map_err(Error::other)`](Error::other).
///
/// ```
/// use ksi_plugin_api::{Error, Result};
/// fn parse(text: &str) -> Result<u32> {
///     if text.is_empty() {
///         return Err(Error::new("empty", "there is nothing to parse"));
///     }
///     Ok(text.parse()?)
/// }
/// assert_eq!(parse("").unwrap_err().code(), "empty");
/// assert_eq!(parse("x").unwrap_err().message(), "invalid digit found in string");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    code: String,
    message: String,
    kind: ErrorKind,
    refusal: Option<Refusal>,
}

/// How the call ended that an [`Error`] tells of; see [`Error::kind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// With an error of somebody's own, which its [code](Error::code) says more of.
    Failed,
    /// With a panic.
    Panicked,
    /// The process that the handler ran in ended first.
    Crashed,
    /// It took longer than it may.
    TimedOut,
    /// It was not run, or not to its end.
    Rejected,
}

/// What the host has refused; see [`Error::refusal`].
///
/// ```
/// use ksi_plugin_api::prelude::*;
/// # #[event("log:line")]
/// # struct Line { text: String }
///
/// /// Leaves a line out where too many wait, and fails for whatever else is refused.
/// fn note(ctx: &Context, line: Line) -> Result<()> {
///     match ctx.send(line) {
///         Err(error) if error.refusal() == Some(Refusal::QueueFull) => Ok(()),
///         sent => sent,
///     }
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// It is no event name.
    InvalidName,
    /// It is no pattern.
    InvalidPattern,
    /// Too many sent events are not handled yet (`limits.queued_events`).
    QueueFull,
    /// Sent events that are not handled yet are too large (`limits.queued_bytes`, or
    /// `limits.waiting_bytes`).
    QueueBytes,
    /// What the event carries is too large (`limits.payload_bytes`).
    TooLarge,
    /// The chain of events is too long (`limits.event_depth`).
    TooDeep,
    /// The payload cannot become JSON.
    NotEncodable,
    /// The plugin has as many subscriptions as it may have (`limits.subscriptions`).
    TooManySubscriptions,
    /// The plugin has as many background tasks as it may have (`limits.background_tasks`).
    TooManyTasks,
    /// The plugin has as many watches as it may have (`limits.subscriptions`).
    TooManyWatches,
    /// The plugin is being retired.
    Retiring,
    /// The plugin is only [tried out](crate::Context::is_trial).
    Trial,
    /// It is no address to listen at.
    InvalidAddress,
    /// The address cannot be listened at: it is taken, or the plugin may not.
    AddressUnavailable,
    /// The plugin has as many resources as it may have (`limits.kept_resources`).
    TooManyResources,
    /// It is no name of a resource.
    InvalidResourceName,
    /// The plugin is unloaded, and nothing is kept for it any more.
    Unloaded,
    /// The system gives no further descriptor.
    NoDescriptor,
    /// The host panicked, which is a mistake in the host.
    HostPanicked,
    /// There is nothing like it on this system, or the host is older than what was asked of it.
    Unsupported,
    /// A newer host has refused it for a reason that this plugin has no name for.
    Other,
}

impl Refusal {
    pub(crate) fn of(code: RefusalCode) -> Option<Self> {
        Some(match code {
            RefusalCode::NONE => return None,
            RefusalCode::INVALID_NAME => Refusal::InvalidName,
            RefusalCode::INVALID_PATTERN => Refusal::InvalidPattern,
            RefusalCode::QUEUE_FULL => Refusal::QueueFull,
            RefusalCode::QUEUE_BYTES => Refusal::QueueBytes,
            RefusalCode::TOO_LARGE => Refusal::TooLarge,
            RefusalCode::TOO_DEEP => Refusal::TooDeep,
            RefusalCode::NOT_ENCODABLE => Refusal::NotEncodable,
            RefusalCode::TOO_MANY_SUBSCRIPTIONS => Refusal::TooManySubscriptions,
            RefusalCode::TOO_MANY_TASKS => Refusal::TooManyTasks,
            RefusalCode::TOO_MANY_WATCHES => Refusal::TooManyWatches,
            RefusalCode::RETIRING => Refusal::Retiring,
            RefusalCode::TRIAL => Refusal::Trial,
            RefusalCode::INVALID_ADDRESS => Refusal::InvalidAddress,
            RefusalCode::ADDRESS_UNAVAILABLE => Refusal::AddressUnavailable,
            RefusalCode::TOO_MANY_RESOURCES => Refusal::TooManyResources,
            RefusalCode::INVALID_RESOURCE_NAME => Refusal::InvalidResourceName,
            RefusalCode::UNLOADED => Refusal::Unloaded,
            RefusalCode::NO_DESCRIPTOR => Refusal::NoDescriptor,
            RefusalCode::HOST_PANICKED => Refusal::HostPanicked,
            RefusalCode::UNSUPPORTED => Refusal::Unsupported,
            _ => Refusal::Other,
        })
    }
}

impl Error {
    /// An error of this code and message.
    pub fn new(code: impl Into<String>, message: impl fmt::Display) -> Self {
        let (code, message) = (code.into(), message.to_string());
        Error { code, message, kind: ErrorKind::Failed, refusal: None }
    }

    /// How a call has ended that did not fail by itself.
    pub(crate) fn ended(kind: ErrorKind, code: impl Into<String>, text: impl fmt::Display) -> Self {
        Error { kind, ..Error::new(code, text) }
    }

    /// What the host has refused.
    pub(crate) fn refused(code: &str, refusal: &ksi_abi::Refusal) -> Self {
        Error::new(code, refusal).because(refusal.code)
    }

    pub(crate) fn because(self, code: RefusalCode) -> Self {
        Error { refusal: Refusal::of(code), ..self }
    }

    /// An error of the code `error`, with the message of what is no `std::error::Error` itself: an
    /// `anyhow::Error`, a `Box<dyn Error>`, a text. Of an `anyhow::Error` the message has all
    /// causes.
    ///
    /// ```
    /// use ksi_plugin_api::{Error, Result};
    /// fn parse(text: &str) -> Result<u32> {
    ///     let parsed: std::result::Result<u32, Box<dyn std::error::Error>> = text.parse().map_err(Into::into);
    ///     parsed.map_err(Error::other)
    /// }
    /// assert_eq!(parse("x").unwrap_err().message(), "invalid digit found in string");
    /// ```
    pub fn other(error: impl fmt::Display) -> Self {
        // The alternate form is the one with the causes.
        Error::new("error", format_args!("{error:#}"))
    }

    /// For programs: short, stable, in snake case.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// For people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// How the call ended, if it is the error of a request; an error that was made by anybody is
    /// [`Failed`](ErrorKind::Failed). A handler may give its own errors any code, `crashed` and
    /// `timed_out` too: whoever does something else when the handler's process is lost asks here.
    ///
    /// ```
    /// use ksi_harness::Harness;
    /// use ksi_plugin_api::{ErrorKind, prelude::*};
    ///
    /// #[derive(Default)]
    /// struct Shop;
    ///
    /// #[plugin]
    /// impl Shop {
    ///     #[event_handler("shop:sell")]
    ///     async fn sell(&self, ctx: &Context, item: String) -> Result<String> {
    ///         match ctx.request::<()>(named("till:ring", &item)).await {
    ///             Err(error) if error.kind() == ErrorKind::Crashed => Ok("once more".to_owned()),
    ///             Err(error) => Ok(format!("no: {}", error.code())),
    ///             Ok(()) => Ok("sold".to_owned()),
    ///         }
    ///     }
    ///
    ///     #[event_handler("till:ring")]
    ///     async fn ring(&self, _: &Context, item: String) -> Result<()> {
    ///         Err(Error::new("crashed", format!("the till falls on {item}")))
    ///     }
    /// }
    ///
    /// # fn main() {
    /// let plugin = Harness::start::<Shop>();
    /// assert_eq!(plugin.emit("shop:sell", "a pen").results(), [json!("no: crashed")]);
    /// # }
    /// ```
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What the host has refused, if it is an error of that: for a plugin that does something else
    /// then. It stands beside the [code](Self::code), which is `rejected` or, of resources that are
    /// kept, `not_kept`.
    pub fn refusal(&self) -> Option<Refusal> {
        self.refusal
    }

    pub(crate) fn into_parts(self) -> (String, String) {
        (self.code, self.message)
    }
}

/// What `?` turns into an [`Error`]. Of what the compiler is told here, it shows at a `?` the
/// label.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no error that becomes one of a handler by itself",
    label = "no `std::error::Error`: write `.map_err(Error::other)?`, or `.map_err(|why| Error::new(\"code\", why))?`"
)]
pub trait Convertible: std::error::Error {}

#[diagnostic::do_not_recommend]
impl<E: std::error::Error> Convertible for E {}

impl<E: Convertible> From<E> for Error {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            // Many errors repeat their source in their own text.
            if !message.contains(&text) {
                message.push_str(": ");
                message.push_str(&text);
            }
            source = cause.source();
        }
        Error::new("error", message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}
