//! Who may know what: the table of ARCHITECTURE.md, read off the sources.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use crate::kit::workspace;

/// A part of the code, and what must not occur in it.
struct Rule {
    /// Files and folders below the workspace.
    part: &'static [&'static str],
    /// Modules of the same crate.
    modules: &'static [&'static str],
    /// Names: other crates, types, functions. One that is an ordinary word too is looked for with what follows it.
    names: &'static [&'static str],
}

const RULES: &[Rule] = &[
    // Events are routed and calls are made without knowing where handlers come from and where events do.
    Rule {
        part: &[
            "host/src/router.rs",
            "host/src/router",
            "host/src/dispatch.rs",
            "host/src/dispatch",
        ],
        modules: &["plugin", "socket", "socket_path", "builtin", "host", "config"],
        names: &[
            "libloading",
            "object::",
            "notify::",
            "PathBuf",
            "File",
            "UnixListener",
            "UnixStream",
        ],
    },
    Rule {
        part: &["host/src/event.rs", "host/src/report.rs"],
        modules: &["plugin", "socket", "builtin", "host", "router", "dispatch"],
        names: &[
            "libloading",
            "object::",
            "notify::",
            "PathBuf",
            "File",
            "UnixListener",
            "UnixStream",
        ],
    },
    // Files are watched, copied and read without knowing what events mean.
    Rule {
        part: &[
            "host/src/plugin/watch",
            "host/src/plugin/private_copy",
            "host/src/plugin/manifest",
        ],
        modules: &["router", "dispatch", "event", "report", "host", "socket", "builtin"],
        names: &["libloading", "UnixListener", "UnixStream", "Router"],
    },
    // The loader does not route.
    Rule {
        part: &["host/src/plugin/load.rs", "host/src/plugin/probe.rs"],
        modules: &["router", "dispatch", "event", "report", "host", "socket", "builtin"],
        names: &["Router", "RoutingTable"],
    },
    // The reload transaction knows no wire format.
    Rule {
        part: &["host/src/plugin.rs", "host/src/plugin"],
        modules: &["socket", "socket_path", "builtin", "host", "config"],
        names: &["UnixListener", "UnixStream"],
    },
    // One place opens libraries, one reads them, one hears of the folder.
    Rule {
        part: &["host/src/socket", "host/src/builtin", "host/src/cli"],
        modules: &[],
        names: &["libloading", "object::"],
    },
    // The author's crate knows neither host nor files nor sockets.
    Rule {
        part: &["plugin-api/src"],
        modules: &[],
        names: &[
            "ksi_host",
            "libloading",
            "PathBuf",
            "File",
            "UnixListener",
            "UnixStream",
            "TcpStream",
        ],
    },
    // The boundary moves bytes.
    Rule {
        part: &["plugin-api/src/abi"],
        modules: &["name", "payload", "event", "context"],
        names: &["serde_json", "Value", "json"],
    },
    // abi_stable stays behind it.
    Rule {
        part: &[
            "plugins",
            "examples",
            "host/src/router",
            "host/src/dispatch",
            "host/src/socket",
            "host/src/builtin",
        ],
        modules: &[],
        names: &["abi_stable"],
    },
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
            for name in names.iter().filter(|name| has_word(&code, name)) {
                found.push(format!("{}: {name}", file.display()));
            }
        }
    }
    assert!(found.is_empty(), "what must not be known here:\n{}", found.join("\n"));
}

#[test]
fn the_control_socket_knows_only_the_crates_api_and_itself() {
    for file in sources("host/src/socket") {
        let code = code(&fs::read_to_string(workspace().join(&file)).unwrap());
        for path in paths(&code, &module_of(&file)) {
            let top = path.split("::").next().unwrap_or_default();
            let of_the_api = top.starts_with(char::is_uppercase);
            assert!(of_the_api || top == "socket", "{}: crate::{path}", file.display());
        }
    }
}

#[test]
fn the_commands_know_the_host_only_by_its_public_api() {
    for file in sources("host/src/cli") {
        let code = code(&fs::read_to_string(workspace().join(&file)).unwrap());
        for path in paths(&code, &module_of(&file)) {
            assert!(path.split("::").next() == Some("cli"), "{}: crate::{path}", file.display());
        }
        assert!(!code.contains("#[path"), "{} takes in a module from elsewhere", file.display());
    }
}

#[test]
fn event_names_stand_nowhere_in_the_boundary() {
    for file in sources("plugin-api/src/abi") {
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
fn unsafe_code_stands_in_the_boundary_the_loader_and_the_probe_alone() {
    let allowed = ["plugin-api/src/abi", "host/src/plugin/load.rs", "host/src/plugin/probe.rs"];
    for file in ["host", "plugin-api", "plugins", "examples", "tests/fixtures/chaos"]
        .iter()
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
         use super::super::socket::Line; let x = crate::host::Host::new(); use super::load;",
    );
    let found = paths(&code, &["plugin".to_owned(), "watch".to_owned()]);
    let expected = [
        "event::Event",
        "event::NewEvent",
        "host::Host::new",
        "plugin::load",
        "router",
        "socket::Line",
    ];
    assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    assert!(
        has_word("let x = notify::Watcher;", "notify::") && !has_word("an object here", "object::")
    );
    assert!(has_word("File::open", "File") && !has_word("PluginFile::open(Files)", "File"));
    assert_eq!(module_of(Path::new("host/src/plugin/watch/mod.rs")), ["plugin", "watch"]);
    assert!(sources("host/src/router").len() > 3 && sources("host/src/router.rs").len() == 1);
}

/// The Rust files of a part, relative to the workspace, without those of unit tests.
fn sources(part: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut left = vec![workspace().join(part)];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|it| it == "rs") && !path.ends_with("tests.rs") {
            files.push(path.strip_prefix(workspace()).unwrap().to_owned());
        }
    }
    assert!(!files.is_empty(), "{part} has no sources: was it renamed?");
    files.sort();
    files
}

/// The module that a file is, as segments: `host/src/plugin/watch/mod.rs` is `plugin`, `watch`.
fn module_of(file: &Path) -> Vec<String> {
    let below = file.iter().skip_while(|part| *part != "src").skip(1);
    let mut segments: Vec<String> = below.map(|part| part.to_str().unwrap().to_owned()).collect();
    let name = segments.pop().unwrap_or_default();
    if !matches!(name.as_str(), "mod.rs" | "lib.rs" | "main.rs") {
        segments.push(name.trim_end_matches(".rs").to_owned());
    }
    segments
}

/// The text without its line comments and without its unit tests, which may make use of anything.
fn code(text: &str) -> String {
    let tests = text.rfind("#[cfg(test)]").filter(|at| {
        let after = &text[*at..];
        after
            .find('{')
            .is_some_and(|end| after[..end].contains("mod ") && !after[..end].contains(';'))
    });
    let lines = text[..tests.unwrap_or(text.len())]
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// The code without what stands in quotes on one line.
fn without_strings(code: &str) -> String {
    let lines =
        code.lines().map(|line| line.split('"').step_by(2).collect::<Vec<_>>().join("\"\""));
    lines.collect::<Vec<_>>().join("\n")
}

fn is_part_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn has_word(code: &str, word: &str) -> bool {
    let mut places = code.match_indices(word);
    places.any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + word.len()..]);
        let ends = word.ends_with(|c| !is_part_of_word(c)) || !after.starts_with(is_part_of_word);
        !before.ends_with(is_part_of_word) && ends
    })
}

/// Everything of the same crate that the code names by a path, from the crate's root.
fn paths(code: &str, module: &[String]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        if !code[..at].ends_with(is_part_of_word) && !code[..at].ends_with('$') {
            expand(&code[at + "crate::".len()..], "", &mut found);
        }
    }
    for (at, _) in code.match_indices("super::") {
        // Only the first of several in a row: the others are counted with it.
        if code[..at].ends_with(is_part_of_word) || code[..at].ends_with("super::") {
            continue;
        }
        let (mut rest, mut up) = (&code[at..], 0);
        while let Some(next) = rest.strip_prefix("super::") {
            (rest, up) = (next, up + 1);
        }
        let base = module[..module.len().saturating_sub(up)].join("::");
        expand(rest, &base, &mut found);
    }
    found
}

/// Reads a path with its groups, `a::{b, c::d}`, and notes each one that it stands for. Gives what follows it.
fn expand<'a>(text: &'a str, base: &str, found: &mut BTreeSet<String>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = rest.trim_start();
            if let Some(after) = rest.strip_prefix('}') {
                return after;
            }
            let Some(end) = rest.find([',', '}', '{']) else { return "" };
            rest = match rest.as_bytes()[end] {
                b'{' => expand(rest, base, found),
                _ => {
                    expand(&rest[..end], base, found);
                    &rest[end..]
                }
            };
            rest = rest.trim_start().trim_start_matches(',');
        }
    }
    let end = text.find(|c| !is_part_of_word(c)).unwrap_or(text.len());
    let (segment, rest) = text.split_at(end);
    let path = if base.is_empty() { segment.to_owned() } else { format!("{base}::{segment}") };
    match rest.strip_prefix("::") {
        Some(deeper) if !deeper.starts_with('<') => expand(deeper, &path, found),
        _ => {
            if !segment.is_empty() {
                found.insert(path);
            }
            rest
        }
    }
}
