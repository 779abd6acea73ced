//! An error with all its causes, for people.
//!
//! `Display` of an error is its own sentence; some tell their source in it and some do not. Whoever
//! prints one prints it through here, so that the last cause, which is often the only one that
//! helps, is never lost, and none is told twice.

use std::{error::Error, fmt};

/// Shows an error with those of its causes that it does not tell itself, each behind a colon.
///
/// ```
/// use std::{error::Error, fmt, io};
///
/// #[derive(Debug)]
/// struct NotOpened(io::Error);
///
/// impl fmt::Display for NotOpened {
///     fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
///         f.write_str("the library was not opened")
///     }
/// }
///
/// impl Error for NotOpened {
///     fn source(&self) -> Option<&(dyn Error + 'static)> {
///         Some(&self.0)
///     }
/// }
///
/// let error = NotOpened(io::Error::other("libx.so is missing"));
/// let told = ksi_host::with_causes(&error).to_string();
/// assert_eq!(told, "the library was not opened: libx.so is missing");
/// ```
pub fn with_causes<'a>(error: &'a (dyn Error + 'static)) -> impl fmt::Display + 'a {
    WithCauses(error)
}

struct WithCauses<'a>(&'a (dyn Error + 'static));

/// A chain of errors has an end, unless somebody makes one that has not.
const LONGEST: usize = 32;

impl fmt::Display for WithCauses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told = self.0.to_string();
        f.write_str(&told)?;
        let mut next = self.0.source();
        for _ in 0..LONGEST {
            let Some(cause) = next else { break };
            next = cause.source();
            let cause = cause.to_string();
            if !told.contains(&cause) {
                write!(f, ": {cause}")?;
                told.push_str(": ");
                told.push_str(&cause);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Nested {
        #[error("outside")]
        Silent(#[source] Box<Nested>),
        #[error("between: {0}")]
        Telling(#[source] Box<Nested>),
        #[error("inside")]
        Inside,
    }

    #[test]
    fn every_cause_is_told_once() {
        let inside = || Box::new(Nested::Inside);
        for (error, told) in [
            (Nested::Inside, "inside"),
            (Nested::Silent(inside()), "outside: inside"),
            (Nested::Telling(inside()), "between: inside"),
            (Nested::Silent(Box::new(Nested::Telling(inside()))), "outside: between: inside"),
            (Nested::Telling(Box::new(Nested::Silent(inside()))), "between: outside: inside"),
        ] {
            assert_eq!(with_causes(&error).to_string(), told);
        }
    }
}
