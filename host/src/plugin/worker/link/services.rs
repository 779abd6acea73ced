//! What a worker asks of the host, done by the session of its generation.

use std::{
    collections::HashMap,
    os::fd::OwnedFd,
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use ksi_abi::{
    Attribute, Buffer, Content, EmitOptions, LogRecord, Refusal, RefusalCode, ReplyForm,
    SpanRecord, Start, To, Value, host::SpanStep,
};
use ksi_kernel::{
    lock::Lock,
    router::plugin_report::PluginReport,
    session::{self, Passed, Session, SessionWatch, SubscribeOptions},
};
use ksi_worker_protocol::{
    Batch, Emit, EmitHow, FromHost, FromWorker, Outcome, OutcomeKind, ReplyForm as FrameForm, Span,
    Subscribe, Watched,
};

use super::{Confined, Link, events};
use crate::plugin::{
    instance::{
        log::{self, Spans},
        services::HostServices,
    },
    worker::process::Death,
};

/// Who is told that a process has ended.
pub(crate) type ToldDown = Box<dyn Fn(&Arc<Link>, &Arc<Death>) + Send + Sync>;

/// In frames: options come as they do through the boundary, and reports and replies stay what they
/// are until they are written.
struct Frames;

/// What became of a request.
enum Reply {
    Json(Buffer),
    Report(PluginReport),
}

impl session::Link for Frames {
    type Options<'a> = &'a EmitOptions<'a>;
    type Report = PluginReport;
    type Reply = Reply;

    fn report(report: PluginReport) -> PluginReport {
        report
    }

    // None is asked for as a value.
    fn value(_: Value) -> Reply {
        Reply::Json(Buffer::from(&b"null"[..]))
    }

    fn bytes(bytes: Buffer) -> Reply {
        Reply::Json(bytes)
    }

    fn other(report: PluginReport) -> Reply {
        Reply::Report(report)
    }
}

/// What the instance in a process has of its host.
pub(crate) struct WorkerHost {
    pub(crate) services: Arc<HostServices>,
    /// What is not done in its name.
    confined: Option<Arc<Confined>>,
    /// Told once, when the process has ended and all of its calls have.
    pub(crate) told_down: ToldDown,
    names: Names,
}

/// The host's numbers for what the worker has numbers of its own for.
#[derive(Default)]
struct Names {
    subscriptions: Lock<HashMap<u64, Subscription>>,
    spans: Lock<HashMap<u64, u64>>,
    open: Spans,
}

/// A subscription of the worker's.
struct Subscription {
    /// The host's number for it.
    number: u64,
    /// Its handler, if that may block its thread.
    blocking: Option<u64>,
}

impl WorkerHost {
    pub(crate) fn new(
        services: Arc<HostServices>,
        confined: Option<Arc<Confined>>,
        told_down: ToldDown,
    ) -> Self {
        WorkerHost { services, confined, told_down, names: Names::default() }
    }

    fn listener(&self, address: &str) -> Result<OwnedFd, Refusal> {
        let may = self.confined.as_ref().map_or(Ok(()), |it| it.may_listen(address));
        may.and_then(|()| self.services.resources().listener(address))
    }

    fn session(&self) -> &Arc<Session> {
        self.services.session()
    }

    pub(super) fn is_down(&self, link: &Arc<Link>, death: &Arc<Death>) {
        (self.told_down)(link, death);
    }
}

impl Link {
    /// Does what the worker asks for.
    pub(super) fn serve(self: &Arc<Self>, id: u64, asked: FromWorker<'_>) -> Result<(), String> {
        if self.outbox.is_overfull() {
            return Err("it goes on asking and does not read the answers".to_owned());
        }
        let is_task =
            matches!(asked, FromWorker::Emit(_) | FromWorker::Wait { .. } | FromWorker::Watch(_));
        if is_task && self.asks.is_open(id) {
            return Err(format!("it asks for something by the number {id}, which is in use"));
        }
        let gives_descriptors =
            matches!(asked, FromWorker::Listen { .. } | FromWorker::Kept { .. });
        if gives_descriptors && !self.outbox.has_few() {
            return Err("it goes on asking for descriptors and does not read them".to_owned());
        }
        let Some(host) = self.host.get() else {
            return Err("it asks for something before an instance is made".to_owned());
        };
        match asked {
            FromWorker::Emit(emit) => return self.emit(host, id, emit),
            FromWorker::Subscribe(_) if host.names.subscriptions.lock().contains_key(&id) => {
                return Err(format!("it subscribes by the number {id}, which is in use"));
            }
            FromWorker::Subscribe(subscribe) => self.subscribe(host, id, &subscribe),
            FromWorker::Unsubscribe => {
                let gone = host.names.subscriptions.lock().remove(&id);
                if let Some(Subscription { number, blocking }) = gone {
                    host.session().unsubscribe(number);
                    blocking.into_iter().for_each(|handler| self.blocks_no_more(handler));
                }
            }
            FromWorker::Wait { timeout, pattern } => self.wait(host, id, timeout, pattern),
            FromWorker::Watch(_) if !self.asks.has_room() => self.too_many_asks(id),
            FromWorker::Watch(watch) => {
                let patterns: Vec<&str> = watch.patterns.iter().collect();
                let capacity = usize::try_from(watch.capacity).unwrap_or(usize::MAX);
                match host.session().watch(&patterns, capacity) {
                    Ok(watch) => self.show(id, Arc::new(watch)),
                    Err(refusal) => self.refuse(id, &refusal),
                }
            }
            FromWorker::Unwatch => self.asks.cancel(id),
            FromWorker::Log(line) => {
                let record = LogRecord {
                    level: line.level,
                    target: line.target.into(),
                    message: line.message.into(),
                    fields: line.fields.into(),
                    extensions: Default::default(),
                };
                let event = self.calls.event(line.call).map(|event| event.numbers());
                self.span_around(host, line.call, line.span).in_scope(|| {
                    log::line_of(&host.services, event, &record);
                });
            }
            FromWorker::Span(span) => self.open_span(host, id, &span),
            FromWorker::SpanEnd => {
                if let Some(number) = host.names.spans.lock().remove(&id) {
                    host.names.open.step(number, SpanStep::Close);
                }
            }
            FromWorker::Listen { address } => match host.listener(address) {
                Ok(descriptor) => self.answer(id, FromHost::Descriptor(descriptor)),
                Err(refusal) => self.refuse(id, &refusal),
            },
            FromWorker::Keep { name, descriptor } => {
                match host.services.resources().keep(name, descriptor) {
                    Ok(()) => self.answer(id, FromHost::Done),
                    Err(refusal) => self.refuse(id, &refusal),
                }
            }
            FromWorker::Kept { name } => match host.services.resources().kept(name) {
                Ok(Some(descriptor)) => self.answer(id, FromHost::Descriptor(descriptor)),
                Ok(None) => self.answer(id, FromHost::Nothing),
                Err(refusal) => self.refuse(id, &refusal),
            },
            FromWorker::StopKeeping { name } => {
                let answer = match host.services.resources().stop_keeping(name) {
                    true => FromHost::Done,
                    false => FromHost::Nothing,
                };
                self.answer(id, answer);
            }
            other => return Err(format!("nothing is asked by {other:?}")),
        }
        Ok(())
    }

    fn emit(self: &Arc<Self>, host: &WorkerHost, id: u64, emit: Emit<'_>) -> Result<(), String> {
        let Emit { how, form, call, timeout, depth, name, attributes, payload } = emit;
        let json = payload.into_bytes(self.limits.payload).map_err(|error| error.to_string())?;
        let content = Content::Bytes(Buffer::from(&*json));
        let parent = self.calls.event(call);
        let attributes: Vec<_> = attributes
            .iter()
            .map(|(key, value)| Attribute { key: key.into(), value: value.into() })
            .collect();
        let options = EmitOptions { timeout, depth, ..EmitOptions::of(&attributes) };
        let said = !attributes.is_empty() || timeout > 0 || depth > 0;
        let options = said.then_some(&options);
        let (session, to) = (host.session(), To::Name(name));
        if let Some(Err(refusal)) = host.confined.as_ref().map(|it| it.may_emit(name)) {
            self.refuse(id, &refusal);
            return Ok(());
        }
        if how == EmitHow::Send {
            let link = self.clone();
            let handled = move || link.answer(id, FromHost::Done);
            let sent = session.send_and_tell(parent.as_ref(), &to, content, options, handled);
            if let Err(refusal) = sent {
                self.refuse(id, &refusal);
            }
            return Ok(());
        }
        if !self.asks.has_room() {
            self.too_many_asks(id);
            return Ok(());
        }
        // Whoever handles it writes within the span that the worker was called in.
        let around = log::is_any_span_open().then(|| self.calls.span_of_emitter(call)).flatten();
        let around = around.unwrap_or_else(tracing::Span::none);
        let _around = around.enter();
        // The first poll is done here. What is not ready by then is polled once more, by a task.
        let cx = &mut Context::from_waker(Waker::noop());
        let link = self.clone();
        match (how, form) {
            (EmitHow::Request, FrameForm::Json) => {
                let form = ReplyForm::Json;
                match session.request::<Frames>(parent.as_ref(), &to, content, options, &form, cx) {
                    Start::Ready(end) => self.answer_request(id, &end),
                    Start::Pending(going) => self.asks.spawn(id, &self.router, async move {
                        let end = going.await;
                        link.outbox.room().await;
                        link.answer_request(id, &end);
                    }),
                }
            }
            _ => match session.emit::<Frames>(parent.as_ref(), &to, content, options, cx) {
                Start::Ready(report) => self.answer_emit(id, &report),
                Start::Pending(going) => self.asks.spawn(id, &self.router, async move {
                    let report = going.await;
                    link.outbox.room().await;
                    link.answer_emit(id, &report);
                }),
            },
        }
        Ok(())
    }

    fn answer_emit(&self, id: u64, report: &PluginReport) {
        self.put_or_refuse(id, |to| events::put_report(id, report, to));
    }

    fn answer_request(&self, id: u64, end: &Reply) {
        let reply = match end {
            Reply::Report(report) => return self.answer_emit(id, report),
            Reply::Json(reply) => &**reply,
        };
        let replied = Outcome {
            kind: OutcomeKind::REPLIED,
            refusal: 0,
            plugin: "",
            handler: "",
            code: "",
            message: "",
            reply,
        };
        self.put_or_refuse(id, |to| to.report(id, [replied]));
    }

    fn subscribe(&self, host: &WorkerHost, id: u64, subscribe: &Subscribe<'_>) {
        let Subscribe { handler, priority, timeout, blocking, pattern } = *subscribe;
        // Whether it may block its thread is the worker's matter: no thread of the host waits.
        let timeout = (timeout > 0).then(|| Duration::from_nanos(timeout));
        let options = SubscribeOptions { priority, timeout, blocking: false };
        let blocking = blocking.then_some(handler);
        // Before it is called.
        blocking.into_iter().for_each(|handler| self.blocks(handler));
        match host.session().subscribe(pattern, handler, options, None) {
            Ok(number) => {
                let subscription = Subscription { number, blocking };
                host.names.subscriptions.lock().insert(id, subscription);
            }
            Err(refusal) => {
                blocking.into_iter().for_each(|handler| self.blocks_no_more(handler));
                let plugin = host.session().plugin();
                tracing::warn!(plugin = &**plugin, "a subscription is refused: {}", refusal.text());
                self.refuse(id, &refusal);
            }
        }
    }

    fn wait(self: &Arc<Self>, host: &WorkerHost, id: u64, timeout: u64, pattern: &str) {
        if !self.asks.has_room() {
            return self.too_many_asks(id);
        }
        let waiting = host.session().wait_for(pattern, Duration::from_nanos(timeout));
        let link = self.clone();
        self.asks.spawn(id, &self.router, async move {
            match waiting.await {
                Ok(Some(event)) => {
                    link.outbox.room().await;
                    let put = events::with_frame(&event, |event| {
                        link.outbox.put(true, |to| FromHost::Waited(Some(event)).put(id, to))
                    });
                    link.or_refuse(id, put);
                }
                Ok(None) => link.answer(id, FromHost::Waited(None)),
                Err(refusal) => link.refuse(id, &refusal),
            }
        });
    }

    /// Shows what passes, as fast as the worker reads it and no faster: what does not fit into the
    /// watch meanwhile is missed.
    fn show(self: &Arc<Self>, id: u64, watch: Arc<SessionWatch>) {
        let link = self.clone();
        self.asks.spawn(id, &self.router, async move {
            loop {
                let step = watch.next().await;
                link.outbox.room().await;
                let last = match step {
                    Some(Passed::Event(event)) => {
                        let put = events::with_frame(&event, |event| {
                            let shown = FromHost::Watched(Watched::Event(event));
                            link.outbox.put(true, |to| shown.put(id, to))
                        });
                        // One that has no JSON is nothing that can be shown.
                        drop(put);
                        continue;
                    }
                    Some(Passed::Missed(count)) => Watched::Missed(count),
                    None => Watched::Ended,
                };
                return link.answer(id, FromHost::Watched(last));
            }
        });
    }

    fn open_span(&self, host: &WorkerHost, id: u64, span: &Span<'_>) {
        let record = SpanRecord {
            level: span.level,
            target: span.target.into(),
            name: span.name.into(),
            fields: span.fields.into(),
            extensions: Default::default(),
        };
        let around = self.span_around(host, span.call, span.parent);
        let open = || host.names.open.open(&host.services, &record);
        let number = around.in_scope(open);
        if number > 0 {
            let same = host.names.spans.lock().insert(id, number);
            same.into_iter().for_each(|number| host.names.open.step(number, SpanStep::Close));
        }
    }

    /// The span that something of the worker lies in: this one of its own, or else the one that
    /// whoever waits for this call is in.
    fn span_around(&self, host: &WorkerHost, call: u64, own: u64) -> tracing::Span {
        let number = host.names.spans.lock().get(&own).copied();
        let own = number.and_then(|number| host.names.open.get(number));
        own.or_else(|| self.calls.span_of_emitter(call)).unwrap_or_else(tracing::Span::none)
    }

    fn answer(&self, id: u64, frame: FromHost<'_>) {
        self.put_or_refuse(id, |to| frame.put(id, to));
    }

    pub(super) fn refuse(&self, id: u64, refusal: &Refusal) {
        let text = refusal.text();
        let refused = FromHost::Refused { code: refusal.code.number(), text: &text };
        let _ = self.outbox.put(true, |to| refused.put(id, to));
    }

    fn too_many_asks(&self, id: u64) {
        let limit = self.limits.asks;
        let text = format_args!("{limit} emits, waits and watches are open already");
        self.refuse(id, &Refusal::new(RefusalCode::TOO_MANY_ASKS, text));
    }

    /// What is too long for a frame is refused in place of it.
    fn put_or_refuse(
        &self,
        id: u64,
        frame: impl FnOnce(&mut Batch) -> Result<(), ksi_worker_protocol::ProtocolError>,
    ) {
        if let Err(error) = self.outbox.put(true, frame) {
            self.refuse(id, &Refusal::new(RefusalCode::TOO_LARGE, error));
        }
    }

    fn or_refuse<T>(
        &self,
        id: u64,
        put: Result<Result<T, ksi_worker_protocol::ProtocolError>, (String, String)>,
    ) {
        match put {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => self.refuse(id, &Refusal::new(RefusalCode::TOO_LARGE, error)),
            Err((_, message)) => {
                self.refuse(id, &Refusal::new(RefusalCode::NOT_ENCODABLE, message));
            }
        }
    }
}

#[cfg(test)]
mod tests;
