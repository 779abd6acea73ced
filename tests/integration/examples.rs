//! The examples that people would copy, in a host: all of them at once, and each through what it is
//! an example of.
//!
//! `KSI_LONG=1` makes the run of the HTTP service as long as the documentation tells of.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::kit::{Client, Ends, HostBuilder, HttpClient, Library, TestHost, until};

const WEB: &str = "[plugin.web]\naddress = '127.0.0.1:0'";
const JOURNAL: &str = "[plugin.journal]\npath = 'journal.db'";

fn host_with(plugin: &str, library: &Library) -> HostBuilder {
    TestHost::builder().plugin(&format!("lib{plugin}.so"), library)
}

fn named(name: &str) -> Value {
    json!({"module_name": name})
}

fn address(host: &TestHost) -> SocketAddr {
    let address = host.client().emit("web:address", json!({}));
    address.as_str().unwrap().parse().unwrap()
}

#[test]
fn all_examples_live_in_one_host() {
    let mut setup = TestHost::builder().config(WEB).config(JOURNAL);
    for package in ["hello", "counter", "rate_limiter_v2", "web", "journal", "scheduler"] {
        setup = setup.plugin(&format!("lib{package}.so"), &Library::of(package));
    }
    let host = setup.start();
    assert_eq!(host.modules().len(), 6);
    let mut client = host.client();
    client.subscribe(&["counter:changed"]);
    // One has the other do something: an entry of the journal, in a moment.
    let append = json!({"topic": "tea", "data": 7});
    let at = json!({"id": "a", "event": "journal:append", "data": append, "in_ms": 10});
    client.emit("schedule:at", at);
    let mut read = || client.emit("journal:read", json!({"topic": "tea"}))["entries"].take();
    let entries = until("it is in the journal", &mut read, |read| read[0]["data"] == 7);
    assert_eq!(entries.as_array().unwrap().len(), 1);
    assert_eq!(client.emit("limit:take", json!({"key": "ada"}))["remaining"], 9);
    client.emit("counter:change", json!({"name": "a"}));
    assert_eq!(client.push_of("counter:changed")["value"], 1);
    let mut http = HttpClient::new(address(&host), true);
    let answer = http.post("/events/greet:request", &json!({"name": "Ada"})).unwrap();
    assert_eq!((answer.status, &answer.body["text"]), (200, &json!("Hello, Ada!")));
}

#[test]
fn the_rate_limiter_is_replaced_by_its_version_2_and_back_and_nobody_gets_more_than_the_share() {
    let host = host_with("rate_limiter", &Library::of("rate_limiter_v1"))
        .config("[plugin.rate_limiter]\nlimit = 6\nwindow_seconds = 86400")
        .start();
    let mut client = host.client();
    let take = |client: &mut Client| {
        let taken = client.emit("limit:take", json!({"key": "ada"}));
        (taken["allowed"] == true, taken["remaining"].as_u64().unwrap())
    };
    assert_eq!([take(&mut client), take(&mut client)], [(true, 5), (true, 4)]);
    host.drop_in("librate_limiter.so", &Library::of("rate_limiter_v2"));
    host.until_version("rate_limiter", "2.0.0");
    assert_eq!([take(&mut client), take(&mut client)], [(true, 3), (true, 2)]);
    // Of the state's two versions, the one that version 1 reads: nothing is given up.
    host.ksi(&["rollback", "rate_limiter"]).ok();
    host.until_version("rate_limiter", "1.0.0");
    assert_eq!([take(&mut client), take(&mut client)], [(true, 1), (true, 0)]);
    assert!(!take(&mut client).0);
    host.until_unmapped("rate_limiter");
    // What version 1 has left on the disk, version 2 begins with.
    let stopped = host.stopped();
    let host = stopped.plugin("librate_limiter.so", &Library::of("rate_limiter_v2")).start();
    assert!(!take(&mut host.client()).0);
}

#[test]
fn no_entry_of_the_journal_that_was_acknowledged_is_missing_after_replacements_and_a_restart() {
    let journal = |version| Library::of("journal").of_version(version);
    let host = host_with("journal", &journal(1)).config(JOURNAL).start();
    let done = AtomicBool::new(false);
    let mut acknowledged: Vec<(i64, Value)> = thread::scope(|scope| {
        let ends = Ends(&done);
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let (mut client, done) = (host.client(), &done);
                scope.spawn(move || {
                    let mut written = Vec::new();
                    while !done.load(SeqCst) {
                        let data = json!([writer, written.len()]);
                        let append = json!({"topic": "test", "data": data});
                        let id = client.emit("journal:append", append)["id"].as_i64().unwrap();
                        written.push((id, data));
                    }
                    written
                })
            })
            .collect();
        for version in 2..=8 {
            host.drop_in("libjournal.so", &journal(version));
            host.until_version("journal", &format!("0.0.{version}"));
        }
        drop(ends);
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    host.until_unmapped("journal");
    let host = host.stopped().start();
    let (mut client, mut found) = (host.client(), Vec::new());
    loop {
        let after = found.last().map_or(0, |(id, _)| *id);
        let read = client.emit("journal:read", json!({"after": after, "limit": 1_000}));
        let read = read["entries"].as_array().unwrap();
        if read.is_empty() {
            break;
        }
        found.extend(read.iter().map(|it| (it["id"].as_i64().unwrap(), it["data"].clone())));
    }
    acknowledged.sort_by_key(|(id, _)| *id);
    let sums = (acknowledged.len(), found.len());
    assert!(!found.is_empty() && found == acknowledged, "acknowledged, and found: {sums:?}");
}

#[test]
fn what_is_scheduled_comes_once_although_the_scheduler_is_replaced_and_the_host_restarted() {
    let scheduler = |version| Library::of("scheduler").of_version(version);
    let host = host_with("scheduler", &scheduler(1)).start();
    let (mut client, mut watcher) = (host.client(), host.client());
    watcher.subscribe(&["tea:*"]);
    for number in 0..100 {
        let wait = 100 + number * 10;
        let at =
            json!({"id": format!("{number}"), "event": "tea:ready", "data": number, "in_ms": wait});
        client.emit("schedule:at", at);
    }
    for version in 2..=6 {
        host.drop_in("libscheduler.so", &scheduler(version));
        host.until_version("scheduler", &format!("0.0.{version}"));
    }
    let came: Vec<Value> = (0..100).map(|_| watcher.push_of("tea:ready")).collect();
    assert_eq!(came, (0..100).map(Value::from).collect::<Vec<_>>(), "each once, in order");
    host.until_unmapped("scheduler");

    client.emit("schedule:at", json!({"id": "a", "event": "tea:late", "in_ms": 1}));
    assert_eq!(watcher.push_of("tea:late"), Value::Null);
    let every = json!({"id": "b", "event": "tea:again", "every_ms": 50});
    client.emit("schedule:every", every);
    watcher.push_of("tea:again");
    let host = host.stopped().start();
    let (mut client, mut watcher) = (host.client(), host.client());
    watcher.subscribe(&["tea:*"]);
    let pushes = watcher.pushes_until("tea:again");
    assert_eq!(pushes.last().map(String::as_str), Some("tea:again"), "{pushes:?}");
    assert_eq!(client.emit("schedule:cancel", json!({"id": "b"})), true);
    assert_eq!(client.emit("schedule:list", json!({}))["entries"], json!({}));
}

/// What clients of one kind saw.
#[derive(Default)]
struct Served {
    requests: usize,
    connections: usize,
    slowest: Duration,
}

/// Asks until `done`. Every answer must be the one to its own request, and none may fail.
fn ask_until(address: SocketAddr, who: &str, keeps: bool, done: &AtomicBool) -> Served {
    let mut http = HttpClient::new(address, keeps);
    let mut served = Served::default();
    while !done.load(SeqCst) {
        let name = format!("{who} {}", served.requests);
        let began = Instant::now();
        let answer = http.post("/events/greet:request", &json!({"name": name}));
        let answer = answer.unwrap_or_else(|error| panic!("request {name}: {error}"));
        let greeting = format!("Hello, {name}!");
        assert_eq!((answer.status, &answer.body["text"]), (200, &json!(greeting)), "{answer:?}");
        served.slowest = served.slowest.max(began.elapsed());
        served.requests += 1;
    }
    Served { connections: http.connections, ..served }
}

#[test]
fn no_client_of_the_http_service_notices_that_it_is_replaced() {
    let replacements = if std::env::var_os("KSI_LONG").is_some() { 500 } else { 30 };
    let web = Library::of("web");
    let host = host_with("web", &web.clone().of_version(1))
        .plugin("libhello.so", &Library::of("hello"))
        .config(WEB)
        .start();
    let (address, done, began) = (address(&host), AtomicBool::new(false), Instant::now());
    let [fresh, kept] = thread::scope(|scope| {
        let (ends, done) = (Ends(&done), &done);
        let client = |keeps, number| {
            let who = format!("client {number}");
            scope.spawn(move || ask_until(address, &who, keeps, done))
        };
        let clients = [[client(false, 0), client(false, 1)], [client(true, 2), client(true, 3)]];
        for version in (2..).take(replacements) {
            host.drop_in("libweb.so", &web.clone().of_version(version));
            let [a, b, c] = [100, 10, 1].map(|place| version / place % 10);
            host.until_version("web", &format!("{a}.{b}.{c}"));
        }
        drop(ends);
        clients.map(|of_a_kind| {
            of_a_kind.into_iter().map(|client| client.join().unwrap()).fold(
                Served::default(),
                |sum, one| Served {
                    requests: sum.requests + one.requests,
                    connections: sum.connections + one.connections,
                    slowest: sum.slowest.max(one.slowest),
                },
            )
        })
    });
    let took = began.elapsed();
    let module = host.until_unmapped("web");
    assert_eq!(module["reloads"], replacements);
    let mapped = host.resources().libraries;
    assert_eq!(mapped.iter().filter(|file| file.contains("web")).count(), 1, "{mapped:?}");
    let greeted = host.module("hello")["counts"].take();
    assert_eq!(greeted["accepted"], fresh.requests + kept.requests);
    assert_eq!(greeted["replied"], greeted["accepted"], "{greeted}");
    assert_eq!(fresh.connections, fresh.requests);
    assert!(fresh.requests > replacements && kept.requests > replacements, "there was load");
    println!(
        "{replacements} replacements in {took:.1?}, all old versions unmapped; none refused, none failed of\n\
         {} requests over a connection each, the slowest in {:.0?},\n\
         {} requests over {} kept connections, the slowest in {:.0?}",
        fresh.requests, fresh.slowest, kept.requests, kept.connections, kept.slowest
    );
}

#[test]
fn the_http_service_keeps_its_socket_in_a_rollback_and_lets_go_of_it_when_it_is_unloaded() {
    let host = host_with("web", &Library::of("web")).config(WEB).start();
    let address = address(&host);
    let mut http = HttpClient::new(address, false);
    host.drop_in("libweb.so", &Library::of("web").of_version(2));
    host.until_version("web", "0.0.2");
    host.ksi(&["rollback", "web"]).ok();
    // Nobody is there for the event: the service itself is.
    let mut ask = || http.post("/events/greet:request", &json!({"name": "Ada"}));
    assert_eq!(ask().unwrap().status, 404);
    host.client().emit("module:unload", named("web"));
    host.until_unmapped("web");
    assert!(ask().is_err(), "it is closed");
}
