PRAGMA application_id = 1280529234;
PRAGMA user_version = 6;
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('boot_id', 'boot-1');
INSERT INTO meta VALUES ('clean', 1);
INSERT INTO meta VALUES ('key_check', X'014F863ADA1B777F0F8AF5E7DABA8004E435FBEF8722059CA2312666A2C88A6171C278EF10059BB6DB7D2E69A370E4');
INSERT INTO meta VALUES ('lease_key', X'016FD043CEDBC6E0FC89C333EBEBDB7DC1DF2D7E4EEA4F9C7552C187413901471E554079B5258EC0B44637EBAFBA87B684F8E6F918092B0B5D');
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
    person TEXT,
    created_at INTEGER NOT NULL,
    last_used_at INTEGER
, organization TEXT, organization_name TEXT) STRICT;
INSERT INTO account VALUES (1, 'ac_00000001', 'anthropic', NULL, '1@example.org', 'pro', 'oauth', 'ready', NULL, 1, NULL, NULL, 0, NULL, NULL, NULL, 1700000000000, NULL, NULL, NULL);
INSERT INTO account VALUES (2, 'ac_00000002', 'anthropic', NULL, '2@example.org', 'pro', 'oauth', 'needs_login', '{"refresh_rejected":{"code":"invalid_grant","answer_lost_at":8}}', 1, NULL, NULL, 0, NULL, NULL, NULL, 1700000000000, NULL, NULL, NULL);
INSERT INTO account VALUES (3, 'ac_00000003', 'anthropic', NULL, '3@example.org', 'pro', 'oauth', 'needs_verification', '{"text":"confirm it: https://example.org","link":"https://example.org"}', 1, NULL, NULL, 0, NULL, NULL, NULL, 1700000000000, NULL, NULL, NULL);
INSERT INTO account VALUES (4, 'ac_00000004', 'anthropic', NULL, '4@example.org', 'pro', 'oauth', 'ready', NULL, 1, NULL, NULL, 0, NULL, NULL, 'uuid-1', 1700000000000, NULL, 'org-1', 'Team');
CREATE TABLE credential (
    account TEXT PRIMARY KEY,
    sealed BLOB NOT NULL,
    refresh_started_at INTEGER -- a refresh was attempted, and its outcome is not known yet
) STRICT;
INSERT INTO credential VALUES ('ac_00000001', X'01C2C283F10B4F2E54616E0686170DDF03A8E41B718B42C6509168325796DBD24FF031BFDDF7AF67D11C1A21F9ECA336B51AB66637FE5AD306E506FFB6B50052C31F9E13B9F944BA97E60F8B9FA1D5F88496E8CBAC8E27CDFBF565', 3);
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
INSERT INTO fingerprint VALUES (X'65E52DAE5B6070AC36CB37B76CC9E8E5', 'ac_00000001', 1795996950975);
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
CREATE TABLE former_credential (
    account TEXT PRIMARY KEY,
    sealed BLOB NOT NULL,
    role TEXT NOT NULL, -- 'before' or 'withdrawn'
    since INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO former_credential VALUES ('ac_00000001', X'01A3A5ACFF0CDF880BA5E8E0E145BACD7B1D3DE6A6F9617D3B757AD7EA5EA90F24EAF0DC2CCEF75262875EE2B25D2FD3C80B0B3A394F61BCDE08898E652457330AA2837E8A0F2A8C709FA694103D090FF64AA3FC1BA5F60281606B', 'before', 5);
CREATE TABLE gateway_key (
    hash BLOB PRIMARY KEY, -- SHA-256 of the key's text
    client INTEGER NOT NULL, -- tells its sessions from those of other keys
    label TEXT,
    agent TEXT,
    sealed INTEGER NOT NULL, -- made by an earlier version: valid by its content, unless it is revoked here
    listed_at INTEGER NOT NULL, -- when it was made; of a sealed key, when it was first seen
    expires_at INTEGER,
    max_leases INTEGER,
    last_used_at INTEGER,
    revoked_at INTEGER
) STRICT, WITHOUT ROWID;
INSERT INTO gateway_key VALUES (X'0101010101010101010101010101010101010101010101010101010101010101', -2, 'my editor', 'claude', 1, 1700000000000, 1800000000000, 3, 1700000000001, 1700000000002);
