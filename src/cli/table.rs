//! Tables that fit: columns that may give way are cut with an ellipsis, no line wraps.

use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, Row, TableStyle};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::output::{Output, Tint, clean};

/// Blanks between columns.
const GAP: usize = 2;

/// A column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) title: &'static str,
    /// How narrow it may become; `usize::MAX` for one that is never cut.
    pub(super) narrowest: usize,
    pub(super) right: bool,
}

/// A table in the making.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<(String, Option<Tint>)>>,
    /// Lines below a row, by the row's number.
    details: Vec<(usize, String)>,
}

impl Column {
    /// Never cut.
    pub(super) const fn fixed(title: &'static str) -> Self {
        Self { title, narrowest: usize::MAX, right: false }
    }

    /// Never cut, numbers.
    pub(super) const fn number(title: &'static str) -> Self {
        Self { title, narrowest: usize::MAX, right: true }
    }

    /// Cut when there is not room for all.
    pub(super) const fn flexible(title: &'static str, narrowest: usize) -> Self {
        Self { title, narrowest, right: false }
    }
}

impl Table {
    pub(super) fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new(), details: Vec::new() }
    }

    /// Adds a row of cells, each with its colour.
    pub(super) fn row(&mut self, cells: Vec<(String, Option<Tint>)>) {
        self.rows.push(cells.into_iter().map(|(text, tint)| (clean(&text), tint)).collect());
    }

    /// Adds a line below the last row.
    pub(super) fn detail(&mut self, text: &str) {
        self.details.push((self.rows.len(), clean(text)));
    }

    /// The table as lines, none wider than the output.
    pub(super) fn render(mut self, output: &Output) -> String {
        self.drop_empty_columns();
        let widths = self.widths(output.width);
        let mut table = comfy_table::Table::new();
        table.load_style(TableStyle::new()).set_content_arrangement(ContentArrangement::Disabled).force_no_tty();
        let cell = |text: &str, index: usize| {
            let right = self.columns[index].right;
            Cell::new(cut(text, widths[index])).set_alignment(if right {
                CellAlignment::Right
            } else {
                CellAlignment::Left
            })
        };
        let colour = output.tint(Tint::Good, "x").len() > 1;
        if colour {
            table.enforce_styling();
        }
        table.set_header(self.columns.iter().enumerate().map(|(index, column)| {
            let header = cell(column.title, index);
            if colour { header.add_attribute(comfy_table::Attribute::Dim) } else { header }
        }));
        for row in &self.rows {
            let cells = row.iter().enumerate().map(|(index, (text, tint))| match tint.filter(|_| colour) {
                None => cell(text, index),
                Some(Tint::Good) => cell(text, index).fg(Color::DarkGreen),
                Some(Tint::Warn) => cell(text, index).fg(Color::DarkYellow),
                Some(Tint::Bad) => cell(text, index).fg(Color::DarkRed),
                Some(Tint::Faint) => cell(text, index).add_attribute(comfy_table::Attribute::Dim),
                Some(Tint::Strong) => cell(text, index).add_attribute(comfy_table::Attribute::Bold),
            });
            table.add_row(Row::from(cells.collect::<Vec<_>>()));
        }
        let last = self.columns.len().saturating_sub(1);
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, if index == last { 0 } else { GAP as u16 }));
        }
        let mut text = String::new();
        for (number, line) in table.lines().enumerate() {
            text.push_str(line.trim_end());
            text.push('\n');
            for (_, detail) in self.details.iter().filter(|(row, _)| *row == number && number > 0) {
                let line = cut(&format!("  {detail}"), output.width);
                text.push_str(&output.tint(Tint::Faint, &line));
                text.push('\n');
            }
        }
        text
    }

    /// A column that says nothing about anything only takes room.
    fn drop_empty_columns(&mut self) {
        let empty: Vec<bool> = (0..self.columns.len())
            .map(|index| self.rows.iter().all(|row| row.get(index).is_none_or(|(text, _)| text.is_empty())))
            .collect();
        let mut keep = empty.iter().map(|empty| !empty);
        self.columns.retain(|_| keep.next().unwrap_or(true));
        for row in &mut self.rows {
            let mut keep = empty.iter().map(|empty| !empty);
            row.retain(|_| keep.next().unwrap_or(true));
        }
    }

    /// How wide each column becomes: the widest flexible one gives way first.
    fn widths(&self, room: usize) -> Vec<usize> {
        let natural = |index: usize, column: &Column| {
            let cells = self.rows.iter().filter_map(|row| row.get(index)).map(|(text, _)| text.width());
            cells.max().unwrap_or(0).max(column.title.width())
        };
        let mut widths: Vec<usize> =
            self.columns.iter().enumerate().map(|(index, column)| natural(index, column)).collect();
        let gaps = GAP * self.columns.len().saturating_sub(1);
        while widths.iter().sum::<usize>() + gaps > room {
            let can_give = |(index, width): &(usize, &mut usize)| **width > self.columns[*index].narrowest.max(2);
            let widest = widths.iter_mut().enumerate().filter(can_give).max_by_key(|(_, width)| **width);
            let Some((_, width)) = widest else { break };
            *width -= 1;
        }
        widths
    }
}

/// The text in at most `width` columns, with an ellipsis for what is left out.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut taken = 0;
    let mut short = String::new();
    for letter in text.chars() {
        taken += letter.width().unwrap_or(0);
        if taken + 1 > width {
            break;
        }
        short.push(letter);
    }
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(labels: &[&str]) -> Table {
        let mut table = Table::new(&[
            Column::flexible("ACCOUNT", 8),
            Column::fixed("STATE"),
            Column::number("LEASES"),
            Column::flexible("LIMIT", 8),
        ]);
        for label in labels {
            table.row(vec![
                ((*label).into(), None),
                ("limited".into(), Some(Tint::Warn)),
                ("1/2".into(), None),
                ("gemini-antigravity quota in 4 min, then another one in 3 h".into(), None),
            ]);
        }
        table
    }

    #[test]
    fn short_things_are_not_cut_and_nothing_is_padded_at_the_end() {
        let mut table = Table::new(&[Column::flexible("A", 4), Column::number("N")]);
        table.row(vec![("work".into(), None), ("1".into(), None)]);
        table.row(vec![("home".into(), None), ("12".into(), None)]);
        assert_eq!(table.render(&Output::plain(80)), "A      N\nwork   1\nhome  12\n");
    }

    #[test]
    fn long_and_wide_labels_fit_eighty_columns() {
        let long = "ü".repeat(120);
        let wide = "漢字".repeat(40);
        for width in [60, 80, 100] {
            let text = table(&["work", &long, &wide, "e\u{301}e\u{301}", "🦀🦀"]).render(&Output::plain(width));
            for line in text.lines() {
                assert!(line.width() <= width, "{} > {width}: {line}", line.width());
            }
            assert_eq!(text.lines().count(), 6, "{text}");
            assert!(text.contains('…') && text.contains("limited") && text.contains("1/2"), "{text}");
        }
    }

    #[test]
    fn a_label_cannot_break_the_lines() {
        let text = table(&["a\nb\u{1b}[2J"]).render(&Output::plain(80));
        assert_eq!(text.lines().count(), 2);
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn empty_columns_go_and_details_follow_their_row() {
        let mut table = Table::new(&[Column::fixed("A"), Column::fixed("B"), Column::fixed("C")]);
        table.row(vec![("1".into(), None), (String::new(), None), ("x".into(), None)]);
        table.detail("5h 42 %");
        table.row(vec![("2".into(), None), (String::new(), None), ("y".into(), None)]);
        assert_eq!(table.render(&Output::plain(80)), "A  C\n1  x\n  5h 42 %\n2  y\n");
    }

    #[test]
    fn cutting_counts_columns_not_bytes() {
        assert_eq!(cut("漢字漢字", 5), "漢字…");
        assert_eq!(cut("漢字漢字", 4), "漢…");
        assert_eq!(cut("abcd", 4), "abcd");
        assert_eq!(cut("abcde", 4), "abc…");
    }
}
