//! The provider that works offline: it gives the prompt back.

use crate::{Ending, events::Request, sink::Sink};

/// Word by word, so that a stream has something to stream.
pub(crate) async fn complete(request: &Request, sink: &mut Sink<'_>) -> Ending {
    for word in request.prompt.split_inclusive(char::is_whitespace) {
        sink.push(word).await;
    }
    Ending { finish_reason: Some("stop".to_owned()), ..Ending::default() }
}
