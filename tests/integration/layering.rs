//! Who may know what: the table of ARCHITECTURE.md, read off the sources.

use std::{collections::BTreeSet, fs, path::Path};

use crate::kit::{
    sources::{code, has_word, is_part_of_word, module_of, paths, sources, without_strings},
    workspace,
};

/// A part of the code, and what must not occur in it.
struct Rule {
    /// Files and folders below the workspace.
    part: &'static [&'static str],
    /// Modules of the same crate.
    modules: &'static [&'static str],
    /// Names: other crates, types, functions. One that is an ordinary word too is looked for with
    /// what follows it.
    names: &'static [&'static str],
}

const RULES: &[Rule] = &[
    // Files are watched, copied and read, and snapshots kept in them, without knowing what events
    // mean.
    Rule {
        part: &["host/src/plugin/file.rs", "host/src/plugin/file", "host/src/plugin/state/store"],
        modules: &["host", "control", "core", "builtin"],
        names: &["libloading", "UnixListener", "UnixStream", "ksi_kernel"],
    },
    // Who was at work when the host dies is known without knowing what follows from it.
    Rule {
        part: &["host/src/crash.rs", "host/src/crash"],
        modules: &["plugin", "control", "core", "builtin", "host", "config"],
        names: &["libloading", "object::", "UnixListener", "UnixStream", "Router", "Session"],
    },
    // The loader does not route.
    Rule {
        part: &[
            "host/src/plugin/instance/library",
            "host/src/plugin/instance/library.rs",
            "host/src/plugin/probe/answer.rs",
            "host/src/plugin/probe/child.rs",
            "host/src/plugin/probe/prober.rs",
        ],
        modules: &["host", "control", "core", "builtin"],
        names: &["Router", "Session"],
    },
    // What runs in a plugin's process knows the host by its socket alone.
    Rule {
        part: &["host/src/plugin/worker/child.rs", "host/src/plugin/worker/child"],
        modules: &["host", "control", "core", "builtin", "crash", "config"],
        names: &["Router", "Session", "Kernel", "HostApiShim", "HostServices"],
    },
    // Who replaces, retires and goes back, and who keeps state, does not know where an instance
    // lives; nor does what is said of any residence and instance.
    Rule {
        part: &[
            "host/src/plugin/supervisor.rs",
            "host/src/plugin/supervisor",
            "host/src/plugin/lifecycle/hand_over.rs",
            "host/src/plugin/lifecycle/retire.rs",
            "host/src/plugin/lifecycle/from_disk.rs",
            "host/src/plugin/state",
            "host/src/plugin/instance/body.rs",
            "host/src/plugin/instance/generation.rs",
            "host/src/plugin/instance/live.rs",
            "host/src/plugin/instance/residence.rs",
            "host/src/plugin/instance/services.rs",
        ],
        modules: &[],
        names: &[
            "PluginLibrary",
            "LibraryResidence",
            "LibraryBody",
            "Instance",
            "ModuleRef",
            "HostApiShim",
            "HostRef",
        ],
    },
    // What a generation may do is the same however it is reached.
    Rule {
        part: &["host/kernel/src/session.rs", "host/kernel/src/session"],
        modules: &[],
        names: &[
            "BoundaryFuture",
            "EventHandle",
            "ReplyEnd",
            "ReportHandle",
            "RSlice",
            "WaitEnd",
            "WatchStep",
        ],
    },
    // A deployment knows no wire format.
    Rule {
        part: &["host/src/plugin.rs", "host/src/plugin"],
        modules: &["control", "core", "builtin", "host", "config"],
        names: &["UnixListener", "UnixStream"],
    },
    // One place opens libraries, one reads them, one hears of the folder.
    Rule {
        part: &["host/src/control", "host/src/builtin"],
        modules: &[],
        names: &["libloading", "object::"],
    },
    // Clients are served with events, and with what the inside of a host says of them.
    Rule {
        part: &["host/src/control"],
        modules: &["plugin", "builtin", "host", "config", "crash"],
        names: &["Supervisor", "Session", "Kernel"],
    },
    // Whoever asks for something is above what he asks.
    Rule {
        part: &["host/src/builtin.rs", "host/src/builtin"],
        modules: &["host", "control"],
        names: &["UnixListener", "UnixStream"],
    },
    Rule {
        part: &["host/src/core.rs", "host/src/core"],
        modules: &["host", "control", "builtin"],
        names: &["UnixListener", "UnixStream"],
    },
    Rule {
        part: &["host/src/catalog.rs"],
        modules: &["host", "control", "builtin", "core"],
        names: &["Router"],
    },
    // The author's crate knows neither files nor sockets.
    Rule {
        part: &["plugin-api/src", "plugin-api/harness/src"],
        modules: &[],
        names: &["PathBuf", "File", "UnixListener", "UnixStream", "TcpStream"],
    },
    // The boundary moves bytes, and values that it cannot read.
    Rule {
        part: &["plugin-api/abi/src"],
        modules: &[],
        names: &["serde_json", "json", "PathBuf", "File", "UnixStream"],
    },
    // Two schemas are compared, whoever they are from.
    Rule {
        part: &["host/contracts/src"],
        modules: &[],
        names: &["ksi_host", "ksi_kernel", "ksi_abi", "ksi_wire", "Router", "Session", "PathBuf"],
    },
    // What crosses to a plugin's process is bytes, whoever reads them.
    Rule {
        part: &["host/worker-protocol/src"],
        modules: &[],
        names: &["ksi_host", "ksi_kernel", "ksi_abi", "libloading", "tokio", "Router", "Session"],
    },
];

/// Files that may know a name although they lie where it must not be known, because they say why.
const ALLOWED: &[(&str, &str)] = &[
    ("plugin-api/abi/src/json.rs", "serde_json"),
    ("plugin-api/abi/src/lib.rs", "json"),
    // What a library says of itself beyond its manifest is JSON, with schemas inside.
    ("plugin-api/abi/src/description.rs", "serde_json"),
    // What a plugin is told of its own file, which nothing here opens.
    ("plugin-api/src/context.rs", "PathBuf"),
    ("plugin-api/harness/src/setup.rs", "PathBuf"),
    ("plugin-api/harness/src/generation.rs", "PathBuf"),
    ("plugin-api/harness/src/replace.rs", "PathBuf"),
    // The library of a plugin in a host of a test's own, which is a process with a socket.
    ("plugin-api/harness/src/hosted.rs", "PathBuf"),
    ("plugin-api/harness/src/hosted/build.rs", "PathBuf"),
    ("plugin-api/harness/src/hosted/process.rs", "PathBuf"),
    ("plugin-api/harness/src/hosted/process.rs", "File"),
    ("plugin-api/harness/src/hosted/connection.rs", "UnixStream"),
    // The pair of sockets to a process of a plugin.
    ("host/src/plugin/worker/process.rs", "UnixStream"),
    ("host/src/plugin/worker/link.rs", "UnixStream"),
    ("host/src/plugin/worker/link/outbox.rs", "UnixStream"),
    ("plugin-api/src/kept.rs", "UnixListener"),
    ("plugin-api/harness/src/tests/kept.rs", "UnixListener"),
    ("plugin-api/harness/src/tests/kept.rs", "UnixStream"),
    ("plugin-api/harness/src/tests/kept.rs", "TcpStream"),
    ("plugin-api/harness/src/tests/replace.rs", "UnixStream"),
];

#[test]
fn no_part_knows_what_it_must_not_know() {
    let mut found = Vec::new();
    for Rule { part, modules, names } in RULES {
        for file in part.iter().flat_map(|part| sources(part)) {
            let code = code(&fs::read_to_string(workspace().join(&file)).unwrap());
            for path in paths(&code, &module_of(&file)) {
                let top = path.split("::").next().unwrap_or_default();
                if modules.contains(&top) {
                    found.push(format!("{}: crate::{path}", file.display()));
                }
            }
            let code = without_strings(&code);
            let allowed = |name| ALLOWED.contains(&(file.to_str().unwrap_or_default(), name));
            for name in names.iter().filter(|name| has_word(&code, name) && !allowed(name)) {
                found.push(format!("{}: {name}", file.display()));
            }
        }
    }
    assert!(found.is_empty(), "what must not be known here:\n{}", found.join("\n"));
}

#[test]
fn event_names_stand_nowhere_in_the_boundary() {
    // What a name is, is told with names.
    let boundary = sources("plugin-api/abi/src").into_iter();
    for file in boundary.filter(|file| !file.ends_with("name.rs")) {
        let code = code(&fs::read_to_string(workspace().join(&file)).unwrap());
        for literal in code.split('"').skip(1).step_by(2) {
            let (namespace, name) = literal.split_once(':').unwrap_or_default();
            let is_segment = |text: &str| {
                !text.is_empty() && text.bytes().all(|it| it.is_ascii_lowercase() || it == b'_')
            };
            assert!(
                !(is_segment(namespace) && is_segment(name)),
                "{}: {literal:?}",
                file.display()
            );
        }
    }
}

#[test]
fn unsafe_code_stands_in_the_boundary_the_loader_the_probe_and_looks_before_closing_alone() {
    let allowed = [
        "plugin-api/abi/src",
        // What an instance, its calls and its host ask of one another.
        "plugin-api/src/running.rs",
        "plugin-api/src/scope.rs",
        // Its functions are unsafe, and have no unsafe code themselves.
        "plugin-api/src/call.rs",
        // They write an `unsafe impl` and calls of those functions, and have no unsafe code
        // themselves.
        "plugin-api/macros/src/layout.rs",
        "plugin-api/macros/src/generate.rs",
        "host/src/plugin/instance/library.rs",
        "host/src/plugin/probe/answer.rs",
        "host/src/plugin/instance/leftovers",
        // It calls the C library.
        "host/cli/src/allocator.rs",
        // It maps a private copy.
        "host/src/plugin/file/copy/content.rs",
        // The host's own handlers of the signals that a process dies of.
        "host/src/crash/handler.rs",
        // It crashes on purpose.
        "tests/fixtures/chaos/src/crash.rs",
        // It opens a library, to know what that alone takes.
        "tests/soak/src/bare.rs",
        // It races on purpose.
        "tests/fixtures/race",
        "host/src/plugin/instance/signals",
    ];
    let fixtures = [
        "tests/fixtures/chaos",
        "tests/fixtures/counter",
        "tests/fixtures/asks",
        "tests/fixtures/lanes",
        "tests/fixtures/race",
    ];
    for file in ["host", "plugin-api", "plugins", "examples", "tests/soak", "tests/bench"]
        .iter()
        .chain(&fixtures)
        .flat_map(|part| sources(part))
    {
        if allowed.iter().any(|part| file.starts_with(part)) {
            continue;
        }
        let code = without_strings(&code(&fs::read_to_string(workspace().join(&file)).unwrap()));
        for (at, _) in code.match_indices("unsafe") {
            let (before, after) = (&code[..at], &code[at + "unsafe".len()..]);
            let whole = !before.ends_with(is_part_of_word) && !after.starts_with(is_part_of_word);
            // What exports a plugin is an attribute: `#[unsafe(link_section = "..")]`.
            assert!(
                !whole || after.starts_with('('),
                "{}: unsafe{}",
                file.display(),
                after.lines().next().unwrap_or_default()
            );
        }
    }
}

#[test]
fn the_check_sees_paths_however_they_are_written() {
    let code = code(
        "use crate::{event::{Event, NewEvent}, router as r}; // crate::comment\n\
         use super::super::control::Line; let x = crate::host::Host::new(); use super::load;",
    );
    let found = paths(&code, &["plugin".to_owned(), "watch".to_owned()]);
    let expected = [
        "control::Line",
        "event::Event",
        "event::NewEvent",
        "host::Host::new",
        "plugin::load",
        "router",
    ];
    assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    assert!(
        has_word("let x = notify::Watcher;", "notify::") && !has_word("an object here", "object::")
    );
    assert!(has_word("File::open", "File") && !has_word("PluginFile::open(Files)", "File"));
    assert_eq!(
        module_of(Path::new("host/src/plugin/file/watch/mod.rs")),
        ["plugin", "file", "watch"]
    );
    assert!(sources("host/src/plugin").len() > 3 && sources("host/src/plugin.rs").len() == 1);
}

#[test]
fn lines_of_comments_are_no_longer_than_the_formatter_makes_those_of_code() {
    const WIDTH: usize = 100;
    let mut long = Vec::new();
    for part in ["host", "plugin-api", "plugins", "examples", "tests"] {
        for path in sources(part) {
            let text = fs::read_to_string(workspace().join(&path)).unwrap();
            let mut in_code = false;
            for (number, line) in (1..).zip(text.lines()) {
                let Some(comment) = line.trim_start().strip_prefix("//") else { continue };
                let words = comment.trim_start_matches(['/', '!']).trim();
                in_code ^= words.starts_with("```");
                // A row of a table, a command and an example are as long as they are.
                // So is what a program in tests/mistakes tells.
                let may_be = in_code || words.starts_with(['|', '`', '{', '~']);
                if !may_be && line.chars().count() > WIDTH {
                    long.push(format!("{}:{number}", path.display()));
                }
            }
        }
    }
    assert!(long.is_empty(), "break these lines: {long:#?}");
}

/// A module's process is of the same version as its host, so the host brings all of the package.
#[test]
fn the_host_brings_every_file_of_the_package_for_python_and_no_other() {
    let package = workspace().join("plugin-api/python/src/ksi");
    let (mut left, mut there) = (vec![package.clone()], BTreeSet::new());
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let name = entry.file_name();
            let made = name == "__pycache__" || name.as_encoded_bytes().starts_with(b".");
            match entry.file_type().unwrap().is_dir() {
                _ if made => {}
                true => left.push(entry.path()),
                false => {
                    let path = entry.path();
                    let path = path.strip_prefix(&package).unwrap();
                    there.insert(path.to_str().unwrap().to_owned());
                }
            }
        }
    }
    let list = fs::read_to_string(workspace().join("host/src/plugin/python/package.rs")).unwrap();
    let list = list.split_once("= files![").unwrap().1.split_once("];").unwrap().0;
    let listed: BTreeSet<String> = list.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    assert_eq!(listed, there, "FILES in host/src/plugin/python/package.rs lists them");
}
