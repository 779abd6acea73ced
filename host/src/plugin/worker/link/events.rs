//! Events and reports between what the host has and what goes into a frame.

use ksi_abi::{Counted, EventObject, OutcomeCode, OutcomeView, ReportObject};
use ksi_kernel::{event::Event, router::plugin_report::PluginReport};
use ksi_worker_protocol::{
    AttributesBuf, Batch, Event as EventFrame, Outcome, OutcomeKind, Payload, ProtocolError,
};

/// An event as it goes to a worker, with its payload as JSON.
///
/// # Errors
/// Code and message: its value cannot become JSON.
pub(super) fn with_frame<T>(
    event: &Counted<Event>,
    put: impl FnOnce(EventFrame<'_>) -> T,
) -> Result<T, (String, String)> {
    let payload = EventObject::payload(&**event);
    let payload = payload.map_err(|(code, message)| (code.to_owned(), message.to_owned()))?;
    let attributes: AttributesBuf = event.attributes().collect();
    let view = event.view();
    Ok(put(EventFrame {
        id: view.id,
        parent: view.parent,
        root: view.root,
        timestamp: view.timestamp,
        depth: view.depth,
        name: view.name.as_str(),
        source: view.source.as_str(),
        attributes: attributes.attributes(),
        payload: Payload::Bytes(payload.as_bytes()),
    }))
}

/// Writes a report. Where plugin code may run: replies that are values become JSON.
pub(super) fn put_report(
    id: u64,
    report: &PluginReport,
    to: &mut Batch,
) -> Result<(), ProtocolError> {
    let outcomes =
        (0..report.len()).map(|index| match (report.outcome(index), report.code(index)) {
            (view, OutcomeCode::REPLIED) => match report.reply(index) {
                Ok(reply) => Outcome { reply: reply.as_bytes(), ..outcome(&view) },
                Err((code, message)) => {
                    Outcome { kind: OutcomeKind::FAILED, code, message, ..outcome(&view) }
                }
            },
            (view, _) => outcome(&view),
        });
    to.report(id, outcomes)
}

fn outcome<'a>(view: &OutcomeView<'a>) -> Outcome<'a> {
    Outcome {
        kind: OutcomeKind(view.kind.number()),
        refusal: view.refusal.number(),
        plugin: view.plugin.as_str(),
        handler: view.handler.as_str(),
        code: view.code.as_str(),
        message: view.message.as_str(),
        reply: b"",
    }
}
