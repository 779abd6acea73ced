//! W3C Trace Context: the headers `traceparent` and `tracestate`, which become attributes of the
//! event and are given back on the answer.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use ksi_plugin_api::EmitOptions;

/// The names of the headers, and of the attributes.
const PARENT: &str = "traceparent";
const STATE: &str = "tracestate";

/// More of a `tracestate` nobody has to pass on.
const LONGEST_STATE: usize = 512;

/// Of which trace a request is. One that does not say so in the published format is of none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TraceContext {
    parent: String,
    state: Option<String>,
}

impl TraceContext {
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut parents = headers.get_all(PARENT).iter();
        let parent = parents.next()?.to_str().ok().filter(|it| is_parent(it))?;
        // Two of them are none.
        if parents.next().is_some() {
            return None;
        }
        let states: Option<Vec<&str>> =
            headers.get_all(STATE).iter().map(|state| state.to_str().ok()).collect();
        let state = states.map(|all| all.join(",")).filter(|it| is_state(it));
        Some(TraceContext { parent: parent.to_owned(), state })
    }

    /// The same of an attribute each, as a client without headers says it.
    pub(crate) fn attributes(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let state = self.state.as_deref().map(|state| (STATE, state));
        [(PARENT, self.parent.as_str())].into_iter().chain(state)
    }

    pub(crate) fn beside(&self, options: EmitOptions) -> EmitOptions {
        self.attributes().fold(options, |options, (key, value)| options.attribute(key, value))
    }

    pub(crate) fn give_back(&self, headers: &mut HeaderMap) {
        for (key, value) in self.attributes() {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(key), value);
            }
        }
    }
}

/// Version, trace, parent and flags, in lower case. A version that is not known yet may have more
/// behind them.
fn is_parent(text: &str) -> bool {
    let mut parts = text.splitn(5, '-');
    let mut part = |length| parts.next().filter(|part| is_hex(part, length));
    let (Some(version), Some(trace), Some(parent), Some(_)) =
        (part(2), part(32), part(16), part(2))
    else {
        return false;
    };
    let is_zero = |it: &str| it.bytes().all(|digit| digit == b'0');
    let more = parts.next();
    version != "ff" && !is_zero(trace) && !is_zero(parent) && (version != "00" || more.is_none())
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'))
}

/// At most 32 members, each a key and a value.
fn is_state(text: &str) -> bool {
    let members = || text.split(',').map(str::trim).filter(|member| !member.is_empty());
    text.len() <= LONGEST_STATE && (1..=32).contains(&members().count()) && members().all(is_member)
}

fn is_member(member: &str) -> bool {
    let Some((key, value)) = member.split_once('=') else { return false };
    let of_a_key =
        |it: u8| matches!(it, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@');
    let of_a_value = |it: u8| matches!(it, b' '..=b'~') && it != b'=';
    (1..=256).contains(&key.len())
        && key.bytes().all(of_a_key)
        && (1..=256).contains(&value.len())
        && value.bytes().all(of_a_value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn of(headers: &[(&'static str, &str)]) -> Option<TraceContext> {
        let mut map = HeaderMap::new();
        for (key, value) in headers {
            map.append(*key, value.parse().unwrap());
        }
        TraceContext::of(&map)
    }

    #[test]
    fn what_has_the_published_format_is_taken_and_given_back() {
        let states = [("tracestate", "a=1"), ("tracestate", "b@c=x y,d=2")];
        let context = of(&[&[("traceparent", TRACE)], &states[..]].concat()).unwrap();
        let mut given = HeaderMap::new();
        context.give_back(&mut given);
        assert_eq!(given["traceparent"], TRACE);
        assert_eq!(given["tracestate"], "a=1,b@c=x y,d=2");
        let later = TRACE.replacen("00", "cc", 1) + "-what-the-future-will-be-like";
        assert!(of(&[("traceparent", &later)]).is_some(), "a later version");
    }

    #[test]
    fn what_has_another_format_is_of_no_trace() {
        for bad in [
            "",
            "00",
            &TRACE.to_uppercase(),
            &TRACE[..54],
            &format!("{TRACE}-more"),
            &format!("{TRACE}0"),
            &TRACE.replacen("00", "ff", 1),
            &TRACE.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &TRACE.replace("b7ad6b7169203331", &"0".repeat(16)),
            &TRACE.replace('-', "_"),
        ] {
            assert_eq!(of(&[("traceparent", bad)]), None, "{bad}");
        }
        assert_eq!(of(&[("traceparent", TRACE), ("traceparent", TRACE)]), None, "two of them");
        assert_eq!(of(&[("tracestate", "a=1")]), None, "without a trace");
    }

    #[test]
    fn a_state_that_is_none_is_left_out() {
        let many = vec!["a=1"; 33].join(",");
        for bad in
            ["", ",", "a", "=1", "a=", "A=1", "a=b=c", &many, &format!("a={}", "x".repeat(600))]
        {
            let context = of(&[("traceparent", TRACE), ("tracestate", bad)]).unwrap();
            assert_eq!(context.state, None, "{bad}");
        }
    }
}
