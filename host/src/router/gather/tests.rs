use std::sync::atomic::{AtomicUsize, Ordering};

use ksi_plugin_api::Pattern;
use tokio::runtime::Handle;

use super::*;
use crate::{
    dispatch::{call::CallSite, hold::Gate, workers::Workers},
    event::{NewEvent, Payload},
    router::{
        emit::{NewTarget, RouterLimits},
        native::{Failure, Native},
        table::{Owner, Route},
    },
};

fn router(queued_events: usize) -> Arc<Router> {
    let workers = Arc::new(Workers::start(1, 1).unwrap());
    let timeout = Duration::from_secs(20);
    let limits = RouterLimits { queued_events, event_depth: 9, payload_bytes: 1 << 10, timeout };
    Router::new(CallSite { workers, runtime: Handle::current() }, limits)
}

/// Makes `handled` count the events `a:b` of a plugin behind this gate.
fn handles(router: &Router, gate: &Arc<Gate>, handled: &Arc<AtomicUsize>) {
    let handled = handled.clone();
    let callee = Native::new(Handle::current(), move |_| {
        handled.fetch_add(1, Ordering::SeqCst);
        std::future::ready(Ok::<_, Failure>(()))
    });
    let target = router.target(NewTarget {
        plugin: "p".into(),
        handler: "h".into(),
        counted_as: "h".into(),
        callee: Arc::new(callee),
        number: 0,
        priority: 0,
        order: 0,
        timeout: None,
        blocking: false,
        cancel: Arc::default(),
        gate: Some(gate.clone()),
        keeper: None,
    });
    let route = Route { pattern: Pattern::parse("a:b").unwrap(), target };
    router.change(|table| table.with(Owner::Plugin("p".into()), vec![route]));
}

fn event() -> NewEvent {
    NewEvent::valid("a:b", Payload::from_json_bytes(b"{}".to_vec()))
}

async fn until(what: impl Fn() -> bool) {
    let looking = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), looking).await.expect("it comes to pass");
}

#[tokio::test]
async fn sent_events_that_wait_for_a_hand_over_take_no_place_in_the_queue() {
    let (router, gate, handled) = (router(1), Gate::new(9), Arc::default());
    handles(&router, &gate, &handled);
    let hold = gate.hold();
    for sent in 1..=3 {
        let accept = || router.accept(event(), None);
        router.send("a:b", accept).expect("those before it only wait");
        until(|| gate.waiting() == sent).await;
    }
    drop(hold);
    until(|| handled.load(Ordering::SeqCst) == 3).await;
    assert_eq!(router.all_counts().no_reply, 3);
    router.forget_plugin("p");
    assert_eq!(router.all_counts().no_reply, 3, "the sum of all never falls");
}
