//! What reaches the dashboard, and what it wants done: the threads around it exchange nothing else.

use ratatui::crossterm::event::{KeyEvent, MouseEvent};

use crate::protocol::{AccountInfo, DaemonStatus, EventInfo, HistoryInfo, LeaseRow, RequestRow, VerdictInfo};

/// Something that happened.
#[derive(Debug)]
pub(super) enum Message {
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
    Signal(Stop),
}

/// How a signal stops the program.
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
    /// What the next agent of each provider would get.
    pub(super) outlooks: Vec<Outlook>,
}

/// What the next agent of a provider would get.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Outlook {
    pub(super) provider: String,
    pub(super) verdict: VerdictInfo,
}

/// What the dashboard wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Effect {
    /// Ask the daemon for its state now.
    Poll,
    /// Change something at the daemon.
    Act(Action),
    /// End.
    Quit,
    /// Return to the shell until it continues the program.
    Suspend,
    /// Take the terminal again, and draw all of it.
    Restore,
}

/// A change at the daemon. Accounts and leases are named by their ids, and by what people call them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Action {
    Enable(Named),
    Disable(Named),
    ClearLimits(Named),
    /// Get a new token of the login.
    RefreshLogin(Named),
    /// Read the usage from the provider.
    ReadUsage(Named),
    Release(Named),
    /// Move a lease, to this account or to the best other one.
    Move(Named, Option<Named>),
}

/// An id, and what people call it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Named {
    pub(super) id: String,
    pub(super) name: String,
}
