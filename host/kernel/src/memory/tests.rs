use super::*;

/// An account, and whether it was told to give up.
fn account(budget: &Arc<Budget>) -> (Arc<Account>, Arc<AtomicBool>) {
    let told = Arc::new(AtomicBool::new(false));
    let tell = told.clone();
    (budget.account(move || tell.store(true, Ordering::Relaxed)), told)
}

#[test]
fn who_holds_the_most_is_given_up_and_nobody_else() {
    let budget = Budget::new(100);
    let (small, small_told) = account(&budget);
    let (large, large_told) = account(&budget);
    let _kept = small.charge(40);
    let let_go = large.charge(60);
    assert!(!large_told.load(Ordering::Relaxed), "it is just within the limit");
    let more = small.charge(1);
    assert!(large_told.load(Ordering::Relaxed) && large.is_over());
    // It has not let go yet, and that is known.
    let _more = (more, small.charge(50));
    assert!(!small_told.load(Ordering::Relaxed));
    assert_eq!((budget.used(), budget.given_up()), (151, 1));
    drop(let_go);
    assert_eq!(budget.used(), 91);
    let _too_much = small.charge(10);
    assert!(small_told.load(Ordering::Relaxed), "nobody else holds anything");
}

#[test]
fn what_can_be_refused_is_refused_beyond_its_own_limit_and_beyond_all() {
    let budget = Budget::new(100);
    let queue = budget.limited(30);
    let one = queue.try_charge(50).expect("one is taken, however large it is");
    assert!(queue.try_charge(1).is_none());
    drop(one);
    let _first = queue.try_charge(20).expect("there is room");
    assert!(queue.try_charge(11).is_none());
    let _second = queue.try_charge(10).expect("there is just as much room");
    let (client, told) = account(&budget);
    let held = client.charge(60);
    let other = budget.limited(100);
    let _third = other.try_charge(20).expect("room is made for it");
    assert!(told.load(Ordering::Relaxed));
    drop(held);
    assert!(other.try_charge(51).is_none(), "nothing is left to be given up");
    assert_eq!(budget.used(), 50, "what is refused is not counted");
}

#[test]
fn a_charge_may_grow_and_shrink() {
    let budget = Budget::new(100);
    let (client, told) = account(&budget);
    let mut charge = client.charge(10);
    for bytes in [90, 0, 40] {
        charge.set(bytes);
        assert_eq!((budget.used(), client.bytes()), (bytes, bytes));
    }
    charge.set(101);
    assert!(told.load(Ordering::Relaxed));
    drop(charge);
    assert_eq!(budget.used(), 0);
}

#[test]
fn who_has_held_it_for_long_is_given_up_before_who_has_more_of_it_since_just_now() {
    let budget = Budget::new(100);
    let (idle, idle_told) = account(&budget);
    let (busy, busy_told) = account(&budget);
    let _held = idle.charge(30);
    let begin = budget.now();
    while budget.now() < begin + 20 {
        std::thread::yield_now();
    }
    let _more = busy.charge(80);
    assert!(idle_told.load(Ordering::Relaxed) && !busy_told.load(Ordering::Relaxed));
}

#[test]
fn who_makes_progress_is_given_up_after_who_does_not() {
    let budget = Budget::new(100);
    let (reading, reading_told) = account(&budget);
    let (writing, writing_told) = account(&budget);
    let (stalled, stalled_told) = account(&budget);
    let (mut read, _written) = (reading.charge(40), writing.charge(40));
    let _held = stalled.charge(15);
    let begin = budget.now();
    // So long that it is no matter if this thread does not run for a while after it.
    while budget.now() < begin + 500 {
        // As much as before: the buffer is that large already.
        read.set(40);
        writing.progressed();
    }
    let (_other, _more) = (account(&budget), reading.charge(6));
    assert!(stalled_told.load(Ordering::Relaxed));
    assert!(!reading_told.load(Ordering::Relaxed) && !writing_told.load(Ordering::Relaxed));
}

#[test]
fn what_is_shared_counts_once() {
    let budget = Budget::new(100);
    let (one, one_told) = account(&budget);
    let (other, _) = account(&budget);
    let shared = budget.share(60);
    one.hold(60);
    other.hold(60);
    assert_eq!((budget.used(), one.bytes()), (60, 60));
    assert!(!one_told.load(Ordering::Relaxed));
    one.let_go(60);
    drop(shared);
    assert_eq!((budget.used(), one.bytes()), (0, 0));
}

#[test]
fn accounts_that_are_gone_are_not_remembered() {
    let budget = Budget::new(100);
    for _ in 0..10_000 {
        drop(budget.account(|| {}));
    }
    assert!(budget.accounts().list.len() <= 128);
}
