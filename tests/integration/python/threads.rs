//! Ordinary functions of one module that ask one another.

use super::*;

const ASKS: &str = r#"
import asyncio
from ksi.events import event_handler, emit_event


@event_handler("asks:outer")
def outer(data):
    return asyncio.run(emit_event("asks:inner", data))


@event_handler("asks:inner")
def inner(data):
    return data
"#;

#[test]
fn more_of_them_than_there_are_threads_all_end() {
    if !is_there() {
        return;
    }
    let builder = TestHost::builder().config("[limits]\nblocking_threads = 4\n");
    let host = module(builder, "asks.py", ASKS).start();
    let mut client = host.client();
    let begun: Vec<_> =
        (0..40).map(|number| (number, client.begin("asks:outer", json!(number)))).collect();
    for (number, id) in begun {
        let reply = client.end(&id);
        assert_eq!(reply["data"], json!([number]), "{reply}");
    }
}
