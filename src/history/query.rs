//! Answers a query: sums, groups and rows of one moment.

use jiff::tz::TimeZone;
use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};

use super::filter::{HistoryQuery, QueryFault, RowKind, SqlFilter};
use super::groups::{groups, json_bytes, totals};
use super::rows::{ATTEMPT, LEASE, REQUEST, attempt_of, event_of, lease_of, request_of, signed, unsigned};
use super::writer::begins_at;
use crate::protocol::{HistoryInfo, RequestRow};

/// The most bytes of the rows in one answer, as JSON: beside the groups, an answer stays below 256 KiB.
const MOST_BYTES: usize = 110 << 10;

/// Answers a query. All numbers are of the same moment.
pub(super) fn answer(
    reader: &mut Connection,
    query: &HistoryQuery,
    zone: &TimeZone,
) -> Result<HistoryInfo, QueryFault> {
    let moment = reader.transaction()?;
    let mut info = HistoryInfo {
        since: query.since,
        until: query.until,
        begins_at: begins_at(&moment)?,
        totals: totals(&moment, query)?,
        groups: groups(&moment, query, zone)?,
        ..HistoryInfo::default()
    };
    let mut room = RowRoom { bytes: 0, rows: 0, limit: query.limit };
    match query.of {
        RowKind::Requests => {
            let page = rows(&moment, query, REQUEST, &mut room, |row| {
                let request = request_of(row)?;
                Ok(Some(with_attempts(&moment, request)?))
            })?;
            (info.requests, info.next) = page;
        }
        RowKind::Leases => {
            let columns = format!("id, {LEASE}");
            (info.leases, info.next) = rows(&moment, query, &columns, &mut room, |row| lease_of(row).map(Some))?;
        }
        RowKind::Events => {
            let read = |row: &Row<'_>| Ok(event_of(&row.get::<_, String>("body")?));
            (info.events, info.next) = rows(&moment, query, "id, body", &mut room, read)?;
        }
    }
    Ok(info)
}

/// How much of an answer is left for rows.
struct RowRoom {
    bytes: usize,
    rows: usize,
    limit: usize,
}

/// The latest rows that match and find room, newest first, and where the next page begins.
fn rows<T: serde::Serialize>(
    moment: &Connection,
    query: &HistoryQuery,
    columns: &str,
    room: &mut RowRoom,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<Option<T>>,
) -> rusqlite::Result<(Vec<T>, Option<u64>)> {
    if room.limit == 0 {
        return Ok((Vec::new(), None));
    }
    let mut filter = query.conditions(query.of);
    if query.of == RowKind::Requests {
        // others are sums of some
        filter.and("requests = 1", []);
    }
    if let Some(before) = query.before_row {
        filter.and("id < ?", [Value::Integer(signed(before))]);
    }
    let SqlFilter { sql, values } = filter;
    let table = query.of.table();
    let statement = format!("SELECT {columns} FROM {table} WHERE {sql} ORDER BY id DESC");
    let mut statement = moment.prepare(&statement)?;
    let mut found = statement.query(params_from_iter(values))?;
    let (mut page, mut last) = (Vec::new(), None);
    while let Some(row) = found.next()? {
        if room.rows == room.limit {
            return Ok((page, last));
        }
        let id = unsigned(row.get("id")?);
        // a row that cannot be read is left out
        if let Some(value) = read(row)? {
            room.bytes += json_bytes(&value);
            // one row always finds room
            if room.bytes > MOST_BYTES && room.rows > 0 {
                return Ok((page, last));
            }
            page.push(value);
            room.rows += 1;
        }
        last = Some(id);
    }
    Ok((page, None))
}

fn with_attempts(moment: &Connection, mut request: RequestRow) -> rusqlite::Result<RequestRow> {
    if !request.attempts.is_empty() {
        return Ok(request);
    }
    let statement = format!("SELECT {ATTEMPT} FROM attempt WHERE request = ?1 ORDER BY number");
    let mut statement = moment.prepare_cached(&statement)?;
    let attempts = statement.query_map([signed(request.id)], attempt_of)?;
    request.attempts = attempts.collect::<rusqlite::Result<_>>()?;
    Ok(request)
}
