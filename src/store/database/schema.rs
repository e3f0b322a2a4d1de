//! The tables, and the migration steps that create them.

use rusqlite::Connection;

use super::row_tags;

/// The application id in the header of every lessor database: "LSSR".
pub(in crate::store) const APPLICATION: u32 = 0x4c53_5352;

/// Step n migrates schema n to schema n + 1. A released step is never changed.
pub(in crate::store) const STEPS: &[&str] = &[
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
    include_str!("schema/5.sql"),
    include_str!("schema/6.sql"),
    include_str!("schema/7.sql"),
    include_str!("schema/8.sql"),
    include_str!("schema/9.sql"),
    include_str!("schema/10.sql"),
    include_str!("schema/11.sql"),
];

/// The schema since which rows have tags.
pub(in crate::store) const TAGS_SINCE: i64 = 7;

/// The newest schema.
#[must_use]
pub(in crate::store) fn known(steps: &[&str]) -> i64 {
    // the number of steps is small
    i64::try_from(steps.len()).unwrap_or(i64::MAX)
}

pub(in crate::store) fn version(database: &Connection) -> rusqlite::Result<i64> {
    database.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Runs the missing steps, each in its own transaction. With `tagged`, the rows get their tags as soon as there are
/// columns for them; `row_tag` is then defined.
pub(in crate::store) fn migrate(database: &mut Connection, steps: &[&str], tagged: bool) -> rusqlite::Result<()> {
    let from = usize::try_from(version(database)?).unwrap_or(usize::MAX);
    for (place, step) in steps.iter().enumerate().skip(from) {
        let step_taken = database.transaction()?;
        step_taken.execute_batch(step)?;
        if tagged && known(&steps[..=place]) == TAGS_SINCE {
            row_tags::tag_all(&step_taken)?;
        }
        step_taken.execute_batch(&format!("PRAGMA user_version = {}", place + 1))?;
        step_taken.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_runs_once_and_a_failed_step_changes_nothing() {
        let mut database = Connection::open_in_memory().unwrap();
        let first = "CREATE TABLE one (x)";
        migrate(&mut database, &[first], false).unwrap();
        migrate(&mut database, &[first], false).unwrap();
        assert_eq!(version(&database).unwrap(), 1);
        let broken = "CREATE TABLE two (x); INSERT INTO nowhere VALUES (1)";
        assert!(migrate(&mut database, &[first, broken], false).is_err());
        assert_eq!(version(&database).unwrap(), 1);
        assert!(!database.table_exists(None, "two").unwrap());
        migrate(&mut database, &[first, "CREATE TABLE two (x)", "ALTER TABLE two ADD COLUMN y"], false).unwrap();
        assert_eq!(version(&database).unwrap(), 3);
        assert!(database.column_exists(None, "two", "y").unwrap());
    }
}
