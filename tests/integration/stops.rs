//! Stops at random moments of start-up, load, replacement and drain: each acknowledged call counts
//! for the next host, and nothing is left behind.
//!
//! Hosts follow one another on the same folders. A client counts what was acknowledged; what was
//! refused or not answered must not have been done. `KSI_LONG=1` makes a thousand stops of it.

use std::{
    collections::BTreeMap,
    fs,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::kit::{
    Client, Ends, HostBuilder, Library, Ran, Running, TestHost, counters, isolated, until,
};

/// Rows of hosts beside one another.
const ROWS: usize = 4;
/// What the plugin that asks others emits again and again.
const BEAT: &str = "beat:now";
/// Clients that count.
const CLIENTS: usize = 3;

/// Numbers that are the same whenever the test is run again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    fn up_to(&mut self, limit: Duration) -> Duration {
        limit.mul_f64(self.below(1_000) as f64 / 1_000.0)
    }
}

/// What the stops met.
#[derive(Default)]
struct Met {
    stops: AtomicUsize,
    /// Hosts that were not ready, and among them those that listened for no signal yet.
    starting: AtomicUsize,
    by_default_action: AtomicUsize,
    /// Hosts that were told more than once.
    again: AtomicUsize,
    acknowledged: AtomicUsize,
    refused: AtomicUsize,
    unanswered: AtomicUsize,
    replacements: AtomicUsize,
}

/// How a request ended.
enum End {
    Answered(Value),
    /// By a host that is stopping.
    Refused,
    /// The connection has ended before its answer.
    Unanswered,
}

/// `hurried` says that the host was told more than once, so that it waits for no call: any of them
/// may fail then, and counts for nothing.
fn request(client: &mut Client, event: &str, data: Value, hurried: &AtomicBool) -> End {
    let line = json!({"event": event, "data": data}).to_string() + "\n";
    if std::io::Write::write_all(&mut client.stream, line.as_bytes()).is_err() {
        return End::Unanswered;
    }
    let Some(line) = client.raw() else { return End::Unanswered };
    let reply: Value = serde_json::from_str(&line).unwrap();
    let code = &reply["data"]["code"];
    match reply.get("failed").is_some() {
        true if code == "stopping" || hurried.load(SeqCst) => End::Refused,
        _ => {
            assert!(reply.get("failed").is_none(), "{event}: {reply:#}");
            End::Answered(reply["data"].clone())
        }
    }
}

fn note(end: &End, met: &Met) {
    let counted = match end {
        End::Answered(_) => &met.acknowledged,
        End::Refused => &met.refused,
        End::Unanswered => &met.unanswered,
    };
    counted.fetch_add(1, SeqCst);
}

/// Counts until the host is gone; how often that was acknowledged in all.
fn count(setup: &HostBuilder, name: &str, before: u64, hurried: &AtomicBool, met: &Met) -> u64 {
    let mut client = Client::connect(&setup.socket());
    let mut last = before;
    loop {
        let millis = if last.is_multiple_of(4) { 3 } else { 0 };
        let one = json!({"name": name, "millis": millis});
        let end = request(&mut client, "counter:increment", one, hurried);
        note(&end, met);
        match end {
            End::Answered(answer) => {
                last += 1;
                assert_eq!(answer["value"], last, "{name}: each acknowledged call counts once");
            }
            End::Refused | End::Unanswered => return last,
        }
    }
}

/// Has one plugin ask the other, a moment after it was asked itself, until the host is gone.
fn ask(setup: &HostBuilder, hurried: &AtomicBool, met: &Met) {
    let mut client = Client::connect(&setup.socket());
    for number in 0.. {
        let event = if number % 2 == 0 { "chaos:echo" } else { "counter:values" };
        let relay = json!({"after": BEAT, "event": event, "data": number});
        let end = request(&mut client, "inquire:relay", relay, hurried);
        note(&end, met);
        match end {
            End::Answered(answer) if number % 2 == 0 => assert_eq!(answer, number),
            End::Answered(answer) => assert!(answer["counters"].is_object(), "{answer:#}"),
            End::Refused | End::Unanswered => return,
        }
    }
}

/// One host after the other on the same folders, each stopped at a random moment.
fn row(seed: u64, stops: usize, met: &Met) {
    let mut random = Random(0x9E37_79B9_7F4A_7C15 ^ (seed + 1).wrapping_mul(0xD134_2543_DE82_EF95));
    // Whoever asks is started first, and would be the last one to go, or the other way round.
    let (asker, counter) = if seed.is_multiple_of(2) { ("a.so", "b.so") } else { ("b.so", "a.so") };
    let setup = TestHost::builder()
        .plugin(asker, &Library::counter(1).called("inquire").stateless())
        .plugin(counter, &Library::counter(1))
        .plugin("c.so", &Library::chaos())
        .config(&format!("[plugin.inquire]\nbackground = '{BEAT}'"));
    let mut acknowledged: BTreeMap<String, u64> = BTreeMap::new();
    for stop in 0..stops {
        let host = Running::start(&mut setup.command());
        let ran = match random.one_in(3) {
            true => stopped_while_starting(host, &mut random, met),
            false => stopped_under_load(host, &setup, counter, &mut acknowledged, &mut random, met),
        };
        let place = format!("row {seed}, stop {stop}");
        assert!(!ran.stderr.contains("panicked"), "{place}: {}", ran.stderr);
        assert!(!setup.socket().exists(), "{place}: the socket is gone");
        let left: Vec<_> = fs::read_dir(setup.temporary()).unwrap().collect();
        assert!(left.is_empty(), "{place}: private copies are gone: {left:?}\n{}", ran.stderr);
        met.stops.fetch_add(1, SeqCst);
    }
    let host = setup.start();
    assert_eq!(counters(&mut host.client()), acknowledged, "row {seed}: the last state is kept");
}

fn stopped_while_starting(mut host: Running, random: &mut Random, met: &Met) -> Ran {
    thread::sleep(random.up_to(Duration::from_millis(300)));
    host.signal(Signal::TERM);
    let ran = host.ended();
    if !ran.stdout.contains("ready") {
        met.starting.fetch_add(1, SeqCst);
    }
    if ran.signal == Some(Signal::TERM.as_raw()) {
        // It had not begun with anything.
        assert_eq!(ran.stdout, "");
        met.by_default_action.fetch_add(1, SeqCst);
    } else {
        assert_eq!(ran.code, Some(0), "{ran:#?}");
    }
    ran
}

fn stopped_under_load(
    mut host: Running,
    setup: &HostBuilder,
    counter: &str,
    acknowledged: &mut BTreeMap<String, u64>,
    random: &mut Random,
    met: &Met,
) -> Ran {
    assert!(host.line().starts_with("ready on "));
    let mut client = Client::connect(&setup.socket());
    assert_eq!(counters(&mut client), *acknowledged, "each acknowledged call is kept");
    let (gone, hurried) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let (gone, hurried) = (&gone, &hurried);
        let load: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let name = format!("client {number}");
                let before = acknowledged.get(&name).copied().unwrap_or_default();
                scope.spawn(move || {
                    let last = count(setup, &name, before, hurried, met);
                    (name, last)
                })
            })
            .collect();
        scope.spawn(|| ask(setup, hurried, met));
        let first = random.below(8);
        let wait = random.up_to(Duration::from_millis(60));
        let ends = Ends(gone);
        let replacing = scope.spawn(move || {
            for version in first.. {
                thread::sleep(wait);
                if gone.load(SeqCst) {
                    return;
                }
                let library = Library::counter(usize::try_from(version % 9 + 1).unwrap());
                crate::kit::put(&setup.plugins().join(counter), &library.0);
                met.replacements.fetch_add(1, SeqCst);
                // Time to settle and to be replaced, or not.
                thread::sleep(Duration::from_millis(80));
            }
        });
        thread::sleep(random.up_to(Duration::from_millis(400)));
        match random.one_in(4) {
            // The answer may be lost with the host.
            true => {
                drop(request(&mut client, "system:shutdown_request", json!({}), hurried));
            }
            false => host.signal(Signal::TERM),
        }
        if random.one_in(4) {
            thread::sleep(random.up_to(Duration::from_millis(10)));
            hurried.store(true, SeqCst);
            let _ = host.try_signal(Signal::TERM);
            met.again.fetch_add(1, SeqCst);
        }
        until("it ends", || host.has_ended(), |ended| *ended);
        drop(ends);
        acknowledged.extend(load.into_iter().map(|client| client.join().unwrap()));
        replacing.join().unwrap();
    });
    let ran = host.ended();
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    ran
}

#[test]
fn a_stop_at_any_moment_keeps_what_was_acknowledged_and_leaves_nothing_behind() {
    let stops = match std::env::var_os("KSI_LONG") {
        Some(_) => 1_000,
        None => 24,
    };
    let (met, began) = (Met::default(), Instant::now());
    thread::scope(|scope| {
        let met = &met;
        let rows: Vec<_> = (0..ROWS as u64)
            .map(|seed| isolated::spawn_in_test(scope, move || row(seed, stops / ROWS, met)))
            .collect();
        for (seed, row) in rows.into_iter().enumerate() {
            assert!(row.join().is_ok(), "row {seed} has failed");
        }
    });
    let told = |counter: &AtomicUsize| counter.load(SeqCst);
    eprintln!(
        "{} stops in {:?}: {} while starting ({} before signals were listened for), {} told twice; {} calls acknowledged, \
         {} refused, {} unanswered and not done; {} replacements",
        told(&met.stops),
        began.elapsed(),
        told(&met.starting),
        told(&met.by_default_action),
        told(&met.again),
        told(&met.acknowledged),
        told(&met.refused),
        told(&met.unanswered),
        told(&met.replacements),
    );
    assert_eq!(told(&met.stops), stops / ROWS * ROWS);
    assert!(told(&met.acknowledged) > 0, "there was load");
}
