//! The plugin's configuration.

use std::time::Duration;

use ksi_plugin_api::prelude::*;

/// A handler's longest time, which leaves room for the longest `timeout_seconds`.
pub(crate) const LONGEST: Duration = Duration::from_secs(3_600);

/// Where completions come from, and within which bounds.
#[payload]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) provider: Provider,
    /// For requests that name no model.
    pub(crate) model: Option<String>,
    /// `openai`: where the API is, up to and without `/chat/completions`.
    pub(crate) base_url: String,
    /// `openai`: the environment variable that holds the API key. Left out: none is sent.
    pub(crate) api_key_env: Option<String>,
    /// `openai`: how long an answer may take, to its end. 1 to 3600.
    pub(crate) timeout_seconds: u64,
    /// `openai`: how many bytes an answer may have.
    pub(crate) max_response_bytes: usize,
    /// `openai`: how many requests may wait for their answers at once.
    pub(crate) max_concurrent: usize,
}

/// Who completes.
#[payload]
#[derive(Copy, Default, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Provider {
    /// Gives the prompt back. It works offline.
    #[default]
    Echo,
    /// A server that speaks the chat completions API: OpenAI, llama.cpp, Ollama, vLLM.
    Openai,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            provider: Provider::Echo,
            model: None,
            base_url: "https://api.openai.com/v1".to_owned(),
            api_key_env: None,
            timeout_seconds: 120,
            max_response_bytes: 4 << 20,
            max_concurrent: 64,
        }
    }
}

impl Config {
    pub(crate) fn timeout(&self) -> Result<Duration> {
        let timeout = Duration::from_secs(self.timeout_seconds);
        if timeout.is_zero() || timeout > LONGEST {
            let text = format!("timeout_seconds is {}: it can be 1 to 3600", self.timeout_seconds);
            return Err(Error::new("invalid_config", text));
        }
        Ok(timeout)
    }
}
