//! The state of the dashboard, and what each message changes in it. No I/O: the loop around it feeds messages and
//! carries out effects.

use std::collections::VecDeque;

use ratatui::crossterm::event::MouseEventKind;

use super::look::Tone;
use super::message::Targets;
use super::message::{DaemonChange, DaemonState, ScreenEffect, ScreenMessage, Stop};
use super::names::Names;
use super::panel::{ColumnField, Panel};
use crate::cli::ui::account;
use crate::daemon::REPLAY_END;
use crate::protocol::{EventInfo, HistoryInfo, RequestRow};

/// More requests and more events are not kept.
const MOST_REQUESTS: usize = 1000;
const MOST_EVENTS: usize = 500;
/// How long the result of an action is shown.
const NOTICE_MS: u64 = 8000;

/// Everything that the screen shows.
#[derive(Debug)]
pub(super) struct Dashboard {
    /// Epoch ms.
    pub(super) now: u64,
    pub(super) state: Option<DaemonState>,
    /// When the state was read.
    pub(super) read_at: u64,
    pub(super) gone: Option<Gone>,
    pub(super) hour: Hour,
    /// Newest first.
    pub(super) requests: VecDeque<Numbered<RequestRow>>,
    /// Newest first.
    pub(super) events: VecDeque<Numbered<EventInfo>>,
    pub(super) names: Names,
    pub(super) focus: Panel,
    /// The panel that is shown below the accounts where there is room for two.
    pub(super) below: Panel,
    pub(super) lists: [ListState; Panel::ALL.len()],
    pub(super) filter: String,
    pub(super) mode: InputMode,
    pub(super) notice: Option<Notice>,
    /// The user's home directory, which is shown as `~`.
    pub(super) home: Option<String>,
    /// What can be clicked on the screen that was drawn last.
    pub(super) targets: Targets,
    /// Whether the screen is not up to date.
    pub(super) changed: bool,
    last_number: u64,
}

/// The daemon does not answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Gone {
    pub(super) since: u64,
    pub(super) why: String,
}

/// Requests and limits of the last hour.
#[derive(Debug)]
pub(super) enum Hour {
    NotYet,
    NotKept,
    Known(Box<HistoryInfo>),
}

/// A row with a number that no other row of the session has.
#[derive(Debug)]
pub(super) struct Numbered<T> {
    pub(super) number: u64,
    pub(super) row: T,
}

/// The selection and the order of a list.
#[derive(Clone, Debug)]
pub(super) struct ListState {
    /// The key of the selected row; `None` follows the first one.
    pub(super) selected: Option<String>,
    /// Where it was last: its successor there is selected when it is gone.
    pub(super) index: usize,
    /// The first row that is shown.
    pub(super) offset: usize,
    /// How many rows are shown.
    pub(super) height: usize,
    pub(super) sort: Option<ColumnField>,
    pub(super) descending: bool,
}

/// What keys do now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum InputMode {
    Lists,
    /// The filter is being typed.
    Filter,
    Help {
        scroll: usize,
    },
    /// Everything about one row.
    Detail {
        panel: Panel,
        key: String,
        scroll: usize,
    },
    /// A question before an action.
    Confirm {
        question: String,
        action: DaemonChange,
    },
    /// The choice of an account for a lease.
    Move {
        lease: super::message::NamedItem,
        /// The account that it has.
        from: String,
        provider: String,
        choice: usize,
    },
}

/// The result of an action.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Notice {
    pub(super) text: String,
    pub(super) tone: Tone,
    until: u64,
}

impl Dashboard {
    pub(super) fn new(now: u64, home: Option<String>) -> Self {
        let list = ListState { selected: None, index: 0, offset: 0, height: 1, sort: None, descending: false };
        Self {
            now,
            state: None,
            read_at: now,
            gone: None,
            hour: Hour::NotYet,
            requests: VecDeque::new(),
            events: VecDeque::new(),
            names: Names::default(),
            focus: Panel::Accounts,
            below: Panel::Leases,
            lists: std::array::from_fn(|_| list.clone()),
            filter: String::new(),
            mode: InputMode::Lists,
            notice: None,
            home,
            targets: Targets::default(),
            changed: true,
            last_number: 0,
        }
    }

    /// Takes in a message; returns what is to be done.
    pub(super) fn update(&mut self, message: ScreenMessage) -> Option<ScreenEffect> {
        let is_new = !matches!(&message, ScreenMessage::Mouse(mouse) if is_move(mouse.kind));
        self.changed |= is_new;
        match message {
            ScreenMessage::Tick(now) => self.tick(now),
            ScreenMessage::Key(key) => return self.key(key),
            ScreenMessage::Mouse(mouse) => return self.mouse(mouse),
            ScreenMessage::Resized => {}
            ScreenMessage::State(state) => self.set_state(*state),
            ScreenMessage::Hour(hour) => self.hour = hour.map_or(Hour::NotKept, Hour::Known),
            ScreenMessage::Requests(rows) => self.add_earlier(rows),
            ScreenMessage::Events(events) => return self.add_events(events),
            ScreenMessage::Gone(why) => {
                let since = self.gone.as_ref().map_or(self.now, |gone| gone.since);
                self.gone = Some(Gone { since, why });
            }
            ScreenMessage::Done(result) => {
                let (text, tone) = match result {
                    Ok(text) => (text, Tone::Good),
                    Err(text) => (text, Tone::Bad),
                };
                self.say(text, tone);
                return Some(ScreenEffect::Poll);
            }
            ScreenMessage::Signal(Stop::End(_)) => return Some(ScreenEffect::Quit),
            ScreenMessage::Signal(Stop::Suspend) => return Some(ScreenEffect::Suspend),
            ScreenMessage::Signal(Stop::Continued) => return Some(ScreenEffect::Restore),
        }
        None
    }

    fn tick(&mut self, now: u64) {
        self.now = now;
        if self.notice.as_ref().is_some_and(|notice| notice.until <= now) {
            self.notice = None;
        }
    }

    pub(super) fn say(&mut self, text: String, tone: Tone) {
        self.notice = Some(Notice { text, tone, until: self.now.saturating_add(NOTICE_MS) });
    }

    fn set_state(&mut self, state: DaemonState) {
        (self.gone, self.read_at) = (None, self.now);
        let names = state.accounts.iter().map(|info| (info.id.as_str(), account::name(info)));
        self.names = Names::new(names);
        self.state = Some(state);
        for panel in [Panel::Accounts, Panel::Leases] {
            self.keep_selection(panel);
        }
    }

    /// Adds requests that ended before the first event came, newest first; those that are known already are left out.
    fn add_earlier(&mut self, rows: Vec<RequestRow>) {
        let is_same = |known: &RequestRow, row: &RequestRow| RequestRow { id: row.id, ..known.clone() } == *row;
        for row in rows {
            let index = self.requests.partition_point(|known| ended_at(&known.row) > ended_at(&row));
            let here = self.requests.iter().skip(index).take_while(|known| ended_at(&known.row) == ended_at(&row));
            if self.requests.len() == MOST_REQUESTS || here.into_iter().any(|known| is_same(&known.row, &row)) {
                continue;
            }
            let number = self.number();
            self.requests.insert(index, Numbered { number, row });
        }
    }

    fn add_events(&mut self, events: Vec<EventInfo>) -> Option<ScreenEffect> {
        let mut is_news = false;
        for mut event in events {
            if let Some(row) = event.request.take() {
                let number = self.number();
                self.requests.push_front(Numbered { number, row: *row });
                self.requests.truncate(MOST_REQUESTS);
                continue;
            }
            is_news |= event.kind != REPLAY_END;
            let is_shown =
                ![REPLAY_END, "usage.updated", "queue.changed", "request.ended"].contains(&event.kind.as_str());
            let index = self.events.partition_point(|known| known.row.at > event.at);
            // after a reconnection, recent events come again
            let mut same_time = self.events.iter().skip(index).take_while(|known| known.row.at == event.at);
            if is_shown && !same_time.any(|known| known.row == event) {
                let number = self.number();
                self.events.insert(index, Numbered { number, row: event });
                self.events.truncate(MOST_EVENTS);
            }
        }
        is_news.then_some(ScreenEffect::Poll)
    }

    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    pub(super) fn list(&mut self, panel: Panel) -> &mut ListState {
        &mut self.lists[panel as usize]
    }

    /// Selects a row by its number in the order of the list.
    pub(super) fn select(&mut self, panel: Panel, index: usize) {
        let order = self.order(panel);
        let index = index.min(order.len().saturating_sub(1));
        // the first request and the first event are the newest ones, which are followed
        let follows = index == 0 && matches!(panel, Panel::Requests | Panel::Events);
        let selected = order.get(index).filter(|_| !follows).map(|row| self.row_key(panel, *row));
        let list = self.list(panel);
        (list.index, list.selected) = (index, selected);
    }

    /// The selected row's number in the order of the list; that of its successor if it is gone.
    pub(super) fn selected(&self, panel: Panel, order: &[usize]) -> usize {
        let list = &self.lists[panel as usize];
        let Some(key) = &list.selected else { return 0 };
        let found = order.iter().position(|row| self.row_key(panel, *row) == *key);
        found.unwrap_or_else(|| list.index.min(order.len().saturating_sub(1)))
    }

    /// Keeps the selection at its row, so that a key never acts on a row that has just come to its place.
    fn keep_selection(&mut self, panel: Panel) {
        let order = self.order(panel);
        let index = self.selected(panel, &order);
        self.select(panel, index);
    }
}

/// Whether the mouse was only moved, which changes nothing.
fn is_move(kind: MouseEventKind) -> bool {
    matches!(kind, MouseEventKind::Moved | MouseEventKind::Drag(_) | MouseEventKind::Up(_))
}

/// When a request had ended, epoch ms.
pub(super) fn ended_at(row: &RequestRow) -> u64 {
    row.at.saturating_add(row.duration_ms)
}
