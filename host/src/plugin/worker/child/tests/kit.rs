//! A host that is a script: it sends frames, and reads those of the worker as texts.

use std::{
    collections::VecDeque,
    os::fd::OwnedFd,
    thread::{self, JoinHandle},
    time::Duration,
};

use ksi_plugin_api::{__private::testing, Plugin, json};
use ksi_worker_protocol::{
    AttributesBuf, Batch, Call, Event, FromHost, FromWorker, Inbox, Outcome, OutcomeKind, Payload,
    ReplyForm, Watched,
    life::{Limits, Open},
    transport,
};

use super::fake::number_of;
use crate::plugin::worker::child;

pub(super) struct Host {
    socket: OwnedFd,
    inbox: Inbox,
    batch: Batch,
    next: u64,
    limits: Limits,
    read: VecDeque<(String, Option<OwnedFd>)>,
    last: u64,
    descriptor: Option<OwnedFd>,
    worker: JoinHandle<Result<(), String>>,
}

fn opens<P: Plugin>(_: &Open) -> Result<child::OpenedPlugin, String> {
    let module = testing::module::<P>();
    let ksi_abi::CallEnd::Reply(description) = ksi_abi::module::describe(module) else {
        return Err("it does not describe itself".to_owned());
    };
    let description = serde_json::from_slice(&description).map_err(|it| it.to_string())?;
    Ok(child::OpenedPlugin { module, description, _library: None })
}

impl Host {
    /// A worker that waits to be told what to open.
    pub(super) fn start<P: Plugin>(limits: Limits) -> Self {
        let (socket, theirs) = transport::pair().unwrap();
        let (timeout, which) = (Some(Duration::from_secs(20)), rustix::net::sockopt::Timeout::Recv);
        rustix::net::sockopt::set_socket_timeout(&socket, which, timeout).unwrap();
        let worker = thread::spawn(move || {
            child::run(theirs, child::HostProcess::of_nobody(), opens::<P>, |_| {})
        });
        let (inbox, batch, read) = (Inbox::new(), Batch::new(), VecDeque::new());
        let descriptor = None;
        let mut host =
            Host { socket, inbox, batch, next: 0, limits, read, last: 0, descriptor, worker };
        assert_eq!(host.next(), "hello");
        host
    }

    /// One with an instance.
    pub(super) fn live<P: Plugin>(config: serde_json::Value, limits: Limits) -> Self {
        let mut host = Host::start::<P>(limits);
        host.open();
        let id = host.put(FromHost::Create(Payload::Bytes(config.to_string().as_bytes())));
        assert_eq!(host.next(), format!("created {id}"));
        host
    }

    pub(super) fn open(&mut self) -> String {
        self.put_open(json!(null));
        self.until("opened")
    }

    pub(super) fn put_open(&mut self, sandbox: serde_json::Value) -> u64 {
        let open = Open {
            plugin: "fake".to_owned(),
            level: 3,
            limits: self.limits.clone(),
            sandbox,
            ..Open::default()
        };
        self.put(FromHost::Open(Payload::Bytes(&open.to_json())))
    }

    /// Sends it under a number of its own.
    pub(super) fn put(&mut self, frame: FromHost<'_>) -> u64 {
        self.next += 1;
        self.answer(self.next, frame);
        self.next
    }

    /// Sends it under a number.
    pub(super) fn answer(&mut self, id: u64, frame: FromHost<'_>) {
        frame.put(id, &mut self.batch).unwrap();
        self.flush();
    }

    /// Answers what was read.
    pub(super) fn answer_to(&mut self, asked: &str, frame: FromHost<'_>) {
        self.answer(asked.split(' ').nth(1).unwrap().parse().unwrap(), frame);
    }

    pub(super) fn flush(&mut self) {
        transport::send(&self.socket, &mut self.batch).unwrap();
    }

    pub(super) fn call(&mut self, handler: &str, payload: &str) -> u64 {
        self.call_number(number_of(handler), payload)
    }

    pub(super) fn call_number(&mut self, handler: u64, payload: &str) -> u64 {
        let id = self.add_call(handler, payload, false);
        self.flush();
        id
    }

    pub(super) fn call_later(&mut self, handler: &str, payload: &str) -> u64 {
        self.add_call(number_of(handler), payload, false)
    }

    pub(super) fn call_blocking(&mut self, handler: &str, payload: &str) -> u64 {
        let id = self.add_call(number_of(handler), payload, true);
        self.flush();
        id
    }

    fn add_call(&mut self, handler: u64, payload: &str, blocking: bool) -> u64 {
        self.next += 1;
        let attributes: AttributesBuf = [("who", "me")].into_iter().collect();
        let event = event("fake:any", &attributes, payload.as_bytes());
        let (form, nanoseconds_left) = (ReplyForm::Json, 0);
        let call = Call { handler, form, blocking, nanoseconds_left, event };
        FromHost::Call(call).put(self.next, &mut self.batch).unwrap();
        self.next
    }

    /// Says what became of an event that was emitted.
    pub(super) fn report(&mut self, asked: &str, outcomes: &[(OutcomeKind, &str)]) {
        let id = asked.split(' ').nth(1).unwrap().parse().unwrap();
        let outcomes = outcomes.iter().map(|(kind, reply)| Outcome {
            kind: *kind,
            refusal: 0,
            plugin: "other",
            handler: "any",
            code: "",
            message: "",
            reply: reply.as_bytes(),
        });
        self.batch.report(id, outcomes).unwrap();
        self.flush();
    }

    /// The event that was waited for.
    pub(super) fn answer_event(&mut self, asked: &str, name: &str) {
        let none = AttributesBuf::default();
        self.answer_to(asked, FromHost::Waited(Some(event(name, &none, b"1"))));
    }

    /// An event that passes.
    pub(super) fn show(&mut self, watch: u64, name: &str) {
        let none = AttributesBuf::default();
        self.answer(watch, FromHost::Watched(Watched::Event(event(name, &none, b"1"))));
    }

    /// What the worker says next.
    pub(super) fn next(&mut self) -> String {
        let (text, descriptor) = match self.read.pop_front() {
            Some(read) => read,
            None => self.read_on(),
        };
        self.taken(text, descriptor)
    }

    /// The next that it says of this kind.
    pub(super) fn until(&mut self, kind: &str) -> String {
        let is = |text: &str| text.split(' ').next() == Some(kind);
        let (text, descriptor) = match self.read.iter().position(|(text, _)| is(text)) {
            Some(at) => self.read.remove(at).unwrap(),
            None => loop {
                let read = self.read_on();
                match is(&read.0) {
                    true => break read,
                    false => self.read.push_back(read),
                }
            },
        };
        self.taken(text, descriptor)
    }

    fn taken(&mut self, text: String, descriptor: Option<OwnedFd>) -> String {
        self.last = text.split(' ').nth(1).and_then(|it| it.parse().ok()).unwrap_or(0);
        self.descriptor = descriptor;
        text
    }

    /// The number of what was taken last.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// The descriptor that came with what was taken last.
    pub(super) fn descriptor(&mut self) -> OwnedFd {
        self.descriptor.take().unwrap()
    }

    fn read_on(&mut self) -> (String, Option<OwnedFd>) {
        loop {
            if let Some(frame) = self.inbox.next().unwrap() {
                let id = frame.id;
                let (text, descriptor) = told(id, FromWorker::read(frame).unwrap());
                if text != "stats" {
                    return (text, descriptor);
                }
                continue;
            }
            let count = transport::receive(&self.socket, &mut self.inbox);
            assert!(count.expect("a worker says something") > 0, "the worker has ended");
        }
    }

    /// Lets it end as it should.
    pub(super) fn ends(mut self) {
        let id = self.put(FromHost::Shutdown);
        assert_eq!(self.until("bye"), format!("bye {id}"));
        self.has_ended().unwrap();
    }

    /// How it ended.
    pub(super) fn has_ended(self) -> Result<(), String> {
        self.worker.join().unwrap()
    }

    pub(super) fn hangs_up(self) -> Result<(), String> {
        drop(self.socket);
        self.worker.join().unwrap()
    }

    pub(super) fn sends_nonsense(self) -> Result<(), String> {
        rustix::net::send(&self.socket, &[0; 16], rustix::net::SendFlags::empty()).unwrap();
        self.has_ended()
    }
}

fn event<'a>(name: &'a str, attributes: &'a AttributesBuf, payload: &'a [u8]) -> Event<'a> {
    Event {
        id: 100,
        parent: 0,
        root: 100,
        timestamp: 1,
        depth: 3,
        name,
        source: "shop",
        attributes: attributes.attributes(),
        payload: Payload::Bytes(payload),
    }
}

/// A frame as a text: its kind, its number, and what is in it.
fn told(id: u64, frame: FromWorker<'_>) -> (String, Option<OwnedFd>) {
    let text = |payload: Payload<'_>| payload.into_text(u64::MAX).unwrap();
    let kept = |keeps: bool| if keeps { " kept" } else { "" };
    let mut along = None;
    let told = match frame {
        FromWorker::Hello(_) => "hello".to_owned(),
        FromWorker::Stats(_) => "stats".to_owned(),
        FromWorker::Opened(opened) => format!("opened {id} {}", text(opened)),
        FromWorker::Created => format!("created {id}"),
        FromWorker::Bye => format!("bye {id}"),
        FromWorker::Pong => format!("pong {id}"),
        FromWorker::Release => format!("release {id}"),
        FromWorker::Cancel => format!("cancel {id}"),
        FromWorker::Unsubscribe => format!("unsubscribe {id}"),
        FromWorker::Unwatch => format!("unwatch {id}"),
        FromWorker::SpanEnd => format!("span_end {id}"),
        FromWorker::Reply { keeps, reply } => format!("reply {id} {}{}", text(reply), kept(keeps)),
        FromWorker::NoReply { keeps } => format!("no_reply {id}{}", kept(keeps)),
        FromWorker::Failed { keeps, code, message } => {
            format!("failed {id} {code}: {}{}", text(message), kept(keeps))
        }
        FromWorker::Panicked { keeps, message } => {
            format!("panicked {id} {}{}", text(message), kept(keeps))
        }
        FromWorker::Emit(emit) => {
            let mut all = format!("emit {id} {:?} of {} {}", emit.how, emit.call, emit.name);
            all += &format!(" {}", text(emit.payload));
            emit.attributes.iter().for_each(|(key, value)| all += &format!(" {key}={value}"));
            if emit.timeout > 0 || emit.depth > 0 {
                all += &format!(" timeout {} depth {}", emit.timeout, emit.depth);
            }
            all
        }
        FromWorker::Subscribe(it) => {
            let how = format!("{} {} {}", it.priority, it.timeout, it.blocking);
            format!("subscribe {id} {} {} {how}", it.handler, it.pattern)
        }
        FromWorker::Wait { timeout, pattern } => format!("wait {id} {pattern} {timeout}"),
        FromWorker::Watch(watch) => {
            let patterns: Vec<_> = watch.patterns.iter().collect();
            format!("watch {id} {} {}", watch.capacity, patterns.join(" "))
        }
        FromWorker::Log(log) => format!("log {} {} {}", log.level, log.call, log.message),
        FromWorker::Span(span) => format!("span {id} {} {}", span.parent, span.name),
        FromWorker::Listen { address } => format!("listen {id} {address}"),
        FromWorker::Keep { name, descriptor } => {
            along = Some(descriptor);
            format!("keep {id} {name}")
        }
        FromWorker::Kept { name } => format!("kept {id} {name}"),
        FromWorker::StopKeeping { name } => format!("stop_keeping {id} {name}"),
    };
    (told, along)
}
