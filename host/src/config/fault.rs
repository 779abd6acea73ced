//! All that is wrong in a configuration, and not the first of it alone: what is wrong is taken out,
//! and the rest is read again.

use std::fmt;
use std::path::Path;

use toml::de::DeTable;

use super::file;
use super::origin::{Lines, remove_at, remove_key};

/// So many are told of; a file with more is another one than was meant.
const MOST: usize = 64;

/// Something that is wrong in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigFault {
    /// Its line, from 1 on, if it stands in the file at all.
    pub line: Option<usize>,
    /// Its column in bytes, from 1 on.
    pub column: Option<usize>,
    /// The key, as in `limits.workers`, where the text could be read that far.
    pub key: Option<String>,
    /// What is wrong, and what would not be.
    pub text: String,
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { line: Some(line), column: Some(column), text, .. } => {
                write!(f, "line {line}, column {column}: {text}")
            }
            Self { text, .. } => f.write_str(text),
        }
    }
}

/// In the order of their lines. Of a text that is no TOML, nothing else is told.
pub(super) fn faults(text: &str, folder: &Path) -> Vec<ConfigFault> {
    let lines = Lines::of(text);
    let at = |at: Option<usize>, key: Option<String>, text: String| {
        let (line, column) = at.map(|at| lines.place(at)).unzip();
        ConfigFault { line, column, key, text }
    };
    let (mut table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let of = |error: &toml::de::Error| {
            at(error.span().map(|span| span.start), None, error.message().to_owned())
        };
        return in_order(errors.iter().take(MOST).map(of).collect());
    }
    let mut found = Vec::new();
    while found.len() < MOST {
        let read = file::File::read(table.clone());
        let (text, place, removed) = match read.map(|file| file::of_file(file, folder)) {
            Ok(Ok(_)) => break,
            Err(error) => {
                let start = error.span().map(|span| span.start);
                let removed = start.and_then(|start| remove_at(table.get_mut(), start));
                (file::told(&error), start, removed)
            }
            Ok(Err(problem)) => {
                let removed = problem.key().and_then(|key| remove_key(table.get_mut(), &key));
                let start = removed.as_ref().map(|(_, span)| span.start);
                (problem.to_string(), start, removed)
            }
        };
        // What stays would be found again and again.
        let is_last = removed.is_none();
        found.push(at(place, removed.map(|(key, _)| key), text));
        if is_last {
            break;
        }
    }
    in_order(found)
}

fn in_order(mut found: Vec<ConfigFault>) -> Vec<ConfigFault> {
    found.sort_by_key(|fault| (fault.line, fault.column));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<String> {
        faults(text, "/".as_ref()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn all_faults_are_told_each_with_its_line_and_not_the_first_alone() {
        let text = "\
[timeouts]
handlr = '5s'
probe = 'soon'

[limits]
connections = 0
workers = 'many'

[hots]
socket = 's'

[plugin.hello]
rate = nan

[reload.plugins.'a b']

[isolation]
read = ['/data']
";
        let expected = [
            "line 2, column 1: unknown field `handlr`, expected one of",
            "line 3, column 9: `soon` is no duration",
            "line 6, column 1: `limits.connections` is 0, and must be from 1 to",
            "line 7, column 11: invalid type: string \"many\"",
            "line 9, column 2: unknown field `hots`",
            "line 13, column 1: `plugin.hello.rate` is NaN",
            "line 15, column 17: `reload.plugins.a b` names no plugin",
            "line 18, column 1: `isolation.read` limits nothing while `profile` is \"none\"",
        ];
        let told = told(text);
        for (told, expected) in told.iter().zip(expected) {
            assert!(told.starts_with(expected), "{told}\nand not\n{expected}");
        }
        assert_eq!(told.len(), expected.len(), "{told:#?}");
        assert!(told[0].ends_with("did you mean `handler`?"), "{}", told[0]);
        assert!(told[4].ends_with("did you mean `host`?"), "{}", told[4]);
    }

    #[test]
    fn a_text_that_is_no_toml_has_all_places_where_it_is_none() {
        let told = told("[limits]\nworkers = \n[timeouts\nprobe = '1s'\n");
        assert!(told.len() >= 2, "{told:#?}");
        assert!(told[0].starts_with("line 2, column "), "{told:#?}");
        assert!(told[1].starts_with("line 3, column "), "{told:#?}");
    }

    #[test]
    fn a_text_with_nothing_wrong_has_no_faults_and_one_with_too_many_an_end() {
        assert_eq!(told("[plugin.hello]\ngreeting = 'Hi'"), [""; 0]);
        let many: String = (0..1000).map(|number| format!("key{number} = 1\n")).collect();
        assert_eq!(told(&many).len(), MOST);
    }
}
