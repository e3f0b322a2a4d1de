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

    pub(super) fn columns(self) -> &'static [Column] {
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
pub(super) enum Field {
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
    Path,
    Took,
    Tokens,
    What,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) field: Field,
    pub(super) title: &'static str,
    pub(super) least: usize,
    pub(super) most: usize,
    /// Numbers end at the same column.
    pub(super) right: bool,
    /// The highest is left out first where there is no room; 0 never.
    pub(super) drop: u8,
}

const fn column(field: Field, title: &'static str, (least, most): (usize, usize), drop: u8) -> Column {
    Column { field, title, least, most, right: false, drop }
}

const fn number(field: Field, title: &'static str, width: usize, drop: u8) -> Column {
    Column { field, title, least: width, most: width, right: true, drop }
}

const ACCOUNTS: &[Column] = &[
    column(Field::Account, "ACCOUNT", (8, 40), 0),
    column(Field::Provider, "PROVIDER", (9, 12), 3),
    column(Field::State, "STATE", (28, 46), 0),
    column(Field::Quota, "QUOTA", (18, 122), 0),
    number(Field::Leases, "LEASES", 7, 1),
    number(Field::InFlight, "REQ", 4, 2),
    number(Field::LastUsed, "LAST USED", 10, 4),
];
const LEASES: &[Column] = &[
    column(Field::Holder, "HOLDER", (14, 26), 0),
    column(Field::Account, "ACCOUNT", (8, 40), 0),
    column(Field::Directory, "DIRECTORY", (14, 60), 0),
    column(Field::Model, "MODEL", (10, 24), 4),
    column(Field::Session, "SESSION", (8, 20), 3),
    number(Field::Held, "HELD", 7, 1),
    number(Field::Ends, "ENDS", 10, 2),
];
const QUEUE: &[Column] = &[
    number(Field::Position, "#", 3, 0),
    column(Field::Provider, "PROVIDER", (9, 16), 0),
    column(Field::Model, "MODEL", (8, 30), 2),
    column(Field::Label, "LABEL", (6, 30), 1),
    column(Field::Expected, "SERVED", (18, 30), 0),
];
const REQUESTS: &[Column] = &[
    column(Field::Time, "TIME", (8, 8), 0),
    column(Field::Holder, "AGENT", (9, 20), 1),
    column(Field::Result, "RESULT", (13, 13), 0),
    column(Field::Account, "ACCOUNTS", (14, 60), 0),
    column(Field::Model, "MODEL", (10, 26), 2),
    number(Field::Tokens, "TOKENS", 11, 3),
    number(Field::Took, "TOOK", 7, 0),
    column(Field::Path, "PATH", (10, 30), 4),
];
const EVENTS: &[Column] = &[column(Field::Time, "TIME", (8, 8), 0), column(Field::What, "EVENT", (20, 400), 0)];

/// The blanks between two columns.
pub(super) const GAP: usize = 2;

/// The columns that have room in `width`, and the width of each. `least` is the least width of a column.
pub(super) fn fit(columns: &[Column], width: usize, least: impl Fn(&Column) -> usize) -> Vec<(Column, usize)> {
    let mut fitted: Vec<(Column, usize)> = columns.iter().map(|column| (*column, least(column))).collect();
    let used = |fitted: &[(Column, usize)]| {
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
                let fitted = fit(panel.columns(), width, |column| column.least);
                let used = fitted.iter().map(|(_, width)| width).sum::<usize>() + GAP * (fitted.len() - 1);
                assert!(used <= width, "{panel:?} {width}: {fitted:?}");
            }
        }
    }

    #[test]
    fn the_least_important_column_is_left_out_first() {
        let fields = |width| -> Vec<Field> {
            fit(ACCOUNTS, width, |column| column.least).iter().map(|(column, _)| column.field).collect()
        };
        assert_eq!(fields(200).len(), ACCOUNTS.len());
        assert_eq!(fields(78), [Field::Account, Field::State, Field::Quota, Field::Leases, Field::InFlight]);
        assert_eq!(fields(60), [Field::Account, Field::State, Field::Quota]);
    }
}
