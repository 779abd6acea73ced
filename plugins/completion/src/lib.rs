//! Completes prompts: an offline echo, or any server that speaks the OpenAI chat completions API.
//!
//! `completion:request` (`prompt`, `model`, `temperature`, `stream`, `request_id`) is answered, and
//! the answer is emitted as `completion:result`, or `completion:failed` with a code and a message.
//! With `stream` each piece of the answer is emitted as `completion:chunk`, in order, before the
//! result.
//!
//! | code of a failure | what happened |
//! |---|---|
//! | `invalid_request` | no model is named |
//! | `unreachable` | the server is not there, or hung up |
//! | `timed_out` | the answer took longer than `timeout_seconds` |
//! | `provider_refused` | status 4xx (or a redirect), with the server's message |
//! | `provider_failed` | status 5xx, or an error in the middle of a stream |
//! | `broken_stream` | the stream ended before the answer did |
//! | `invalid_response` | the answer is no chat completion |
//! | `too_large`, `busy` | a bound of the configuration |
//!
//! The configuration is described at `config::Config`. The API key comes from an environment
//! variable, and appears in no error and no log; what a server answers as text is passed on as it
//! is. A request that is given up ends its HTTP request too.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

use ksi_plugin_api::prelude::*;

mod config;
mod events;
mod failure;

mod echo;
mod openai;
mod sink;

#[cfg(test)]
mod tests;

use config::{Config, Provider};
use events::{Chunk, Completed, Failed, Request, Usage};
use failure::Failure;
use openai::OpenAi;
use sink::Sink;

/// The model that is always there.
const ECHO: &str = "echo";

struct Completion {
    model: Option<String>,
    /// `None`: everything is echoed.
    openai: Option<OpenAi>,
}

/// What a provider says beside the text.
#[derive(Default)]
struct Ending {
    model: Option<String>,
    finish_reason: Option<String>,
    usage: Option<Usage>,
}

#[plugin(runtime, emits(Completed, Chunk, Failed))]
impl Completion {
    #[initialize]
    async fn initialize(_: &Context, config: Config) -> Result<Self> {
        let openai = match config.provider {
            Provider::Echo => None,
            Provider::Openai => Some(OpenAi::new(&config)?),
        };
        Ok(Completion { model: config.model, openai })
    }

    /// Completes a prompt.
    #[event_handler(timeout = "61m")]
    async fn complete(&self, ctx: &Context, request: Request) -> Result<Completed> {
        let request_id = match (&request.request_id, ctx.event()) {
            (Some(given), _) => given.clone(),
            (None, Some(event)) => format!("evt_{:x}", event.id()),
            (None, None) => String::new(),
        };
        let wanted = request.model.as_deref().or(self.model.as_deref());
        let openai = self.openai.as_ref().filter(|_| wanted != Some(ECHO));
        let provider = if openai.is_some() { "openai" } else { ECHO };

        let mut sink = Sink::new(ctx, &request_id, request.stream);
        let ended = match (openai, wanted) {
            (Some(openai), Some(model)) => openai.complete(ctx, model, &request, &mut sink).await,
            (Some(_), None) => Err(Failure::NoModel),
            (None, _) => Ok(echo::complete(&request, &mut sink).await),
        };
        let text = sink.into_text();
        let model = wanted.unwrap_or(if openai.is_some() { "" } else { ECHO }).to_owned();
        let provider = provider.to_owned();
        match ended {
            Ok(Ending { model: used, finish_reason, usage }) => {
                let model = used.unwrap_or(model);
                let done = Completed { request_id, model, provider, text, finish_reason, usage };
                tell(ctx, &done).await;
                Ok(done)
            }
            Err(failure) => {
                let mut error = failure.into_error();
                if let Some(openai) = openai {
                    error = Error::new(error.code(), openai.redacted(error.message()));
                }
                let (code, message) = (error.code().to_owned(), error.message().to_owned());
                tell(ctx, Failed { request_id, model, provider, code, message }).await;
                Err(error)
            }
        }
    }
}

async fn tell<E: Event + Emit>(ctx: &Context, event: E) {
    let report = ctx.emit(event).await;
    if report.failed() {
        tracing::warn!("{} was not handled well: {report:?}", E::NAME);
    }
}
