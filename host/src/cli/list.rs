//! `ksi list`: every plugin and every refused file, in a line each, with what went wrong below.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use serde_json::value::RawValue;

use super::args::{Common, Table as Args};
use super::client::SOON;
use super::exit::Failure;
use super::output;
use super::table::{Column, Table, Tone, hanging, terminal_width};

/// One plugin as the host tells of it. What is missing is shown as a dash or nought: a file that never became a
/// plugin has little more than a name and an error.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Module {
    pub(crate) name: String,
    pub(crate) version: Option<String>,
    pub(crate) generation: Option<u64>,
    pub(crate) state: String,
    pub(crate) file: Option<String>,
    pub(crate) counts: Option<Counts>,
    /// The latest generations that were replaced, and those that are still in memory.
    pub(crate) retired: Vec<Retired>,
    /// Earlier ones, all of which have left memory.
    pub(crate) earlier_unmapped: usize,
    pub(crate) last_error: Option<String>,
}

/// How the calls of a plugin or a handler ended.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(default)]
pub(crate) struct Counts {
    pub(crate) accepted: u64,
    pub(crate) replied: u64,
    pub(crate) no_reply: u64,
    pub(crate) failed: u64,
    pub(crate) panicked: u64,
    pub(crate) timed_out: u64,
    pub(crate) rejected: u64,
    pub(crate) in_flight: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Retired {
    pub(crate) generation: u64,
    pub(crate) state: String,
    pub(crate) cause: Option<String>,
}

pub(crate) fn list(common: &Common, args: Args) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct Answer {
        modules: Vec<Module>,
    }
    let answer: Box<RawValue> = common.client()?.ask("module:list", &json!({}), SOON)?;
    if args.json {
        return output::json(answer.get());
    }
    let Answer { modules } = understood(&answer)?;
    output::text(&table(&modules).render())?;
    if modules.is_empty() {
        output::remark("no plugins");
    }
    for line in troubles(&modules, terminal_width()) {
        output::text(&line)?;
    }
    Ok(())
}

/// The typed form of the host's answer.
pub(crate) fn understood<T: DeserializeOwned>(answer: &RawValue) -> Result<T, Failure> {
    serde_json::from_str(answer.get()).map_err(|error| {
        output::error(&format!("the host's answer is not understood: {error}"));
        Failure::Told
    })
}

fn table(modules: &[Module]) -> Table {
    let mut table = Table::new(&[
        Column::Text("NAME"),
        Column::Text("VERSION"),
        Column::Number("GEN"),
        Column::Text("STATE"),
        Column::Number("EVENTS"),
        Column::Number("FAILED"),
        Column::Text("OLD"),
    ]);
    for module in modules {
        let counts = module.counts.unwrap_or_default();
        let usual = |text: String| (text, Tone::Usual);
        table.row([
            usual(module.name.clone()),
            usual(module.version.clone().unwrap_or_else(|| "-".into())),
            usual(module.generation.map_or_else(|| "-".into(), |number| number.to_string())),
            (module.state.clone(), tone(&module.state)),
            usual(counts.accepted.to_string()),
            (
                counts.unwell().to_string(),
                if counts.unwell() > 0 { Tone::Bad } else { Tone::Usual },
            ),
            usual(old(module)),
        ]);
    }
    table
}

impl Counts {
    /// Calls that ended in no answer for a reason somebody should look into.
    pub(crate) fn unwell(&self) -> u64 {
        self.failed + self.panicked + self.timed_out + self.rejected
    }
}

pub(crate) fn tone(state: &str) -> Tone {
    match state {
        "live" => Tone::Good,
        "refused" | "failed" => Tone::Bad,
        "draining" | "unloaded" | "pinned" => Tone::Doubtful,
        _ => Tone::Usual,
    }
}

/// The older generations by what became of them: `3 unmapped, 1 pinned`.
fn old(module: &Module) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    if module.earlier_unmapped > 0 {
        counts.push(("unmapped", module.earlier_unmapped));
    }
    for generation in &module.retired {
        match counts.iter_mut().find(|(state, _)| *state == generation.state) {
            Some((_, count)) => *count += 1,
            None => counts.push((&generation.state, 1)),
        }
    }
    let words = counts.iter().map(|(state, count)| format!("{count} {state}"));
    words.collect::<Vec<_>>().join(", ")
}

fn troubles(modules: &[Module], width: Option<usize>) -> Vec<String> {
    let mut lines = Vec::new();
    for module in modules {
        let name = output::plain(&module.name);
        if let Some(error) = &module.last_error {
            lines.push(hanging(&format!("{name}: "), error, width));
        }
        for old in &module.retired {
            if let Some(cause) = &old.cause {
                let title = format!(
                    "{name}: generation {} is {}: ",
                    old.generation,
                    output::plain(&old.state)
                );
                lines.push(hanging(&title, cause, width));
            }
        }
    }
    if !lines.is_empty() {
        lines.insert(0, String::new());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules() -> Vec<Module> {
        serde_json::from_value(json!([
            {"name": "hello", "version": "0.1.0", "generation": 3, "state": "live", "events": ["a:b"],
             "file": "/p/libhello.so", "last_error": "the new file\nis torn",
             "counts": {"accepted": 12, "replied": 8, "no_reply": 1, "failed": 1, "panicked": 1, "timed_out": 1,
                        "rejected": 0, "in_flight": 0},
             "retired": [{"generation": 1, "state": "unmapped", "cause": null},
                         {"generation": 2, "state": "pinned", "cause": "a thread of its own"}]},
            {"name": "notes.so", "version": null, "state": "refused", "last_error": "is no library"},
        ]))
        .expect("modules as the host sends them")
    }

    #[test]
    fn a_pipe_gets_a_line_each() {
        let text = table(&modules()).render();
        assert_eq!(
            text,
            "NAME      VERSION  GEN  STATE    EVENTS  FAILED  OLD\n\
             hello     0.1.0      3  live         12       3  1 unmapped, 1 pinned\n\
             notes.so  -          -  refused       0       0"
        );
    }

    #[test]
    fn errors_and_pinned_generations_are_told_below() {
        assert_eq!(
            troubles(&modules(), None),
            [
                "",
                "hello: the new file is torn",
                "hello: generation 2 is pinned: a thread of its own",
                "notes.so: is no library",
            ]
        );
        assert!(troubles(&[], None).is_empty());
    }
}
