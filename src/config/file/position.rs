//! Converts offsets of a text to lines and columns.

use std::ops::Range;

/// Where each line of a text starts.
pub(in crate::config) struct LineIndex<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> LineIndex<'t> {
    pub(in crate::config) fn new(text: &'t str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { text, starts: std::iter::once(0).chain(ends).collect() }
    }
    pub(in crate::config) fn text(&self) -> &'t str {
        self.text
    }

    /// Line and column, in characters, of an offset; both count from 1.
    pub(in crate::config) fn position(&self, offset: usize) -> (u32, u32) {
        let offset = self.text.floor_char_boundary(offset.min(self.text.len()));
        let line = self.starts.partition_point(|start| *start <= offset);
        let column = self.text[self.starts[line - 1]..offset].chars().count() + 1;
        (clamp(line), clamp(column))
    }

    /// The line of an offset, from 1.
    pub(in crate::config) fn line(&self, offset: usize) -> u32 {
        clamp(self.starts.partition_point(|start| *start <= offset))
    }

    /// The range of the line around an offset, without its end.
    pub(in crate::config) fn line_at(&self, offset: usize) -> Range<usize> {
        let next = self.starts.partition_point(|start| *start <= offset);
        // The first start is 0, so `next` is at least 1.
        let start = self.starts[next - 1];
        let end = self.starts.get(next).map_or(self.text.len(), |next| next - 1);
        start..start + self.text[start..end].trim_end_matches('\r').len()
    }
}

fn clamp(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
