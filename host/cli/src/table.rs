//! Tables: aligned columns without lines around them. On a terminal they are coloured and wrapped
//! to its width; in a pipe they are plain, and no cell is ever cut or wrapped, whatever its length.

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, presets};

use super::output;

/// A table that grows by rows of cells.
pub(crate) struct Table {
    inner: comfy_table::Table,
    for_terminal: bool,
}

/// What a cell's colour says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Usual,
    Good,
    Doubtful,
    Bad,
}

/// A column's title, and on which side its cells stand.
pub(crate) enum Column {
    Text(&'static str),
    Number(&'static str),
}

impl Table {
    /// For whatever reads standard output.
    pub(crate) fn new(columns: &[Column]) -> Self {
        Self::of(columns, output::is_terminal())
    }

    fn of(columns: &[Column], for_terminal: bool) -> Self {
        let mut inner = comfy_table::Table::new();
        inner.load_style(presets::NOTHING);
        inner.set_content_arrangement(match for_terminal {
            true => ContentArrangement::Dynamic,
            false => ContentArrangement::Disabled,
        });
        if !for_terminal {
            inner.force_no_tty();
        }
        inner.set_header(columns.iter().map(|column| {
            let (Column::Text(title) | Column::Number(title)) = column;
            Cell::new(title).add_attribute(Attribute::Bold)
        }));
        for (index, column) in columns.iter().enumerate() {
            if let Some(settings) = inner.column_mut(index) {
                settings.set_padding((0, 2));
                if matches!(column, Column::Number(_)) {
                    settings.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
        Self { inner, for_terminal }
    }

    pub(crate) fn row<S: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = (S, Tone)>) {
        self.inner.add_row(cells.into_iter().map(|(text, tone)| {
            let cell = Cell::new(output::plain(&text.as_ref().replace('\n', " ")));
            match tone {
                Tone::Usual => cell,
                Tone::Good => cell.fg(Color::Green),
                Tone::Doubtful => cell.fg(Color::Yellow),
                Tone::Bad => cell.fg(Color::Red),
            }
        }));
    }

    pub(crate) fn render(&self) -> String {
        let mut text = self.inner.trim_fmt();
        if self.for_terminal {
            // Styles end behind the padding, where trimming does not see it.
            text = text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        }
        text
    }
}

/// A paragraph that hangs below its first line: `text`, wrapped at words to a width, or on one line
/// without a width.
pub(crate) fn hanging(title: &str, text: &str, width: Option<usize>) -> String {
    let text = output::paragraph(text);
    let Some(width) = width else {
        return format!("{title}{}", text.split_whitespace().collect::<Vec<_>>().join(" "));
    };
    let (mut out, mut column) = (title.to_owned(), title.chars().count());
    let mut first = true;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if !first && column + 1 + length > width {
            out.push_str("\n    ");
            column = 4;
        } else if !first {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
        first = false;
    }
    out
}

/// The columns of the terminal that reads standard output; `None` if something else does.
pub(crate) fn terminal_width() -> Option<usize> {
    comfy_table::Table::new().width().map(usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(for_terminal: bool, texts: &[(&str, &str)]) -> Table {
        let mut table = Table::of(&[Column::Text("NAME"), Column::Number("GEN")], for_terminal);
        for (name, generation) in texts {
            table.row([(*name, Tone::Good), (*generation, Tone::Usual)]);
        }
        table
    }

    #[test]
    fn a_pipe_gets_plain_aligned_text() {
        let text = table(false, &[("hello", "2"), ("state-of-things", "10")]).render();
        assert_eq!(text, "NAME             GEN\nhello              2\nstate-of-things   10");
    }

    #[test]
    fn a_pipe_gets_every_cell_whole_and_on_one_line() {
        let long = format!("{}\n\u{1b}[31m", "word ".repeat(200));
        let text = table(false, &[(&long, "1")]).render();
        assert_eq!(text.lines().count(), 2);
        assert!(text.contains(&"word ".repeat(200)) && text.contains("\\u{1b}[31m"));
    }

    #[test]
    fn a_paragraph_is_wrapped_for_a_terminal_alone() {
        let text = "one two three four";
        assert_eq!(hanging("a: ", text, None), "a: one two three four");
        assert_eq!(hanging("a: ", text, Some(12)), "a: one two\n    three\n    four");
        assert_eq!(hanging("a: ", "extraordinarily", Some(5)), "a: extraordinarily");
    }
}
