//! A client of the host's socket: what it is asked, and what it shows of the events that pass.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use ksi_abi::{Encoding, OutcomeCode, OutcomeView, RefusalCode, ReportHandle, ReportObject};
use ksi_plugin_api::{__private::testing, Error, Report, Result};
use ksi_wire::{
    line::{FailedReply, FailureBeside, Push, Reply, Request},
    monitor::Subscribe,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json, value::RawValue};

use crate::Emitted;

/// How long the host may take for one line. Its own timeouts are shorter.
const PATIENCE: Duration = Duration::from_secs(120);
/// An event that nobody handles: once it is shown, all before it were.
const MARK: &str = "ksi_harness:mark";

/// One connection.
pub(super) struct Connection {
    lines: BufReader<UnixStream>,
    requests: u64,
}

impl Connection {
    pub(super) fn to(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Connection { lines: BufReader::new(stream), requests: 0 })
    }

    /// Emits an event, and waits for what became of it.
    pub(super) fn emit(&mut self, event: &str, payload: &Value) -> Result<Report> {
        let line = self.reply(event, payload)?;
        let told = Told::of(&read(&line)?)?;
        Ok(testing::report(ReportHandle::new(told), event))
    }

    /// Asks the host something of its own.
    pub(super) fn ask<T: DeserializeOwned>(
        &mut self,
        event: &str,
        asked: &impl Serialize,
    ) -> Result<T> {
        let line = self.reply(event, asked)?;
        let reply: Reply<'_> = read(&line)?;
        let data = reply.data.map_or("null", RawValue::get);
        if let Some(error) = reply.error {
            return Err(Error::new("refused", error));
        }
        match reply.failed {
            true => Err(Error::new("refused", read::<FailedReply>(data)?.error)),
            false => read(data),
        }
    }

    fn reply(&mut self, event: &str, data: &impl Serialize) -> Result<String> {
        self.requests += 1;
        let request = Request { event, data, correlation_id: self.requests };
        let mut line = serde_json::to_vec(&request)?;
        line.push(b'\n');
        self.lines.get_mut().write_all(&line)?;
        self.line()
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        match self.lines.read_line(&mut line)? {
            0 => Err(Error::new("hung_up", "the host has ended")),
            _ => Ok(line),
        }
    }
}

fn read<'a, T: serde::Deserialize<'a>>(json: &'a str) -> Result<T> {
    serde_json::from_str(json)
        .map_err(|error| Error::new("not_understood", format_args!("{error} in {json}")))
}

/// What has passed since the connection was made, whoever emitted it.
pub(super) struct Watching {
    passed: Arc<(Mutex<Passed>, Condvar)>,
}

#[derive(Default)]
struct Passed {
    events: Vec<(String, Emitted)>,
    /// The number of the last mark.
    mark: u64,
    over: bool,
}

impl Watching {
    /// Has all events shown on this connection from here on.
    pub(super) fn start(mut connection: Connection) -> Result<Self> {
        let (client_id, every) = ("ksi-harness".to_owned(), "**".to_owned());
        let subscribe = Subscribe { client_id, event_patterns: vec![every] };
        connection.ask::<Value>("monitor:subscribe", &subscribe)?;
        connection.lines.get_mut().set_read_timeout(None)?;
        let passed = Arc::<(Mutex<Passed>, Condvar)>::default();
        let watching = Watching { passed: passed.clone() };
        thread::spawn(move || {
            // It ends with the host.
            while let Ok(line) = connection.line() {
                note(&passed.0, &line);
                passed.1.notify_all();
            }
            locked(&passed.0).over = true;
            passed.1.notify_all();
        });
        Ok(watching)
    }

    /// All that was emitted before this is called, as `host` sees it, with who emitted it.
    pub(super) fn until_now(&self, host: &mut Connection) -> Result<Vec<(String, Emitted)>> {
        let mark = host.requests + 1;
        host.reply(MARK, &json!(mark))?;
        let (passed, more) = &*self.passed;
        let waiting = |passed: &mut Passed| passed.mark < mark && !passed.over;
        let waited = more.wait_timeout_while(locked(passed), PATIENCE, waiting);
        let (passed, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match passed.mark >= mark {
            true => Ok(passed.events.clone()),
            false => Err(Error::new("hung_up", "the host does not show what passes any more")),
        }
    }
}

fn note(passed: &Mutex<Passed>, line: &str) {
    let Ok(Push { event: Some(name), event_id: Some(_), data, source, .. }) = read(line) else {
        return;
    };
    let payload: Value = data.and_then(|data| read(data.get()).ok()).unwrap_or_default();
    let mut passed = locked(passed);
    if name == MARK {
        passed.mark = passed.mark.max(payload.as_u64().unwrap_or_default());
    } else {
        passed.events.push((source.unwrap_or_default(), Emitted { name, payload }));
    }
}

fn locked<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a reply line tells of the outcomes: of those that are well neither whose they are nor, of
/// those without a reply, how many.
#[derive(Debug)]
struct Told(Vec<Outcome>);

#[derive(Debug)]
struct Outcome {
    code: OutcomeCode,
    reply: String,
    failure: FailureBeside,
}

impl Told {
    fn of(reply: &Reply<'_>) -> Result<Self> {
        if let Some(error) = &reply.error {
            let error = error.as_str().map_or_else(|| error.to_string(), str::to_owned);
            let code = "rejected".to_owned();
            return Ok(Told(vec![Outcome::failed(FailureBeside {
                code,
                error,
                ..Default::default()
            })]));
        }
        let data = reply.data.map_or("null", RawValue::get);
        let mut failures = Vec::new();
        for failure in &reply.errors {
            failures.push(Outcome::failed(serde_json::from_value(failure.clone())?));
        }
        if reply.failed {
            let FailedReply { status, error, code, module, handler } = read(data)?;
            // Several stand beside it, this one among them. Of an event that nobody handles, there
            // is none.
            if failures.is_empty() && status == "failed" {
                failures.push(Outcome::failed(FailureBeside { code, error, handler, module }));
            }
            return Ok(Told(failures));
        }
        let mut outcomes: Vec<Outcome> = match reply.count {
            Some(1) => vec![Outcome::replied(data)],
            _ => read::<Vec<&RawValue>>(data)?
                .into_iter()
                .map(|it| Outcome::replied(it.get()))
                .collect(),
        };
        if outcomes.is_empty() {
            outcomes.push(Outcome { code: OutcomeCode::NO_REPLY, ..Outcome::replied("null") });
        }
        outcomes.extend(failures);
        Ok(Told(outcomes))
    }
}

impl Outcome {
    fn replied(reply: &str) -> Self {
        let (code, failure) = (OutcomeCode::REPLIED, FailureBeside::default());
        Outcome { code, reply: reply.to_owned(), failure }
    }

    /// A handler that gives its own errors the code of another ending is taken for that.
    fn failed(failure: FailureBeside) -> Self {
        let code = match failure.code.as_str() {
            "panicked" => OutcomeCode::PANICKED,
            "crashed" => OutcomeCode::CRASHED,
            "timed_out" => OutcomeCode::TIMED_OUT,
            "rejected" => OutcomeCode::REJECTED,
            _ => OutcomeCode::FAILED,
        };
        Outcome { code, reply: "null".to_owned(), failure }
    }
}

impl ReportObject for Told {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn code(&self, index: usize) -> OutcomeCode {
        self.0[index].code
    }

    fn outcome(&self, index: usize) -> OutcomeView<'_> {
        let Outcome { code: kind, failure, .. } = &self.0[index];
        OutcomeView {
            kind: *kind,
            plugin: failure.module.as_str().into(),
            handler: failure.handler.as_str().into(),
            code: failure.code.as_str().into(),
            refusal: RefusalCode::NONE,
            message: failure.error.as_str().into(),
        }
    }

    fn reply(&self, index: usize) -> Result<Encoding<'_>, (&str, &str)> {
        Ok(Encoding::Text(&self.0[index].reply))
    }
}

#[cfg(test)]
mod tests {
    use ksi_plugin_api::OutcomeKind;

    use super::*;

    fn report(line: &Value) -> Report {
        let line = line.to_string();
        let told = Told::of(&read(&line).unwrap()).unwrap();
        testing::report(ReportHandle::new(told), "a:b")
    }

    #[test]
    fn a_reply_of_the_host_is_the_report_that_it_tells() {
        let one = report(&json!({"data": [1, 2], "count": 1}));
        assert_eq!((one.is_ok(), one.results()), (true, vec![json!([1, 2])]));
        let several = report(&json!({"data": [1, 2], "count": 2}));
        assert_eq!(several.results(), [json!(1), json!(2)]);
        let none = report(&json!({"data": [], "count": 0}));
        assert_eq!((none.is_ok(), none.results().len()), (true, 0));
        let nobody = json!({"status": "error", "error": "Unknown event: a:b", "details": {}});
        assert!(!report(&json!({"data": nobody, "count": 1, "failed": true})).handled());
        let failure =
            |code: &str| json!({"code": code, "error": "why", "module": "m", "handler": "h"});
        let mut whole = failure("full");
        whole["status"] = json!("failed");
        let failed = report(&json!({"data": whole, "count": 1, "failed": true}));
        let outcomes = failed.outcomes();
        assert_eq!((&*outcomes[0].plugin, &*outcomes[0].handler), ("m", "h"));
        let expected = OutcomeKind::Failed { code: "full".into(), message: "why".into() };
        assert_eq!(outcomes[0].result, expected);
        let both = [failure("panicked"), failure("timed_out")];
        let both = report(&json!({"data": whole, "count": 1, "failed": true, "errors": both}));
        assert_eq!(both.outcomes().len(), 2);
        assert!(matches!(both.outcomes()[0].result, OutcomeKind::Panicked { .. }));
        assert!(matches!(both.outcomes()[1].result, OutcomeKind::TimedOut { .. }));
        let beside = report(&json!({"data": 7, "count": 1, "errors": [failure("crashed")]}));
        assert_eq!((beside.failed(), beside.results()), (true, vec![json!(7)]));
        let refused = report(&json!({"error": "no"}));
        assert!(matches!(refused.outcomes()[0].result, OutcomeKind::Rejected { .. }));
    }
}
