//! The panels of the dashboard, their columns, and how these share the width.

/// A list on the screen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Panel {
    Accounts,
    Leases,
    Queue,
    Requests,
    Events,
}

impl Panel {
    pub(super) const ALL: [Self; 5] = [Self::Accounts, Self::Leases, Self::Queue, Self::Requests, Self::Events];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Accounts => "Accounts",
            Self::Leases => "Leases",
            Self::Queue => "Queue",
            Self::Requests => "Requests",
            Self::Events => "Events",
        }
    }

    /// Its number, which is also the key that goes there.
    pub(super) fn number(self) -> usize {
        self as usize + 1
    }

    pub(super) fn columns(self) -> &'static [ListColumn] {
        match self {
            Self::Accounts => ACCOUNTS,
            Self::Leases => LEASES,
            Self::Queue => QUEUE,
            Self::Requests => REQUESTS,
            Self::Events => EVENTS,
        }
    }
}

/// What a column shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ColumnField {
    Account,
    Provider,
    State,
    Quota,
    Leases,
    InFlight,
    LastUsed,
    Holder,
    Model,
    Directory,
    Session,
    Held,
    Ends,
    Position,
    Label,
    Expected,
    Time,
    Result,
    /// The accounts that a request was sent to.
    Attempts,
    Path,
    Took,
    Tokens,
    What,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct ListColumn {
    pub(super) field: ColumnField,
    pub(super) title: &'static str,
    pub(super) least: usize,
    pub(super) most: usize,
    /// Numbers end at the same column.
    pub(super) right: bool,
    /// The highest is left out first where there is no room; 0 never.
    pub(super) drop: u8,
}

const fn column(field: ColumnField, title: &'static str, (least, most): (usize, usize), drop: u8) -> ListColumn {
    ListColumn { field, title, least, most, right: false, drop }
}

const fn number(field: ColumnField, title: &'static str, width: usize, drop: u8) -> ListColumn {
    ListColumn { field, title, least: width, most: width, right: true, drop }
}

const ACCOUNTS: &[ListColumn] = &[
    column(ColumnField::Account, "ACCOUNT", (8, 40), 0),
    column(ColumnField::Provider, "PROVIDER", (9, 12), 3),
    column(ColumnField::State, "STATE", (28, 48), 0),
    column(ColumnField::Quota, "QUOTA", (18, 122), 0),
    number(ColumnField::Leases, "LEASES", 6, 1),
    number(ColumnField::InFlight, "REQ", 3, 2),
    number(ColumnField::LastUsed, "LAST USED", 10, 4),
];
const LEASES: &[ListColumn] = &[
    column(ColumnField::Holder, "HOLDER", (12, 26), 0),
    column(ColumnField::Account, "ACCOUNT", (8, 40), 0),
    column(ColumnField::Directory, "DIRECTORY", (12, 60), 0),
    column(ColumnField::Model, "MODEL", (10, 24), 4),
    column(ColumnField::Session, "SESSION", (8, 20), 3),
    number(ColumnField::Held, "HELD", 7, 1),
    number(ColumnField::Ends, "ENDS", 10, 2),
];
const QUEUE: &[ListColumn] = &[
    number(ColumnField::Position, "#", 3, 0),
    column(ColumnField::Provider, "PROVIDER", (9, 16), 0),
    column(ColumnField::Model, "MODEL", (8, 30), 2),
    column(ColumnField::Label, "LABEL", (6, 30), 1),
    column(ColumnField::Expected, "SERVED", (18, 30), 0),
];
const REQUESTS: &[ListColumn] = &[
    column(ColumnField::Time, "TIME", (8, 8), 0),
    column(ColumnField::Holder, "AGENT", (10, 20), 1),
    column(ColumnField::Result, "RESULT", (11, 13), 0),
    column(ColumnField::Attempts, "ACCOUNTS", (14, 60), 0),
    column(ColumnField::Model, "MODEL", (17, 26), 2),
    number(ColumnField::Tokens, "TOKENS", 11, 3),
    number(ColumnField::Took, "TOOK", 7, 0),
    column(ColumnField::Path, "PATH", (12, 30), 4),
];
const EVENTS: &[ListColumn] =
    &[column(ColumnField::Time, "TIME", (8, 8), 0), column(ColumnField::What, "EVENT", (20, 400), 0)];

/// The blanks between two columns.
pub(super) const GAP: usize = 2;

/// The columns that have room in `width`, and the width of each.
pub(super) fn fit(columns: &[ListColumn], width: usize) -> Vec<(ListColumn, usize)> {
    let mut fitted: Vec<(ListColumn, usize)> = columns.iter().map(|column| (*column, column.least)).collect();
    let used = |fitted: &[(ListColumn, usize)]| {
        fitted.iter().map(|(_, width)| width).sum::<usize>() + GAP * fitted.len().saturating_sub(1)
    };
    while used(&fitted) > width {
        let last = fitted.iter().map(|(column, _)| column.drop).max().unwrap_or(0);
        if last == 0 {
            break;
        }
        fitted.retain(|(column, _)| column.drop != last);
    }
    // the widest column gives what is still missing
    while used(&fitted) > width {
        let Some(widest) = fitted.iter_mut().max_by_key(|(_, width)| *width).filter(|(_, width)| *width > 1) else {
            break;
        };
        widest.1 -= 1;
    }
    let mut left = width.saturating_sub(used(&fitted));
    // whole names first
    for (column, width) in fitted.iter_mut().filter(|(column, _)| column.field == ColumnField::Account) {
        let more = left.min(column.most.saturating_sub(*width));
        (*width, left) = (*width + more, left - more);
    }
    while left > 0 {
        let mut grown = false;
        for (column, width) in &mut fitted {
            if left > 0 && *width < column.most {
                *width += 1;
                left -= 1;
                grown = true;
            }
        }
        if !grown {
            break;
        }
    }
    fitted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_fill_the_width_and_never_exceed_it() {
        for panel in Panel::ALL {
            for width in 20..240 {
                let fitted = fit(panel.columns(), width);
                let used = fitted.iter().map(|(_, width)| width).sum::<usize>() + GAP * (fitted.len() - 1);
                assert!(used <= width, "{panel:?} {width}: {fitted:?}");
            }
        }
    }

    #[test]
    fn the_least_important_column_is_left_out_first() {
        let fields =
            |width| -> Vec<ColumnField> { fit(ACCOUNTS, width).iter().map(|(column, _)| column.field).collect() };
        assert_eq!(fields(200).len(), ACCOUNTS.len());
        assert_eq!(
            fields(78),
            [ColumnField::Account, ColumnField::State, ColumnField::Quota, ColumnField::Leases, ColumnField::InFlight]
        );
        assert_eq!(fields(60), [ColumnField::Account, ColumnField::State, ColumnField::Quota]);
    }
}
