-- What is known of accounts' quota windows, as JSON: how much is used, when each resets, as of when.

CREATE TABLE usage (
    account TEXT PRIMARY KEY,
    windows TEXT NOT NULL
) STRICT, WITHOUT ROWID;
