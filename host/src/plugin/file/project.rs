//! A folder that is one plugin: its `pyproject.toml` has a table `[tool.ksi]`.
//!
//! A module in one file says the same in a block of comments (PEP 723). What the tables mean is
//! known to whoever reads the modules.

use std::{
    fs::OpenOptions,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use rustix::fs::OFlags;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

/// The file that makes a folder a plugin.
pub(crate) const FILE: &str = "pyproject.toml";
/// The longest that is read.
pub(super) const LONGEST: u64 = 256 << 10;
/// The longest source that is read: parsing takes some hundred times as much memory.
pub(super) const LONGEST_SOURCE: u64 = 4 << 20;
/// Of a file that cannot be understood, somebody is told if a line begins so.
const TABLE: &str = "[tool.ksi";

#[derive(Default, Deserialize)]
#[serde(default)]
struct Project {
    tool: Tools,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Tools {
    ksi: Option<IgnoredAny>,
}

/// Whether a folder is a plugin, or is meant to be one.
pub(super) fn is_project(folder: &Path) -> bool {
    let Ok(text) = text_of(&folder.join(FILE), LONGEST) else { return false };
    match toml::from_str::<Project>(&text) {
        Ok(project) => project.tool.ksi.is_some(),
        Err(_) => text.lines().any(is_of_table),
    }
}

/// Whether a line is the head of the table, or of one below it, or is to be that.
fn is_of_table(line: &str) -> bool {
    let line: String = line.chars().filter(|it| !it.is_whitespace()).collect();
    let rest = line.strip_prefix(TABLE);
    rest.is_some_and(|rest| !rest.starts_with(|it: char| it.is_alphanumeric() || "_-".contains(it)))
}

/// What a folder says of itself, or the block of a module that is one file: null if that has none.
///
/// # Errors
/// It cannot be read, or is no TOML.
pub(crate) fn said_by(path: &Path) -> Result<Value, NotRead> {
    let unread = |source| NotRead::File { source };
    // A block stands behind `# `.
    let (toml, before, shift) = if path.is_dir() {
        (text_of(&path.join(FILE), LONGEST).map_err(unread)?, 0, 1)
    } else {
        let source = text_of(path, LONGEST_SOURCE).map_err(unread)?;
        let Some((block, before)) = script(&source) else { return Ok(Value::Null) };
        (block, before, 3)
    };
    match toml::from_str::<toml::Table>(&toml) {
        Ok(table) => {
            Ok(Value::Object(table.into_iter().map(|(key, it)| (key, json(it))).collect()))
        }
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            let above = toml.get(..at).unwrap_or_default();
            let line = above.matches('\n').count();
            Err(NotRead::Toml {
                line: (line + before) as u64 + 1,
                column: (above.chars().rev().take_while(|it| *it != '\n').count() + shift) as u64,
                text: toml.lines().nth(line).unwrap_or_default().to_owned(),
                message: error.message().to_owned(),
            })
        }
    }
}

/// Why it is not known what a plugin says of itself.
#[derive(Debug)]
pub(crate) enum NotRead {
    File {
        source: io::Error,
    },
    /// Line and column from 1.
    Toml {
        line: u64,
        column: u64,
        text: String,
        message: String,
    },
}

/// The block of a source, and how many lines stand before what is in it.
fn script(source: &str) -> Option<(String, usize)> {
    let mut lines = source.lines().enumerate();
    while let Some((first, _)) = lines.find(|(_, line)| line.trim_end() == "# /// script") {
        let mut block = String::new();
        for (_, line) in lines.by_ref() {
            if line.trim_end() == "# ///" {
                return Some((block, first + 1));
            }
            // What is none goes on as any other comment, or as code.
            let Some(inside) =
                line.strip_prefix('#').filter(|it| it.is_empty() || it.starts_with(' '))
            else {
                break;
            };
            block.push_str(inside.get(1..).unwrap_or_default());
            block.push('\n');
        }
    }
    None
}

fn json(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(it) => it.into(),
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(all) => all.into_iter().map(json).collect(),
        toml::Value::Table(table) => {
            Value::Object(table.into_iter().map(|(key, it)| (key, json(it))).collect())
        }
    }
}

/// How a regular file begins. Nothing else is waited for.
fn text_of(path: &Path, longest: u64) -> io::Result<String> {
    // A named pipe would block for ever.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(longest).read_to_end(&mut bytes)?;
    Ok(String::from_utf8(bytes).unwrap_or_else(|it| String::from_utf8_lossy(it.as_bytes()).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_a_folder_is_read_whole_whatever_stands_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let text = "[project]\nauthors = [{name = \"x\"}]\nday = 2026-01-02\ndependencies = [\n  'a>=1', # why\n]\n\
                    [tool.ksi.pluggy.events]\n\"kitchen:ingredients\" = \"add\"\n";
        std::fs::write(folder.path().join(FILE), text).unwrap();
        let said = said_by(folder.path()).unwrap();
        assert_eq!(said["project"]["authors"], serde_json::json!([{"name": "x"}]));
        assert_eq!(said["project"]["dependencies"], serde_json::json!(["a>=1"]));
        assert_eq!(said["project"]["day"], "2026-01-02");
        assert_eq!(said["tool"]["ksi"]["pluggy"]["events"]["kitchen:ingredients"], "add");
    }

    #[test]
    fn what_is_no_toml_is_told_by_line_and_column() {
        let told = |name: &str, text: &str| {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join(name), text).unwrap();
            let path =
                if name == FILE { folder.path().to_owned() } else { folder.path().join(name) };
            match said_by(&path) {
                Err(NotRead::Toml { line, column, text, .. }) => (line, column, text),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(told(FILE, "[tool.ksi]\nkeep = [\n"), (2, 9, "keep = [".to_owned()));
        let source = "import os\n# /// script\n#\n# dependencies = ]\n# ///\n";
        assert_eq!(told("a.py", source), (4, 18, "dependencies = ]".to_owned()));
    }

    #[test]
    fn the_block_of_a_source_is_found_where_it_is_one() {
        let block = script;
        assert_eq!(
            block("x = 1\r\n# /// script\r\n# a = 1\r\n#\r\n# ///\r\n"),
            Some(("a = 1\n\n".to_owned(), 2))
        );
        assert_eq!(block("# /// script\n# a = 1\nx = 1\n# ///\n"), None, "it does not end");
        assert_eq!(block("# /// other\n# a = 1\n# ///\n"), None);
        assert_eq!(
            block("# /// script\nx\n# /// script\n# b = 1\n# ///"),
            Some(("b = 1\n".to_owned(), 3))
        );
        assert_eq!(said_of("x = 1"), Value::Null);
    }

    fn said_of(source: &str) -> Value {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.py");
        std::fs::write(&path, source).unwrap();
        said_by(&path).unwrap()
    }

    #[test]
    fn a_pipe_in_place_of_the_file_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let made = std::process::Command::new("mkfifo").arg(folder.path().join(FILE)).status();
        assert!(made.unwrap().success());
        assert!(!is_project(folder.path()));
    }

    #[test]
    fn a_folder_is_a_plugin_by_its_table_also_if_that_has_a_mistake() {
        let is = |text: &str| {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join(FILE), text).unwrap();
            is_project(folder.path())
        };
        assert!(is("[project]\nname = 'a'\n[tool.ksi]\nmodule = 'b'\n[tool.other]"));
        assert!(is("[tool.ksi.more]") && is("[tool.ksi]\nmodule ="));
        for mistaken in
            ["[tool.ksi", "[ tool.ksi ]\nkeep =", "[tool.ksi.pluggy\n", "[tool.ksi] x\n"]
        {
            assert!(is(mistaken), "{mistaken}");
        }
        assert!(!is("[tool.ksitools]\nkeep ="));
        assert!(!is("[project]\nname = 'ksi'") && !is("no toml"));
        assert!(!is_project(tempfile::tempdir().unwrap().path()));
    }
}
