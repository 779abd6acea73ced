//! Where the value of a key comes from: which keys a file has, and on which lines, and what was
//! said beside the file.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Where the value of a key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Nobody has said anything.
    Default,
    /// The configuration file has it.
    File {
        /// The line, from 1 on; none where the file has another value by now.
        line: Option<usize>,
    },
    /// It was said on the command line.
    CommandLine {
        /// By this option, as in `--state`.
        option: String,
    },
    /// It was said in the environment.
    Environment {
        /// By this variable.
        variable: String,
    },
    /// The program that the host is part of has set it.
    Program,
}

/// Where the values of a configuration come from, by key.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origins {
    /// The lines of the file's keys and tables.
    lines: BTreeMap<String, usize>,
    /// What was said beside the file.
    said: BTreeMap<String, Origin>,
}

/// Two configurations that say the same are the same, wherever they say it.
impl PartialEq for Origins {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Origins {
    /// Of a file's text; nothing of one that is no TOML.
    pub(super) fn of_text(text: &str) -> Self {
        let (lines, table) = (Lines::of(text), DeTable::parse(text));
        let mut found = BTreeMap::new();
        if let Ok(table) = table {
            walk(table.get_ref(), "", &mut |path, key| {
                found.insert(path.to_owned(), lines.place(key.start).0);
            });
        }
        Origins { lines: found, said: BTreeMap::new() }
    }

    pub(crate) fn line(&self, key: &str) -> Option<usize> {
        self.lines.get(key).copied()
    }

    /// What was said of a key beside the file, or of a table around it.
    pub(crate) fn said(&self, key: &str) -> Option<&Origin> {
        self.said.get(key)
    }

    pub(super) fn say(&mut self, key: &str, origin: Origin) {
        self.said.insert(key.to_owned(), origin);
    }
}

/// Where the lines of a text begin.
pub(super) struct Lines(Vec<usize>);

impl Lines {
    pub(super) fn of(text: &str) -> Self {
        Lines([0].into_iter().chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect())
    }

    /// Line and column of a byte, both from 1 on.
    pub(super) fn place(&self, at: usize) -> (usize, usize) {
        let line = self.0.partition_point(|start| *start <= at);
        (line, at - self.0[line.saturating_sub(1)] + 1)
    }
}

/// The way to a key below a table, as it could be written in TOML.
pub(super) fn below(table: &str, key: &str) -> String {
    let is_bare = |it: u8| it.is_ascii_alphanumeric() || it == b'_' || it == b'-';
    let key = match !key.is_empty() && key.bytes().all(is_bare) {
        true => key.to_owned(),
        false => format!("{key:?}"),
    };
    if table.is_empty() { key } else { format!("{table}.{key}") }
}

/// Calls `each` with every key and where it stands, tables before what is in them.
fn walk(table: &DeTable<'_>, path: &str, each: &mut impl FnMut(&str, Range<usize>)) {
    for (key, value) in table {
        let path = below(path, key.get_ref());
        each(&path, key.span());
        if let DeValue::Table(inner) = value.get_ref() {
            walk(inner, &path, each);
        }
    }
}

/// Takes the entry that stands at this byte out of a table, with its way, and where its key is.
pub(super) fn remove_at(table: &mut DeTable<'_>, at: usize) -> Option<(String, Range<usize>)> {
    remove(table, "", &|_, key, value| key.span().contains(&at) || value.span().contains(&at))
}

/// The same by the way to it.
pub(super) fn remove_key(table: &mut DeTable<'_>, key: &str) -> Option<(String, Range<usize>)> {
    remove(table, "", &|path, _, _| path == key)
}

type IsMeant<'a> =
    &'a dyn Fn(&str, &Spanned<toml::de::DeString<'_>>, &Spanned<DeValue<'_>>) -> bool;

/// What is deepest goes: the place of a table may have all of its keys in it.
fn remove(
    table: &mut DeTable<'_>,
    path: &str,
    is_meant: IsMeant<'_>,
) -> Option<(String, Range<usize>)> {
    for (key, value) in table.iter_mut() {
        let path = below(path, key.get_ref());
        if let DeValue::Table(inner) = value.get_mut()
            && let Some(removed) = remove(inner, &path, is_meant)
        {
            return Some(removed);
        }
    }
    let meant = table.iter().find(|(key, value)| is_meant(&below(path, key.get_ref()), key, value));
    let (name, span) = meant.map(|(key, _)| (key.get_ref().clone().into_owned(), key.span()))?;
    table.remove(name.as_str());
    Some((below(path, &name), span))
}
