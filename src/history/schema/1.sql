CREATE TABLE request (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    agent TEXT,
    pid INTEGER,
    program TEXT,
    directory TEXT,
    session TEXT,
    lease TEXT,
    label TEXT,
    account TEXT,
    account_label TEXT,
    provider TEXT NOT NULL,
    pool TEXT,
    model TEXT,
    path TEXT NOT NULL,
    status INTEGER,
    outcome TEXT NOT NULL,
    reason TEXT,
    waited_ms INTEGER NOT NULL,
    first_byte_ms INTEGER,
    duration_ms INTEGER NOT NULL,
    -- none of the four where the provider stated no tokens
    input INTEGER,
    output INTEGER,
    cached INTEGER,
    cache_written INTEGER,
    cost REAL,
    -- how many attempts there are, and how many of them met a limit
    attempts INTEGER NOT NULL,
    limited INTEGER NOT NULL
);
CREATE INDEX request_at ON request (at);

CREATE TABLE attempt (
    request INTEGER NOT NULL,
    number INTEGER NOT NULL,
    account TEXT NOT NULL,
    account_label TEXT,
    after_ms INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    status INTEGER,
    reason TEXT,
    scope TEXT,
    until INTEGER,
    evidence TEXT,
    limited INTEGER NOT NULL,
    PRIMARY KEY (request, number)
) WITHOUT ROWID;

CREATE TABLE lease (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    lease TEXT NOT NULL,
    fence INTEGER NOT NULL,
    account TEXT NOT NULL,
    account_label TEXT,
    provider TEXT NOT NULL,
    model TEXT,
    pool TEXT,
    session TEXT,
    label TEXT,
    agent TEXT,
    pid INTEGER,
    program TEXT,
    directory TEXT,
    granted_at INTEGER NOT NULL,
    at INTEGER NOT NULL,
    reason TEXT NOT NULL
);
CREATE INDEX lease_at ON lease (at);

CREATE TABLE event (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    account TEXT,
    -- of a lease that was moved: the account before
    from_account TEXT,
    provider TEXT,
    model TEXT,
    session TEXT,
    agent TEXT,
    -- the whole event as JSON, without email addresses
    body TEXT NOT NULL
);
CREATE INDEX event_at ON event (at);
