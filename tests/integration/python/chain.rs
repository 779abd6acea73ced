//! A native plugin asks one in Python, which asks native ones, while each of them is replaced and
//! processes are killed: every event has one outcome, and what one request causes is one tree.
//!
//! `KSI_CHAIN=100 cargo test -p ksi-tests --test integration -- --nocapture chain` replaces each of
//! them so often, and says what became of how many.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
    time::Instant,
};

use super::*;
use crate::kit::{Client, Ends, counters, isolated};

const CLIENTS: usize = 3;

/// A module that asks two native plugins and tells where in the tree it is.
fn middle(version: usize) -> String {
    format!(
        r#"
from ksi.events import event_handler, emit_event

__version__ = "{version}"


@event_handler("middle:step")
async def step(data, context):
    counted = await emit_event("counter:increment", {{"name": data["client"]}})
    leaf = await emit_event("chaos:version", {{}})
    own, root = context["_event_id"], context["_root_event_id"]
    return {{"id": own, "root": root, "counted": counted, "leaf": leaf}}
"#
    )
}

/// The native plugin that asks: in a process of its own, so that it can be killed, too.
fn sending(version: usize) -> Library {
    Library::counter(version).called("sending")
}

fn host() -> TestHost {
    let config = "
        [reload]
        probation = '0s'
        [isolation]
        intensity = 1000
        period = '1s'
        [isolation.plugins.sending]
        mode = 'process'
        [timeouts]
        hold = '30s'
        [limits]
        subscriber_queue = 100000
    ";
    let builder = TestHost::builder()
        .config(config)
        .plugin("sending.so", &sending(1))
        .plugin("counter.so", &Library::counter(1))
        .plugin("chaos.so", &Library::chaos());
    module(builder, "middle.py", &middle(1)).start()
}

/// Replaces a plugin so often, and kills its process after every fourth time, beginning with that
/// of this number; how often it did.
fn replace(
    host: &TestHost,
    name: &str,
    times: usize,
    kill_from: Option<usize>,
    put: impl Fn(usize),
) -> usize {
    let mut killed = 0;
    for time in 0..times {
        put(time + 2);
        host.until_module(&format!("{name} is replaced"), name, |module| {
            module["reloads"] == time + 1 && module["state"] == "live"
        });
        if kill_from.is_some_and(|from| time % 4 == from) {
            let pid = pid_of(host, name).unwrap();
            kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
            host.until_module(&format!("{name} has another process"), name, |module| {
                module["state"] == "live" && module["residence"]["pid"] != pid
            });
            killed += 1;
        }
    }
    killed
}

/// What became of a client's requests, in their order.
type Answers = Vec<Value>;

/// Asks without a pause.
fn ask_until(host: &TestHost, client: &str, done: &AtomicBool) -> Answers {
    let (mut connection, mut answers) = (host.client(), Answers::new());
    while !done.load(SeqCst) {
        let data = json!({"client": client, "number": answers.len()});
        let ask = json!({"event": "middle:step", "data": data});
        answers.push(connection.reply("sending:relay", ask));
    }
    answers
}

/// An event that passed.
#[derive(Debug)]
struct Seen {
    id: u64,
    parent: Option<u64>,
    data: Value,
}

/// The events of the chain by name, until this many were asked for, and then to the last.
fn see_until(watcher: &mut Client) -> BTreeMap<String, Vec<Seen>> {
    let mut seen = BTreeMap::<String, Vec<Seen>>::new();
    loop {
        let mut push = watcher.push();
        let name = push["event"].as_str().unwrap().to_owned();
        if name == "test:end" {
            return seen;
        }
        let number = |key: &str| {
            let digits = push[key].as_str()?.strip_prefix("evt_").unwrap();
            Some(u64::from_str_radix(digits, 16).unwrap())
        };
        let (id, parent) = (number("_event_id").unwrap(), number("_parent_event_id"));
        seen.entry(name).or_default().push(Seen { id, parent, data: push["data"].take() });
    }
}

#[test]
fn every_event_of_a_chain_has_one_outcome_and_one_place_while_all_of_it_is_replaced_and_killed() {
    if !is_there() {
        return;
    }
    let asked_for = std::env::var("KSI_CHAIN").ok().map(|times| times.parse().unwrap());
    let times: usize = asked_for.unwrap_or(10);
    let (host, begun) = (host(), Instant::now());
    let mut watcher = host.client();
    watcher.subscribe(&["sending:*", "middle:*", "counter:*", "chaos:*", "test:end"]);
    let seeing = thread::spawn(move || see_until(&mut watcher));
    let done = AtomicBool::new(false);
    let names: Vec<String> = (0..CLIENTS).map(|number| format!("client {number}")).collect();
    let (answers, killed) = thread::scope(|scope| {
        let ends = Ends(&done);
        let (host, done) = (&host, &done);
        let clients: Vec<_> = names
            .iter()
            .map(|name| isolated::spawn_in_test(scope, move || ask_until(host, name, done)))
            .collect();
        let replacing = [
            isolated::spawn_in_test(scope, move || {
                let put = |version| host.drop_in("sending.so", &sending(version));
                replace(host, "sending", times, Some(2), put)
            }),
            isolated::spawn_in_test(scope, move || {
                let put = |version| save(host, "middle.py", &middle(version));
                replace(host, "middle", times, Some(0), put)
            }),
            isolated::spawn_in_test(scope, move || {
                let put = |version| host.drop_in("counter.so", &Library::counter(version));
                replace(host, "counter", times, None, put)
            }),
        ];
        let killed: usize = replacing.into_iter().map(|thread| thread.join().unwrap()).sum();
        drop(ends);
        let answers = clients.into_iter().map(|thread| thread.join().unwrap());
        (names.iter().zip(answers).collect::<BTreeMap<&String, Answers>>(), killed)
    });
    let counts = ["sending", "middle", "counter"].map(|name| (name, all_ended(&host, name)));
    host.client().reply("test:end", json!({}));
    let seen = seeing.join().unwrap();
    let trees = Trees::of(&seen);
    let asked: usize = answers.values().map(Vec::len).sum();
    let mut answered = 0;
    for (client, answers) in &answers {
        let mut last = 0;
        for (number, answer) in answers.iter().enumerate() {
            let root = trees.roots[&(client.to_string(), number)];
            match trees.check(root, answer) {
                Some(value) => {
                    assert!(value > last, "{client} gets a later value: {last}, {answer}");
                    (last, answered) = (value, answered + 1);
                }
                None => assert_eq!(answer["data"]["code"], "crashed", "{answer}"),
            }
        }
    }
    assert_eq!(trees.roots.len(), asked, "each request is one event");
    // Each event was one call of one handler, whichever of its versions that was.
    for ((plugin, counts), event) in
        counts.iter().zip(["sending:relay", "middle:step", "counter:increment"])
    {
        assert_eq!(counts["accepted"], seen[event].len(), "{plugin}: {counts}");
    }
    // Of what the native plugin was asked, it has lost nothing and done nothing twice.
    let mut expected = BTreeMap::<String, u64>::new();
    for increment in &seen["counter:increment"] {
        *expected.entry(increment.data["name"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    let found = counters(&mut host.client());
    let done = |of: &str| found.get(of).copied().unwrap_or_default();
    assert!(expected.iter().all(|(of, asked)| done(of) <= *asked), "{found:?} {expected:?}");
    // What it had not begun when the process that asked was killed is not done any more.
    let replied = counts[2].1["replied"].as_u64().unwrap();
    let left = seen["counter:increment"].len() as u64 - replied;
    assert!(left <= (killed * CLIENTS) as u64, "{left} of {killed} killed: {}", counts[2].1);
    let missing = expected.iter().map(|(of, asked)| asked - done(of)).sum::<u64>();
    assert!(missing <= left, "{missing} {left}: {}", counts[2].1);
    assert!(killed >= times / 2 && answered > asked / 2, "{killed} {answered} of {asked}");
    if asked_for.is_some() {
        println!(
            "{times} replacements of each of three, {killed} processes killed, in {:.1} s: {asked} \
             requests, {answered} answered, {} crashed, none lost, none twice; {} events in {asked} trees",
            begun.elapsed().as_secs_f64(),
            asked - answered,
            seen.values().map(Vec::len).sum::<usize>(),
        );
        counts.iter().for_each(|(plugin, counts)| println!("{plugin}: {counts}"));
    }
}

/// How a plugin's calls ended, once all have: each in one way.
#[track_caller]
fn all_ended(host: &TestHost, name: &str) -> Value {
    let module = host.until_module("its calls end", name, |it| it["counts"]["in_flight"] == 0);
    let counts = &module["counts"];
    let ways = ["replied", "no_reply", "failed", "panicked", "crashed", "timed_out", "rejected"];
    let ended: u64 = ways.iter().map(|way| counts[way].as_u64().unwrap()).sum();
    assert_eq!(counts["accepted"], ended, "{name}: {counts}");
    counts.clone()
}

/// What each request has caused.
struct Trees<'a> {
    /// The event of a client's request of a number.
    roots: BTreeMap<(String, usize), u64>,
    /// What an event has caused, with the name.
    children: BTreeMap<u64, Vec<(&'a str, &'a Seen)>>,
}

impl<'a> Trees<'a> {
    /// Every event but a root has a parent that is there, and none has two of the same name.
    fn of(seen: &'a BTreeMap<String, Vec<Seen>>) -> Self {
        let (mut roots, mut children) = (BTreeMap::new(), BTreeMap::<_, Vec<_>>::new());
        for root in &seen["sending:relay"] {
            assert_eq!(root.parent, None, "{root:?}");
            let of = &root.data["data"];
            let number = usize::try_from(of["number"].as_u64().unwrap()).unwrap();
            let key = (of["client"].as_str().unwrap().to_owned(), number);
            assert_eq!(roots.insert(key, root.id), None, "{root:?}");
        }
        let steps = [
            ("middle:step", "sending:relay"),
            ("counter:increment", "middle:step"),
            ("chaos:version", "middle:step"),
        ];
        for (name, above) in steps {
            let parents: BTreeSet<u64> = seen[above].iter().map(|it| it.id).collect();
            for step in &seen[name] {
                let parent = step.parent.unwrap();
                assert!(parents.contains(&parent), "{step:?}");
                let beside = children.entry(parent).or_default();
                assert!(beside.iter().all(|(other, _)| *other != name), "{step:?} {beside:?}");
                beside.push((name, step));
            }
        }
        Trees { roots, children }
    }

    /// The one thing of this name that an event has caused.
    #[track_caller]
    fn child(&self, of: u64, name: &str) -> &Seen {
        let all = &self.children[&of];
        all.iter().find(|(other, _)| *other == name).expect(name).1
    }

    /// The value that a whole answer has brought; nothing if the request has failed.
    #[track_caller]
    fn check(&self, root: u64, answer: &Value) -> Option<u64> {
        if answer["failed"] == true {
            return None;
        }
        let told = &answer["data"];
        let step = self.child(root, "middle:step");
        // Python has the numbers as texts.
        let [own, of_root] = [step.id, root].map(|id| json!(id.to_string()));
        assert_eq!((&told["id"], &told["root"]), (&own, &of_root), "{answer}");
        let leaf = ["id", "parent", "root"].map(|key| told["leaf"][0]["event"][key].as_u64());
        let event = self.child(step.id, "chaos:version").id;
        assert_eq!(leaf, [Some(event), Some(step.id), Some(root)], "{answer}");
        self.child(step.id, "counter:increment");
        let counted = told["counted"].as_array().unwrap();
        assert_eq!((counted.len(), told["leaf"].as_array().unwrap().len()), (1, 1), "{answer}");
        counted[0]["value"].as_u64()
    }
}
