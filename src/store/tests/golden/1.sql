PRAGMA application_id = 1280529234;
PRAGMA user_version = 1;
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('boot_id', 'boot-1');
INSERT INTO meta VALUES ('clean', 1);
INSERT INTO meta VALUES ('key_check', X'01FBB2E4959F0EA633DA55C40AD12AE00127C76353BFA7EAEE66278EA4A60F4F509E721590B8FC1B5253FF7C1F4EB5');
INSERT INTO meta VALUES ('lease_key', X'01EF1D6CFA1836389C8714D1477610957EB0B8D8EEC8C00BB525F35CF5E44B47E63E3F5DA89896701223A0CF6F7F9B54F7B58A5A378B9A94D5');
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
INSERT INTO credential VALUES ('ac_00000001', X'01D59236166D14BFFD8F51280BFE606A7740090E02BA6E048903FB68E5603DF0A91750C7DE23D630DF3F572BE0CCA480F75C29546E709E419E8E8336A5D2FD9D966A52D45EEB71CFBE5EDF7283A9100EDB88907FD034EC36934812', 3);
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
INSERT INTO lease VALUES (8, 'ac_00000001', 'anthropic', 'claude', 'claude', 'antigravity', 'opus', 'conversation', 'my label', 'claude-code', 'process', 4294967295, -4, 4294967295, -4, 'claude', 1, 1, 90500, 123456, 5, 'r-1');
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
    source TEXT NOT NULL,
    PRIMARY KEY (account, scope, key)
) STRICT, WITHOUT ROWID;
INSERT INTO limits VALUES ('ac_00000001', 'pool', 'claude', 'quota_exhausted', 77, 'server');
