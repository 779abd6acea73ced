//! Where a provider puts the pieces of its answer.

use ksi_plugin_api::prelude::*;

use crate::events::Chunk;

/// Gathers the pieces, and emits each at once if the request wants a stream.
pub(crate) struct Sink<'a> {
    ctx: &'a Context,
    request_id: &'a str,
    stream: bool,
    pieces: u64,
    text: String,
}

impl<'a> Sink<'a> {
    pub(crate) fn new(ctx: &'a Context, request_id: &'a str, stream: bool) -> Self {
        Sink { ctx, request_id, stream, pieces: 0, text: String::new() }
    }

    /// Takes the next piece. It waits for whoever listens to chunks, so that they come in order.
    pub(crate) async fn push(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        self.text.push_str(text);
        let index = self.pieces;
        self.pieces += 1;
        if !self.stream {
            return;
        }
        let chunk = Chunk { request_id: self.request_id.to_owned(), index, text: text.to_owned() };
        let report = self.ctx.emit(&chunk).await;
        if report.failed() {
            tracing::warn!("chunk {index} of {} was not handled well: {report:?}", self.request_id);
        }
    }

    /// How many pieces there were.
    pub(crate) fn pieces(&self) -> u64 {
        self.pieces
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }
}
