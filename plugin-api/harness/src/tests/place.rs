//! Where a harness may be used, and by which clock its host goes.

use std::{cell::Cell, future::poll_fn, task::Poll, thread};

use ksi_plugin_api::Refusal;

use super::*;

thread_local! {
    static CALLS: Cell<u32> = const { Cell::new(0) };
}

#[derive(Default)]
struct Place;

#[plugin(name = "place")]
impl Place {
    /// Counts its calls on the thread that it is called on.
    #[event_handler("place:count", blocking)]
    async fn count(&self, _: &Context, _: Value) -> Result<u32> {
        Ok(CALLS.replace(CALLS.get() + 1))
    }

    #[event_handler("place:slow", timeout = "1ms")]
    async fn slow(&self, _: &Context, _: Value) -> Result<()> {
        let mut polled = false;
        poll_fn(|cx| match std::mem::replace(&mut polled, true) {
            true => Poll::Ready(()),
            false => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        })
        .await;
        thread::sleep(Duration::from_millis(50));
        Ok(())
    }

    #[event_handler("place:deep")]
    async fn deep(&self, ctx: &Context, left: u32) -> Result<u32> {
        match left {
            0 => Ok(CALLS.get()),
            left => ctx.request(named("place:deep", &(left - 1))).await,
        }
    }
}

#[test]
fn a_plugin_runs_on_the_thread_of_its_test_however_deep_and_blocking() {
    let plugin = Harness::start::<Place>();
    CALLS.set(7);
    assert_eq!(plugin.emit("place:count", ()).results(), [json!(7)]);
    assert_eq!(CALLS.get(), 8);
    assert_eq!(plugin.emit("place:deep", 40).results(), [json!(8)]);
}

#[test]
fn what_a_handler_may_take_goes_by_the_clock_of_the_harness() {
    let plugin = Harness::start::<Place>();
    assert!(plugin.emit("place:slow", ()).is_ok(), "no time has passed");
}

#[test]
fn one_harness_is_driven_from_a_stand_in_of_another() {
    let shop = Harness::start::<Probe>();
    let warehouse = probe();
    warehouse.on("shop:order", move |seconds: u32| {
        let call = shop.begin("probe:sleep", seconds);
        shop.advance(SECOND * seconds);
        call.finished().map(|report| report.results()).ok_or_else(|| Error::new("late", "late"))
    });
    assert_eq!(warehouse.emit("shop:order", 3).results(), [json!([3])]);
    let call = warehouse.begin("probe:sleep", 2);
    warehouse.advance(2 * SECOND);
    assert_eq!(call.finished().unwrap().results(), [json!(2)]);
}

#[test]
fn a_harness_may_be_used_inside_of_tokio() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let plugin = probe();
        let call = plugin.begin("probe:sleep", 2);
        plugin.advance(2 * SECOND);
        assert_eq!(call.finished().unwrap().results(), [json!(2)]);
    });
}

#[test]
fn what_does_not_fit_into_a_host_is_refused_as_there() {
    let plugin = probe();
    let large = plugin.emit("probe:add", "x".repeat(11 << 20));
    assert_eq!(large.refusal(), Some(Refusal::TooLarge));
}
