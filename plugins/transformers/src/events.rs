//! The events that the plugin is steered by, and those that it emits beside the targets.

use ksi_plugin_api::prelude::*;

/// All transformers, with what became of their events, and what is wrong in the files.
#[event("transformer:list")]
#[serde(default)]
#[derive(Default)]
pub(crate) struct List {
    /// Only those whose source is this.
    pub(crate) source: Option<String>,
}

#[payload]
pub(crate) struct Listed {
    pub(crate) transformers: Vec<Shown>,
    pub(crate) count: usize,
    pub(crate) problems: Vec<ShownProblem>,
}

#[payload]
pub(crate) struct Shown {
    pub(crate) name: String,
    pub(crate) source: String,
    pub(crate) target: String,
    #[serde(rename = "async")]
    pub(crate) is_async: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) foreach: Option<String>,
    pub(crate) has_condition: bool,
    pub(crate) has_response_route: bool,
    /// `text` or `native`.
    pub(crate) values: String,
    /// Where it stands; without it, it was registered by an event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) line: Option<u64>,
    /// Events that came.
    pub(crate) events: u64,
    /// Of these, how many its condition left out.
    pub(crate) skipped: u64,
    /// Events that it made.
    pub(crate) emitted: u64,
    pub(crate) failed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_error: Option<String>,
}

/// What is wrong in a file: what is not live because of it, or a key that says nothing.
#[payload]
pub(crate) struct ShownProblem {
    pub(crate) file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    pub(crate) message: String,
}

/// Reads all files again.
#[event("transformer:reload")]
pub(crate) struct Reload {}

#[payload]
pub(crate) struct Reloaded {
    pub(crate) added: usize,
    pub(crate) changed: usize,
    pub(crate) removed: usize,
    /// As they were; also those that are wrong now and stay as they were before.
    pub(crate) kept: usize,
    pub(crate) problems: Vec<ShownProblem>,
}

/// Registers a transformer, in the form that files have.
#[event("router:register_transformer")]
pub(crate) struct Register {
    pub(crate) transformer: Value,
}

#[payload]
pub(crate) struct Registered {
    /// `registered`.
    pub(crate) status: String,
    pub(crate) name: String,
    pub(crate) source: String,
    pub(crate) target: String,
}

/// Removes the transformers of a source. Those of files come back when the files are read.
#[event("router:unregister_transformer")]
pub(crate) struct Unregister {
    pub(crate) source: String,
}

#[payload]
pub(crate) struct Unregistered {
    /// `unregistered`.
    pub(crate) status: String,
    pub(crate) source: String,
    pub(crate) count: usize,
}

/// The transformers in the words of KSI.
#[event("router:list_transformers")]
pub(crate) struct ListForRouter {}

#[payload]
pub(crate) struct ListedForRouter {
    pub(crate) transformers: Vec<ShownForRouter>,
    pub(crate) count: usize,
}

#[payload]
pub(crate) struct ShownForRouter {
    pub(crate) source: String,
    pub(crate) target: String,
    #[serde(rename = "async")]
    pub(crate) is_async: bool,
    pub(crate) has_condition: bool,
    pub(crate) has_response_route: bool,
}

/// The answer to what an async transformer began was sent on.
#[event("transform:result")]
pub(crate) struct TransformResult {
    pub(crate) transform_id: String,
    pub(crate) source_event: String,
    pub(crate) target_event: String,
    pub(crate) result: Value,
    /// Seconds since the Unix epoch.
    pub(crate) timestamp: f64,
}
