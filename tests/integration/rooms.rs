//! Who knows whom: the modules of a crate on one level (a file and the folder of its name are one)
//! know each other in one direction only, and those of the host's plugins in the order in which
//! ARCHITECTURE.md tells of them.
//!
//! A module and those within it may know each other. Unit tests may know anything.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use crate::kit::{
    sources::{code, module_of, paths, re_exported, sources},
    workspace,
};

/// Where modules lie side by side: the sources of a crate, and the module whose children are looked
/// at.
const LEVELS: &[(&str, &[&str])] = &[
    ("host/src", &[]),
    ("host/src", &["plugin"]),
    ("host/src", &["plugin", "file"]),
    ("host/src", &["plugin", "probe"]),
    ("host/src", &["plugin", "python"]),
    ("host/src", &["plugin", "lifecycle"]),
    ("host/src", &["core"]),
    ("host/src", &["builtin"]),
    ("host/src", &["config"]),
    ("host/src", &["host"]),
    ("host/kernel/src", &[]),
    ("host/kernel/src", &["call"]),
    ("host/kernel/src", &["event"]),
    ("host/kernel/src", &["session"]),
    ("host/cli/src", &[]),
    ("host/contracts/src", &[]),
    ("host/kept/src", &[]),
    ("host/sandbox/src", &[]),
    ("host/wire/src", &[]),
    ("host/worker-protocol/src", &[]),
    ("tests/bench/src", &[]),
    ("tests/soak/src", &[]),
];

/// The rooms of the host's plugins: each knows those before it, and none after it.
const FLOORS: &[&str] = &[
    "file",
    "instance",
    "announce",
    "state",
    "probe",
    "worker",
    "python",
    "lifecycle",
    "supervisor",
];

/// An arrow from one module of a level to another, and where the sources have it.
type Arrows = BTreeMap<(String, String), BTreeSet<String>>;

/// A crate as its sources tell.
struct Crate {
    modules: BTreeMap<Vec<String>, (PathBuf, String)>,
}

impl Crate {
    fn read(part: &str) -> Self {
        let read = |file: PathBuf| {
            let text = fs::read_to_string(workspace().join(&file)).unwrap();
            (module_of(&file), (file, code(&text)))
        };
        Crate { modules: sources(part).into_iter().map(read).collect() }
    }

    /// The module that a path from the crate's root leads to, wherever it is exported again on the
    /// way.
    fn defined_in(&self, path: &str) -> Vec<String> {
        let mut path: Vec<String> = path.split("::").map(str::to_owned).collect();
        // No chain of exports is that long.
        for _ in 0..8 {
            let module = (0..=path.len()).rev().map(|end| &path[..end]);
            let module = module.into_iter().find(|it| self.modules.contains_key(*it)).unwrap();
            let Some(item) = path.get(module.len()) else { break };
            let Some((_, code)) = self.modules.get(module) else { break };
            match re_exported(code, module).remove(item) {
                Some(at) if at != path[..=module.len()] => path = at,
                _ => break,
            }
        }
        let end = (0..=path.len()).rev().find(|end| self.modules.contains_key(&path[..*end]));
        path.truncate(end.unwrap_or_default());
        path
    }

    /// Who knows whom among the children of a module.
    fn arrows(&self, level: &[&str]) -> Arrows {
        let child = |module: &[String]| {
            let below = module.len() > level.len() && module.iter().zip(level).all(|(a, b)| a == b);
            below.then(|| module[level.len()].clone())
        };
        let mut arrows = Arrows::new();
        for (module, (file, code)) in &self.modules {
            let Some(from) = child(module) else { continue };
            for path in paths(code, module) {
                let Some(to) = child(&self.defined_in(&path)).filter(|to| *to != from) else {
                    continue;
                };
                let place = format!("{}: {path}", file.display());
                arrows.entry((from.clone(), to)).or_default().insert(place);
            }
        }
        arrows
    }
}

/// The arrows that are part of a circle: from their end a way leads back to where they begin.
fn circles(arrows: Arrows) -> Arrows {
    let known_by = |who: &str| {
        let known = arrows.keys().filter(move |(from, _)| from == who);
        known.map(|(_, to)| to.as_str()).collect::<Vec<_>>()
    };
    let leads_back = |(from, to): &(String, String)| {
        let (mut seen, mut left) = (BTreeSet::new(), vec![to.as_str()]);
        while let Some(next) = left.pop() {
            if seen.insert(next.to_owned()) {
                left.extend(known_by(next));
            }
        }
        seen.contains(from)
    };
    let on_one: Vec<_> = arrows.keys().filter(|it| leads_back(it)).cloned().collect();
    arrows.into_iter().filter(|(arrow, _)| on_one.contains(arrow)).collect()
}

fn told(arrows: &Arrows) -> String {
    let lines = arrows.iter().map(|((from, to), places)| {
        let places: Vec<&str> = places.iter().map(String::as_str).take(4).collect();
        format!("{from} -> {to}\n    {}", places.join("\n    "))
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn no_modules_of_one_level_know_each_other_in_a_circle() {
    let mut found = String::new();
    for (part, level) in LEVELS {
        let circles = circles(Crate::read(part).arrows(level));
        if !circles.is_empty() {
            found.push_str(&format!("in {part} {level:?}:\n{}\n", told(&circles)));
        }
    }
    assert!(found.is_empty(), "circles {found}");
}

#[test]
fn the_rooms_of_plugins_know_those_below_them_alone() {
    let host = Crate::read("host/src");
    let rooms = host.modules.keys().filter(|it| it.len() > 1 && it[0] == "plugin");
    let rooms: BTreeSet<&str> = rooms.map(|it| &*it[1]).collect();
    let known: BTreeSet<&str> = FLOORS.iter().copied().collect();
    assert_eq!(
        rooms, known,
        "every room has its floor: add a new one to FLOORS and ARCHITECTURE.md"
    );
    let floor = |room: &str| FLOORS.iter().position(|it| *it == room);
    let mut arrows = host.arrows(&["plugin"]);
    arrows.retain(|(from, to), _| floor(to) > floor(from));
    assert!(arrows.is_empty(), "these know what lies above them:\n{}", told(&arrows));
}

#[test]
fn the_check_sees_circles_and_what_is_exported_again() {
    let arrow = |(from, to): (&str, &str)| ((from.to_owned(), to.to_owned()), BTreeSet::new());
    let arrows = [("a", "b"), ("b", "c"), ("c", "b"), ("c", "d"), ("d", "e")].map(arrow);
    let found = circles(arrows.into_iter().collect());
    let expected: Arrows = [("b", "c"), ("c", "b")].map(arrow).into_iter().collect();
    assert_eq!(found, expected);

    let code =
        "pub use a::{b::C, D};\npub(crate) use super::x::Y;\nuse private::Z;\npub fn user() {}";
    let found = re_exported(code, &["m".to_owned(), "n".to_owned()]);
    let found: Vec<_> = found.iter().map(|(name, path)| (&**name, path.join("::"))).collect();
    let expected = [("C", "m::n::a::b::C"), ("D", "m::n::a::D"), ("Y", "m::x::Y")];
    assert_eq!(found, expected.map(|(name, path)| (name, path.to_owned())));
}

/// The files and folders of the repository's parts, as paths from its root; folders end with a
/// slash.
fn all_paths() -> Vec<String> {
    let mut left: Vec<PathBuf> =
        ["host", "plugin-api", "plugins", "examples", "tests", "docs"].map(PathBuf::from).into();
    let mut found = Vec::new();
    while let Some(folder) = left.pop() {
        found.push(format!("{}/", folder.display()));
        for entry in fs::read_dir(workspace().join(&folder)).unwrap().map(Result::unwrap) {
            let path = folder.join(entry.file_name());
            match entry.file_type().unwrap().is_dir() {
                true if entry.file_name() == "target" => {}
                true => left.push(path),
                false => found.push(path.display().to_string()),
            }
        }
    }
    found
}

#[test]
fn every_path_that_the_map_names_is_there() {
    let map = fs::read_to_string(workspace().join("ARCHITECTURE.md")).unwrap();
    let there = all_paths();
    // In backquotes: a file by its ending, a folder by its slash; `a/{b,c}.rs` are two.
    let named = map.split('`').skip(1).step_by(2).filter(|it| {
        let is_path = [".rs", ".md", ".toml", "/"].iter().any(|end| it.ends_with(end));
        is_path && !it.contains(' ')
    });
    let each = named.flat_map(|path| match path.split_once('{').zip(path.split_once('}')) {
        Some(((before, all), (_, after))) => {
            let names = all.split('}').next().unwrap_or_default().split(',');
            names.map(|name| format!("{before}{name}{after}")).collect::<Vec<_>>()
        }
        None => vec![path.to_owned()],
    });
    let is_there =
        |path: &str| there.iter().any(|it| it == path || it.ends_with(&format!("/{path}")));
    let missing: BTreeSet<String> = each.filter(|path| !is_there(path)).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md names what is not there: {missing:?}");
}
