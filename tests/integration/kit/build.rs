//! Building what the tests run: in the workspace's own target folder, by the cargo that runs the
//! tests.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, OnceLock, PoisonError},
};

use cargo_metadata::{Message, TargetKind};

/// What the workspace builds: shared libraries and executables, by the name of their package.
pub(crate) struct Artifacts(HashMap<String, PathBuf>);

impl Artifacts {
    /// The `ksi` executable.
    pub(crate) fn ksi(&self) -> &Path {
        self.of("ksi")
    }

    /// The library, or else the executable, of a package.
    #[track_caller]
    pub(crate) fn of(&self, package: &str) -> &Path {
        self.0.get(package).unwrap_or_else(|| panic!("the workspace builds no {package}"))
    }
}

/// The workspace, built once a run and as a whole: with all packages named, features unify as in
/// any other build of it, so that nothing is compiled twice. The plugins of the benchmarks are the
/// builds that count.
pub(crate) fn artifacts() -> &'static Artifacts {
    static BUILT: OnceLock<Artifacts> = OnceLock::new();
    BUILT.get_or_init(|| {
        const COUNT: &str =
            "ksi-bench-emitter/count-allocations,ksi-bench-handlers/count-allocations";
        let what = ["--workspace", "--lib", "--bins", "--features", COUNT];
        let mut cargo = cargo(&workspace(), "build", &what);
        with_cargo_environment(&mut cargo);
        Artifacts(built_by(cargo))
    })
}

/// A package below `tests/fixtures/field` that is a workspace of its own, because features of what
/// it depends on are not to be everybody's. Built once a run.
pub(crate) fn field_library(name: &'static str) -> PathBuf {
    static BUILT: Mutex<BTreeMap<&str, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let build = || {
        let folder = workspace().join("tests/fixtures/field").join(name);
        let mut cargo = cargo(&folder, "build", &["--lib"]);
        with_cargo_environment(&mut cargo);
        let package = format!("ksi-fixture-{name}");
        built_by(cargo).remove(&package).expect("its library is built")
    };
    built.entry(name).or_insert_with(build).clone()
}

/// A package of its own, outside the workspace, as an author would have it.
pub(crate) struct OutsideCrate {
    folder: tempfile::TempDir,
    name: &'static str,
}

impl OutsideCrate {
    /// Makes a package of this source, which depends on the plugin API alone.
    pub(crate) fn new(name: &'static str, source: &str) -> Self {
        let api = format!("ksi-plugin-api = {{ path = {:?} }}", plugin_api());
        Self::with(name, &["cdylib"], &[&api], source)
    }

    /// Makes a package of these crate types, with these lines for its dependencies.
    pub(crate) fn with(
        name: &'static str,
        types: &[&str],
        dependencies: &[&str],
        source: &str,
    ) -> Self {
        let dependencies = dependencies.join("\n");
        let manifest = format!(
            "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n\
             [lib]\ncrate-type = {types:?}\n\n[dependencies]\n{dependencies}\n"
        );
        let package = OutsideCrate { folder: author_folder(), name };
        std::fs::create_dir_all(package.path().join("src")).unwrap();
        std::fs::write(package.path().join("Cargo.toml"), manifest).unwrap();
        package.share_versions();
        package.write(source);
        package
    }

    /// A workspace that has no members yet, with this in its manifest.
    pub(crate) fn workspace(name: &'static str, manifest: &str) -> Self {
        let workspace = OutsideCrate { folder: author_folder(), name };
        std::fs::create_dir(workspace.path()).unwrap();
        std::fs::write(workspace.path().join("Cargo.toml"), manifest).unwrap();
        workspace.share_versions();
        workspace
    }

    /// Has a package of this name made by commands of the shell, which finds `ksi`, in a folder of
    /// their own.
    pub(crate) fn made_by(name: &'static str, commands: &str, source: &str) -> Self {
        let package = OutsideCrate { folder: author_folder(), name };
        let mut shell = Command::new("bash");
        shell.args(["-euc", commands]).current_dir(&package.folder).stdin(Stdio::null());
        with_ksi_in_path(&mut shell);
        for_outside_crates(&mut shell);
        let output = shell.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        package.write(source);
        package
    }

    /// Has a package of this name made in an empty folder, which is in no workspace.
    pub(crate) fn made_in(name: &'static str, make: impl FnOnce(&Path)) -> Self {
        let package = OutsideCrate { folder: author_folder(), name };
        make(package.folder.path());
        package
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join(self.name)
    }

    /// Replaces its source.
    pub(crate) fn write(&self, source: &str) {
        std::fs::write(self.path().join("src/lib.rs"), source).unwrap();
    }

    /// Runs a command of cargo in it, like `test`: what that prints, and whether it went well.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> (bool, String) {
        self.cargo_with(arguments, |_| {})
    }

    /// The same by a command that is changed first.
    pub(crate) fn cargo_with(
        &self,
        arguments: &[&str],
        change: impl FnOnce(&mut Command),
    ) -> (bool, String) {
        let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut cargo = Command::new(program);
        let (subcommand, arguments) = arguments.split_first().unwrap();
        cargo.arg(subcommand).current_dir(self.path()).stdin(Stdio::null());
        if !cfg!(debug_assertions) && *subcommand != "fmt" {
            cargo.arg("--release");
        }
        cargo.args(arguments);
        for_outside_crates(&mut cargo);
        change(&mut cargo);
        let output = cargo.output().unwrap();
        let printed = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&printed).into_owned())
    }

    /// Builds its library, with further arguments for the compiler, and gives the library's bytes.
    pub(crate) fn build(&self, rustc: &[&str]) -> Vec<u8> {
        let arguments = [&["--lib", "--"], rustc].concat();
        let mut cargo = cargo(&self.path(), "rustc", &arguments);
        for_outside_crates(&mut cargo);
        let files = built_by(cargo);
        std::fs::read(files.get(self.name).expect("its library is built")).unwrap()
    }

    /// Builds the libraries of a workspace, and gives their bytes by the names of their packages.
    pub(crate) fn libraries(&self) -> HashMap<String, Vec<u8>> {
        let mut cargo = cargo(&self.path(), "build", &["--workspace"]);
        for_outside_crates(&mut cargo);
        let built = built_by(cargo).into_iter();
        built.map(|(name, file)| (name, std::fs::read(file).unwrap())).collect()
    }

    /// What the compiler has against its source, each in one line.
    pub(crate) fn mistakes(&self) -> Vec<String> {
        let mut cargo = cargo(&self.path(), "check", &["--lib"]);
        for_outside_crates(&mut cargo);
        let output = cargo.output().unwrap();
        assert!(!output.status.success(), "it compiles");
        let said = String::from_utf8(output.stderr).unwrap();
        let errors = said.lines().filter(|line| line.starts_with("error"));
        errors.filter(|line| !line.contains("could not compile")).map(str::to_owned).collect()
    }

    /// The same versions of everything as in the workspace; cargo strikes out what is not needed.
    fn share_versions(&self) {
        std::fs::copy(workspace().join("Cargo.lock"), self.path().join("Cargo.lock")).unwrap();
    }
}

fn author_folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("ksi-author-").tempdir().unwrap()
}

/// The crate that plugins are written with.
pub(crate) fn plugin_api() -> PathBuf {
    workspace().join("plugin-api")
}

/// The workspace's folder.
pub(crate) fn workspace() -> PathBuf {
    // What cargo says now comes first: a folder that was moved with all that was built in it is
    // another one.
    let own =
        std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&own).parent().unwrap().to_owned()
}

/// Lets a command build packages outside of the workspace, in the workspace's target folder.
pub(crate) fn for_outside_crates(command: &mut Command) {
    // As in the workspace, so that what they depend on is compiled already.
    command.env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only");
    // They are in another place each time, and what helps to build them again would pile up.
    command.env("CARGO_INCREMENTAL", "0");
    with_cargo_environment(command);
}

/// Lets a shell find `ksi`, as one that has installed it does.
pub(crate) fn with_ksi_in_path(shell: &mut Command) {
    let own = artifacts().ksi().parent().unwrap().to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = [own].into_iter().chain(std::env::split_paths(&path));
    shell.env("PATH", std::env::join_paths(path).unwrap());
}

/// The same, with what is built in the target folder of the package and what is built for that in
/// the workspace's: for what has a place of its own in a target folder.
pub(crate) fn for_outside_crates_apart(command: &mut Command) {
    for_outside_crates(command);
    command.env_remove("CARGO_TARGET_DIR").env("CARGO_BUILD_BUILD_DIR", target_folder());
}

/// Gives a command, which may run cargo, what that needs in its environment.
fn with_cargo_environment(command: &mut Command) {
    command.env("CARGO_TARGET_DIR", target_folder());
    for (name, _) in std::env::vars() {
        // `cargo test` sets these for us, and build scripts that look at them would run again at
        // every build.
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
}

/// The target folder that this test itself was built into.
fn target_folder() -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let marked = this.ancestors().find(|folder| folder.join("CACHEDIR.TAG").exists());
    marked.expect("a target folder above the test").to_owned()
}

/// Cargo in `folder`, in the profile of this test run, telling what it builds.
fn cargo(folder: &Path, subcommand: &str, arguments: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = Command::new(program);
    cargo.current_dir(folder).stdin(Stdio::null());
    cargo.args([subcommand, "--message-format=json-render-diagnostics"]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    cargo.args(arguments);
    cargo
}

/// Runs cargo, and reads from its messages what it has built.
fn built_by(mut cargo: Command) -> HashMap<String, PathBuf> {
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let messages = Message::parse_stream(&output.stdout[..]);
    messages.filter_map(|message| artifact(message.unwrap())).collect()
}

/// The package and the file, if a message of cargo's tells of a shared library or of an executable.
fn artifact(message: Message) -> Option<(String, PathBuf)> {
    let Message::CompilerArtifact(artifact) = message else { return None };
    let is_library = artifact.target.kind.contains(&TargetKind::CDyLib);
    let mut files = artifact.filenames.into_iter().filter(|_| is_library);
    let library = files.find(|file| file.as_str().ends_with(".so"));
    let file = artifact.executable.or(library)?;
    // The name stands in the package's id, `path+file:///folder#name@0.1.0`, or is the folder's if
    // it is left out there.
    let (place, fragment) = artifact.package_id.repr.rsplit_once('#')?;
    let name = match fragment.split_once('@') {
        Some((name, _)) => name,
        None => place.rsplit('/').next()?,
    };
    Some((name.to_owned(), file.into()))
}
