//! All calls of one chain of events as a tree: under each call the events that it emitted.

use std::collections::{HashMap, HashSet};

use ksi_wire::router::Call;
use owo_colors::OwoColorize;

use super::{code, event};
use crate::{output, text::milliseconds};

/// How deep it is drawn. A chain may not be longer by default.
const DEEPEST: usize = 64;

/// A line of the tree.
struct Line {
    /// The lines that lead to it, and what it is.
    label: String,
    /// Generation, how it ended, and when.
    generation: String,
    outcome: String,
    times: String,
    /// What else is to be said.
    remark: String,
    is_ok: bool,
}

/// An event, with the calls that it had.
struct Emitted<'a> {
    calls: Vec<&'a Call>,
}

impl Emitted<'_> {
    fn first(&self) -> Option<&Call> {
        self.calls.first().copied()
    }
}

/// The calls of one root event, as they began. Cut to the width of a terminal, and whole without
/// one.
pub(super) fn rendered(calls: &[Call], width: Option<usize>) -> String {
    let mut order: Vec<&str> = Vec::new();
    let mut events: HashMap<&str, Emitted<'_>> = HashMap::new();
    for call in calls {
        let emitted = events.entry(&call.event_id).or_insert_with(|| {
            order.push(&call.event_id);
            Emitted { calls: Vec::new() }
        });
        emitted.calls.push(call);
    }
    let began = calls.iter().map(|call| call.begun_us).min().unwrap_or_default();
    let mut tree = Tree { events, began, children: HashMap::new(), lines: Vec::new() };
    for id in &order {
        let Some(call) = tree.events[id].first() else { continue };
        let parent = call.parent_id.as_deref();
        let parent = parent.and_then(|parent| tree.events.get_key_value(parent));
        let parent = parent.map(|(parent, _)| *parent);
        tree.children.entry(parent).or_default().push(id);
    }
    let roots = tree.children.remove(&None).unwrap_or_default();
    let mut texts = vec![heading(calls, began)];
    let mut is_incomplete = false;
    for id in roots {
        let is_root = tree.events[id].first().is_some_and(|call| call.root_id == id);
        is_incomplete |= !is_root;
        match is_root {
            true => tree.calls_of(id, "", 0),
            false => tree.event(id, "", true, 0),
        }
    }
    texts.extend(aligned(&tree.lines, width));
    if is_incomplete {
        let why =
            "some calls of this chain are not known: they have not ended, or are not kept any more";
        texts.push(why.dimmed().to_string());
    }
    texts.join("\n")
}

/// `order:place  evt_1a2b  from shop   12.4 ms   1 failed`
fn heading(calls: &[Call], began: u64) -> String {
    let ended = calls.iter().map(ended).fold(began as f64, f64::max);
    let failed = calls.iter().filter(|call| !call.is_ok()).count();
    let root = calls.iter().find(|call| call.event_id == call.root_id);
    let id = calls.first().map(|call| output::plain(&call.root_id)).unwrap_or_default();
    let name = root.map(event).unwrap_or_else(|| "?".to_owned());
    let source = root.map(|root| &*root.source).filter(|source| !source.is_empty());
    let source = source.map(|source| format!("  from {}", output::plain(source)));
    let failed = match failed {
        0 => String::new(),
        failed => format!("   {}", format!("{failed} failed").red()),
    };
    format!(
        "{}  {id}{}   {}{failed}",
        output::plain(&name).bold(),
        source.unwrap_or_default(),
        milliseconds((ended - began as f64) / 1e3),
    )
}

/// In microseconds.
fn ended(call: &Call) -> f64 {
    call.begun_us as f64 + call.took_ms.unwrap_or_default() * 1e3
}

struct Tree<'a> {
    events: HashMap<&'a str, Emitted<'a>>,
    began: u64,
    /// The events that were emitted in the handlers of each.
    children: HashMap<Option<&'a str>, Vec<&'a str>>,
    lines: Vec<Line>,
}

impl<'a> Tree<'a> {
    /// An event below a call: on the line of its call if it had one.
    fn event(&mut self, id: &'a str, before: &str, is_last: bool, depth: usize) {
        let calls = self.events[id].calls.clone();
        let [call] = calls[..] else {
            if let Some(first) = calls.first() {
                let label = format!("{before}{}{}", branch(is_last), emitted(first));
                self.lines.push(Line::of_event(label, calls.len()));
                self.calls_of(id, &format!("{before}{}", below(is_last)), depth + 1);
            }
            return;
        };
        let label = format!("{before}{}{}   {}", branch(is_last), emitted(call), handled_by(call));
        self.lines.push(Line::of_call(label, call, self.began));
        self.emitted_by(id, call, &format!("{before}{}", below(is_last)), depth + 1);
    }

    /// The calls of an event.
    fn calls_of(&mut self, id: &'a str, before: &str, depth: usize) {
        let calls = self.events[id].calls.clone();
        for (at, call) in calls.iter().enumerate() {
            let is_last = at + 1 == calls.len();
            let label = format!("{before}{}{}", branch(is_last), handled_by(call));
            self.lines.push(Line::of_call(label, call, self.began));
            self.emitted_by(id, call, &format!("{before}{}", below(is_last)), depth + 1);
        }
    }

    /// The events that were emitted in a call: those of its event that come from its plugin, and of
    /// several calls of one plugin to the last that had begun by then.
    fn emitted_by(&mut self, id: &'a str, call: &Call, before: &str, depth: usize) {
        if depth > DEEPEST {
            return;
        }
        let all = self.children.get(&Some(id)).cloned().unwrap_or_default();
        let siblings = &self.events[id].calls;
        let known: HashSet<&str> = siblings.iter().map(|call| &*call.plugin).collect();
        let is_of_call = |child: &&str| {
            let Some(first) = self.events[*child].first() else { return false };
            let owner =
                if known.contains(&*first.source) { &*first.source } else { &*siblings[0].plugin };
            let able = siblings.iter().filter(|sibling| *sibling.plugin == *owner);
            let mut begun = able.clone().filter(|able| able.begun_us <= first.begun_us);
            let by = begun.next_back().or(able.clone().next());
            by.is_some_and(|by| std::ptr::eq(*by, call))
        };
        let own: Vec<&'a str> = all.into_iter().filter(is_of_call).collect();
        for (at, child) in own.iter().enumerate() {
            self.event(child, before, at + 1 == own.len(), depth);
        }
    }
}

impl Line {
    fn of_event(label: String, calls: usize) -> Line {
        let outcome = format!("{calls} handlers");
        let (generation, times, remark) = Default::default();
        Line { label, generation, outcome, times, remark, is_ok: true }
    }

    fn of_call(label: String, call: &Call, began: u64) -> Line {
        let from = (call.begun_us - began) as f64 / 1e3;
        let times = match call.took_ms {
            None => format!("{from:.2} …"),
            Some(took) if call.took_about => format!("{from:.2} … ~{:.0} ms", from + took),
            Some(took) => format!("{from:.2} … {:.2} ms", from + took),
        };
        let generation = match call.generation {
            0 => String::new(),
            generation => format!("gen {generation}"),
        };
        let mut outcome = call.outcome.replace('_', " ");
        let own = code(call);
        if own != outcome {
            outcome = format!("{outcome}  {}", output::plain(&own));
        }
        let mut remark = Vec::new();
        if call.waited_ms >= 0.1 {
            remark.push(format!("waited {}", milliseconds(call.waited_ms)));
        }
        if !call.message.is_empty() {
            remark.push(output::plain(&call.message).into_owned());
        }
        Line { label, generation, outcome, times, remark: remark.join("; "), is_ok: call.is_ok() }
    }
}

fn emitted(call: &Call) -> String {
    let sent = if call.sent { "(send) " } else { "" };
    format!("{sent}{}", output::plain(&event(call)))
}

fn handled_by(call: &Call) -> String {
    output::plain(&super::handler(call)).into_owned()
}

fn branch(is_last: bool) -> &'static str {
    if is_last { "└─ " } else { "├─ " }
}

fn below(is_last: bool) -> &'static str {
    if is_last { "   " } else { "│  " }
}

/// The lines in columns.
fn aligned(lines: &[Line], width: Option<usize>) -> Vec<String> {
    let widest = |cell: fn(&Line) -> &String| {
        lines.iter().map(|line| cell(line).chars().count()).max().unwrap_or_default()
    };
    let (labels, generations) = (widest(|line| &line.label), widest(|line| &line.generation));
    let (outcomes, times) = (widest(|line| &line.outcome), widest(|line| &line.times));
    let rows = lines.iter().map(|line| {
        let Line { label, generation, outcome, times: time, remark, is_ok } = line;
        let start = format!("{label:labels$}  {generation:generations$}  ");
        let end = format!("  {time:>times$}  {remark}");
        let left = width.map(|width| {
            width.saturating_sub(start.chars().count() + outcomes.max(outcome.chars().count()))
        });
        let end: String = match left {
            Some(left) if end.trim_end().chars().count() > left => {
                end.chars().take(left.saturating_sub(1)).chain(['…']).collect()
            }
            _ => end,
        };
        let outcome = format!("{outcome:outcomes$}");
        let outcome = if *is_ok { outcome } else { outcome.red().to_string() };
        format!("{start}{outcome}{end}").trim_end().to_owned()
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(event: &str, id: u64, parent: Option<u64>, of: &str, ms: (f64, Option<f64>)) -> Call {
        let (plugin, handler) = of.split_once('.').unwrap();
        Call {
            begun_us: 1_000_000 + (ms.0 * 1e3) as u64,
            event: event.into(),
            event_id: format!("evt_{id:x}"),
            generation: 1,
            handler: handler.into(),
            outcome: "replied".into(),
            parent_id: parent.map(|parent| format!("evt_{parent:x}")),
            plugin: plugin.into(),
            root_id: "evt_1".into(),
            took_ms: ms.1,
            ..Call::default()
        }
    }

    fn shown(calls: &[Call], width: Option<usize>) -> String {
        anstream::adapter::strip_str(&rendered(calls, width)).to_string()
    }

    #[test]
    fn who_called_whom_is_drawn_with_outcomes_and_times() {
        let root = |of, ms| Call { source: "shop".into(), ..call("order:place", 1, None, of, ms) };
        let billing = |event, id, of, ms| Call {
            source: "billing".into(),
            ..call(event, id, Some(1), of, ms)
        };
        let failed = Call {
            outcome: "failed".into(),
            code: "out_of_stock".into(),
            message: "sku 4711: 0 left".into(),
            generation: 3,
            ..root("stock.reserve", (0.0, Some(0.2)))
        };
        let waited = Call {
            waited_ms: 0.3,
            ..billing("ledger:append", 2, "ledger.append", (0.4, Some(2.5)))
        };
        let sent = Call { sent: true, ..billing("mail:queue", 3, "mail.enqueue", (3.0, None)) };
        let tallied = billing("mail:queue", 3, "tally.count", (3.0, Some(0.01)));
        let nobody = Call {
            source: "tally".into(),
            outcome: "unhandled".into(),
            generation: 0,
            ..call("mail:counted", 4, Some(3), ".", (3.0, None))
        };
        let calls =
            [root("billing.charge", (0.0, Some(3.1))), failed, waited, sent, tallied, nobody];
        assert_eq!(
            shown(&calls, None),
            "order:place  evt_1  from shop   3.10 ms   1 failed\n\
             ├─ billing.charge                    gen 1  replied               0.00 … 3.10 ms\n\
             │  ├─ ledger:append   ledger.append  gen 1  replied               0.40 … 2.90 ms  waited 0.30 ms\n\
             │  └─ (send) mail:queue                     2 handlers\n\
             │     ├─ mail.enqueue                gen 1  replied                       3.00 …\n\
             │     └─ tally.count                 gen 1  replied               3.00 … 3.01 ms\n\
             │        └─ mail:counted   nobody           unhandled                     3.00 …\n\
             └─ stock.reserve                     gen 3  failed  out_of_stock  0.00 … 0.20 ms  sku 4711: 0 left"
        );
        let narrow = shown(&calls, Some(80));
        assert!(narrow.lines().skip(1).all(|line| line.chars().count() <= 80), "{narrow}");
    }

    #[test]
    fn what_is_not_known_is_told() {
        let calls = [call("ledger:append", 2, Some(1), "ledger.append", (0.0, Some(1.0)))];
        let text = shown(&calls, None);
        assert!(text.starts_with("?  evt_1   1.00 ms\n└─ ledger:append   ledger.append"), "{text}");
        assert!(text.contains("some calls of this chain are not known"), "{text}");
    }
}
