//! What a plugin asks of its host beside the event, and what it is told when that is refused.

use ksi_plugin_api::error::Refusal;

use super::*;

#[derive(Default)]
struct Asks;

#[plugin(name = "asks")]
impl Asks {
    #[event_handler("asks:refused")]
    async fn refused(&self, ctx: &Context, what: String) -> Result<String> {
        let nothing = json!({});
        let error = match what.as_str() {
            "name" => ctx.send(named("no name", &nothing)).unwrap_err(),
            "request" => ctx.request::<Value>(named("no name", &nothing)).await.unwrap_err(),
            "pattern" => ctx.wait_for("no pattern", SECOND).await.unwrap_err(),
            "queue" => many(|| ctx.send(named("asks:later", &nothing))),
            "tasks" => many(|| ctx.spawn(std::future::pending()).map(drop)),
            "subscriptions" => {
                let handler = |_: Context, _: Value| async { Ok(()) };
                many(|| ctx.subscribe("asks:nobody", handler).map(drop))
            }
            _ => ctx.listener("nowhere").unwrap_err(),
        };
        Ok(format!("{} {:?}", error.code(), error.refusal()))
    }

    #[event_handler("asks:later")]
    async fn later(&self, ctx: &Context, _: Value) -> Result<()> {
        ctx.sleep(SECOND).await;
        Ok(())
    }

    #[event_handler("asks:deeper")]
    async fn deeper(&self, ctx: &Context, data: Value) -> Result<String> {
        let report = ctx.emit(named("asks:deeper", &data)).await;
        match report.refusal() {
            Some(refusal) => Ok(format!("{refusal:?}")),
            None => Ok(report.results_as::<String>()?.remove(0)),
        }
    }
}

/// Asks until that is refused.
fn many(ask: impl FnMut() -> Result<()>) -> Error {
    std::iter::repeat_with(ask).take(2_000).find_map(Result::err).expect("it is refused")
}

#[test]
fn what_is_refused_has_a_code_for_each_reason() {
    let plugin = Harness::start::<Asks>();
    for (what, told) in [
        ("name", "rejected Some(InvalidName)"),
        ("request", "rejected Some(InvalidName)"),
        ("pattern", "rejected Some(InvalidPattern)"),
        ("queue", "rejected Some(QueueFull)"),
        ("tasks", "rejected Some(TooManyTasks)"),
        ("subscriptions", "rejected Some(TooManySubscriptions)"),
        ("address", "not_kept Some(InvalidAddress)"),
    ] {
        assert_eq!(plugin.emit("asks:refused", what).results(), [json!(told)], "{what}");
    }
    assert_eq!(plugin.emit("asks:deeper", ()).results(), [json!("TooDeep")]);
    assert_eq!(plugin.emit("no name", ()).refusal(), Some(Refusal::InvalidName));
    assert_eq!(plugin.emit("asks:nobody", ()).refusal(), None);
}
