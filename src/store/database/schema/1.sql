-- Times: `_at` and `until` are milliseconds since 1970, `expires` milliseconds since boot.

CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE account (
    place INTEGER PRIMARY KEY, -- in the order they were added
    id TEXT NOT NULL UNIQUE,
    provider TEXT NOT NULL,
    label TEXT,
    email TEXT,
    tier TEXT NOT NULL,
    kind TEXT NOT NULL,
    standing TEXT NOT NULL,
    standing_why TEXT,
    enabled INTEGER NOT NULL,
    disabled_reason TEXT,
    max_leases INTEGER,
    priority INTEGER NOT NULL,
    uses TEXT, -- a JSON list, or NULL for the default of the kind
    project_id TEXT,
    vendor_id TEXT,
    created_at INTEGER NOT NULL,
    last_used_at INTEGER
) STRICT;

CREATE TABLE credential (
    account TEXT PRIMARY KEY,
    sealed BLOB NOT NULL,
    refresh_started_at INTEGER -- a refresh was attempted, and its outcome is not known yet
) STRICT;

CREATE TABLE lease (
    fence INTEGER PRIMARY KEY,
    account TEXT NOT NULL,
    provider TEXT NOT NULL,
    family TEXT NOT NULL,
    key TEXT NOT NULL,
    pool TEXT,
    model TEXT,
    session TEXT,
    label TEXT,
    agent TEXT,
    bind TEXT NOT NULL, -- 'process' or 'ttl'
    bind_pid INTEGER,
    bind_start INTEGER,
    holder_pid INTEGER,
    holder_start INTEGER,
    holder_program TEXT,
    exclusive INTEGER NOT NULL,
    pinned INTEGER NOT NULL,
    ttl INTEGER,
    expires INTEGER,
    granted_at INTEGER NOT NULL,
    request_id TEXT
) STRICT;

CREATE TABLE session (
    provider TEXT NOT NULL,
    session TEXT NOT NULL,
    account TEXT NOT NULL,
    used_at INTEGER NOT NULL,
    PRIMARY KEY (provider, session)
) STRICT, WITHOUT ROWID;

CREATE TABLE limits (
    account TEXT NOT NULL,
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    reason TEXT NOT NULL,
    until INTEGER NOT NULL,
    source TEXT NOT NULL,
    PRIMARY KEY (account, scope, key)
) STRICT, WITHOUT ROWID;
