//! What can be clicked, and where it is.

use ratatui::crossterm::event::KeyCode;
use ratatui::layout::{Position, Rect};

use super::panel::{ColumnField, Panel};

/// The places of the screen that was drawn last; later ones lie above earlier ones.
#[derive(Clone, Debug, Default)]
pub(super) struct Targets(Vec<(Rect, ClickTarget)>);

/// What a click means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ClickTarget {
    /// A list, outside its rows.
    Panel(Panel),
    /// A row of a list, by its number in the order.
    Row(Panel, usize),
    /// The title of a column.
    ListColumn(Panel, ColumnField),
    /// The same as this key.
    Key(KeyCode),
    /// An account of the choice for a lease.
    Choice(usize),
    /// A box above the lists.
    Popup,
}

impl Targets {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn add(&mut self, area: Rect, target: ClickTarget) {
        self.0.push((area, target));
    }

    pub(super) fn at(&self, column: u16, row: u16) -> Option<ClickTarget> {
        let position = Position { x: column, y: row };
        self.0.iter().rev().find(|(area, _)| area.contains(position)).map(|(_, target)| *target)
    }
}
