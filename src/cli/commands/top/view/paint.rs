//! Writes text into a part of the buffer; nothing leaves that part.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use unicode_width::UnicodeWidthStr;

use crate::cli::commands::top::cells::Pieces;
use crate::cli::ui::cut;

/// A part of the screen. Columns and rows count from its corner.
pub(super) struct Canvas<'a> {
    buffer: &'a mut Buffer,
    area: Rect,
}

impl<'a> Canvas<'a> {
    pub(super) fn new(buffer: &'a mut Buffer, area: Rect) -> Self {
        let area = area.intersection(buffer.area);
        Self { buffer, area }
    }

    pub(super) fn width(&self) -> usize {
        usize::from(self.area.width)
    }

    pub(super) fn height(&self) -> usize {
        usize::from(self.area.height)
    }

    /// A place on the screen.
    pub(super) fn rect(&self, x: usize, y: usize, width: usize) -> Rect {
        let (x, y) = (self.area.x.saturating_add(short(x)), self.area.y.saturating_add(short(y)));
        Rect { x, y, width: short(width), height: 1 }.intersection(self.area)
    }

    /// Writes text up to the right end; returns the column behind it.
    pub(super) fn piece(&mut self, x: usize, y: usize, text: &str, style: Style) -> usize {
        self.clipped(x, y, self.width(), text, style)
    }

    fn clipped(&mut self, x: usize, y: usize, end: usize, text: &str, style: Style) -> usize {
        let end = end.min(self.width());
        if y >= self.height() || x >= end {
            return x;
        }
        let place = self.rect(x, y, end - x);
        let (after, _) = self.buffer.set_stringn(place.x, place.y, text, end - x, style);
        usize::from(after - self.area.x)
    }

    /// Writes pieces of text in `width` columns, with an ellipsis where they are longer.
    pub(super) fn pieces(&mut self, x: usize, y: usize, width: usize, pieces: &Pieces) {
        let end = x + width;
        let total = columns(pieces);
        let mut at = x;
        for (text, tone) in pieces {
            let room = end.saturating_sub(at);
            if total > width && text.width() >= room {
                self.clipped(at, y, end, &cut(&format!("{text}…"), room), tone.style());
                return;
            }
            at = self.clipped(at, y, end, text, tone.style());
        }
    }

    /// Changes the style of a row.
    pub(super) fn highlight(&mut self, y: usize, style: Style) {
        let row = self.rect(0, y, self.width());
        self.buffer.set_style(row, style);
    }

    pub(super) fn style(&mut self, place: Rect, style: Style) {
        self.buffer.set_style(place, style);
    }

    /// Empties the part.
    pub(super) fn clear(&mut self) {
        let blank = " ".repeat(self.width());
        for y in 0..self.height() {
            self.highlight(y, Style::reset());
            self.piece(0, y, &blank, Style::reset());
        }
    }
}

/// The columns that pieces of text take.
pub(super) fn columns(pieces: &Pieces) -> usize {
    pieces.iter().map(|(text, _)| text.width()).sum()
}

fn short(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}
