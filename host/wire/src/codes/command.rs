//! What the command line says by itself.

use super::Code;

pub(super) const CODES: &[Code] = &[
    Code::new(
        "no_host",
        "No host listens on the socket.",
        "It is not running, or listens elsewhere.",
        "Start one with `ksi run`, or say where it is with --socket, KSI_SOCKET or --config.",
    ),
    Code::new(
        "cannot_connect",
        "The socket is there, and cannot be connected to.",
        "It belongs to another user, or as many clients as may be are connected.",
        "The message has the system's words; run the command as the host's user.",
    ),
    Code::new(
        "connection_broke",
        "The connection to the host broke.",
        "The host ended, or ended this client.",
        "`ksi list` shows whether it runs; its log says why it ended a client.",
    ),
    Code::new(
        "no_answer",
        "The host did not answer in time. What was asked of it may still happen.",
        "A handler or a plugin that takes longer than the command waits.",
        "`ksi list` shows what is in flight; `ksi emit --timeout` waits longer.",
    ),
    Code::new(
        "hung_up",
        "The host closed the connection before it answered.",
        "It stopped, or the request was larger than it takes.",
        "See its log.",
    ),
    Code::new(
        "not_understood",
        "The host's answer is none that this command understands.",
        "Host and command are of different versions, or something else listens there.",
        "Use the command that came with the host.",
    ),
    Code::new(
        "usage",
        "The command was not used as it should be.",
        "A misspelt name, or a value that is none.",
        "`ksi COMMAND --help` has what it takes.",
    ),
    Code::new("output", "Standard output cannot be written.", "A full disk.", "Write elsewhere."),
    Code::new(
        "socket_path",
        "The path of the socket cannot be used.",
        "It is too long for a socket, or its folder is not yours.",
        "Choose a shorter one, or one in a folder of your own.",
    ),
    Code::new(
        "dev",
        "Plugins cannot be built from source here.",
        "No package is a plugin, or cargo is not there.",
        "The message says what is missing.",
    ),
    Code::new(
        "already_running",
        "A host runs on this socket already.",
        "It was started twice.",
        "`ksi stop` ends it, or name another socket.",
    ),
    Code::new(
        "left_behind",
        "A process that a host has left behind has its socket.",
        "A plugin that forked.",
        "End that process; the message has its number.",
    ),
    Code::new(
        "state_not_kept",
        "The host has stopped, and the last state of a plugin is not on disk.",
        "A full disk, or a snapshot that failed.",
        "What was kept before is there still; the message has the reason.",
    ),
    Code::new(
        "host_failed",
        "The host could not do a step that it needs.",
        "No rights, no memory, no threads, a file that is in the way.",
        "The message has the step and the system's words.",
    ),
    Code::new(
        "invalid_event",
        "What `ksi compare` was to play is no event.",
        "A recorded line with a name or a payload that is none.",
        "See the file that was recorded; `ksi watch --json` writes such.",
    ),
];

pub(super) const EXITS: &[Code] = &[
    Code::new("0", "All is well.", "All is well.", "Nothing."),
    Code::new(
        "1",
        "Something has failed.",
        "What was asked for did not happen, or not all of it; or a host failed.",
        "Read standard error, and `ksi explain` the code at its end.",
    ),
    Code::new(
        "2",
        "The command was not used as it should be.",
        "Arguments, or a configuration file that is not valid.",
        "`ksi COMMAND --help`, or repair what the message names.",
    ),
    Code::new(
        "3",
        "No host is there.",
        "It is not running, or listens elsewhere.",
        "As for `no_host`.",
    ),
    Code::new(
        "130",
        "The host was ended by one more signal than it has ways to end in order.",
        "Several signals in a row, by somebody who did not want to wait.",
        "State may not be kept: `ksi state list` shows what is.",
    ),
];
