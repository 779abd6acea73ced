//! The last good snapshot is never the one that is given up: what a plugin starts from, what going
//! back costs, and what people can do with what is kept.

use std::{fs, path::Path};

use ksi_wire::module::ModuleState;
use serde_json::{Value, json};

use crate::kit::{HostBuilder, Library, States, TestHost, counters, error_of, until};

const HERE: &str = "[state]\ndir = 'state'";
const OFTEN: &str = "[state]\ndir = 'state'\ninterval = '20ms'";

/// The last value.
#[track_caller]
fn increment(host: &TestHost, times: u64) -> u64 {
    let mut client = host.client();
    let mut one = || client.emit("counter:increment", json!({"name": "a"}))["value"].as_u64();
    (0..times).map(|_| one().unwrap()).last().unwrap()
}

#[track_caller]
fn value(host: &TestHost) -> Option<u64> {
    counters(&mut host.client()).get("a").copied()
}

/// A host with the counter that has counted to 3, was stopped and started, counted on to 7 and was
/// stopped.
#[track_caller]
fn counted_in_two_runs() -> HostBuilder {
    let builder = TestHost::builder().plugin("counter.so", &Library::counter(1)).config(HERE);
    let host = builder.start();
    increment(&host, 3);
    let host = host.stopped().start();
    assert_eq!(increment(&host, 4), 7);
    let is_good = || fs::read_to_string(host.dir().join("state/counter.good")).unwrap_or_default();
    until("what it was restored from is kept", is_good, |text| text.contains(r#"["a",3]"#));
    host.stopped()
}

/// Writes a complete snapshot with this content, as a host would.
fn put_snapshot(dir: &Path, which: &str, version: u32, content: &str) {
    let (bytes, hash) = (content.len(), blake3::hash(content.as_bytes()).to_hex());
    let checked = format!(
        "{{\"ksi_snapshot\":1,\"plugin\":\"counter\",\"version\":{version},\"plugin_version\":\"1.0.0\",\
         \"written_ms\":1760000000000,\"bytes\":{bytes},\"blake3\":\"{hash}\",\"check\":\""
    );
    let check = blake3::hash(checked.as_bytes()).to_hex();
    let file = format!("{checked}{check}\"}}\n{content}");
    fs::write(dir.join("state").join(format!("counter.{which}")), file).unwrap();
}

/// What is kept of the counter.
#[track_caller]
fn kept(host: &TestHost) -> Vec<String> {
    let answer = host.client().emit("module:state_list", json!({"module_name": "counter"}));
    let snapshots = answer["snapshots"].as_array().unwrap();
    snapshots.iter().map(|it| it["which"].as_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn shown(host: &TestHost, which: &str) -> Value {
    serde_json::from_str(&host.ksi(&["state", "show", "counter", which]).ok()).unwrap()
}

#[test]
fn a_plugin_starts_from_the_newest_snapshot_that_it_can_read_and_the_others_are_kept() {
    let builder = counted_in_two_runs();
    // What a host before this one wrote of a NaN: complete, and with a null where a number is read.
    put_snapshot(builder.dir(), "snapshot", 3, r#"{"counters":[["a",null]],"passed":[]}"#);
    put_snapshot(builder.dir(), "previous", 3, r#"{"counters":[["a",null]],"passed":["x"]}"#);
    let host = builder.start();
    assert_eq!(value(&host), Some(3), "from the one that it was restored from before");
    let module = host.module("counter");
    let notice = module["state_notice"].as_str().unwrap();
    for words in ["counter.good", "counter.snapshot cannot be read by it", "aside-1", "aside-2"] {
        assert!(notice.contains(words), "{words}: {notice}");
    }
    for command in [&["list"][..], &["inspect", "counter"]] {
        assert!(host.ksi(command).ok().contains("started from an older snapshot"));
    }
    assert_eq!(kept(&host)[..1], ["good"]);
    assert!(kept(&host).ends_with(&["aside-1".to_owned(), "aside-2".to_owned()]));
    assert_eq!(shown(&host, "aside-1")["counters"][0][1], Value::Null);

    assert_eq!(increment(&host, 1), 4);
    let host = host.stopped().start();
    assert_eq!((value(&host), &host.module("counter")["state_notice"]), (Some(4), &Value::Null));
}

#[test]
fn where_nothing_can_be_read_the_message_names_the_files_and_the_ways_out() {
    let builder = counted_in_two_runs();
    for which in ["snapshot", "previous", "good"] {
        put_snapshot(builder.dir(), which, 3, r#"{"counters":7}"#);
    }
    let before = fs::read(builder.dir().join("state/counter.snapshot")).unwrap();
    let host = builder.start();
    let reason = host.until_refused("counter.so");
    let ways = ["ksi state list counter", "ksi state restore counter", "ksi state drop counter"];
    let files = ["counter.snapshot (", "counter.previous (", "counter.good (", "invalid type"];
    for words in files.into_iter().chain(ways) {
        assert!(reason.contains(words), "{words}: {reason}");
    }
    assert_eq!(fs::read(host.dir().join("state/counter.snapshot")).unwrap(), before);
    let file = host.file("counter.so");
    host.ksi(&["load", file.to_str().unwrap()]).fails(1);
    let dropped = host.ksi(&["state", "drop", "counter"]).ok();
    assert_eq!(dropped, "dropped newest, previous, good of counter\n");
    host.ksi(&["load", file.to_str().unwrap()]).ok();
    assert_eq!(value(&host), None);
}

#[test]
fn a_restore_that_fails_is_not_gone_round_with_older_state() {
    let builder = counted_in_two_runs();
    let failing = Library::counter(2).does("restore_in_host=fail");
    let host = builder.plugin("counter.so", &failing).start();
    let reason = host.until_refused("counter.so");
    for words in ["counter.snapshot was not restored", "fails on purpose", "ksi state list counter"]
    {
        assert!(reason.contains(words), "{words}: {reason}");
    }
    host.drop_in("counter.so", &Library::counter(3));
    host.until_version("counter", "3.0.0");
    assert_eq!(value(&host), Some(7));
}

#[test]
fn what_a_plugin_was_restored_from_outlives_the_newer_snapshots() {
    let builder = TestHost::builder().plugin("counter.so", &Library::counter(1)).config(OFTEN);
    let host = builder.start();
    increment(&host, 3);
    let host = host.stopped().start();
    let content = |kind: &str| {
        fs::read_to_string(host.dir().join(format!("state/counter.{kind}"))).unwrap_or_default()
    };
    for count in 4..=8 {
        increment(&host, 1);
        let newest = || content("snapshot");
        until("it is kept", newest, |text| text.contains(&format!(r#"["a",{count}]"#)));
        let good = || content("good");
        until("so is what it was restored from", good, |text| text.contains(r#"["a",3]"#));
    }
    // What was handed over to a new generation was restored as well.
    host.drop_in("counter.so", &Library::counter(2));
    host.until_version("counter", "2.0.0");
    until("it is the good one", || content("good"), |text| text.contains(r#"["a",8]"#));
}

/// A version that the state goes on in, and one whose snapshots the first one cannot read.
fn old_and_new() -> [Library; 2] {
    [Library::counter(1).keeping("[2,1]", "[2,1]"), Library::counter(2).keeping("[3]", "[3,2,1]")]
}

#[test]
fn a_rollback_that_gives_up_state_says_what_it_costs_and_asks_for_force() {
    let [old, new] = old_and_new();
    let host = TestHost::builder().plugin("counter.so", &old).config(HERE).start();
    increment(&host, 2);
    host.drop_in("counter.so", &new);
    host.until_version("counter", "2.0.0");
    assert_eq!(increment(&host, 4), 6);

    let refused = host.ksi(&["rollback", "counter"]).fails(1);
    for words in
        ["would give up what 4 calls", "[3]", "[2, 1]", "--force", "ksi state list counter"]
    {
        assert!(refused.contains(words), "{words}: {refused}");
    }
    let reply = host.client().reply("module:rollback", json!({"module_name": "counter"}));
    assert_eq!(reply["data"]["code"], "loses_state", "{reply}");
    let module = host.module("counter");
    assert_eq!((&module["version"], &module["quarantined"]), (&json!("2.0.0"), &Value::Null));
    assert_eq!(value(&host), Some(6), "nothing has happened, but for one more call");

    let mut watcher = host.client();
    watcher.subscribe(&["module:rolled_back"]);
    let said = host.ksi(&["rollback", "counter", "--force"]).ok();
    for words in ["rolled back counter to 1.0.0", "gave up what 5 calls", "kept as aside-1"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let told = watcher.push_of("module:rolled_back");
    assert_eq!((&told["state"], &told["lost"]["calls"]), (&json!("as_of_the_swap"), &json!(5)));
    assert_eq!(told["kept_aside"], "aside-1");
    assert_eq!(value(&host), Some(2));
    assert_eq!(shown(&host, "aside-1")["counters"], json!([["a", 6]]));

    // The version that reads it goes on from there.
    host.ksi(&["reload", "counter"]).ok();
    assert_eq!(value(&host), Some(2));
    host.ksi(&["state", "restore", "counter", "aside-1"]).ok();
    assert_eq!(value(&host), Some(6));
}

#[test]
fn a_rollback_from_a_version_that_gives_no_snapshot_asks_for_force_as_well() {
    let old = Library::counter(1).keeping("[2,1]", "[2,1]");
    let host = TestHost::builder().plugin("counter.so", &old).config(HERE).start();
    increment(&host, 2);
    host.drop_in("counter.so", &Library::counter(2).does("snapshot=fail"));
    host.until_version("counter", "2.0.0");
    assert_eq!(increment(&host, 3), 5);
    let refused = host.ksi(&["rollback", "counter"]).fails(1);
    for words in ["3 calls", "snapshot fails on purpose", "--force"] {
        assert!(refused.contains(words), "{words}: {refused}");
    }
    assert_eq!(
        (value(&host), host.module("counter")["version"].clone()),
        (Some(5), json!("2.0.0"))
    );
    let said = host.ksi(&["rollback", "counter", "--force"]).ok();
    assert!(said.contains("rolled back counter to 1.0.0"), "{said}");
    assert_eq!(value(&host), Some(2));
}

/// A host whose counter has counted to 6, the last 4 in a version that has stood its probation.
#[track_caller]
fn after_probation(config: &str) -> TestHost {
    let [old, new] = old_and_new();
    let short = format!("{config}\n[reload]\nprobation = '50ms'");
    let host = TestHost::builder().plugin("counter.so", &old).config(&short).start();
    increment(&host, 2);
    host.drop_in("counter.so", &new);
    host.until_module("it is trusted", "counter", |module| {
        module["version"] == "2.0.0" && module["on_probation"] == false
    });
    assert_eq!(increment(&host, 4), 6);
    host
}

#[test]
fn after_its_probation_a_version_is_gone_back_from_with_force_to_the_newest_snapshot_that_can_be_read()
 {
    let host = after_probation(HERE);
    let good = || fs::read_to_string(host.dir().join("state/counter.good")).unwrap_or_default();
    until("what it was restored from is kept", good, |text| {
        text.contains(r#"["a",2]"#) || text.contains(r#""a":2"#)
    });
    let by = |which: &str| {
        let kept = host.client().emit("module:state_list", json!({"module_name": "counter"}));
        let of = kept["snapshots"].as_array().unwrap().iter().find(|it| it["which"] == which);
        of.unwrap()["plugin_version"].clone()
    };
    assert_eq!(by("good"), "1.0.0", "who gave it, and not who was restored from it");
    let refused = host.ksi(&["rollback", "counter"]).fails(1);
    let words = ["would give up what 4 calls", "starts from the snapshot good", "--force"];
    for words in words {
        assert!(refused.contains(words), "{words}: {refused}");
    }
    let mut watcher = host.client();
    watcher.subscribe(&["module:rolled_back"]);
    let said = host.ksi(&["rollback", "counter", "--force"]).ok();
    for words in ["rolled back counter to 1.0.0", "gave up what", "kept as aside-1"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let told = watcher.push_of("module:rolled_back");
    assert_eq!((&told["state"], &told["kept_aside"]), (&json!("older"), &json!("aside-1")));
    assert_eq!(value(&host), Some(2));
    assert_eq!(shown(&host, "aside-1")["counters"], json!([["a", 6]]));
}

#[test]
fn with_force_a_version_starts_from_an_older_snapshot_if_it_does_not_take_the_newest() {
    let old = Library::counter(1).keeping("[1]", "[3,1]").does("restore_3=fail");
    let short = format!("{OFTEN}\n[reload]\nprobation = '50ms'");
    let host = TestHost::builder().plugin("counter.so", &old).config(&short).start();
    increment(&host, 2);
    host.drop_in("counter.so", &Library::counter(2));
    host.until_module("it is trusted", "counter", |module| {
        module["version"] == "2.0.0" && module["on_probation"] == false
    });
    assert_eq!(increment(&host, 4), 6);
    let good = || fs::read_to_string(host.dir().join("state/counter.good")).unwrap_or_default();
    until("what it was restored from is kept", good, |text| {
        text.contains(r#"["a",2]"#) || text.contains(r#""a":2"#)
    });
    let listed = || host.ksi(&["state", "list", "counter"]).ok();
    until("the newest is of the later version", listed, |listed| {
        listed.lines().any(|line| line.contains("newest") && line.contains("2.0.0"))
    });
    let said = host.ksi(&["rollback", "counter", "--force"]).ok();
    for words in ["rolled back counter to 1.0.0", "starts from the snapshot good"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(value(&host), Some(2));
}

#[test]
fn with_force_a_version_starts_empty_if_nothing_that_it_reads_is_kept() {
    let host = after_probation(HERE);
    let good = || host.dir().join("state/counter.good").exists();
    until("what it was restored from is kept", good, |there| *there);
    host.ksi(&["state", "drop", "counter", "good"]).ok();
    let refused = host.ksi(&["rollback", "counter"]).fails(1);
    assert!(refused.contains("starts empty") && refused.contains("--force"), "{refused}");
    let said = host.ksi(&["rollback", "counter", "--force"]).ok();
    assert!(said.contains("kept as aside-1"), "{said}");
    assert_eq!(value(&host), None);
    assert_eq!(shown(&host, "aside-1")["counters"], json!([["a", 6]]));
}

#[test]
fn state_is_not_given_up_by_hand_where_it_cannot_be_kept_aside() {
    let host = after_probation("[state]\npersist = false");
    let refused = host.ksi(&["rollback", "counter"]).fails(1);
    for words in ["keeps no state on disk", "`--force` is refused", "ksi unload counter"] {
        assert!(refused.contains(words), "{words}: {refused}");
    }
    let refused = host.ksi(&["rollback", "counter", "--force"]).fails(1);
    for words in ["cannot be kept aside", "state.dir", "Nothing was changed"] {
        assert!(refused.contains(words), "{words}: {refused}");
    }
    assert_eq!((value(&host), &host.module("counter")["version"]), (Some(6), &json!("2.0.0")));
}

#[test]
fn a_version_that_fails_to_write_the_older_snapshot_is_asked_for_its_own_before_state_is_given_up()
{
    let old = Library::counter(1).keeping("[2,1]", "[2,1]");
    let new = Library::counter(2).keeping("[3,2]", "[3,2]").does("snapshot_2=fail");
    let host = TestHost::builder().plugin("counter.so", &old).config(HERE).start();
    increment(&host, 2);
    host.drop_in("counter.so", &new);
    host.until_version("counter", "2.0.0");
    assert_eq!(increment(&host, 4), 6);
    let said = host.ksi(&["rollback", "counter", "--force"]).ok();
    assert!(said.contains("kept as aside-1"), "{said}");
    assert_eq!(value(&host), Some(2));
    assert_eq!(shown(&host, "aside-1")["counters"], json!([["a", 6]]));
}

#[test]
fn a_host_that_goes_back_by_itself_keeps_the_newer_state_and_tells_what_it_cost() {
    let [old, new] = old_and_new();
    let host = TestHost::builder().plugin("counter.so", &old).config(HERE).start();
    let (mut client, mut watcher) = (host.client(), host.client());
    watcher.subscribe(&["module:rolled_back"]);
    increment(&host, 20);
    host.drop_in("counter.so", &new.does("calls=fail"));
    host.until_version("counter", "2.0.0");
    for _ in 0..4 {
        client.emit("counter:again", json!({"name": "late", "more": 0}));
    }
    let rolled_back = || {
        client.reply("counter:increment", json!({"name": "a"}));
        host.module("counter")["rollbacks"].clone()
    };
    until("it is rolled back", rolled_back, |rollbacks| *rollbacks == 1);
    let told = watcher.push_of("module:rolled_back");
    assert_eq!((&told["automatic"], &told["kept_aside"]), (&json!(true), &json!("aside-1")));
    assert!(told["lost"]["calls"].as_u64() >= Some(4), "{told}");
    assert_eq!(shown(&host, "aside-1")["counters"], json!([["a", 20], ["late", 4]]));
    let now = counters(&mut client);
    assert!(now["a"] >= 20 && !now.contains_key("late"), "{now:?}");
    let ran = host.stop();
    assert!(ran.stderr.contains("going back has given up what"), "{}", ran.stderr);
}

#[test]
fn state_that_is_restored_by_hand_takes_the_place_of_a_live_plugins_own_which_is_kept() {
    let host = counted_in_two_runs().start();
    assert_eq!(increment(&host, 1), 8);
    let said = host.ksi(&["state", "restore", "counter", "previous"]).ok();
    for words in ["restored previous of counter", "generation 2", "kept as aside-1"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(value(&host), Some(3));
    let module = host.module("counter");
    assert_eq!((&module["version"], module.state()), (&json!("1.0.0"), ModuleState::Live));
    let restored = host
        .client()
        .emit("module:state_restore", json!({"module_name": "counter", "which": "aside-1"}));
    assert_eq!((&restored["live"], &restored["kept_aside"]), (&json!(true), &json!("aside-2")));
    assert_eq!(value(&host), Some(8));
    assert_eq!(value(&host.stopped().start()), Some(8));
}

#[test]
fn state_that_is_restored_by_hand_is_what_a_plugin_starts_from_that_is_not_live() {
    let host = counted_in_two_runs().start();
    host.ksi(&["state", "restore", "counter", "previous"]).ok();
    assert_eq!(value(&host), Some(3));
    host.ksi(&["unload", "counter"]).ok();
    let said = host.ksi(&["state", "restore", "counter", "aside-1"]).ok();
    assert!(said.contains("it is not live") && said.contains("kept as aside-2"), "{said}");
    let file = host.file("counter.so");
    host.ksi(&["load", file.to_str().unwrap()]).ok();
    assert_eq!(value(&host), Some(7));
    assert_eq!(shown(&host, "aside-2")["counters"], json!([["a", 3]]));
    host.ksi(&["state", "drop", "counter", "aside-1"]).ok();
    assert!(!kept(&host).contains(&"aside-1".to_owned()));
}

#[test]
fn what_cannot_be_done_with_kept_state_is_said() {
    let host = counted_in_two_runs().start();
    let refused = |command: &[&str]| host.ksi(&[&["state"], command].concat()).fails(1);
    assert!(refused(&["show", "counter", "oldest"]).contains("newest, previous, good"));
    assert!(refused(&["show", "counter", "aside-4"]).contains("there is newest"));
    assert!(refused(&["show", "nobody"]).contains("there is none of it"));
    assert!(refused(&["drop", "counter"]).contains("ksi unload counter"));
    assert!(refused(&["drop", "nobody"]).contains("nothing is kept of nobody"));
    assert_eq!(value(&host), Some(7));
    let list = host.ksi(&["state", "list"]).ok();
    for words in ["NAME", "counter", "newest", "good", "1.0.0"] {
        assert!(list.contains(words), "{words}: {list}");
    }
    let host = TestHost::builder().config("[state]\npersist = false").start();
    assert!(host.ksi(&["state", "list"]).fails(1).contains("keeps no state on disk"));
    let reply = host.client().reply("module:state_drop", json!({"module_name": "x"}));
    assert!(error_of(&reply).contains("state.dir"), "{reply}");
}

#[test]
fn state_that_cannot_be_written_shows_until_it_can_be() {
    let host = TestHost::builder().plugin("counter.so", &Library::counter(1)).config(OFTEN).start();
    let obstacle = host.dir().join("state/counter.new");
    fs::create_dir(&obstacle).unwrap();
    increment(&host, 1);
    let unkept = |module: &Value| module["state_not_kept"].is_object();
    let module = host.until_module("it is not kept", "counter", unkept);
    let reason = module["state_not_kept"]["reason"].as_str().unwrap();
    assert!(reason.contains("counter.new"), "{reason}");
    assert!(host.ksi(&["list"]).ok().contains("live (state not kept)"));
    fs::remove_dir(&obstacle).unwrap();
    host.until_module("it is kept", "counter", |module| !unkept(module));
    assert_eq!(value(&host.crash().start()), Some(1));
}

#[test]
fn state_that_is_not_given_in_time_is_not_given_up_by_hand() {
    let hold = "[timeouts]\nhold = '2s'";
    let hangs = Library::counter(1).does("snapshot=hang");
    let host = counted_in_two_runs().plugin("counter.so", &hangs).config(hold).start();
    assert_eq!(increment(&host, 1), 8);
    let said = host.ksi(&["state", "restore", "counter", "previous"]).fails(1);
    for words in ["cannot be kept aside", "snapshot did not end within", "Nothing was changed"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!((value(&host), &host.module("counter")["generation"]), (Some(8), &json!(1)));
}

#[test]
fn an_exclusive_plugin_that_begins_to_keep_state_starts_from_what_it_can_read() {
    let builder = counted_in_two_runs();
    put_snapshot(builder.dir(), "snapshot", 3, r#"{"counters":[["a",null]],"passed":[]}"#);
    let exclusive = |number| Library::counter(number).exclusive(true);
    let host = builder.plugin("counter.so", &exclusive(2).stateless()).start();
    host.drop_in("counter.so", &exclusive(3));
    host.until_version("counter", "3.0.0");
    assert_eq!(value(&host), Some(3), "that of the previous file");
    // It is live a moment before that is known of its state.
    let is_noted = |module: &Value| module["state_notice"].is_string();
    let module = host.until_module("it is told", "counter", is_noted);
    let notice = module["state_notice"].as_str().unwrap();
    assert!(notice.contains("counter.snapshot cannot be read by it"), "{notice}");
}

/// A host with an exclusive counter that has counted to 8, whose replacement by itself fails as
/// long as the file is there, and is tried again after `first`.
#[track_caller]
fn down(first: &str) -> (TestHost, std::path::PathBuf) {
    let builder = counted_in_two_runs();
    let broken = builder.dir().join("broken");
    let recovery = format!("[recovery]\nfirst = '{first}'\nlongest = '{first}'\nattempts = 1000");
    let config = format!("{recovery}\n[plugin.counter]\nfails_while = {broken:?}");
    let exclusive = Library::counter(1).exclusive(true);
    let host = builder.plugin("counter.so", &exclusive).config(&config).start();
    assert_eq!(increment(&host, 1), 8);
    fs::write(&broken, "").unwrap();
    let said = host.ksi(&["state", "restore", "counter", "previous"]).fails(1);
    assert!(said.contains("counter is not live; its file is tried again"), "{said}");
    (host, broken)
}

#[test]
fn an_exclusive_plugin_that_goes_down_when_state_is_chosen_is_tried_again() {
    let (host, broken) = down("100ms");
    fs::remove_file(broken).unwrap();
    host.until_module("it is live again", "counter", |module| module.state() == ModuleState::Live);
    assert_eq!(value(&host), Some(8), "with what it had");
}

#[test]
fn state_that_is_chosen_or_dropped_by_hand_is_that_of_a_plugin_that_went_down() {
    for (command, expected) in [("restore", Some(7)), ("drop", None)] {
        let (host, broken) = down("1h");
        let which: &[&str] = if command == "restore" { &["good"] } else { &[] };
        // What it was when it went down is the newest on the disk.
        assert_eq!(shown(&host, "newest")["counters"], json!([["a", 8]]));
        host.ksi(&[&["state", command, "counter"], which].concat()).ok();
        fs::remove_file(broken).unwrap();
        host.ksi(&["load", host.file("counter.so").to_str().unwrap()]).ok();
        assert_eq!(value(&host), expected, "{command}");
    }
}

#[test]
fn an_instance_that_is_made_again_with_other_state_is_told_as_such() {
    let builder = counted_in_two_runs();
    let log = builder.dir().join("inits");
    fs::write(&log, "one\n").unwrap();
    let config = format!("[plugin.counter]\ninit_log = {log:?}\ninit_failures = 1");
    let silent = Library::counter(1).exclusive(true).does("snapshot=fail");
    let host = builder.plugin("counter.so", &silent).config(&config).start();
    fs::write(&log, "").unwrap();
    let said = host.ksi(&["state", "restore", "counter", "previous"]).fails(1);
    for words in ["attempt 1 fails on purpose", "with the state that was to take the place of its"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(value(&host), Some(3));
}
