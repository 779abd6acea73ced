//! How calls end, and what plugins are told.

use super::Code;

pub(super) const ENDS: &[Code] = &[
    Code::new("replied", "The handler gave a reply.", "All is well.", "Nothing."),
    Code::new(
        "no_reply",
        "All handlers ended well, and none gave a reply, where the asker wants one.",
        "A handler that returns `Result<()>` was asked with `request`.",
        "Emit the event instead, ask for `()`, or let the handler return something.",
    ),
    Code::new(
        "panicked",
        "The handler panicked. The call has failed, and the plugin goes on.",
        "An `unwrap`, an index or an arithmetic overflow that the author took for impossible.",
        "Read the message, which has the place; repair the plugin and put the new file in place.",
    ),
    Code::new(
        "crashed",
        "The process that the plugin lives in ended during the call.",
        "A crash in native code, the memory limit of its isolation, or somebody who killed it.",
        "`ksi inspect NAME` shows how it ended; the host starts it again. docs/isolation.md says what may be lost.",
    ),
    Code::new(
        "timed_out",
        "The call took longer than it may, and was cancelled or given up.",
        "A handler that waits for something slow, or blocks its thread; a timeout that is too short.",
        "See what it waits for; give the handler a `timeout` of its own, let it be `blocking`, or raise \
         `timeouts.handler`.",
    ),
    Code::new(
        "rejected",
        "The call was not begun, or not to its end, because the host does not do it now.",
        "The plugin is gone or being replaced, a limit is reached, or the chain of events is too long.",
        "The message says which limit or why; send again, or raise that limit (docs/limits.md).",
    ),
];

pub(super) const OF_THE_API: &[Code] = &[
    Code::new(
        "error",
        "The handler returned an error that has no code of its own.",
        "`?` on a `std::error::Error`; the message has its causes.",
        "Read the message. Authors give errors a code with `Error::new(\"code\", ..)`.",
    ),
    Code::new(
        "invalid_payload",
        "What the event carries is not what its handler takes.",
        "A misspelt or missing field, a value of another type, or a sender of an older version.",
        "`ksi schema EVENT` and `ksi emit system:help '{\"event\":\"EVENT\"}'` show what it takes; the message has \
         the place.",
    ),
    Code::new(
        "invalid_reply",
        "The reply is not of the type that the asker expects.",
        "Asker and handler were built against different definitions of the reply.",
        "`ksi schema EVENT` shows what is replied; build both against one definition.",
    ),
    Code::new(
        "no_handler",
        "Nobody handles the event.",
        "The plugin that does is not loaded, or the name is misspelt.",
        "`ksi events` lists who handles what; `ksi list` shows why a plugin is not live.",
    ),
    Code::new(
        "several_replies",
        "More than one handler replied, where one answer was expected.",
        "Two plugins handle the same event, and it was asked with `request`.",
        "Use `emit`, which gives all replies, or let only one of the handlers reply.",
    ),
    Code::new(
        "encode",
        "A value cannot become JSON.",
        "A map with keys that are no text, or a `Serialize` of the author's own that fails.",
        "Give the type another form, with `#[serde(..)]`; the message has the place in a state.",
    ),
    Code::new(
        "invalid_config",
        "The configuration cannot be used: that of a plugin, or the host's file.",
        "A misspelt key, a value of another type, or one outside of its range.",
        "Repair what the message names, then `ksi config reload`.",
    ),
    Code::new(
        "invalid_snapshot",
        "A snapshot of the plugin's state cannot be read.",
        "Its type has changed without a new version, or the snapshot was changed by hand.",
        "Raise the version of `#[snapshot]` and restore the old one by a `#[restore]`; `ksi state list` shows others.",
    ),
    Code::new(
        "unknown_snapshot_version",
        "The plugin restores no snapshot of this version.",
        "An older build was put in place of a newer one that has given its state since.",
        "Load a version that reads it, or go back by `ksi rollback` and `ksi state restore`.",
    ),
    Code::new(
        "no_state",
        "The plugin keeps no state.",
        "It has no `#[snapshot]`, and was asked for one.",
        "Nothing, or give it a `#[snapshot]` and a `#[restore]`.",
    ),
    Code::new(
        "no_such_handler",
        "The plugin has no handler of this number.",
        "A mistake in the host.",
        "Please report it, with the log.",
    ),
    Code::new(
        "runtime",
        "The plugin's own tokio runtime could not be started.",
        "The system gives no threads, or the feature `runtime` of ksi-plugin-api is off.",
        "Turn the feature on; or raise the limit of threads that the message tells of.",
    ),
    Code::new(
        "not_kept",
        "The host does not keep a descriptor, or does not give one.",
        "The name or the address is none, the address is in use, or there are too many.",
        "The message says which; `limits.kept_resources` is how many a plugin may have.",
    ),
    Code::new(
        "no_thread",
        "The host could not start a thread to encode a value on.",
        "The system is out of threads.",
        "Raise the limit of processes and threads (`ulimit -u`, `TasksMax`).",
    ),
    Code::new(
        "cancelled",
        "Nobody waited for the call any more, so it was ended.",
        "Its emitter timed out or went away.",
        "Nothing, as a rule; see why the emitter did.",
    ),
    Code::new(
        "no_instance",
        "The process of the plugin has no instance of it.",
        "A call that came while the process ended.",
        "Send it again; please report it if it comes often.",
    ),
    Code::new(
        "no_threads",
        "The process of the plugin could not start the threads that it needs.",
        "The limit of processes of its isolation, or of the system.",
        "Raise `isolation.plugins.NAME.processes`, or the system's limit.",
    ),
    Code::new(
        "load",
        "The library could not be opened in the process of the plugin.",
        "A library that it needs is missing there, or may not be read with its limits.",
        "Install it, or let the plugin read it (`isolation.plugins.NAME.read`).",
    ),
    Code::new(
        "open",
        "A process of a plugin was asked to open a second file.",
        "A mistake in the host.",
        "Please report it, with the log.",
    ),
    Code::new(
        "instance",
        "The process of the plugin did not make an instance as it should.",
        "A plugin or a mistake in the host that answers what makes no sense.",
        "Please report it, with the log.",
    ),
];

pub(super) const REFUSALS: &[Code] = &[
    Code::new(
        "invalid_name",
        "It is no name of an event, or of what a plugin keeps under names.",
        "No namespace, empty segments, spaces, or more characters than are allowed.",
        "Names are segments of letters, digits, `_`, `-` and `.` with `:` between them; the message has what is wrong.",
    ),
    Code::new(
        "invalid_pattern",
        "It is no pattern of events.",
        "A `*` inside of a segment, or a name that is none.",
        "`*` stands for one whole segment and `**` for any number: `order:*`, `order:**`.",
    ),
    Code::new(
        "queue_full",
        "Too many sent events are not handled yet.",
        "`send` in a loop, with handlers that are slower.",
        "Use `emit`, which waits for them, or raise `limits.queued_events`.",
    ),
    Code::new(
        "queue_bytes",
        "Sent events that are not handled yet are too large together.",
        "As for `queue_full`, with large payloads.",
        "Use `emit`, or raise `limits.queued_bytes` or `limits.waiting_bytes`.",
    ),
    Code::new(
        "too_large",
        "Something has more bytes than it may.",
        "A payload, a reply, a state or a value in a store that has grown.",
        "The message names the limit: raise it, or send less (`limits.payload_bytes`).",
    ),
    Code::new(
        "too_deep",
        "The chain of events is too long.",
        "Handlers that emit the event they handle, or one another's.",
        "The message has the chain; break the loop, or raise `limits.event_depth`.",
    ),
    Code::new(
        "not_encodable",
        "The payload cannot become JSON.",
        "As for `encode`.",
        "Give the type another form, with `#[serde(..)]`.",
    ),
    Code::new(
        "too_many_subscriptions",
        "The plugin has as many subscriptions as it may.",
        "`subscribe` in a handler, with subscriptions that are kept.",
        "Drop those that are not needed, or raise `limits.subscriptions`.",
    ),
    Code::new(
        "too_many_tasks",
        "The plugin has as many background tasks as it may.",
        "`spawn` in a handler, with tasks that do not end.",
        "Let them end, or raise `limits.background_tasks`.",
    ),
    Code::new(
        "too_many_watches",
        "The plugin has as many watches as it may.",
        "`watch` in a handler, with watches that are kept.",
        "Drop those that are not needed, or raise `limits.subscriptions`.",
    ),
    Code::new(
        "retiring",
        "The plugin is being retired, and starts nothing new.",
        "It was replaced or unloaded.",
        "Nothing: the next version goes on.",
    ),
    Code::new(
        "trial",
        "The plugin is only tried out, and reaches nobody.",
        "Its `initialize` emits, sends or spawns in a trial before it goes live.",
        "Do that behind `ctx.is_trial()`, or in a task that begins when it is live.",
    ),
    Code::new(
        "invalid_address",
        "It is no address to listen at.",
        "A port without a host, or a name in place of an address.",
        "Write it as `127.0.0.1:8080`, `[::1]:8080` or `unix:/path`.",
    ),
    Code::new(
        "address_unavailable",
        "The address cannot be listened at.",
        "Another process or plugin listens there, or the port needs rights.",
        "Choose another, end the other process, or allow it (`isolation.plugins.NAME.bind`).",
    ),
    Code::new(
        "too_many_resources",
        "The plugin has as many kept descriptors as it may.",
        "Names that are made up anew each time.",
        "Stop keeping those that are not needed, or raise `limits.kept_resources`.",
    ),
    Code::new(
        "invalid_resource_name",
        "It is no name for a kept descriptor.",
        "Empty, too long, or with characters that may not stand there.",
        "Use a short word.",
    ),
    Code::new(
        "too_many_asks",
        "The plugin has asked for as much as it may that is not answered yet.",
        "Thousands of emits at a time in a process of its own.",
        "Wait for some of them first.",
    ),
    Code::new(
        "not_allowed",
        "The operator does not let the plugin do it.",
        "It is limited by `[isolation]`, and this would be a way around that.",
        "Let the operator do it, or give the plugin another profile.",
    ),
    Code::new(
        "unloaded",
        "The plugin is unloaded, and nothing is kept for it any more.",
        "A thread or task of its own that outlives it.",
        "End those in `module:shutdown`.",
    ),
    Code::new(
        "no_descriptor",
        "The system gives no further descriptor.",
        "The limit of open files.",
        "Raise it (`ulimit -n`, `LimitNOFILE`).",
    ),
    Code::new(
        "host_panicked",
        "The host's own code panicked.",
        "A mistake in the host.",
        "The log says where: please report it. `ksi list` shows what is live.",
    ),
    Code::new(
        "unsupported",
        "There is nothing like it on this system or in this host.",
        "A plugin that was built for a newer host; a program with a log of its own that is asked for levels.",
        "Use a newer host, or do without it.",
    ),
];
