PRAGMA application_id = 1280529234;
PRAGMA user_version = 4;
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('boot_id', 'boot-1');
INSERT INTO meta VALUES ('clean', 1);
INSERT INTO meta VALUES ('key_check', X'01C55911BD1A918880EF1240A78C5893F427ED13EC3E38FE06F0F9C25ED8AE8B581B41EA67E8AC02397EC69AC96E84');
INSERT INTO meta VALUES ('lease_key', X'0178A914F2330109167011A2676F9F50DBABF76956B0E8E55B22EFD2FDB46BF513AB090409090D989AC61154F5D947F10BEF02384F907E9715');
INSERT INTO meta VALUES ('next_fence', 65);
CREATE TABLE account (
    place INTEGER PRIMARY KEY, -- in the order they were added
    id TEXT NOT NULL UNIQUE,
    provider TEXT NOT NULL,
    label TEXT,
    email TEXT,
    tier TEXT NOT NULL,
    kind TEXT NOT NULL,
    login_state TEXT NOT NULL,
    login_detail TEXT,
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
INSERT INTO account VALUES (2, 'ac_00000002', 'anthropic', NULL, '2@example.org', 'pro', 'oauth', 'needs_login', '{"refresh_rejected":{"code":"invalid_grant","answer_lost_at":8}}', 1, NULL, NULL, 0, NULL, NULL, NULL, 1700000000000, NULL);
INSERT INTO account VALUES (3, 'ac_00000003', 'anthropic', NULL, '3@example.org', 'pro', 'oauth', 'needs_verification', '{"text":"confirm it: https://example.org","link":"https://example.org"}', 1, NULL, NULL, 0, NULL, NULL, NULL, 1700000000000, NULL);
CREATE TABLE credential (
    account TEXT PRIMARY KEY,
    sealed BLOB NOT NULL,
    refresh_started_at INTEGER -- a refresh was attempted, and its outcome is not known yet
) STRICT;
INSERT INTO credential VALUES ('ac_00000001', X'013E42648D3D071BD375473F720D32A78264A12178F14B70EB953A080EB2B72898A83F236D2FBCE5B5D02B96C86DEACBEAEB4DB14640382F52B03375FA8E94CE41DF82B7A3CA535888AE8B21740E17D5FA25DEA2397C92478B99C0', 3);
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
INSERT INTO fingerprint VALUES (X'65E52DAE5B6070AC36CB37B76CC9E8E5', 'ac_00000001', 1795975376597);
CREATE TABLE link (
    account TEXT PRIMARY KEY,
    tool TEXT NOT NULL,
    path TEXT NOT NULL,
    item TEXT NOT NULL,
    mode TEXT NOT NULL -- 'link', 'take-over' or 'share'
) STRICT, WITHOUT ROWID;
CREATE TABLE usage (
    account TEXT PRIMARY KEY,
    windows TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO usage VALUES ('ac_00000001', '[{"name":"5h","utilization":0.25,"resets_at":80,"as_of":70,"key":"claude"}]');
