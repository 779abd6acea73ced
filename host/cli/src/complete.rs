//! Completions of the shell: of commands and options, and of plugins, events, snapshots and keys of
//! the configuration as the running host has them.
//!
//! Whoever types waits for nothing: a host that does not answer at once, or is not there, is
//! nothing to complete, and nothing is said of it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::time::Duration;

use clap::{Command, CommandFactory};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use clap_complete::env::{CompleteEnv, Shells};
use ksi_wire::config::Shown;
use ksi_wire::module::{Events, List, Overview};
use ksi_wire::state::KeptList;
use serde_json::json;

use super::args::{Args, Common, Completions, Shell};
use super::client::{Client, ClientError};
use super::exit::CommandFailure;
use super::{output, plugin};

/// By which a shell asks for completions, in place of running a command.
const VARIABLE: &str = "KSI_COMPLETE";
/// For how long somebody who has pressed a key is to wait.
const LIMIT: Duration = Duration::from_millis(400);

/// Bash breaks words at the colons that names of events have: they are one word again for this
/// program, and what stands before the last colon is not typed a second time.
const OF_COLONS: &str = r#"
_ksi() {
    local words=() index=0 at word
    for ((at = 0; at < ${#COMP_WORDS[@]}; at++)); do
        word=${COMP_WORDS[at]}
        if [[ at -gt 0 && ( $word == :* || ${words[${#words[@]}-1]} == *: ) ]]; then
            words[${#words[@]}-1]+=$word
        else
            words+=("$word")
        fi
        [[ at -eq COMP_CWORD ]] && index=$((${#words[@]} - 1))
    done
    local current=${words[index]}
    local COMP_WORDS=("${words[@]}") COMP_CWORD=$index
    _clap_complete_ksi "$1" "$current" "$3"
    if [[ $current == *:* ]]; then
        local before=${current%"${current##*:}"}
        COMPREPLY=("${COMPREPLY[@]#"$before"}")
    fi
}
complete -o nospace -o bashdefault -F _ksi ksi
"#;

/// What an argument is completed with.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Plugins that are live.
    Plugins,
    /// Plugins, and files that are none.
    Modules,
    /// Events that somebody handles.
    Events,
    /// What is kept of a plugin's state, by the names that these have.
    Snapshots,
    /// Keys of the configuration, and tables.
    Keys,
}

/// Which argument of which command is what. Others are completed by what clap knows of them, as
/// paths are.
const KINDS: &[(&[&str], &str, Kind)] = &[
    (&["reload"], "name", Kind::Plugins),
    (&["rollback"], "name", Kind::Plugins),
    (&["unload"], "name", Kind::Plugins),
    (&["inspect"], "what", Kind::Modules),
    (&["emit"], "event", Kind::Events),
    (&["schema"], "event", Kind::Events),
    (&["watch"], "patterns", Kind::Events),
    (&["compare"], "old", Kind::Plugins),
    (&["compare"], "events", Kind::Events),
    (&["state", "list"], "name", Kind::Plugins),
    (&["state", "show"], "name", Kind::Plugins),
    (&["state", "show"], "which", Kind::Snapshots),
    (&["state", "restore"], "name", Kind::Plugins),
    (&["state", "restore"], "which", Kind::Snapshots),
    (&["state", "drop"], "name", Kind::Plugins),
    (&["state", "drop"], "which", Kind::Snapshots),
    (&["config", "show"], "keys", Kind::Keys),
    (&["config", "isolation"], "plugins", Kind::Plugins),
];

/// Answers a shell that asks for completions; whether one did. To be called before anything is
/// written.
pub(crate) fn answer() -> bool {
    let complete = CompleteEnv::with_factory(command).var(VARIABLE);
    let current = std::env::current_dir().ok();
    // An error is another shell than there is a way for. Nothing is said where somebody types.
    complete.try_complete(std::env::args_os(), current.as_deref()).unwrap_or(true)
}

/// `ksi completions SHELL`: what a shell has to run to ask this program.
pub(crate) fn completions(args: &Completions) -> Result<(), CommandFailure> {
    let shell = args.shell.as_str();
    let registered = Shells::builtins().completer(shell).map(|completer| {
        let mut script = Vec::new();
        completer.write_registration(VARIABLE, "ksi", "ksi", "ksi", &mut script).map(|()| script)
    });
    let script = match registered {
        Some(Ok(script)) => {
            let of_colons = if args.shell == Shell::Bash { OF_COLONS } else { "" };
            format!("{}{of_colons}", String::from_utf8_lossy(&script))
        }
        // It is one of those that the command line lets through, and is written to memory.
        Some(Err(_)) | None => {
            return Err(CommandFailure::Usage(format!("there are no completions for {shell}")));
        }
    };
    output::text(script.trim_end())
}

fn command() -> Command {
    KINDS.iter().fold(Args::command(), |command, (path, argument, kind)| {
        let kind = *kind;
        at(command, path, &move |command| {
            // One by one, they would come in another order.
            command.mut_args(|it| match it.get_id() == argument {
                true => it.add(ArgValueCandidates::new(move || of_host(kind))),
                false => it,
            })
        })
    })
}

fn at(command: Command, path: &[&str], change: &dyn Fn(Command) -> Command) -> Command {
    match path {
        [] => change(command),
        [first, rest @ ..] => command.mut_subcommand(first, |inner| at(inner, rest, change)),
    }
}

/// What the host has, if it says so at once.
fn of_host(kind: Kind) -> Vec<CompletionCandidate> {
    let (found, finds) = channel();
    // A thread, because a connection to a host that is busy may wait for it.
    let asked = std::thread::Builder::new().spawn(move || {
        let candidates = ask(kind).unwrap_or_default();
        // Nobody waits any more.
        let _ = found.send(candidates);
    });
    let candidates = asked.ok().and_then(|_| finds.recv_timeout(LIMIT).ok()).unwrap_or_default();
    candidates.into_iter().map(|(value, help)| candidate(value, help)).collect()
}

fn candidate(value: String, help: Option<String>) -> CompletionCandidate {
    CompletionCandidate::new(value).help(help.map(|help| output::plain(&help).into_owned().into()))
}

/// Values, each with what it is.
type Found = Vec<(String, Option<String>)>;

fn ask(kind: Kind) -> Option<Found> {
    let typed = Typed::of(std::env::args_os());
    let mut client = typed.client()?;
    let mut modules = || -> Result<Vec<Overview>, ClientError> {
        client.ask("module:list", &json!({}), LIMIT).map(|list: List| list.modules)
    };
    Some(match kind {
        Kind::Plugins => {
            let modules = modules().ok()?.into_iter();
            modules.filter(|module| module.generation.is_some()).map(of_module).collect()
        }
        Kind::Modules => modules().ok()?.into_iter().map(of_module).collect(),
        Kind::Events => {
            let Events { events } = client.ask("module:events", &json!({}), LIMIT).ok()?;
            let handled = events.into_iter().map(|(event, handlers)| {
                let by: Vec<String> = handlers.into_iter().map(|it| it.module).collect();
                (event, Some(by.join(", ")))
            });
            handled.collect()
        }
        Kind::Snapshots => snapshots(&mut client)?,
        Kind::Keys => keys(client.ask("config:show", &json!({}), LIMIT).ok()?),
    })
}

/// `hello  0.1.0, generation 3, live`
fn of_module(module: Overview) -> (String, Option<String>) {
    let generation = module.generation.map(|number| format!("generation {number}"));
    let what = [module.version.clone(), generation, Some(plugin::state(&module))];
    let what = what.into_iter().flatten().collect::<Vec<_>>().join(", ");
    (module.name, Some(what))
}

/// Of all plugins: which one is meant is not known here.
fn snapshots(client: &mut Client) -> Option<Found> {
    let kept: KeptList = client.ask("module:state_list", &json!({}), LIMIT).ok()?;
    let mut names: Vec<String> = kept.snapshots.into_iter().map(|it| it.which).collect();
    names.sort();
    names.dedup();
    Some(names.into_iter().map(|name| (name, None)).collect())
}

/// Whole keys, and the tables that they are in.
fn keys(shown: Shown) -> Found {
    let mut keys: Vec<String> = Vec::new();
    for setting in shown.settings {
        if let Some((table, _)) = setting.key.split_once('.') {
            keys.push(table.to_owned());
        }
        keys.push(setting.key);
    }
    keys.sort();
    keys.dedup();
    keys.into_iter().map(|key| (key, None)).collect()
}

/// What of the line that is being typed says where the host is.
#[derive(Debug, Default, PartialEq)]
struct Typed {
    socket: Option<PathBuf>,
    config: Option<PathBuf>,
}

impl Typed {
    /// The line stands behind a `--` of the shell's own.
    fn of(arguments: impl Iterator<Item = OsString>) -> Self {
        let mut words = arguments.skip_while(|word| word != "--").skip(1);
        let mut typed = Self::default();
        while let Some(word) = words.next() {
            let text = word.to_string_lossy().into_owned();
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.into())),
                None => (text, None),
            };
            let of = match name.as_str() {
                "--socket" => &mut typed.socket,
                "--config" => &mut typed.config,
                _ => continue,
            };
            *of = value.or_else(|| words.next()).map(PathBuf::from);
        }
        typed
    }

    fn client(self) -> Option<Client> {
        let config = self.config.or_else(|| std::env::var_os("KSI_CONFIG").map(PathBuf::from));
        Common { socket: self.socket, config }.client().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_argument_that_the_host_completes_is_there() {
        for (path, argument, kind) in KINDS {
            let mut command = Args::command();
            let mut inner = &mut command;
            for name in *path {
                inner = inner.find_subcommand_mut(name).expect(name);
            }
            let there = inner.get_arguments().any(|it| it.get_id() == argument);
            assert!(there, "{path:?} has no {argument} for {kind:?}");
        }
        command().debug_assert();
    }

    #[test]
    fn the_host_is_the_one_of_the_line_that_is_typed() {
        let typed = |words: &str| Typed::of(words.split(' ').map(OsString::from));
        let socket = |path: &str| Typed { socket: Some(path.into()), config: None };
        assert_eq!(typed("ksi -- ksi --socket /s reload "), socket("/s"));
        assert_eq!(typed("ksi -- ksi reload --socket=/s "), socket("/s"));
        assert_eq!(typed("ksi --socket /no -- ksi reload "), Typed::default());
        let config = Typed { socket: None, config: Some("/k".into()) };
        assert_eq!(typed("ksi -- ksi --config /k list"), config);
    }
}
