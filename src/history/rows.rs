//! Records as rows of the tables, and back.

use std::ops::Deref;
use std::sync::Arc;

use rusqlite::{Connection, Row, params};

use crate::protocol::{AccountLabel, AttemptRow, EventInfo, HolderInfo, PastLease, RequestRow, TokenSums};

/// The most attempts of one request that are kept; a row counts all.
const MOST_ATTEMPTS: usize = 64;
/// The longest text that is kept, in bytes.
const LONGEST_TEXT: usize = 1024;
/// The longest words of a provider that are kept.
const LONGEST_EVIDENCE: usize = 300;

/// The columns of a request, as [`request_of`] reads them.
pub(super) const REQUEST: &str = "id, at, agent, pid, program, directory, session, lease, label, account, account_label, \
     provider, pool, model, path, status, outcome, reason, waited_ms, first_byte_ms, duration_ms, input, output, cached, \
     cache_written, cost, only_after_ms, only_ms";
/// The columns of an attempt, as [`attempt_of`] reads them.
pub(super) const ATTEMPT: &str =
    "account, account_label, after_ms, duration_ms, status, reason, scope, until, evidence";
/// The columns of a lease, as [`lease_of`] reads them.
pub(super) const LEASE: &str = "lease, fence, account, account_label, provider, model, pool, session, label, agent, pid, \
     program, directory, granted_at, at, reason";

/// Inserts a row for so many requests, of which it has the sums; returns its id. Without an id it gets the next one.
///
/// Most requests have one attempt that succeeded. It says little that the request does not, and has no row of its own.
pub(super) fn insert_request(database: &Connection, row: &RequestRow, requests: u64) -> rusqlite::Result<u64> {
    // by place: a lookup of each name for each row would take as long as the rest
    let statement = "INSERT INTO request (id, at, agent, pid, program, directory, session, lease, label, account, \
         account_label, provider, pool, model, path, status, outcome, reason, waited_ms, first_byte_ms, duration_ms, \
         input, output, cached, cache_written, cost, attempts, limited, requests, only_after_ms, only_ms) VALUES (?, ?, \
         ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let (pid, program) = holder_columns(row.holder.as_deref());
    let (account, account_label) = account_columns(row.account.as_deref());
    let limited = row.attempts.iter().filter(|attempt| attempt.met_limit()).count() as u64;
    let attempts = row.attempts.len() as u64;
    let only = only_success(row);
    let summed = |number| if requests == 1 { countable(number) } else { signed(number) };
    database.prepare_cached(statement)?.execute(params![
        (row.id > 0).then(|| signed(row.id)),
        signed(row.at),
        text(&row.agent),
        pid,
        program,
        text(&row.directory),
        text(&row.session),
        text(&row.lease),
        text(&row.label),
        account,
        account_label,
        cut(&row.provider),
        text(&row.pool),
        text(&row.model),
        cut(&row.path),
        row.status,
        cut(&row.outcome),
        text(&row.reason),
        summed(row.waited_ms),
        row.first_byte_ms.map(signed),
        summed(row.duration_ms),
        row.tokens.map(|tokens| summed(tokens.input)),
        row.tokens.map(|tokens| summed(tokens.output)),
        row.tokens.map(|tokens| summed(tokens.cached)),
        row.tokens.map(|tokens| summed(tokens.cache_written)),
        row.cost_usd,
        signed(attempts * requests),
        signed(limited * requests),
        signed(requests),
        only.map(|attempt| signed(attempt.after_ms)),
        only.map(|attempt| countable(attempt.duration_ms)),
    ])?;
    let id = if row.id > 0 { signed(row.id) } else { database.last_insert_rowid() };
    if only.is_none() {
        for (number, attempt) in row.attempts.iter().take(MOST_ATTEMPTS).enumerate() {
            insert_attempt(database, (id, number), attempt, requests)?;
        }
    }
    Ok(unsigned(id))
}

/// The only attempt of a request, if it succeeded as the request did.
fn only_success(row: &RequestRow) -> Option<&AttemptRow> {
    let [attempt] = row.attempts.as_slice() else { return None };
    let AttemptRow { account, after_ms: _, duration_ms: _, status, reason, scope, until, evidence } = attempt;
    let is_plain = reason.is_none() && scope.is_none() && until.is_none() && evidence.is_none();
    let is_same = |of: &AccountLabel| (&of.id, &of.label) == (&account.id, &account.label);
    (is_plain && *status == row.status && row.account.as_deref().is_some_and(is_same)).then_some(attempt)
}

fn insert_attempt(
    database: &Connection,
    (request, number): (i64, usize),
    row: &AttemptRow,
    requests: u64,
) -> rusqlite::Result<()> {
    let statement = "INSERT INTO attempt (request, number, account, account_label, after_ms, duration_ms, status, reason, \
         scope, until, evidence, limited, requests) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    database.prepare_cached(statement)?.execute(params![
        request,
        count(number),
        cut(&row.account.id),
        text(&row.account.label),
        signed(row.after_ms),
        countable(row.duration_ms),
        row.status,
        text(&row.reason),
        text(&row.scope),
        row.until.map(signed),
        row.evidence.as_deref().map(|evidence| cut_to(evidence, LONGEST_EVIDENCE)),
        row.met_limit(),
        signed(requests),
    ])?;
    Ok(())
}

/// Inserts a lease.
pub(super) fn insert_lease(database: &Connection, row: &PastLease) -> rusqlite::Result<()> {
    let statement = "INSERT INTO lease (lease, fence, account, account_label, provider, model, pool, session, label, \
         agent, pid, program, directory, granted_at, at, reason) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let (pid, program) = holder_columns(row.holder.as_ref());
    database.prepare_cached(statement)?.execute(params![
        cut(&row.lease),
        signed(row.fence),
        cut(&row.account.id),
        text(&row.account.label),
        cut(&row.provider),
        text(&row.model),
        text(&row.pool),
        text(&row.session),
        text(&row.label),
        text(&row.agent),
        pid,
        program,
        text(&row.directory),
        signed(row.granted_at),
        signed(row.ended_at),
        cut(&row.reason),
    ])?;
    Ok(())
}

/// Inserts an event.
pub(super) fn insert_event(database: &Connection, event: &EventInfo) -> rusqlite::Result<()> {
    let statement = "INSERT INTO event (at, kind, account, from_account, provider, model, session, agent, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
    database.prepare_cached(statement)?.execute(params![
        signed(event.at),
        cut(&event.kind),
        event.account.as_ref().map(|account| cut(&account.id)),
        event.from.as_ref().map(|account| cut(&account.id)),
        text(&event.provider),
        text(&event.model),
        text(&event.session),
        text(&event.agent),
        event_body(event),
    ])?;
    Ok(())
}

/// The event as JSON, without email addresses and without what it does not have.
fn event_body(event: &EventInfo) -> String {
    let mut event = event.clone();
    [&mut event.account, &mut event.from].into_iter().flatten().for_each(|account| account.email = None);
    let texts = [
        &mut event.lease,
        &mut event.label,
        &mut event.key,
        &mut event.reason,
        &mut event.session,
        &mut event.model,
        &mut event.agent,
    ];
    texts.into_iter().flatten().for_each(|text| shorten(text, LONGEST_TEXT));
    event.evidence.iter_mut().for_each(|evidence| shorten(evidence, LONGEST_EVIDENCE));
    let mut value = serde_json::to_value(&event).unwrap_or_default();
    remove_nulls(&mut value);
    value.to_string()
}

fn remove_nulls(value: &mut serde_json::Value) {
    if let Some(map) = value.as_object_mut() {
        map.retain(|_, value| !value.is_null());
        map.values_mut().for_each(remove_nulls);
    }
}

/// Reads the body of an event.
pub(super) fn event_of(body: &str) -> Option<EventInfo> {
    serde_json::from_str(body).ok()
}

/// Reads a request, without its attempts.
pub(super) fn request_of(row: &Row<'_>) -> rusqlite::Result<RequestRow> {
    let tokens = row.get::<_, Option<i64>>("input")?.map(|input| {
        let number = |name| Ok::<_, rusqlite::Error>(unsigned(row.get::<_, Option<i64>>(name)?.unwrap_or_default()));
        Ok::<_, rusqlite::Error>(TokenSums {
            input: unsigned(input),
            output: number("output")?,
            cached: number("cached")?,
            cache_written: number("cache_written")?,
        })
    });
    Ok(RequestRow {
        id: unsigned(row.get("id")?),
        at: unsigned(row.get("at")?),
        agent: row.get("agent")?,
        holder: holder_of(row)?.map(Arc::new),
        directory: row.get("directory")?,
        session: row.get("session")?,
        lease: row.get("lease")?,
        label: row.get("label")?,
        account: row.get::<_, Option<String>>("account")?.map(|id| account_of(id, row).map(Arc::new)).transpose()?,
        provider: row.get("provider")?,
        pool: row.get("pool")?,
        model: row.get("model")?,
        path: row.get("path")?,
        status: row.get("status")?,
        outcome: row.get::<_, String>("outcome")?.into(),
        reason: row.get("reason")?,
        attempts: only_attempt_of(row)?.into_iter().collect(),
        waited_ms: unsigned(row.get("waited_ms")?),
        first_byte_ms: row.get::<_, Option<i64>>("first_byte_ms")?.map(unsigned),
        duration_ms: unsigned(row.get("duration_ms")?),
        tokens: tokens.transpose()?,
        cost_usd: row.get("cost")?,
    })
}

/// Reads the only attempt of a request, if that is kept with it.
fn only_attempt_of(row: &Row<'_>) -> rusqlite::Result<Option<AttemptRow>> {
    let Some(duration) = row.get::<_, Option<i64>>("only_ms")? else { return Ok(None) };
    Ok(Some(AttemptRow {
        account: account_of(row.get("account")?, row)?.into(),
        after_ms: unsigned(row.get::<_, Option<i64>>("only_after_ms")?.unwrap_or_default()),
        duration_ms: unsigned(duration),
        status: row.get("status")?,
        ..AttemptRow::default()
    }))
}

/// Reads an attempt.
pub(super) fn attempt_of(row: &Row<'_>) -> rusqlite::Result<AttemptRow> {
    Ok(AttemptRow {
        account: account_of(row.get("account")?, row)?.into(),
        after_ms: unsigned(row.get("after_ms")?),
        duration_ms: unsigned(row.get("duration_ms")?),
        status: row.get("status")?,
        reason: row.get("reason")?,
        scope: row.get("scope")?,
        until: row.get::<_, Option<i64>>("until")?.map(unsigned),
        evidence: row.get("evidence")?,
    })
}

/// Reads a lease.
pub(super) fn lease_of(row: &Row<'_>) -> rusqlite::Result<PastLease> {
    Ok(PastLease {
        lease: row.get("lease")?,
        fence: unsigned(row.get("fence")?),
        account: account_of(row.get("account")?, row)?,
        provider: row.get("provider")?,
        model: row.get("model")?,
        pool: row.get("pool")?,
        session: row.get("session")?,
        label: row.get("label")?,
        agent: row.get("agent")?,
        holder: holder_of(row)?,
        directory: row.get("directory")?,
        granted_at: unsigned(row.get("granted_at")?),
        ended_at: unsigned(row.get("at")?),
        reason: row.get("reason")?,
    })
}

fn holder_of(row: &Row<'_>) -> rusqlite::Result<Option<HolderInfo>> {
    let program = row.get("program")?;
    Ok(row.get::<_, Option<u32>>("pid")?.map(|pid| HolderInfo { pid, program }))
}

/// The account with the label that it had then; its address is not stored.
fn account_of(id: String, row: &Row<'_>) -> rusqlite::Result<AccountLabel> {
    Ok(AccountLabel { id, label: row.get("account_label")?, email: None })
}

fn holder_columns(holder: Option<&HolderInfo>) -> (Option<u32>, Option<&str>) {
    (holder.map(|holder| holder.pid), holder.and_then(|holder| text(&holder.program)))
}

fn account_columns(account: Option<&AccountLabel>) -> (Option<&str>, Option<&str>) {
    (account.map(|account| cut(&account.id)), account.and_then(|account| text(&account.label)))
}

/// SQLite's numbers are signed.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number that is summed up: however many rows state too much, their sum is a number.
fn countable(number: u64) -> i64 {
    signed(number.min(1 << 36))
}

pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

#[expect(clippy::ref_option, reason = "the fields of rows are such")]
fn text<T: Deref<Target = str>>(text: &Option<T>) -> Option<&str> {
    text.as_deref().map(cut)
}

fn cut(text: &str) -> &str {
    cut_to(text, LONGEST_TEXT)
}

/// The beginning of a text, of at most so many bytes.
fn cut_to(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

fn shorten(text: &mut String, most: usize) {
    text.truncate(text.floor_char_boundary(most));
}
