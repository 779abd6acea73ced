use super::*;

fn about(plugin: &str) -> About {
    About {
        hash: format!("hash of {plugin}"),
        file: format!("/p/{plugin}.so"),
        plugin: plugin.to_owned(),
        version: "1.0.0".to_owned(),
        step: "initializing".to_owned(),
    }
}

fn left(notes: &[(&str, Option<u8>)]) -> CrashReport {
    let notes = notes.iter().map(|(plugin, mark)| (about(plugin), *mark)).collect();
    CrashReport { notes, last_words: None }
}

fn verdict(quarantine: &Quarantine, plugin: &str) -> Option<Judged> {
    let About { hash, file, .. } = about(plugin);
    quarantine.of(Path::new(&file), &hash).map(|entry| entry.verdict)
}

#[test]
fn who_was_at_work_on_the_thread_that_died_is_guilty_and_nobody_beside_it() {
    let quarantine = Quarantine::default();
    let judged = quarantine.judge(&left(&[("a", None), ("b", Some(11)), ("c", None)]));
    assert_eq!(judged.len(), 1);
    assert!(judged[0].reason.contains("died of SIGSEGV in initializing"), "{judged:?}");
    assert_eq!(verdict(&quarantine, "b"), Some(Judged::Died));
    assert_eq!((verdict(&quarantine, "a"), verdict(&quarantine, "c")), (None, None));
}

#[test]
fn who_had_called_somebody_else_that_the_host_died_of_is_not_guilty_nor_is_anybody_beside_it() {
    let quarantine = Quarantine::default();
    let judged = quarantine.judge(&left(&[("a", None), ("b", Some(CrashReport::ANOTHER))]));
    assert!(judged.is_empty(), "{judged:?}");
}

#[test]
fn a_death_without_a_word_is_a_suspicion_and_a_second_one_in_a_row_a_quarantine() {
    let quarantine = Quarantine::default();
    quarantine.judge(&left(&[("a", None), ("b", None)]));
    assert_eq!(verdict(&quarantine, "a"), Some(Judged::Suspected));
    quarantine.judge(&left(&[("a", None)]));
    assert_eq!(verdict(&quarantine, "a"), Some(Judged::Died));
    assert_eq!(verdict(&quarantine, "b"), None, "it was not at work the second time");
    quarantine.judge(&left(&[("b", None)]));
    assert_eq!(verdict(&quarantine, "b"), Some(Judged::Suspected), "not in a row");
    quarantine.forget_suspects();
    assert_eq!(verdict(&quarantine, "a"), Some(Judged::Died));
    quarantine.judge(&left(&[("b", None)]));
    assert_eq!(verdict(&quarantine, "b"), Some(Judged::Suspected), "a host ended in order");
    quarantine.judge(&left(&[]));
    assert_eq!(verdict(&quarantine, "b"), None);
}

#[test]
fn it_is_remembered_over_restarts_until_somebody_asks() {
    let dir = tempfile::tempdir().unwrap();
    let quarantine = Quarantine::open(dir.path());
    quarantine.judge(&left(&[("a", Some(6))]));
    quarantine.rolled_back(about("b"), "it panics", 2, true);
    let again = Quarantine::open(dir.path());
    assert_eq!(verdict(&again, "a"), Some(Judged::Died));
    let rolled_back = Judged::RolledBack { attempts: 2, automatic: true };
    assert_eq!(verdict(&again, "b"), Some(rolled_back));
    let elsewhere = |plugin: &str| again.of(Path::new("/q"), &about(plugin).hash).is_some();
    assert!(elsewhere("a") && !elsewhere("b"));
    again.lift(&about("a").hash);
    again.forget_rollback(Path::new("/p/b.so"));
    let last = Quarantine::open(dir.path());
    assert_eq!((verdict(&last, "a"), verdict(&last, "b")), (None, None));
}

#[test]
fn what_the_host_went_back_to_is_remembered_also_when_it_dies_of_the_same_bytes_later() {
    let dir = tempfile::tempdir().unwrap();
    let quarantine = Quarantine::open(dir.path());
    let good = Good { hash: "hash of 1".to_owned(), version: "1.0.0".to_owned(), file: None };
    quarantine.went_back_to(&about("b").hash, good.clone());
    assert_eq!(quarantine.goods(), [], "of bytes that are not quarantined");
    quarantine.rolled_back(about("b"), "it panics", 0, true);
    quarantine.went_back_to(&about("b").hash, good.clone());
    quarantine.judge(&left(&[("b", Some(6))]));
    let again = Quarantine::open(dir.path());
    let About { hash, file, .. } = about("b");
    let entry = again.of(Path::new(&file), &hash).unwrap();
    assert_eq!((entry.verdict, entry.good), (Judged::Died, Some(good.clone())));
    assert_eq!((again.goods(), again.folder()), (vec![good], Some(dir.path())));
    again.lift(&hash);
    assert_eq!(again.goods(), []);
}

#[test]
fn what_is_kept_is_not_given_for_a_file_if_it_is_quarantined_itself() {
    let quarantine = Quarantine::default();
    let good = |name: &str| Good { hash: about(name).hash, version: name.to_owned(), file: None };
    let back = |from: &str, to: &str| {
        let about = About { file: "/p/a.so".to_owned(), ..about(from) };
        quarantine.rolled_back(about.clone(), "it panics", 0, true);
        quarantine.went_back_to(&about.hash, good(to));
    };
    let given = |bad: &str| quarantine.good_for(Path::new("/p/a.so"), &about(bad).hash);
    back("3", "2");
    assert_eq!(given("3"), Some(good("2")));
    // A host died of it.
    quarantine.judge(&left(&[("2", Some(11))]));
    assert_eq!(given("3"), None);
    quarantine.lift(&about("2").hash);
    // It has been gone back from.
    back("2", "1");
    assert_eq!((given("3"), given("2")), (Some(good("1")), Some(good("1"))));
    quarantine.judge(&left(&[("2", Some(11))]));
    assert_eq!(given("3"), Some(good("1")), "what was good instead of it still is");
    quarantine.judge(&left(&[("1", None)]));
    assert_eq!(given("3"), Some(good("1")), "a suspicion is no verdict");
    back("1", "3");
    assert_eq!(given("3"), None, "there is no end to a circle");
    assert_eq!(given("4"), None);
}

#[test]
fn what_is_given_up_is_not_said_to_be_kept() {
    let dir = tempfile::tempdir().unwrap();
    let quarantine = Quarantine::open(dir.path());
    let good = |name: &str| Good { hash: about(name).hash, version: name.to_owned(), file: None };
    for (bad, kept) in [("4", "1"), ("3", "1"), ("6", "2")] {
        quarantine.rolled_back(about(bad), "it panics", 0, true);
        quarantine.went_back_to(&about(bad).hash, good(kept));
    }
    assert_eq!(quarantine.goods(), [good("2"), good("1")], "each once");
    quarantine.gave_up(&[about("1").hash]);
    let again = Quarantine::open(dir.path());
    assert_eq!(again.goods(), [good("2")]);
    let given = |bad: &str| again.good_for(Path::new(&about(bad).file), &about(bad).hash);
    assert_eq!((given("3"), given("6")), (None, Some(good("2"))));
}

#[test]
fn there_is_a_bound_and_a_file_that_cannot_be_read_is_no_reason_to_stop() {
    let dir = tempfile::tempdir().unwrap();
    let quarantine = Quarantine::open(dir.path());
    for number in 0..REMEMBERED + 3 {
        put(
            &mut quarantine.lock(),
            QuarantineEntry::of(&about(&number.to_string()), Some(6), Judged::Died),
        );
    }
    assert_eq!(quarantine.lock().len(), REMEMBERED);
    assert_eq!((verdict(&quarantine, "2"), verdict(&quarantine, "3")), (None, Some(Judged::Died)));
    fs::write(dir.path().join(NAME), "torn").unwrap();
    assert!(Quarantine::open(dir.path()).lock().is_empty());
}
