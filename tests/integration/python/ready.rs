//! What a module of KSI's form begins when it is ready: once it is live, with its state.

use std::collections::HashSet;

use super::*;

/// A service that counts, and tells the count for as long as it is there; what else its `restore`
/// does.
fn service(version: u32, on_restore: &str) -> String {
    format!(
        r#"
import asyncio
from ksi_daemon.event_system import event_handler, emit_event

__version__ = "{version}"
counts = {{"n": 0}}


@event_handler("system:ready")
async def ready(data, context=None):
    return {{"service": "svc", "tasks": [{{"name": "ticks", "coroutine": tick()}}]}}


async def tick():
    while True:
        await emit_event("svc:tick", {{"of": {version}, "n": counts["n"]}})
        await asyncio.sleep(0.01)


@event_handler("svc:add")
async def add(data):
    counts["n"] += 1
    return counts["n"]


@event_handler("checkpoint:collect")
async def collect(data, context=None):
    return {{"svc_state": counts}}


@event_handler("checkpoint:restore")
async def restore(data, context=None):
    await asyncio.sleep(0.1)
    {on_restore}
    counts.update(data["svc_state"])
"#
    )
}

#[test]
fn tasks_begin_with_the_state_and_those_of_a_version_that_is_refused_never_do() {
    if !is_there() {
        return;
    }
    let config = "[recovery]\nfirst = '1h'\nlongest = '1h'\n\
                  [timeouts]\nprobe = '30s'\n\
                  [isolation.plugins.svc]\ncheckpoint = 'on_change'\n";
    let builder = TestHost::builder().config(config);
    let host = module(builder, "svc.py", &service(1, "pass")).start();
    let mut watcher = host.client();
    watcher.subscribe(&["svc:tick"]);
    let mut client = host.client();
    for count in 1..=3 {
        assert_eq!(client.emit("svc:add", json!({})), json!(count));
    }
    // All that is told up to the first tick of a version, and of that.
    let mut ticks_until = |of: u64, n: u64| {
        let mut seen = HashSet::new();
        loop {
            let tick = watcher.push_of("svc:tick");
            let tick = (tick["of"].as_u64().unwrap(), tick["n"].as_u64().unwrap());
            seen.insert(tick);
            if tick.0 == of && tick.1 >= n {
                return seen;
            }
        }
    };
    ticks_until(1, 3);
    // Another process of the same version begins with the state, too.
    host.until_module("a checkpoint has it", "svc", |module| {
        module["residence"]["checkpoint"]["calls"] == 3
    });
    let pid = pid_of(&host, "svc").unwrap();
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
    host.until_module("it is restarted", "svc", |module| {
        module["residence"]["restarts"] == 1 && module["state"] == "live"
    });
    assert_eq!(client.emit("svc:add", json!({})), json!(4));
    // The new process may have got the call before its first tick.
    let seen = ticks_until(1, 4);
    assert!(seen.is_subset(&HashSet::from([(1, 3), (1, 4)])), "{seen:?}");
    save(&host, "svc.py", &service(2, "raise ValueError('no')"));
    host.until_module("its second version is refused", "svc", |module| {
        module["last_error"].as_str().is_some_and(|error| error.contains("ValueError: no"))
    });
    save(&host, "svc.py", &service(3, "pass"));
    let seen = ticks_until(3, 0);
    assert!(seen.is_subset(&HashSet::from([(1, 4), (3, 4)])), "{seen:?}");
}
