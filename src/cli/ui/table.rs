//! Tables that fit the terminal: flexible columns are shortened with an ellipsis, no line wraps.

use unicode_width::UnicodeWidthStr;

use super::output::{Output, Tint, clean};
use super::wrap::{cut, wrap_after};

const GAP: usize = 2;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    pub(crate) title: &'static str,
    /// How narrow it may become; `usize::MAX` for one that is shortened last.
    pub(crate) narrowest: usize,
    pub(crate) right: bool,
}

#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<(String, Option<Tint>)>>,
    /// Text below a row: the row's number, the depth, and the text.
    details: Vec<(usize, usize, String)>,
}

impl Column {
    /// Shortened only if the flexible columns cannot give more.
    pub(crate) const fn fixed(title: &'static str) -> Self {
        Self { title, narrowest: usize::MAX, right: false }
    }

    /// Like [`Self::fixed`], aligned to the right.
    pub(crate) const fn number(title: &'static str) -> Self {
        Self { title, narrowest: usize::MAX, right: true }
    }

    /// Shortened if the table is too wide.
    pub(crate) const fn flexible(title: &'static str, narrowest: usize) -> Self {
        Self { title, narrowest, right: false }
    }
}

impl Table {
    pub(crate) fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new(), details: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: Vec<(String, Option<Tint>)>) {
        self.rows.push(cells.into_iter().map(|(text, tint)| (clean(&text), tint)).collect());
    }

    /// Adds text below the last row, indented by `depth` steps more than other details; it wraps.
    pub(crate) fn detail(&mut self, depth: usize, text: &str) {
        self.details.push((self.rows.len(), depth, clean(text)));
    }

    /// The table as lines, none wider than the output.
    pub(crate) fn render(mut self, output: &Output) -> String {
        self.drop_empty_columns();
        let widths = self.widths(output.width);
        let titles: Vec<_> = self.columns.iter().map(|column| (column.title.to_owned(), Some(Tint::Faint))).collect();
        let mut text = self.line(&titles, &widths, output);
        for (number, row) in self.rows.iter().enumerate() {
            text += &self.line(row, &widths, output);
            for (_, depth, detail) in self.details.iter().filter(|(row, ..)| *row == number + 1) {
                let indent = GAP * (depth + 1);
                let lines = wrap_after(&" ".repeat(indent), detail, output.width, indent);
                text.extend(lines.lines().map(|line| output.tint(Tint::Faint, line) + "\n"));
            }
        }
        text
    }

    /// A row as a line, without blanks at its end.
    fn line(&self, row: &[(String, Option<Tint>)], widths: &[usize], output: &Output) -> String {
        let mut line = String::new();
        let mut blanks = 0;
        for (((text, tint), column), width) in row.iter().zip(&self.columns).zip(widths) {
            let text = cut(text, *width);
            let padding = width - text.width();
            let (before, after) = if column.right { (padding, 0) } else { (0, padding) };
            if text.is_empty() {
                blanks += before + after;
            } else {
                line += &" ".repeat(blanks + before);
                line += &tint.map_or_else(|| text.clone(), |tint| output.tint(tint, &text));
                blanks = after;
            }
            blanks += GAP;
        }
        line + "\n"
    }

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

    /// The width of each column: the widest flexible one is shortened first, the fixed ones last.
    fn widths(&self, room: usize) -> Vec<usize> {
        let natural = |(index, column): (usize, &Column)| {
            let cells = self.rows.iter().filter_map(|row| row.get(index)).map(|(text, _)| text.width());
            cells.max().unwrap_or(0).max(column.title.width())
        };
        let mut widths: Vec<usize> = self.columns.iter().enumerate().map(natural).collect();
        let gaps = GAP * self.columns.len().saturating_sub(1);
        for may_shorten_fixed in [false, true] {
            while widths.iter().sum::<usize>() + gaps > room {
                let narrowest = |index: usize| if may_shorten_fixed { 2 } else { self.columns[index].narrowest.max(2) };
                let can_give = |(index, width): &(usize, &mut usize)| **width > narrowest(*index);
                let widest = widths.iter_mut().enumerate().filter(can_give).max_by_key(|(_, width)| **width);
                let Some((_, width)) = widest else { break };
                *width -= 1;
            }
        }
        widths
    }
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
    fn short_cells_stay_whole_and_lines_have_no_trailing_blanks() {
        let mut table = Table::new(&[Column::flexible("A", 4), Column::number("N")]);
        table.row(vec![("work".into(), None), ("1".into(), None)]);
        table.row(vec![("home".into(), None), ("12".into(), None)]);
        assert_eq!(table.render(&Output::plain(80)), "A      N\nwork   1\nhome  12\n");
    }

    #[test]
    fn long_and_wide_labels_fit_the_width() {
        let long = "ü".repeat(120);
        let wide = "漢字".repeat(40);
        for width in [40, 60, 80, 100] {
            let text = table(&["work", &long, &wide, "e\u{301}e\u{301}", "🦀🦀"]).render(&Output::plain(width));
            for line in text.lines() {
                assert!(line.width() <= width, "{} > {width}: {line}", line.width());
            }
            assert_eq!(text.lines().count(), 6, "{text}");
            assert!(text.contains('…') && text.contains("1/2"), "{text}");
            assert!(width < 60 || text.contains("limited"), "{text}");
        }
    }

    #[test]
    fn a_label_cannot_break_the_lines() {
        let text = table(&["a\nb\u{1b}[2J"]).render(&Output::plain(80));
        assert_eq!(text.lines().count(), 2);
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn empty_columns_are_removed_and_details_follow_their_row() {
        let mut table = Table::new(&[Column::fixed("A"), Column::fixed("B"), Column::fixed("C")]);
        table.row(vec![("1".into(), None), (String::new(), None), ("x".into(), None)]);
        table.detail(0, "5h 42 %");
        table.row(vec![("2".into(), None), (String::new(), None), ("y".into(), None)]);
        assert_eq!(table.render(&Output::plain(80)), "A  C\n1  x\n  5h 42 %\n2  y\n");
    }
}
