//! What stands behind the question mark.

use std::borrow::Cow;

use axum::http::{StatusCode, Uri};

use crate::answer::Refused;

/// Keys and values, decoded.
pub(crate) fn of(uri: &Uri) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
}

/// A misspelt key is not passed over.
pub(crate) fn unknown(key: &str, known: &str) -> Refused {
    let text = format!("there is no {key:?} here, but {known}");
    Refused::new(StatusCode::BAD_REQUEST, "invalid_query", text)
}
