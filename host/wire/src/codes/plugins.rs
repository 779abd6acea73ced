//! The plugins that come with ksi.

use super::Code;

pub(super) const CODES: &[Code] = &[
    Code::new(
        "full",
        "`state` holds as many bytes as it may.",
        "Values that are never deleted.",
        "Delete some, or raise the plugin's `max_total_bytes`.",
    ),
    Code::new(
        "too_many_keys",
        "`state` holds as many keys as it may.",
        "Keys that are made up anew each time.",
        "Delete some, or raise the plugin's `max_keys`.",
    ),
    Code::new(
        "invalid_transformer",
        "A definition of `transformers` makes no sense.",
        "A misspelt key or a template that is none.",
        "The message has the file and the place.",
    ),
    Code::new(
        "too_many_transformers",
        "`transformers` has as many definitions as it may.",
        "Definitions that are added by events and never removed.",
        "Remove some, or raise the plugin's limit.",
    ),
    Code::new(
        "transform_failed",
        "A transformer could not make its event of this one.",
        "The event lacks what the template names.",
        "The message has the transformer and the reason.",
    ),
    Code::new(
        "invalid_request",
        "`completion` cannot ask for this.",
        "No model is named, neither in the request nor in the configuration.",
        "Name one.",
    ),
    Code::new(
        "missing_api_key",
        "`completion` has no key for its provider.",
        "The variable or file that is named for it is not there.",
        "Set it, and `ksi reload completion`.",
    ),
    Code::new(
        "unreachable",
        "`completion` does not reach its provider.",
        "A wrong `base_url`, or a server that does not run.",
        "Try the address by hand.",
    ),
    Code::new(
        "provider_refused",
        "The provider refused the request.",
        "The key, the model's name, or a limit of the provider.",
        "The message has the provider's own words.",
    ),
    Code::new("provider_failed", "The provider failed.", "It is overloaded.", "Ask again later."),
    Code::new(
        "broken_stream",
        "The provider's answer ended in the middle.",
        "The network, or a proxy that ends long answers.",
        "Ask again.",
    ),
    Code::new(
        "invalid_response",
        "The provider's answer is none.",
        "A `base_url` of something else.",
        "See that it speaks the API of chat completions.",
    ),
];

/// What the worker of a module of Python says. Exceptions have their class as a code.
pub(super) const PYTHON: &[Code] = &[
    Code::new(
        "arguments",
        "A hook of pluggy gets its arguments from the fields of an object, and the event carries none.",
        "A list or a text in place of an object.",
        "Send an object whose fields are the hook's arguments.",
    ),
    Code::new(
        "not_json",
        "What a handler of a module gives is nothing that JSON has.",
        "A set, bytes, an object of a class of one's own, or a number that is none.",
        "Give dictionaries, lists, texts, numbers, `True`, `False` and `None`.",
    ),
    Code::new(
        "state",
        "The state of a module cannot be given or restored.",
        "A value in `_state` that JSON does not have, or a snapshot of another shape.",
        "The message has the place; docs/python.md says what a state may hold.",
    ),
    Code::new(
        "worker",
        "The process of a module could not do what the host asked.",
        "As the message says.",
        "Please report it if it does not tell what to do.",
    ),
];

/// What the test harness says to a test.
pub(super) const HARNESS: &[Code] = &[
    Code::new(
        "gone",
        "The plugin of the test was shut down.",
        "Something is asked of it after its end.",
        "Ask before.",
    ),
    Code::new(
        "other_plugin",
        "The plugin that is to take over has another name.",
        "Two types with different names.",
        "Give both the same `name`.",
    ),
    Code::new(
        "no_common_version",
        "The other version takes none of the versions in which this one gives its state.",
        "A `#[restore]` that is missing.",
        "Write it.",
    ),
    Code::new(
        "too_many_held",
        "More events waited for a hand-over than may.",
        "A test that emits many while it replaces.",
        "Emit fewer, or raise the harness's limit.",
    ),
    Code::new(
        "failed",
        "A call of the harness gave nothing.",
        "A plugin that ended at once.",
        "See what its `initialize` does.",
    ),
    Code::new(
        "refused",
        "The host that the harness has started does not take the plugin or the request.",
        "As the message says.",
        "Look at the message's own code.",
    ),
    Code::new(
        "no_library",
        "The library of the plugin that a host is to load in a test is not there.",
        "It was not built.",
        "Build it, or let the harness do so.",
    ),
    Code::new(
        "not_built",
        "The library of the plugin could not be built for a test.",
        "A mistake in its source.",
        "Read cargo's own words.",
    ),
    Code::new(
        "unknown_outcome",
        "An outcome that stands in for a plugin's is none that the harness knows.",
        "A harness that is older than ksi-plugin-api.",
        "Use both of one version.",
    ),
    Code::new(
        "made_anew",
        "The plugin of the test takes no other configuration while it lives.",
        "It has no `#[configure]`: a host replaces it when its table changes.",
        "Make another harness with the configuration, or give the plugin a `#[configure]`.",
    ),
];
