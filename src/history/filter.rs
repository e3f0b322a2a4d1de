//! What a query asks for: checked, and as conditions of SQL.

use rusqlite::ErrorCode;
use rusqlite::types::Value;

use super::rows::signed;
use crate::protocol::HistoryParams;

/// The rows of an answer, if the query does not say how many.
const DEFAULT_ROWS: u32 = 100;
/// The most rows of an answer.
const MOST_ROWS: u32 = 1000;
/// How far back a query looks by default, in ms.
const DEFAULT_SPAN: u64 = 24 * 3_600_000;
/// How long the span of a query by minute may be, in ms.
const MOST_MINUTES: u64 = 2 * 3_600_000;
/// The outcomes of requests.
const OUTCOMES: [&str; 4] = ["ok", "refused", "broken", "cancelled"];

/// A query that was checked.
#[derive(Clone, PartialEq, Debug)]
pub struct HistoryQuery {
    pub(super) of: RowKind,
    pub(super) since: u64,
    /// None: all that has happened.
    pub(super) before_time: Option<u64>,
    /// What the answer states as the end of the span.
    pub(super) until: u64,
    pub(super) by: Option<GroupBy>,
    pub(super) limit: usize,
    pub(super) before_row: Option<u64>,
    account: Option<String>,
    provider: Option<String>,
    model: Option<String>,
    agent: Option<String>,
    directory: Option<String>,
    session: Option<String>,
    status: Option<StatusFilter>,
    kinds: Vec<String>,
    /// What the names of the holders' programs begin with.
    program: Option<String>,
}

/// Why a query cannot be answered: a value, and what is allowed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct InvalidQuery(pub String);

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryFault {
    /// No history is kept.
    #[error("no history is kept")]
    Off,
    /// Too many queries wait.
    #[error("too many queries of the history are waiting")]
    Overloaded,
    /// The answer would be too long.
    #[error("{0}")]
    TooMuch(String),
    /// It was ended.
    #[error("the query was ended")]
    Ended,
    /// The file cannot be read.
    #[error("the history cannot be read: {0}")]
    Unreadable(String),
}

impl From<rusqlite::Error> for QueryFault {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::OperationInterrupted) => Self::Ended,
            _ => Self::Unreadable(error.to_string()),
        }
    }
}

/// What rows an answer has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RowKind {
    Requests,
    Leases,
    Events,
}

/// What sums are grouped by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum GroupBy {
    Minute,
    Hour,
    Day,
    Account,
    /// The value of a column.
    Column(&'static str),
}

#[derive(Clone, PartialEq, Debug)]
enum StatusFilter {
    Code(u16),
    /// The first digit.
    Class(u16),
    Outcome(&'static str),
    Limited,
}

/// Conditions, and the values of their parameters in order.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct SqlFilter {
    pub(super) sql: String,
    pub(super) values: Vec<Value>,
}

impl HistoryQuery {
    /// Checks a query; `account` is the id of the account that it names, `now` the time of day in epoch ms.
    ///
    /// # Errors
    /// When a value is not allowed.
    pub fn new(params: &HistoryParams, account: Option<String>, now: u64) -> Result<Self, InvalidQuery> {
        let of = match params.of.as_deref().unwrap_or("requests") {
            "requests" => RowKind::Requests,
            "leases" => RowKind::Leases,
            "events" => RowKind::Events,
            other => return Err(not_one_of("of", other, "requests, leases, events")),
        };
        let by = params.by.as_deref().map(GroupBy::parse).transpose()?;
        let status = params.status.as_deref().map(StatusFilter::parse).transpose()?;
        let end = params.until.unwrap_or(now);
        let since = params.since.unwrap_or_else(|| end.saturating_sub(DEFAULT_SPAN));
        if since > end {
            let named = if params.until.is_some() { "`until`" } else { "now" };
            return Err(InvalidQuery(format!("`since` is after {named}")));
        }
        if by == Some(GroupBy::Minute) && end - since > MOST_MINUTES {
            return Err(InvalidQuery("by = \"minute\" is for two hours at most; ask for by = \"hour\"".to_owned()));
        }
        if status.is_some() && of != RowKind::Requests {
            return Err(InvalidQuery("`status` is of requests; leases and events have none".to_owned()));
        }
        if params.directory.is_some() && of == RowKind::Events {
            return Err(InvalidQuery("`directory` is of requests and leases; events have none".to_owned()));
        }
        if !params.kinds.is_empty() && of != RowKind::Events {
            return Err(InvalidQuery("`kinds` are of events; add of = \"events\"".to_owned()));
        }
        let limit = params.limit.unwrap_or(DEFAULT_ROWS);
        if limit > MOST_ROWS {
            return Err(InvalidQuery(format!("`limit` is {limit}; allowed: 0 to {MOST_ROWS}")));
        }
        Ok(Self {
            of,
            since,
            before_time: params.until,
            until: end,
            by,
            limit: limit as usize,
            before_row: params.before,
            account,
            provider: params.provider.clone(),
            model: params.model.clone(),
            agent: params.agent.clone(),
            directory: params.directory.clone(),
            session: params.session.clone(),
            status,
            kinds: params.kinds.clone(),
            program: None,
        })
    }

    /// The same of one guest: its holders' programs begin with its name.
    ///
    /// # Errors
    /// Of events, which have no column for that.
    pub fn of_guest(self, name: &str) -> Result<Self, InvalidQuery> {
        if self.of == RowKind::Events {
            return Err(InvalidQuery("events of the past are not for guests; ask for requests or leases".to_owned()));
        }
        Ok(Self { program: Some(format!("{name}: ")), ..self })
    }

    /// The conditions on rows of a table.
    pub(super) fn conditions(&self, table: RowKind) -> SqlFilter {
        let mut filter = SqlFilter { sql: "at >= ?".to_owned(), values: vec![Value::Integer(signed(self.since))] };
        if let Some(until) = self.before_time {
            filter.and("at < ?", [Value::Integer(signed(until))]);
        }
        if let Some(account) = &self.account {
            let id = || Value::Text(account.clone());
            match table {
                RowKind::Requests => filter.and(
                    "(account = ? OR EXISTS (SELECT 1 FROM attempt AS tried WHERE tried.request = request.id \
                     AND tried.account = ?))",
                    [id(), id()],
                ),
                RowKind::Leases => filter.and("account = ?", [id()]),
                RowKind::Events => filter.and("(account = ? OR from_account = ?)", [id(), id()]),
            }
        }
        let equal = [("provider", &self.provider), ("agent", &self.agent), ("session", &self.session)];
        for (column, wanted) in equal {
            if let Some(wanted) = wanted {
                filter.and(&format!("{column} = ?"), [Value::Text(wanted.clone())]);
            }
        }
        if let Some(beginning) = &self.program {
            filter.and("instr(program, ?) = 1", [Value::Text(beginning.clone())]);
        }
        if let Some(pattern) = &self.model {
            filter.and("model_matches(?, model)", [Value::Text(pattern.clone())]);
        }
        if let Some(directory) = self.directory.as_ref().filter(|_| table != RowKind::Events) {
            let directory = directory.trim_end_matches(['/', '\\']);
            let below = |separator: char| Value::Text(format!("{directory}{separator}"));
            filter.and(
                "(directory = ? OR instr(directory, ?) = 1 OR instr(directory, ?) = 1)",
                [Value::Text(directory.to_owned()), below('/'), below('\\')],
            );
        }
        if let Some(status) = self.status.as_ref().filter(|_| table == RowKind::Requests) {
            match status {
                StatusFilter::Code(code) => filter.and("status = ?", [Value::Integer((*code).into())]),
                StatusFilter::Class(class) => filter.and("status / 100 = ?", [Value::Integer((*class).into())]),
                StatusFilter::Outcome(outcome) => filter.and("outcome = ?", [Value::Text((*outcome).to_owned())]),
                StatusFilter::Limited => filter.and("limited > 0", []),
            }
        }
        if table == RowKind::Events && !self.kinds.is_empty() {
            let places = vec!["?"; self.kinds.len()].join(", ");
            filter.and(&format!("kind IN ({places})"), self.kinds.iter().map(|kind| Value::Text(kind.clone())));
        }
        filter
    }
}

impl SqlFilter {
    pub(super) fn and(&mut self, condition: &str, values: impl IntoIterator<Item = Value>) {
        self.sql.push_str(" AND ");
        self.sql.push_str(condition);
        self.values.extend(values);
    }
}

impl RowKind {
    pub(super) fn table(self) -> &'static str {
        match self {
            Self::Requests => "request",
            Self::Leases => "lease",
            Self::Events => "event",
        }
    }
}

impl GroupBy {
    fn parse(text: &str) -> Result<Self, InvalidQuery> {
        Ok(match text {
            "minute" => Self::Minute,
            "hour" => Self::Hour,
            "day" => Self::Day,
            "account" => Self::Account,
            "model" => Self::Column("model"),
            "agent" => Self::Column("agent"),
            "dir" => Self::Column("directory"),
            "provider" => Self::Column("provider"),
            other => return Err(not_one_of("by", other, "minute, hour, day, account, model, agent, dir, provider")),
        })
    }
}

impl StatusFilter {
    fn parse(text: &str) -> Result<Self, InvalidQuery> {
        let class = text.strip_suffix("xx").and_then(|digit| digit.parse().ok());
        let code = text.parse().ok().filter(|code| (100..=999).contains(code));
        match (OUTCOMES.iter().find(|outcome| **outcome == text), class, code) {
            (Some(outcome), ..) => Ok(Self::Outcome(outcome)),
            (None, Some(class @ 1..=9), _) => Ok(Self::Class(class)),
            (None, None, Some(code)) => Ok(Self::Code(code)),
            _ if text == "limited" => Ok(Self::Limited),
            _ => {
                let allowed =
                    "an HTTP status such as 429, a class such as 5xx, ok, refused, broken, cancelled, limited";
                Err(not_one_of("status", text, allowed))
            }
        }
    }
}

fn not_one_of(name: &str, found: &str, allowed: &str) -> InvalidQuery {
    InvalidQuery(format!("`{name}` is {found:?}; allowed: {allowed}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(params: &HistoryParams) -> Result<HistoryQuery, String> {
        HistoryQuery::new(params, None, 1_000_000_000_000).map_err(|error| error.0)
    }

    #[test]
    fn an_invalid_value_is_refused_with_what_is_allowed() {
        let text = |text: &str| Some(text.to_owned());
        let none = HistoryParams::default();
        for (params, part) in [
            (HistoryParams { of: text("lease"), ..none.clone() }, "requests, leases, events"),
            (HistoryParams { by: text("week"), ..none.clone() }, "hour, day, account"),
            (HistoryParams { by: text("minute"), ..none.clone() }, "two hours at most"),
            (HistoryParams { status: text("42"), ..none.clone() }, "a class such as 5xx"),
            (HistoryParams { status: text("0xx"), ..none.clone() }, "a class such as 5xx"),
            (HistoryParams { status: text("fine"), ..none.clone() }, "cancelled, limited"),
            (HistoryParams { since: Some(u64::MAX), ..none.clone() }, "after now"),
            (HistoryParams { since: Some(2), until: Some(1), ..none.clone() }, "after `until`"),
            (HistoryParams { limit: Some(1001), ..none.clone() }, "0 to 1000"),
            (HistoryParams { kinds: vec!["lease.granted".into()], ..none.clone() }, "of = \"events\""),
            (HistoryParams { of: text("events"), directory: text("/x"), ..none.clone() }, "events have none"),
            (HistoryParams { of: text("leases"), status: text("ok"), ..none.clone() }, "events have none"),
        ] {
            let refused = checked(&params).expect_err(part);
            assert!(refused.contains(part), "{refused}");
        }
        for status in ["429", "5xx", "ok", "refused", "broken", "cancelled", "limited"] {
            checked(&HistoryParams { status: text(status), ..none.clone() }).expect(status);
        }
    }

    #[test]
    fn a_query_looks_one_day_back_by_default() {
        let query = checked(&HistoryParams::default()).unwrap();
        assert_eq!((query.since, query.until), (1_000_000_000_000 - DEFAULT_SPAN, 1_000_000_000_000));
    }
}
