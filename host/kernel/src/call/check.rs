//! What the payload of a handler has to be, as far as somebody outside of this layer can tell.

use std::{fmt, sync::OnceLock};

use serde_json::Value;

/// Tells what of a payload a handler does not take. It is asked by
/// [`Router::violations`](crate::router::Router::violations) alone.
pub struct PayloadCheck(Box<Violations>);

type Violations = dyn Fn(&Value) -> Vec<String> + Send + Sync;

impl PayloadCheck {
    /// One that tells a line for each place that is wrong, as many as it likes.
    pub fn new(check: impl Fn(&Value) -> Vec<String> + Send + Sync + 'static) -> Self {
        PayloadCheck(Box::new(check))
    }

    pub(crate) fn violations(&self, payload: &Value) -> Vec<String> {
        (self.0)(payload)
    }
}

impl fmt::Debug for PayloadCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PayloadCheck").finish_non_exhaustive()
    }
}

/// The check of a handler, if it has got one.
pub type Check = OnceLock<PayloadCheck>;
