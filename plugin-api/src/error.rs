//! Why a handler, or something that it asked of the host, did not succeed.

use std::fmt;

/// The result of a handler.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure: a code for programs and a message for people. It becomes a failed outcome in the emitter's report.
///
/// Every `std::error::Error` converts into it (with code `error`, and its sources in the message), so `?` works in a
/// handler. For that reason it is itself no `std::error::Error`. An error that is none either, like `anyhow::Error`, becomes
/// one by [`map_err(Error::other)`](Error::other).
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
}

impl Error {
    /// An error of this code and message.
    pub fn new(code: impl Into<String>, message: impl fmt::Display) -> Self {
        Error { code: code.into(), message: message.to_string() }
    }

    /// An error of the code `error`, with the message of what is no `std::error::Error` itself: an `anyhow::Error`, a
    /// `Box<dyn Error>`, a text. Of an `anyhow::Error` the message has all causes.
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

    pub(crate) fn into_parts(self) -> (String, String) {
        (self.code, self.message)
    }
}

impl<E: std::error::Error> From<E> for Error {
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
        Error { code: "error".to_owned(), message }
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
