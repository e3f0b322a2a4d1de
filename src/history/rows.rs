//! Records as rows of the tables, and back.

use rusqlite::{Connection, Row, named_params};

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
     cache_written, cost";
/// The columns of an attempt, as [`attempt_of`] reads them.
pub(super) const ATTEMPT: &str =
    "account, account_label, after_ms, duration_ms, status, reason, scope, until, evidence";
/// The columns of a lease, as [`lease_of`] reads them.
pub(super) const LEASE: &str = "lease, fence, account, account_label, provider, model, pool, session, label, agent, pid, \
     program, directory, granted_at, at, reason";

/// Inserts a request; returns its id.
pub(super) fn insert_request(database: &Connection, row: &RequestRow) -> rusqlite::Result<u64> {
    let statement = "INSERT INTO request (at, agent, pid, program, directory, session, lease, label, account, \
         account_label, provider, pool, model, path, status, outcome, reason, waited_ms, first_byte_ms, duration_ms, \
         input, output, cached, cache_written, cost, attempts, limited) VALUES (:at, :agent, :pid, :program, :directory, \
         :session, :lease, :label, :account, :account_label, :provider, :pool, :model, :path, :status, :outcome, \
         :reason, :waited_ms, :first_byte_ms, :duration_ms, :input, :output, :cached, :cache_written, :cost, \
         :attempts, :limited)";
    let (pid, program) = holder_columns(row.holder.as_ref());
    let (account, account_label) = account_columns(row.account.as_ref());
    let limited = row.attempts.iter().filter(|attempt| attempt.met_limit()).count();
    database.prepare_cached(statement)?.execute(named_params! {
        ":at": signed(row.at),
        ":agent": text(&row.agent),
        ":pid": pid,
        ":program": program,
        ":directory": text(&row.directory),
        ":session": text(&row.session),
        ":lease": text(&row.lease),
        ":label": text(&row.label),
        ":account": account,
        ":account_label": account_label,
        ":provider": cut(&row.provider),
        ":pool": text(&row.pool),
        ":model": text(&row.model),
        ":path": cut(&row.path),
        ":status": row.status,
        ":outcome": cut(&row.outcome),
        ":reason": text(&row.reason),
        ":waited_ms": countable(row.waited_ms),
        ":first_byte_ms": row.first_byte_ms.map(signed),
        ":duration_ms": countable(row.duration_ms),
        ":input": row.tokens.map(|tokens| countable(tokens.input)),
        ":output": row.tokens.map(|tokens| countable(tokens.output)),
        ":cached": row.tokens.map(|tokens| countable(tokens.cached)),
        ":cache_written": row.tokens.map(|tokens| countable(tokens.cache_written)),
        ":cost": row.cost_usd,
        ":attempts": count(row.attempts.len()),
        ":limited": count(limited),
    })?;
    let id = database.last_insert_rowid();
    for (number, attempt) in row.attempts.iter().take(MOST_ATTEMPTS).enumerate() {
        insert_attempt(database, id, number, attempt)?;
    }
    Ok(unsigned(id))
}

fn insert_attempt(database: &Connection, request: i64, number: usize, row: &AttemptRow) -> rusqlite::Result<()> {
    let statement = "INSERT INTO attempt (request, number, account, account_label, after_ms, duration_ms, status, reason, \
         scope, until, evidence, limited) VALUES (:request, :number, :account, :account_label, :after_ms, :duration_ms, \
         :status, :reason, :scope, :until, :evidence, :limited)";
    database.prepare_cached(statement)?.execute(named_params! {
        ":request": request,
        ":number": count(number),
        ":account": cut(&row.account.id),
        ":account_label": text(&row.account.label),
        ":after_ms": signed(row.after_ms),
        ":duration_ms": countable(row.duration_ms),
        ":status": row.status,
        ":reason": text(&row.reason),
        ":scope": text(&row.scope),
        ":until": row.until.map(signed),
        ":evidence": row.evidence.as_deref().map(|evidence| cut_to(evidence, LONGEST_EVIDENCE)),
        ":limited": row.met_limit(),
    })?;
    Ok(())
}

/// Inserts a lease.
pub(super) fn insert_lease(database: &Connection, row: &PastLease) -> rusqlite::Result<()> {
    let statement = "INSERT INTO lease (lease, fence, account, account_label, provider, model, pool, session, label, \
         agent, pid, program, directory, granted_at, at, reason) VALUES (:lease, :fence, :account, :account_label, \
         :provider, :model, :pool, :session, :label, :agent, :pid, :program, :directory, :granted_at, :at, :reason)";
    let (pid, program) = holder_columns(row.holder.as_ref());
    database.prepare_cached(statement)?.execute(named_params! {
        ":lease": cut(&row.lease),
        ":fence": signed(row.fence),
        ":account": cut(&row.account.id),
        ":account_label": text(&row.account.label),
        ":provider": cut(&row.provider),
        ":model": text(&row.model),
        ":pool": text(&row.pool),
        ":session": text(&row.session),
        ":label": text(&row.label),
        ":agent": text(&row.agent),
        ":pid": pid,
        ":program": program,
        ":directory": text(&row.directory),
        ":granted_at": signed(row.granted_at),
        ":at": signed(row.ended_at),
        ":reason": cut(&row.reason),
    })?;
    Ok(())
}

/// Inserts an event.
pub(super) fn insert_event(database: &Connection, event: &EventInfo) -> rusqlite::Result<()> {
    let statement = "INSERT INTO event (at, kind, account, from_account, provider, model, session, agent, body) VALUES \
         (:at, :kind, :account, :from_account, :provider, :model, :session, :agent, :body)";
    database.prepare_cached(statement)?.execute(named_params! {
        ":at": signed(event.at),
        ":kind": cut(&event.kind),
        ":account": event.account.as_ref().map(|account| cut(&account.id)),
        ":from_account": event.from.as_ref().map(|account| cut(&account.id)),
        ":provider": text(&event.provider),
        ":model": text(&event.model),
        ":session": text(&event.session),
        ":agent": text(&event.agent),
        ":body": event_body(event),
    })?;
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
        holder: holder_of(row)?,
        directory: row.get("directory")?,
        session: row.get("session")?,
        lease: row.get("lease")?,
        label: row.get("label")?,
        account: row.get::<_, Option<String>>("account")?.map(|id| account_of(id, row)).transpose()?,
        provider: row.get("provider")?,
        pool: row.get("pool")?,
        model: row.get("model")?,
        path: row.get("path")?,
        status: row.get("status")?,
        outcome: row.get("outcome")?,
        reason: row.get("reason")?,
        attempts: Vec::new(),
        waited_ms: unsigned(row.get("waited_ms")?),
        first_byte_ms: row.get::<_, Option<i64>>("first_byte_ms")?.map(unsigned),
        duration_ms: unsigned(row.get("duration_ms")?),
        tokens: tokens.transpose()?,
        cost_usd: row.get("cost")?,
    })
}

/// Reads an attempt.
pub(super) fn attempt_of(row: &Row<'_>) -> rusqlite::Result<AttemptRow> {
    Ok(AttemptRow {
        account: account_of(row.get("account")?, row)?,
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
fn text(text: &Option<String>) -> Option<&str> {
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
