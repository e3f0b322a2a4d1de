//! Tables that fit the terminal: columns that matter less are left out, texts are shortened with an ellipsis, no line
//! wraps.

use unicode_width::UnicodeWidthStr;

use super::distinct::cut_distinct;
use super::output::{Output, Tint, clean};
use super::wrap::{cut, wrap_after};

const GAP: usize = 2;
/// A name is cut below this width only when no column is left that can be left out.
const NAME: usize = 48;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    pub(crate) title: &'static str,
    /// How narrow it may become; `usize::MAX` for one that is shortened last.
    pub(crate) narrowest: usize,
    pub(crate) right: bool,
    /// Its texts are names, which must stay distinct.
    is_name: bool,
    /// Where the table is too wide, the column with the highest number is left out first; 0: never.
    left_out: u8,
    /// Where it is left out, its texts stand below their rows.
    moves_below: bool,
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
        Self { title, narrowest: usize::MAX, right: false, is_name: false, left_out: 0, moves_below: false }
    }

    /// Like [`Self::fixed`], aligned to the right.
    pub(crate) const fn number(title: &'static str) -> Self {
        Self { right: true, ..Self::fixed(title) }
    }

    /// Shortened if the table is too wide.
    pub(crate) const fn flexible(title: &'static str, narrowest: usize) -> Self {
        Self { narrowest, ..Self::fixed(title) }
    }

    /// A column of names: shortened only when nothing else is left, and so that they stay distinct.
    pub(crate) const fn name(title: &'static str) -> Self {
        Self { narrowest: 8, is_name: true, ..Self::fixed(title) }
    }

    /// Left out where the table is too wide, after the columns with a higher number.
    pub(crate) const fn left_out(self, number: u8) -> Self {
        Self { left_out: number, ..self }
    }

    /// The same, but its texts then stand below their rows.
    pub(crate) const fn moved_below(self, number: u8) -> Self {
        Self { left_out: number, moves_below: true, ..self }
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
        for index in (0..self.columns.len()).rev() {
            if self.rows.iter().all(|row| row.get(index).is_none_or(|(text, _)| text.is_empty())) {
                self.remove_column(index);
            }
        }
        self.leave_out_columns(output.width);
        let widths = self.widths(output.width);
        self.cut_names(&widths);
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

    fn remove_column(&mut self, index: usize) {
        let column = self.columns.remove(index);
        let mut below = Vec::new();
        for (number, row) in self.rows.iter_mut().enumerate() {
            if index < row.len() {
                let (text, _) = row.remove(index);
                below.extend(
                    Some(text).filter(|text| column.moves_below && !text.is_empty()).map(|text| (number + 1, 0, text)),
                );
            }
        }
        self.details.splice(0..0, below);
    }

    /// Leaves out columns, in their order, until the rest fits without cutting a name to less than [`NAME`].
    fn leave_out_columns(&mut self, room: usize) {
        loop {
            let least = |(index, column): (usize, &Column)| {
                let natural = self.natural(index);
                let narrowest = if column.is_name { NAME } else { column.narrowest };
                natural.min(narrowest.max(column.title.width()))
            };
            let least: usize = self.columns.iter().enumerate().map(least).sum();
            if least + self.gaps() <= room {
                return;
            }
            let candidates = self.columns.iter().enumerate().filter(|(_, column)| column.left_out > 0);
            let Some((index, _)) = candidates.max_by_key(|(_, column)| column.left_out) else { return };
            self.remove_column(index);
        }
    }

    fn gaps(&self) -> usize {
        GAP * self.columns.len().saturating_sub(1)
    }

    fn natural(&self, index: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(index)).map(|(text, _)| text.width());
        cells.max().unwrap_or(0).max(self.columns[index].title.width())
    }

    /// The width of each column: the widest flexible one is shortened first, then names, the fixed ones last.
    fn widths(&self, room: usize) -> Vec<usize> {
        let mut widths: Vec<usize> = (0..self.columns.len()).map(|index| self.natural(index)).collect();
        for step in 0..3 {
            while widths.iter().sum::<usize>() + self.gaps() > room {
                let narrowest = |index: usize| {
                    let Column { narrowest, is_name, .. } = self.columns[index];
                    match (step, is_name) {
                        (0, false) | (1, _) => narrowest.max(2),
                        (0, true) => NAME,
                        _ => 2,
                    }
                };
                let can_give = |(index, width): &(usize, &mut usize)| **width > narrowest(*index);
                let widest = widths.iter_mut().enumerate().filter(can_give).max_by_key(|(_, width)| **width);
                let Some((_, width)) = widest else { break };
                *width -= 1;
            }
        }
        widths
    }

    /// Cuts the names that are too long for their columns.
    fn cut_names(&mut self, widths: &[usize]) {
        for (index, width) in widths.iter().enumerate().filter(|(index, _)| self.columns[*index].is_name) {
            let names: Vec<String> =
                self.rows.iter().map(|row| row.get(index).map_or_else(String::new, |(text, _)| text.clone())).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            for (row, short) in self.rows.iter_mut().zip(cut_distinct(&names, *width)) {
                if let Some((text, _)) = row.get_mut(index) {
                    *text = short;
                }
            }
        }
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

    #[test]
    fn columns_are_left_out_before_a_name_is_cut() {
        let shown = |width: usize| {
            let mut table = Table::new(&[
                Column::name("ACCOUNT"),
                Column::fixed("STATE"),
                Column::flexible("LIMIT", 99).moved_below(1),
                Column::fixed("LAST USED").left_out(2),
            ]);
            let cells = ["someone@example.org", "limited", "quota until 17:06, in 76 s", "2 min ago"];
            table.row(cells.map(|text| (text.to_owned(), None)).to_vec());
            table.render(&Output::plain(width))
        };
        assert_eq!(
            shown(80).lines().next(),
            Some("ACCOUNT              STATE    LIMIT                       LAST USED")
        );
        assert_eq!(shown(60).lines().next(), Some("ACCOUNT              STATE    LIMIT"));
        assert_eq!(
            shown(40),
            "ACCOUNT              STATE\nsomeone@example.org  limited\n  quota until 17:06, in 76 s\n"
        );
    }
}
