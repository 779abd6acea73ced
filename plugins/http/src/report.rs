//! What became of an event, as JSON, and the status that fits it.

use axum::http::StatusCode;
use ksi_plugin_api::{Error, Outcome, OutcomeKind, Refusal, Report, Value, json};

use crate::answer::Refused;

/// A report with its status: 200 if every handler ended well, and else that of the first that did
/// not.
pub(crate) fn told(event: &str, report: &Report) -> (StatusCode, Value) {
    let outcomes = report.outcomes();
    let status = match report.refusal() {
        Some(refusal) => of_refusal(refusal),
        None if outcomes.is_empty() => StatusCode::NOT_FOUND,
        None => {
            let bad = outcomes.iter().find(|outcome| !outcome.result.is_ok());
            bad.map_or(StatusCode::OK, |outcome| of_outcome(&outcome.result))
        }
    };
    let word = match report.refusal() {
        Some(_) => "refused",
        None if outcomes.is_empty() => "unhandled",
        None if status == StatusCode::OK => "ok",
        None => "failed",
    };
    let outcomes: Vec<Value> = outcomes.into_iter().map(outcome).collect();
    (status, json!({"event": event, "status": word, "outcomes": outcomes}))
}

fn outcome(Outcome { plugin, handler, result }: Outcome) -> Value {
    let (word, more) = match result {
        OutcomeKind::Replied(reply) => ("replied", json!({"reply": reply})),
        OutcomeKind::NoReply => ("no_reply", json!({})),
        OutcomeKind::Failed { code, message } => {
            ("failed", json!({"code": code, "message": message}))
        }
        OutcomeKind::Panicked { message } => ("panicked", json!({"message": message})),
        OutcomeKind::Crashed { message } => ("crashed", json!({"message": message})),
        OutcomeKind::TimedOut { message } => ("timed_out", json!({"message": message})),
        OutcomeKind::Rejected { reason } => ("rejected", json!({"message": reason})),
        // In a way that only a newer host knows.
        other => ("failed", json!({"message": format!("{other:?}")})),
    };
    let mut told = json!({"plugin": plugin, "handler": handler, "outcome": word});
    if let (Value::Object(told), Value::Object(more)) = (&mut told, more) {
        told.extend(more);
    }
    told
}

fn of_outcome(outcome: &OutcomeKind) -> StatusCode {
    match outcome {
        OutcomeKind::Replied(_) | OutcomeKind::NoReply => StatusCode::OK,
        OutcomeKind::Failed { code, .. } if code == "invalid_payload" => StatusCode::BAD_REQUEST,
        OutcomeKind::Failed { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        OutcomeKind::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
        OutcomeKind::Rejected { .. } => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_GATEWAY,
    }
}

/// An event that was not sent.
pub(crate) fn not_sent(error: &Error) -> Refused {
    let status = error.refusal().map_or(StatusCode::UNPROCESSABLE_ENTITY, of_refusal);
    Refused::new(status, error.code(), error.message())
}

fn of_refusal(refusal: Refusal) -> StatusCode {
    match refusal {
        Refusal::InvalidName | Refusal::InvalidPattern | Refusal::NotEncodable => {
            StatusCode::BAD_REQUEST
        }
        Refusal::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::TooDeep => StatusCode::LOOP_DETECTED,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_handler_does_wrong_is_told_apart_from_what_the_client_does() {
        let failed = |code: &str| OutcomeKind::Failed { code: code.into(), message: "m".into() };
        let message = || "m".to_owned();
        let statuses = [
            (OutcomeKind::NoReply, 200, "no_reply"),
            (OutcomeKind::Replied(json!(1)), 200, "replied"),
            (failed("invalid_payload"), 400, "failed"),
            (failed("sold_out"), 422, "failed"),
            (OutcomeKind::Panicked { message: message() }, 502, "panicked"),
            (OutcomeKind::Crashed { message: message() }, 502, "crashed"),
            (OutcomeKind::TimedOut { message: message() }, 504, "timed_out"),
            (OutcomeKind::Rejected { reason: message() }, 503, "rejected"),
        ];
        for (result, status, word) in statuses {
            assert_eq!(of_outcome(&result).as_u16(), status, "{result:?}");
            let told = outcome(Outcome { plugin: "p".into(), handler: "h".into(), result });
            assert_eq!(told["outcome"], word);
            let has = |key| told.get(key).is_some();
            assert_eq!(has("message"), status != 200, "{told}");
            assert_eq!(has("reply"), word == "replied", "{told}");
        }
        assert_eq!(of_refusal(Refusal::QueueFull), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(of_refusal(Refusal::TooLarge), StatusCode::PAYLOAD_TOO_LARGE);
    }
}
