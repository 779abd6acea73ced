//! What an author does: a crate of their own, from what they were shown.

use std::{fs, path::Path, process::Command};

use serde_json::json;

use crate::kit::{Library, OutsideCrate, Running, TestHost, artifacts, plugin_api, put, workspace};

#[test]
fn the_example_works_copied_out_of_the_workspace() {
    let source = fs::read_to_string(workspace().join("examples/hello/src/lib.rs")).unwrap();
    let package = OutsideCrate::new("copied", &source);
    let host = TestHost::builder().start();
    host.drop_in("copied.so", &Library(package.build(&[])));
    host.until_live("copied", 1);
    let mut watcher = host.client();
    watcher.subscribe(&["greet:done"]);
    let greeting = host.client().emit("greet:request", json!({"name": "you"}));
    assert_eq!(greeting, json!({"text": "Hello, you!", "count": 1}));
    assert_eq!(watcher.push_of("greet:done"), greeting);
}

/// The example has one test body for both.
#[test]
fn one_test_holds_for_the_plugin_in_the_test_and_for_its_library_in_a_host() {
    let source = fs::read_to_string(workspace().join("examples/counter/src/lib.rs")).unwrap();
    let package = OutsideCrate::new("counted", &source);
    let manifest = package.path().join("Cargo.toml");
    let harness = plugin_api().join("harness");
    let harness = format!(
        "[dev-dependencies]\nksi-harness = {{ path = {harness:?}, features = [\"host\"] }}\n"
    );
    fs::write(&manifest, fs::read_to_string(&manifest).unwrap() + &harness).unwrap();
    let test = ["test", "--lib", "--", "--include-ignored"];
    let with = |ksi: &Path| {
        package.cargo_with(&test, |cargo| {
            cargo.env("KSI", ksi);
        })
    };
    let (passed, printed) = with(artifacts().ksi());
    assert!(passed && printed.contains("2 passed; 0 failed; 0 ignored"), "{printed}");

    // A library that does other than the plugin in the test is found out, and a host that is none.
    let (passed, printed) = with(Path::new("/no/ksi"));
    assert!(!passed && printed.contains("1 passed; 1 failed"), "{printed}");
    assert!(
        printed.contains("counted is not live in a host: no_host: /no/ksi cannot"),
        "{printed}"
    );
    package.write(
        &source.replacen("value.saturating_add(by)", "value.wrapping_add(HOW * by)", 1).replacen(
            "fn one()",
            "#[cfg(test)]\nconst HOW: i64 = 1;\n#[cfg(not(test))]\nconst HOW: i64 = 2;\n\nfn one()",
            1,
        ),
    );
    let (passed, printed) = with(artifacts().ksi());
    assert!(!passed && printed.contains("it_answers_in_a_host ... FAILED"), "{printed}");
    assert!(printed.contains("it_answers_in_a_test ... ok"), "{printed}");
}

/// The README shows the plugin, the commands that make a crate for it, and what it answers. All
/// three are taken as they stand.
#[test]
fn the_plugin_in_the_readme_builds_outside_the_workspace_and_answers_as_it_says() {
    let readme = fs::read_to_string(workspace().join("README.md")).unwrap();
    let block = |language: &str, with: &str| {
        let fence = format!("```{language}\n");
        let blocks =
            readme.split(fence.as_str()).skip(1).filter_map(|rest| rest.split("```").next());
        blocks.into_iter().find(|block| block.contains(with)).unwrap_or_else(|| panic!("no {with}"))
    };
    let commands = block("sh", "ksi new").lines();
    let commands: Vec<_> = commands.filter(|line| !line.starts_with("ksi dev")).collect();
    // Another test's has that name, and its library would be the same file of the target folder.
    let commands = commands.join("\n").replace("greeter", "as-in-readme");
    let package = OutsideCrate::made_by("as-in-readme", &commands, block("rust", "#[plugin"));
    let host = TestHost::builder().start();
    host.drop_in("as-in-readme.so", &Library(package.build(&[])));
    host.until_live("as-in-readme", 1);

    let console: Vec<&str> = block("console", "ksi emit greet:request").lines().collect();
    let asked =
        console.iter().position(|line| line.starts_with("$ ksi emit greet:request ")).unwrap();
    let payload = console[asked].trim_start_matches("$ ksi emit greet:request ").trim_matches('\'');
    let answer = host.ksi(&["emit", "greet:request", payload]).ok();
    assert_eq!(answer.trim_end(), console[asked + 1]);
}

/// Of what the document shows, nothing is left out: neither the dependency nor the code.
#[test]
fn the_ledger_in_the_document_on_replacement_builds_and_loses_no_line_when_it_is_replaced() {
    let document = fs::read_to_string(workspace().join("docs/replacement.md")).unwrap();
    let section = document.split("### SQLite").nth(1).unwrap();
    let block = |language: &str| {
        let rest = section.split(&format!("```{language}\n")).nth(1).unwrap();
        rest.split("```").next().unwrap()
    };
    let dependency = block("toml").lines().find(|line| line.starts_with("rusqlite")).unwrap();
    // The features of the workspace's own, so that it is compiled already.
    let dependency = dependency.replace("{ ", "{ default-features = false, ");
    let api = format!("ksi-plugin-api = {{ path = {:?} }}", plugin_api());
    let package = OutsideCrate::with("ledger", &["cdylib"], &[&api, &dependency], block("rust"));
    let library = Library(package.build(&[]));
    let host = TestHost::builder()
        .plugin("libledger.so", &library)
        .config("[plugin.ledger]\npath = 'ledger.sqlite'")
        .start();
    let add = || host.client().emit("ledger:add", json!({"what": "a line"}));
    assert_eq!(add(), json!({"lines": 1}));
    host.ksi(&["reload", "ledger"]).ok();
    assert_eq!(add(), json!({"lines": 2}));
}

#[test]
fn a_program_with_a_host_inside_talks_to_plugins() {
    let dir = tempfile::tempdir().unwrap();
    put(&dir.path().join("hello.so"), &Library::of("hello").0);
    let mut embed = Command::new(artifacts().of("embed"));
    embed.arg(dir.path()).env("TMPDIR", dir.path());
    let output = Running::start(&mut embed).ended().ok();
    for line in [
        r#"app:version -> {"version":"1.0"}"#,
        r#"greet:request -> {"count":1,"text":"Hello, embedder!"}"#,
        "seen: greet:request",
        "seen: greet:done",
    ] {
        assert!(output.contains(line), "{line} is missing:\n{output}");
    }
}

const RENAMED: &str = r#"
use api::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[event("count:add", crate = api)]
struct Add { by: u64 }

#[payload(crate = "api")]
struct Count { count: u64 }

#[derive(Default)]
struct Counter { count: AtomicU64 }

#[plugin(crate = ::api, emits(Add))]
impl Counter {
    #[event_handler]
    async fn add(&self, _: &Context, add: &Add) -> Result<Count> {
        Ok(Count { count: self.count.fetch_add(add.by, Relaxed) + add.by })
    }

    #[snapshot]
    async fn take(&self, _: &Context) -> Result<Count> {
        Ok(Count { count: self.count.load(Relaxed) })
    }

    #[restore]
    async fn put(&self, _: &Context, saved: Count) -> Result<()> {
        self.count.store(saved.count, Relaxed);
        Ok(())
    }
}
"#;

#[test]
fn a_renamed_dependency_works_in_all_attributes() {
    let api = format!("api = {{ package = \"ksi-plugin-api\", path = {:?} }}", plugin_api());
    let package = OutsideCrate::with("renamed", &["cdylib"], &[&api], RENAMED);
    let host = TestHost::builder().plugin("renamed.so", &Library(package.build(&[]))).start();
    host.until_live("renamed", 1);
    assert_eq!(host.client().emit("count:add", json!({"by": 2})), json!({"count": 2}));
    host.ksi(&["reload", "renamed"]).ok();
    assert_eq!(host.client().emit("count:add", json!({"by": 3})), json!({"count": 5}));
}

const OF_OTHER_CRATES: &str = r#"
use ksi_plugin_api::prelude::*;

#[event("note:add")]
struct Note {
    id: uuid::Uuid,
    at: chrono::DateTime<chrono::Utc>,
    link: Option<url::Url>,
}

#[derive(Default)]
struct Notes;

#[plugin]
impl Notes {
    #[event_handler]
    async fn add(&self, _: &Context, note: Note) -> Result<Note> { Ok(note) }
}
"#;

#[test]
fn types_of_common_crates_have_schemas_by_features() {
    let api = format!(
        "ksi-plugin-api = {{ path = {:?}, features = [\"chrono\", \"url\", \"uuid\"] }}",
        plugin_api()
    );
    let dependencies = [
        api.as_str(),
        "chrono = { version = \"0.4\", default-features = false, features = [\"serde\"] }",
        "uuid = { version = \"1\", features = [\"serde\"] }",
        "url = { version = \"2\", features = [\"serde\"] }",
    ];
    let package = OutsideCrate::with("of-others", &["cdylib"], &dependencies, OF_OTHER_CRATES);
    let host = TestHost::builder().plugin("of-others.so", &Library(package.build(&[]))).start();
    host.until_live("of-others", 1);
    let note = json!({"id": "67e55044-10b1-426f-9247-bb680e5fe0c8", "at": "2026-11-27T09:00:00Z",
                      "link": "https://example.org/"});
    assert_eq!(host.client().emit("note:add", note.clone()), note);
    let inspected = host.client().emit("module:inspect", json!({"module_name": "of-others"}));
    let schema = &inspected["handlers"][0]["payload_schema"]["properties"];
    for (field, format) in [("id", "uuid"), ("at", "date-time"), ("link", "uri")] {
        assert_eq!(schema[field]["format"], format, "{field}: {inspected}");
    }
}
