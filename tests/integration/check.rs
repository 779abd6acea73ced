//! `ksi check`: what a host would say of files, without a host, and of one that runs.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use serde_json::{Value, json};

use crate::{
    bad_files::bad_files,
    causes::{FLAGS, FLAGS_1, NODELETE, STATIC_TLS, linked},
    contracts::{self, built, two_that_do_not_agree},
    kit::{HostBuilder, Library, Ran, Running, TestHost, children, ksi_command, put, until},
    python::is_there,
    refused_code::{manifest_of_mine, with_constructor},
};

/// Runs `ksi check` in the folder of a test, with its configuration, and nothing that it keeps
/// elsewhere.
fn check(dir: &Path, arguments: &[&str]) -> Ran {
    let mut command = ksi_command(&[&["check"], arguments].concat());
    let temporary = dir.join("check-tmp");
    fs::create_dir_all(&temporary).unwrap();
    command.env("TMPDIR", &temporary).env("XDG_STATE_HOME", dir.join("state-home"));
    let ran = Running::start(command.current_dir(dir)).ended();
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "its copies are removed: {ran:#?}");
    ran
}

/// What it says of each file, by the file's name.
fn verdicts(ran: &Ran) -> BTreeMap<String, Value> {
    let answer: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let of_each = answer["checked"].as_array().unwrap().iter();
    let ok = of_each.clone().all(|it| it["ok"] == true);
    assert_eq!((answer["ok"].as_bool(), ran.code), (Some(ok), Some(i32::from(!ok))));
    of_each.map(|it| (name_of(&it["file"]), it.clone())).collect()
}

fn name_of(file: &Value) -> String {
    Path::new(file.as_str().unwrap()).file_name().unwrap().to_str().unwrap().to_owned()
}

/// Files of every kind that a host refuses, for whatever reason.
fn with_bad_files() -> HostBuilder {
    // One that hangs is given up soon, and what may pass is not tried again.
    let mut builder = TestHost::builder()
        .config("[host]\nuntrusted_plugins = 'refuse'\n[timeouts]\nprobe = '5s'")
        .config("[recovery]\nfirst = '1h'\nlongest = '1h'");
    for (name, library, _) in bad_files() {
        builder = builder.plugin(&format!("{name}.so"), &library);
    }
    let [shop, stock] = two_that_do_not_agree();
    let (chaos, torn) = (Library::chaos(), Library::chaos().0);
    let builder = builder
        .plugin("torn.so", &Library(torn[..torn.len() / 2].to_vec()))
        .plugin("older.so", &chaos.clone().of_abi(3))
        .plugin("needs.so", &chaos.clone().with("libgcc_s.so.1", "libgcc_x.so.1"))
        .plugin("subscribes.so", &chaos.clone().with("\"chaos:echo\"", "\"chaos::ech\""))
        .plugin("written.so", &chaos.clone().named("chao1"))
        .plugin("good.so", &chaos.clone().named("chao2"))
        .plugin("shop.so", &shop)
        .plugin("stock.so", &stock)
        .plugin("twin.so", &chaos.clone().named("chao2"))
        .plugin("requires.so", &Library::counter(1).requiring(&["no:body", "system:health"]))
        .plugin("satisfied.so", &Library::counter(1).called("another").requiring(&["chaos:echo"]));
    let file = |name: &str| builder.plugins().join(name);
    fs::set_permissions(file("written.so"), fs::Permissions::from_mode(0o666)).unwrap();
    fs::create_dir(file("folder.so")).unwrap();
    symlink("nowhere", file("broken.so")).unwrap();
    for (name, does) in [("crash.so", &["crash"][..]), ("hang.so", &["hang"]), ("hollow.so", &[])] {
        let library = with_constructor(builder.dir(), name, does, Some(&manifest_of_mine()));
        fs::rename(library, file(name)).unwrap();
    }
    if is_there() {
        const HANDLER: &str = "from ksi.events import event_handler\n\n@event_handler";
        for (name, text) in [
            ("syntax.py", "def f(:\n    pass\n".to_owned()),
            ("no_name.py", format!("{HANDLER}('a::b')\nasync def set(data): pass\n")),
            (
                "no_package.py",
                format!("import no_such_package\n{HANDLER}('a:b')\ndef f(data): pass\n"),
            ),
            ("exits.py", format!("{HANDLER}('a:b')\ndef f(data): pass\nimport os\nos._exit(3)\n")),
            ("well.py", format!("{HANDLER}('py:ask')\ndef ask(data): return data\n")),
        ] {
            put(&file(name), text.as_bytes());
        }
    }
    builder
}

/// A text without the places of private copies, which are others each time.
fn without_copies(text: &str, dir: &Path) -> String {
    let mut text = text.to_owned();
    for temporary in ["tmp", "check-tmp"] {
        let copies = format!("{}/ksi-", dir.join(temporary).display());
        while let Some(at) = text.find(&copies) {
            let end = text[at..].find(".so").unwrap_or_default() + ".so".len();
            text.replace_range(at..at + end, "COPY");
        }
    }
    text
}

#[test]
fn each_file_that_a_host_refuses_is_refused_in_its_words_and_no_other() {
    let builder = with_bad_files();
    let (dir, plugins) = (builder.dir().to_owned(), builder.plugins());
    let host = builder.start();
    let modules = host.modules();
    let config = dir.join("ksi.toml").to_str().unwrap().to_owned();
    let checked = check(&dir, &["--json", "--config", &config, plugins.to_str().unwrap()]);
    let checked = verdicts(&checked);
    assert_eq!(checked.len(), modules.len());
    let in_words = |reason: &Value| reason.as_str().map(|it| without_copies(it, &dir));
    let both = |module: &Value| {
        let verdict = &checked[&name_of(&module["file"])];
        assert_eq!(verdict["ok"], verdict["reason"].is_null());
        [in_words(&module["last_error"]), in_words(&verdict["reason"])]
    };
    let both: Vec<_> = modules.iter().map(both).collect();
    let differ: Vec<_> = both.iter().filter(|[host, check]| host != check).collect();
    assert!(differ.is_empty(), "a host and `ksi check` say: {differ:#?}");
    let refused = both.iter().filter(|[host, _]| host.is_some()).count();
    let well = if is_there() { 4 } else { 3 };
    assert_eq!(modules.len() - refused, well, "{modules:#?}");
    let reason = |name: &str| checked[name]["reason"].as_str().unwrap();
    for (name, words) in [
        ("needs.so", "libgcc_x.so.1"),
        ("crash.so", "ended a probe process"),
        ("hang.so", "did not end within 5s"),
        ("written.so", "may be written to by"),
        ("subscribes.so", "has a bad subscription"),
        ("stock.so", "shop 2.0.0, which is live, sends order:placed"),
        ("twin.so", "which is live"),
        ("requires.so", "requires no:body, which nobody handles"),
    ] {
        assert!(reason(name).contains(words), "{name}: {}", reason(name));
    }
}

#[test]
fn what_is_well_is_told_with_what_is_to_mind_and_no_host_is_there() {
    let builder = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .plugin("counter.so", &Library::counter(7).requiring(&["chaos:echo"]));
    let dir = builder.dir();
    let told = check(dir, &["plugins/chaos.so"]).ok();
    let file = dir.join("plugins/chaos.so");
    assert_eq!(told, format!("ok: chaos 0.1.0, {}\n", file.display()));
    let told = check(dir, &["plugins/counter.so"]).ok();
    let mut lines = told.lines();
    assert!(lines.next().unwrap().starts_with("ok: counter 7.0.0, "), "{told}");
    assert!(lines.next().unwrap().starts_with("  mind: it requires chaos:echo: "), "{told}");
    assert_eq!(lines.next(), None, "{told}");
    for together in [&["plugins"][..], &["plugins/counter.so", "plugins/chaos.so"]] {
        let told = check(dir, together).ok();
        assert!(!told.contains("mind") && told.lines().count() == 2, "{told}");
    }
    let checked = verdicts(&check(dir, &["--json", "plugins"]));
    assert_eq!(checked["counter.so"]["plugin"]["requires"], json!(["chaos:echo"]));
    assert_eq!(checked["chaos.so"]["remarks"], json!([]));
    assert!(!dir.join("state-home").exists(), "nothing is kept");
}

#[test]
fn how_a_library_is_linked_has_a_line_of_its_own_each() {
    let builder = TestHost::builder()
        .plugin("tls.so", &linked(FLAGS, STATIC_TLS, 1))
        .plugin("stays.so", &linked(FLAGS_1, NODELETE, 1));
    let dir = builder.dir();
    for (file, begin, end) in [
        ("tls.so", "  mind: each generation of it takes ", " bytes of static TLS, "),
        ("stays.so", "  mind: it was linked with `-z nodelete`, ", "never leaves memory, "),
    ] {
        let told = check(dir, &[&format!("plugins/{file}")]).ok();
        let (well, minds) = told.split_once('\n').unwrap();
        assert!(well.starts_with("ok: chaos ") && minds.lines().count() == 1, "{told}");
        let of_it = minds.strip_prefix(begin).and_then(|rest| rest.split_once(end));
        let between = of_it.unwrap_or_else(|| panic!("{file}: {told}")).0;
        // Of thread-locals that are there, and not of none.
        assert!(file != "tls.so" || between.parse::<u64>().is_ok_and(|it| it > 0), "{told}");
        let remarks = verdicts(&check(dir, &["--json", &format!("plugins/{file}")]));
        assert_eq!(remarks[file]["remarks"].as_array().unwrap().len(), 1, "{remarks:?}");
    }
}

#[test]
fn it_is_tried_with_the_configuration_of_its_host() {
    let builder = TestHost::builder().plugin("chaos.so", &Library::chaos());
    let dir = builder.dir();
    let with = |line: &str| {
        fs::write(dir.join("its.toml"), format!("[plugin.chaos]\n{line}\n")).unwrap();
        check(dir, &["plugins/chaos.so", "--config", "its.toml"])
    };
    let dies = with("init_crash = 'abort'");
    assert!(dies.stdout.starts_with("no: "), "{dies:#?}");
    assert!(dies.stdout.contains("initializing an instance of it"), "{dies:#?}");
    assert_eq!(dies.fails(1), "");
    // Somebody may have to be there for it, so it is a host that judges that.
    let told = with("init = 'fail'").ok();
    assert!(told.contains("mind: it may not start: its initialize fails in a trial: "), "{told}");
}

#[test]
fn what_cannot_be_checked_is_not_taken_for_well() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("empty")).unwrap();
    let told = check(dir.path(), &["empty"]).fails(2);
    assert!(told.contains("there is no plugin file in empty"), "{told}");
    check(dir.path(), &[]).fails(2);
    let missing = check(dir.path(), &["missing.so"]);
    assert!(missing.stdout.contains("missing.so is not there"), "{missing:#?}");
    missing.fails(1);
}

#[test]
fn a_file_is_held_against_the_plugins_of_a_folder_and_the_version_there() {
    let (contracts, builder) = (built(), TestHost::builder());
    let builder =
        builder.plugin("shop.so", &contracts.shop[0]).plugin("stock.so", &contracts.stock[0]);
    let dir = builder.dir();
    fs::create_dir(dir.join("new")).unwrap();
    let new = |name: &str, library: &Library| put(&dir.join("new").join(name), &library.0);
    new("libshop.so", &contracts.shop[1]);
    // By itself it is well.
    check(dir, &["new/libshop.so"]).ok();
    let refused = check(dir, &["new/libshop.so", "--against", "plugins"]);
    for part in ["2.0.0 of shop", "stock 1.0.0", "order:placed", "/total", "removed"] {
        assert!(refused.stdout.contains(part), "{part} is missing: {refused:#?}");
    }
    refused.fails(1);
    // What changes together passes as that, and clients are warned of.
    new("libshop.so", &contracts.shop[2]);
    new("libstock.so", &contracts.stock[2]);
    check(dir, &["new/libshop.so", "--against", "plugins"]).fails(1);
    check(dir, &["new/libstock.so", "--against", "plugins"]).fails(1);
    for together in [
        &["new", "--against", "plugins"][..],
        &["new/libshop.so", "new/libstock.so", "--against", "plugins"],
    ] {
        let checked = verdicts(&check(dir, &[&["--json"], together].concat()));
        assert_eq!(checked.len(), 2, "{checked:?}");
        let remarks = checked["libstock.so"]["remarks"].to_string();
        assert!(remarks.contains("it replaces stock 1.0.0"), "{remarks}");
        assert!(remarks.contains("clients could send order:placed"), "{remarks}");
    }
    // Against itself, and beside one that no host takes.
    fs::write(dir.join("plugins/torn.so"), "no library").unwrap();
    let told = check(dir, &["plugins/shop.so", "--against", "plugins"]).ok();
    assert!(told.contains("torn.so was left out, which is refused: "), "{told}");
    assert!(!told.contains("clients"), "{told}");
    // Who has named the folder wrongly is not told that all is well.
    for none in ["pluggins", "new/libshop.so"] {
        let refused = check(dir, &["new/libstock.so", "--against", none]).fails(2);
        assert!(refused.contains(&format!("{none} is no folder of plugins")), "{refused}");
    }
    // The policy is that of the configuration.
    fs::write(dir.join("its.toml"), "[contracts]\npolicy = 'off'\n").unwrap();
    new("libshop.so", &contracts.shop[1]);
    check(dir, &["new/libshop.so", "--against", "plugins", "--config", "its.toml"]).ok();
}

#[test]
fn a_host_that_runs_says_of_a_file_what_becomes_of_it_and_nothing_does() {
    let (host, contracts) = (contracts::host(""), built());
    let path = |name: &str| host.dir().join(name).to_str().unwrap().to_owned();
    let (shop, stock) = (path("libshop.so"), path("libstock.so"));
    let before = host.modules();
    let held = host.resources();
    put(shop.as_ref(), &contracts.shop[1].0);
    let refused = host.ksi(&["check", &shop, "--live"]);
    let reason = refused.stdout.trim_start_matches("no: ").to_owned();
    assert!(reason.contains("stock 1.0.0") && reason.contains("/total"), "{refused:#?}");
    refused.fails(1);
    put(shop.as_ref(), &contracts.shop[2].0);
    put(stock.as_ref(), &contracts.stock[2].0);
    let told = host.ksi(&["check", &shop, &stock, "--live"]).ok();
    assert!(told.contains("ok: shop 3.0.0, ") && told.contains("ok: stock 3.0.0, "), "{told}");
    let live = host.file("shop.so");
    let replaced = format!("mind: put in place of {}, it replaces shop 1.0.0", live.display());
    assert!(told.contains(&replaced), "{told}");
    let twice = host.ksi(&["check", &shop, host.file("shop.so").to_str().unwrap(), "--live"]);
    assert!(twice.stdout.contains("shop"), "{twice:#?}");
    twice.fails(1);
    let same = host.ksi(&["check", live.to_str().unwrap(), "--live"]).ok();
    assert!(same.contains("mind: it replaces shop 1.0.0"), "{same}");
    let once = host.ksi(&["check", "--live", &shop, &shop, &stock]).ok();
    assert_eq!(once.matches("ok: ").count(), 2, "{once}");
    assert_eq!(check(host.dir(), &["plugins", "plugins/shop.so"]).ok().lines().count(), 2);
    let many: Vec<String> = (0..17).map(|number| path(&format!("{number}.so"))).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(host.ksi(&[&["check", "--live"], &*many].concat()).fails(1).contains("16"));
    // Nothing of it counts, or is kept.
    assert_eq!(host.modules(), before);
    assert_eq!(host.resources().libraries, held.libraries);
    // It says the same when it counts.
    host.drop_in("shop.so", &contracts.shop[1]);
    let said = until("it is refused", || host.module("shop"), |it| it["last_error"].is_string());
    let said = said["last_error"].as_str().unwrap();
    let of_contract =
        |text: &str| text[text.find("version 2.0.0").unwrap()..].replace([' ', '\n'], "");
    assert!(of_contract(&reason).starts_with(&of_contract(said)), "{reason}\n{said}");
}

#[test]
fn a_file_is_tried_with_the_state_of_the_live_version() {
    let host = TestHost::builder().plugin("counter.so", &Library::counter(1)).start();
    host.until_live("counter", 1);
    host.client().emit("counter:increment", json!({"name": "a"}));
    let file = host.dir().join("libcounter.so");
    put(&file, &Library::counter(2).does("restore=fail").0);
    check(host.dir(), &["libcounter.so"]).ok();
    let refused = host.ksi(&["check", file.to_str().unwrap(), "--live"]);
    assert!(refused.stdout.contains("restore fails on purpose"), "{refused:#?}");
    refused.fails(1);
    put(&file, &Library::counter(2).0);
    host.ksi(&["check", file.to_str().unwrap(), "--live"]).ok();
    assert_eq!(host.module("counter")["version"], "1.0.0");
    assert_eq!(host.client().reply("counter:increment", json!({"name": "a"}))["data"]["value"], 2);
}

#[test]
fn a_module_that_a_host_only_looks_at_is_no_generation_of_its_plugin() {
    if !is_there() {
        return;
    }
    let module = |version: u32| {
        format!(
            "from ksi.events import event_handler\n__version__ = \"{version}\"\n\
             @event_handler(\"store:get\")\nasync def get(data):\n    return {version}\n"
        )
    };
    let builder = TestHost::builder();
    put(&builder.plugins().join("store.py"), module(1).as_bytes());
    let host = builder.start();
    host.until_live("store", 1);
    let mut watcher = host.client();
    watcher.subscribe(&["module:retired", "module:reloaded"]);
    let processes = || children(host.process.id()).len();
    let before = processes();
    let file = host.dir().join("store.py");
    put(&file, module(2).as_bytes());
    for _ in 0..3 {
        host.ksi(&["check", file.to_str().unwrap(), "--live"]).ok();
    }
    host.ksi(&["check", host.file("store.py").to_str().unwrap(), "--live"]).ok();
    until("what was looked at is gone", processes, |left| *left <= before);
    assert_eq!(host.module("store")["retired"], json!([]));
    // The first that is told of after that is the next generation.
    host.drop_in("store.py", &Library(module(2).into_bytes()));
    let told = watcher.push();
    assert_eq!(told["event"], "module:reloaded", "{told}");
    assert_eq!(told["data"]["generation"], 2, "{told}");
}

#[test]
fn modules_of_a_folder_are_opened_a_few_at_a_time_as_each_has_its_time() {
    if !is_there() {
        return;
    }
    let builder = TestHost::builder();
    let (dir, told) = (builder.dir(), builder.dir().join("opened"));
    let cores = std::thread::available_parallelism().unwrap().get();
    for number in 0..cores + 4 {
        let text = format!(
            "import time\nfrom ksi.events import event_handler\n\
             def tell(what):\n    open({told:?}, \"a\").write(what)\n\
             tell(\"+\")\ntime.sleep(0.2)\ntell(\"-\")\n\
             @event_handler(\"m{number}:get\")\nasync def get(data):\n    return 1\n"
        );
        put(&builder.plugins().join(format!("m{number}.py")), text.as_bytes());
    }
    check(dir, &["plugins"]).ok();
    let (mut open, mut most) = (0, 0);
    for what in fs::read_to_string(&told).unwrap().chars() {
        open = if what == '+' { open + 1 } else { open - 1 };
        most = most.max(open);
    }
    assert!(most <= cores, "{most} at once");
}
