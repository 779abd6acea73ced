//! Codes: the words in square brackets at the end of a message, `code` in JSON. Each is explained
//! here, once; `ksi explain` prints it, and docs/codes.md is made of it.
//!
//! A code says what kind of thing has happened and stays the same; the message says what it was
//! this time. Plugins may have codes of their own, which nobody here knows.

mod answers;
mod command;
mod files;
mod http;
mod outcomes;
mod plugins;

use std::fmt::Write;

use serde::Serialize;

/// What a code means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Code {
    /// The code.
    pub code: &'static str,
    /// What has happened.
    pub means: &'static str,
    /// What most often is behind it.
    pub causes: &'static str,
    /// What somebody can do.
    pub remedy: &'static str,
}

impl Code {
    const fn new(
        code: &'static str,
        means: &'static str,
        causes: &'static str,
        remedy: &'static str,
    ) -> Self {
        Code { code, means, causes, remedy }
    }
}

/// Codes that one meets at the same place.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// Where.
    pub title: &'static str,
    /// The codes.
    pub codes: &'static [Code],
}

/// All codes.
pub const GROUPS: &[Group] = &[
    Group { title: "How a call ended", codes: outcomes::ENDS },
    Group { title: "What the plugin API says in a handler", codes: outcomes::OF_THE_API },
    Group { title: "What a host refuses a plugin", codes: outcomes::REFUSALS },
    Group { title: "What a host answers", codes: answers::CODES },
    Group { title: "Files that do not become plugins", codes: files::CODES },
    Group { title: "Broken contracts", codes: files::CONTRACTS },
    Group { title: "What the command says itself", codes: command::CODES },
    Group { title: "Exit codes", codes: command::EXITS },
    Group { title: "Modules of Python", codes: plugins::PYTHON },
    Group { title: "The plugins that come with ksi", codes: plugins::CODES },
    Group { title: "What the plugin http answers", codes: http::CODES },
    Group { title: "The test harness", codes: plugins::HARNESS },
];

/// Every code with its explanation, in the order of the groups.
pub fn all() -> impl Iterator<Item = &'static Code> {
    GROUPS.iter().flat_map(|group| group.codes)
}

/// What a code means, if it is one of these.
pub fn explained(code: &str) -> Option<&'static Code> {
    all().find(|known| known.code == code)
}

/// The page of the docs.
pub fn page() -> String {
    let mut page = HEAD.to_owned();
    for Group { title, codes } in GROUPS {
        // Writing to a String cannot fail, here and below.
        let _ = write!(page, "\n## {title}\n");
        for Code { code, means, causes, remedy } in *codes {
            let _ = write!(
                page,
                "\n### `{code}`\n\n{means}\n\n- **Mostly:** {causes}\n- **Do:** {remedy}\n"
            );
        }
    }
    page
}

const HEAD: &str = "\
# Codes

A message of ksi ends with a code in square brackets, `[invalid_payload]`; JSON has it as `code`. The code says what kind of
thing has happened and stays the same; the message says what it was this time. `ksi explain CODE` prints what stands here, and
needs no host. A plugin may have codes of its own: its author explains those. An exception that a handler in Python raises has
its class for a code, `[ValueError]`.
";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_code_is_explained_once_and_in_whole_sentences() {
        let mut seen = BTreeSet::new();
        for Code { code, means, causes, remedy } in all() {
            assert!(seen.insert(code), "{code} is explained twice");
            let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(code.chars().all(is_word), "{code}");
            for text in [means, causes, remedy] {
                let begins = text.starts_with(|c: char| c.is_uppercase() || c == '`');
                assert!(begins && text.ends_with('.'), "{code}: {text:?}");
            }
        }
    }

    #[test]
    fn the_page_of_the_docs_says_the_same() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/codes.md");
        if std::env::var_os("KSI_WRITE_DOCS").is_some() {
            std::fs::write(file, page()).expect("docs/codes.md is written");
        }
        let there = std::fs::read_to_string(file).unwrap_or_default();
        assert!(
            there == page(),
            "docs/codes.md is not what the table says: run this with KSI_WRITE_DOCS=1"
        );
    }
}
