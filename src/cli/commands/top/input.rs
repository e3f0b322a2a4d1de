//! Keys and the mouse: what each of them does.

use ratatui::crossterm::event::{
    KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};

use super::dashboard::{Dashboard, InputMode};
use super::look::Tone;
use super::message::ClickTarget;
use super::message::{DaemonChange, NamedItem, ScreenEffect};
use super::names::path;
use super::panel::Panel;
use crate::cli::ui::{account, clean, format};
use crate::pool::CredentialKind;
use crate::protocol::{AccountInfo, LeaseRow};

/// How many rows a turn of the wheel moves.
const WHEEL: isize = 3;
/// No filter is longer.
const MOST_FILTER: usize = 60;

impl Dashboard {
    pub(super) fn key(&mut self, key: KeyEvent) -> Option<ScreenEffect> {
        if key.kind == KeyEventKind::Release {
            return None;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Some(ScreenEffect::Quit),
                KeyCode::Char('z') if cfg!(unix) => Some(ScreenEffect::Suspend),
                _ => None,
            };
        }
        match self.mode.clone() {
            InputMode::Lists => self.list_key(key.code),
            InputMode::Filter => self.filter_key(key.code),
            InputMode::Help { scroll } => {
                self.mode = scrolled(key.code, scroll).map_or(InputMode::Lists, |scroll| InputMode::Help { scroll });
                None
            }
            InputMode::Detail { panel, key: row, scroll } => self.detail_key(key.code, panel, row, scroll),
            InputMode::Confirm { action, .. } => self.confirm_key(key.code, action),
            InputMode::Move { lease, from, provider, choice } => self.move_key(key.code, lease, from, provider, choice),
        }
    }

    fn list_key(&mut self, key: KeyCode) -> Option<ScreenEffect> {
        let page = isize::try_from(self.lists[self.focus as usize].height.max(2) - 1).unwrap_or(1);
        match key {
            KeyCode::Char('q') => return Some(ScreenEffect::Quit),
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.mode = InputMode::Help { scroll: 0 },
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('/') => self.mode = InputMode::Filter,
            KeyCode::Char('R') => return Some(ScreenEffect::Poll),
            KeyCode::Tab | KeyCode::Right => self.focus_next(1),
            KeyCode::BackTab | KeyCode::Left => self.focus_next(Panel::ALL.len() - 1),
            KeyCode::Char(digit @ '1'..='5') => {
                self.focus_on(Panel::ALL[digit as usize - '1' as usize]);
            }
            KeyCode::Up | KeyCode::Char('k') => self.go(self.focus, -1),
            KeyCode::Down | KeyCode::Char('j') => self.go(self.focus, 1),
            KeyCode::PageUp => self.go(self.focus, -page),
            KeyCode::PageDown => self.go(self.focus, page),
            KeyCode::Home | KeyCode::Char('g') => self.select(self.focus, 0),
            KeyCode::End | KeyCode::Char('G') => self.select(self.focus, usize::MAX),
            KeyCode::Char('s') => self.sort_by_next(),
            KeyCode::Char('S') => self.reverse(self.focus),
            KeyCode::Enter => self.open_detail(self.focus),
            KeyCode::Char(letter) => return self.act(letter),
            _ => {}
        }
        None
    }

    fn filter_key(&mut self, key: KeyCode) -> Option<ScreenEffect> {
        match key {
            KeyCode::Enter => self.mode = InputMode::Lists,
            KeyCode::Esc => {
                self.filter.clear();
                self.mode = InputMode::Lists;
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(letter) if self.filter.chars().count() < MOST_FILTER => self.filter.push(letter),
            // the lists can be looked at while the filter is typed
            KeyCode::Up => self.go(self.focus, -1),
            KeyCode::Down => self.go(self.focus, 1),
            _ => {}
        }
        None
    }

    fn detail_key(&mut self, key: KeyCode, panel: Panel, row: String, scroll: usize) -> Option<ScreenEffect> {
        match (key, scrolled(key, scroll)) {
            (_, Some(scroll)) => self.mode = InputMode::Detail { panel, key: row, scroll },
            (KeyCode::Char(letter), None) if letter != 'q' => {
                self.mode = InputMode::Lists;
                let order = self.order(panel);
                if let Some(index) = order.iter().position(|found| self.row_key(panel, *found) == row) {
                    self.focus_on(panel);
                    self.select(panel, index);
                    return self.act(letter);
                }
            }
            _ => self.mode = InputMode::Lists,
        }
        None
    }

    fn confirm_key(&mut self, key: KeyCode, action: DaemonChange) -> Option<ScreenEffect> {
        match key {
            KeyCode::Char('y' | 'Y') => {
                self.mode = InputMode::Lists;
                Some(ScreenEffect::Act(action))
            }
            KeyCode::Char('n' | 'N' | 'q') | KeyCode::Esc => {
                self.mode = InputMode::Lists;
                None
            }
            _ => None,
        }
    }

    fn move_key(
        &mut self,
        key: KeyCode,
        lease: NamedItem,
        from: String,
        provider: String,
        choice: usize,
    ) -> Option<ScreenEffect> {
        // the first one leaves the choice to the daemon
        let choices: Vec<NamedItem> = self.choices(&provider, &from).into_iter().map(named).collect();
        let last = choices.len();
        let choice = match key {
            KeyCode::Up | KeyCode::Char('k') => choice.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => (choice + 1).min(last),
            KeyCode::Home => 0,
            KeyCode::End => last,
            KeyCode::Enter => {
                self.mode = InputMode::Lists;
                let to = choice.min(last).checked_sub(1).map(|index| choices[index].clone());
                return Some(ScreenEffect::Act(DaemonChange::Move(lease, to)));
            }
            KeyCode::Esc | KeyCode::Char('q' | 'n') => {
                self.mode = InputMode::Lists;
                return None;
            }
            _ => choice,
        };
        self.mode = InputMode::Move { lease, from, provider, choice };
        None
    }

    /// The accounts that a lease can be moved to, in the order of the list of accounts.
    pub(super) fn choices(&self, provider: &str, from: &str) -> Vec<&AccountInfo> {
        let is_other = |info: &&AccountInfo| info.provider == provider && info.id != from && info.enabled;
        self.accounts().iter().filter(is_other).collect()
    }

    pub(super) fn focus_on(&mut self, panel: Panel) {
        self.focus = panel;
        if panel != Panel::Accounts {
            self.below = panel;
        }
    }

    fn focus_next(&mut self, by: usize) {
        self.focus_on(Panel::ALL[(self.focus as usize + by) % Panel::ALL.len()]);
    }

    fn go(&mut self, panel: Panel, by: isize) {
        let index = self.selected(panel, &self.order(panel));
        self.select(panel, index.saturating_add_signed(by));
    }

    fn sort_by_next(&mut self) {
        let panel = self.focus;
        if !can_sort(panel) {
            return self.say(format!("{} are in the order of time", panel.title()), Tone::Plain);
        }
        let fields: Vec<_> = panel.columns().iter().map(|column| column.field).collect();
        let current = self.sort_field(panel);
        let next = fields.iter().position(|field| Some(*field) == current).map_or(0, |index| index + 1);
        let list = self.list(panel);
        (list.sort, list.descending) = (Some(fields[next % fields.len()]), false);
    }

    fn reverse(&mut self, panel: Panel) {
        if can_sort(panel) {
            let list = self.list(panel);
            list.descending = !list.descending;
        }
    }

    fn open_detail(&mut self, panel: Panel) {
        let order = self.order(panel);
        if let Some(row) = order.get(self.selected(panel, &order)) {
            self.mode = InputMode::Detail { panel, key: self.row_key(panel, *row), scroll: 0 };
        }
    }

    /// The selected row of a list.
    fn selected_row(&self, panel: Panel) -> Option<usize> {
        let order = self.order(panel);
        order.get(self.selected(panel, &order)).copied()
    }

    /// The keys that change something at the daemon.
    fn act(&mut self, letter: char) -> Option<ScreenEffect> {
        let (on_account, on_lease) = (['e', 'c', 'r', 'u'].contains(&letter), ['x', 'm'].contains(&letter));
        if !on_account && !on_lease {
            return None;
        }
        if self.gone.is_some() {
            self.say("the daemon does not answer: nothing can be changed".to_owned(), Tone::Bad);
            return None;
        }
        match self.focus {
            Panel::Accounts if on_account => {
                let info = self.accounts().get(self.selected_row(Panel::Accounts)?)?.clone();
                self.act_on_account(letter, &info)
            }
            Panel::Leases if on_lease => {
                let row = self.leases().get(self.selected_row(Panel::Leases)?)?.clone();
                self.act_on_lease(letter, &row);
                None
            }
            _ => {
                let list = if on_account { Panel::Accounts } else { Panel::Leases };
                let text = format!("{letter} is for a row of {}: press {}", list.title(), list.number());
                self.say(text, Tone::Plain);
                None
            }
        }
    }

    fn act_on_account(&mut self, letter: char, info: &AccountInfo) -> Option<ScreenEffect> {
        let account = named(info);
        let name = clean(&account.name);
        let confirm = |question: String, action: DaemonChange| InputMode::Confirm { question, action };
        match letter {
            'e' if !info.enabled => return Some(ScreenEffect::Act(DaemonChange::Enable(account))),
            'e' => {
                let holders = match info.leases {
                    0 => String::new(),
                    1 => " Its lease moves to another account.".to_owned(),
                    many => format!(" Its {many} leases move to other accounts."),
                };
                self.mode = confirm(format!("Disable {name}?{holders}"), DaemonChange::Disable(account));
            }
            'c' if info.limits.is_empty() => self.say(format!("{name} has no limits"), Tone::Plain),
            'c' => {
                let count = format::count(info.limits.len(), "limit");
                let question = format!("Forget {count} of {name}? It is tried again at once.");
                self.mode = confirm(question, DaemonChange::ClearLimits(account));
            }
            'r' if info.kind != CredentialKind::Oauth => {
                let what = account::kind(info.kind);
                self.say(format!("{name} is a {what}, which is not refreshed; u reads its usage"), Tone::Plain);
            }
            'r' => {
                self.say(format!("refreshing the login of {name}…"), Tone::Plain);
                return Some(ScreenEffect::Act(DaemonChange::RefreshLogin(account)));
            }
            _ => {
                self.say(format!("reading the usage of {name}…"), Tone::Plain);
                return Some(ScreenEffect::Act(DaemonChange::ReadUsage(account)));
            }
        }
        None
    }

    fn act_on_lease(&mut self, letter: char, row: &LeaseRow) {
        let lease = NamedItem { id: row.lease.clone(), name: self.lease_name(row) };
        let account = clean(account::label(&row.account));
        if letter == 'x' {
            let question = format!("Release the lease of {} on {account}? Its holder loses the account.", lease.name);
            self.mode = InputMode::Confirm { question, action: DaemonChange::Release(lease) };
        } else {
            let (from, provider) = (row.account.id.clone(), row.provider.clone());
            self.mode = InputMode::Move { lease, from, provider, choice: 0 };
        }
    }

    /// What a lease is called: its holder, else its label or session.
    pub(super) fn lease_name(&self, row: &LeaseRow) -> String {
        const DIRECTORY: usize = 24;
        let directory = row.directory.as_deref().map(|text| path(text, self.home.as_deref(), DIRECTORY));
        let directory = directory.map(|directory| format!(" in {directory}")).unwrap_or_default();
        clean(&holder_text(row)) + &directory
    }

    pub(super) fn mouse(&mut self, mouse: MouseEvent) -> Option<ScreenEffect> {
        let target = self.targets.at(mouse.column, mouse.row);
        match mouse.kind {
            MouseEventKind::ScrollUp => self.wheel(target, -WHEEL),
            MouseEventKind::ScrollDown => self.wheel(target, WHEEL),
            MouseEventKind::Down(MouseButton::Left) => return self.click(target),
            _ => {}
        }
        None
    }

    fn wheel(&mut self, target: Option<ClickTarget>, by: isize) {
        match &mut self.mode {
            InputMode::Help { scroll } | InputMode::Detail { scroll, .. } => *scroll = scroll.saturating_add_signed(by),
            InputMode::Lists | InputMode::Filter => {
                if let Some(
                    ClickTarget::Row(panel, _) | ClickTarget::Panel(panel) | ClickTarget::ListColumn(panel, _),
                ) = target
                {
                    self.go(panel, by);
                }
            }
            InputMode::Confirm { .. } | InputMode::Move { .. } => {}
        }
    }

    fn click(&mut self, target: Option<ClickTarget>) -> Option<ScreenEffect> {
        match (target, &self.mode) {
            (Some(ClickTarget::Key(code)), _) => return self.key(KeyEvent::new(code, KeyModifiers::NONE)),
            (Some(ClickTarget::Choice(index)), InputMode::Move { choice, .. }) => {
                if *choice == index {
                    return self.key(KeyEvent::new(KeyCode::Enter, KeyModifiers::NONE));
                }
                if let InputMode::Move { choice, .. } = &mut self.mode {
                    *choice = index;
                }
            }
            (Some(ClickTarget::Popup), _) | (_, InputMode::Confirm { .. }) => {}
            // a click beside a box closes it
            (_, InputMode::Help { .. } | InputMode::Detail { .. } | InputMode::Move { .. }) => {
                self.mode = InputMode::Lists;
            }
            (Some(ClickTarget::Row(panel, index)), _) => {
                let is_selected = self.focus == panel && self.selected(panel, &self.order(panel)) == index;
                self.focus_on(panel);
                self.select(panel, index);
                if is_selected {
                    self.open_detail(panel);
                }
            }
            (Some(ClickTarget::ListColumn(panel, field)), _) => {
                self.focus_on(panel);
                if can_sort(panel) {
                    let is_same = self.sort_field(panel) == Some(field);
                    let list = self.list(panel);
                    list.descending = is_same && !list.descending;
                    list.sort = Some(field);
                }
            }
            (Some(ClickTarget::Panel(panel)), _) => self.focus_on(panel),
            (Some(ClickTarget::Choice(_)) | None, _) => {}
        }
        None
    }
}

/// Whether the rows of a list have an order that can be chosen.
pub(super) fn can_sort(panel: Panel) -> bool {
    matches!(panel, Panel::Accounts | Panel::Leases)
}

/// A program and its pid, else the label, session or id of the lease.
pub(super) fn holder_text(row: &LeaseRow) -> String {
    let bound = row.holder.as_ref().filter(|_| row.bind != "ttl");
    match bound {
        Some(holder) => {
            let program = holder.program.as_deref().or(row.agent.as_deref()).unwrap_or("pid");
            format!("{program} {}", holder.pid)
        }
        None => {
            row.label.clone().or_else(|| row.session.clone()).unwrap_or_else(|| row.lease.chars().take(14).collect())
        }
    }
}

fn named(info: &AccountInfo) -> NamedItem {
    NamedItem { id: info.id.clone(), name: account::name(info).to_owned() }
}

/// Where a text is after a key that scrolls it; `None` for all other keys.
fn scrolled(key: KeyCode, scroll: usize) -> Option<usize> {
    const PAGE: usize = 10;
    match key {
        KeyCode::Up | KeyCode::Char('k') => Some(scroll.saturating_sub(1)),
        KeyCode::Down | KeyCode::Char('j') => Some(scroll + 1),
        KeyCode::PageUp => Some(scroll.saturating_sub(PAGE)),
        KeyCode::PageDown | KeyCode::Char(' ') => Some(scroll + PAGE),
        KeyCode::Home => Some(0),
        _ => None,
    }
}
