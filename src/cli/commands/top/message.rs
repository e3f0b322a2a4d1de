//! What reaches the dashboard, what a click on it means, and what it wants done: the threads around it exchange nothing
//! else.

use ratatui::crossterm::event::{KeyCode, KeyEvent, MouseEvent};
use ratatui::layout::{Position, Rect};

use super::panel::{ColumnField, Panel};
use crate::protocol::{AccountInfo, DaemonStatus, EventInfo, HistoryInfo, LeaseRow, RequestRow};

/// Something that happened.
#[derive(Debug)]
pub(super) enum ScreenMessage {
    /// Time has passed, epoch ms.
    Tick(u64),
    /// A key was pressed.
    Key(KeyEvent),
    /// The mouse did something.
    Mouse(MouseEvent),
    /// The terminal has another size, or its content is lost.
    Resized,
    /// The daemon's state.
    State(Box<DaemonState>),
    /// Requests and limits of the last hour, by minute; `None` if the daemon keeps none.
    Hour(Option<Box<HistoryInfo>>),
    /// Requests that ended before the subscription, newest first.
    Requests(Vec<RequestRow>),
    /// New events, oldest first.
    Events(Vec<EventInfo>),
    /// The daemon does not answer, and why.
    Gone(String),
    /// An action was carried out, or failed.
    Done(Result<String, String>),
    /// A signal asks the program to end, or to stop until it is continued.
    #[cfg_attr(windows, allow(dead_code, reason = "its consoles send keys instead"))]
    Signal(Stop),
}

/// How a signal stops the program.
#[cfg_attr(windows, allow(dead_code, reason = "its consoles send keys instead"))]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stop {
    /// It ends, as by this signal.
    End(i32),
    /// It is suspended until the shell continues it.
    Suspend,
    /// It was continued: the terminal may be in any state.
    Continued,
}

/// What the daemon says of itself at one time.
#[derive(Clone, Debug)]
pub(super) struct DaemonState {
    pub(super) status: DaemonStatus,
    pub(super) accounts: Vec<AccountInfo>,
    pub(super) leases: Vec<LeaseRow>,
}

/// What the dashboard wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum ScreenEffect {
    /// Ask the daemon for its state now.
    Poll,
    /// Change something at the daemon.
    Act(DaemonChange),
    /// End.
    Quit,
    /// Return to the shell until it continues the program.
    Suspend,
    /// Take the terminal again, and draw all of it.
    Restore,
}

/// A change at the daemon. Accounts and leases are named by their ids, and by what people call them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum DaemonChange {
    Enable(NamedItem),
    Disable(NamedItem),
    ClearLimits(NamedItem),
    /// Get a new token of the login.
    RefreshLogin(NamedItem),
    /// Read the usage from the provider.
    ReadUsage(NamedItem),
    Release(NamedItem),
    /// Move a lease, to this account or to the best other one.
    Move(NamedItem, Option<NamedItem>),
}

/// An id, and what people call it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct NamedItem {
    pub(super) id: String,
    pub(super) name: String,
}

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
