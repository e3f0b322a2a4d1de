//! Sums over requests, in all and by group.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rusqlite::{Connection, Row, params_from_iter};

use super::filter::{GroupBy, HistoryQuery, QueryFault, RowKind, SqlFilter};
use super::rows::unsigned;
use crate::protocol::{AccountLabel, HistoryGroup, RequestSums, TokenSums};

/// The most bytes of the groups in one answer, as JSON.
const MOST_BYTES: usize = 120 << 10;
/// The name of the group that sums up those that find no room.
const OTHERS: &str = "(others)";
const MINUTE: i64 = 60_000;
/// Hours and days of every time zone begin at a multiple of this, in ms.
const QUARTER: i64 = 15 * MINUTE;

const SUMS: &str = "sum(requests), sum(requests * (outcome = 'ok')), sum(requests * (outcome = 'refused')), \
     sum(requests * (outcome = 'broken')), sum(requests * (outcome = 'cancelled')), sum(attempts), sum(limited), sum(waited_ms), sum(input), sum(output), sum(cached), \
     sum(cache_written), sum(cost)";

/// The sums over all requests that match.
pub(super) fn totals(reader: &Connection, query: &HistoryQuery) -> rusqlite::Result<RequestSums> {
    let SqlFilter { sql, values } = query.conditions(RowKind::Requests);
    let statement = format!("SELECT {SUMS} FROM request WHERE {sql}");
    reader.query_row(&statement, params_from_iter(values), |row| sums_of(row, 0))
}

/// The groups of a query, if it asks for some.
pub(super) fn groups(
    reader: &Connection,
    query: &HistoryQuery,
    zone: &TimeZone,
) -> Result<Vec<HistoryGroup>, QueryFault> {
    match query.by {
        None => Ok(Vec::new()),
        Some(GroupBy::Minute) => of_time(by_time(reader, query, MINUTE, |at| at)?, "minute"),
        Some(GroupBy::Hour) => of_time(by_time(reader, query, QUARTER, |at| hour(at, zone))?, "hour"),
        Some(GroupBy::Day) => of_time(by_time(reader, query, QUARTER, |at| day(at, zone))?, "day"),
        Some(GroupBy::Account) => Ok(largest_first(by_account(reader, query)?)),
        Some(GroupBy::Column(column)) => Ok(largest_first(by_column(reader, query, column)?)),
    }
}

fn by_time(
    reader: &Connection,
    query: &HistoryQuery,
    unit: i64,
    beginning: impl Fn(i64) -> i64,
) -> rusqlite::Result<Vec<HistoryGroup>> {
    let SqlFilter { sql, values } = query.conditions(RowKind::Requests);
    let statement = format!("SELECT {SUMS}, at / {unit} AS unit FROM request WHERE {sql} GROUP BY unit");
    let mut statement = reader.prepare(&statement)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut groups: BTreeMap<i64, RequestSums> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let nth: i64 = row.get("unit")?;
        add(groups.entry(beginning(nth * unit)).or_default(), &sums_of(row, 0)?);
    }
    let group = |(at, sums)| HistoryGroup { at: Some(unsigned(at)), sums, ..HistoryGroup::default() };
    Ok(groups.into_iter().map(group).collect())
}

fn by_column(reader: &Connection, query: &HistoryQuery, column: &str) -> rusqlite::Result<Vec<HistoryGroup>> {
    let SqlFilter { sql, values } = query.conditions(RowKind::Requests);
    let statement = format!("SELECT {SUMS}, coalesce({column}, '') AS name FROM request WHERE {sql} GROUP BY name");
    let mut statement = reader.prepare(&statement)?;
    let group =
        |row: &Row<'_>| Ok(HistoryGroup { name: row.get("name")?, sums: sums_of(row, 0)?, ..HistoryGroup::default() });
    statement.query_map(params_from_iter(values), group)?.collect()
}

/// Requests belong to the account whose response the client got, attempts and limits to the account that was tried.
fn by_account(reader: &Connection, query: &HistoryQuery) -> rusqlite::Result<Vec<HistoryGroup>> {
    let SqlFilter { sql, values } = query.conditions(RowKind::Requests);
    let mut groups: BTreeMap<String, HistoryGroup> = BTreeMap::new();
    let statement = format!(
        "SELECT {SUMS}, coalesce(account, '') AS name, max(account_label) AS known_label FROM request WHERE {sql} \
         GROUP BY name"
    );
    let mut statement = reader.prepare(&statement)?;
    let mut rows = statement.query(params_from_iter(values.iter()))?;
    while let Some(row) = rows.next()? {
        let sums = RequestSums { attempts: 0, limited: 0, ..sums_of(row, 0)? };
        let group = account_group(&mut groups, row)?;
        group.sums = sums;
    }
    let statement = format!(
        "SELECT name, max(label) AS known_label, sum(number), sum(limits) FROM (\
         SELECT attempt.account AS name, attempt.account_label AS label, attempt.requests AS number, \
         attempt.requests * attempt.limited AS limits \
         FROM attempt JOIN (SELECT id FROM request WHERE {sql}) AS matching ON attempt.request = matching.id \
         UNION ALL SELECT account, account_label, requests, 0 FROM request WHERE {sql} AND only_ms IS NOT NULL) \
         GROUP BY name"
    );
    let mut statement = reader.prepare(&statement)?;
    let mut rows = statement.query(params_from_iter(values.iter().chain(&values)))?;
    while let Some(row) = rows.next()? {
        let (attempts, limited) = (number(row, 2)?, number(row, 3)?);
        let group = account_group(&mut groups, row)?;
        (group.sums.attempts, group.sums.limited) = (attempts, limited);
    }
    Ok(groups.into_values().collect())
}

fn account_group<'a>(
    groups: &'a mut BTreeMap<String, HistoryGroup>,
    row: &Row<'_>,
) -> rusqlite::Result<&'a mut HistoryGroup> {
    let (id, label): (String, Option<String>) = (row.get("name")?, row.get("known_label")?);
    let group = groups.entry(id.clone()).or_default();
    if !id.is_empty() && group.account.is_none() {
        group.account = Some(AccountLabel { id, label, email: None });
    }
    Ok(group)
}

/// Groups in order of time.
fn of_time(groups: Vec<HistoryGroup>, unit: &str) -> Result<Vec<HistoryGroup>, QueryFault> {
    let bytes: usize = groups.iter().map(json_bytes).sum();
    if bytes <= MOST_BYTES {
        return Ok(groups);
    }
    let instead = if unit == "hour" { "by = \"day\", or a later `since`" } else { "a later `since`" };
    Err(QueryFault::TooMuch(format!(
        "{} groups by {unit} are too many for one answer; ask for {instead}",
        groups.len()
    )))
}

/// Groups by their number of requests; those that find no room are summed up in the last one.
fn largest_first(mut groups: Vec<HistoryGroup>) -> Vec<HistoryGroup> {
    groups.sort_by(|one, other| {
        let size = |group: &HistoryGroup| (group.sums.requests, group.sums.attempts);
        size(other).cmp(&size(one)).then_with(|| one.name.cmp(&other.name))
    });
    let mut bytes = 0;
    let room = groups.iter().position(|group| {
        bytes += json_bytes(group);
        bytes > MOST_BYTES
    });
    if let Some(room) = room {
        let mut others = HistoryGroup { name: OTHERS.to_owned(), ..HistoryGroup::default() };
        groups.drain(room..).for_each(|group| add(&mut others.sums, &group.sums));
        groups.push(others);
    }
    groups
}

/// The length of a value as JSON.
pub(super) fn json_bytes(value: &impl serde::Serialize) -> usize {
    serde_json::to_vec(value).map_or(0, |json| json.len())
}

fn sums_of(row: &Row<'_>, first: usize) -> rusqlite::Result<RequestSums> {
    let number = |nth: usize| number(row, first + nth);
    Ok(RequestSums {
        requests: number(0)?,
        ok: number(1)?,
        refused: number(2)?,
        broken: number(3)?,
        cancelled: number(4)?,
        attempts: number(5)?,
        limited: number(6)?,
        waited_ms: number(7)?,
        tokens: TokenSums { input: number(8)?, output: number(9)?, cached: number(10)?, cache_written: number(11)? },
        cost_usd: row.get::<_, Option<f64>>(first + 12)?.unwrap_or_default(),
    })
}

fn number(row: &Row<'_>, nth: usize) -> rusqlite::Result<u64> {
    Ok(unsigned(row.get::<_, Option<i64>>(nth)?.unwrap_or_default()))
}

fn add(sums: &mut RequestSums, more: &RequestSums) {
    sums.requests += more.requests;
    sums.ok += more.ok;
    sums.refused += more.refused;
    sums.broken += more.broken;
    sums.cancelled += more.cancelled;
    sums.attempts += more.attempts;
    sums.limited += more.limited;
    sums.waited_ms += more.waited_ms;
    sums.tokens += more.tokens;
    sums.cost_usd += more.cost_usd;
}

/// The beginning of the local hour of a time in epoch ms.
pub(super) fn hour(at: i64, zone: &TimeZone) -> i64 {
    let Ok(time) = Timestamp::from_millisecond(at) else { return at };
    let local = time.to_zoned_datetime(zone.clone());
    let into = i64::from(local.minute()) * 60_000 + i64::from(local.second()) * 1000 + i64::from(local.millisecond());
    at - into
}

/// The beginning of the local day of a time in epoch ms.
pub(super) fn day(at: i64, zone: &TimeZone) -> i64 {
    let Ok(time) = Timestamp::from_millisecond(at) else { return at };
    let local = time.to_zoned_datetime(zone.clone());
    local.start_of_day().map_or(at, |begin| begin.timestamp().as_millisecond())
}
