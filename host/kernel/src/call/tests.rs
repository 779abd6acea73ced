use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    task::Waker,
};

use super::tally::Counts;
use super::*;
use crate::event::{EventIds, NewEvent, Payload};

/// A callee whose host makes a mistake: what a plugin does is caught before it gets here.
struct Panics;

impl Callee for Panics {
    fn start(&self, _: u64, _: Counted<Event>, _: &ReplyForm, _: &mut Context<'_>) -> Started {
        panic!("in the host")
    }
}

#[test]
fn a_call_whose_beginning_unwinds_counts_as_ended() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let workers = Arc::new(Workers::start(1, 1).unwrap());
    let site = CallSite { workers, runtime: runtime.handle().clone() };
    for blocking in [false, true] {
        let info = HandlerInfo::nobody();
        let entry = CallTarget {
            info: info.clone(),
            callee: Arc::new(Panics),
            number: 0,
            timeout: Duration::from_secs(1),
            blocking,
            cancel: Arc::default(),
            keeper: None,
        };
        let event = NewEvent::valid("a:b", Payload::nothing().clone());
        let event = Counted::new(Event::new(event, None, &EventIds::new(), 0));
        let begun = catch_unwind(AssertUnwindSafe(|| {
            let held = || panic!("in the host");
            let mut cx = Context::from_waker(Waker::noop());
            begin(&entry, held, event, None, &ReplyForm::Json, &site, &mut cx)
        }));
        assert!(begun.is_err());
        let expected = Counts { accepted: 1, rejected: 1, ..Counts::default() };
        assert_eq!(info.counts.now(), expected, "blocking: {blocking}");
        assert_eq!(info.active.load(Ordering::Relaxed), 0);
    }
}
