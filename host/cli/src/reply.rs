//! One reply line of the host: what handlers answered, and what failed.
//!
//! Results stay the text that the host sent, so that a number of any length and the order of keys
//! reach the user as the plugin wrote them.

use ksi_wire::line;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

/// What came back for one event.
#[derive(Debug)]
pub(crate) struct Reply {
    /// One JSON text for each handler that answered.
    pub(crate) results: Vec<String>,
    /// One line for each that failed, or for the event as a whole.
    pub(crate) failures: Vec<String>,
}

/// A line that is no reply, with the reason.
#[derive(Debug, thiserror::Error)]
#[error("the host sent what is no reply: {reason}")]
pub(crate) struct NoReply {
    reason: String,
}

impl Reply {
    pub(crate) fn parse(line: &str) -> Result<Self, NoReply> {
        let wrong = |reason: String| NoReply { reason };
        let line: line::Reply<'_> =
            serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
        let mut failures: Vec<String> = line.errors.iter().map(failure).collect();
        if let Some(error) = line.error {
            failures.push(failure(&error));
            return Ok(Self { results: Vec::new(), failures });
        }
        let Some(data) = line.data else { return Err(wrong("it has no `data`".into())) };
        if line.failed {
            if failures.is_empty() {
                let data =
                    serde_json::from_str(data.get()).map_err(|error| wrong(error.to_string()))?;
                failures.push(failure(&data));
            }
            return Ok(Self { results: Vec::new(), failures });
        }
        let results = match line.count {
            Some(0) => Vec::new(),
            Some(1) | None => vec![data.get().to_owned()],
            Some(_) => serde_json::from_str::<Vec<&RawValue>>(data.get())
                .map_err(|error| wrong(format!("`data` is no list: {error}")))?
                .into_iter()
                .map(|result| result.get().to_owned())
                .collect(),
        };
        Ok(Self { results, failures })
    }

    /// The only result, as a value of `T`; or whatever went wrong.
    pub(crate) fn one<T: DeserializeOwned>(&self) -> Result<T, Vec<String>> {
        match (self.results.as_slice(), self.failures.as_slice()) {
            ([result], []) => serde_json::from_str(result)
                .map_err(|error| vec![format!("the host's answer is not understood: {error}")]),
            ([], []) => Err(vec!["the host did not answer this".into()]),
            (results, []) => {
                Err(vec![format!("one answer was expected, and {} came", results.len())])
            }
            (_, failures) => Err(failures.to_vec()),
        }
    }
}

/// A failure in words, from whatever shape it has:
/// `{"plugin","handler","error","code","details":{"similar"}}`, with KSI's names for the same
/// things, or just a text.
fn failure(value: &Value) -> String {
    let text = |keys: &[&str]| keys.iter().find_map(|key| value.get(key)?.as_str());
    let Some(message) = value.as_str().or_else(|| text(&["error", "message", "reason"])) else {
        return value.to_string();
    };
    let mut line = String::new();
    // What the host refuses has no handler.
    match (text(&["plugin", "module"]), text(&["handler"]).filter(|name| !name.is_empty())) {
        (Some(plugin), Some(handler)) => line.push_str(&format!("{plugin}.{handler}: ")),
        (Some(one), None) | (None, Some(one)) => line.push_str(&format!("{one}: ")),
        (None, None) => (),
    }
    line.push_str(message);
    // "error" is what an error without a code of its own has for one.
    if let Some(code) = text(&["code"]).filter(|code| *code != "error") {
        line.push_str(&format!(" [{code}]"));
    }
    let similar = value.pointer("/details/similar").and_then(Value::as_array);
    let similar: Vec<&str> = similar.into_iter().flatten().filter_map(Value::as_str).collect();
    if !similar.is_empty() {
        line.push_str(&format!(" (similar: {})", similar.join(", ")));
    }
    // What the host tells of an event that nobody handles, and of nothing else.
    if value.pointer("/details/namespaces").is_some() {
        line.push_str("; `ksi events` lists those that somebody handles");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> (Vec<String>, Vec<String>) {
        let reply = Reply::parse(line).expect(line);
        (reply.results, reply.failures)
    }

    fn lines(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| line.to_string()).collect()
    }

    #[test]
    fn each_count_gives_so_many_results_as_they_were_written() {
        assert_eq!(parse(r#"{"data":[],"count":0}"#), (vec![], vec![]));
        let one = r#"{"data":{"z":1,"a":12345678901234567890123},"count":1}"#;
        assert_eq!(parse(one).0, lines(&[r#"{"z":1,"a":12345678901234567890123}"#]));
        assert_eq!(parse(r#"{"data":[1,2],"count":1}"#).0, lines(&["[1,2]"]));
        assert_eq!(parse(r#"{"data":[1,{"a":2}],"count":2}"#).0, lines(&["1", r#"{"a":2}"#]));
    }

    #[test]
    fn only_the_host_can_say_that_an_event_failed() {
        let own = r#"{"data":{"status":"failed","error":"disk"},"count":1}"#;
        assert_eq!(parse(own), (lines(&[r#"{"status":"failed","error":"disk"}"#]), vec![]));
        let host = r#"{"data":{"status":"failed","error":"disk","module":"m","handler":"h","code":"io"},"count":1,"failed":true}"#;
        assert_eq!(parse(host), (vec![], lines(&["m.h: disk [io]"])));
        let refused = r#"{"data":{"status":"failed","error":"no","module":"host","handler":"","code":"stopping"},"count":1,"failed":true}"#;
        assert_eq!(parse(refused), (vec![], lines(&["host: no [stopping]"])));
    }

    #[test]
    fn an_unknown_event_names_those_like_it() {
        let line = r#"{"data":{"status":"error","error":"Unknown event: a:c","details":{"similar":["a:b","a:d"],"namespaces":["a"]}},"count":1,"failed":true}"#;
        assert_eq!(
            parse(line).1,
            lines(&[
                "Unknown event: a:c (similar: a:b, a:d); `ksi events` lists those that somebody handles"
            ])
        );
    }

    #[test]
    fn answers_and_failures_come_together() {
        let line = r#"{"data":{"a":1},"count":1,"errors":[{"plugin":"m","handler":"h","error":"no"},"x",{"odd":1}]}"#;
        assert_eq!(parse(line), (lines(&[r#"{"a":1}"#]), lines(&["m.h: no", "x", r#"{"odd":1}"#])));
    }

    #[test]
    fn failures_in_a_list_are_not_told_twice() {
        let line = r#"{"data":{"error":"first"},"count":1,"failed":true,"errors":[{"error":"first"},{"error":"second"}]}"#;
        assert_eq!(parse(line).1, lines(&["first", "second"]));
    }

    #[test]
    fn a_request_that_could_not_be_served_is_a_failure() {
        assert_eq!(parse(r#"{"error":"Invalid JSON: x"}"#), (vec![], lines(&["Invalid JSON: x"])));
    }

    #[test]
    fn what_is_no_reply_is_said_to_be_none() {
        for line in ["", "[]", "{}", r#"{"data":1,"count":2}"#] {
            assert!(Reply::parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn one_answer_is_read_and_anything_else_explained() {
        let one = |line: &str| Reply::parse(line).expect(line).one::<Vec<u8>>();
        assert_eq!(one(r#"{"data":[1],"count":1}"#), Ok(vec![1]));
        assert!(one(r#"{"data":[],"count":0}"#).is_err());
        assert!(one(r#"{"data":[1,2],"count":2}"#).expect_err("two")[0].contains("2 came"));
        assert!(
            one(r#"{"data":{},"count":1}"#).expect_err("no list")[0].contains("not understood")
        );
        assert_eq!(one(r#"{"data":[1],"count":1,"errors":["no"]}"#), Err(vec!["no".into()]));
    }
}
