//! `ksi new`: what it makes has no warning, passes its tests and is a plugin as it is; what cannot
//! be made is told, and nothing of it is left.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    time::Instant,
};

use serde_json::{Value, json};

use crate::kit::{
    Library, OutsideCrate, Ran, Running, TestHost, for_outside_crates, ksi_command, plugin_api,
};

/// Runs `ksi new` in a folder.
fn new(folder: &Path, arguments: &[&str]) -> Ran {
    let mut command = ksi_command(&[&["new"], arguments].concat());
    command.current_dir(folder);
    for_outside_crates(&mut command);
    Running::start(&mut command).ended()
}

const WORKSPACE: &str = r#"
[workspace]
resolver = "3"
members = []

[workspace.package]
edition = "2024"

[workspace.lints.rust]
missing_docs = "warn"
unsafe_code = "forbid"
"#;

const CLIPPY: &[&str] = &["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"];

/// With what only such a crate has: profiles, versions, and no features but its own. What is made
/// so lives in a host in `first_hour.rs`.
#[test]
fn every_template_is_clean_and_passes_its_tests_in_an_empty_folder() {
    for (name, template) in
        [("alone-basic", "basic"), ("alone-stateful", "stateful"), ("alone-service", "service")]
    {
        let package = OutsideCrate::made_in(name, |folder| {
            new(folder, &[name, "--template", template]).ok();
        });
        let manifest = manifest(&package.path());
        assert!(manifest.contains_key("profile") && !manifest.contains_key("workspace"), "{name}");
        for step in [&["fmt", "--check"], CLIPPY, &["test"], &["build"]] {
            let began = Instant::now();
            let (well, printed) = package.cargo(step);
            assert!(well && !printed.contains("warning:"), "{name}: cargo {step:?}: {printed}");
            assert!(step[0] != "test" || printed.contains(" passed; 0 failed"), "{printed}");
            eprintln!("cargo {} of {name}: {:?}", step[0], began.elapsed());
        }
    }
}

/// All of them in one workspace, so that what they depend on is compiled once.
#[test]
fn every_template_is_clean_passes_its_tests_and_lives_in_a_host() {
    let workspace = OutsideCrate::workspace("work", WORKSPACE);
    for (path, template) in
        [("first-one", "basic"), ("plugins/counts", "stateful"), ("plugins/gate", "service")]
    {
        new(&workspace.path(), &[path, "--template", template]).ok();
    }
    for step in [&["fmt", "--check"][..], CLIPPY, &["test", "--workspace"]] {
        let began = Instant::now();
        let (well, printed) = workspace.cargo(step);
        assert!(well, "cargo {step:?}: {printed}");
        eprintln!("cargo {} of all templates: {:?}", step[0], began.elapsed());
    }
    let (began, mut libraries) = (Instant::now(), workspace.libraries());
    eprintln!("cargo build of all templates: {:?}", began.elapsed());
    let host = TestHost::builder().start();
    for name in ["first-one", "counts", "gate"] {
        let library = Library(libraries.remove(name).expect(name));
        host.drop_in(&format!("{name}.so"), &library);
        host.until_live(name, 1);
    }
    greets(&host);
    goes_on_counting(&host);
    keeps_its_address(&host);
}

fn greets(host: &TestHost) {
    let greeting = host.client().emit("first-one:greet", json!({"name": "Ada"}));
    assert_eq!(greeting, json!({"text": "Hello, Ada!"}));
}

fn goes_on_counting(host: &TestHost) {
    let count = || host.client().emit("counts:count", json!({"name": "a"}));
    assert_eq!(count(), json!({"count": 1}));
    host.ksi(&["reload", "counts"]).ok();
    assert_eq!(count(), json!({"count": 2}));
}

fn keeps_its_address(host: &TestHost) {
    let mut client = host.client();
    client.subscribe(&["gate:said"]);
    let address = client.emit("gate:address", json!({}));
    assert_eq!(asked(&address), "Hello, Ada!\n");
    // One that stays connected is let go, and holds nothing up.
    let _connected = TcpStream::connect(address.as_str().unwrap()).unwrap();
    host.ksi(&["reload", "gate"]).ok();
    assert_eq!(client.emit("gate:address", json!({})), address);
    assert_eq!(asked(&address), "Hello, Ada!\n");
    assert_eq!(client.push_of("gate:said"), json!({"line": "Ada"}));
}

fn asked(address: &Value) -> String {
    let mut stream = TcpStream::connect(address.as_str().unwrap()).unwrap();
    stream.write_all(b"Ada\n").unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line
}

fn manifest(folder: &Path) -> toml::Table {
    fs::read_to_string(folder.join("Cargo.toml")).unwrap().parse().unwrap()
}

/// A member that has the API from a folder, as one writes it by hand.
const NEIGHBOUR: &str = "[package]\nname = 'neighbour'\nversion = '0.1.0'\nedition = '2024'\n\n\
                         [dependencies]\nksi-plugin-api = { path = '../../link/plugin-api' }\n";

#[test]
fn in_a_workspace_it_is_a_member_and_has_the_crates_from_where_the_others_have_them() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("work");
    let neighbour = root.join("plugins/neighbour");
    fs::create_dir_all(neighbour.join("src")).unwrap();
    fs::write(neighbour.join("src/lib.rs"), "").unwrap();
    fs::write(neighbour.join("Cargo.toml"), NEIGHBOUR).unwrap();
    let api = root.join("link/plugin-api");
    for (folder, name) in [(api.clone(), "ksi-plugin-api"), (api.join("harness"), "ksi-harness")] {
        fs::create_dir_all(folder.join("src")).unwrap();
        fs::write(folder.join("src/lib.rs"), "").unwrap();
        fs::write(folder.join("Cargo.toml"), format!("[package]\nname = {name:?}\n")).unwrap();
    }
    let workspace = |rest: &str| {
        let members = "[workspace]\nresolver = '3'\nmembers = ['plugins/*']\n";
        fs::write(root.join("Cargo.toml"), format!("{members}{rest}")).unwrap();
    };
    let crates_of = |name: &str| {
        let mut manifest = manifest(&root.join("plugins").join(name));
        assert!(!manifest.contains_key("profile"), "those of the workspace hold: {manifest}");
        assert!(!root.join("plugins").join(name).join("Cargo.lock").exists());
        ["dependencies", "dev-dependencies"].map(|key| manifest.remove(key).unwrap())
    };
    workspace("");
    new(&root, &["plugins/as-others"]).ok();
    let [api, harness] = crates_of("as-others");
    assert_eq!(api["ksi-plugin-api"]["path"].as_str(), Some("../../link/plugin-api"));
    assert_eq!(harness["ksi-harness"]["path"].as_str(), Some("../../link/plugin-api/harness"));

    workspace("[workspace.dependencies]\nksi-plugin-api = { path = 'link/plugin-api' }\n");
    new(&root, &["plugins/as-the-root", "--template", "service"]).ok();
    let [api, harness] = crates_of("as-the-root");
    assert_eq!(api["ksi-plugin-api"]["workspace"].as_bool(), Some(true));
    assert_eq!(api["ksi-plugin-api"]["features"][0].as_str(), Some("runtime"));
    assert_eq!(harness["ksi-harness"]["path"].as_str(), Some("../../link/plugin-api/harness"));

    let api = plugin_api();
    new(&root, &["plugins/as-told", "--api", api.to_str().unwrap()]).ok();
    let [dependency, _] = crates_of("as-told");
    assert_eq!(dependency["ksi-plugin-api"]["path"].as_str(), api.to_str());
}

/// Everything below a folder, with the bytes of files.
fn all_below(folder: &Path) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = entries
        .flat_map(|path| match path.is_dir() {
            true => [vec![(path.clone(), None)], all_below(&path)].concat(),
            false => vec![(path.clone(), Some(fs::read(&path).unwrap()))],
        })
        .collect();
    found.sort();
    found
}

#[test]
fn what_cannot_be_made_is_told_and_nothing_of_it_is_left() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("Cargo.toml"), WORKSPACE).unwrap();
    new(dir.path(), &["there"]).ok();
    let before = all_below(dir.path());
    for (arguments, code, words) in [
        (&["Bad Name"][..], 2, "begins with a small letter"),
        (&["a.b"], 2, "small letters, digits, - and _ alone"),
        (&["."], 2, "choose another name"),
        (&["core"], 2, "a part of Rust's standard library"),
        (&["a/tokio"], 2, "a plugin depends on a crate tokio"),
        (&["fn"], 1, "it is a Rust keyword"),
        (&["a/test"], 1, "it conflicts with Rust's built-in test library"),
        (&["there"], 1, "there is there already"),
        (&["missing/../there"], 1, "there is there already"),
        // Cargo makes it, and understands the workspace no more.
        (&["elsewhere/there"], 1, "two packages named `there` in this workspace"),
        (&["a/b/c", "--api", "."], 1, "is not the folder plugin-api of a checkout of ksi"),
        (&["a/b/c", "--api", "nowhere"], 1, "No such file or directory"),
    ] {
        let told = new(dir.path(), arguments).fails(code);
        assert!(told.contains(words), "{arguments:?}: {told}");
        assert!(!told.contains("help:") && !told.contains("--name"), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
        assert!(all_below(dir.path()) == before, "{arguments:?} has left something");
    }
}

#[test]
fn of_two_that_make_the_same_one_removes_nothing_of_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let start = || {
        let mut command = ksi_command(&["new", "plugins/same"]);
        command.current_dir(dir.path());
        for_outside_crates(&mut command);
        Running::start(&mut command)
    };
    let [first, second] = [start(), start()].map(|mut it| it.ended());
    let failed = if first.code == Some(0) { second } else { first };
    let told = failed.fails(1);
    assert!(told.contains("plugins/same is there already"), "{told}");
    let made = dir.path().join("plugins/same");
    assert_eq!(manifest(&made)["package"]["name"].as_str(), Some("same"));
    assert!(fs::read_to_string(made.join("src/lib.rs")).unwrap().contains("same:greet"));
}

#[test]
fn without_cargo_or_a_place_to_write_nothing_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = ksi_command(&["new", "a/b"]);
    command.current_dir(dir.path()).env("PATH", dir.path()).env_remove("CARGO");
    let told = Running::start(&mut command).ended().fails(1);
    assert!(told.contains("is it installed and on the PATH?"), "{told}");
    // Nobody makes folders there, whoever they are.
    let told = new(dir.path(), &["/proc/ksi-new"]).fails(1);
    assert!(told.contains("No such file or directory") || told.contains("denied"), "{told}");
    assert!(all_below(dir.path()).is_empty());
}
