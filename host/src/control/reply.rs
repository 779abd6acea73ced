//! The lines a client is sent. Payloads go into them as the bytes they are, without being decoded.

use ksi_kernel::event::Event;
use ksi_wire::line::{FailedReply, FailureBeside, Known, Refusal, UnknownEvent};
use ksi_wire::monitor::{DROPPED, SubscriberDropped};
use serde::Serialize;

use super::request::{CorrelationId, Malformed};
use super::unix_now;
use crate::clients::Ended;
use ksi_kernel::report::{Outcome, OutcomeKind, Report};

/// Where a failure of the host's own comes from.
const HOST: &str = "host";
/// Similar names that an unknown event is answered with.
const SIMILAR: usize = 5;
/// How alike two names must be, from 0 to 1, to be called similar.
const ALIKE: f64 = 0.75;
/// Characters of a client's text that an error repeats.
const SHOWN: usize = 100;

/// The reply to one request.
pub(super) struct Reply<'a> {
    pub(super) event: &'a str,
    pub(super) correlation_id: &'a CorrelationId<'a>,
    /// The time that it carries, in seconds since the Unix epoch.
    pub(super) at: f64,
}

impl Reply<'_> {
    /// What became of the event, appended to `lines`. `names` are the events that exist; they are
    /// asked for only when this one does not.
    pub(super) fn report(
        &self,
        report: &Report,
        names: impl FnOnce() -> Vec<String>,
        lines: &mut Vec<u8>,
    ) {
        if report.unhandled() {
            return self.no_such_event(&format!("Unknown event: {}", self.event), &names(), lines);
        }
        self.outcomes(report.outcomes(), lines);
    }

    fn outcomes(&self, outcomes: &[Outcome], lines: &mut Vec<u8>) {
        if let [Outcome { result: OutcomeKind::Replied(payload), .. }] = outcomes {
            return self.line(&[payload.as_json()], false, &[], lines);
        }
        let failures: Vec<FailedReply> = outcomes.iter().filter_map(failure_of).collect();
        if let Some(first) = failures.first()
            && failures.len() == outcomes.len()
        {
            // `data` tells of one failure; of several, none is to vanish.
            let errors = if failures.len() > 1 { &failures[..] } else { &[] };
            return self.line(&[&encode(first)], true, errors, lines);
        }
        let results: Vec<&[u8]> = outcomes
            .iter()
            .filter_map(|outcome| match &outcome.result {
                OutcomeKind::Replied(payload) => Some(payload.as_json()),
                _ => None,
            })
            .collect();
        self.line(&results, false, &failures, lines);
    }

    /// One result of this layer's own.
    pub(super) fn result(&self, data: &impl Serialize) -> Vec<u8> {
        let mut line = Vec::new();
        self.line(&[&encode(data)], false, &[], &mut line);
        line
    }

    /// One failure of this layer's own.
    pub(super) fn failed(&self, failure: &FailedReply) -> Vec<u8> {
        let mut line = Vec::new();
        self.line(&[&encode(failure)], true, &[], &mut line);
        line
    }

    /// For a name that no event has, with what it could have been.
    pub(super) fn no_such_event(&self, error: &str, names: &[String], lines: &mut Vec<u8>) {
        let details =
            Known { namespaces: namespaces(names), similar: similar(&shown(self.event), names) };
        let (error, status) = (error.to_owned(), "error".into());
        let data = UnknownEvent { details, error, status };
        self.line(&[&encode(&data)], true, &[], lines);
    }

    fn line(&self, results: &[&[u8]], failed: bool, errors: &[FailedReply], line: &mut Vec<u8>) {
        let bytes = results.iter().map(|result| result.len() + 1).sum::<usize>();
        line.reserve(bytes + self.event.len() + 160);
        line.extend_from_slice(b"{\"event\":");
        append(line, &self.event);
        line.extend_from_slice(b",\"data\":");
        if let [result] = results {
            append_json(line, result);
        } else {
            line.push(b'[');
            for (index, result) in results.iter().enumerate() {
                if index > 0 {
                    line.push(b',');
                }
                append_json(line, result);
            }
            line.push(b']');
        }
        line.extend_from_slice(b",\"count\":");
        append(line, &results.len());
        line.extend_from_slice(b",\"correlation_id\":");
        line.extend_from_slice(self.correlation_id.as_json().as_bytes());
        line.extend_from_slice(b",\"timestamp\":");
        append(line, &self.at);
        if failed {
            line.extend_from_slice(b",\"failed\":true");
        }
        if !errors.is_empty() {
            let errors: Vec<_> = errors.iter().map(beside).collect();
            line.extend_from_slice(b",\"errors\":");
            append(line, &errors);
        }
        line.extend_from_slice(b"}\n");
    }
}

/// The line for something that is no request, appended to `lines`.
pub(super) fn malformed(malformed: &Malformed<'_>, lines: &mut Vec<u8>) {
    lines.extend_from_slice(b"{\"error\":");
    append(lines, &malformed.reason.to_string());
    if malformed.correlation_id.is_given() {
        lines.extend_from_slice(b",\"correlation_id\":");
        lines.extend_from_slice(malformed.correlation_id.as_json().as_bytes());
    }
    lines.extend_from_slice(b"}\n");
}

/// The line for a client above the limit of connections.
pub(super) fn too_many_clients(limit: usize) -> Vec<u8> {
    let error = format!("Too many connections: this host serves {limit} at once; try again later");
    let mut line = encode(&Refusal { error });
    line.push(b'\n');
    line
}

/// The last line for a client that is ended.
pub(super) fn ended(why: Ended) -> Vec<u8> {
    let mut line = encode(&Refusal { error: format!("This connection is ended: {why}") });
    line.push(b'\n');
    line
}

/// The line that a subscriber gets for an event.
pub(super) fn push(event: &Event) -> Vec<u8> {
    let parent = event.parent().map(|id| id.to_string());
    let parent = parent.as_deref().or_else(|| event.attribute("_parent_event_id"));
    push_line(event.name(), event.payload().as_json(), event.timestamp(), |line| {
        line.extend_from_slice(b",\"_event_id\":");
        append(line, &event.id().to_string());
        line.extend_from_slice(b",\"_correlation_id\":");
        append(line, &event.attribute("_correlation_id"));
        line.extend_from_slice(b",\"_parent_event_id\":");
        append(line, &parent);
        line.extend_from_slice(b",\"_source\":");
        append(line, &event.source());
    })
}

/// The last line for a subscriber that did not keep up.
pub(super) fn dropped(client_id: &str, missed: u64, queue: usize) -> Vec<u8> {
    let reason = format!(
        "more than {queue} events waited for this subscriber, or too many bytes; the connection is closed"
    );
    let data = SubscriberDropped { client_id: client_id.to_owned(), missed, reason };
    push_line(DROPPED, &encode(&data), unix_now(), |_| ())
}

fn push_line(name: &str, data: &[u8], timestamp: f64, ids: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut line = Vec::with_capacity(data.len() + 2 * name.len() + 200);
    line.extend_from_slice(b"{\"event\":");
    append(&mut line, &name);
    line.extend_from_slice(b",\"event_name\":");
    append(&mut line, &name);
    line.extend_from_slice(b",\"data\":");
    append_json(&mut line, data);
    line.extend_from_slice(b",\"timestamp\":");
    append(&mut line, &timestamp);
    ids(&mut line);
    line.extend_from_slice(b"}\n");
    line
}

/// The outcome's failure, unless it is none. What the host itself does has no plugin's name.
fn failure_of(outcome: &Outcome) -> Option<FailedReply> {
    let result = &outcome.result;
    if result.is_ok() {
        return None;
    }
    let module = if outcome.plugin.is_empty() { HOST } else { &outcome.plugin };
    Some(FailedReply {
        status: "failed".into(),
        error: result.message(),
        code: result.code().to_owned(),
        module: module.to_owned(),
        handler: outcome.handler.to_string(),
    })
}

/// A failure on the host's side of the socket.
pub(super) fn failure_of_host(handler: &str, code: &str, error: String) -> FailedReply {
    let (module, handler) = (HOST.to_owned(), handler.to_owned());
    FailedReply { status: "failed".into(), error, code: code.to_owned(), module, handler }
}

fn beside(failure: &FailedReply) -> FailureBeside {
    let FailedReply { error, code, module, handler, .. } = failure.clone();
    FailureBeside { code, error, handler, module }
}

fn encode(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    append(&mut bytes, value);
    bytes
}

/// Appends `value` as JSON. What is sent here always encodes; null would stand for what did not.
fn append(line: &mut Vec<u8>, value: &impl Serialize) {
    let start = line.len();
    if serde_json::to_writer(&mut *line, value).is_err() {
        line.truncate(start);
        line.extend_from_slice(b"null");
    }
}

/// Appends a payload. Whoever wrote it may have spread it over lines, which would break this one
/// apart; inside its strings there are no raw line ends, so all of them are white space.
fn append_json(line: &mut Vec<u8>, json: &[u8]) {
    let start = line.len();
    line.extend_from_slice(json);
    for byte in &mut line[start..] {
        if *byte == b'\n' {
            *byte = b' ';
        }
    }
}

/// The names most like `event`, the most similar first.
fn similar(event: &str, names: &[String]) -> Vec<String> {
    let mut alike: Vec<(f64, &str)> = names
        .iter()
        .map(|name| (strsim::jaro_winkler(event, name), name.as_str()))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .collect();
    alike.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    alike.into_iter().take(SIMILAR).map(|(_, name)| name.to_owned()).collect()
}

fn namespaces(names: &[String]) -> Vec<String> {
    let mut namespaces: Vec<&str> =
        names.iter().filter_map(|name| name.split_once(':')).map(|(space, _)| space).collect();
    namespaces.sort_unstable();
    namespaces.dedup();
    namespaces.into_iter().map(str::to_owned).collect()
}

/// The beginning of a text of any length, fit for a message.
pub(super) fn shown(name: &str) -> String {
    let mut shown: String = name.chars().take(SHOWN).collect();
    if shown.len() < name.len() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use ksi_wire::line;
    use serde_json::{Value, json};

    use super::*;
    use ksi_kernel::event::Payload;

    fn outcome(plugin: &str, result: OutcomeKind) -> Outcome {
        Outcome { plugin: plugin.into(), handler: "handle".into(), result }
    }

    fn replied(json: &str) -> OutcomeKind {
        OutcomeKind::Replied(Payload::from_json_bytes(json.into()))
    }

    fn failed(message: &str) -> OutcomeKind {
        OutcomeKind::Failed { code: "broken".into(), message: message.into() }
    }

    fn line_of(outcomes: &[Outcome]) -> String {
        let none = CorrelationId::default();
        let mut line = Vec::new();
        Reply { event: "a:b", correlation_id: &none, at: unix_now() }.outcomes(outcomes, &mut line);
        let line = String::from_utf8(line).unwrap();
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        line
    }

    fn value_of(outcomes: &[Outcome]) -> Value {
        serde_json::from_str(&line_of(outcomes)).unwrap()
    }

    #[test]
    fn a_payload_is_passed_on_as_written_and_keys_come_in_order() {
        let line = line_of(&[outcome("p", replied(r#"{"z":1.50,"a":"\u0062"}"#))]);
        let start = r#"{"event":"a:b","data":{"z":1.50,"a":"\u0062"},"count":1,"correlation_id":null,"timestamp":"#;
        assert!(line.starts_with(start), "{line}");
        let timestamp = line.strip_prefix(start).unwrap().strip_suffix("}\n").unwrap();
        assert!(timestamp.contains('.') && timestamp.parse::<f64>().unwrap() > 1e9);
    }

    #[test]
    fn a_payload_spread_over_lines_stays_one_line() {
        let value = value_of(&[outcome("p", replied("{\n \"a\\nb\":\r\n [1\n]}\n"))]);
        assert_eq!(value["data"], json!({ "a\nb": [1] }));
    }

    #[test]
    fn nothing_one_and_several_results() {
        let none = value_of(&[outcome("p", OutcomeKind::NoReply)]);
        assert_eq!((&none["data"], &none["count"]), (&json!([]), &json!(0)));
        let list = value_of(&[outcome("p", replied("[]"))]);
        assert_eq!((&list["data"], &list["count"]), (&json!([]), &json!(1)));
        let quiet = outcome("q", OutcomeKind::NoReply);
        let two = value_of(&[outcome("p", replied("1")), quiet, outcome("r", replied("2"))]);
        assert_eq!((&two["data"], &two["count"]), (&json!([1, 2]), &json!(2)));
        assert!(two.get("failed").is_none() && two.get("errors").is_none());
    }

    #[test]
    fn failures_beside_an_answer_are_listed() {
        let value = value_of(&[outcome("p", failed("no")), outcome("q", replied("{}"))]);
        let error = json!({"module": "p", "handler": "handle", "error": "no", "code": "broken"});
        assert_eq!(value["errors"], json!([error]));
        assert_eq!((&value["data"], value.get("failed")), (&json!({}), None));
        let quiet = value_of(&[outcome("p", failed("no")), outcome("q", OutcomeKind::NoReply)]);
        assert_eq!((&quiet["data"], &quiet["errors"]), (&json!([]), &json!([error])));
    }

    #[test]
    fn when_all_failed_the_first_is_told_and_none_is_lost() {
        let one = value_of(&[outcome("p", failed("no"))]);
        let data = json!({"status": "failed", "error": "no", "code": "broken", "module": "p", "handler": "handle"});
        assert_eq!((&one["data"], &one["count"], &one["failed"]), (&data, &json!(1), &json!(true)));
        assert!(one.get("errors").is_none());
        let two = value_of(&[outcome("p", failed("no")), outcome("q", failed("neither"))]);
        assert_eq!((&two["data"], &two["failed"]), (&data, &json!(true)));
        assert_eq!(two["errors"][1]["error"], "neither");
    }

    #[test]
    fn every_way_to_fail_has_a_code_and_words() {
        let after = Duration::from_secs(2);
        for (result, code, words) in [
            (OutcomeKind::Panicked { message: "index 7".into() }, "panicked", "index 7"),
            (OutcomeKind::TimedOut { after }, "timed_out", "2s"),
            (OutcomeKind::Rejected { reason: "draining".into() }, "rejected", "draining"),
        ] {
            let value = value_of(&[outcome("p", result)]);
            assert_eq!(value["data"]["code"], code);
            assert!(value["data"]["error"].as_str().unwrap().contains(words), "{value}");
        }
    }

    #[test]
    fn clients_read_every_line_with_the_types_of_the_wire() {
        let read = |line: &str| serde_json::from_str::<line::Push<'_>>(line).is_ok();
        let (broke, quiet) = (failed("no"), OutcomeKind::NoReply);
        let all = [
            vec![outcome("p", replied("[1]"))],
            vec![outcome("p", broke.clone()), outcome("q", replied("2")), outcome("q", quiet)],
            vec![outcome("p", broke.clone()), outcome("q", broke)],
        ];
        let seen = all.map(|outcomes| {
            let line = line_of(&outcomes);
            let reply: line::Reply<'_> = serde_json::from_str(&line).unwrap();
            let beside = reply.errors.into_iter().map(serde_json::from_value::<FailureBeside>);
            (
                reply.count,
                reply.failed,
                beside.filter(|it| it.as_ref().unwrap().code == "broken").count(),
            )
        });
        assert_eq!(seen, [(Some(1), false, 0), (Some(1), false, 1), (Some(1), true, 2)]);
        let last = String::from_utf8(dropped("w", 3, 2)).unwrap();
        assert!(read(&last), "{last}");
        let told = String::from_utf8(ended(Ended::Idle)).unwrap();
        let reply: line::Reply<'_> = serde_json::from_str(&told).unwrap();
        assert!(reply.error.is_some_and(|error| error.is_string()), "{told}");
    }

    #[test]
    fn a_failure_of_the_host_has_its_name() {
        let value = value_of(&[outcome("", OutcomeKind::Rejected { reason: "stopping".into() })]);
        assert_eq!(value["data"]["module"], "host");
        assert_eq!(value["data"]["error"], "stopping");
    }

    #[test]
    fn an_unknown_event_is_answered_with_similar_ones() {
        let names = ["state:set", "state:get", "greet:request", "zebra:run"].map(str::to_owned);
        let none = CorrelationId::default();
        let reply = Reply { event: "state:sets", correlation_id: &none, at: 1.5 };
        let mut line = Vec::new();
        reply.no_such_event("why", &names, &mut line);
        let value: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(value["data"]["error"], "why");
        assert_eq!(value["data"]["details"]["similar"][0], "state:set");
        assert!(
            !value["data"]["details"]["similar"].as_array().unwrap().contains(&json!("zebra:run"))
        );
        assert_eq!(value["data"]["details"]["namespaces"], json!(["greet", "state", "zebra"]));
        assert_eq!((&value["count"], &value["failed"]), (&json!(1), &json!(true)));
    }
}
