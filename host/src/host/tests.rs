use std::{
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use ksi_abi::EventName;
use ksi_wire::module::announced::{CALL_FAILED, CallFailed};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::*;
use crate::{NewEvent, Watched};

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("it takes too long")
}

async fn started() -> Host {
    Host::builder(ChildEntry::none()).start().await.expect("it starts")
}

#[tokio::test]
async fn a_second_shutdown_waits_for_the_end_of_the_first() {
    let host = started().await;
    let (reached, goes_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (told, waits) = (reached.clone(), goes_on.clone());
    host.on("system:shutdown", move |_| {
        let (told, waits) = (told.clone(), waits.clone());
        async move {
            told.notify_one();
            waits.notified().await;
            Ok::<_, Failure>(())
        }
    })
    .expect("a name");
    let first = tokio::spawn({
        let host = host.clone();
        async move { host.shutdown().await }
    });
    in_time(reached.notified()).await;
    let mut second = pin!(host.shutdown());
    assert!(second.as_mut().now_or_never().is_none(), "the first one goes on");
    goes_on.notify_one();
    in_time(second).await;
    in_time(first).await.expect("it has not panicked");
    assert!(host.shutdown().now_or_never().is_some(), "nothing is left to wait for");
}

#[tokio::test]
async fn a_shutdown_that_is_given_up_is_ended_by_the_next_one() {
    let host = started().await;
    host.on("system:shutdown", |_| std::future::pending::<Result<(), Failure>>()).expect("a name");
    assert!(host.shutdown().now_or_never().is_none(), "somebody is told still");
    host.request_stop();
    host.request_stop();
    in_time(host.shutdown()).await;
    let supervisor = host.0.supervisor.thread.runtime().spawn(async {});
    assert!(in_time(supervisor).await.is_err(), "the supervisor's thread is there still");
}

#[tokio::test]
async fn a_stop_is_told_once_whoever_gives_it_up() {
    let host = started().await;
    let told = Arc::new(AtomicUsize::new(0));
    let counts = told.clone();
    host.on("system:shutdown", move |_| {
        let first = counts.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            if first {
                std::future::pending::<()>().await;
            }
            Ok::<_, Failure>(())
        }
    })
    .expect("a name");
    assert!(host.shutdown().now_or_never().is_none(), "somebody is told still");
    in_time(host.shutdown()).await;
    assert_eq!(told.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_the_kernel_tells_of_a_failed_call_is_what_clients_read() {
    let host = started().await;
    let mut watch = host.watch(&[Pattern::parse(CALL_FAILED).expect("a name")], 8);
    host.on("a:b", |_| async { Err::<(), _>(Failure::new("no_stock", "none left")) })
        .expect("a name");
    host.emit(NewEvent::json("a:b", &json!({})).expect("an event")).await;
    let Some(Watched::Event(event)) = in_time(watch.next()).await else { panic!("it is missed") };
    let told = std::str::from_utf8(event.payload().as_json()).expect("text");
    let read: CallFailed = serde_json::from_str(told).expect("a failed call");
    assert_eq!((&*read.code, &*read.message, read.count), ("no_stock", "none left", 1));
    assert_eq!(serde_json::to_string(&read).expect("it is written"), told);
}

#[tokio::test]
async fn each_event_that_is_listed_as_a_change_of_the_host_is_one_that_it_answers_alone() {
    let host = started().await;
    let listed = crate::catalog::all_changes().collect::<Vec<_>>();
    assert!(listed.contains(&"module:state_drop") && listed.contains(&"system:disconnect"));
    let unknown: Vec<_> =
        listed.iter().filter(|event| !host.0.router.answers_alone(event)).collect();
    assert!(unknown.is_empty(), "nobody answers {unknown:?}");
    assert!(listed.iter().all(|event| crate::catalog::changes_the_host(event)));
    in_time(host.shutdown()).await;
}

#[tokio::test]
async fn a_handler_of_the_builder_is_there_before_anything_happens() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sees = seen.clone();
    let host = Host::builder(ChildEntry::none())
        .on("system:*", move |event| {
            sees.lock().unwrap().push(event.name().to_owned());
            async { Ok::<_, Failure>(()) }
        })
        .expect("a pattern")
        .start()
        .await
        .expect("it starts");
    assert_eq!(*seen.lock().unwrap(), ["system:startup", "system:ready"]);
    in_time(host.shutdown()).await;
    let wrong = Host::builder(ChildEntry::none()).on("no name", |_| async { Ok::<_, Failure>(()) });
    assert!(wrong.is_err());
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Add {
    left: u64,
    right: u64,
}

impl EventName for Add {
    const NAME: &'static str = "sum:add";
}

async fn adding() -> Host {
    let host = started().await;
    host.on("sum:add", |event: EventRef| {
        let sum = event.payload().decode::<Add>().map(|Add { left, right }| left + right);
        async { sum.map_err(|error| Failure::new("invalid", error)) }
    })
    .expect("a name");
    host
}

#[tokio::test]
async fn a_value_of_an_event_type_is_emitted_as_it_is_and_its_reply_read() {
    let host = adding().await;
    let add = Add { left: 2, right: 3 };
    assert_eq!(host.request::<u64>(&add).await.expect("a sum"), 5);
    let report = host.emit(add).await;
    assert_eq!(report.replies().next().expect("a sum").decode::<u64>().expect("a number"), 5);
    let sum = host.request::<u64>(
        NewEvent::json("sum:add", &json!({"left": 1, "right": 1})).expect("an event"),
    );
    assert_eq!(sum.await.expect("a sum"), 2);
}

#[tokio::test]
async fn a_request_without_one_answer_says_why() {
    let host = adding().await;
    let ask = |name: &str| NewEvent::json(name, &json!({})).expect("an event");
    let nobody = host.request::<Value>(ask("a:b")).await;
    assert!(matches!(nobody, Err(RequestError::Unhandled)), "{nobody:?}");
    let failed = host.request::<u64>(ask("sum:add")).await.expect_err("no numbers");
    assert!(
        failed.to_string().contains("missing field `left`")
            && failed.to_string().ends_with("[invalid]")
    );
    let odd = host.request::<String>(&Add { left: 1, right: 1 }).await;
    assert!(matches!(odd, Err(RequestError::Reply(_))), "{odd:?}");
    assert!(
        failed.to_string().starts_with("handler sum:add of the host: "),
        "it says whose it was: {failed}"
    );
    for (replies, expected) in [(0, "nobody replied to it"), (2, "2 handlers replied to it")] {
        let name = format!("say:{replies}");
        for number in 0..replies.max(1) {
            let reply = (replies > 0).then_some(number);
            host.on(&name, move |_| async move { Ok::<_, Failure>(reply) }).expect("a name");
        }
        let error = host.request::<u64>(ask(&name)).await.expect_err("not one");
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}

#[tokio::test]
async fn a_request_takes_an_answer_as_one_of_a_plugin_does() {
    let host = started().await;
    let ask = |name: &str| NewEvent::json(name, &json!({})).expect("an event");
    host.on("say:nothing", |_| async { Ok::<_, Failure>(()) }).expect("a name");
    host.request::<()>(ask("say:nothing")).await.expect("that it ended well is the answer");
    assert_eq!(host.request::<Option<u64>>(ask("say:nothing")).await.expect("none"), None);
    let any = host.request::<Value>(ask("say:nothing")).await;
    assert!(matches!(any, Err(RequestError::NoReply)), "{any:?}");
    host.on("say:one", |_| async { Ok::<_, Failure>(1) }).expect("a name");
    host.on("say:one", |_| async { Err::<(), _>(Failure::new("no", "not me")) }).expect("a name");
    assert_eq!(host.request::<u64>(ask("say:one")).await.expect("the one reply there is"), 1);
}

#[tokio::test]
async fn what_is_no_event_is_told_in_the_report_and_not_sent() {
    struct Wrong;
    impl Serialize for Wrong {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("it cannot"))
        }
    }
    impl EventName for Wrong {
        const NAME: &'static str = "a:b";
    }
    let host = started().await;
    let report = host.emit(Wrong).await;
    let outcome = report.error().expect("a failure");
    assert_eq!(outcome.result.code(), "invalid_event");
    let refused = host.send(Wrong).expect_err("no event").to_string();
    assert_eq!(refused, "the payload cannot become JSON: it cannot");
}

#[tokio::test]
async fn a_handler_is_ended_by_its_id_alone() {
    let host = started().await;
    let calls = Arc::new(AtomicUsize::new(0));
    let ids = [1, 10].map(|weight| {
        let calls = calls.clone();
        let handler = host.on("a:b", move |_| {
            calls.fetch_add(weight, Ordering::Relaxed);
            async { Ok::<_, Failure>(()) }
        });
        handler.expect("a name")
    });
    host.off(ids[0]);
    host.emit(NewEvent::json("a:b", &()).expect("an event")).await;
    assert_eq!(calls.load(Ordering::Relaxed), 10);
}
