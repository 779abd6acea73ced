//! Clients that increment counters all the while, and check every answer.

use std::{
    collections::BTreeMap,
    sync::{
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc::{Sender, channel},
    },
    thread,
};

use serde_json::json;

use super::{Client, PATIENCE, TestHost};

/// The counters of the plugin that keeps state, by name.
#[track_caller]
pub(crate) fn counters(client: &mut Client) -> BTreeMap<String, u64> {
    let all = client.emit("counter:values", json!({}));
    serde_json::from_value(all["counters"].clone()).unwrap()
}

/// Says at its end, also that of a test that fails, that it is done.
pub(crate) struct Ends<'a>(pub(crate) &'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Has so many clients increment a counter each until `work` is done. Every increment must be
/// acknowledged with the value after the last one that was, so a lost, a repeated and a refused one
/// are seen at once; at the end the plugin must have those values. Gives what `work` gives, and how
/// many increments were acknowledged.
#[track_caller]
pub(crate) fn under_load<T>(host: &TestHost, clients: usize, work: impl FnOnce() -> T) -> (T, u64) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let ends = Ends(&done);
        let (begun, at_work) = channel();
        let load: Vec<_> = (0..clients)
            .map(|number| {
                let (name, begun, done) = (format!("client {number}"), begun.clone(), &done);
                scope.spawn(move || increment_until(host, name, &begun, done))
            })
            .collect();
        (0..clients).for_each(|_| at_work.recv_timeout(PATIENCE).expect("clients are at work"));
        let worked = work();
        drop(ends);
        let acknowledged: BTreeMap<String, (u64, u64)> =
            load.into_iter().map(|thread| thread.join().unwrap()).collect();
        let mut now = counters(&mut host.client());
        now.retain(|name, _| acknowledged.contains_key(name));
        let expected = acknowledged.iter().map(|(name, (_, last))| (name.clone(), *last));
        assert_eq!(now, expected.collect(), "the counters are what was acknowledged");
        (worked, acknowledged.values().map(|(count, _)| count).sum())
    })
}

/// How many increments of `name` were acknowledged, and the last value.
fn increment_until(
    host: &TestHost,
    name: String,
    begun: &Sender<()>,
    done: &AtomicBool,
) -> (String, (u64, u64)) {
    let mut client = host.client();
    let before = counters(&mut client).get(&name).copied().unwrap_or_default();
    let mut last = before;
    while !done.load(SeqCst) {
        // Some take a while, so that calls are inside whenever state is handed over.
        let millis = if last % 8 == 0 { 2 } else { 0 };
        let answer = client.emit("counter:increment", json!({"name": name, "millis": millis}));
        last += 1;
        assert_eq!(answer["value"], last, "{name} gets the next value: {answer}");
        if last == before + 1 {
            begun.send(()).unwrap();
        }
    }
    (name, (last - before, last))
}
