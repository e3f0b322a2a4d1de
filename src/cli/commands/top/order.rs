//! The rows of each list: which ones match the filter, and in which order they are.

use std::cmp::Ordering;

use super::dashboard::Dashboard;
use super::panel::{ColumnField, Panel};
use crate::cli::ui::account;
use crate::protocol::{AccountInfo, EventInfo, LeaseRow, QueueRow, RequestRow};

impl Dashboard {
    pub(super) fn accounts(&self) -> &[AccountInfo] {
        self.state.as_ref().map_or(&[], |state| &state.accounts)
    }

    pub(super) fn leases(&self) -> &[LeaseRow] {
        self.state.as_ref().map_or(&[], |state| &state.leases)
    }

    pub(super) fn queue(&self) -> &[QueueRow] {
        self.state.as_ref().map_or(&[], |state| &state.status.queue)
    }

    /// How many rows a list has, before the filter.
    pub(super) fn count(&self, panel: Panel) -> usize {
        match panel {
            Panel::Accounts => self.accounts().len(),
            Panel::Leases => self.leases().len(),
            Panel::Queue => self.queue().len(),
            Panel::Requests => self.requests.len(),
            Panel::Events => self.events.len(),
        }
    }

    /// What identifies a row while others come and go.
    pub(super) fn row_key(&self, panel: Panel, row: usize) -> String {
        match panel {
            Panel::Accounts => self.accounts()[row].id.clone(),
            Panel::Leases => self.leases()[row].lease.clone(),
            Panel::Queue => self.queue()[row].position.to_string(),
            Panel::Requests => self.requests[row].number.to_string(),
            Panel::Events => self.events[row].number.to_string(),
        }
    }

    /// What a list is sorted by; `None` if it is in the order of time.
    pub(super) fn sort_field(&self, panel: Panel) -> Option<ColumnField> {
        let default = match panel {
            Panel::Accounts => ColumnField::State,
            Panel::Leases => ColumnField::Held,
            Panel::Queue | Panel::Requests | Panel::Events => return None,
        };
        Some(self.lists[panel as usize].sort.unwrap_or(default))
    }

    /// The rows that match the filter, in order.
    pub(super) fn order(&self, panel: Panel) -> Vec<usize> {
        let filter = self.filter.to_lowercase();
        let matches = |row: &usize| filter.is_empty() || self.text_of(panel, *row).to_lowercase().contains(&filter);
        let mut order: Vec<usize> = (0..self.count(panel)).filter(matches).collect();
        match (panel, self.sort_field(panel)) {
            (Panel::Accounts, Some(field)) => order.sort_by(|a, b| self.compare_accounts(*a, *b, field)),
            (Panel::Leases, Some(field)) => order.sort_by(|a, b| self.compare_leases(*a, *b, field)),
            _ => {}
        }
        if self.lists[panel as usize].descending {
            order.reverse();
        }
        order
    }

    fn compare_accounts(&self, a: usize, b: usize, by: ColumnField) -> Ordering {
        let (a, b) = (&self.accounts()[a], &self.accounts()[b]);
        let order = match by {
            ColumnField::Provider => a.provider.cmp(&b.provider),
            ColumnField::State => (rank(&a.state), last_limit(a)).cmp(&(rank(&b.state), last_limit(b))),
            ColumnField::Quota => fullest(b).total_cmp(&fullest(a)),
            ColumnField::Leases => b.leases.cmp(&a.leases),
            ColumnField::InFlight => b.in_flight.cmp(&a.in_flight),
            ColumnField::LastUsed => b.last_used_at.cmp(&a.last_used_at),
            _ => Ordering::Equal,
        };
        let name = |info: &AccountInfo| account::name(info).to_lowercase();
        order.then_with(|| name(a).cmp(&name(b))).then_with(|| a.id.cmp(&b.id))
    }

    fn compare_leases(&self, a: usize, b: usize, by: ColumnField) -> Ordering {
        let (a, b) = (&self.leases()[a], &self.leases()[b]);
        let program = |row: &LeaseRow| row.holder.as_ref().map(|holder| (holder.program.clone(), holder.pid));
        let order = match by {
            ColumnField::Holder => program(a).cmp(&program(b)),
            ColumnField::Account => account::label(&a.account).cmp(account::label(&b.account)),
            ColumnField::Directory => a.directory.cmp(&b.directory),
            ColumnField::Model => a.model.cmp(&b.model),
            ColumnField::Session => a.session.cmp(&b.session),
            ColumnField::Ends => a.expires_at.unwrap_or(u64::MAX).cmp(&b.expires_at.unwrap_or(u64::MAX)),
            _ => Ordering::Equal,
        };
        // the longest held first
        order.then_with(|| a.granted_at.cmp(&b.granted_at)).then_with(|| a.fence.cmp(&b.fence))
    }

    /// What the filter looks at.
    fn text_of(&self, panel: Panel, row: usize) -> String {
        let parts = match panel {
            Panel::Accounts => account_words(&self.accounts()[row]),
            Panel::Leases => lease_words(&self.leases()[row]),
            Panel::Queue => queue_words(&self.queue()[row]),
            Panel::Requests => request_words(&self.requests[row].row),
            Panel::Events => event_words(&self.events[row].row),
        };
        parts.into_iter().flatten().collect::<Vec<_>>().join("\n")
    }
}

fn account_words(info: &AccountInfo) -> Vec<Option<String>> {
    let own = [Some(info.id.clone()), Some(info.provider.clone()), info.label.clone(), info.email.clone()];
    own.into_iter().chain([Some(info.state.replace('_', " ")), info.state_reason.clone()]).collect()
}

fn lease_words(row: &LeaseRow) -> Vec<Option<String>> {
    let holder = row.holder.as_ref();
    vec![
        Some(row.lease.clone()),
        Some(row.provider.clone()),
        Some(account::label(&row.account).to_owned()),
        row.model.clone(),
        row.session.clone(),
        row.label.clone(),
        row.agent.clone(),
        row.directory.clone(),
        holder.and_then(|holder| holder.program.clone()),
        holder.map(|holder| holder.pid.to_string()),
    ]
}

fn queue_words(row: &QueueRow) -> Vec<Option<String>> {
    vec![Some(row.provider.clone()), row.model.clone(), row.label.clone()]
}

fn request_words(row: &RequestRow) -> Vec<Option<String>> {
    let holder = row.holder.as_ref();
    let accounts = row.attempts.iter().map(|attempt| Some(account::label(&attempt.account).to_owned()));
    let own = [
        row.agent.as_deref(),
        row.directory.as_deref(),
        row.session.as_deref(),
        row.label.as_deref(),
        Some(&*row.provider),
        row.model.as_deref(),
        Some(&*row.path),
        Some(&*row.outcome),
        row.reason.as_deref(),
        holder.and_then(|holder| holder.program.as_deref()),
    ];
    let numbers = [row.status.map(|status| status.to_string()), holder.map(|holder| holder.pid.to_string())];
    own.into_iter().map(|text| text.map(str::to_owned)).chain(numbers).chain(accounts).collect()
}

fn event_words(event: &EventInfo) -> Vec<Option<String>> {
    let holder = event.holder.as_ref();
    vec![
        Some(event.kind.clone()),
        event.account.as_ref().map(|account| account::label(account).to_owned()),
        event.from.as_ref().map(|account| account::label(account).to_owned()),
        event.provider.clone(),
        event.model.clone(),
        event.label.clone(),
        event.reason.clone(),
        event.session.clone(),
        holder.and_then(|holder| holder.program.clone()),
        holder.map(|holder| holder.pid.to_string()),
    ]
}

/// The order of the states: what can serve first, then what will, then what needs the user.
fn rank(state: &str) -> usize {
    const ORDER: [&str; 7] = [
        "ready",
        "partly_limited",
        "limited",
        "waiting_for_token",
        "cannot_renew",
        "needs_login",
        "needs_verification",
    ];
    ORDER.iter().position(|known| *known == state).unwrap_or(ORDER.len())
}

/// When the last limit ends.
fn last_limit(info: &AccountInfo) -> u64 {
    info.limits.iter().map(|limit| limit.until).max().unwrap_or(0)
}

/// How full the fullest window is; less than nothing without a reading.
fn fullest(info: &AccountInfo) -> f64 {
    info.usage.iter().filter(|window| !window.rate).map(|window| window.utilization).fold(-1.0, f64::max)
}
