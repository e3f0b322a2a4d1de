PRAGMA application_id = 1280529234;
PRAGMA user_version = 3;
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('boot_id', 'boot-1');
INSERT INTO meta VALUES ('clean', 1);
INSERT INTO meta VALUES ('key_check', X'015726892DCD13A675CA53E95BDBAB3F00C8A29FAAED1AC24B8DBC79DA3A0031F361FCDBC28E52846B538A87152CFA');
INSERT INTO meta VALUES ('lease_key', X'01E57F2257BD8EC44F8E7A4DD7E324883C01C3BA1831A99471A1576D3B6FD71AF0C83E9FF59F3F38B6093D44E2286481718CF9F6F2CEE1AB6B');
INSERT INTO meta VALUES ('next_fence', 65);
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
INSERT INTO account VALUES (1, 'ac_00000001', 'anthropic', NULL, '1@example.org', 'pro', 'oauth', 'ready', NULL, 1, NULL, NULL, 0, NULL, NULL, NULL, 1700000000000, NULL);
CREATE TABLE credential (
    account TEXT PRIMARY KEY,
    sealed BLOB NOT NULL,
    refresh_started_at INTEGER -- a refresh was attempted, and its outcome is not known yet
) STRICT;
INSERT INTO credential VALUES ('ac_00000001', X'01BF6A37826E7928C7681454FF1B46A325A3D84EA62EE0FF25E3F62DF030C5FDE0EBDCACDE64FAACC27946BA992FAD59412E71BC2D03FAB0F63B08F8CFE5A66D59B973E957616229FF9DAF3E3060E9D125C8AA9323C87C6ECF0791', 3);
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
, names TEXT) STRICT;
INSERT INTO lease VALUES (8, 'ac_00000001', 'anthropic', 'claude', 'claude', 'antigravity', 'opus', 'conversation', 'my label', 'claude-code', 'process', 4294967295, -4, 4294967295, -4, 'claude', 1, 1, 90500, 123456, 5, 'r-1', '{"billed":"b","plain":null,"other":{"key":"gemini-cli","pool":"gemini-cli","model":"m","first":true}}');
CREATE TABLE session (
    provider TEXT NOT NULL,
    session TEXT NOT NULL,
    account TEXT NOT NULL,
    used_at INTEGER NOT NULL,
    PRIMARY KEY (provider, session)
) STRICT, WITHOUT ROWID;
INSERT INTO session VALUES ('anthropic', 's', 'ac_00000001', 9);
CREATE TABLE limits (
    account TEXT NOT NULL,
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    reason TEXT NOT NULL,
    until INTEGER NOT NULL,
    source TEXT NOT NULL, since INTEGER, evidence TEXT, link TEXT,
    PRIMARY KEY (account, scope, key)
) STRICT, WITHOUT ROWID;
INSERT INTO limits VALUES ('ac_00000001', 'pool', 'claude', 'quota_exhausted', 77, 'server', 70, 'resets_at', 'https://example.org/plan');
CREATE TABLE fingerprint (
    print BLOB PRIMARY KEY,
    account TEXT NOT NULL,
    kept_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO fingerprint VALUES (X'65E52DAE5B6070AC36CB37B76CC9E8E5', 'ac_00000001', 1795275703619);
CREATE TABLE link (
    account TEXT PRIMARY KEY,
    tool TEXT NOT NULL,
    path TEXT NOT NULL,
    item TEXT NOT NULL,
    mode TEXT NOT NULL -- 'link', 'take-over' or 'share'
) STRICT, WITHOUT ROWID;
