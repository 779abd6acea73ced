//! What somebody types who begins with a built `ksi` and an empty folder, and nothing else: a
//! plugin that answers, and each saved change of it live.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use ksi_wire::module::ModuleState;
use serde_json::{Value, json};

use crate::kit::{
    Client, PATIENCE, Ran, Running, States, for_outside_crates_apart, isolated, until_built,
    with_ksi_in_path,
};

/// Somebody with a shell that finds `ksi`, in an empty folder.
struct Author {
    dir: tempfile::TempDir,
    /// Of the plugin that is made there. Each test has one of its own: libraries of one name would
    /// be one file in the target folder that they share.
    plugin: &'static str,
}

impl Author {
    fn new(plugin: &'static str) -> Self {
        let dir = tempfile::Builder::new().prefix("ksi-author-").tempdir().unwrap();
        Author { dir, plugin }
    }

    /// Makes the plugin and develops it.
    fn dev(&self) -> Running {
        let typed = format!("ksi new {0} && cd {0} && ksi dev", self.plugin);
        Running::start(&mut self.terminal(&typed))
    }

    /// The place of a file of the plugin's.
    fn file(&self, file: &str) -> PathBuf {
        self.dir.path().join(self.plugin).join(file)
    }

    /// A terminal in the folder in which this is typed.
    fn terminal(&self, typed: &str) -> Command {
        let mut shell = Command::new("bash");
        // So that its process is the one that is ended if the test fails.
        shell.args(["-euc", &typed.replace("ksi dev", "exec ksi dev")]).current_dir(&self.dir);
        with_ksi_in_path(&mut shell);
        for_outside_crates_apart(&mut shell);
        for name in ["KSI_SOCKET", "KSI_CONFIG", "KSI_LOG", "CARGO_TERM_COLOR", "NO_COLOR"] {
            shell.env_remove(name);
        }
        // Of a session, as each user has one.
        shell.env("XDG_RUNTIME_DIR", self.dir.path()).env("XDG_STATE_HOME", self.dir.path());
        if isolated::is_on() {
            shell.env("KSI_CONFIG", isolated::config_in(self.dir.path()));
        }
        shell
    }

    fn typed(&self, line: &str) -> Ran {
        Running::start(&mut self.terminal(line)).ended()
    }

    fn client(&self) -> Client {
        Client::connect(&self.dir.path().join("ksi/daemon.sock"))
    }

    /// What the plugin says to Ada.
    fn answer(&self) -> Value {
        let event = format!("{}:greet", self.plugin);
        self.client().emit(&event, json!({"name": "Ada"}))["text"].take()
    }

    fn source(&self) -> PathBuf {
        self.file("src/lib.rs")
    }

    /// Saves the plugin with another greeting than `Hello`.
    fn save(&self, template: &str, greeting: &str) {
        fs::write(self.source(), template.replace("Hello", greeting)).unwrap();
    }
}

/// Waits for the line that tells that a host is ready, and gives those before it. Before that all
/// is compiled.
#[track_caller]
fn ready(dev: &Running) -> Vec<String> {
    let (began, mut before) = (Instant::now(), Vec::new());
    loop {
        match dev.line_soon() {
            Some(line) if line.starts_with("ready on ") => return before,
            Some(line) => before.push(line),
            None => assert!(began.elapsed() < 10 * PATIENCE, "not ready: {}", dev.stderr()),
        }
    }
}

/// What cargo says that its last build took.
fn of_cargo(stderr: &str) -> Duration {
    let line = stderr.lines().rfind(|line| line.contains("Finished `dev`")).unwrap();
    let took = line.rsplit(" in ").next().unwrap();
    let parts = took.split_whitespace().map(|part| match part.strip_suffix('m') {
        Some(minutes) => 60.0 * minutes.parse::<f64>().unwrap(),
        None => part.trim_end_matches('s').parse().unwrap(),
    });
    Duration::from_secs_f64(parts.sum())
}

#[test]
fn from_an_empty_folder_to_an_answer_and_from_a_save_to_live_nothing_else_is_typed() {
    let author = Author::new("greeter");
    let began = Instant::now();
    let mut dev = author.dev();
    let told = ready(&dev).join("\n");
    let readme = fs::read_to_string(author.file("README.md")).unwrap();
    let example = readme.lines().find(|line| line.starts_with("ksi emit ")).unwrap();
    assert_eq!(author.typed(example).ok(), "{\"text\":\"Hello, Ada!\"}\n");
    eprintln!("from an empty folder to an answer: {:?}", began.elapsed());
    let example = example.split('#').next().unwrap().trim_end();
    assert!(told.contains(example), "`ksi new` shows it as well: {told}");

    let template = fs::read_to_string(author.source()).unwrap();
    let saved = Instant::now();
    author.save(&template, "Good day");
    until_built("the save is live", || author.answer(), |text| text == "Good day, Ada!");
    let (live, cargo) = (saved.elapsed(), of_cargo(&dev.stderr()));
    eprintln!("from a save to live: {live:?}, of which cargo says that it took {cargo:?}");
    let is_told = |text: &String| text.contains("generation=2");
    let told = until_built("what went live is told", || dev.stderr(), is_told);
    let own = |line: &&str| line.contains("generation=2") || line.contains("ksi::dev");
    assert_eq!(told.lines().filter(own).count(), 1, "one line tells what went live: {told}");

    author.save(&template.replace("Ok(Greeting", "Ok(Greetin"), "Good night");
    let is_told = |text: &String| text.contains("not built: greeter");
    let told = until_built("the mistake is told", || dev.stderr(), is_told);
    for of_cargo in ["error[E0422]: cannot find struct", "--> src/lib.rs:", "could not compile"] {
        assert!(told.contains(of_cargo), "{of_cargo}: {told}");
    }
    assert_eq!(author.answer(), "Good day, Ada!", "what was live stays live");

    author.save(&template, "Good evening");
    until_built("the correction is live", || author.answer(), |text| text == "Good evening, Ada!");

    const FAILS: &str = "impl Greeter {\n    #[initialize]\n    async fn start(_: &Context, _: Value) -> Result<Self> {\n        \
                         Err(Error::new(\"no\", \"no luck today\"))\n    }\n";
    author.save(&template.replace("impl Greeter {", FAILS), "Never");
    let is_told = |text: &String| text.contains("no luck today");
    let told = until_built("the refusal is told", || dev.stderr(), is_told);
    let lines: Vec<_> = told.lines().filter(|line| line.contains("no luck today")).collect();
    assert_eq!(lines.len(), 1, "one line tells what was refused, and why: {lines:?}");
    assert!(lines[0].contains("did not initialize"), "{lines:?}");
    assert_eq!(author.answer(), "Good evening, Ada!");

    author.typed("ksi stop").ok();
    let ended = dev.ended();
    assert!(!(ended.stdout + &ended.stderr).contains('\u{1b}'), "a pipe gets plain text");
}

#[test]
fn what_is_saved_while_cargo_builds_is_live_in_the_end_and_stays_so() {
    let author = Author::new("saved-often");
    let dev = author.dev();
    ready(&dev);
    let template = fs::read_to_string(author.source()).unwrap();
    let seen = |what: &str| dev.stderr().matches(what).count();
    // While it compiles, and at the moment at which it is done.
    for (round, moment) in ["Compiling saved-often", "Finished `dev`"].into_iter().enumerate() {
        let [first, second] = ["first", "second"].map(|it| format!("{it} of {round}"));
        let (moments, builds) = (seen(moment), seen("Finished `dev`"));
        author.save(&template, &first);
        until_built("cargo builds the first", || seen(moment), |now| *now > moments);
        author.save(&template, &second);
        let said = format!("{second}, Ada!");
        until_built("the second is live", || author.answer(), |text| *text == *said);
        until_built("both are built", || seen("Finished `dev`"), |now| *now >= builds + 2);
        assert_eq!(author.answer(), said);
        let library = fs::read(author.file("target/ksi/plugins/libsaved_often.so")).unwrap();
        let has = |text: &str| library.windows(text.len()).any(|at| at == text.as_bytes());
        assert!(has(&second) && !has(&first), "the library that was built last lies there");
    }
    author.typed("ksi stop").ok();
}

#[test]
fn on_a_terminal_cargo_has_its_colours() {
    if !Command::new("script").arg("--version").output().is_ok_and(|ran| ran.status.success()) {
        eprintln!("SKIPPED: there is no `script`, which makes a terminal");
        return;
    }
    let author = Author::new("coloured");
    author.typed("ksi new coloured").ok();
    let mut dev = author.terminal("cd coloured && exec script -qefc 'ksi dev' /dev/null");
    let mut dev = Running::start(dev.env("TERM", "xterm"));
    until_ready(&dev);
    author.typed("ksi stop").ok();
    let told = dev.ended().stdout;
    assert!(told.contains("\u{1b}[1m\u{1b}[92m    Finished\u{1b}[0m"), "{told:?}");
}

fn until_ready(dev: &Running) {
    let began = Instant::now();
    while !dev.stdout().contains("ready on ") {
        assert!(began.elapsed() < 10 * PATIENCE, "not ready: {}", dev.stdout());
        dev.line_soon();
    }
}

#[test]
fn what_it_tells_may_go_into_a_file_of_the_crate_without_building_that_for_ever() {
    let author = Author::new("written-down");
    author.typed("ksi new written-down").ok();
    let log = author.file("told");
    let mut dev = Running::start(&mut author.terminal("cd written-down && ksi dev > told 2>&1"));
    let told = || fs::read_to_string(&log).unwrap_or_default();
    let began = Instant::now();
    while !told().contains("ready on ") {
        assert!(began.elapsed() < 10 * PATIENCE && !dev.has_ended(), "not ready: {}", told());
        std::thread::yield_now();
    }
    let template = fs::read_to_string(author.source()).unwrap();
    author.save(&template, "Good day");
    until_built("the save is live", || author.answer(), |text| text == "Good day, Ada!");
    // A build that is followed by the next one takes less than that.
    let rests = || {
        let before = told();
        thread::sleep(Duration::from_secs(1));
        before == told()
    };
    until_built("it comes to rest", rests, |rests| *rests);
    let builds = told().matches("Finished `dev`").count();
    assert_eq!(builds, 2, "at first, and after the save: {}", told());
    let modules = author.client().emit("module:list", json!({}))["modules"].take();
    assert_eq!(modules[0].state(), ModuleState::Live);
    author.typed("ksi stop").ok();
}
