//! What a host answers to whoever asks it for something.

use super::Code;

pub(super) const CODES: &[Code] = &[
    Code::new(
        "no_such_module",
        "There is no plugin of this name.",
        "A misspelt name, or a file that was refused and is no plugin yet.",
        "`ksi list` shows the plugins and the refused files.",
    ),
    Code::new(
        "not_live",
        "The plugin is not live.",
        "It was unloaded, or its file was refused.",
        "`ksi list` says why; `ksi load FILE` or `ksi reload NAME` start it.",
    ),
    Code::new(
        "nothing_before",
        "There is no earlier version to go back to.",
        "The plugin was not replaced since it was loaded, or `reload.kept_versions` is 0.",
        "Put the earlier file back in place.",
    ),
    Code::new(
        "loses_state",
        "Going back would give up what was done to the state since.",
        "The earlier version cannot read the state as it is now.",
        "Ask again with `--force`: what is given up is kept aside, and `ksi state list` shows it.",
    ),
    Code::new(
        "stopping",
        "The host is stopping, and begins nothing new.",
        "`ksi stop`, a signal, or a service manager.",
        "Wait for its end and start it again.",
    ),
    Code::new(
        "busy",
        "Something else is being done at the moment that has to end first.",
        "A plugin that is still leaving, or as many requests as a service takes.",
        "Try again in a moment.",
    ),
    Code::new(
        "live",
        "The plugin is live, and what was asked for is done to plugins that are not.",
        "`ksi state drop` of a plugin that runs: it would write its state again.",
        "`ksi unload NAME` first.",
    ),
    Code::new(
        "no_state_folder",
        "The host keeps no state on disk.",
        "It was started with `--no-state`.",
        "Start it with `--state DIR`.",
    ),
    Code::new(
        "nothing_kept",
        "There is no such snapshot of the plugin.",
        "It has given none yet, or was never replaced.",
        "`ksi state list NAME` shows those that there are.",
    ),
    Code::new(
        "state_files",
        "The files of kept state could not be read or written.",
        "A full disk, or the rights of the folder.",
        "The message has the file and the system's words.",
    ),
    Code::new(
        "no_config_file",
        "The host was started without a configuration file.",
        "`ksi config reload`, and no `--config` when it began.",
        "Start it with `--config FILE`, or `KSI_CONFIG`.",
    ),
    Code::new(
        "unknown_event",
        "Nobody handles this event.",
        "A misspelt name, or a plugin that is not loaded.",
        "`ksi events` lists all of them.",
    ),
    Code::new(
        "unknown_client",
        "There is no client of this number.",
        "It has gone meanwhile.",
        "`ksi clients` lists those that are connected.",
    ),
    Code::new(
        "invalid_data",
        "A request of the socket's own has parameters that are none.",
        "`monitor:subscribe` with another type than it takes.",
        "The message says what it takes.",
    ),
    Code::new(
        "too_many",
        "As many as may be are there already.",
        "Subscriptions of one client, or levels of the log.",
        "End some; `ksi log --reset` forgets levels. The message names the limit.",
    ),
    Code::new(
        "too_many_clients",
        "As many clients as may be are connected; this one may ask for little.",
        "Clients that do not disconnect.",
        "`ksi clients` shows them, `ksi clients --end ID` ends one; or raise `limits.connections`.",
    ),
    Code::new(
        "payload_too_large",
        "What an event carries has more bytes than it may.",
        "A list that has grown, or a file inside of an event.",
        "Send less, or raise `limits.payload_bytes`.",
    ),
    Code::new(
        "init_failed",
        "The plugin's `initialize` failed, panicked or did not end in time.",
        "Its configuration, a service that it connects to, or a port in use.",
        "Read the message; the host tries again by itself, with growing waits.",
    ),
    Code::new(
        "configuration_refused",
        "The plugin does not take its new configuration, and goes on with the one that it has.",
        "A value that makes no sense to it: its message says which.",
        "Mend its table in the configuration file; `ksi config show` tells what is in effect.",
    ),
    Code::new(
        "no_secret",
        "A secret that the plugin's configuration refers to cannot be had.",
        "A variable that is not set, or a file that is not there or cannot be read by the host.",
        "The message has the key and the reason; put it right and ask for `ksi config reload`.",
    ),
];
