//! The provider that speaks the OpenAI chat completions API over HTTP.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ksi_plugin_api::{Context, Error, Result};
use reqwest::{
    Client, Response, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION},
    redirect,
};

mod answer;
mod sse;

use crate::{Ending, config::Config, events::Request, failure::Failure, sink::Sink};

/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of an answer that is an error is read.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// A server.
pub(crate) struct OpenAi {
    client: Client,
    url: Url,
    /// The server, as errors name it.
    place: String,
    secret: Secret,
    timeout: Duration,
    max_response_bytes: usize,
    max_concurrent: usize,
    waiting: Arc<AtomicUsize>,
}

/// The API key. It has no `Debug`, and is taken out of what the server says.
struct Secret(Option<String>);

impl OpenAi {
    /// # Errors
    /// `invalid_config` or `missing_api_key`.
    pub(crate) fn new(config: &Config) -> Result<Self> {
        let invalid = |text: String| Error::new("invalid_config", text);
        let base = Url::parse(&config.base_url)
            .map_err(|error| invalid(format!("base_url is no URL: {error}")))?;
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
            return Err(invalid(
                "base_url must begin with http:// or https:// and a host".to_owned(),
            ));
        }
        if !base.username().is_empty() || base.password().is_some() {
            // The URL is not repeated here: it holds a password.
            let text = "base_url holds a user or a password: put the key into an environment variable, and name \
                        that in api_key_env";
            return Err(invalid(text.to_owned()));
        }
        let mut url = base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["chat", "completions"]);
        }
        let secret = Secret::of(config.api_key_env.as_deref())?;
        let client = client(&base, secret.header(config.api_key_env.as_deref())?)?;
        Ok(OpenAi {
            client,
            url,
            place: base.origin().ascii_serialization(),
            secret,
            timeout: config.timeout()?,
            max_response_bytes: config.max_response_bytes,
            max_concurrent: config.max_concurrent,
            waiting: Arc::default(),
        })
    }

    /// Asks the server, and gives the pieces of its answer to the sink.
    pub(crate) async fn complete(
        &self,
        ctx: &Context,
        model: &str,
        request: &Request,
        sink: &mut Sink<'_>,
    ) -> Result<Ending, Failure> {
        let _turn = self.turn()?;
        match ctx.timeout(self.timeout, self.ask(model, request, sink)).await {
            Ok(answered) => answered,
            Err(_) => Err(Failure::TimedOut { place: self.place(), after: self.timeout }),
        }
    }

    async fn ask(
        &self,
        model: &str,
        request: &Request,
        sink: &mut Sink<'_>,
    ) -> Result<Ending, Failure> {
        let body = answer::question(model, request)
            .map_err(|source| Failure::Unwritable { place: self.place(), source })?;
        let sent = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(body)
            .send()
            .await;
        let response = sent.map_err(|error| {
            let (place, source) = (self.place(), error.without_url());
            match source.is_connect() {
                true => Failure::Unreachable { place, source },
                false => Failure::Disconnected { place, source },
            }
        })?;
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        if request.stream && !is_json(&response) {
            sse::read(self, response, sink).await
        } else {
            answer::read(self, response, sink).await
        }
    }

    /// What an answer with a status of failure means.
    async fn refusal(&self, mut response: Response) -> Failure {
        let (place, status) = (self.place(), response.status());
        let target = response.headers().get(LOCATION).and_then(|target| target.to_str().ok());
        if let (true, Some(target)) = (status.is_redirection(), target) {
            let message =
                self.secret.redact(&format!("it has moved to {target}; set base_url to that"));
            return Failure::Refused { place, status: status.as_u16(), message };
        }
        let mut body = Vec::new();
        // Whatever can be read explains the status; the status alone is enough.
        while let Ok(Some(bytes)) = response.chunk().await {
            body.extend_from_slice(&bytes);
            if body.len() > MAX_ERROR_BYTES {
                body.truncate(MAX_ERROR_BYTES);
                break;
            }
        }
        let message = self.error_message(&body);
        match status.is_server_error() {
            true => Failure::ServerFailed { place, status: status.as_u16(), message },
            false => Failure::Refused { place, status: status.as_u16(), message },
        }
    }

    /// What an answer says is wrong. The key goes first: a message that is cut could end in a part
    /// of it.
    fn error_message(&self, body: &[u8]) -> String {
        let body = self.secret.redact(&String::from_utf8_lossy(body));
        answer::error_message(body.as_bytes())
    }

    /// A text for others to read, without the key: some servers repeat it.
    pub(crate) fn redacted(&self, text: &str) -> String {
        self.secret.redact(text)
    }

    fn place(&self) -> String {
        self.place.clone()
    }

    /// A turn among the requests that wait at once.
    fn turn(&self) -> Result<Turn, Failure> {
        let taken = Turn(self.waiting.clone());
        match taken.0.fetch_add(1, Ordering::AcqRel) < self.max_concurrent {
            true => Ok(taken),
            false => Err(Failure::Busy { place: self.place(), limit: self.max_concurrent }),
        }
    }
}

struct Turn(Arc<AtomicUsize>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn client(base: &Url, authorization: Option<HeaderValue>) -> Result<Client> {
    // Fails when it is installed already, by an earlier instance.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let headers = authorization.map(|value| HeaderMap::from_iter([(AUTHORIZATION, value)]));
    let builder = Client::builder()
        .default_headers(headers.unwrap_or_default())
        .connect_timeout(CONNECT_TIMEOUT)
        .user_agent(concat!("ksi-completion/", env!("CARGO_PKG_VERSION")))
        // A redirected POST would become a GET.
        .redirect(redirect::Policy::none());
    let builder = match base.scheme() {
        // A machine with a server of its own may have no certificates, and needs none.
        "http" => builder.tls_certs_only([]),
        _ => builder,
    };
    builder.build().map_err(|error| {
        Error::new("invalid_config", format_args!("no HTTP client: {}", Error::from(error)))
    })
}

impl Secret {
    fn of(variable: Option<&str>) -> Result<Self> {
        let Some(name) = variable else { return Ok(Secret(None)) };
        match std::env::var(name) {
            Ok(key) if !key.trim().is_empty() => Ok(Secret(Some(key.trim().to_owned()))),
            _ => {
                let text = format!(
                    "api_key_env names the environment variable {name:?}, which is not set: set it for the host, or leave api_key_env out"
                );
                Err(Error::new("missing_api_key", text))
            }
        }
    }

    fn header(&self, variable: Option<&str>) -> Result<Option<HeaderValue>> {
        let Some(key) = &self.0 else { return Ok(None) };
        let mut value = HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| {
            let name = variable.unwrap_or_default();
            let text = format!("what the environment variable {name:?} holds is no API key");
            Error::new("missing_api_key", text)
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// The text without the key: some servers repeat it when they refuse it.
    fn redact(&self, text: &str) -> String {
        match &self.0 {
            Some(key) => text.replace(key.as_str(), "***"),
            None => text.to_owned(),
        }
    }
}

fn is_json(response: &Response) -> bool {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("application/json"))
}
