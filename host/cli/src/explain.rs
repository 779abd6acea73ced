//! `ksi explain`: what a code means, what is mostly behind it, and what to do. No host is asked.

use ksi_wire::codes::{self, Code, GROUPS, Group};

use super::args::Explain as Args;
use super::exit::CommandFailure;
use super::output;

/// How like an unknown code a known one has to be to be suggested.
const ALIKE: f64 = 0.75;
/// How many are.
const SUGGESTED: usize = 3;

pub(crate) fn explain(args: &Args) -> Result<(), CommandFailure> {
    let codes = args.codes.iter().map(|code| known(code)).collect::<Result<Vec<_>, _>>()?;
    match (args.json, codes.as_slice()) {
        (true, []) => codes::all().try_for_each(as_json),
        (true, codes) => codes.iter().try_for_each(|code| as_json(code)),
        (false, []) => output::text(&list()),
        (false, codes) => codes.iter().try_for_each(|code| output::text(&told(code))),
    }
}

/// The code itself, or as it stands in a message, in its brackets.
fn known(asked: &str) -> Result<&'static Code, CommandFailure> {
    let code = asked.trim_start_matches('[').trim_end_matches(']');
    codes::explained(code).ok_or_else(|| {
        let mut alike: Vec<(f64, &str)> = codes::all()
            .map(|known| (strsim::jaro_winkler(code, known.code), known.code))
            .filter(|(likeness, _)| *likeness > ALIKE)
            .collect();
        alike.sort_by(|a, b| b.0.total_cmp(&a.0));
        let alike: Vec<&str> = alike.into_iter().take(SUGGESTED).map(|(_, code)| code).collect();
        let is_class = code.starts_with(|c: char| c.is_ascii_uppercase());
        let next = match alike.is_empty() {
            _ if is_class => "an exception that a module of Python raises has its class for a code; the message has the \
                              place where it was raised"
                .to_owned(),
            true => {
                "`ksi explain` lists those of ksi; a plugin's own codes are its author's to explain"
                    .to_owned()
            }
            false => format!("did you mean {}?", alike.join(" or ")),
        };
        CommandFailure::Usage(format!("ksi has no code {code:?}: {next}"))
    })
}

fn as_json(code: &Code) -> Result<(), CommandFailure> {
    let told = serde_json::to_string(code);
    output::json(&told.map_err(CommandFailure::host("the explanation is no JSON"))?)
}

fn told(Code { code, means, causes, remedy }: &Code) -> String {
    format!("{code}\n  {means}\n  Mostly: {causes}\n  Do: {remedy}")
}

/// All codes in their groups, a line each.
fn list() -> String {
    let widest = codes::all().map(|code| code.code.len()).max().unwrap_or_default();
    let group = |Group { title, codes }: &Group| {
        let lines = codes.iter().map(|code| format!("  {:widest$}  {}", code.code, code.means));
        [(*title).to_owned()].into_iter().chain(lines).collect::<Vec<_>>().join("\n")
    };
    GROUPS.iter().map(group).collect::<Vec<_>>().join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_explained_as_it_stands_in_a_message_too_and_the_nearest_is_suggested() {
        for asked in ["timed_out", "[timed_out]"] {
            let code = known(asked).expect("it is known");
            assert!(told(code).starts_with("timed_out\n  The call took longer than it may"));
        }
        let suggested = |asked| known(asked).expect_err("it is unknown").to_string();
        assert!(
            suggested("time_out").ends_with("did you mean timed_out?"),
            "{}",
            suggested("time_out")
        );
        assert!(
            suggested("no_hosts").contains("did you mean no_host"),
            "{}",
            suggested("no_hosts")
        );
        assert!(suggested("xyz").contains("`ksi explain` lists"), "{}", suggested("xyz"));
    }

    #[test]
    fn the_list_has_a_line_for_each_code() {
        let lines = list().lines().filter(|line| line.starts_with("  ")).count();
        assert_eq!(lines, codes::all().count());
    }
}
