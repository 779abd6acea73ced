//! Mistakes, collected so that an author sees all of them in one build.

use std::fmt::Display;

use quote::ToTokens;
use syn::{Error, Result};

#[derive(Default)]
pub(crate) struct Errors(Option<Error>);

impl Errors {
    /// Records a mistake that spans all of `tokens`.
    pub(crate) fn at(&mut self, tokens: impl ToTokens, message: impl Display) {
        self.add(Error::new_spanned(tokens, message));
    }

    pub(crate) fn add(&mut self, error: Error) {
        match &mut self.0 {
            Some(first) => first.combine(error),
            None => self.0 = Some(error),
        }
    }

    /// The value, or `None` with its error recorded.
    pub(crate) fn take<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.add(error)).ok()
    }

    pub(crate) fn finish(self) -> Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use proc_macro2::Span;

    use super::*;

    #[test]
    fn keeps_every_mistake_in_order() {
        let mut errors = Errors::default();
        errors.add(Error::new(Span::call_site(), "first"));
        assert_eq!(errors.take(Ok(1)), Some(1));
        assert_eq!(errors.take::<()>(Err(Error::new(Span::call_site(), "second"))), None);
        let found: Vec<_> =
            errors.finish().unwrap_err().into_iter().map(|error| error.to_string()).collect();
        assert_eq!(found, ["first", "second"]);
    }

    #[test]
    fn is_fine_without_mistakes() {
        assert!(Errors::default().finish().is_ok());
    }
}
