//! `ksi new`: a plugin crate to begin with, which builds, tests and loads as it is.
//!
//! Cargo makes the crate, so that it is as those of `cargo new` are: a repository of its own where
//! there is none around it, or a member of the workspace that is there. What is written into it
//! lies in `host/cli/templates`, under a name that stands for the plugin's. If a step fails,
//! nothing is left of those before.

use std::{
    ffi::OsStr,
    fs, io,
    path::{Component, Path, PathBuf},
    process::{Command, Stdio},
};

use cargo_metadata::{Metadata, MetadataCommand};

use super::{
    args::{New, Template},
    exit::CommandFailure,
    output,
};
use before::Before;
use crates::Crates;

mod before;
mod crates;

/// What the plugin of every template is called there.
const PLUGIN: &str = "greeter";
/// What a plugin's name may have, in bytes.
const LONGEST_NAME: usize = 64;
/// Libraries that every crate has, so that none can be called so. Cargo makes it all the same.
const STANDARD: &[&str] = &["alloc", "core", "proc-macro", "proc_macro", "std"];
/// What a template depends on cannot depend on it.
const DEPENDENCIES: &[&str] = &[crates::API, crates::HARNESS, "tokio"];
/// What cargo writes above the dependencies.
const SECTION: &str = "[dependencies]\n";
/// Of a crate that is in no other workspace, which would say it.
const PROFILES: &str = "
# Enough for backtraces; all else makes the library that is copied at each replacement larger.
[profile.dev]
debug = \"line-tables-only\"

[profile.release]
lto = \"thin\"
strip = \"debuginfo\"
# A panic ends the call that panicked; with \"abort\", no host loads the library.
panic = \"unwind\"
";

#[derive(Debug, thiserror::Error)]
enum NewError {
    #[error("the current folder is not known: {0}")]
    Here(#[source] io::Error),
    #[error("{} is there already; name a folder that is not", .0.display())]
    There(PathBuf),
    #[error(
        "ksi-plugin-api and ksi-harness, which it would depend on, are no longer in {}, where this ksi \
         was built: name the folder plugin-api of a checkout of ksi with --api", .0.display()
    )]
    NoApi(PathBuf),
    #[error(
        "{} is not the folder plugin-api of a checkout of ksi: it has no Cargo.toml of ksi-plugin-api, or no \
         harness beside it", .0.display()
    )]
    NotApi(PathBuf),
    #[error("the path {} is no UTF-8, and Cargo.toml has to name it", .0.display())]
    NoText(PathBuf),
    #[error("cargo cannot be run: {0}; is it installed and on the PATH?")]
    Cargo(#[source] io::Error),
    #[error("cargo makes no such crate: {0}")]
    CargoNew(String),
    #[error("cargo does not understand the workspace around it: {0}")]
    Metadata(String),
    #[error("{} cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is no TOML: {source}", path.display())]
    Toml { path: PathBuf, source: Box<toml::de::Error> },
    #[error("{} has no [dependencies], so this cargo makes crates in another way", .0.display())]
    Manifest(PathBuf),
    #[error("{} cannot be written: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

pub(crate) fn new(New { path, template, api }: New) -> Result<(), CommandFailure> {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    if let Some(mistake) = mistake(name) {
        let shown = path.display();
        return Err(CommandFailure::Usage(format!("{shown}: {mistake}; choose another name")));
    }
    let crates = make(&path, name, template, api.as_deref())
        .map_err(CommandFailure::host("no plugin was made"))?;
    output::text(&told(&path, name, template, &crates))
}

/// What keeps a plugin from having this name, as far as cargo does not tell.
fn mistake(name: &str) -> Option<String> {
    let well = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
    if !begins || !name.chars().all(well) || name.len() > LONGEST_NAME {
        return Some(format!(
            "a plugin's name begins with a small letter, and has small letters, digits, - and _ alone, at most \
             {LONGEST_NAME}"
        ));
    }
    if STANDARD.contains(&name) {
        return Some(format!("{name} is a part of Rust's standard library"));
    }
    DEPENDENCIES.contains(&name).then(|| format!("a plugin depends on a crate {name}"))
}

/// What was made, and what comes next.
fn told(path: &Path, name: &str, template: Template, crates: &Crates) -> String {
    let folder = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+~".contains(c);
    let folder = match folder.chars().all(is_plain) {
        true => folder,
        false => format!("'{}'", folder.replace('\'', "'\\''")),
    };
    let (emit, remark) = example(template, name);
    format!(
        "made the plugin {name}, which has {} {}\n\n  cd {}\n  ksi dev\n  {emit}    #{remark}\n",
        crates::API,
        output::plain(&crates.told()),
        output::plain(&folder)
    )
}

/// The line of the README that sends the plugin an event, and what is said of it there.
fn example(template: Template, name: &str) -> (String, &'static str) {
    let mut lines = template.readme().lines();
    let line = lines.find(|line| line.starts_with("ksi emit")).unwrap_or_default();
    let (emit, remark) = line.split_once('#').unwrap_or((line, ""));
    (emit.trim_end().replace(PLUGIN, name), remark)
}

fn make(
    path: &Path,
    name: &str,
    template: Template,
    api: Option<&Path>,
) -> Result<Crates, NewError> {
    let path = &absolute(path).map_err(NewError::Here)?;
    if path.symlink_metadata().is_ok() {
        return Err(NewError::There(path.to_owned()));
    }
    let before = Before::look(path);
    let here = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::create_dir(path));
    if let Err(source) = here {
        before.remove_empty();
        return Err(match source.kind() {
            // Somebody was quicker, and it is theirs.
            io::ErrorKind::AlreadyExists => NewError::There(path.to_owned()),
            _ => NewError::Write { path: path.to_owned(), source },
        });
    }
    let made = cargo_init(path).and_then(|()| fill(path, name, template, api));
    if made.is_err() {
        before.bring_back();
    }
    made
}

/// Without `..`, so that what is looked at is what is made, whichever folder of it is missing.
fn absolute(path: &Path) -> io::Result<PathBuf> {
    let mut absolute = PathBuf::new();
    for part in std::path::absolute(path)?.components() {
        match part {
            Component::ParentDir => drop(absolute.pop()),
            part => absolute.push(part),
        }
    }
    Ok(absolute)
}

fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.stdin(Stdio::null());
    cargo
}

/// What `cargo new` does, in a folder that is there.
fn cargo_init(path: &Path) -> Result<(), NewError> {
    let output = cargo().args(["init", "--lib", "--quiet", "--"]).arg(path).output();
    let output = output.map_err(NewError::Cargo)?;
    if output.status.success() {
        return Ok(());
    }
    Err(NewError::CargoNew(in_one_line(&String::from_utf8_lossy(&output.stderr))))
}

/// What cargo has against it, without its advice, which is about its own options.
fn in_one_line(said: &str) -> String {
    let is_advice =
        |line: &&str| ["note:", "help:", "Caused by:"].iter().any(|it| line.starts_with(it));
    let lines = said.lines().map(str::trim).filter(|line| !line.is_empty() && !is_advice(line));
    lines.fold(String::new(), |told, line| {
        let line = line.trim_start_matches("error: ");
        match told.is_empty() {
            true => line.to_owned(),
            false => format!("{}: {line}", told.trim_end_matches(':')),
        }
    })
}

/// Makes a plugin of the crate that cargo has made.
fn fill(
    path: &Path,
    name: &str,
    template: Template,
    api: Option<&Path>,
) -> Result<Crates, NewError> {
    let manifest = path.join("Cargo.toml");
    let metadata = MetadataCommand::new().manifest_path(&manifest).no_deps().exec();
    let metadata = metadata.map_err(|error| {
        NewError::Metadata(match error {
            cargo_metadata::Error::CargoMetadata { stderr } => in_one_line(&stderr),
            error => error.to_string(),
        })
    })?;
    let folder = real(path)?;
    let crates = Crates::find(api, &metadata, &folder)?;
    let made = read(&manifest)?;
    let (before, after) =
        made.split_once(SECTION).ok_or_else(|| NewError::Manifest(manifest.clone()))?;
    let mut text = format!("{before}{}{after}", sections(template, &crates));
    if is_alone(&metadata, &folder) {
        text.push_str(PROFILES);
        // The versions that this ksi was tested with, and that are on this machine already.
        if let Some(lock) = crates.lock() {
            let to = path.join("Cargo.lock");
            fs::copy(lock, &to).map_err(|source| NewError::Write { path: to, source })?;
        }
    }
    let source = template.source().replace(PLUGIN, name);
    let readme = template.readme().replace(PLUGIN, name);
    for (file, text) in [("Cargo.toml", text), ("src/lib.rs", source), ("README.md", readme)] {
        let path = path.join(file);
        fs::write(&path, text).map_err(|source| NewError::Write { path, source })?;
    }
    // As the workspace has it; a toolchain may come without, and there it is as good unformatted.
    let _ = cargo().args(["fmt", "--quiet", "--manifest-path"]).arg(&manifest).output();
    Ok(crates)
}

/// What the manifest has in place of what cargo writes.
fn sections(template: Template, crates: &Crates) -> String {
    let (features, further) = match template {
        Template::Basic | Template::Stateful => (&[][..], ""),
        Template::Service => (
            &["runtime"][..],
            "tokio = { version = \"1\", default-features = false, features = [\"io-util\", \"macros\", \"net\", \
             \"rt\", \"sync\", \"time\"] }\n",
        ),
    };
    let (api, harness) = (crates.api(features), crates.harness());
    format!(
        "[lib]\ncrate-type = [\"cdylib\"]\n\n{SECTION}{api}\n{further}\n[dev-dependencies]\n{harness}\n"
    )
}

/// Whether it is its own workspace.
fn is_alone(metadata: &Metadata, folder: &Path) -> bool {
    fs::canonicalize(&metadata.workspace_root).is_ok_and(|root| root == folder)
}

fn read(path: &Path) -> Result<String, NewError> {
    fs::read_to_string(path).map_err(|source| NewError::Read { path: path.to_owned(), source })
}

fn real(path: &Path) -> Result<PathBuf, NewError> {
    fs::canonicalize(path).map_err(|source| NewError::Read { path: path.to_owned(), source })
}

impl Template {
    fn source(self) -> &'static str {
        match self {
            Template::Basic => include_str!("../templates/basic/lib.rs"),
            Template::Stateful => include_str!("../templates/stateful/lib.rs"),
            Template::Service => include_str!("../templates/service/lib.rs"),
        }
    }

    fn readme(self) -> &'static str {
        match self {
            Template::Basic => include_str!("../templates/basic/README.md"),
            Template::Stateful => include_str!("../templates/stateful/README.md"),
            Template::Service => include_str!("../templates/service/README.md"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Template; 3] = [Template::Basic, Template::Stateful, Template::Service];

    #[test]
    fn a_name_is_one_for_events_and_for_a_crate_beside_those_that_it_needs() {
        for well in ["a", "greeter", "my-plugin", "my_plugin2", &"a".repeat(64)] {
            assert_eq!(mistake(well), None, "{well}");
        }
        let bad = ["", "2a", "-a", "Greeter", "a b", "ä", "a.b", "a:b", &"a".repeat(65)];
        for bad in bad.into_iter().chain(["core", "proc-macro", "tokio", "ksi-harness"]) {
            assert!(mistake(bad).is_some(), "{bad}");
        }
    }

    /// A longer name would have rustfmt break a line that another one leaves as it is.
    #[test]
    fn names_stand_where_no_line_is_broken() {
        for template in ALL {
            let lines = template.source().lines().filter(|line| line.contains(PLUGIN));
            let mut lines = lines.map(str::trim_start);
            assert!(lines.all(|line| ["//", "#[event("].iter().any(|it| line.starts_with(it))));
        }
    }

    #[test]
    fn a_way_over_a_folder_that_is_missing_leads_where_it_says() {
        let here = std::env::current_dir().expect("a folder");
        assert_eq!(absolute(Path::new("missing/../there")).expect("a path"), here.join("there"));
    }

    #[test]
    fn a_readme_has_ten_lines_and_an_event_to_send() {
        for template in ALL {
            let lines = template.readme().lines().filter(|line| !line.is_empty());
            assert!(lines.count() <= 10, "{template:?}");
            let (emit, _) = example(template, "a-b");
            assert!(emit.starts_with("ksi emit a-b:"), "{emit}");
        }
    }
}
