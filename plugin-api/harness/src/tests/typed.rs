//! Payloads by value, by reference and borrowed from the JSON, and replies on either lane. What a
//! test emits is JSON; what a plugin emits crosses as in a host.

use std::borrow::Cow;

use ksi_abi::{CallEnd, ReplyForm, probe::Probe};
use ksi_plugin_api::{__private::testing::call_end, Outcome};

use super::{super::Harness, *};

#[event("typed:note")]
struct Note {
    text: String,
    count: Counted,
}

#[payload]
struct Counted(u64);

#[payload]
struct Line<'a> {
    #[serde(borrow)]
    text: Cow<'a, str>,
    #[serde(borrow)]
    count: &'a RawValue,
}

#[payload]
struct Nothing;

#[payload]
struct Maybe(Option<u8>);

#[payload]
struct Total {
    total: u64,
}

#[derive(Default)]
struct Typed;

#[plugin(name = "typed")]
impl Typed {
    #[event_handler]
    async fn owned(&self, _: &Context, note: Note) -> Result<String> {
        Ok(format!("{} {}", note.text, note.count.0))
    }

    #[event_handler("typed:lent")]
    async fn lent(&self, ctx: &Context, note: &Note) -> Result<String> {
        ctx.sleep(SECOND).await;
        Ok(format!("{} {}", note.text, note.count.0))
    }

    #[event_handler("typed:line")]
    async fn line(&self, ctx: &Context, line: Line<'_>) -> Result<String> {
        ctx.sleep(SECOND).await;
        let borrowed = matches!(line.text, Cow::Borrowed(_));
        Ok(format!("{} {} {borrowed}", line.text, line.count))
    }

    #[event_handler("typed:line_lent")]
    async fn line_lent(&self, _: &Context, line: &Line<'_>) -> Result<String> {
        Ok(format!("{} {}", line.text, line.count))
    }

    #[event_handler("typed:text")]
    async fn text(&self, _: &Context, text: &str) -> Result<usize> {
        Ok(text.len())
    }

    #[event_handler("typed:raw")]
    async fn raw(&self, _: &Context, raw: &RawValue) -> Result<String> {
        Ok(raw.get().to_owned())
    }
}

/// The one reply to an event, after a second: some of the handlers take that long.
#[track_caller]
fn reply(plugin: &Harness, event: &str, payload: impl serde::Serialize) -> Value {
    let call = plugin.begin(event, payload);
    plugin.advance(SECOND);
    let report = call.finished().expect("a second is enough");
    match report.results().as_slice() {
        [reply] => reply.clone(),
        _ => panic!("{report:?}"),
    }
}

#[test]
fn a_payload_arrives_as_its_handler_takes_it() {
    let plugin = Harness::start::<Typed>();
    let note = json!({"text": "a", "count": 7});
    assert_eq!(reply(&plugin, "typed:note", &note), "a 7");
    assert_eq!(reply(&plugin, "typed:lent", &note), "a 7");
    assert_eq!(reply(&plugin, "typed:line", &note), "a 7 true");
    // With an escape in it, the text is nowhere to be borrowed from.
    let escaped = json!({"text": "a\n", "count": {"x": [1]}});
    assert_eq!(reply(&plugin, "typed:line", &escaped), "a\n {\"x\":[1]} false");
    assert_eq!(reply(&plugin, "typed:line_lent", &note), "a 7");
    assert_eq!(reply(&plugin, "typed:text", "four"), 4);
    assert_eq!(reply(&plugin, "typed:raw", [1, 2]), "[1,2]");
}

#[test]
fn a_payload_that_does_not_decode_fails_its_handler_with_the_path() {
    let plugin = Harness::start::<Typed>();
    for event in ["typed:note", "typed:lent", "typed:line", "typed:line_lent"] {
        let report = plugin.emit(event, json!({"text": 7, "count": 7}));
        let [Outcome { result: OutcomeKind::Failed { code, message }, .. }] =
            &report.outcomes()[..]
        else {
            panic!("{event}: {report:?}")
        };
        assert_eq!(code, "invalid_payload", "{event}");
        assert!(message.contains("\"text\""), "{event}: {message}");
    }
}

#[test]
fn a_reply_is_a_value_unless_it_stands_for_none() {
    let total = call_end(Ok(Total { total: 7 }), Probe::<Total>::giver(&ReplyForm::Any));
    let CallEnd::Value(value) = &total else { panic!("{total:?}") };
    assert_eq!(value.get::<Total>().unwrap().total, 7);
    assert!(matches!(total.encoded(), CallEnd::Reply(json) if *json == *b"{\"total\":7}"));

    assert!(matches!(call_end(Ok(()), Probe::<()>::giver(&ReplyForm::Any)), CallEnd::NoReply));
    assert!(matches!(
        call_end(Ok(Nothing), Probe::<Nothing>::giver(&ReplyForm::Any)),
        CallEnd::NoReply
    ));
    assert!(matches!(
        call_end(Ok(None), Probe::<Option<u8>>::giver(&ReplyForm::Any)),
        CallEnd::NoReply
    ));
    assert!(matches!(
        call_end(Ok(Maybe(None)), Probe::<Maybe>::giver(&ReplyForm::Any)),
        CallEnd::NoReply
    ));
    assert!(matches!(
        call_end(Ok(Maybe(Some(1))), Probe::<Maybe>::giver(&ReplyForm::Any)),
        CallEnd::Reply(_)
    ));
    assert!(matches!(
        call_end(Ok(vec![1]), Probe::<Vec<u8>>::giver(&ReplyForm::Any)),
        CallEnd::Reply(_)
    ));
}
