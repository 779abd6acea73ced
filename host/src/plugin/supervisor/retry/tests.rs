use super::*;

#[test]
fn it_is_told_what_a_duplicate_waits_for_and_that_another_file_is_left_alone() {
    let file = PathBuf::from("b.so");
    let duplicate =
        DeployError::Duplicate { file: file.clone(), plugin: "a".into(), other: "a.so".into() };
    assert_eq!(what_next(&duplicate, None), "; it is tried again when that one goes");
    let words = "; it is not tried again until it changes, or `ksi load` names it";
    let other = DeployError::NotAsKept { path: file };
    assert_eq!(what_next(&other, None), words);
}

const RECOVERY: RetryPolicy = RetryPolicy {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(5),
    attempts: 4,
    after_rollback: Duration::from_secs(60),
};

#[test]
fn waits_double_up_to_the_longest_and_end_after_the_last_retry() {
    let waits: Vec<_> = (0..5).map(|attempts| RECOVERY.wait(attempts, false)).collect();
    let seconds = |s| Some(Duration::from_secs(s));
    assert_eq!(waits, [seconds(1), seconds(2), seconds(4), seconds(5), None]);
    assert_eq!(RECOVERY.wait(1, true), seconds(60), "longer than the longest from the first on");
    assert_eq!(RECOVERY.wait(9, true), None);
}

#[test]
fn a_quarantined_file_is_taken_again_when_it_changes_is_due_or_is_asked_for() {
    let mut retries = RetrySchedule::default();
    let (file, bad, good) = (Path::new("a.so"), blake3::hash(b"bad"), blake3::hash(b"good"));
    let quarantined = || LastFailure {
        version: None,
        reason: "it is bad".to_owned(),
        attempts: 0,
        due: None,
        quarantined: true,
    };
    for (hash, why, taken) in [
        (bad, DeployReason::Found, false),
        (bad, DeployReason::Retried, true),
        (bad, DeployReason::Asked, true),
        (good, DeployReason::Found, true),
    ] {
        retries.put(file, RetryEntry { hash: Some(bad), failure: Some(quarantined()), look: None });
        assert_eq!(retries.begin(file, hash, why).is_ok(), taken, "{why:?}");
    }
}

#[test]
fn what_is_tried_again_is_what_was_tried_before() {
    let mut retries = RetrySchedule::default();
    let (file, first, other) = (Path::new("a.so"), blake3::hash(b"1"), blake3::hash(b"2"));
    assert!(retries.begin(file, first, DeployReason::Changed).unwrap());
    assert!(retries.begin(file, first, DeployReason::Retried).unwrap());
    assert!(!retries.begin(file, other, DeployReason::Retried).unwrap());
}

#[test]
fn failures_of_the_same_bytes_add_up_and_others_begin_anew() {
    let mut retries = RetrySchedule::default();
    let file = Path::new("a.so");
    let mut fail = |bytes: &[u8]| {
        retries.begin(file, blake3::hash(bytes), DeployReason::Changed).unwrap();
        retries.failed(file, "no", &RECOVERY);
        retries.of(file).unwrap().1.attempts
    };
    assert_eq!((fail(b"a"), fail(b"a"), fail(b"b")), (0, 1, 0));
}

#[test]
fn a_file_that_could_not_be_copied_is_due_and_taken_whatever_it_holds_by_then() {
    let (mut retries, file) = (RetrySchedule::default(), Path::new("a.so"));
    let fail = |retries: &mut RetrySchedule| retries.failed(file, "the disk is full", &RECOVERY);
    assert!(fail(&mut retries).is_some());
    assert!(fail(&mut retries).is_some());
    assert_eq!(retries.of(file).unwrap().1.attempts, 1, "these add up");
    assert!(retries.begin(file, blake3::hash(b"a"), DeployReason::Retried).unwrap());
    assert!(!retries.begin(file, blake3::hash(b"b"), DeployReason::Retried).unwrap());
}

#[test]
fn of_a_file_that_could_not_be_read_nothing_is_known() {
    let (mut retries, file) = (RetrySchedule::default(), Path::new("a.so"));
    let (bad, other) = (blake3::hash(b"bad"), blake3::hash(b"other"));
    retries.failed(file, "the disk is full", &RECOVERY);
    assert!(!retries.knows(file, bad) && !retries.is_another(file, bad));
    retries.begin(file, bad, DeployReason::Changed).unwrap();
    retries.failed(file, "no", &RECOVERY);
    assert!(retries.knows(file, bad) && !retries.is_another(file, bad));
    assert!(!retries.knows(file, other) && retries.is_another(file, other));
}

#[test]
fn a_quarantined_file_that_cannot_be_read_is_looked_at_again_and_its_bytes_are_not_tried() {
    let (mut retries, file) = (RetrySchedule::default(), Path::new("a.so"));
    let (bad, other) = (blake3::hash(b"bad"), blake3::hash(b"other"));
    let later = Instant::now() + Duration::from_secs(3600);
    for due in [None, Some(later)] {
        let failure = LastFailure {
            version: None,
            reason: "it is bad".to_owned(),
            attempts: 0,
            due,
            quarantined: true,
        };
        let entry = RetryEntry { hash: Some(bad), failure: Some(failure), look: None };
        retries.forget(file);
        retries.put(file, entry);
        let again = retries.failed(file, "the disk is full", &RECOVERY).unwrap();
        let known = retries.of(file).unwrap().1;
        assert_eq!((known.due, known.attempts, &known.reason[..]), (due, 0, "it is bad"));
        assert_eq!(retries.due(file, again), Some(DeployReason::Found));
        assert!(retries.begin(file, bad, DeployReason::Found).is_err(), "they stay quarantined");
        let times = (0..9).filter(|_| retries.failed(file, "no", &RECOVERY).is_some()).count();
        assert_eq!(times, 3, "there is an end");
        retries.changed(file);
        assert!(retries.failed(file, "no", &RECOVERY).is_some());
        assert!(retries.begin(file, other, DeployReason::Found).unwrap(), "others are taken");
    }
}

#[test]
fn a_file_that_was_given_up_is_not_due() {
    let (mut retries, file) = (RetrySchedule::default(), Path::new("a.so"));
    retries.begin(file, blake3::hash(b"a"), DeployReason::Found).unwrap();
    assert!(retries.failed(file, "no", &RECOVERY).is_some());
    retries.give_up(file);
    assert!(retries.of(file).unwrap().1.due.is_none());
}
