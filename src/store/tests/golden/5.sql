PRAGMA application_id = 1280529234;
PRAGMA user_version = 5;
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('boot_id', 'boot-1');
INSERT INTO meta VALUES ('clean', 1);
INSERT INTO meta VALUES ('key_check', X'016B8A9959E460180FD9A987F8B0990D561F214961140303132A0398706C79DAEAE728AD11315355651ACAF244FFB4');
INSERT INTO meta VALUES ('lease_key', X'0105EA321DAA13405AC24D586C8F03AE31C1F59878CCFCC5B13BC65576372E4EB37ED463B3AB0E9DB5432F2477E77A9D957A2482F95638D2E6');
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
INSERT INTO credential VALUES ('ac_00000001', X'015015F5917CDCCA284CD1E28B3988FCF781DAA89A2CF601B9D025DB4394B8149E89627D05FBAF14CAD30A44E848C688D8BBE1148CA35123F2B5A30E60B11F48F5DAF050EBC61AFC42C6688F75D99BD18013E6D74A0E466EA39B5C', 3);
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
INSERT INTO fingerprint VALUES (X'65E52DAE5B6070AC36CB37B76CC9E8E5', 'ac_00000001', 1795987454113);
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
INSERT INTO former_credential VALUES ('ac_00000001', X'01CF67E7945ACF8BE90F37C29C98C1B9B6455E35710D8C6102BC4B36CA6D51489485BE66509089502D41366F991399A2117D759FDABD40B8CCAB9CE29B1B1CD657606F77859F562BD2D741E893AFF9CE2DF4A8A7261F04DD281682', 'before', 5);
