//! Keeps the file within its budget: deletes the oldest rows in small steps, and gives free pages back to the system.

use std::path::Path;

use rusqlite::Connection;

use super::database::{HistoryFault, log_bytes};

/// How many rows of a table are deleted in one step.
const STEP: i64 = 250;
/// How many steps of deleting old rows are taken before new ones are written.
const STEPS_AT_ONCE: usize = 8;
/// How many pages are given back in one step.
const PAGES: i64 = 128;
/// The write-ahead log is written back when it has so many bytes.
const LOG: u64 = 512 << 10;
#[cfg(test)]
/// How far the files may exceed their budget for a moment: by the log of one group of records and of one step.
pub(super) const MARGIN: u64 = 2 << 20;

/// Deletes rows from before `oldest`; whether there are more.
pub(super) fn delete_older(file: &mut Connection, oldest: u64) -> Result<bool, HistoryFault> {
    for _ in 0..STEPS_AT_ONCE {
        if delete_until(file, i64::try_from(oldest).unwrap_or(i64::MAX).saturating_sub(1))? == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Keeps the files at `max_size` bytes.
pub(super) fn keep_size(file: &mut Connection, path: &Path, max_size: u64) -> Result<(), HistoryFault> {
    write_back(file, path, LOG.min(max_size / 4))?;
    // what the log may have is not the rows'
    let most = max_size.saturating_sub(LOG.min(max_size / 4));
    let page: u64 = pragma(file, "page_size")?;
    // deleted before the file grows: free pages are used for the next rows
    let reserve = (most / 32).clamp(16 * page, 1 << 20);
    let (mut pages, mut free) = (pragma(file, "page_count")?, pragma(file, "freelist_count")?);
    while pages.saturating_sub(free) * page > most.saturating_sub(reserve) {
        let Some(until) = end_of_step(file)? else { break };
        if delete_until(file, until)? == 0 {
            break;
        }
        write_back(file, path, LOG.min(max_size / 4))?;
        (pages, free) = (pragma(file, "page_count")?, pragma(file, "freelist_count")?);
    }
    // a file that is much too large shrinks
    let before = pages;
    while free > 0 && (pages * page > most || free * page > (pages * page / 4).max(1 << 20)) {
        give_back(file)?;
        write_back(file, path, LOG.min(max_size / 4))?;
        (pages, free) = (pragma(file, "page_count")?, pragma(file, "freelist_count")?);
    }
    if pages < before {
        // only this makes the file itself shorter
        write_back(file, path, 0)?;
    }
    Ok(())
}

/// Until when the rows of the next step are: at most [`STEP`] of any table.
fn end_of_step(file: &Connection) -> rusqlite::Result<Option<i64>> {
    let nth = format!(
        "SELECT min(at) FROM (SELECT max(at) AS at FROM (SELECT at FROM request ORDER BY at LIMIT {STEP}) \
         UNION ALL SELECT max(at) FROM (SELECT at FROM lease ORDER BY at LIMIT {STEP}) \
         UNION ALL SELECT max(at) FROM (SELECT at FROM event ORDER BY at LIMIT {STEP}))"
    );
    file.prepare_cached(&nth)?.query_row([], |row| row.get(0))
}

/// Deletes at most [`STEP`] rows of each table, none from after `until`; returns how many.
fn delete_until(file: &mut Connection, until: i64) -> rusqlite::Result<usize> {
    let step = file.transaction()?;
    let rows = |table: &str| format!("SELECT id FROM {table} WHERE at <= ?1 ORDER BY at LIMIT {STEP}");
    let requests = rows("request");
    step.prepare_cached(&format!("DELETE FROM attempt WHERE request IN ({requests})"))?.execute([until])?;
    let mut deleted = 0;
    for table in ["request", "lease", "event"] {
        let delete = format!("DELETE FROM {table} WHERE id IN ({})", rows(table));
        deleted += step.prepare_cached(&delete)?.execute([until])?;
    }
    step.commit()?;
    Ok(deleted)
}

/// Gives some free pages back to the system.
fn give_back(file: &Connection) -> rusqlite::Result<()> {
    let mut statement = file.prepare_cached(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
    let mut freed = statement.query([])?;
    while freed.next()?.is_some() {}
    Ok(())
}

/// Writes the log back into the file once it has so many bytes. Waits for a query that reads.
fn write_back(file: &Connection, path: &Path, most: u64) -> rusqlite::Result<()> {
    if log_bytes(path) > most {
        file.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    }
    Ok(())
}

fn pragma(file: &Connection, name: &str) -> rusqlite::Result<u64> {
    let number: i64 = file.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))?;
    Ok(super::rows::unsigned(number))
}
